//! `Remediation` and `Policy`: where grants come from.
//!
//! Both are held to a schema that is published in `schemas/`; what a schema cannot say is checked here.

mod located;
mod schema;

use crate::grants::{Grant, Layer};
use crate::sanitize::sanitized;
use located::Located;
use schema::Schema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The only version there is.
pub const API_VERSION: &str = "salve.dev/v1alpha1";

/// What is broken about a document, each fault with its line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.join("\n"))]
pub struct Broken {
    faults: Vec<String>,
}

/// A guest, the grants that it asks for, and its default configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remediation {
    /// Its name.
    pub metadata: Metadata,
    /// The rest.
    pub spec: RemediationSpec,
}

/// The part of a Remediation that decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemediationSpec {
    /// Where the component lies, seen from the document's folder. None: it comes with the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// SHA-256 that the component must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What it asks for.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// What it gets unless the person says otherwise.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub configuration: Value,
    /// What it may use of this machine.
    #[serde(default)]
    pub limits: Limits,
}

/// What a guest may use of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Limits {
    /// Linear memory, MiB.
    pub memory_mib: u32,
    /// Wasm instructions, in billions.
    pub fuel_billions: u32,
    /// How long a run may take before it has to clean up, at most [`MAX_DEADLINE_SECONDS`].
    pub deadline_seconds: u64,
}

/// Other runs wait for the cluster lock until a run's deadline, so a deadline has an upper bound.
pub const MAX_DEADLINE_SECONDS: u64 = 86_400;

impl Limits {
    /// The limits of a Remediation that names none.
    pub const DEFAULT: Self = Self { memory_mib: 64, fuel_billions: 10, deadline_seconds: 3600 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// An operator's ceiling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name.
    pub metadata: Metadata,
    /// The rest.
    pub spec: PolicySpec,
}

/// The part of a Policy that decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// What anybody may do under it.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// SHA-256 of the components that may run. None: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<Vec<String>>,
}

/// A document's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The name.
    pub name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Whole<S> {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: S,
}

impl Remediation {
    /// Reads a Remediation; `source` names it in errors and reports.
    pub fn read(text: &str, source: &str) -> Result<Self, Broken> {
        let (document, Whole { metadata, spec, .. }) =
            whole::<RemediationSpec>(text, source, "Remediation", &schema::REMEDIATION)?;
        check_grants(&spec.grants, &document, source)?;
        check_limits(spec.limits, &document, source)?;
        Ok(Self { metadata, spec })
    }
    /// Its grants, to be held.
    pub fn layer(&self, source: &str) -> Layer {
        Layer { source: source.into(), grants: self.spec.grants.clone() }
    }
}

impl Policy {
    /// Reads a Policy; `source` names it in errors and reports.
    pub fn read(text: &str, source: &str) -> Result<Self, Broken> {
        let (document, Whole { metadata, spec, .. }) =
            whole::<PolicySpec>(text, source, "Policy", &schema::POLICY)?;
        check_grants(&spec.grants, &document, source)?;
        Ok(Self { metadata, spec })
    }
    /// Its grants, to be held.
    pub fn layer(&self, source: &str) -> Layer {
        Layer { source: source.into(), grants: self.spec.grants.clone() }
    }
}

fn whole<S: for<'de> Deserialize<'de>>(
    text: &str,
    source: &str,
    kind: &str,
    schema: &Schema,
) -> Result<(Located, Whole<S>), Broken> {
    let one = |line: u64, fault: String| Broken { faults: vec![fault_at(source, line, &fault)] };
    let document = Located::read(text).map_err(|error| no_yaml(source, &error))?;
    // A document of another kind has nothing right by this one's schema; that alone is worth saying.
    let head = |key: &str| document.value.get(key).and_then(Value::as_str);
    if head("apiVersion") != Some(API_VERSION) {
        let text =
            format!("apiVersion is {}, this Salve reads {API_VERSION}", shown(head("apiVersion")));
        return Err(one(document.line("/apiVersion"), text));
    }
    if head("kind") != Some(kind) {
        return Err(one(
            document.line("/kind"),
            format!("kind is {}, a {kind} is wanted here", shown(head("kind"))),
        ));
    }
    let complaints = schema.complaints(&document);
    if !complaints.is_empty() {
        return Err(Broken {
            faults: complaints.iter().map(|(line, text)| fault_at(source, *line, text)).collect(),
        });
    }
    // By its text, not by the value that was checked: what is refused here has a place there.
    let whole = serde_saphyr::from_str(text).map_err(|error| no_yaml(source, &error))?;
    Ok((document, whole))
}

fn shown(value: Option<&str>) -> String {
    value.map_or("missing".into(), |v| format!("{:?}", sanitized(v)))
}

fn fault_at(source: &str, line: u64, fault: &str) -> String {
    format!("{source}:{line}: {}", sanitized(fault))
}

/// The reader's own words, which show the lines around the fault.
fn no_yaml(source: &str, error: &serde_saphyr::Error) -> Broken {
    // mutant document-error-unescaped: sanitized ~> str::to_owned
    let lines: Vec<String> = error.to_string().lines().map(sanitized).collect();
    Broken { faults: vec![format!("{source}: {}", lines.join("\n"))] }
}

fn check_limits(limits: Limits, document: &Located, source: &str) -> Result<(), Broken> {
    // mutant guest-deadline-unbounded: > MAX_DEADLINE_SECONDS ~> > u64::MAX
    if limits.deadline_seconds > MAX_DEADLINE_SECONDS {
        let at = "/spec/limits/deadlineSeconds";
        let fault = format!("{}: the maximum is {MAX_DEADLINE_SECONDS}", schema::words(at));
        return Err(Broken { faults: vec![fault_at(source, document.line(at), &fault)] });
    }
    Ok(())
}

/// What a schema cannot say of a grant.
fn check_grants(grants: &[Grant], document: &Located, source: &str) -> Result<(), Broken> {
    let mut faults = vec![];
    for (i, grant) in grants.iter().enumerate() {
        let at = format!("/spec/grants/{i}");
        if let Err(text) = grant.check() {
            faults.push(fault_at(
                source,
                document.line(&at),
                &format!("{}: {text}", schema::words(&at)),
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Broken { faults }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{Access, CAPABILITIES};
    use std::collections::BTreeSet;

    const OK: &str = "apiVersion: salve.dev/v1alpha1\nkind: Policy\nmetadata: {name: p}\nspec:\n  grants:\n  - {capability: delete-replicationsources, namespaces: [media], max: {deletions: 3}}\n";

    #[test]
    fn a_policy_is_read() {
        let policy = Policy::read(OK, "policy.yaml").unwrap();
        assert_eq!(policy.spec.grants[0].max.deletions, Some(3));
    }

    #[test]
    fn what_is_misspelt_is_refused_with_its_line_and_what_was_meant() {
        let plain = |kind: &str| {
            OK.replace(
                "delete-replicationsources, namespaces: [media], max: {deletions: 3}",
                &format!("query-objects, kinds: [\"{kind}\"]"),
            )
        };
        for (wrong, says) in [
            (
                OK.replace("deletions", "deletion"),
                "policy.yaml:6: spec.grants[0].max: there is no key \"deletion\"; did you mean \"deletions\"?",
            ),
            (
                OK.replace("namespaces", "namespace"),
                "policy.yaml:6: spec.grants[0]: there is no key \"namespace\"; did you mean \"namespaces\"?",
            ),
            (
                OK.replace("grants", "Grants"),
                "policy.yaml:5: spec: there is no key \"Grants\"; did you mean \"grants\"?",
            ),
            (
                OK.replace("delete-replicationsources", "delete-replicationsource"),
                "policy.yaml:6: spec.grants[0].capability: \"delete-replicationsource\" is not known here; did you mean \"delete-replicationsources\"?",
            ),
            (OK.replace("delete-replicationsources", "mow-lawn"), "there are query-flux, "),
            (
                OK.replace("Policy", "Remediation"),
                "policy.yaml:2: kind is \"Remediation\", a Policy is wanted here",
            ),
            (
                OK.replace("v1alpha1", "v9"),
                "policy.yaml:1: apiVersion is \"salve.dev/v9\", this Salve reads salve.dev/v1alpha1",
            ),
            (OK.replace("[media]", "['[']"), "is no glob"),
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
                "policy.yaml:6: spec.grants[0]: `max.deletions` means something for",
            ),
            (
                OK.replace("namespaces: [media], ", ""),
                "policy.yaml:6: spec.grants[0]: `namespaces` is missing: ",
            ),
            (
                plain("secrets"),
                "policy.yaml:6: spec.grants[0]: `kinds`: invalid: Secrets cannot be read through Salve",
            ),
            (plain("pods/exec"), "policy.yaml:6: spec.grants[0]: `kinds`: "),
            (plain("nodes.\u{200b}"), "policy.yaml:6: spec.grants[0]: `kinds`: "),
            (OK.replace("metadata", "\"meta\\e[31mdata\""), "there is no key \"meta"),
            ("{".into(), "policy.yaml"),
            (String::new(), "policy.yaml"),
            ("[]".into(), "policy.yaml:1: apiVersion is missing"),
        ] {
            let error = Policy::read(&wrong, "policy.yaml").unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn each_fault_is_told_not_the_first_alone() {
        let wrong = OK.replace("namespaces", "namespace").replace("name: p", "nam: p");
        let error = Policy::read(&wrong, "p").unwrap_err().to_string();
        assert_eq!(error.lines().count(), 3, "{error}");
        assert!(error.contains("p:3: metadata: name is missing"), "{error}");
    }

    #[test]
    fn both_schemas_have_the_same_grants_which_name_every_capability() {
        let read =
            |text: &str| serde_json::from_str::<Value>(text).unwrap()["$defs"]["grant"].clone();
        let grant = read(include_str!("../../../../schemas/policy.json"));
        assert_eq!(grant, read(include_str!("../../../../schemas/remediation.json")));
        let named: Vec<&str> = grant["properties"]["capability"]["enum"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let known: Vec<&str> = CAPABILITIES
            .iter()
            .filter(|(_, access_of)| *access_of != Access::Builtin)
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(named.iter().collect::<BTreeSet<_>>(), known.iter().collect::<BTreeSet<_>>());
    }
}
