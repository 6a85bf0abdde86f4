//! `fixed` is proven by the host's own reads after everything is released. A guest that lies, and a
//! cluster that changes, are a function from reads to answers.

use crate::fixture::*;
use salve_core::capability::query_pods::ListPods;
use salve_core::capability::query_pvcs::{ListPvcs, Phase, Pvc, Waiting};
use salve_core::capability::run::Observed;
use salve_core::capability::tail_logs::{Line, NextPage, Page, Position, Query, Workload};
use salve_core::capability::types::{ObjectRef, Pod};
use salve_core::capability::{Answer, Capability, Effect, Read};
use salve_core::glob::Glob;
use salve_core::grants::{Grant, Grants};
use salve_core::journal::{Entry, Header, Origin, RunResult};
use salve_core::outcome::Error;
use salve_core::problem::{Pattern, Problem};
use salve_core::proof::ProblemStatus;
use salve_core::report::{Concluded, Verdict};
use salve_run::{Clock as _, InMemory, Run};
use serde_json::{Value, json};
use std::sync::Arc;

const LOCKED: &str = "an operation with the given Volume ID pvc-1 already exists";
const MINUTE: u64 = 60_000;

/// Declares problems: `locks` in the log of media/driver, `locked` PVCs, and pods that are
/// `unready`.
fn problems(changes: Value) -> Vec<Problem> {
    let mut all = json!([
        {
            "name": "locks",
            "read": {
                "capability": "tail-logs",
                "namespaces": ["media"],
                "names": ["driver"],
                "containers": ["plugin"],
            },
            "pattern": "already exists",
            "window": "5m",
        },
        {
            "name": "locked",
            "read": {"capability": "query-pvcs", "namespaces": ["media", "ai", "kube-system"]},
            "states": ["csi-locked", "csi-slow"],
            "window": "2m",
        },
        {
            "name": "unready",
            "read": {"capability": "query-pods", "namespaces": ["media"]},
            "states": ["not-ready"],
            "window": "1m",
        },
    ]);
    for problem in all.as_array_mut().unwrap() {
        for (key, value) in changes.as_object().unwrap() {
            problem[key] = value.clone();
        }
    }
    serde_json::from_value(all).unwrap()
}

fn grants() -> Grants {
    let namespaces = || ["media", "ai"].map(|name| Glob::new(name).unwrap()).to_vec();
    let reads = [Capability::TailLogs, Capability::QueryPvcs, Capability::QueryPods];
    let writes = [Capability::SuspendFlux, Capability::RestartDeployment];
    let grant = |capability| Grant { namespaces: namespaces(), ..Grant::whole(capability) };
    Grants {
        layers: vec![layer("policy.yaml", reads.into_iter().chain(writes).map(grant).collect())],
    }
}

fn begin(problems: Vec<Problem>, world: World) -> Fixture {
    let backend = Arc::new(Scripted { world: Some(world), ..Scripted::default() });
    let journal = InMemory::default();
    let context = context(&backend, Box::new(journal.clone()));
    let stop = context.stop.clone();
    let header = Header { grants: grants(), problems, ..header() };
    Fixture { run: Run::begin(context, header).unwrap(), backend, journal, stop }
}

fn log(container: &str, pattern: &str, tail_lines: Option<u32>) -> NextPage {
    let query = Query {
        workload: Workload::deployment(ObjectRef::new("media", "driver")),
        container: container.into(),
        since: None,
        tail_lines,
        limit_bytes: 1024,
        pattern: Some(pattern.into()),
    };
    NextPage { query, after: vec![] }
}

fn page(lines: &[(u64, &str)]) -> Page {
    let line = |(time, text): &(u64, &str)| Line {
        pod: "driver-1".into(),
        time: *time,
        text: (*text).to_owned(),
    };
    Page {
        lines: lines.iter().map(line).collect(),
        pods: vec!["driver-1".into()],
        unreadable: vec![],
        skipped: vec![],
        lines_read: 9,
        more: false,
        newest: None,
        position: vec![Position { pod: "driver-1".into(), timestamp: "t".into(), ordinal: 1 }],
    }
}

/// Returns the page of a log with these lines that a read gets, without paging.
fn page_of(read: &NextPage, lines: &[(u64, &str)]) -> Page {
    let pattern = Pattern::new(read.query.pattern.as_deref().unwrap()).unwrap();
    let is_new = |(time, text): &&(u64, &str)| {
        *time > read.query.since.unwrap_or(0) && pattern.matches(text)
    };
    page(&lines.iter().filter(is_new).copied().collect::<Vec<_>>())
}

fn pvc(uid: &str, waiting: Option<Waiting>) -> Pvc {
    Pvc {
        object: ObjectRef::new("media", "plex"),
        uid: uid.into(),
        created: 0,
        phase: if waiting.is_some() { Phase::Pending } else { Phase::Bound },
        terminating_since: None,
        waiting,
        evidence: None,
        storage_class: None,
        driver: Some("rbd.csi.ceph.com".into()),
        volume: None,
        reclaim_policy: None,
        data_source: None,
        populates: None,
        owner: None,
        finalizers: vec![],
    }
}

fn pod(name: &str, owner: &str, ready: bool) -> Pod {
    Pod {
        namespace: "media".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        phase: "Running".into(),
        ready,
        terminating: false,
        restarts: 0,
        created: 0,
        waiting: None,
        pvcs: vec![],
        owner: Some(owner.into()),
        node: None,
        containers: vec![],
    }
}

fn is_restarted(backend: &Scripted) -> bool {
    backend.has_called("apply restart-deployment.restart")
}

fn is_released(backend: &Scripted) -> bool {
    backend.has_called("release suspend-flux.resume")
}

/// Makes a read and reports it. Returns why it was not accepted.
async fn observe(run: &mut Run, problem: &str, read: Read) -> Result<(), String> {
    match read {
        Read::NextPage(call) => drop(run.call(call).await.unwrap().unwrap()),
        Read::ListPvcs(call) => drop(run.call(call).await.unwrap().unwrap()),
        Read::ListPods(call) => drop(run.call(call).await.unwrap().unwrap()),
        other => unreachable!("{}", other.name()),
    }
    let entry = run.last_entry();
    report(run, problem, entry).await
}

async fn report(run: &mut Run, problem: &str, entry: u64) -> Result<(), String> {
    let answer = run.call(Observed { problem: problem.into(), entry }).await.unwrap();
    answer.map_err(|error| error.text().to_owned())
}

fn list_pvcs() -> ListPvcs {
    ListPvcs { namespaces: vec!["media".into(), "ai".into()] }
}

/// Observes, restarts, suspends, leaves the release to the host, and claims success.
async fn remediate(mut fixture: Fixture, problem: &str, read: Read) -> (RunResult, Vec<Entry>) {
    let observed = observe(&mut fixture.run, problem, read).await;
    assert_eq!(observed, Ok(()));
    fixture.run.call(restart("media")).await.unwrap().unwrap();
    suspend_plex(&mut fixture.run).await;
    let result = fixture.run.finish(concluded(Concluded::Fixed)).await;
    (result, fixture.journal.entries())
}

fn logs(lines: impl Fn(&Scripted) -> Vec<(u64, &'static str)> + Send + Sync + 'static) -> World {
    Box::new(move |read, backend| match read {
        Read::NextPage(read) => Ok(Answer::NextPage(page_of(read, &lines(backend)))),
        other => unreachable!("{}", other.name()),
    })
}

fn pvcs(list: impl Fn(&Scripted) -> Vec<Pvc> + Send + Sync + 'static) -> World {
    Box::new(move |_, backend| Ok(Answer::ListPvcs(list(backend))))
}

fn pods(list: impl Fn(&Scripted) -> Vec<Pod> + Send + Sync + 'static) -> World {
    Box::new(move |_, backend| Ok(Answer::ListPods(list(backend))))
}

/// What the host accepts as an observation. The guest's own pattern, a part of a log, and a part of
/// the namespaces are none.
#[tokio::test]
async fn an_entry_is_an_observation_only_if_it_is_complete_and_shows_the_problem() {
    const STARTED: &str = "listening on unix:///csi/csi.sock";
    let lines = || logs(|_| vec![(10, STARTED), (20, LOCKED)]);
    let only = |namespace: &str| ListPvcs { namespaces: vec![namespace.into()] };
    let locked = || pvcs(|_| vec![pvc("u-1", Some(Waiting::CsiLocked))]);
    let unreadable = || -> World {
        Box::new(|_, _| {
            let unreadable = vec!["driver-2: no response".into()];
            Ok(Answer::NextPage(Page { unreadable, ..page(&[(20, LOCKED)]) }))
        })
    };
    let cases: Vec<(&str, World, Read, Result<(), &str>)> = vec![
        ("locks", lines(), log("plugin", "exists", None).into(), Ok(())),
        ("locks", lines(), log("plugin", "zzz", None).into(), Err("does not show it")),
        ("locks", lines(), log("plugin", "listening", None).into(), Err("does not show it")),
        ("locks", lines(), log("plugin", ".", Some(5)).into(), Err("only the end of the log")),
        ("locks", lines(), log("sidecar", ".", None).into(), Err("container sidecar is not in")),
        ("locks", unreadable(), log("plugin", ".", None).into(), Err("driver-2: no response")),
        ("locked", lines(), log("plugin", ".", None).into(), Err("is not a read of this run by")),
        ("other", lines(), log("plugin", ".", None).into(), Err("no problem \"other\" is decl")),
        // kube-system belongs to the problem, but is not granted.
        ("locked", locked(), list_pvcs().into(), Ok(())),
        ("locked", locked(), only("media").into(), Err("leaves out namespaces of the problem: ai")),
        (
            "locked",
            pvcs(|_| vec![pvc("u-1", Some(Waiting::ForSnapshot)), pvc("u-2", None)]),
            list_pvcs().into(),
            Err("does not show it"),
        ),
        ("unready", pods(|_| vec![]), list_pods().into(), Err("does not show it")),
    ];
    for (problem, world, read, expected) in cases {
        let mut fixture = begin(problems(json!({})), world);
        let case = format!("{problem}: {read:?}");
        match (observe(&mut fixture.run, problem, read).await, expected) {
            (Ok(()), Ok(())) => {}
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{case}: {why}"),
            (observed, _) => panic!("{case}: {observed:?}"),
        }
        // The report is in the journal, with its outcome.
        let is_report = |entry: &Entry| {
            matches!(entry, Entry::Done(done) if done.effect.name() == "run.observed"
                && done.outcome.ok().is_some() == expected.is_ok())
        };
        assert!(fixture.journal.entries().last().is_some_and(is_report), "{case}");
    }
}

/// Returns page `n` of five; only the last one has a lock.
fn fifth_page(read: &Read, _: &Scripted) -> Result<Answer, Error> {
    let Read::NextPage(read) = read else { unreachable!() };
    let ordinal = read.after.first().map_or(0, |position| position.ordinal) + 1;
    let lines: &[_] = if ordinal == 5 { &[(20, LOCKED)] } else { &[] };
    let position = vec![Position { pod: "driver-1".into(), timestamp: "t".into(), ordinal }];
    Ok(Answer::NextPage(Page { more: ordinal < 5, position, ..page(lines) }))
}

#[tokio::test]
async fn only_the_last_page_of_a_log_that_was_read_from_its_first_page_is_an_observation() {
    let mut fixture = begin(problems(json!({})), Box::new(fifth_page));
    let mut read = log("plugin", ".", None);
    for page in 1..=5 {
        let answer = fixture.run.call(read.clone()).await.unwrap().unwrap();
        let entry = fixture.run.last_entry();
        let reported = report(&mut fixture.run, "locks", entry).await;
        assert_eq!(reported.is_ok(), page == 5, "page {page}: {reported:?}");
        read.after = answer.position;
    }
    // A guest that starts in the middle.
    let mut fixture = begin(problems(json!({})), Box::new(fifth_page));
    let after = vec![Position { pod: "driver-1".into(), timestamp: "t".into(), ordinal: 4 }];
    let read = NextPage { after, ..log("plugin", ".", None) };
    let reported = observe(&mut fixture.run, "locks", read.into()).await.unwrap_err();
    assert!(reported.contains("the pages before it were not read"), "{reported}");
}

#[tokio::test]
async fn a_problem_must_be_reported_before_the_first_write() {
    let mut fixture = begin(problems(json!({})), logs(|_| vec![(20, LOCKED)]));
    fixture.run.call(log("plugin", ".", None)).await.unwrap().unwrap();
    let entry = fixture.run.last_entry();
    fixture.run.call(restart("media")).await.unwrap().unwrap();
    let reported = report(&mut fixture.run, "locks", entry).await.unwrap_err();
    assert!(reported.contains("before the first write"), "{reported}");
    let reported = report(&mut fixture.run, "locks", 99).await.unwrap_err();
    assert!(reported.contains("before the first write"), "{reported}");
}

/// Attacks and accidents after an accepted observation, each with the verdict.
#[tokio::test]
async fn the_verdict_follows_from_the_hosts_own_reads_after_the_release() {
    let gone = |cleared_by: &str| problems(json!({"clearedBy": cleared_by}));
    let healthy = || problems(json!({}));
    let driver = || Read::from(log("plugin", ".", None));
    let fixed_by_restart = |backend: &Scripted| {
        if is_restarted(backend) { vec![] } else { vec![(20, LOCKED)] }
    };
    let locked = |uid, backend: &Scripted| {
        vec![pvc(uid, (!is_restarted(backend)).then_some(Waiting::CsiLocked))]
    };
    type Case = (&'static str, Vec<Problem>, &'static str, World, Read, Verdict, &'static str);
    let cases: Vec<Case> = vec![
        ("fixed", healthy(), "locks", logs(fixed_by_restart), driver(), Verdict::Fixed, "summary"),
        (
            "the line comes back within the window, after the first request has timed out",
            healthy(),
            "locks",
            logs(|backend| match is_restarted(backend) {
                false => vec![(20, LOCKED)],
                true => vec![(4 * MINUTE, LOCKED)]
                    .into_iter()
                    .filter(|_| backend.clock.now() > 4 * MINUTE)
                    .collect(),
            }),
            driver(),
            Verdict::NotFixed,
            "locks: Deployment media/driver logged",
        ),
        (
            "the line comes back when everything is released",
            healthy(),
            "locks",
            logs(|backend| match (is_restarted(backend), is_released(backend)) {
                (true, false) => vec![],
                (false, _) | (true, true) => vec![(u64::MAX, LOCKED)],
            }),
            driver(),
            Verdict::NotFixed,
            "already exists",
        ),
        (
            "scaled to zero: no pod has a log",
            healthy(),
            "locks",
            Box::new(|read, backend| {
                let Read::NextPage(read) = read else { unreachable!() };
                let lines = if is_restarted(backend) { vec![] } else { vec![(20, LOCKED)] };
                let pods = if lines.is_empty() { vec![] } else { vec!["driver-1".into()] };
                Ok(Answer::NextPage(Page { pods, ..page_of(read, &lines) }))
            }),
            driver(),
            Verdict::Unverified,
            "Deployment media/driver is gone, which proves nothing",
        ),
        (
            "one pod cannot be read",
            healthy(),
            "locks",
            Box::new(|read, backend| {
                let Read::NextPage(read) = read else { unreachable!() };
                let lines = if is_restarted(backend) { vec![] } else { vec![(20, LOCKED)] };
                let unreadable =
                    if lines.is_empty() { vec!["driver-2: no response".into()] } else { vec![] };
                Ok(Answer::NextPage(Page { unreadable, ..page_of(read, &lines) }))
            }),
            driver(),
            Verdict::Unverified,
            "driver-2: no response",
        ),
        (
            "the API server is gone",
            healthy(),
            "locks",
            Box::new(|read, backend| {
                let Read::NextPage(read) = read else { unreachable!() };
                if is_restarted(backend) {
                    return Err(Error::Unavailable("connection refused".into()));
                }
                Ok(Answer::NextPage(page_of(read, &[(20, LOCKED)])))
            }),
            driver(),
            Verdict::Unverified,
            "connection refused",
        ),
        (
            "bound",
            healthy(),
            "locked",
            pvcs(move |backend| locked("u-1", backend)),
            list_pvcs().into(),
            Verdict::Fixed,
            "summary",
        ),
        (
            "deleted",
            healthy(),
            "locked",
            pvcs(
                move |backend| if is_restarted(backend) { vec![] } else { locked("u-1", backend) },
            ),
            list_pvcs().into(),
            Verdict::Unverified,
            "PVC media/plex is gone, which proves nothing",
        ),
        (
            "deleted, and that is enough",
            gone("HealthyOrGone"),
            "locked",
            pvcs(
                move |backend| if is_restarted(backend) { vec![] } else { locked("u-1", backend) },
            ),
            list_pvcs().into(),
            Verdict::Fixed,
            "summary",
        ),
        (
            "healthy, but it should be deleted",
            gone("Gone"),
            "locked",
            pvcs(move |backend| locked("u-1", backend)),
            list_pvcs().into(),
            Verdict::NotFixed,
            "PVC media/plex still exists",
        ),
        (
            "recreated under the same name",
            healthy(),
            "locked",
            pvcs(move |backend| locked(if is_restarted(backend) { "u-2" } else { "u-1" }, backend)),
            list_pvcs().into(),
            Verdict::Unverified,
            "PVC media/plex is gone, which proves nothing",
        ),
        (
            "the event that explained it has expired",
            healthy(),
            "locked",
            pvcs(|backend| {
                let waiting =
                    if is_restarted(backend) { Waiting::Unknown } else { Waiting::CsiLocked };
                vec![pvc("u-1", Some(waiting))]
            }),
            list_pvcs().into(),
            Verdict::Unverified,
            "PVC media/plex is Pending, and no event says why",
        ),
        (
            "another one is locked now",
            healthy(),
            "locked",
            pvcs(move |backend| {
                let mut all = locked("u-1", backend);
                if is_restarted(backend) {
                    all.push(pvc("u-3", Some(Waiting::CsiSlow)));
                }
                all
            }),
            list_pvcs().into(),
            Verdict::NotFixed,
            "locked: PVC media/plex is csi-slow",
        ),
        (
            "clear at first, locked again before the window has passed",
            healthy(),
            "locked",
            pvcs(|backend| {
                let is_clear = is_restarted(backend) && backend.clock.now() < MINUTE;
                vec![pvc("u-1", (!is_clear).then_some(Waiting::CsiLocked))]
            }),
            list_pvcs().into(),
            Verdict::NotFixed,
            "csi-locked",
        ),
        (
            "slow to recover",
            healthy(),
            "locked",
            pvcs(|backend| {
                let is_clear = is_restarted(backend) && backend.clock.now() > MINUTE;
                vec![pvc("u-1", (!is_clear).then_some(Waiting::CsiLocked))]
            }),
            list_pvcs().into(),
            Verdict::Fixed,
            "summary",
        ),
        (
            "replaced by a pod of the next ReplicaSet",
            healthy(),
            "unready",
            pods(|backend| match is_restarted(backend) {
                false => vec![pod("web-1-a", "ReplicaSet/web-1", false)],
                true => vec![pod("web-2-b", "ReplicaSet/web-2", true)],
            }),
            list_pods().into(),
            Verdict::Fixed,
            "summary",
        ),
        (
            "replaced by no pod",
            healthy(),
            "unready",
            pods(|backend| match is_restarted(backend) {
                false => vec![pod("web-1-a", "ReplicaSet/web-1", false)],
                true => vec![pod("db-0", "StatefulSet/db", true)],
            }),
            list_pods().into(),
            Verdict::Unverified,
            "pod media/web-1-a is gone, which proves nothing",
        ),
    ];
    for (case, problems, problem, world, read, verdict, expected) in cases {
        let (result, entries) = remediate(begin(problems, world), problem, read).await;
        assert_eq!(result.verdict, verdict, "{case}: {}", result.summary);
        assert!(result.summary.contains(expected), "{case}: {}", result.summary);
        let status = match verdict {
            Verdict::Fixed | Verdict::ResolvedElsewhere => ProblemStatus::Cleared,
            Verdict::NotFixed => ProblemStatus::Remains,
            _ => ProblemStatus::Unverified,
        };
        let worst = result.problems.iter().map(|problem| problem.status).max();
        assert_eq!(worst, Some(status), "{case}: {:?}", result.problems);
        // A replay has the same result, by the journal alone.
        let replayed = Run::replay(entries, None).unwrap().result(&concluded(Concluded::Fixed));
        assert_eq!((replayed.verdict, replayed.summary), (verdict, result.summary), "{case}");
        assert_eq!(replayed.problems, result.problems, "{case}");
    }
}

/// Neither the guest nor its configuration can shorten the window.
#[tokio::test]
async fn the_host_reads_until_the_window_of_the_document_has_passed() {
    let fixed = logs(|backend| if is_restarted(backend) { vec![] } else { vec![(20, LOCKED)] });
    let (result, entries) =
        remediate(begin(problems(json!({})), fixed), "locks", log("plugin", ".", None).into())
            .await;
    assert_eq!(result.verdict, Verdict::Fixed, "{}", result.summary);
    let released = entries.iter().rposition(|entry| matches!(entry, Entry::Closed(_))).unwrap();
    let Entry::Closed(last_change) = &entries[released] else { unreachable!() };
    let reads: Vec<_> = entries[released..]
        .iter()
        .filter_map(|entry| match entry {
            Entry::Done(done) if done.origin == Origin::Host => Some(done),
            _ => None,
        })
        .filter_map(|done| match &done.effect {
            Effect::Read(Read::NextPage(read)) => Some((done.at, read.query.clone())),
            _ => None,
        })
        .collect();
    assert!(reads.len() > 5, "{}", reads.len());
    let (at, query) = reads.last().unwrap();
    assert!(at - last_change.at >= 5 * MINUTE, "from {} to {at}", last_change.at);
    let from = Some(last_change.at);
    assert_eq!((query.pattern.as_deref(), query.since), (Some("already exists"), from));
}

#[tokio::test]
async fn a_run_that_wrote_nothing_did_not_fix_it() {
    let world =
        logs(|backend| if backend.clock.now() > MINUTE { vec![] } else { vec![(20, LOCKED)] });
    let mut fixture = begin(problems(json!({})), world);
    let read = log("plugin", ".", None);
    assert_eq!(observe(&mut fixture.run, "locks", read.into()).await, Ok(()));
    // Denied: it was not sent.
    assert!(fixture.run.call(restart("kube-system")).await.unwrap().is_err());
    fixture.backend.clock.advance(std::time::Duration::from_secs(120));
    let result = fixture.run.finish(concluded(Concluded::Fixed)).await;
    assert_eq!(result.verdict, Verdict::ResolvedElsewhere, "{}", result.summary);
    assert_eq!(result.exit_code(), 0);
}

#[tokio::test]
async fn without_a_declared_and_observed_problem_nothing_is_verified() {
    for (problems, expected) in [
        (vec![], "the documents declare no problem"),
        (
            problems(json!({})),
            "the guest observed no declared problem before its first write (declared: locks, locked, unready)",
        ),
    ] {
        let mut fixture = begin(problems, pods(|_| vec![]));
        fixture.run.call(restart("media")).await.unwrap().unwrap();
        fixture.run.call(ListPods { namespaces: vec!["media".into()] }).await.unwrap().unwrap();
        let result = fixture.run.finish(concluded(Concluded::Fixed)).await;
        assert_eq!((result.verdict, result.exit_code()), (Verdict::Unverified, 7));
        assert!(result.summary.contains(expected), "{}", result.summary);
    }
}

/// The guest's claim is necessary: the host does not read for one that gave up.
#[tokio::test]
async fn a_guest_that_does_not_claim_success_is_not_verified() {
    let mut fixture = begin(problems(json!({})), logs(|_| vec![(20, LOCKED)]));
    let read = log("plugin", ".", None);
    assert_eq!(observe(&mut fixture.run, "locks", read.into()).await, Ok(()));
    fixture.run.call(restart("media")).await.unwrap().unwrap();
    let before = fixture.backend.calls.lock().unwrap().len();
    let backend = fixture.backend.clone();
    assert_eq!(fixture.run.finish(not_fixed()).await.verdict, Verdict::NotFixed);
    assert_eq!(backend.calls.lock().unwrap().len(), before);
}

/// A process that dies while the host verifies: the next one verifies again.
#[tokio::test]
async fn a_recovered_run_verifies_again() {
    let fixed = || logs(|backend| if is_restarted(backend) { vec![] } else { vec![(20, LOCKED)] });
    let (_, entries) =
        remediate(begin(problems(json!({})), fixed()), "locks", log("plugin", ".", None).into())
            .await;
    let exited = entries.iter().position(|entry| entry.guest_exit().is_some()).unwrap();
    for end in [exited + 1, entries.len() - 4, entries.len() - 1] {
        let backend = Scripted { world: Some(logs(|_| vec![])), ..Scripted::default() };
        backend.clock.advance(std::time::Duration::from_secs(3600));
        let fixture = recovered(entries[..end].to_vec(), backend, grants());
        let result = fixture.run.finish(concluded(Concluded::Fixed)).await;
        assert_eq!(result.verdict, Verdict::Fixed, "{end}: {}", result.summary);
        let backend =
            Scripted { world: Some(logs(|_| vec![(u64::MAX, LOCKED)])), ..Scripted::default() };
        let fixture = recovered(entries[..end].to_vec(), backend, grants());
        let result = fixture.run.finish(concluded(Concluded::Fixed)).await;
        assert_eq!(result.verdict, Verdict::NotFixed, "{end}: {}", result.summary);
    }
}

#[tokio::test]
async fn an_interrupted_verification_proves_nothing() {
    let world = logs(|backend| if is_restarted(backend) { vec![] } else { vec![(20, LOCKED)] });
    let mut fixture = begin(problems(json!({})), world);
    let read = log("plugin", ".", None);
    assert_eq!(observe(&mut fixture.run, "locks", read.into()).await, Ok(()));
    fixture.run.call(restart("media")).await.unwrap().unwrap();
    fixture.stop.request();
    let result = fixture.run.finish(concluded(Concluded::Fixed)).await;
    assert_eq!(result.verdict, Verdict::Unverified, "{}", result.summary);
    assert!(
        result.summary.contains("it was not watched for its whole window of 5m"),
        "{}",
        result.summary
    );
}
