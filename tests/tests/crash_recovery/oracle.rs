//! Invariants that hold however a run ended. They are checked against the API server's log of
//! requests and the run file, not against what the run reports about itself.

use crate::fixture::{EndState, Fixture};
use salve_core::capability::{Effect, Function, Write};
use salve_core::footprint::{Asked, Footprint, Verb};
use salve_core::journal::{Entry, Opened};
use salve_core::report::{ReportBuilder, Verdict};
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

/// Returns `spec.suspend` (null if absent) and the `salve.dev/` annotations of each Flux object.
pub fn flux_state(simulator: &Simulator) -> BTreeMap<String, (Value, Vec<String>)> {
    let objects = FLUX.iter().flat_map(|(group, plural)| simulator.objects(group, plural, None));
    objects
        .map(|object| {
            let run_annotations = object["metadata"]["annotations"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, _)| key.clone())
                .filter(|key| key.starts_with("salve.dev/"))
                .collect();
            let name = format!(
                "{} {}/{}",
                text(&object, "/kind"),
                text(&object, "/metadata/namespace"),
                text(&object, "/metadata/name")
            );
            (name, (object["spec"].get("suspend").cloned().unwrap_or_default(), run_annotations))
        })
        .collect()
}

/// The user agent of requests by another user.
pub const OTHER_USER: &str = "other-user";

/// Deviations that a scenario allows.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Flux objects that another user changed.
    pub changed_by_others: Vec<String>,
    /// A machine crashed, so lines that were not synced are lost. Only releases and reconcile
    /// requests may be missing then, because they follow from synced lines.
    pub lost_lines: bool,
    /// A crashed process requested the Lease, and the request arrived after the recovery ended.
    pub late_lease: bool,
}

/// Checks all invariants. Panics with `context` if one is violated.
pub async fn check(fixture: &Fixture, end: &EndState, allowed: &Allowed, context: &str) {
    let by_run = |exchange: &Exchange| {
        exchange.applied && exchange.user_agent.as_deref() != Some(OTHER_USER)
    };
    let writes: Vec<Exchange> = end.simulator.mutations().into_iter().filter(by_run).collect();
    let Some(finished) = &end.finished else {
        assert!(writes.is_empty(), "{context}: sent although nothing is recorded: {writes:#?}");
        return;
    };
    let entries = read_entries(&end.disk.bytes);
    let opened: Vec<&Opened> = entries.iter().filter_map(Entry::opened).collect();
    let recorded: Vec<&Effect> = entries.iter().filter_map(recorded_write).collect();
    let may_be_lost = |exchange: &Exchange| {
        allowed.lost_lines && opened.iter().any(|opened| is_reconcile_request(opened, exchange))
    };
    for exchange in writes.iter().filter(|exchange| !may_be_lost(exchange)) {
        assert!(
            recorded.iter().any(|effect| covers(effect, &opened, exchange)),
            "{context}: no entry of the run file covers {} {}",
            exchange.method,
            exchange.uri
        );
    }
    check_nothing_applied_twice(&writes, context);
    let targets: BTreeSet<&str> =
        opened.iter().flat_map(|opened| deletion_uids(&opened.effect)).collect();
    for exchange in writes.iter().filter(|exchange| {
        exchange.verb == "delete" && exchange.uri.contains("/replicationsources/")
    }) {
        let uid = exchange.body.as_ref().map_or("", |body| text(body, "/preconditions/uid"));
        assert!(targets.contains(uid), "{context}: {uid} was deleted but is not a deletion target");
    }
    let leases = end.simulator.objects("coordination.k8s.io", "leases", None);
    let cluster_locks: Vec<_> =
        leases.iter().filter(|lease| text(lease, "/metadata/name") == "salve").collect();
    let reported = finished.result.open.iter();
    let lease_reported =
        reported.map(|open| open.reversal.function()).any(|open| open == Function::ReleaseLease);
    assert!(
        cluster_locks.is_empty() || allowed.late_lease || lease_reported,
        "{context}: the Lease was not released: {cluster_locks:?}"
    );
    check_flux_restored(fixture, end, &allowed.changed_by_others, context);
    let report = serde_json::to_string(&finished.report).unwrap();
    assert_eq!(
        report,
        serde_json::to_string(ReportBuilder::of(&entries).unwrap().report()).unwrap(),
        "{context}: the report differs from the run file"
    );
    canary::ensure_none_in(context, &report).unwrap();
    canary::ensure_none_in(context, &String::from_utf8_lossy(&end.disk.bytes)).unwrap();
    if finished.result.verdict == Verdict::Fixed {
        assert!(
            end.simulator.locks().is_empty(),
            "{context}: reported as fixed, but volumes are locked: {:?}",
            end.simulator.locks()
        );
    }
    check_replay(fixture, entries, context).await;
}

/// Reads the entries of a run file from its bytes.
pub fn read_entries(bytes: &[u8]) -> Vec<Entry> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    std::fs::write(&path, bytes).unwrap();
    RunFile::read(Path::new(&path)).unwrap()
}

/// Returns the effect of an entry that records a write. A write whose first entry was lost with the
/// machine is recorded as done when the recovery requests it again.
fn recorded_write(entry: &Entry) -> Option<&Effect> {
    match entry {
        Entry::Opened(opened) => Some(&opened.effect),
        Entry::Done(done) => Some(&done.effect),
        Entry::Header(_)
        | Entry::Approved(_)
        | Entry::Recovery(_)
        | Entry::Closed(_)
        | Entry::Planned(_)
        | Entry::GuestExited(_)
        | Entry::Verdict(_) => None,
    }
}

/// Returns whether an effect allows a request: its verb, object, and fields. The pods of a restart
/// are named in its entries.
fn covers(effect: &Effect, opened: &[&Opened], exchange: &Exchange) -> bool {
    let path = exchange.uri.split('?').next().unwrap_or_default();
    let path: Vec<&str> = path.trim_start_matches('/').split('/').collect();
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
    let verb = match exchange.verb {
        "create" => Verb::Create,
        "patch" => Verb::Patch,
        "delete" => Verb::Delete,
        _ => return false,
    };
    // The footprint of a write contains no namespaces that were discovered at run time.
    let footprint = Footprint::new(effect, vec![]);
    let is_observed = |name: &str| {
        opened.iter().any(|opened| {
            opened.effect == *effect
                && opened.observed.objects.iter().any(|o| text(o, "/metadata/name") == name)
        })
    };
    let object_covered = name.is_none_or(|name| {
        is_observed(name)
            || effect.targets().iter().any(|target| target.name.as_deref() == Some(name))
    });
    let fields_covered = verb != Verb::Patch
        || exchange.body.as_ref().is_some_and(|body| footprint.covers_patch(body).is_ok());
    object_covered
        && fields_covered
        && footprint
            .covers(&Asked { verb, group, resource, subresource: None, namespace, name })
            .is_ok()
}

/// Returns whether a request only requests the reconciliation of an object that was suspended
/// according to the run file.
fn is_reconcile_request(opened: &Opened, exchange: &Exchange) -> bool {
    let annotations = exchange
        .body
        .as_ref()
        .and_then(|body| body.pointer("/metadata/annotations"))
        .and_then(Value::as_object);
    let only_reconcile_annotations = annotations.is_some_and(|all| {
        !all.is_empty() && all.keys().all(|key| key.starts_with("reconcile.fluxcd.io/"))
    });
    let no_spec = exchange.body.as_ref().is_some_and(|body| body.get("spec").is_none());
    let Effect::Write(Write::Suspend(suspend)) = &opened.effect else { return false };
    let path = exchange.uri.split('?').next().unwrap_or_default();
    only_reconcile_annotations
        && no_spec
        && suspend.targets.iter().any(|t| {
            path.ends_with(&format!("/namespaces/{}/{}/{}", t.namespace, t.kind.plural(), t.name))
        })
}

fn deletion_uids(effect: &Effect) -> Vec<&str> {
    let Effect::Write(Write::Delete(delete)) = effect else { return vec![] };
    delete.set.iter().map(|target| target.uid.as_str()).collect()
}

fn check_nothing_applied_twice(writes: &[Exchange], context: &str) {
    let mut deletions = BTreeSet::new();
    let mut suspended: BTreeMap<&str, bool> = BTreeMap::new();
    let mut restarts = 0;
    let mut reconcile_requests: BTreeMap<&str, &Value> = BTreeMap::new();
    for exchange in writes {
        let path = exchange.uri.split('?').next().unwrap_or_default();
        let body = exchange.body.as_ref();
        let field = |pointer: &str| body.and_then(|body| body.pointer(pointer));
        if exchange.verb == "delete" {
            let uid = body.map_or("", |body| text(body, "/preconditions/uid"));
            assert!(deletions.insert((path, uid)), "{context}: {path} ({uid}) was deleted twice");
        }
        if path.contains("/deployments/") {
            restarts += 1;
            assert!(restarts == 1, "{context}: restarted {restarts} times");
        }
        if let Some(value) = field("/metadata/annotations/reconcile.fluxcd.io~1requestedAt") {
            // Flux handles a value once, so the same value is the same request.
            let previous = reconcile_requests.insert(path, value);
            assert!(
                previous.is_none_or(|previous| previous == value),
                "{context}: reconciliation of {path} was requested twice"
            );
        }
        match field("/metadata/annotations/salve.dev~1run") {
            Some(Value::String(_)) => assert!(
                suspended.insert(path, true) != Some(true),
                "{context}: {path} was suspended twice"
            ),
            Some(_) => assert!(
                suspended.insert(path, false) != Some(false),
                "{context}: {path} was resumed twice"
            ),
            None => {}
        }
    }
}

fn check_flux_restored(
    fixture: &Fixture,
    end: &EndState,
    changed_by_others: &[String],
    context: &str,
) {
    let finished = end.finished.as_ref().expect("the caller checked that the run is recorded");
    let open = &finished.result.open;
    let targets = open.iter().flat_map(|open| open.reversal.targets());
    let reported: BTreeSet<String> = targets.map(|target| target.to_string()).collect();
    if !open.is_empty() {
        assert_eq!(finished.result.verdict, Verdict::ActionRequired, "{context}");
        let report = serde_json::to_string(&finished.report).unwrap();
        for open in open {
            let still_active = open.reversal.still_active(open.in_doubt);
            let commands = open.reversal.commands();
            assert!(
                report.contains(&still_active) && commands.iter().all(|line| report.contains(line)),
                "{context}: {still_active} {commands:?}: {report}"
            );
        }
    }
    let initial = flux_state(&fixture.initial);
    for (name, state) in flux_state(&end.simulator) {
        if reported.contains(&name) || changed_by_others.contains(&name) {
            continue;
        }
        assert_eq!(
            Some(&state),
            initial.get(&name),
            "{context}: {name} was not restored, and the report does not say so: {}",
            finished.result.summary
        );
    }
}

/// Checks that an offline replay of the file with the same component has the same result.
async fn check_replay(fixture: &Fixture, entries: Vec<Entry>, context: &str) {
    let exit = entries.iter().rev().find_map(Entry::guest_exit).cloned();
    let result = entries.iter().rev().find_map(Entry::verdict).cloned();
    let replayed = salve::session::replay(fixture.prepared.guest(), entries, None).await.unwrap();
    assert!(replayed.divergence.is_none(), "{context}: {:?}", replayed.divergence);
    let shortened =
        |exit: &dyn std::fmt::Debug| format!("{exit:?}").chars().take(300).collect::<String>();
    assert!(
        Some(&replayed.exit) == exit.as_ref(),
        "{context}: the guest's exit differs in the replay: {} instead of {}",
        shortened(&replayed.exit),
        shortened(&exit)
    );
    assert_eq!(
        Some(&replayed.result),
        result.as_ref(),
        "{context}: the result differs in the replay"
    );
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
