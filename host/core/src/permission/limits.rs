//! What a Role and admission policies cannot express: what only the host enforces, and what the
//! credential could do beyond it.

use super::needs::{Needs, Place};
use crate::capability::{Access, Capability, Excess, Function};
use crate::grants::{Grant, Grants};
use std::collections::BTreeSet;

/// Returns what only the host enforces, one sentence each.
pub fn enforced_by_host_only(
    functions: &BTreeSet<Function>,
    grants: &Grants,
    needs: &Needs,
) -> Vec<String> {
    let capabilities: BTreeSet<Capability> =
        functions.iter().map(|function| function.capability()).collect();
    let mut sentences: BTreeSet<String> = BTreeSet::new();
    for grant in grants.layers.iter().flat_map(|layer| &layer.grants) {
        if capabilities.contains(&grant.capability) && grant.capability.access() == Access::Write {
            sentences.extend(conditions(grant));
        }
    }
    let mut sentences: Vec<String> = sentences.into_iter().collect();
    for capability in &capabilities {
        sentences.extend(capability.grant_shape().host_only.into_iter().map(str::to_owned));
    }
    sentences.push(
        "a run sends only what its approved plan contains, and sets allowed fields only to the \
         values in it"
            .into(),
    );
    let unnamed_reads =
        needs.all.iter().filter(|(key, need)| !key.verb.mutates() && need.names.is_none());
    let names: BTreeSet<&str> = unnamed_reads
        .flat_map(|(_, need)| &need.patterns)
        .map(|(_, name)| name.as_str())
        .filter(|name| *name != "*")
        .collect();
    if !names.is_empty() {
        sentences.push(format!(
            "only objects named {} are read: a Role has no patterns",
            names.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    sentences.extend(needs.inexpressible.iter().cloned());
    sentences
}

/// Describes the conditions of a grant.
fn conditions(grant: &Grant) -> Vec<String> {
    let capability = grant.capability;
    let mut conditions: Vec<String> = grant.max.describe().collect();
    if let Some(selector) = &grant.label_selector {
        conditions.push(format!("{capability} only for objects with the labels {selector}"));
    }
    if let Some(movers) = &grant.movers {
        conditions.push(format!("{capability} only for the movers {}", movers.join(", ")));
    }
    if let Some(evidence) = &grant.evidence {
        conditions.push(format!("{capability} only after evidence: {evidence}"));
    }
    if grant.approval.is_some() {
        conditions.push(format!("{capability} only after manual approval"));
    }
    conditions
}

/// Returns what the credential could do without admission policies, one sentence each.
pub fn allowed_by_role_alone(needs: &Needs) -> Vec<String> {
    describe_excess(needs, |shape| shape.role_excess)
}

/// Returns what the credential could do despite its admission policies, one sentence each.
pub fn allowed_despite_policies(needs: &Needs) -> Vec<String> {
    describe_excess(needs, |shape| shape.policy_excess)
}

fn describe_excess(
    needs: &Needs,
    excess: impl Fn(crate::capability::GrantShape) -> Vec<Excess>,
) -> Vec<String> {
    let mut sentences: Vec<String> = vec![];
    for capability in Capability::ALL {
        for excess in excess(capability.grant_shape()) {
            let Some(places) = places(needs, *capability, &excess) else { continue };
            let sentence = format!("{} (in {places})", excess.text);
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
    }
    sentences
}

/// Returns the places in which functions of a capability need this request.
fn places(needs: &Needs, capability: Capability, excess: &Excess) -> Option<String> {
    let matching = needs.all.iter().filter(|(key, need)| {
        let is_kind = key.group == excess.group && key.resource == excess.resource;
        key.verb == excess.verb
            && (is_kind || excess.resource == "*")
            && need.functions.iter().any(|function| function.capability() == capability)
    });
    let places: BTreeSet<&str> = matching
        .map(|(key, _)| match &key.place {
            Place::Cluster | Place::Everywhere => "every namespace",
            Place::Namespace(namespace) => namespace,
        })
        .collect();
    (!places.is_empty()).then(|| places.into_iter().collect::<Vec<_>>().join(", "))
}
