//! The Role and admission policies that ship with the guest, as `salve rbac` prints them. The tests
//! run with exactly these.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::AuditEntry;
use serde_json::Value;

pub const ROLE: &str = include_str!("../../../../guests/volsync-unlock/role.yaml");

/// The user name of the ServiceAccount that they bind.
pub const USER: &str = "system:serviceaccount:salve:volsync-unlock";

/// Returns the documents for a ServiceAccount `name` that may not delete ReplicationSources.
pub fn without_deletion(name: &str) -> Result<String> {
    let rule = "resources: [replicationsources], verbs: [get, list, delete]";
    ensure!(ROLE.contains(rule), "the Role does not contain: {rule}");
    let less = ROLE.replace(rule, "resources: [replicationsources], verbs: [get, list]");
    Ok(less.replace("volsync-unlock", name))
}

/// Returns what the Roles grant and no request used, as `verb resource`.
pub fn unused(requests: &[AuditEntry]) -> Result<BTreeSet<String>> {
    let (mut used, mut granted) = (BTreeSet::new(), BTreeSet::new());
    for role in documents()?.iter().filter(|document| document["rules"].is_array()) {
        let namespace = role["metadata"]["namespace"].as_str();
        for (group, resource, verb) in grants(role)? {
            let (name, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
            let permission = format!("{verb} {resource}");
            if requests.iter().any(|entry| {
                entry.verb == verb
                    && entry.group == group
                    && entry.resource == name
                    && entry.subresource == subresource
                    && namespace.is_none_or(|namespace| namespace == entry.namespace)
            }) {
                used.insert(permission.clone());
            }
            granted.insert(permission);
        }
    }
    Ok(&granted - &used)
}

/// Returns all shipped documents.
pub fn documents() -> Result<Vec<Value>> {
    ROLE.split("---\n").skip(1).map(|document| Ok(serde_saphyr::from_str(document)?)).collect()
}

/// Returns the names of the admission policies.
pub fn policies() -> Vec<String> {
    let documents = documents().unwrap_or_default();
    let policies =
        documents.iter().filter(|document| document["kind"] == "ValidatingAdmissionPolicy");
    policies.filter_map(|policy| policy["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

/// Returns group, resource, and verb of every permission of a Role.
fn grants(role: &Value) -> Result<Vec<(String, String, String)>> {
    let mut grants = Vec::new();
    let strings = |rule: &Value, field: &str| -> Result<Vec<String>> {
        let values = rule[field].as_array().with_context(|| format!("a rule without {field}"))?;
        let string = |value: &Value| {
            Ok(value.as_str().with_context(|| format!("{value} is not a string"))?.to_owned())
        };
        values.iter().map(string).collect()
    };
    for rule in role["rules"].as_array().context("a Role without rules")? {
        for group in strings(rule, "apiGroups")? {
            for resource in strings(rule, "resources")? {
                grants.extend(
                    strings(rule, "verbs")?
                        .into_iter()
                        .map(|verb| (group.clone(), resource.clone(), verb)),
                );
            }
        }
    }
    Ok(grants)
}
