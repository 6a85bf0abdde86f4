//! A second implementation of the grant decision, slow and obvious. It reads documents and calls as
//! JSON, and shares no code with the product.

use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The call is not valid: an invalid name, or Secrets.
    Invalid,
    Denied,
    Allowed,
    RequiresApproval,
}

/// An object, or all objects of a namespace.
struct Target {
    kind: Option<Kind>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Clone, Debug)]
struct Kind {
    /// As grants name it.
    resource: String,
    /// As manifests name it; empty if unknown.
    manifest: &'static str,
}

/// What a run has used, by document and grant, and the evidence that it has found.
#[derive(Default)]
pub struct Usage {
    counts: BTreeMap<(usize, usize), u64>,
    /// Log lines that were read.
    pub lines: BTreeSet<String>,
}

/// Decides on a call, and counts it if it is allowed. `documents` is a list of lists of grants;
/// `objects` are those that were read for the call.
pub fn decide(documents: &Value, usage: &mut Usage, call: &Value, objects: &[Value]) -> Decision {
    let name = text(&call["call"]);
    let with = &call["with"];
    let (capability, _) = name.split_once('.').expect("a call is interface.function");
    let targets = targets(name, with);
    if !names_are_valid(name, with, &targets) {
        return Decision::Invalid;
    }
    // Reversals are always allowed, and so is everything in `run`.
    if capability == "run" || name == "suspend-flux.resume" {
        return Decision::Allowed;
    }
    let documents = documents.as_array().expect("documents are a list");
    if documents.is_empty() {
        return Decision::Denied;
    }
    // A read needs neither evidence nor approval, even if its capability also has writes.
    let is_read = name == "restart-deployment.await-rollout";
    let mut decision = Decision::Allowed;
    let mut charges: Vec<(usize, usize)> = vec![];
    for (d, document) in documents.iter().enumerate() {
        let grants = document.as_array().expect("a document's grants are a list");
        if targets.is_empty() && !grants.iter().any(|grant| grant["capability"] == capability) {
            return Decision::Denied;
        }
        for target in &targets {
            let applies = |g: usize| {
                let grant = &grants[g];
                let used = usage.counts.get(&(d, g)).copied().unwrap_or(0)
                    + charges.iter().filter(|charge| **charge == (d, g)).count() as u64;
                names_target(grant, capability, target)
                    && maximum(grant, name).is_none_or(|max| used < max)
                    && (is_read || has_evidence(grant, &usage.lines))
                    && matches_object(grant, target, objects)
            };
            let free = (0..grants.len())
                .find(|g| applies(*g) && (is_read || grants[*g]["approval"].is_null()));
            match free.or_else(|| (0..grants.len()).find(|g| applies(*g))) {
                None => return Decision::Denied,
                Some(g) => {
                    charges.push((d, g));
                    if free.is_none() {
                        decision = Decision::RequiresApproval;
                    }
                }
            }
        }
    }
    for charge in charges {
        *usage.counts.entry(charge).or_default() += 1;
    }
    decision
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn owned(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Returns a kind by the name that calls have for it.
fn kind(name: &str) -> Kind {
    let (resource, manifest) = match name {
        "kustomization" => ("kustomizations.kustomize.toolkit.fluxcd.io", "Kustomization"),
        "helm-release" => ("helmreleases.helm.toolkit.fluxcd.io", "HelmRelease"),
        "git-repository" => ("gitrepositories.source.toolkit.fluxcd.io", "GitRepository"),
        "oci-repository" => ("ocirepositories.source.toolkit.fluxcd.io", "OCIRepository"),
        "bucket" => ("buckets.source.toolkit.fluxcd.io", "Bucket"),
        "replication-source" => ("replicationsources.volsync.backube", "ReplicationSource"),
        "persistent-volume-claim" => ("persistentvolumeclaims", "PersistentVolumeClaim"),
        "deployment" => ("deployments.apps", "Deployment"),
        "daemon-set" => ("daemonsets.apps", "DaemonSet"),
        "stateful-set" => ("statefulsets.apps", "StatefulSet"),
        "job" => ("jobs.batch", "Job"),
        "pod" => ("pods", "Pod"),
        other => panic!("unknown kind {other}"),
    };
    Kind { resource: resource.into(), manifest }
}

fn targets(call: &str, with: &Value) -> Vec<Target> {
    let object = |object: &Value, kind: Option<Kind>| Target {
        kind,
        namespace: owned(&object["namespace"]),
        name: owned(&object["name"]),
    };
    let list = |key: &str| with[key].as_array().cloned().unwrap_or_default();
    let flux = |target: &Value| object(target, Some(kind(text(&target["kind"]))));
    let queried_kind = || {
        let (group, resource) = (text(&with["kind"]["group"]), text(&with["kind"]["resource"]));
        let resource =
            if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        Some(Kind { resource, manifest: "" })
    };
    match call {
        "query-flux.find-owners" => list("subjects")
            .iter()
            .map(|subject| object(&subject["object"], Some(kind(text(&subject["kind"])))))
            .collect(),
        "query-flux.get" | "reconcile-flux.reconcile" | "suspend-flux.resume" => {
            vec![flux(&with["target"])]
        }
        "suspend-flux.suspend" => list("targets").iter().map(flux).collect(),
        "query-replicationsources.list-sources"
        | "query-replicationsources.list-destinations"
        | "query-pvcs.list-pvcs"
        | "query-pvcs.list-snapshots"
        | "query-pvcs.list-other-volumes"
        | "query-pods.list-pods" => list("namespaces")
            .iter()
            .map(|namespace| Target { kind: None, namespace: owned(namespace), name: None })
            .collect(),
        "query-drivers.find" => {
            vec![Target { kind: None, namespace: owned(&with["namespace"]), name: None }]
        }
        "query-objects.list-objects" => {
            vec![Target { kind: queried_kind(), namespace: owned(&with["namespace"]), name: None }]
        }
        "query-objects.get" => vec![Target {
            kind: queried_kind(),
            namespace: owned(&with["namespace"]),
            name: owned(&with["name"]),
        }],
        "tail-logs.next" => {
            let workload = &with["query"]["workload"];
            vec![object(&workload["object"], Some(kind(text(&workload["kind"]))))]
        }
        "delete-replicationsources.delete" => {
            list("set").iter().map(|target| object(&target["object"], None)).collect()
        }
        "restart-deployment.restart" | "restart-deployment.await-rollout" => {
            vec![object(&with["target"], None)]
        }
        "run.now" => vec![],
        other => panic!("the oracle does not know {other}"),
    }
}

static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\A[a-z0-9]([-a-z0-9]*[a-z0-9])?\z").expect("it is a regular expression")
});
static PLURAL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[-a-z0-9]{1,63}\z").expect("it is a regular expression"));

/// Checks that namespaces are DNS-1123 labels and names are DNS-1123 subdomains.
fn names_are_valid(call: &str, with: &Value, targets: &[Target]) -> bool {
    let is_label = |text: &str| text.len() <= 63 && LABEL.is_match(text);
    let is_name =
        |text: &str| text.len() <= 253 && text.split('.').all(|part| LABEL.is_match(part));
    for target in targets {
        if target.namespace.as_deref().is_some_and(|namespace| !is_label(namespace))
            || target.name.as_deref().is_some_and(|name| !is_name(name))
        {
            return false;
        }
    }
    if call.starts_with("query-objects") {
        let (group, resource) = (text(&with["kind"]["group"]), text(&with["kind"]["resource"]));
        let is_group = group.is_empty() || (group.len() <= 253 && group.split('.').all(is_label));
        if !PLURAL.is_match(resource) || !is_group || (resource == "secrets" && group.is_empty()) {
            return false;
        }
    }
    if with["namespaces"].is_array() && targets.is_empty() {
        return false;
    }
    // A set that is written has each object once, and is not empty.
    if call == "suspend-flux.suspend" || call == "delete-replicationsources.delete" {
        let mut objects: Vec<String> = targets
            .iter()
            .map(|target| format!("{:?} {:?} {:?}", target.kind, target.namespace, target.name))
            .collect();
        objects.sort();
        objects.dedup();
        return !targets.is_empty() && objects.len() == targets.len();
    }
    true
}

fn names_target(grant: &Value, capability: &str, target: &Target) -> bool {
    let list =
        |key: &str| grant[key].as_array().map(|globs| globs.iter().map(text).collect::<Vec<_>>());
    if grant["capability"] != capability {
        return false;
    }
    let kind = match (list("kinds"), &target.kind) {
        (None, _) => capability != "query-objects",
        (Some(_), None) => true,
        (Some(globs), Some(kind)) => globs.iter().any(|glob| matches(glob, &kind.resource)),
    };
    let namespace = match (list("namespaces").unwrap_or_default(), &target.namespace) {
        (globs, Some(namespace)) => globs.iter().any(|glob| matches(glob, namespace)),
        (globs, None) => globs.is_empty(),
    };
    let name = match (list("names"), &target.name) {
        (None, _) => true,
        (Some(globs), Some(name)) => globs.iter().any(|glob| matches(glob, name)),
        (Some(globs), None) => globs.contains(&"*"),
    };
    kind && namespace && name
}

fn maximum(grant: &Value, call: &str) -> Option<u64> {
    let key = match call {
        "delete-replicationsources.delete" => "deletions",
        "restart-deployment.restart" => "restarts",
        "suspend-flux.suspend" => "suspensions",
        _ => return None,
    };
    grant["max"][key].as_u64()
}

/// Checks the evidence. No PVC is ever found to be waiting here.
fn has_evidence(grant: &Value, lines: &BTreeSet<String>) -> bool {
    let is_found = |required: &Value| {
        lines.iter().filter(|line| matches(text(&required["pattern"]), line)).count() as u64
            >= required["min"].as_u64().unwrap_or(1)
    };
    grant["evidence"]["pendingPvcs"].as_u64().is_none_or(|min| min == 0)
        && grant["evidence"]["logLines"].as_array().is_none_or(|all| all.iter().all(is_found))
}

/// Checks the labels and the mover of a target's object, if it was read.
fn matches_object(grant: &Value, target: &Target, objects: &[Value]) -> bool {
    let of_target = |object: &&Value| {
        let metadata = &object["metadata"];
        target.kind.as_ref().is_none_or(|kind| text(&object["kind"]) == kind.manifest)
            && owned(&metadata["namespace"]) == target.namespace
            && owned(&metadata["name"]) == target.name
    };
    let Some(object) = objects.iter().find(of_target) else { return true };
    let label = |key: &str| object["metadata"]["labels"][key].as_str();
    // Only the forms that are generated: `a=b`, `a!=b`, `a`, `!a`.
    let has =
        |part: &str| match (part.split_once("!="), part.split_once('='), part.strip_prefix('!')) {
            (Some((key, value)), _, _) => label(key) != Some(value),
            (None, Some((key, value)), _) => label(key) == Some(value),
            (None, None, Some(key)) => label(key).is_none(),
            (None, None, None) => label(part).is_some(),
        };
    let labels =
        grant["labelSelector"].as_str().is_none_or(|selector| selector.split(',').all(has));
    let movers = grant["movers"].as_array().is_none_or(|granted| {
        let movers = [("restic", "restic"), ("rsyncTLS", "rsync-tls"), ("syncthing", "syncthing")];
        let found: Vec<&str> = movers
            .iter()
            .filter(|(field, _)| object["spec"].get(field).is_some())
            .map(|(_, mover)| *mover)
            .collect();
        !found.is_empty() && found.iter().all(|mover| granted.iter().any(|other| other == mover))
    });
    labels && movers
}

/// Returns whether a glob matches a whole text.
pub fn matches(glob: &str, text: &str) -> bool {
    let chars = |text: &str| text.chars().collect::<Vec<char>>();
    alternatives(glob).iter().any(|glob| matches_chars(&chars(glob), &chars(text)))
}

/// Expands `a{b,c}d` to `abd` and `acd`. Generated braces are not nested.
fn alternatives(glob: &str) -> Vec<String> {
    let Some((before, rest)) = glob.split_once('{') else { return vec![glob.to_owned()] };
    let (within, after) = rest.split_once('}').expect("a brace is closed");
    within
        .split(',')
        .flat_map(|one| {
            alternatives(after).into_iter().map(move |after| format!("{before}{one}{after}"))
        })
        .collect()
}

fn matches_chars(glob: &[char], text: &[char]) -> bool {
    match glob {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|n| matches_chars(rest, &text[n..])),
        ['?', rest @ ..] => !text.is_empty() && matches_chars(rest, &text[1..]),
        ['[', rest @ ..] => {
            let end = rest.iter().position(|c| *c == ']').expect("a class is closed");
            let (class, rest) = (&rest[..end], &rest[end + 1..]);
            let (class, expected) =
                if class.first() == Some(&'!') { (&class[1..], false) } else { (class, true) };
            text.first().is_some_and(|c| class.contains(c) == expected)
                && matches_chars(rest, &text[1..])
        }
        [c, rest @ ..] => text.first() == Some(c) && matches_chars(rest, &text[1..]),
    }
}
