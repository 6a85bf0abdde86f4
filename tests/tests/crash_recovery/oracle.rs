//! What has to hold however a run came out, judged by the cluster's own record of requests and by the run file, never by a word of ours.

use crate::fixture::{Came, House};
use salve_core::effect::{Effect, Write};
use salve_core::footprint::{Asked, Footprint, Verb};
use salve_core::journal::{Entry, Opened};
use salve_core::report::{Report, Verdict};
use salve_run::RunFile;
use salve_simulator::{Exchange, Simulator};
use salve_tests::canary;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const FLUX: [(&str, &str); 3] = [
    ("kustomize.toolkit.fluxcd.io", "kustomizations"),
    ("helm.toolkit.fluxcd.io", "helmreleases"),
    ("source.toolkit.fluxcd.io", "gitrepositories"),
];

/// How Flux stands: `spec.suspend` of each object, absent being none, and the marks of runs.
pub fn flux(simulator: &Simulator) -> BTreeMap<String, (Value, Vec<String>)> {
    let all = FLUX.iter().flat_map(|(group, plural)| simulator.objects(group, plural, None));
    all.map(|object| {
        let annotations = object["metadata"]["annotations"].as_object();
        let marks = annotations
            .into_iter()
            .flatten()
            .map(|(key, _)| key.clone())
            .filter(|key| key.starts_with("salve.dev/"))
            .collect();
        let place = format!(
            "{} {}/{}",
            text(&object, "/kind"),
            text(&object, "/metadata/namespace"),
            text(&object, "/metadata/name")
        );
        (place, (object["spec"].get("suspend").cloned().unwrap_or_default(), marks))
    })
    .collect()
}

/// As whom those who meddle ask.
pub const ADVERSARY: &str = "adversary";

/// What may be otherwise.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Objects of Flux that somebody else has meddled with.
    pub theirs: Vec<String>,
    /// A machine has died: lines that were not on the disk are gone. Only of releases and of requests to reconcile
    /// may there be none then, for what they do follows from what is on the disk.
    pub lost: bool,
    /// The Lease was asked for by a process that died, and that request arrived when all was over.
    pub leased: bool,
}

/// Panics with `moment` unless all of it holds.
pub async fn judge(house: &House, came: &Came, allowed: &Allowed, moment: &str) {
    let ours = |one: &Exchange| one.applied && one.user_agent.as_deref() != Some(ADVERSARY);
    let mutations: Vec<Exchange> = came.simulator.mutations().into_iter().filter(ours).collect();
    let Some(over) = &came.over else {
        assert!(
            mutations.is_empty(),
            "{moment}: nothing is recorded, and this was sent: {mutations:#?}"
        );
        return;
    };
    let entries = written(&came.written.bytes);
    let opened: Vec<&Opened> = entries.iter().filter_map(Entry::opened).collect();
    let recorded: Vec<&Effect> = entries.iter().filter_map(has_writes).collect();
    let lost =
        |one: &Exchange| allowed.lost && opened.iter().any(|opened| asks_to_reconcile(opened, one));
    for one in mutations.iter().filter(|one| !lost(one)) {
        assert!(
            recorded.iter().any(|effect| covers(effect, &opened, one)),
            "{moment}: no entry of the run file covers {} {}",
            one.method,
            one.uri
        );
    }
    nothing_twice(&mutations, moment);
    let frozen: BTreeSet<&str> = opened.iter().flat_map(|opened| uids(&opened.effect)).collect();
    for one in mutations
        .iter()
        .filter(|one| one.verb == "delete" && one.uri.contains("/replicationsources/"))
    {
        let uid = one.body.as_ref().map_or("", |body| text(body, "/preconditions/uid"));
        assert!(frozen.contains(uid), "{moment}: {uid} was deleted and is in no frozen set");
    }
    let leases = came.simulator.objects("coordination.k8s.io", "leases", None);
    let held: Vec<_> =
        leases.iter().filter(|lease| text(lease, "/metadata/name") == "salve").collect();
    assert!(
        held.is_empty() || allowed.leased || over.closing.lease.is_some(),
        "{moment}: the Lease is left: {held:?}"
    );
    flux_is_as_it_was(house, came, &allowed.theirs, moment);
    let report = serde_json::to_string(&over.report).unwrap();
    assert_eq!(
        report,
        serde_json::to_string(&Report::of(&entries).unwrap()).unwrap(),
        "{moment}: the report is not what the file says"
    );
    canary::listen(moment, &report).unwrap();
    canary::listen(moment, &String::from_utf8_lossy(&came.written.bytes)).unwrap();
    if over.closing.verdict == Verdict::Fixed {
        assert!(
            came.simulator.locks().is_empty(),
            "{moment}: called fixed with locks held: {:?}",
            came.simulator.locks()
        );
    }
    replay_agrees(house, entries, moment).await;
}

/// The entries of a run file's bytes.
pub fn written(bytes: &[u8]) -> Vec<Entry> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    std::fs::write(&path, bytes).unwrap();
    RunFile::read(Path::new(&path)).unwrap()
}

/// A touch that the file holds. One that lost its first entry with the machine is recorded as settled when it is asked for again.
fn has_writes(entry: &Entry) -> Option<&Effect> {
    match entry {
        Entry::Opened(opened) => Some(&opened.effect),
        Entry::Done(done) => Some(&done.effect),
        _ => None,
    }
}

/// Whether an effect allows a request: its kind of request, its object, its fields. The pods of a restart stand in its entries.
fn covers(effect: &Effect, opened: &[&Opened], one: &Exchange) -> bool {
    let path: Vec<&str> =
        one.uri.split('?').next().unwrap_or_default().trim_start_matches('/').split('/').collect();
    let (group, rest) = match path.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return false,
    };
    let (namespace, resource, name) = match rest {
        ["namespaces", namespace, resource] => (Some(*namespace), *resource, None),
        ["namespaces", namespace, resource, name] => (Some(*namespace), *resource, Some(*name)),
        _ => return false,
    };
    let verb = match one.verb {
        "create" => Verb::Create,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        _ => return false,
    };
    // No namespace is followed by a write.
    let footprint = Footprint::new(effect, vec![]);
    let of_prior = |name: &str| {
        opened.iter().any(|opened| {
            opened.effect == *effect
                && opened.observed.objects.iter().any(|o| text(o, "/metadata/name") == name)
        })
    };
    let known = name.is_none_or(|name| {
        of_prior(name) || effect.targets().iter().any(|target| target.name.as_deref() == Some(name))
    });
    let fields = verb != Verb::Patch
        || one.body.as_ref().is_some_and(|body| footprint.covers_patch(body).is_ok());
    known
        && fields
        && footprint
            .covers(&Asked { verb, group, resource, subresource: None, namespace, name })
            .is_ok()
}

/// Whether this asks an object to reconcile, and nothing else, that the run file says was suspended.
fn asks_to_reconcile(opened: &Opened, one: &Exchange) -> bool {
    let asked = one
        .body
        .as_ref()
        .and_then(|body| body.pointer("/metadata/annotations"))
        .and_then(Value::as_object);
    let only = asked.is_some_and(|all| {
        !all.is_empty() && all.keys().all(|key| key.starts_with("reconcile.fluxcd.io/"))
    });
    let plain = one.body.as_ref().is_some_and(|body| body.get("spec").is_none());
    let Effect::Write(Write::Suspend(suspend)) = &opened.effect else { return false };
    let path = one.uri.split('?').next().unwrap_or_default();
    only && plain
        && suspend.targets.iter().any(|t| {
            path.ends_with(&format!("/namespaces/{}/{}/{}", t.namespace, t.kind.plural(), t.name))
        })
}

fn uids(effect: &Effect) -> Vec<&str> {
    match effect {
        Effect::Write(Write::Delete(delete)) => {
            delete.set.iter().map(|frozen| frozen.uid.as_str()).collect()
        }
        Effect::Write(
            Write::AcquireLease(_)
            | Write::ReleaseLease(_)
            | Write::Suspend(_)
            | Write::Resume(_)
            | Write::Reconcile(_)
            | Write::Recreate(_)
            | Write::Restart(_),
        )
        | Effect::Read(_)
        | Effect::Local(_) => vec![],
    }
}

fn nothing_twice(mutations: &[Exchange], moment: &str) {
    let mut seen = BTreeSet::new();
    let mut once =
        |what: String| assert!(seen.insert(what.clone()), "{moment}: {what} was applied twice");
    let mut held: BTreeMap<&str, bool> = BTreeMap::new();
    let mut restarts = 0;
    let mut reconciled: BTreeMap<&str, &Value> = BTreeMap::new();
    for one in mutations {
        let path = one.uri.split('?').next().unwrap_or_default();
        let body = one.body.as_ref();
        let field = |pointer: &str| body.and_then(|body| body.pointer(pointer));
        if one.verb == "delete" {
            once(format!(
                "delete {path} of {}",
                body.map_or("", |body| text(body, "/preconditions/uid"))
            ));
        }
        if path.contains("/deployments/") {
            restarts += 1;
            assert!(restarts == 1, "{moment}: restarted {restarts} times");
        }
        if let Some(at) = field("/metadata/annotations/reconcile.fluxcd.io~1requestedAt") {
            // The same request once more is the same request: Flux handles a value once.
            let before = reconciled.insert(path, at);
            assert!(
                before.is_none_or(|before| before == at),
                "{moment}: {path} was asked to reconcile twice"
            );
        }
        match field("/metadata/annotations/salve.dev~1run") {
            Some(Value::String(_)) => assert!(
                held.insert(path, true) != Some(true),
                "{moment}: {path} was suspended twice"
            ),
            Some(_) => assert!(
                held.insert(path, false) != Some(false),
                "{moment}: {path} was resumed twice"
            ),
            None => {}
        }
    }
}

fn flux_is_as_it_was(house: &House, came: &Came, theirs: &[String], moment: &str) {
    let over = came.over.as_ref().expect("only a run that was recorded is judged so far");
    let said: BTreeSet<String> =
        over.closing.open.iter().map(|open| open.target.to_string()).collect();
    if !said.is_empty() {
        assert_eq!(over.closing.verdict, Verdict::ActionRequired, "{moment}");
        let told = serde_json::to_string(&over.report).unwrap();
        assert!(
            said.iter().all(|one| told.contains(&format!("{one} is still suspended by this run")))
                && told.contains("flux resume"),
            "{moment}: {told}"
        );
    }
    let before = flux(&house.before);
    for (place, now) in flux(&came.simulator) {
        if said.contains(&place) || theirs.contains(&place) {
            continue;
        }
        assert_eq!(
            Some(&now),
            before.get(&place),
            "{moment}: {place} is not as it was, and nobody says so: {}",
            over.closing.summary
        );
    }
}

/// The same component over the same file, offline: the same end, the same verdict.
async fn replay_agrees(house: &House, entries: Vec<Entry>, moment: &str) {
    let ended = entries.iter().rev().find_map(Entry::ending).cloned();
    let closing = entries.iter().rev().find_map(Entry::verdict).cloned();
    let again = salve::session::replay(house.ready.guest(), entries, None).await.unwrap();
    assert!(again.parts.is_none(), "{moment}: {:?}", again.parts);
    let shown =
        |ending: &dyn std::fmt::Debug| format!("{ending:?}").chars().take(300).collect::<String>();
    assert!(
        Some(&again.ending) == ended.as_ref(),
        "{moment}: the replay ends otherwise: {} and not {}",
        shown(&again.ending),
        shown(&ended)
    );
    assert_eq!(Some(&again.closing), closing.as_ref(), "{moment}: the replay judges otherwise");
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
