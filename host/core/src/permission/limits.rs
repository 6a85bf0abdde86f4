//! What a Role and an admission policy cannot say: what only the host enforces, and what the Role alone would allow.

use super::needs::{Need, Needs, Place};
use crate::effect::{Access, Function, access_of};
use crate::footprint::Verb;
use crate::grants::Grants;
use std::collections::{BTreeMap, BTreeSet};

/// What only the host holds a guest to, a sentence each.
pub fn of_the_host(functions: &BTreeSet<Function>, grants: &Grants, needs: &Needs) -> Vec<String> {
    let mut said = vec![];
    let capabilities: BTreeSet<&str> = functions
        .iter()
        .map(|function| function.capability())
        .filter(|name| access_of(name) == Some(Access::Write))
        .collect();
    for capability in &capabilities {
        for grant in grants
            .layers
            .iter()
            .flat_map(|layer| &layer.grants)
            .filter(|grant| grant.capability == *capability)
        {
            said.extend(grant.max.words());
            said.extend(grant.label_selector.as_ref().map(|selector| {
                format!("{capability} only of objects with the labels {selector}")
            }));
            said.extend(
                grant
                    .movers
                    .as_ref()
                    .map(|movers| format!("{capability} only of the movers {}", movers.join(", "))),
            );
            said.extend(
                grant
                    .evidence
                    .as_ref()
                    .map(|evidence| format!("{capability} only after evidence: {evidence}")),
            );
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
    said.push(
        "what was approved in a plan is what runs; which values the allowed fields get".into(),
    );
    let reads = needs.all.iter().filter(|(key, need)| {
        !key.verb.mutates() && need.names.is_none() && need.patterns().any(|(_, glob)| glob != "*")
    });
    let patterns: BTreeSet<&str> =
        reads.flat_map(|(_, need)| need.patterns().map(|(_, glob)| glob.as_str())).collect();
    if !patterns.is_empty() {
        said.push(format!(
            "reading only objects called {}: a Role knows no patterns",
            patterns.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    if functions.contains(&Function::NextPage) {
        said.push(
            "of the logs only lines that match what the guest asked for, up to its byte limit"
                .into(),
        );
    }
    said.extend(needs.unsayable.iter().cloned());
    said
}

/// Where a run may do such a thing, in words; none where it may nowhere.
fn places(needs: &Needs, group: &str, resource: &str, verb: Verb) -> Option<String> {
    places_where(needs, group, resource, verb, |_| true)
}

fn places_where(
    needs: &Needs,
    group: &str,
    resource: &str,
    verb: Verb,
    wanted: impl Fn(&Need) -> bool,
) -> Option<String> {
    let fitting = needs.all.iter().filter(|(key, need)| {
        key.verb == verb && key.group == group && key.resource == resource && wanted(need)
    });
    let found: BTreeSet<&str> = fitting
        .map(|(key, _)| match &key.place {
            Place::Cluster | Place::Everywhere => "every namespace",
            Place::Namespace(namespace) => namespace,
        })
        .collect();
    (!found.is_empty()).then(|| found.into_iter().collect::<Vec<_>>().join(", "))
}

/// What whoever holds the credential could do where no admission policy holds it, a sentence each.
pub fn of_the_role_alone(needs: &Needs) -> Vec<String> {
    let flux = [
        (
            "kustomize.toolkit.fluxcd.io",
            "kustomizations",
            "point a Kustomization at another source or path, or add patches: with Flux's defaults a way to cluster-admin",
        ),
        (
            "helm.toolkit.fluxcd.io",
            "helmreleases",
            "change the chart and the values of a HelmRelease: with Flux's defaults a way to cluster-admin",
        ),
        (
            "source.toolkit.fluxcd.io",
            "gitrepositories",
            "point a GitRepository at another repository: with Flux's defaults a way to cluster-admin",
        ),
        (
            "source.toolkit.fluxcd.io",
            "ocirepositories",
            "point an OCIRepository at another repository: with Flux's defaults a way to cluster-admin",
        ),
        (
            "source.toolkit.fluxcd.io",
            "buckets",
            "point a Bucket at another endpoint: with Flux's defaults a way to cluster-admin",
        ),
        (
            "apps",
            "deployments",
            "change the image, the command and the mounts of a Deployment: whatever its ServiceAccount may, and the Secrets of its namespace",
        ),
    ];
    let patched = flux.into_iter().filter_map(|(group, resource, what)| {
        places(needs, group, resource, Verb::Patch).map(|place| format!("{what} (in {place})"))
    });
    let mut said: Vec<String> = patched.collect();
    said.extend(
        places(needs, "", "pods", Verb::Delete).map(|place| format!("delete any pod (in {place})")),
    );
    said
}

/// What whoever holds the credential could do in spite of the admission policies, a sentence each.
pub fn of_the_policies(needs: &Needs) -> Vec<String> {
    const FLUX: [(&str, &str); 5] = [
        ("kustomize.toolkit.fluxcd.io", "kustomizations"),
        ("helm.toolkit.fluxcd.io", "helmreleases"),
        ("source.toolkit.fluxcd.io", "gitrepositories"),
        ("source.toolkit.fluxcd.io", "ocirepositories"),
        ("source.toolkit.fluxcd.io", "buckets"),
    ];
    const VOLSYNC: (&str, &str) = ("volsync.backube", "replicationsources");
    let mut suspended: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (group, resource) in FLUX {
        let suspends = |need: &Need| need.functions.contains(&Function::Suspend);
        if let Some(place) = places_where(needs, group, resource, Verb::Patch, suspends) {
            suspended.entry(place).or_default().push(resource);
        }
    }
    let mut said: Vec<String> = suspended
        .into_iter()
        .map(|(place, kinds)| format!("suspend and resume the {} that are granted, whoever had suspended them (in {place})", kinds.join(", ")))
        .collect();
    let others = [
        (
            ("apps", "deployments"),
            Verb::Patch,
            "restart the Deployments that are granted, as often as it likes",
        ),
        (("", "pods"), Verb::Delete, "delete the pods of those Deployments, each by its uid"),
        (
            ("coordination.k8s.io", "leases"),
            Verb::Delete,
            "delete the Lease of any run, by its uid: two runs then meet at the marks alone",
        ),
        (
            VOLSYNC,
            Verb::Delete,
            "delete the ReplicationSources that are granted, each by its uid, as many as it likes",
        ),
        (
            VOLSYNC,
            Verb::Create,
            "make ReplicationSources of its own choice: one that sends what a claim holds to a place of its own, too",
        ),
    ];
    said.extend(others.into_iter().filter_map(|((group, resource), verb, what)| {
        places(needs, group, resource, verb).map(|place| format!("{what} (in {place})"))
    }));
    said
}
