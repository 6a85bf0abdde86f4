//! The guarantees of a run, tested with a scripted backend.

mod approvals;
mod cluster_lock;
mod conditions;
mod deadline;
mod fixture;
mod prompts;
mod proofs;
mod recovery;
mod reversals;

use fixture::*;
use salve_core::capability::delete_replicationsources::DeletionOutcome;
use salve_core::capability::query_pods::ListPods;
use salve_core::capability::run::{Level, Note, Sleep};
use salve_core::capability::{Answer, Effect, Write};
use salve_core::journal::{Entry, Failure, GuestExit, Recorded};
use salve_core::outcome::{Error, Fault};
use salve_core::report::{Concluded, Verdict};
use salve_run::{ApplyOutcome, Halt, Journal, Mode, Observer, Run};
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn a_denial_is_recorded_and_returned_and_nothing_is_sent() {
    let mut fixture = live([]);
    let answer = fixture.run.call(restart("kube-system")).await.unwrap();
    assert!(matches!(answer, Err(Error::Denied(_))));
    assert!(fixture.calls().is_empty());
    let entries = fixture.journal.entries();
    assert!(matches!(entries.last(), Some(Entry::Done(done)) if done.denial.is_some()));
}

#[tokio::test]
async fn invalid_names_are_rejected_before_anything_is_sent() {
    let mut fixture = live([]);
    for namespace in ["media/../kube-system", "media%2f", "", "me\0dia"] {
        let call = ListPods { namespaces: vec![namespace.into()] };
        let answer = fixture.run.call(call).await.unwrap();
        assert!(matches!(answer, Err(Error::Invalid(_))), "{namespace:?}");
    }
    assert!(fixture.calls().is_empty());
}

/// A journal that logs writes and syncs among the calls of the backend.
struct Interleaved(Arc<Scripted>);

impl Interleaved {
    fn log(&self, what: &str) {
        self.0.calls.lock().unwrap().push(what.into());
    }
}

impl Journal for Interleaved {
    fn append(&mut self, entry: &Entry) -> std::io::Result<()> {
        match entry {
            Entry::Opened(_) => self.log("opened"),
            Entry::Closed(_) => self.log("closed"),
            _ => {}
        }
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.log("sync");
        Ok(())
    }
}

#[tokio::test]
async fn a_write_is_sent_only_after_its_entry_is_on_disk() {
    let backend = Arc::new(Scripted::default());
    let journal = Box::new(Interleaved(backend.clone()));
    let mut run = Run::begin(context(&backend, journal), header()).unwrap();
    run.call(restart("media")).await.unwrap().unwrap();
    let name = "restart-deployment.restart";
    assert_eq!(
        *backend.calls.lock().unwrap(),
        [&format!("read-current {name}"), "opened", "sync", &format!("apply {name}"), "closed"]
    );
}

/// A disk with room for a number of entries.
struct Full(usize);

impl Journal for Full {
    fn append(&mut self, _: &Entry) -> std::io::Result<()> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| std::io::Error::other("disk full"))?;
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        if self.0 == 0 { Err(std::io::Error::other("disk full")) } else { Ok(()) }
    }
}

/// The entry of the restart is the fifth: it is not appended, or not synced.
#[tokio::test]
async fn a_full_disk_prevents_the_next_write_but_not_the_release() {
    for room in [4, 5] {
        let backend = Arc::new(Scripted::default());
        let mut run = Run::begin(context(&backend, Box::new(Full(room))), header()).unwrap();
        suspend_plex(&mut run).await;
        let halt = run.call(restart("media")).await.unwrap_err();
        assert!(matches!(&halt, Halt::Broken(text) if text.contains("disk full")), "{halt}");
        let failure = Failure { fault: Fault::Host, text: halt.to_string() };
        let result = run.finish(GuestExit::Failed(failure)).await;
        assert_eq!(result.verdict, Verdict::Failed(Fault::Host));
        let calls = backend.calls.lock().unwrap();
        assert!(!calls.contains(&"apply restart-deployment.restart".to_owned()));
        assert!(calls.contains(&"release suspend-flux.resume".to_owned()));
    }
}

/// Fails the disk at every entry in turn: what is suspended is released, and nothing is reported as
/// done that is not in the file.
#[tokio::test]
async fn a_run_whose_verdict_is_not_on_disk_is_not_a_success() {
    let mut room = 1;
    loop {
        let backend = Arc::new(Scripted::default());
        let mut run = Run::begin(context(&backend, Box::new(Full(room))), header()).unwrap();
        let calls = async {
            run.call_reversible(suspend(&["plex"])).await?.unwrap();
            run.call(restart("media")).await?.unwrap();
            Ok::<_, Halt>(concluded(Concluded::NothingToDo))
        };
        let exit = calls.await.unwrap_or_else(|halt| {
            GuestExit::Failed(Failure { fault: Fault::Host, text: halt.to_string() })
        });
        let result = run.finish(exit).await;
        let calls = backend.calls.lock().unwrap();
        let has_called = |call: &str| calls.contains(&call.to_owned());
        assert!(
            !has_called("apply suspend-flux.suspend") || has_called("release suspend-flux.resume"),
            "room for {room}: {calls:?}"
        );
        assert!(result.open.is_empty(), "room for {room}: {:?}", result.open);
        if result.verdict == Verdict::NothingToDo {
            break;
        }
        let expected = Verdict::Failed(Fault::Host);
        assert_eq!(result.verdict, expected, "room for {room}: {}", result.summary);
        assert!(result.summary.contains("disk full"), "{}", result.summary);
        room += 1;
    }
    assert!(room > 10, "the disk failed {room} times");
}

#[tokio::test]
async fn each_attempt_after_a_conflict_is_prepared_again_and_recorded() {
    let again = || conflict(None, Write::Restart(restart("media")));
    let mut fixture = live([again(), again()]);
    fixture.run.call(restart("media")).await.unwrap().unwrap();
    let entries = fixture.journal.entries();
    let attempts: Vec<_> =
        entries.iter().filter_map(Entry::opened).map(|o| (o.n, o.attempt)).collect();
    // Entry 1 is the cluster lock.
    assert_eq!(attempts, [(2, 1), (2, 2), (2, 3)]);
    let reads = |call: &&String| *call == "read-current restart-deployment.restart";
    assert_eq!(fixture.calls().iter().filter(reads).count(), 3);
}

#[tokio::test]
async fn after_five_conflicts_a_write_fails_with_the_last_one() {
    let again = || conflict(None, Write::Restart(restart("media")));
    let mut fixture = live(std::iter::repeat_with(again).take(5));
    let answer = fixture.run.call(restart("media")).await.unwrap();
    assert_eq!(answer, Err(Error::Conflict("it was not applied".into())));
    let applies = |call: &&String| *call == "apply restart-deployment.restart";
    assert_eq!(fixture.calls().iter().filter(applies).count(), 5);
}

#[tokio::test]
async fn a_partly_deleted_set_has_one_result_per_object_in_order() {
    let completed = Answer::Delete(vec![deletion(&deletion_target("b"), DeletionOutcome::Deleted)]);
    let part = conflict(Some(completed), Write::Delete(delete(&["a", "c"])));
    let rest = Answer::Delete(vec![deletion(&deletion_target("c"), DeletionOutcome::Changed)]);
    let mut fixture = live([part, ApplyOutcome::Done(Ok(rest))]);
    let answer = fixture.run.call(delete(&["a", "b", "c"])).await.unwrap().unwrap();
    let outcomes: Vec<_> = answer.iter().map(|d| (d.object.name.as_str(), d.outcome)).collect();
    assert_eq!(
        outcomes,
        [
            ("a", DeletionOutcome::Rejected),
            ("b", DeletionOutcome::Deleted),
            ("c", DeletionOutcome::Changed)
        ]
    );
}

#[tokio::test]
async fn parts_of_three_attempts_are_combined() {
    let part = |done: &str, remaining: &[&str]| {
        let completed =
            Answer::Delete(vec![deletion(&deletion_target(done), DeletionOutcome::Deleted)]);
        conflict(Some(completed), Write::Delete(delete(remaining)))
    };
    let mut fixture = live([part("c", &["a", "b"]), part("b", &["a"])]);
    let answer = fixture.run.call(delete(&["a", "b", "c"])).await.unwrap().unwrap();
    let outcomes: Vec<_> = answer.iter().map(|d| (d.object.name.as_str(), d.outcome)).collect();
    assert_eq!(outcomes, ["a", "b", "c"].map(|name| (name, DeletionOutcome::Deleted)));
}

#[tokio::test]
async fn a_plan_sends_no_write_and_ends_at_the_first_wait_after_one() {
    let mut fixture = fixture(Mode::Plan, Scripted::default());
    fixture.run.call(Sleep { milliseconds: 10 }).await.unwrap().unwrap();
    let handle = suspend_plex(&mut fixture.run).await;
    fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
    assert_eq!(open(&fixture.run), ["plex"], "a plan lists what it would release");
    fixture.run.release(handle).await.unwrap().unwrap();
    let halt = fixture.run.call(Sleep { milliseconds: 10 }).await.unwrap_err();
    assert!(matches!(halt, Halt::PlanEnds(_)));
    let is_sent = |call: &String| call.starts_with("apply") || call.starts_with("release");
    assert!(!fixture.calls().iter().any(is_sent), "{:?}", fixture.calls());
    let planned = |entry: &Entry| match entry {
        Entry::Planned(done) => Some(done.effect.name()),
        _ => None,
    };
    let entries = fixture.journal.entries();
    assert_eq!(
        entries.iter().filter_map(planned).collect::<Vec<_>>(),
        ["suspend-flux.suspend", "delete-replicationsources.delete", "suspend-flux.resume"]
    );
    let result = fixture.run.finish(GuestExit::PlanEnds("waits".into())).await;
    assert_eq!((result.verdict, result.open.len()), (Verdict::Planned, 0));
}

#[tokio::test]
async fn a_plan_releases_nothing_at_its_end() {
    let mut fixture = fixture(Mode::Plan, Scripted::default());
    suspend_plex(&mut fixture.run).await;
    let backend = fixture.backend.clone();
    let result = fixture.run.finish(GuestExit::PlanEnds("waits".into())).await;
    assert_eq!((result.verdict, result.open.len()), (Verdict::Planned, 0));
    assert_eq!(*backend.calls.lock().unwrap(), ["read-current suspend-flux.suspend"]);
}

#[tokio::test]
async fn a_diagnosis_writes_nothing_whatever_is_granted() {
    let mut fixture = fixture(Mode::Diagnosis, Scripted::default());
    let answer = fixture.run.call(restart("media")).await.unwrap();
    assert!(matches!(answer, Err(Error::Denied(_))));
    let answer = fixture.run.call_reversible(suspend(&["plex"])).await.unwrap();
    assert!(matches!(answer, Err(Error::Denied(_))));
    assert!(fixture.calls().is_empty());
}

#[tokio::test]
async fn stopping_ends_a_hanging_read_and_still_releases() {
    let backend = Scripted { hang: Some(Hang::Read), ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    suspend_plex(&mut fixture.run).await;
    let stop = fixture.stop.clone();
    let (halt, ()) = tokio::join!(fixture.run.call(list_pods()), async { stop.request() });
    assert_eq!(halt.unwrap_err(), Halt::Stopped);
    assert_eq!(fixture.run.call(restart("media")).await.unwrap_err(), Halt::Stopped);
    let result = fixture.run.finish(not_fixed()).await;
    assert!(result.open.is_empty());
}

#[tokio::test]
async fn a_maximum_counts_attempts_whatever_their_outcome() {
    let mut fixture = live([ApplyOutcome::Done(Err(Error::Unavailable("no response".into())))]);
    assert!(fixture.run.call(restart("media")).await.unwrap().is_err());
    let second = fixture.run.call(restart("media")).await.unwrap();
    assert!(
        matches!(&second, Err(Error::Denied(text)) if text.contains("at most 1 restarts per run")),
        "{second:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_response_times_out() {
    let backend = Scripted { hang: Some(Hang::Read), ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    let answer = fixture.run.call(list_pods()).await.unwrap();
    assert!(
        matches!(&answer, Err(Error::Unavailable(text)) if text.contains("no response within")),
        "{answer:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_without_a_response_is_resolved_by_reading() {
    let restarted = Answer::Restart(salve_core::capability::restart_deployment::Restarted {
        at: 7,
        old_pods: vec![],
    });
    let resolves = Mutex::new([ApplyOutcome::Done(Ok(restarted))].into());
    let backend = Scripted { hang: Some(Hang::Apply), resolves, ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    let answer = fixture.run.call(restart("media")).await.unwrap().unwrap();
    assert_eq!(answer.at, 7);
}

#[tokio::test]
async fn stopping_twice_abandons_a_hanging_write_and_leaves_it_in_doubt() {
    let backend = Scripted { hang: Some(Hang::Apply), ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    let stop = fixture.stop.clone();
    let (halt, ()) = tokio::join!(fixture.run.call(restart("media")), async {
        stop.request();
        stop.request();
    });
    assert_eq!(halt.unwrap_err(), Halt::Stopped);
    let entries = fixture.journal.entries();
    assert!(matches!(entries.last(), Some(Entry::Opened(_))), "{entries:?}");
}

#[tokio::test]
async fn an_abandoned_write_is_resolved_at_the_end() {
    let backend = Scripted { hang: Some(Hang::Apply), ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    let stop = fixture.stop.clone();
    let (halt, ()) = tokio::join!(fixture.run.call(delete(&["a"])), async {
        stop.request();
        stop.request();
    });
    let (journal, backend) = (fixture.journal.clone(), fixture.backend.clone());
    fixture.run.finish(GuestExit::Stopped(None)).await;
    assert_eq!(halt.unwrap_err(), Halt::Stopped);
    let calls = backend.calls.lock().unwrap();
    assert_eq!(calls.last().unwrap(), "resolve delete-replicationsources.delete");
    let resolved = |entry: &Entry| matches!(entry, Entry::Closed(closed) if closed.resolved);
    assert_eq!(journal.entries().iter().filter(|entry| resolved(entry)).count(), 1);
}

/// An observer whose terminal is gone.
struct Panicking;

impl Observer for Panicking {
    fn on_start(&mut self, _: &Effect) {
        panic!("the terminal is gone");
    }

    fn on_entry(&mut self, _: Recorded<'_>) {
        panic!("the terminal is gone");
    }
}

#[tokio::test]
async fn an_observer_that_panics_does_not_end_the_run() {
    let mut fixture = observed(Box::new(Panicking));
    suspend_plex(&mut fixture.run).await;
    let result = fixture.run.finish(not_fixed()).await;
    assert!(result.open.is_empty());
}

/// An entry as a line of the journal, and the answer in it.
type Line = (String, Option<Answer>);

/// Keeps each entry and answer that an observer gets.
#[derive(Clone, Default)]
struct Recording(Arc<Mutex<Vec<Line>>>);

impl Observer for Recording {
    fn on_start(&mut self, _: &Effect) {}

    fn on_entry(&mut self, recorded: Recorded<'_>) {
        let line = serde_json::to_string(recorded.entry).unwrap();
        self.0.lock().unwrap().push((line, recorded.answer.cloned()));
    }
}

#[tokio::test]
async fn observers_get_every_entry_of_the_journal_with_its_answer() {
    let recording = Recording::default();
    let mut fixture = observed(Box::new(recording.clone()));
    suspend_plex(&mut fixture.run).await;
    fixture.run.call(list_pods()).await.unwrap().unwrap();
    assert!(fixture.run.call(restart("kube-system")).await.unwrap().is_err());
    let journal = fixture.journal.clone();
    fixture.run.finish(not_fixed()).await;
    let mut reader = salve_core::journal::AnswerReader::default();
    let expected: Vec<_> = journal
        .entries()
        .iter()
        .map(|entry| (serde_json::to_string(entry).unwrap(), reader.read(entry)))
        .collect();
    assert_eq!(*recording.0.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_guest_that_waits_forever_is_ended_and_its_suspensions_are_released() {
    let mut fixture = live([]);
    suspend_plex(&mut fixture.run).await;
    let mut halt = None;
    // Its deadline is one hour and the grace period ten minutes: it waits half an hour at a time.
    for waits in 1..=3 {
        halt = fixture.run.call(Sleep { milliseconds: 1_800_000 }).await.err();
        assert_eq!(halt.is_some(), waits == 3, "after {waits} waits: {halt:?}");
    }
    assert!(
        matches!(&halt, Some(Halt::DeadlineExceeded(text)) if text.contains("70 min")),
        "{halt:?}"
    );
    let next = fixture.run.call(restart("media")).await;
    assert!(matches!(next, Err(Halt::DeadlineExceeded(_))), "{next:?}");
    assert!(!fixture.has_called("apply restart-deployment.restart"));
    let failure = Failure { fault: Fault::Guest, text: halt.unwrap().to_string() };
    let backend = fixture.backend.clone();
    let result = fixture.run.finish(GuestExit::Failed(failure)).await;
    assert!(
        result.open.is_empty() && result.verdict == Verdict::Failed(Fault::Guest),
        "{result:?}"
    );
    assert!(backend.calls.lock().unwrap().contains(&"release suspend-flux.resume".into()));
}

#[tokio::test]
async fn a_guest_that_floods_the_journal_is_ended() {
    let mut fixture = live([]);
    let mut halt = None;
    for _ in 0..20_000 {
        let note = Note { level: Level::Info, text: "x".repeat(16 << 10) };
        if let Err(end) = fixture.run.call(note).await {
            halt = Some(end);
            break;
        }
    }
    assert!(matches!(&halt, Some(Halt::TooManyCalls(_))), "{halt:?}");
}

#[tokio::test]
async fn a_guest_that_passes_on_a_denial_fails_by_who_denied_it() {
    let fault = |run: &Run, error: &Error| match run.exit_of_error(error) {
        GuestExit::Failed(failure) => failure.fault,
        other => panic!("{other:?}"),
    };
    // By the grants.
    let mut fixture = live([]);
    let error = fixture.run.call(restart("kube-system")).await.unwrap().unwrap_err();
    assert_eq!(fault(&fixture.run, &error), Fault::Grant);

    // By the cluster.
    let forbidden = || Error::Forbidden("RBAC".into());
    let mut fixture = live([ApplyOutcome::Done(Err(forbidden()))]);
    let error = fixture.run.call(restart("media")).await.unwrap().unwrap_err();
    assert_eq!(error, forbidden());
    assert_eq!(fault(&fixture.run, &error), Fault::Cluster);

    // By the cluster, for one object of a set.
    let failed = Answer::Suspend(vec![failed("plex", forbidden(), false)]);
    let mut fixture = live([ApplyOutcome::Done(Ok(failed))]);
    assert!(fixture.run.call(restart("kube-system")).await.unwrap().is_err());
    let error = fixture.run.call_reversible(suspend(&["plex"])).await.unwrap().unwrap_err();
    assert_eq!(error, forbidden());
    assert_eq!(fault(&fixture.run, &error), Fault::Cluster);

    // By the cluster, for each object of a set. The guest returns an error of its own.
    let rejected = deletion(&deletion_target("a"), DeletionOutcome::Rejected);
    let mut fixture = live([ApplyOutcome::Done(Ok(Answer::Delete(vec![rejected])))]);
    fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
    let error = Error::Denied("nothing could be deleted".into());
    assert_eq!(fault(&fixture.run, &error), Fault::Cluster);

    // By no one.
    assert_eq!(fault(&live([]).run, &error), Fault::Guest);
    assert_eq!(fault(&live([]).run, &Error::Unavailable(String::new())), Fault::Cluster);
}
