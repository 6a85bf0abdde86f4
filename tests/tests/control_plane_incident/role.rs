//! The Role that the guest ships with: the stories run under exactly this.

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
    Ok(less.replace("name: salve-", &format!("name: {name}-")).replace("volsync-unlock", name))
}

/// What the Role grants and none of these requests used: `role: verb resource`.
pub fn unused(asked: &[Entry]) -> Result<BTreeSet<String>> {
    let documents = documents()?;
    let of_kind = |kind: &'static str| documents.iter().filter(move |one| one["kind"] == kind);
    let mut unused = BTreeSet::new();
    for role in of_kind("ClusterRole") {
        let name = text(&role["metadata"]["name"])?;
        let everywhere = of_kind("ClusterRoleBinding").any(|binding| binding["roleRef"]["name"] == name);
        let bound: Vec<&str> = of_kind("RoleBinding")
            .filter(|binding| binding["roleRef"]["name"] == name)
            .map(|binding| text(&binding["metadata"]["namespace"]))
            .collect::<Result<_>>()?;
        let here = |entry: &Entry| everywhere || bound.contains(&entry.namespace.as_str());
        for (group, resource, verb) in grants(role)? {
            let (plain, below) = resource.split_once('/').unwrap_or((&resource, ""));
            let used = asked.iter().any(|one| one.verb == verb && one.group == group && one.resource == plain && one.subresource == below && here(one));
            if !used {
                unused.insert(format!("{name}: {verb} {resource}"));
            }
        }
    }
    Ok(unused)
}

fn documents() -> Result<Vec<Value>> {
    ROLE.split("\n---\n").map(|document| Ok(serde_saphyr::from_str(document)?)).collect()
}

fn grants(role: &Value) -> Result<Vec<(String, String, String)>> {
    let mut grants = Vec::new();
    let words = |rule: &Value, field: &str| -> Result<Vec<String>> {
        let words = rule[field].as_array().with_context(|| format!("a rule without {field}"))?;
        words.iter().map(|word| Ok(text(word)?.to_owned())).collect()
    };
    for rule in role["rules"].as_array().context("a role without rules")? {
        for group in words(rule, "apiGroups")? {
            for resource in words(rule, "resources")? {
                grants.extend(words(rule, "verbs")?.into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    Ok(grants)
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}
