//! A second judge, slow and obvious: it reads documents and calls as JSON, knows nothing of the first one, and shares no code with it.

use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// What may become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It cannot be: a name that is none, the like of Secrets.
    Invalid,
    /// No.
    Denied,
    /// Yes.
    Allowed,
    /// Yes, if a person says so.
    Asked,
}

/// An object, or all of a place.
struct Target {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

/// What a run has used, by document and grant, and found.
#[derive(Default)]
pub struct Used {
    counts: BTreeMap<(usize, usize), u64>,
    /// Log lines that were read.
    pub lines: BTreeSet<String>,
}

/// Judges a call, and counts it if it is allowed. `documents` is a list of lists of grants; `objects` is what the call meets, none before it
/// was read.
pub fn judge(documents: &Value, used: &mut Used, call: &Value, objects: &[Value]) -> Word {
    let name = text(&call["call"]);
    let with = &call["with"];
    let (capability, _) = name.split_once('.').expect("a call is interface.function");
    let targets = targets(name, with);
    if !names_are_names(name, with, &targets) {
        return Word::Invalid;
    }
    // Giving back is always allowed; the rest of `run` is the guest's own.
    if capability == "run" || name == "suspend-flux.resume" {
        return Word::Allowed;
    }
    let documents = documents.as_array().expect("documents are a list");
    if documents.is_empty() {
        return Word::Denied;
    }
    // What only waits and looks needs neither evidence nor a yes, whatever its capability can do beside.
    let looks = name == "restart-deployment.await-rollout";
    let mut word = Word::Allowed;
    let mut charges: Vec<(usize, usize)> = vec![];
    for (d, document) in documents.iter().enumerate() {
        let grants = document.as_array().expect("a document's grants are a list");
        if targets.is_empty() && !grants.iter().any(|grant| grant["capability"] == capability) {
            return Word::Denied;
        }
        for target in &targets {
            let holds = |g: usize| {
                let grant = &grants[g];
                let taken = used.counts.get(&(d, g)).copied().unwrap_or(0)
                    + charges.iter().filter(|charge| **charge == (d, g)).count() as u64;
                fits(grant, capability, target)
                    && maximum(grant, name).is_none_or(|max| taken < max)
                    && (looks || proven(grant, &used.lines))
                    && as_wanted(grant, target, objects)
            };
            let free = (0..grants.len())
                .find(|g| holds(*g) && (looks || grants[*g]["approval"].is_null()));
            match free.or_else(|| (0..grants.len()).find(|g| holds(*g))) {
                None => return Word::Denied,
                Some(g) => {
                    charges.push((d, g));
                    if free.is_none() {
                        word = Word::Asked;
                    }
                }
            }
        }
    }
    for charge in charges {
        *used.counts.entry(charge).or_default() += 1;
    }
    word
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn owned(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn targets(call: &str, with: &Value) -> Vec<Target> {
    let object = |object: &Value, kind: Option<String>| Target {
        kind,
        namespace: owned(&object["namespace"]),
        name: owned(&object["name"]),
    };
    let list = |key: &str| with[key].as_array().cloned().unwrap_or_default();
    let flux = |target: &Value| object(target, owned(&target["kind"]));
    let kind = || {
        let (group, resource) = (text(&with["kind"]["group"]), text(&with["kind"]["resource"]));
        Some(if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") })
    };
    match call {
        "query-flux.find-owners" => list("subjects")
            .iter()
            .map(|subject| object(&subject["object"], owned(&subject["kind"])))
            .collect(),
        "query-flux.get" | "reconcile-flux.reconcile" | "suspend-flux.resume" => {
            vec![flux(&with["target"])]
        }
        "suspend-flux.suspend" => list("targets").iter().map(flux).collect(),
        "query-replicationsources.list-sources"
        | "query-replicationsources.list-destinations"
        | "query-pvcs.list-pvcs"
        | "query-pvcs.list-snapshots"
        | "query-pods.list-pods" => list("namespaces")
            .iter()
            .map(|namespace| Target { kind: None, namespace: owned(namespace), name: None })
            .collect(),
        "query-drivers.find" => {
            vec![Target { kind: None, namespace: owned(&with["namespace"]), name: None }]
        }
        "query-objects.list-objects" => {
            vec![Target { kind: kind(), namespace: owned(&with["namespace"]), name: None }]
        }
        "query-objects.get" => vec![Target {
            kind: kind(),
            namespace: owned(&with["namespace"]),
            name: owned(&with["name"]),
        }],
        "tail-logs.next" => vec![object(&with["query"]["deployment"], None)],
        "delete-replicationsources.delete" => {
            list("set").iter().map(|frozen| object(&frozen["object"], None)).collect()
        }
        "restart-deployment.restart" | "restart-deployment.await-rollout" => {
            vec![object(&with["target"], None)]
        }
        "run.now" => vec![],
        other => panic!("the reference does not know {other}"),
    }
}

static LABEL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[a-z0-9]([-a-z0-9]*[a-z0-9])?\z").expect("it is one"));
static PLURAL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[-a-z0-9]{1,63}\z").expect("it is one"));

/// DNS-1123: labels for namespaces, subdomains of labels for names.
fn names_are_names(call: &str, with: &Value, targets: &[Target]) -> bool {
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
        let group_is_one =
            group.is_empty() || (group.len() <= 253 && group.split('.').all(is_label));
        if !PLURAL.is_match(resource)
            || !group_is_one
            || (resource == "secrets" && group.is_empty())
        {
            return false;
        }
    }
    if with["namespaces"].is_array() && targets.is_empty() {
        return false;
    }
    // A set has each object once, and is not empty where it is to be changed.
    if call == "suspend-flux.suspend" || call == "delete-replicationsources.delete" {
        let mut places: Vec<String> = targets
            .iter()
            .map(|target| format!("{:?} {:?} {:?}", target.kind, target.namespace, target.name))
            .collect();
        places.sort();
        places.dedup();
        return !targets.is_empty() && places.len() == targets.len();
    }
    true
}

fn fits(grant: &Value, capability: &str, target: &Target) -> bool {
    let list =
        |key: &str| grant[key].as_array().map(|globs| globs.iter().map(text).collect::<Vec<_>>());
    if grant["capability"] != capability {
        return false;
    }
    let kind = match (list("kinds"), &target.kind) {
        (None, _) => capability != "query-objects",
        (Some(_), None) => true,
        (Some(globs), Some(kind)) => globs.iter().any(|glob| matches(glob, kind)),
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

/// No claim is ever found to wait here.
fn proven(grant: &Value, lines: &BTreeSet<String>) -> bool {
    let enough = |wanted: &Value| {
        lines.iter().filter(|line| matches(text(&wanted["like"]), line)).count() as u64
            >= wanted["least"].as_u64().unwrap_or(1)
    };
    grant["evidence"]["pendingClaims"].as_u64().is_none_or(|least| least == 0)
        && grant["evidence"]["logLines"].as_array().is_none_or(|all| all.iter().all(enough))
}

/// Whether what a target met bears the labels and the mover that a grant wants. What was not met is not judged.
fn as_wanted(grant: &Value, target: &Target, objects: &[Value]) -> bool {
    let of_target = |object: &&Value| {
        let metadata = &object["metadata"];
        let kind = target
            .kind
            .as_deref()
            .is_none_or(|kind| text(&object["kind"]).eq_ignore_ascii_case(&kind.replace('-', "")));
        kind && owned(&metadata["namespace"]) == target.namespace
            && owned(&metadata["name"]) == target.name
    };
    let Some(object) = objects.iter().find(of_target) else { return true };
    let label = |key: &str| object["metadata"]["labels"][key].as_str();
    // Only what is generated: `a=b`, `a!=b`, `a`, `!a`.
    let bears =
        |part: &str| match (part.split_once("!="), part.split_once('='), part.strip_prefix('!')) {
            (Some((key, value)), _, _) => label(key) != Some(value),
            (None, Some((key, value)), _) => label(key) == Some(value),
            (None, None, Some(key)) => label(key).is_none(),
            (None, None, None) => label(part).is_some(),
        };
    let labels =
        grant["labelSelector"].as_str().is_none_or(|selector| selector.split(',').all(bears));
    let movers = grant["movers"].as_array().is_none_or(|movers| {
        let spelt = [("restic", "restic"), ("rsyncTLS", "rsync-tls"), ("syncthing", "syncthing")];
        let borne: Vec<&str> = spelt
            .iter()
            .filter(|(field, _)| object["spec"].get(field).is_some())
            .map(|(_, mover)| *mover)
            .collect();
        !borne.is_empty() && borne.iter().all(|mover| movers.iter().any(|granted| granted == mover))
    });
    labels && movers
}

/// Whether a glob matches a whole text, letter by letter.
pub fn matches(glob: &str, text: &str) -> bool {
    let letters = |text: &str| text.chars().collect::<Vec<char>>();
    alternatives(glob).iter().any(|glob| walk(&letters(glob), &letters(text)))
}

/// `a{b,c}d` is `abd` and `acd`. Braces do not nest in what is generated.
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

fn walk(glob: &[char], text: &[char]) -> bool {
    match glob {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|n| walk(rest, &text[n..])),
        ['?', rest @ ..] => !text.is_empty() && walk(rest, &text[1..]),
        ['[', rest @ ..] => {
            let end = rest.iter().position(|letter| *letter == ']').expect("a class is closed");
            let (class, rest) = (&rest[..end], &rest[end + 1..]);
            let (class, wanted) =
                if class.first() == Some(&'!') { (&class[1..], false) } else { (class, true) };
            text.first().is_some_and(|letter| class.contains(letter) == wanted)
                && walk(rest, &text[1..])
        }
        [letter, rest @ ..] => text.first() == Some(letter) && walk(rest, &text[1..]),
    }
}
