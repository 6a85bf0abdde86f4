//! `Remediation` and `Policy`: where grants come from.

use crate::grants::{Grant, Layer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The only version there is.
pub const API_VERSION: &str = "salve.dev/v1alpha1";

/// What is broken about a document, with its line where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_}: {text}")]
pub struct Broken {
    source_: String,
    text: String,
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
    /// Wasm instructions, in thousand millions.
    pub fuel_billions: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mib: 64, fuel_billions: 10 }
    }
}

impl Limits {
    fn check(&self) -> Result<(), String> {
        if !(1..=1024).contains(&self.memory_mib) || !(1..=1000).contains(&self.fuel_billions) {
            return Err("limits: memoryMib 1 to 1024, fuelBillions 1 to 1000".into());
        }
        Ok(())
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
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
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
        let Whole { metadata, spec, .. } = whole::<RemediationSpec>(text, source, "Remediation")?;
        check_grants(&spec.grants, source)?;
        spec.limits.check().map_err(|text| broken(source, text))?;
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
        let Whole { metadata, spec, .. } = whole::<PolicySpec>(text, source, "Policy")?;
        check_grants(&spec.grants, source)?;
        Ok(Self { metadata, spec })
    }
    /// Its grants, to be held.
    pub fn layer(&self, source: &str) -> Layer {
        Layer { source: source.into(), grants: self.spec.grants.clone() }
    }
}

fn whole<S: for<'de> Deserialize<'de>>(text: &str, source: &str, kind: &str) -> Result<Whole<S>, Broken> {
    let head: Head = serde_saphyr::from_str(text).map_err(|e| broken(source, e.to_string()))?;
    match head.api_version.as_deref() {
        Some(API_VERSION) => {}
        other => return Err(broken(source, format!("apiVersion is {}, this Salve reads {API_VERSION}", shown(other)))),
    }
    if head.kind.as_deref() != Some(kind) {
        return Err(broken(source, format!("kind is {}, a {kind} is wanted here", shown(head.kind.as_deref()))));
    }
    serde_saphyr::from_str(text).map_err(|e| broken(source, e.to_string()))
}

fn shown(value: Option<&str>) -> String {
    value.map_or("missing".into(), |v| format!("{:?}", crate::text::inert(v)))
}

fn check_grants(grants: &[Grant], source: &str) -> Result<(), Broken> {
    for (i, grant) in grants.iter().enumerate() {
        grant.check().map_err(|text| broken(source, format!("spec.grants[{i}]: {text}")))?;
    }
    Ok(())
}

fn broken(source: &str, text: String) -> Broken {
    Broken { source_: source.into(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: salve.dev/v1alpha1\nkind: Policy\nmetadata: {name: p}\nspec:\n  grants:\n  - {capability: delete-replicationsources, namespaces: [media], max: {deletions: 3}}\n";

    #[test]
    fn a_policy_is_read() {
        let policy = Policy::read(GOOD, "policy.yaml").unwrap();
        assert_eq!(policy.spec.grants[0].max.deletions, Some(3));
    }

    #[test]
    fn what_is_misspelt_is_refused_and_named() {
        for (wrong, says) in [
            (GOOD.replace("deletions", "deletion"), "deletion"),
            (GOOD.replace("namespaces", "namespace"), "namespace"),
            (GOOD.replace("delete-replicationsources", "delete-everything"), "there is no capability"),
            (GOOD.replace("Policy", "Remediation"), "a Policy is wanted here"),
            (GOOD.replace("v1alpha1", "v9"), "this Salve reads salve.dev/v1alpha1"),
            (GOOD.replace("[media]", "['[']"), "is no glob"),
            ("{".into(), "policy.yaml"),
            (String::new(), "policy.yaml"),
        ] {
            let error = Policy::read(&wrong, "policy.yaml").unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
