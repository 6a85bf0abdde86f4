//! What the guest ships with for the cluster, as `salve rbac` prints it: the stories run under exactly this.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::Entry;
use serde_json::Value;

/// The documents as they are shipped.
pub const ROLE: &str = include_str!("../../../guests/volsync-unlock/role.yaml");

/// The account that they bind, as the API server knows it.
pub const USER: &str = "system:serviceaccount:salve:volsync-unlock";

/// The same for an account of this name, which may not delete ReplicationSources.
pub fn without_deletion(name: &str) -> Result<String> {
    let may = "resources: [replicationsources], verbs: [get, list, delete]";
    ensure!(ROLE.contains(may), "the Role says no more: {may}");
    let less = ROLE.replace(may, "resources: [replicationsources], verbs: [get, list]");
    Ok(less.replace("volsync-unlock", name))
}

/// What some Role grants and none of these requests used in any of its namespaces: `verb resource`.
pub fn unused(asked: &[Entry]) -> Result<BTreeSet<String>> {
    let (mut used, mut granted) = (BTreeSet::new(), BTreeSet::new());
    for role in documents()?.iter().filter(|one| one["rules"].is_array()) {
        let namespace = role["metadata"]["namespace"].as_str();
        for (group, resource, verb) in grants(role)? {
            let (plain, below) = resource.split_once('/').unwrap_or((&resource, ""));
            let here =
                |entry: &Entry| namespace.is_none_or(|namespace| namespace == entry.namespace);
            let word = format!("{verb} {resource}");
            if asked.iter().any(|one| {
                one.verb == verb
                    && one.group == group
                    && one.resource == plain
                    && one.subresource == below
                    && here(one)
            }) {
                used.insert(word.clone());
            }
            granted.insert(word);
        }
    }
    Ok(&granted - &used)
}

/// Every object of it.
pub fn documents() -> Result<Vec<Value>> {
    ROLE.split("---\n").skip(1).map(|document| Ok(serde_saphyr::from_str(document)?)).collect()
}

/// The names of its admission policies.
pub fn policies() -> Vec<String> {
    let documents = documents().unwrap_or_default();
    let policies = documents.iter().filter(|one| one["kind"] == "ValidatingAdmissionPolicy");
    policies.filter_map(|policy| policy["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

fn grants(role: &Value) -> Result<Vec<(String, String, String)>> {
    let mut grants = Vec::new();
    let words = |rule: &Value, field: &str| -> Result<Vec<String>> {
        let words = rule[field].as_array().with_context(|| format!("a rule without {field}"))?;
        words
            .iter()
            .map(|word| Ok(word.as_str().with_context(|| format!("{word} is no text"))?.to_owned()))
            .collect()
    };
    for rule in role["rules"].as_array().context("a role without rules")? {
        for group in words(rule, "apiGroups")? {
            for resource in words(rule, "resources")? {
                grants.extend(
                    words(rule, "verbs")?
                        .into_iter()
                        .map(|verb| (group.clone(), resource.clone(), verb)),
                );
            }
        }
    }
    Ok(grants)
}
