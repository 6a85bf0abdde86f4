//! `Remediation` and `RemediationPolicy`: the documents that grants come from.
//!
//! A document is validated against its schema, which [`crate::schema`] generates from the types
//! here. What a schema cannot express is validated afterwards.

mod renamed;

use crate::grants::{Grant, Layer};
use crate::journal::DocumentKind;
use crate::problem::{LongerWindow, Problem};
use crate::schema::document_schema;
pub use salve_document::{API_VERSION, DocumentError, Metadata};
use salve_document::{Document, DocumentSchema, Located, dotted};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::LazyLock;

/// A guest, the grants that it requests, and its default configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remediation {
    pub metadata: Metadata,
    pub spec: RemediationSpec,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemediationSpec {
    /// Where the guest's component is. Without it, the component comes with the document.
    #[serde(default, skip_serializing_if = "GuestSource::is_empty")]
    pub guest: GuestSource,
    /// The permissions that the guest requests. A RemediationPolicy can only narrow them.
    pub grants: Vec<Grant>,
    /// The guest's default configuration. The guest's own schema defines the keys.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "configuration_schema")]
    pub configuration: Value,
    /// What the problems look like that the guest fixes. The guest reports where it observed one,
    /// and the verdict is `fixed` only if the host finds it cleared after the last change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// What the guest may use of the machine that runs it.
    #[serde(default)]
    pub limits: Limits,
}

/// Where a guest's component is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuestSource {
    /// Path of the component, relative to the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub path: Option<String>,
    /// Reference of an OCI image. Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub image: Option<String>,
    /// SHA-256 that the component must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(sha256:)?[0-9a-f]{64}$"))]
    pub digest: Option<String>,
}

impl GuestSource {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a guest may use of the machine that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Limits {
    /// Linear memory, in MiB.
    #[schemars(range(min = 1, max = 1024))]
    pub memory_mib: u32,
    /// WebAssembly instructions, in billions.
    #[schemars(range(min = 1, max = 1000))]
    pub fuel_billions: u32,
    /// Time until a run has to clean up, in seconds.
    // Other runs wait for the cluster lock until a run's deadline.
    // mutant guest-deadline-unbounded: , max = MAX_DEADLINE_SECONDS ~>
    #[schemars(range(min = 60, max = MAX_DEADLINE_SECONDS))]
    pub deadline_seconds: u64,
}

/// 24 h.
pub const MAX_DEADLINE_SECONDS: u64 = 86_400;

impl Limits {
    /// The limits of a Remediation without `spec.limits`.
    pub const DEFAULT: Self = Self { memory_mib: 64, fuel_billions: 10, deadline_seconds: 3600 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// An operator's limits for guests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemediationPolicy {
    pub metadata: Metadata,
    pub spec: RemediationPolicySpec,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemediationPolicySpec {
    /// What a guest may do if its Remediation grants it as well.
    pub grants: Vec<Grant>,
    /// SHA-256 of the components that may run. Without it: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(inner(regex(pattern = r"^(sha256:)?[0-9a-f]{64}$")))]
    pub digests: Option<Vec<String>>,
    /// Further problems that guests may report. See `spec.problems` of a Remediation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// Longer windows for problems that a Remediation declares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<LongerWindow>,
}

fn configuration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, crate::schema::PRESERVE_UNKNOWN: true})
}

impl Remediation {
    /// Reads a Remediation. `source` names it in errors and reports.
    ///
    /// # Errors
    /// The document is invalid.
    pub fn read(text: &str, source: &str) -> Result<Self, DocumentError> {
        let (located, Document { metadata, spec, .. }) =
            read::<RemediationSpec>(text, source, DocumentKind::Remediation)?;
        validate_grants(&spec.grants, &located, source)?;
        validate_problems(&spec.problems, &located, source)?;
        if spec.guest.image.is_some() {
            let line = located.line("/spec/guest/image");
            return Err(DocumentError::at(
                source,
                line,
                "spec.guest.image is not supported yet; use spec.guest.path",
            ));
        }
        Ok(Self { metadata, spec })
    }

    /// Returns its grants as a layer.
    pub fn layer(&self, source: &str) -> Layer {
        Layer { source: source.into(), grants: self.spec.grants.clone() }
    }
}

impl RemediationPolicy {
    /// Reads a RemediationPolicy. `source` names it in errors and reports.
    ///
    /// # Errors
    /// The document is invalid.
    pub fn read(text: &str, source: &str) -> Result<Self, DocumentError> {
        let (located, Document { metadata, spec, .. }) =
            read::<RemediationPolicySpec>(text, source, DocumentKind::RemediationPolicy)?;
        validate_grants(&spec.grants, &located, source)?;
        validate_problems(&spec.problems, &located, source)?;
        Ok(Self { metadata, spec })
    }

    /// Returns its grants as a layer.
    pub fn layer(&self, source: &str) -> Layer {
        Layer { source: source.into(), grants: self.spec.grants.clone() }
    }
}

static REMEDIATION: LazyLock<DocumentSchema> = LazyLock::new(|| schema(DocumentKind::Remediation));
static REMEDIATION_POLICY: LazyLock<DocumentSchema> =
    LazyLock::new(|| schema(DocumentKind::RemediationPolicy));

fn schema(kind: DocumentKind) -> DocumentSchema {
    DocumentSchema::new(kind.as_str(), document_schema(kind), &renamed::KEYS)
        .expect("a generated schema is valid")
        .formerly(renamed::former_kind(kind))
}

fn read<S: for<'de> Deserialize<'de>>(
    text: &str,
    source: &str,
    kind: DocumentKind,
) -> Result<(Located, Document<S>), DocumentError> {
    let schema = match kind {
        DocumentKind::Remediation => &REMEDIATION,
        DocumentKind::RemediationPolicy => &REMEDIATION_POLICY,
    };
    salve_document::read(text, source, schema)
}

/// Checks what a schema cannot express about grants.
fn validate_grants(grants: &[Grant], located: &Located, source: &str) -> Result<(), DocumentError> {
    DocumentError::all(
        source,
        grants.iter().enumerate().filter_map(|(i, grant)| {
            let pointer = format!("/spec/grants/{i}");
            let text = format!("{}: {}", dotted(&pointer), grant.validate().err()?);
            Some((located.line(&pointer), text))
        }),
    )
}

/// Checks what a schema cannot express about problems.
fn validate_problems(
    problems: &[Problem],
    located: &Located,
    source: &str,
) -> Result<(), DocumentError> {
    let mut faults = vec![];
    for (i, problem) in problems.iter().enumerate() {
        let mut add = |within: &str, text: &str| {
            let pointer = format!("/spec/problems/{i}{within}");
            let text = format!("{}: {text}", dotted(&pointer));
            faults.push((located.line(&pointer), text));
        };
        if let Err((within, text)) = problem.validate() {
            add(within, &text);
        }
        if problems[..i].iter().any(|other| other.name == problem.name) {
            add("/name", &format!("another problem is named {:?}", problem.name));
        }
    }
    DocumentError::all(source, faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "apiVersion: salve.dev/v1alpha1\nkind: RemediationPolicy\n\
        metadata: {name: p}\nspec:\n  grants:\n  \
        - {capability: delete-replicationsources, namespaces: [media], max: {deletions: 3}}\n";

    const REMEDIATION: &str = "apiVersion: salve.dev/v1alpha1\nkind: Remediation\n\
        metadata: {name: r}\nspec:\n  guest:\n    path: guest.wasm\n  grants: []\n  \
        configuration:\n  limits: {deadlineSeconds: 60}\n";

    #[test]
    fn a_policy_is_read() {
        let policy = RemediationPolicy::read(OK, "policy.yaml").unwrap();
        let max: Vec<String> = policy.spec.grants[0].max.describe().collect();
        assert_eq!(max, ["at most 3 deletions per run"]);
    }

    #[test]
    fn a_remediation_is_read() {
        let remediation = Remediation::read(REMEDIATION, "remediation.yaml").unwrap();
        assert_eq!(remediation.spec.guest.path.as_deref(), Some("guest.wasm"));
        let limits = Limits { deadline_seconds: 60, ..Limits::DEFAULT };
        assert_eq!(remediation.spec.limits, limits);
    }

    #[test]
    fn a_fault_is_reported_with_its_line_and_a_suggestion() {
        let query_objects = |kind: &str| {
            OK.replace(
                "delete-replicationsources, namespaces: [media], max: {deletions: 3}",
                &format!("query-objects, kinds: [\"{kind}\"]"),
            )
        };
        for (invalid, expected) in [
            (
                OK.replace("deletions", "deletion"),
                "policy.yaml:6: spec.grants[0].max: unknown key \"deletion\"; did you mean \
                 \"deletions\"?",
            ),
            (
                OK.replace("namespaces", "namespace"),
                "policy.yaml:6: spec.grants[0]: unknown key \"namespace\"; did you mean \
                 \"namespaces\"?",
            ),
            (
                OK.replace("grants", "Grants"),
                "policy.yaml:5: spec: unknown key \"Grants\"; did you mean \"grants\"?",
            ),
            (
                OK.replace("delete-replicationsources", "delete-replicationsource"),
                "policy.yaml:6: spec.grants[0].capability: unknown value \
                 \"delete-replicationsource\"; did you mean \"delete-replicationsources\"?",
            ),
            (
                OK.replace("delete-replicationsources", "mow-lawn"),
                "unknown value \"mow-lawn\"; known values: query-flux, ",
            ),
            (OK.replace("delete-replicationsources", "run"), "unknown value \"run\""),
            (OK.replace("delete-replicationsources", "host"), "unknown value \"host\""),
            (
                OK.replace("RemediationPolicy", "Remediation"),
                "policy.yaml:2: expected a RemediationPolicy, found \"Remediation\"",
            ),
            (
                OK.replace("kind: RemediationPolicy\n", ""),
                "policy.yaml:1: kind is missing; expected RemediationPolicy",
            ),
            (
                OK.replace("v1alpha1", "v9"),
                "policy.yaml:1: expected salve.dev/v1alpha1, found \"salve.dev/v9\"",
            ),
            (OK.replace("[media]", "['[']"), "is not a valid glob"),
            (
                OK.replace("[media]", "media"),
                "policy.yaml:6: spec.grants[0].namespaces: \"media\" is not of type \"array\"",
            ),
            (
                OK.replace(": 3", ": -3"),
                "policy.yaml:6: spec.grants[0].max.deletions: -3 is less than the minimum of 0",
            ),
            (
                OK.replace("capability: delete-replicationsources, ", ""),
                "policy.yaml:6: spec.grants[0]: capability is missing",
            ),
            (
                OK.replace("delete-replicationsources", "restart-deployment"),
                "policy.yaml:6: spec.grants[0]: `max.deletions` applies to \
                 delete-replicationsources only",
            ),
            (
                OK.replace("namespaces: [media], ", ""),
                "policy.yaml:6: spec.grants[0]: `namespaces` is missing: ",
            ),
            (
                query_objects("secrets"),
                "policy.yaml:6: spec.grants[0]: `kinds`: invalid: Secrets can never be read",
            ),
            (query_objects("pods/exec"), "policy.yaml:6: spec.grants[0]: `kinds`: "),
            (query_objects("nodes.\u{200b}"), "policy.yaml:6: spec.grants[0]: `kinds`: "),
            (OK.replace("metadata", "\"meta\\e[31mdata\""), "unknown key \"meta"),
            ("{".into(), "policy.yaml"),
            (String::new(), "policy.yaml"),
            ("[]".into(), "policy.yaml:1: apiVersion is missing"),
        ] {
            let error = RemediationPolicy::read(&invalid, "policy.yaml").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn limits_are_bounded() {
        for (valid, invalid, expected) in [
            (
                "deadlineSeconds: 86400",
                "deadlineSeconds: 86401",
                "86401 is greater than the maximum of 86400",
            ),
            ("deadlineSeconds: 60", "deadlineSeconds: 59", "59 is less than the minimum of 60"),
            ("memoryMib: 1024", "memoryMib: 1025", "1025 is greater than the maximum of 1024"),
            ("fuelBillions: 1", "fuelBillions: 0", "0 is less than the minimum of 1"),
        ] {
            let with = |limit: &str| REMEDIATION.replace("deadlineSeconds: 60", limit);
            assert!(Remediation::read(&with(valid), "r").is_ok(), "{valid}");
            let error = Remediation::read(&with(invalid), "r").unwrap_err().to_string();
            let key = invalid.split(':').next().unwrap();
            assert_eq!(error, format!("r:9: spec.limits.{key}: {expected}"));
        }
    }

    #[test]
    fn a_renamed_name_is_one_fault_that_names_the_new_one() {
        let evidence = |text: &str| OK.replace("max: {deletions: 3}", &format!("evidence: {text}"));
        let kinds = |kind: &str| {
            OK.replace(
                "delete-replicationsources, namespaces: [media], max: {deletions: 3}",
                &format!("query-flux, namespaces: [media], kinds: [{kind}]"),
            )
        };
        for (old, expected) in [
            (
                OK.replace("RemediationPolicy", "Policy"),
                "x:2: kind is \"Policy\"; it is now RemediationPolicy",
            ),
            (
                evidence("{pendingClaims: 1}"),
                "x:6: spec.grants[0].evidence: pendingClaims is now pendingPvcs",
            ),
            (
                evidence("{logLines: [{like: \"*locked*\"}]}"),
                "x:6: spec.grants[0].evidence.logLines[0]: like is now pattern",
            ),
            (
                evidence("{logLines: [{pattern: \"*locked*\", least: 2}]}"),
                "x:6: spec.grants[0].evidence.logLines[0]: least is now min",
            ),
            (
                kinds("helm-release"),
                "x:6: spec.grants[0]: `kinds`: \"helm-release\" is written \
                 `helmreleases.helm.toolkit.fluxcd.io`",
            ),
        ] {
            let error = RemediationPolicy::read(&old, "x").unwrap_err().to_string();
            assert_eq!(error, expected);
        }
        for (old, expected) in [
            (
                REMEDIATION.replace("guest:\n    path: guest.wasm", "component: guest.wasm"),
                "x:5: spec.component is now spec.guest.path",
            ),
            (
                REMEDIATION.replace("guest:\n    path: guest.wasm", "digest: abc"),
                "x:5: spec.digest is now spec.guest.digest",
            ),
            (
                REMEDIATION.replace("path: guest.wasm", "image: ghcr.io/example/guest:1"),
                "x:6: spec.guest.image is not supported yet; use spec.guest.path",
            ),
            (
                REMEDIATION.replace("kind: Remediation", "kind: Policy"),
                "x:2: expected a Remediation, found \"Policy\"",
            ),
        ] {
            let error = Remediation::read(&old, "x").unwrap_err().to_string();
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn all_faults_are_reported() {
        let invalid = OK.replace("namespaces", "namespace").replace("name: p", "nam: p");
        let error = RemediationPolicy::read(&invalid, "p").unwrap_err().to_string();
        assert_eq!(error.lines().count(), 3, "{error}");
        assert!(error.contains("p:3: metadata: name is missing"), "{error}");
    }
}
