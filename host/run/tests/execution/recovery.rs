//! A run continues after its process died: recorded calls are answered, the others are decided
//! again.

use crate::fixture::*;
use salve_core::capability::delete_replicationsources::{Deletion, DeletionOutcome};
use salve_core::capability::restart_deployment::Restarted;
use salve_core::capability::{Answer, Effect, Reversal, Write};
use salve_core::grants::Grants;
use salve_core::journal::{Entry, GuestExit};
use salve_core::outcome::Error;
use salve_core::report::Verdict;
use salve_run::{ApplyOutcome, Halt, Run};
use std::sync::Mutex;

fn resolving(outcome: ApplyOutcome) -> Scripted {
    Scripted { resolves: Mutex::new([outcome].into()), ..Scripted::default() }
}

fn deleted(name: &str) -> Deletion {
    deletion(&deletion_target(name), DeletionOutcome::Deleted)
}

#[tokio::test]
async fn recorded_calls_are_answered_and_not_performed_again() {
    let entries = died(2, async |run| {
        run.call(restart("media")).await.unwrap().unwrap();
        run.call(delete(&["a", "b"])).await.unwrap().unwrap();
    })
    .await;
    // The outcome of the deletion is unknown: it is resolved by reading first.
    let answer = Answer::Delete(vec![deleted("a"), deleted("b")]);
    let resolving = resolving(ApplyOutcome::Done(Ok(answer)));
    let mut fixture = recovered(entries, resolving, Grants::default());
    let restarted = fixture.run.call(restart("media")).await.unwrap().unwrap();
    assert_eq!(restarted, Restarted { at: 5, old_pods: vec![] });
    assert!(fixture.calls().is_empty(), "{:?}", fixture.calls());
    let deletions = fixture.run.call(delete(&["a", "b"])).await.unwrap().unwrap();
    assert_eq!(deletions, [deleted("a"), deleted("b")]);
    assert_eq!(fixture.calls(), ["resolve delete-replicationsources.delete"]);
    fixture.run.call(delete(&["c"])).await.unwrap().unwrap();
    assert!(
        fixture.has_called("apply delete-replicationsources.delete"),
        "calls after the end of the journal are new"
    );
}

#[tokio::test]
async fn recorded_errors_are_answered_again() {
    let mut first = live([ApplyOutcome::Done(Err(Error::Forbidden("RBAC".into())))]);
    let denied = first.run.call(restart("kube-system")).await.unwrap().unwrap_err();
    let rejected = first.run.call(restart("media")).await.unwrap().unwrap_err();
    let entries = first.journal.entries();
    let mut fixture = recovered(entries, Scripted::default(), Grants::default());
    let mut again = async |namespace| fixture.run.call(restart(namespace)).await.unwrap();
    assert_eq!(again("kube-system").await, Err(denied));
    assert_eq!(again("media").await, Err(rejected));
    assert!(fixture.calls().is_empty());
}

#[tokio::test]
async fn a_reconcile_request_that_is_sent_again_has_the_same_time() {
    let times = |entries: &[Entry]| {
        let opened = entries.iter().filter_map(Entry::opened);
        opened.map(|opened| opened.observed.at).collect::<Vec<_>>()
    };
    let entries = died(2, async |run| {
        run.call(reconcile()).await.unwrap().unwrap();
        drop(run.call(reconcile()).await);
    })
    .await;
    let [first, second] = times(&entries)[..] else { panic!("two requests: {entries:?}") };
    assert_ne!(first, second, "a controller would take two requests of one time for one");
    let mut fixture = recovered(entries, Scripted::default(), Grants::default());
    for _ in 0..2 {
        fixture.run.call(reconcile()).await.unwrap().unwrap();
    }
    assert_eq!(fixture.calls().last().unwrap(), "apply reconcile-flux.reconcile");
    assert_eq!(times(&fixture.journal.entries()).last(), Some(&second));
}

#[tokio::test]
async fn the_rest_of_a_write_in_doubt_must_be_allowed_now() {
    let entries = died(1, async |run| drop(run.call(delete(&["a", "b"])).await)).await;
    let half = || {
        let completed = Some(Answer::Delete(vec![deleted("a")]));
        resolving(conflict(completed, Write::Delete(delete(&["b"]))))
    };
    let outcomes = |answer: &[Deletion]| answer.iter().map(|d| d.outcome).collect::<Vec<_>>();

    let mut allowed = recovered(entries.clone(), half(), Grants::default());
    let answer = allowed.run.call(delete(&["a", "b"])).await.unwrap().unwrap();
    assert_eq!(outcomes(&answer), [DeletionOutcome::Deleted, DeletionOutcome::Deleted]);

    let nothing = Grants { layers: vec![layer("current.yaml", vec![])] };
    let mut denied = recovered(entries, half(), nothing);
    let answer = denied.run.call(delete(&["a", "b"])).await.unwrap().unwrap();
    assert!(answer[1].message.as_ref().unwrap().contains("current.yaml"), "{answer:?}");
    assert_eq!(outcomes(&answer), [DeletionOutcome::Deleted, DeletionOutcome::Rejected]);
    let calls = denied.calls();
    assert!(calls.iter().all(|call| !call.starts_with("apply")), "{calls:?}");
}

#[tokio::test]
async fn attempts_before_the_crash_count_towards_the_maximum() {
    let entries = died(2, async |run| {
        run.call(delete(&["a", "b"])).await.unwrap().unwrap();
        drop(run.call(restart("media")).await);
    })
    .await;
    let mut fixture = recovered(entries, Scripted::default(), Grants::default());
    fixture.run.call(delete(&["a", "b"])).await.unwrap().unwrap();
    drop(fixture.run.call(restart("media")).await);
    // At most three per run, and two before the crash.
    let more = fixture.run.call(delete(&["c", "d"])).await.unwrap();
    assert!(
        matches!(&more, Err(Error::Denied(text)) if text.contains("at most 3 deletions per run")),
        "{more:?}"
    );
}

#[tokio::test]
async fn a_different_call_is_a_divergence_and_nothing_is_sent() {
    let entries = died(1, async |run| drop(run.call(restart("media")).await)).await;
    let mut fixture = recovered(entries, Scripted::default(), Grants::default());
    let halt = fixture.run.call(delete(&["a"])).await.unwrap_err();
    assert!(
        matches!(&halt, Halt::Diverged { expected, got, .. } if expected.contains("restart") && got.contains("delete")),
        "{halt}"
    );
    assert!(fixture.calls().is_empty(), "{:?}", fixture.calls());
}

#[tokio::test]
async fn the_same_call_on_another_object_is_a_divergence() {
    let entries = died(1, async |run| drop(run.call(delete(&["a"])).await)).await;
    let mut fixture = recovered(entries, Scripted::default(), Grants::default());
    let halt = fixture.run.call(delete(&["b"])).await.unwrap_err();
    assert!(
        matches!(&halt, Halt::Diverged { expected, got, .. } if expected.contains("\"a\"") && got.contains("\"b\"")),
        "{halt}"
    );
    assert!(fixture.calls().is_empty(), "{:?}", fixture.calls());
}

#[tokio::test]
async fn a_suspension_made_before_the_crash_is_released() {
    let entries = died(2, async |run| {
        suspend_plex(run).await;
        drop(run.call(restart("media")).await);
    })
    .await;
    let fixture = recovered(entries, Scripted::default(), Grants::default());
    let backend = fixture.backend.clone();
    let result = fixture.run.finish(GuestExit::Died(None)).await;
    assert!(result.open.is_empty() && result.verdict == Verdict::NotFixed, "{result:?}");
    assert!(backend.calls.lock().unwrap().contains(&"release suspend-flux.resume".to_owned()));
}

/// Two objects were suspended when the process died. One of them did not become idle in time, the
/// other had not been sent.
#[tokio::test]
async fn a_part_found_suspended_after_the_crash_is_released_if_the_set_fails() {
    let entries = died(1, async |run| {
        drop(run.call_reversible(suspend(&["a", "b"])).await);
    })
    .await;
    let busy = Error::Unavailable("its reconciliation did not end".into());
    let part = Answer::Suspend(vec![failed("a", busy.clone(), false)]);
    let resolving = resolving(conflict(Some(part), Write::Suspend(suspend(&["b"]))));
    let mut fixture = recovered(entries, resolving, Grants::default());
    let answer = fixture.run.call_reversible(suspend(&["a", "b"])).await.unwrap();
    assert_eq!(answer, Err(busy));
    let entries = fixture.journal.entries();
    let released: Vec<_> = entries
        .iter()
        .filter_map(Entry::opened)
        .filter_map(|opened| match &opened.effect {
            Effect::Reversal(Reversal::Resume(resume)) => Some(resume.target.name.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(released, ["b", "a"]);
    assert!(open(&fixture.run).is_empty());
}

#[tokio::test]
async fn a_release_in_doubt_is_performed_again_and_then_recorded() {
    let calls = async |run: &mut Run| {
        let handle = suspend_plex(run).await;
        drop(run.release(handle).await);
    };
    let mut entries = died(2, calls).await;
    let mut fixture = recovered(entries.clone(), Scripted::default(), Grants::default());
    calls(&mut fixture.run).await;
    assert!(fixture.has_called("release suspend-flux.resume"), "{:?}", fixture.calls());
    assert!(open(&fixture.run).is_empty());
    let attempts = |entries: &[Entry]| {
        let opened = entries.iter().filter_map(Entry::opened);
        let releases = opened.filter(|opened| opened.effect.name() == "suspend-flux.resume");
        releases.map(|opened| opened.attempt).collect::<Vec<_>>()
    };
    assert_eq!(attempts(&fixture.journal.entries()), [2]);

    // A third process finds its outcome.
    entries.extend(fixture.journal.entries());
    let mut fixture = recovered(entries, Scripted::default(), Grants::default());
    calls(&mut fixture.run).await;
    assert!(fixture.calls().is_empty(), "{:?}", fixture.calls());
}

#[tokio::test]
async fn the_lock_is_acquired_again_for_new_writes_and_released_once() {
    let entries = died(1, async |run| drop(run.call(restart("media")).await)).await;
    let mut fixture = recovered(entries, Scripted::default(), Grants::default());
    drop(fixture.run.call(restart("media")).await);
    let journal = fixture.journal.clone();
    fixture.run.finish(not_fixed()).await;
    let names: Vec<_> = journal
        .entries()
        .iter()
        .filter_map(|entry| match entry {
            Entry::Done(done) => Some(done.effect.name()),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["cluster-lock.acquire", "cluster-lock.release"]);
}

#[tokio::test]
async fn an_offline_replay_ends_where_the_journal_ends() {
    let entries = died(2, async |run| {
        suspend_plex(run).await;
        drop(run.call(restart("media")).await);
    })
    .await;
    let mut run = Run::replay(entries, None).unwrap();
    suspend_plex(&mut run).await;
    assert_eq!(open(&run), ["plex"]);
    let halt = run.call(restart("media")).await.unwrap_err();
    assert!(matches!(&halt, Halt::JournalEnds { asked } if asked.contains("restart")), "{halt}");
}

#[tokio::test]
async fn an_offline_replay_names_the_first_call_that_other_grants_decide_differently() {
    let mut first = live([]);
    first.run.call(list_pods()).await.unwrap().unwrap();
    first.run.call(restart("media")).await.unwrap().unwrap();
    let entries = first.journal.entries();

    let mut same = Run::replay(entries.clone(), Some(grants())).unwrap();
    same.call(list_pods()).await.unwrap().unwrap();
    same.call(restart("media")).await.unwrap().unwrap();

    let mut other = grants();
    other.layers[0].grants.retain(|grant| grant.capability.name() != "restart-deployment");
    let mut run = Run::replay(entries, Some(other)).unwrap();
    run.call(list_pods()).await.unwrap().unwrap();
    let halt = run.call(restart("media")).await.unwrap_err();
    assert!(
        matches!(&halt, Halt::Diverged { n: 3, expected, got } if expected.ends_with(": allowed") && got.contains("denied")),
        "{halt}"
    );
}
