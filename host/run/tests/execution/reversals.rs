//! What a run changed temporarily is released in every ending.

use crate::fixture::*;
use salve_core::capability::suspend_flux::{SuspendOutcome, SuspendResult};
use salve_core::capability::{Answer, Released, Reversal, Write};
use salve_core::journal::{Entry, Failure, GuestExit};
use salve_core::outcome::{Error, Fault};
use salve_core::report::{Concluded, EffectOutcome, ReportBuilder, Verdict};
use salve_run::{ApplyOutcome, Halt, Mode, ReleaseOutcome};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

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
async fn a_suspension_that_cannot_be_released_requires_action() {
    let releases = std::iter::repeat_with(|| ReleaseOutcome::Done(Err(unavailable()))).take(50);
    let releases = Mutex::new(releases.collect());
    let mut fixture = fixture(Mode::Live, Scripted { releases, ..Scripted::default() });
    suspend_plex(&mut fixture.run).await;
    let result = fixture.run.finish(concluded(Concluded::NothingToDo)).await;
    assert_eq!((result.verdict, result.open.len()), (Verdict::ActionRequired, 1));
    assert!(
        result.summary.contains("Kustomization media/plex is still suspended"),
        "{}",
        result.summary
    );
    assert!(!result.open[0].in_doubt);
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

#[tokio::test(start_paused = true)]
async fn a_silent_cluster_does_not_keep_a_run_from_ending() {
    let mut fixture = live([]);
    suspend_plex(&mut fixture.run).await;
    fixture.backend.is_silent.store(true, Ordering::SeqCst);
    let result = fixture.run.finish(not_fixed()).await;
    assert_eq!((result.verdict, result.open.len()), (Verdict::ActionRequired, 1));
}

/// Three releases that hang for 10 s each take as long as releases are tried in total. The other
/// two get 2 s each.
#[tokio::test(start_paused = true)]
async fn every_open_reversal_is_tried_at_least_once() {
    let mut fixture = live([]);
    let names = ["a", "b", "c", "d", "e"];
    fixture.run.call_reversible(suspend(&names)).await.unwrap().unwrap();
    fixture.backend.is_silent.store(true, Ordering::SeqCst);
    let journal = fixture.journal.clone();
    let began = tokio::time::Instant::now();
    let result = fixture.run.finish(not_fixed()).await;
    assert_eq!(result.open.len(), 5);
    assert_eq!(released(&journal.entries()), ["e", "d", "c", "b", "a"]);
    assert_eq!(began.elapsed().as_secs(), 34);
}

#[tokio::test]
async fn a_release_that_succeeds_extends_the_time_for_the_others() {
    // The clock of the fixture advances by the pauses only: 31 s after five failed passes.
    let failing = |passes: usize| {
        std::iter::repeat_with(|| ReleaseOutcome::Done(Err(unavailable()))).take(passes * 2)
    };
    let done = ReleaseOutcome::Done(Ok(Released { taken_over: None }));
    let releases = failing(4).chain([done]).chain(failing(2)).collect();
    let backend = Scripted { releases: Mutex::new(releases), ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    fixture.run.call_reversible(suspend(&["a", "b"])).await.unwrap().unwrap();
    let result = fixture.run.finish(not_fixed()).await;
    assert!(result.open.is_empty(), "{result:?}");
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
