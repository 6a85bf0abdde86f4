//! JSON Schemas, generated from the types that they describe.
//!
//! `schemas/` has a copy of each for editors and programs, which a test compares with these. A
//! schema has no references, and [`crd_schema`] makes a structural schema of it:
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>

use crate::document::{RemediationPolicySpec, RemediationSpec};
use crate::journal::DocumentKind;
use crate::report::Report;
pub(crate) use salve_document::schema::PRESERVE_UNKNOWN;
use salve_document::schema::{of_document, of_type, visit, with_head};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// Returns the published schemas by file name.
pub fn published() -> Vec<(&'static str, Value)> {
    vec![
        ("remediation.json", document_schema(DocumentKind::Remediation)),
        ("remediationpolicy.json", document_schema(DocumentKind::RemediationPolicy)),
        ("report.json", report_schema()),
    ]
}

/// Returns the schema of a document, which rejects unknown keys.
pub fn document_schema(kind: DocumentKind) -> Value {
    salve_document::schema::published(kind.as_str(), generate(kind))
}

/// Returns the schema of a document as the structural schema of a CustomResourceDefinition. The API
/// server drops unknown fields, and validates `apiVersion`, `kind`, and `metadata` itself.
pub fn crd_schema(kind: DocumentKind) -> Value {
    let mut schema = generate(kind);
    visit(&mut schema, &mut |node| {
        if node.get("additionalProperties") == Some(&Value::Bool(false)) {
            node.remove("additionalProperties");
        }
    });
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = json!({"type": "object"});
    schema["required"] = json!(["spec"]);
    schema
}

fn report_schema() -> Value {
    let mut schema = of_type::<Report>(SchemaSettings::draft2020_12().for_serialize());
    visit(&mut schema, &mut |node| {
        if node.contains_key("properties") {
            node.insert("additionalProperties".into(), false.into());
        }
    });
    with_head("Report", schema)
}

fn generate(kind: DocumentKind) -> Value {
    match kind {
        DocumentKind::Remediation => of_document::<RemediationSpec>(
            kind.as_str(),
            "A guest, the permissions that it requests, its default configuration, and its limits.",
        ),
        DocumentKind::RemediationPolicy => of_document::<RemediationPolicySpec>(
            kind.as_str(),
            "An operator's limits for guests. A call must be granted by the Remediation and by the \
             RemediationPolicy.",
        ),
    }
}
