//! What a run changed temporarily is released in every ending.

use crate::fixture::*;
use salve_core::capability::suspend_flux::{SuspendOutcome, SuspendResult};
use salve_core::capability::{Answer, Effect, Released, Reversal, Write};
use salve_core::journal::{Entry, Failure, GuestExit, Recorded};
use salve_core::outcome::{Error, Fault, Outcome};
use salve_core::report::{Concluded, EffectOutcome, ReportBuilder, Verdict};
use salve_run::{ApplyOutcome, Clock, Halt, Mode, Observer, ReleaseOutcome, Unreleased};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn unavailable() -> Error {
    Error::Unavailable("no response".into())
}

fn not_tried(name: &str) -> SuspendResult {
    SuspendResult { target: kustomization(name), outcome: SuspendOutcome::NotTried }
}

fn suspended_all(names: &[&str]) -> Answer {
    Answer::Suspend(names.iter().map(|name| suspended(&kustomization(name))).collect())
}

/// Returns the names of the objects that were released, in order.
fn released(entries: &[Entry]) -> Vec<String> {
    let mut names = vec![];
    for opened in entries.iter().filter_map(Entry::opened) {
        if let salve_core::capability::Effect::Reversal(Reversal::Resume(resume)) = &opened.effect {
            names.push(resume.target.name.clone());
        }
    }
    names
}

#[tokio::test]
async fn a_suspension_is_released_in_every_ending() {
    for exit in [
        not_fixed(),
        GuestExit::Failed(Failure { fault: Fault::Guest, text: "trap".into() }),
        GuestExit::Failed(Failure { fault: Fault::Cluster, text: "unreachable".into() }),
    ] {
        let mut fixture = live([]);
        suspend_plex(&mut fixture.run).await;
        let backend = fixture.backend.clone();
        let result = fixture.run.finish(exit).await;
        assert!(result.open.is_empty());
        assert_eq!(backend.calls.lock().unwrap().last().unwrap(), "release suspend-flux.resume");
    }
}

#[tokio::test]
async fn releasing_twice_sends_one_request() {
    let mut fixture = live([]);
    let handle = suspend_plex(&mut fixture.run).await;
    let first = fixture.run.release(handle).await.unwrap().unwrap();
    assert_eq!(fixture.run.release(handle).await.unwrap().unwrap(), first);
    let releases = |call: &&String| *call == "release suspend-flux.resume";
    assert_eq!(fixture.calls().iter().filter(releases).count(), 1);
    assert!(matches!(fixture.run.release(99).await.unwrap(), Err(Error::Invalid(_))));
}

#[tokio::test]
async fn what_someone_else_took_over_is_released_too() {
    let taken_over = Released { taken_over: Some("alice resumed it".into()) };
    let releases = Mutex::new([ReleaseOutcome::Done(Ok(taken_over.clone()))].into());
    let mut fixture = fixture(Mode::Live, Scripted { releases, ..Scripted::default() });
    let handle = suspend_plex(&mut fixture.run).await;
    assert_eq!(fixture.run.release(handle).await.unwrap().unwrap(), taken_over);
    assert!(open(&fixture.run).is_empty());
    let report = ReportBuilder::of(&fixture.journal.entries()).unwrap().into_report();
    let release = report.effects.last().unwrap();
    assert_eq!(release.outcome, EffectOutcome::TakenOver("alice resumed it".into()));
    assert!(release.commands.is_empty(), "{:?}", release.commands);
}

#[tokio::test]
async fn a_release_is_read_again_after_each_conflict() {
    let conflict = || ReleaseOutcome::Conflict("it changed".into());
    let releases = Mutex::new([conflict(), conflict()].into());
    let mut fixture = fixture(Mode::Live, Scripted { releases, ..Scripted::default() });
    let handle = suspend_plex(&mut fixture.run).await;
    fixture.run.release(handle).await.unwrap().unwrap();
    let reads = |call: &&String| *call == "read-reversal suspend-flux.resume";
    assert_eq!(fixture.calls().iter().filter(reads).count(), 3);
}

#[tokio::test]
async fn a_release_that_is_always_rejected_requires_action_after_some_minutes() {
    for (error, is_rejected) in [
        (Error::Forbidden("RBAC".into()), true),
        (Error::Unauthorized("401".into()), true),
        (Error::Denied("blocked".into()), true),
        (Error::NotFound("not served".into()), true),
        (Error::Invalid("422".into()), true),
        (Error::Conflict("changed".into()), false),
        (unavailable(), false),
    ] {
        let fail = || ReleaseOutcome::Done(Err(error.clone()));
        let releases = Mutex::new(std::iter::repeat_with(fail).take(50).collect());
        let mut fixture = fixture(Mode::Live, Scripted { releases, ..Scripted::default() });
        suspend_plex(&mut fixture.run).await;
        let (backend, journal) = (fixture.backend.clone(), fixture.journal.clone());
        let result = fixture.run.finish(concluded(Concluded::NothingToDo)).await;
        let tries =
            backend.calls.lock().unwrap().iter().filter(|c| c.starts_with("release")).count();
        if !is_rejected {
            assert_eq!((result.open.len(), tries), (0, 51), "{error}: {result:?}");
            continue;
        }
        assert_eq!((result.verdict, result.open.len()), (Verdict::ActionRequired, 1), "{error}");
        let still = "Kustomization media/plex is still suspended";
        assert!(result.summary.contains(still), "{}", result.summary);
        assert!(!result.open[0].in_doubt);
        assert!((6..30).contains(&tries), "{error}: {tries} tries");
        assert!(backend.clock.now() > 300_000, "{error}");
        let report = ReportBuilder::of(&journal.entries()).unwrap().into_report();
        let failed = EffectOutcome::Failed(error.to_string());
        assert!(report.effects.iter().any(|effect| effect.outcome == failed), "{report:?}");
    }
}

/// Permissions and credentials that come back are used.
#[tokio::test]
async fn a_release_that_is_rejected_for_a_while_is_performed() {
    for error in [Error::Forbidden("RBAC".into()), Error::Unauthorized("401".into())] {
        // What is rejected twice, lost once, and rejected again is not given up.
        let fail = |error: &Error| ReleaseOutcome::Done(Err(error.clone()));
        let failures = [&error, &error, &unavailable(), &error, &error].map(fail);
        let releases = Mutex::new(failures.into_iter().collect());
        let mut fixture = fixture(Mode::Live, Scripted { releases, ..Scripted::default() });
        suspend_plex(&mut fixture.run).await;
        let result = fixture.run.finish(not_fixed()).await;
        assert!(result.open.is_empty(), "{error}: {result:?}");
    }
}

#[tokio::test]
async fn a_run_that_released_everything_requires_no_action() {
    let mut fixture = live([]);
    suspend_plex(&mut fixture.run).await;
    let result = fixture.run.finish(concluded(Concluded::NothingToDo)).await;
    assert_eq!((result.verdict, result.open.len()), (Verdict::NothingToDo, 0));
}

#[tokio::test]
async fn a_suspend_with_an_unknown_outcome_is_released_at_once() {
    let mut fixture = live([ApplyOutcome::Done(Err(unavailable()))]);
    let answer = fixture.run.call_reversible(suspend(&["plex"])).await.unwrap();
    assert_eq!(answer, Err(unavailable()));
    assert_eq!(fixture.calls().last().unwrap(), "release suspend-flux.resume");
    assert!(open(&fixture.run).is_empty());
}

#[tokio::test]
async fn releasing_in_doubt_passes_what_the_suspend_was_prepared_against() {
    let doubtful = ApplyOutcome::Done(Ok(Answer::Suspend(vec![
        suspended(&kustomization("a")),
        failed("b", unavailable(), true),
        not_tried("c"),
    ])));
    let mut fixture = live([doubtful]);
    let answer = fixture.run.call_reversible(suspend(&["a", "b", "c"])).await.unwrap();
    assert_eq!(answer, Err(unavailable()));
    assert_eq!(released(&fixture.journal.entries()), ["b", "a"], "newest first, and not c");
    let in_doubt = fixture.backend.in_doubt.lock().unwrap().clone();
    let entries = fixture.journal.entries();
    let opened = entries.iter().find_map(Entry::opened).unwrap();
    assert_eq!(in_doubt, [Some(opened.observed.clone()), None]);
}

#[tokio::test]
async fn after_an_error_of_the_whole_set_all_of_it_is_in_doubt() {
    let mut fixture = live([ApplyOutcome::Done(Err(unavailable()))]);
    let answer = fixture.run.call_reversible(suspend(&["a", "b"])).await.unwrap();
    assert_eq!(answer, Err(unavailable()));
    assert_eq!(released(&fixture.journal.entries()), ["b", "a"]);
    assert!(fixture.backend.in_doubt.lock().unwrap().iter().all(Option::is_some));
}

#[tokio::test]
async fn a_set_suspended_in_parts_has_a_handle_for_each_object() {
    let part = conflict(Some(suspended_all(&["a"])), Write::Suspend(suspend(&["b", "c"])));
    let mut fixture = live([part]);
    let (answer, handles) =
        fixture.run.call_reversible(suspend(&["a", "b", "c"])).await.unwrap().unwrap();
    assert_eq!(Answer::Suspend(answer), suspended_all(&["a", "b", "c"]));
    assert_eq!(handles.len(), 3);
    assert_eq!(open(&fixture.run), ["c", "b", "a"]);
    let journal = fixture.journal.clone();
    let result = fixture.run.finish(not_fixed()).await;
    assert!(result.open.is_empty());
    assert_eq!(released(&journal.entries()), ["c", "b", "a"]);
}

#[tokio::test]
async fn a_set_that_fails_after_a_part_releases_that_part_and_the_failed_object() {
    let part = conflict(Some(suspended_all(&["a"])), Write::Suspend(suspend(&["b", "c"])));
    let rest = Answer::Suspend(vec![failed("b", unavailable(), false), not_tried("c")]);
    let mut fixture = live([part, ApplyOutcome::Done(Ok(rest))]);
    let answer = fixture.run.call_reversible(suspend(&["a", "b", "c"])).await.unwrap();
    assert_eq!(answer, Err(unavailable()));
    assert_eq!(released(&fixture.journal.entries()), ["b", "a"]);
    assert!(open(&fixture.run).is_empty());
}

#[tokio::test]
async fn what_conflicted_to_the_end_was_never_suspended_and_is_not_released() {
    let part = conflict(Some(suspended_all(&["a"])), Write::Suspend(suspend(&["b", "c"])));
    let again = || conflict(None, Write::Suspend(suspend(&["b", "c"])));
    let mut fixture = live([part, again(), again(), again(), again()]);
    let answer = fixture.run.call_reversible(suspend(&["a", "b", "c"])).await.unwrap();
    assert_eq!(answer, Err(Error::Conflict("it was not applied".into())));
    assert_eq!(released(&fixture.journal.entries()), ["a"]);
}

#[tokio::test]
async fn an_object_recreated_between_two_attempts_is_released_by_its_new_uid() {
    let mut fixture = live([conflict(None, Write::Suspend(suspend(&["plex"])))]);
    *fixture.backend.uids.lock().unwrap() = VecDeque::from(["old", "new"]);
    suspend_plex(&mut fixture.run).await;
    let uids: Vec<_> = fixture
        .run
        .open_reversals()
        .into_iter()
        .filter_map(|reversal| match reversal {
            Reversal::Resume(resume) => Some(resume.uid),
            _other => None,
        })
        .collect();
    assert_eq!(uids, ["new"]);
}

/// Calls `act` each time that something could not be released.
struct OnUnreleased<F>(F);

impl<F: FnMut(&Unreleased<'_>) + Send> Observer for OnUnreleased<F> {
    fn on_start(&mut self, _: &Effect) {}

    fn on_entry(&mut self, _: Recorded<'_>) {}

    fn on_unreleased(&mut self, unreleased: &Unreleased<'_>) {
        (self.0)(unreleased);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_is_tried_until_the_api_server_responds() {
    for silent_for in [31, 120, 600, 86_400].map(Duration::from_secs) {
        let told = Arc::new(Mutex::new(vec![]));
        let log = told.clone();
        let mut fixture = observed(Box::new(OnUnreleased(move |unreleased: &Unreleased<'_>| {
            let text = (unreleased.open.len(), unreleased.error.to_string());
            assert!(unreleased.next.is_some() && unreleased.interrupts == 0, "{unreleased:?}");
            log.lock().unwrap().push(text);
        })));
        fixture.run.call_reversible(suspend(&["a", "b"])).await.unwrap().unwrap();
        fixture.backend.is_silent.store(true, Ordering::SeqCst);
        let backend = fixture.backend.clone();
        let began = tokio::time::Instant::now();
        let responds = async {
            tokio::time::sleep(silent_for).await;
            backend.is_silent.store(false, Ordering::SeqCst);
        };
        let (result, ()) = tokio::join!(fixture.run.finish(not_fixed()), responds);
        assert!(result.open.is_empty(), "silent for {silent_for:?}: {result:?}");
        let waited = began.elapsed();
        assert!(waited < silent_for + Duration::from_secs(90), "{waited:?}");
        let told = told.lock().unwrap();
        // The first within half a minute, and at least every five minutes.
        assert!(told.len() as u64 > silent_for.as_secs() / 300, "{silent_for:?}: {told:?}");
        // The two, and the cluster lock.
        assert!(told[0].0 == 3 && told[0].1.contains("no response within 10 s"), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_user_ends_the_tries() {
    let mut fixture = live([]);
    suspend_plex(&mut fixture.run).await;
    fixture.backend.is_silent.store(true, Ordering::SeqCst);
    let stop = fixture.stop.clone();
    let began = tokio::time::Instant::now();
    let interrupts = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(200)).await;
            stop.request();
        }
    };
    let (result, ()) = tokio::join!(fixture.run.finish(not_fixed()), interrupts);
    assert_eq!((result.verdict, result.open.len()), (Verdict::ActionRequired, 1));
    assert!((400..=404).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

/// What fails in the same way again leaves no entry: the tries may go on for days.
#[tokio::test]
async fn each_cause_of_a_failed_release_is_recorded_once() {
    let refused =
        |n: usize| std::iter::repeat_with(|| Err(Error::Unavailable("refused".into()))).take(n);
    let forbidden = [Err(Error::Forbidden("RBAC".into()))];
    let errors = refused(40).chain(forbidden).chain(refused(40)).collect();
    let backend = Scripted { reversal_errors: Mutex::new(errors), ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    suspend_plex(&mut fixture.run).await;
    let journal = fixture.journal.clone();
    let result = fixture.run.finish(not_fixed()).await;
    assert!(result.open.is_empty(), "{result:?}");
    let failures = journal.entries().into_iter().filter(
        |entry| matches!(entry, Entry::Done(done) if matches!(done.outcome, Outcome::Error(_))),
    );
    assert_eq!(failures.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn every_open_reversal_is_tried_although_the_user_insists() {
    let mut fixture = live([]);
    let names = ["a", "b", "c", "d", "e"];
    fixture.run.call_reversible(suspend(&names)).await.unwrap().unwrap();
    fixture.backend.is_silent.store(true, Ordering::SeqCst);
    fixture.stop.request();
    fixture.stop.request();
    let journal = fixture.journal.clone();
    let began = tokio::time::Instant::now();
    let result = fixture.run.finish(not_fixed()).await;
    assert_eq!(result.open.len(), 5);
    assert_eq!(released(&journal.entries()), ["e", "d", "c", "b", "a"]);
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn insisting_during_a_release_repeats_it() {
    let mut fixture = live([]);
    suspend_plex(&mut fixture.run).await;
    *fixture.backend.stop_in_release.lock().unwrap() = Some((fixture.stop.clone(), 2));
    let result = fixture.run.finish(not_fixed()).await;
    assert!(result.open.is_empty(), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn after_the_user_insisted_a_release_gets_two_seconds() {
    let mut fixture = live([]);
    suspend_plex(&mut fixture.run).await;
    fixture.backend.is_silent.store(true, Ordering::SeqCst);
    fixture.stop.request();
    fixture.stop.request();
    let began = tokio::time::Instant::now();
    let result = fixture.run.finish(GuestExit::Stopped(None)).await;
    assert_eq!(result.verdict, Verdict::ActionRequired);
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_third_request_skips_a_hanging_release() {
    let mut fixture = live([]);
    suspend_plex(&mut fixture.run).await;
    *fixture.backend.stop_in_release.lock().unwrap() = Some((fixture.stop.clone(), 3));
    fixture.backend.is_silent.store(true, Ordering::SeqCst);
    let began = tokio::time::Instant::now();
    let result = fixture.run.finish(GuestExit::Stopped(None)).await;
    assert_eq!(result.verdict, Verdict::ActionRequired);
    assert_eq!(began.elapsed().as_secs(), 0);
}

#[tokio::test]
async fn insisting_during_a_release_of_the_guest_leaves_it_to_the_end() {
    let mut fixture = live([]);
    let handle = suspend_plex(&mut fixture.run).await;
    *fixture.backend.stop_in_release.lock().unwrap() = Some((fixture.stop.clone(), 2));
    assert_eq!(fixture.run.release(handle).await.unwrap_err(), Halt::Stopped);
    let result = fixture.run.finish(GuestExit::Stopped(None)).await;
    assert!(result.open.is_empty(), "{result:?}");
}
