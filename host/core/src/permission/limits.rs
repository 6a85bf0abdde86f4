//! What a Role and an admission policy cannot say: what only the host enforces, and what the Role alone would allow.

use super::needs::{Needs, Place};
use crate::effect::{Function, Reach, reach};
use crate::footprint::Verb;
use crate::grants::Grants;
use std::collections::BTreeSet;

/// What only the host holds a guest to, a sentence each.
pub fn of_the_host(functions: &BTreeSet<Function>, grants: &Grants, needs: &Needs) -> Vec<String> {
    let mut said = vec![];
    let capabilities: BTreeSet<&str> = functions.iter().map(|function| function.capability()).filter(|name| reach(name) == Some(Reach::Touch)).collect();
    for capability in &capabilities {
        for grant in grants.layers.iter().flat_map(|layer| &layer.grants).filter(|grant| grant.capability == *capability) {
            for (max, what) in [(grant.max.deletions, "deletions"), (grant.max.suspensions, "suspensions"), (grant.max.restarts, "restarts")] {
                said.extend(max.map(|max| format!("at most {max} {what} in a run")));
            }
            said.extend(grant.label_selector.as_ref().map(|selector| format!("{capability} only of objects with the labels {selector}")));
            said.extend(grant.movers.as_ref().map(|movers| format!("{capability} only of the movers {}", movers.join(", "))));
            said.extend(grant.evidence.map(|evidence| format!("{capability} only after evidence: {evidence}")));
            said.extend(grant.approval.map(|_| format!("{capability} only after a person's yes")));
        }
    }
    said.sort();
    said.dedup();
    if functions.contains(&Function::Suspend) {
        said.push("what it suspends is given back in every ending, and nothing that somebody else had suspended is resumed".into());
    }
    if functions.contains(&Function::Delete) {
        said.push("only the frozen objects are deleted: by uid and spec, each manifest saved first, at the guest's pace and no faster".into());
    }
    if functions.contains(&Function::Restart) {
        said.push("only the Deployment of the uid that was looked at is restarted".into());
    }
    said.push("what was approved in a plan is what runs; which values the allowed fields get".into());
    let reads = needs.all.iter().filter(|(key, need)| !key.verb.mutates() && need.names.is_none() && need.fitting.iter().any(|(_, glob)| glob != "*"));
    let patterns: BTreeSet<&str> = reads.flat_map(|(_, need)| need.fitting.iter().map(|(_, glob)| glob.as_str())).collect();
    if !patterns.is_empty() {
        said.push(format!("reading only objects called {}: a Role knows no patterns", patterns.into_iter().collect::<Vec<_>>().join(", ")));
    }
    if functions.contains(&Function::LogPage) {
        said.push("of the logs only lines that match what the guest asked for, up to its byte limit".into());
    }
    said.extend(needs.unsayable.iter().cloned());
    said
}

/// What whoever holds the credential could do where no admission policy holds it, a sentence each.
pub fn of_the_role_alone(needs: &Needs) -> Vec<String> {
    let mut said: Vec<String> = vec![];
    let places = |group: &str, resource: &str, verb: Verb| {
        let found: BTreeSet<String> = needs
            .all
            .keys()
            .filter(|key| key.verb == verb && key.group == group && key.resource == resource)
            .map(|key| match &key.place {
                Place::Cluster | Place::Everywhere => "every namespace".to_owned(),
                Place::Namespace(namespace) => namespace.clone(),
            })
            .collect();
        (!found.is_empty()).then(|| found.into_iter().collect::<Vec<_>>().join(", "))
    };
    let flux = [
        (
            "kustomize.toolkit.fluxcd.io",
            "kustomizations",
            "point a Kustomization at another source or path, or add patches: with Flux's defaults a way to cluster-admin",
        ),
        ("helm.toolkit.fluxcd.io", "helmreleases", "change the chart and the values of a HelmRelease: with Flux's defaults a way to cluster-admin"),
        ("source.toolkit.fluxcd.io", "gitrepositories", "point a GitRepository at another repository: with Flux's defaults a way to cluster-admin"),
        ("source.toolkit.fluxcd.io", "ocirepositories", "point an OCIRepository at another repository: with Flux's defaults a way to cluster-admin"),
        ("source.toolkit.fluxcd.io", "buckets", "point a Bucket at another endpoint: with Flux's defaults a way to cluster-admin"),
        (
            "apps",
            "deployments",
            "change the image, the command and the mounts of a Deployment: whatever its ServiceAccount may, and the Secrets of its namespace",
        ),
    ];
    for (group, resource, what) in flux {
        said.extend(places(group, resource, Verb::Patch).map(|place| format!("{what} (in {place})")));
    }
    said.extend(places("", "pods", Verb::Delete).map(|place| format!("delete any pod (in {place})")));
    said.extend(
        places("volsync.backube", "replicationsources", Verb::Delete).map(|place| format!("delete any ReplicationSource, as often as it likes (in {place})")),
    );
    said.extend(places("volsync.backube", "replicationsources", Verb::Create).map(|place| format!("make ReplicationSources of its own choice (in {place})")));
    said
}
