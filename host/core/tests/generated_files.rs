//! Committed files that are generated from the product: the schemas, and an overview of the
//! footprint.

#![expect(clippy::disallowed_methods, reason = "the test reads and updates committed files")]

use salve_core::capability::{Function, Group};
use salve_core::footprint::{Rule, Scope};
use salve_core::grants::Grant;
use salve_core::journal::DocumentKind;
use salve_core::schema::{crd_schema, published};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Compares a file with its generated text, or writes it if the variable is set.
fn assert_current(path: &Path, generated: &str, variable: &str) {
    if std::env::var_os(variable).is_some() {
        std::fs::write(path, generated).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == generated,
        "{} is outdated; update it with: {variable}=1 cargo test -p salve-core --test \
         generated_files",
        path.display()
    );
}

/// Returns all schemas by file name: those of core, and that of the simulator's scenarios.
fn all_schemas() -> Vec<(&'static str, Value)> {
    let mut schemas = published();
    schemas.push(("scenario.json", salve_simulator::schema()));
    schemas
}

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

#[test]
fn the_published_schemas_are_current() {
    for (name, schema) in all_schemas() {
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        assert_current(&schemas().join(name), &text, "SALVE_UPDATE_SCHEMAS");
    }
    let files = std::fs::read_dir(schemas()).unwrap();
    let files: BTreeSet<_> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let published: BTreeSet<_> = all_schemas().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, published);
}

/// Checks the rules for structural schemas, and that no keyword is one that a
/// CustomResourceDefinition does not have.
fn assert_structural(schema: &Value, path: &str) {
    const KEYWORDS: [&str; 17] = [
        "type",
        "description",
        "properties",
        "required",
        "items",
        "enum",
        "default",
        "nullable",
        "format",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "minProperties",
        "minimum",
        "maximum",
        "x-kubernetes-preserve-unknown-fields",
    ];
    let node = schema.as_object().unwrap_or_else(|| panic!("{path}: not an object: {schema}"));
    let unknown: Vec<&String> =
        node.keys().filter(|key| !KEYWORDS.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "{path}: {unknown:?}");
    assert!(node["type"].is_string(), "{path}: type is {}", node["type"]);
    for (key, property) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        assert_structural(property, &format!("{path}.{key}"));
    }
    if node["type"] == "array" {
        assert_structural(&node["items"], &format!("{path}[]"));
    }
}

#[test]
fn the_crd_schemas_are_structural() {
    for kind in [DocumentKind::Remediation, DocumentKind::RemediationPolicy] {
        let schema = crd_schema(kind);
        assert_structural(&schema, kind.as_str());
        let grant = &schema["properties"]["spec"]["properties"]["grants"]["items"]["properties"];
        assert!(grant["max"]["properties"]["deletions"].is_object(), "{grant}");
    }
}

#[test]
fn the_footprint_overview_is_current() {
    let overview = footprint_overview();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/footprint.txt");
    assert_current(&path, &overview, "SALVE_UPDATE_FOOTPRINT");
}

/// Lists every request that any function may send, and every field that it may set.
fn footprint_overview() -> String {
    let mut text = String::from(
        "Requests of every function, and the fields that its patches may set.\n\
         Update: SALVE_UPDATE_FOOTPRINT=1 cargo test -p salve-core --test generated_files\n",
    );
    for function in Function::ALL {
        let kind = match function.group() {
            Group::Local => "local",
            Group::Read => "read",
            Group::Write => "write",
            Group::Reversal => "reversal",
        };
        writeln!(text, "\n{} ({kind})", function.name()).unwrap();
        let lines = |title: &str, rules: Vec<Rule>| {
            rules.iter().map(|rule| format!("  {title}{}\n", describe(rule))).collect::<String>()
        };
        text += &lines("", function.requests(None));
        text += &lines("leftovers: ", function.leftover_requests());
        for field in function.granted_fields(&Grant::whole(function.capability())) {
            writeln!(text, "  sets {}", field.join(".")).unwrap();
        }
    }
    text
}

fn describe(rule: &Rule) -> String {
    let Rule { verb, group, resource, subresource, scope } = rule;
    let dot = if group.is_empty() { "" } else { "." };
    let subresource = subresource.map(|name| format!("/{name}")).unwrap_or_default();
    let scope = match scope {
        Scope::Cluster => "cluster-scoped".into(),
        Scope::Object(name) => format!("the object {name}"),
        Scope::Effect => "in the namespaces of the call".into(),
        Scope::Target => "targets of the call".into(),
        Scope::GrantedNamespaces => "in granted namespaces".into(),
        Scope::Everywhere => "everywhere".to_owned(),
    };
    format!("{:6} {resource}{subresource}{dot}{group}: {scope}", verb.as_str())
}
