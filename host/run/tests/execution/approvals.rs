//! A run that is bound to an approved plan.

use crate::fixture::*;
use futures::future::BoxFuture;
use salve_core::approval::{Approval, Approved};
use salve_core::capability::run::{Now, Sleep};
use salve_core::capability::{Capability, Write};
use salve_core::grants::Selector;
use salve_core::journal::{Entry, Failure, GuestExit, ObservedState};
use salve_core::outcome::{Error, Fault};
use salve_core::report::Concluded;
use salve_run::{Halt, Mode, NoPrompt, Planner, Run};
use std::sync::{Arc, Mutex};

/// Makes a plan with these calls.
async fn planned(calls: impl AsyncFnOnce(&mut Run)) -> (Approval, Vec<Entry>) {
    let mut plan = fixture(Mode::Plan, Scripted::default());
    calls(&mut plan.run).await;
    let entries = plan.journal.entries();
    (Approval::of("p1", "d", &entries), entries)
}

/// Starts a live run that is bound to a plan.
fn bound(approval: Approval, plan: &[Entry]) -> Fixture {
    let Fixture { run, backend, journal, stop } = live([]);
    Fixture { run: run.approved(approval, plan).unwrap(), backend, journal, stop }
}

#[tokio::test]
async fn the_approved_writes_are_performed() {
    let (approval, plan) = planned(async |run| {
        suspend_plex(run).await;
        run.call(delete(&["a"])).await.unwrap().unwrap();
    })
    .await;
    let mut fixture = bound(approval, &plan);
    let handle = suspend_plex(&mut fixture.run).await;
    fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
    fixture.run.release(handle).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_write_that_differs_from_the_plan_is_not_sent() {
    let (approval, plan) =
        planned(async |run| drop(run.call(delete(&["a"])).await.unwrap().unwrap())).await;
    for write in [delete(&["b"]), delete(&["a", "b"])] {
        let mut fixture = bound(approval.clone(), &plan);
        let halt = fixture.run.call(write).await.unwrap_err();
        assert!(matches!(&halt, Halt::Differs(_)), "{halt}");
        assert!(fixture.sent().is_empty(), "{:?}", fixture.calls());
    }
    let mut fixture = bound(approval, &plan);
    fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
    let halt = fixture.run.call(restart("media")).await.unwrap_err();
    assert!(matches!(&halt, Halt::Differs(_)), "after the end of the plan: {halt}");
}

#[tokio::test]
async fn an_object_that_changed_after_the_plan_is_not_changed() {
    let (approval, plan) =
        planned(async |run| drop(run.call(delete(&["a"])).await.unwrap().unwrap())).await;
    let mut fixture = bound(approval, &plan);
    fixture.backend.uids.lock().unwrap().push_back("replaced");
    let halt = fixture.run.call(delete(&["a"])).await.unwrap_err();
    assert!(
        matches!(&halt, Halt::Differs(difference) if difference.to_string().contains("replaced")),
        "{halt}"
    );
    assert_eq!(fixture.calls(), ["read-current delete-replicationsources.delete"]);
}

#[tokio::test]
async fn an_object_that_changed_between_two_attempts_ends_the_write() {
    let (approval, plan) =
        planned(async |run| drop(run.call(delete(&["a"])).await.unwrap().unwrap())).await;
    let mut fixture = bound(approval, &plan);
    let again = Write::Delete(delete(&["a"]));
    fixture.backend.applies.lock().unwrap().push_back(conflict(None, again));
    fixture.backend.uids.lock().unwrap().extend(["u-1", "u-1", "replaced"]);
    let halt = fixture.run.call(delete(&["a"])).await.unwrap_err();
    assert!(matches!(&halt, Halt::Differs(_)), "{halt}");
    // Its outcome is recorded: nothing is in doubt.
    let entries = fixture.journal.entries();
    assert!(
        matches!(entries.last(), Some(Entry::Closed(closed)) if closed.outcome.is_some()),
        "{entries:?}"
    );
}

#[tokio::test]
async fn answers_of_the_plan_that_depend_on_time_are_reused_until_the_first_write() {
    let (mut now, wait) = (0, Sleep { milliseconds: 1000 });
    let (approval, plan) = planned(async |run| {
        run.call(wait.clone()).await.unwrap().unwrap();
        now = run.call(Now {}).await.unwrap().unwrap();
        run.call(delete(&["a"])).await.unwrap().unwrap();
        run.call(Now {}).await.unwrap().unwrap();
    })
    .await;
    let mut fixture = bound(approval, &plan);
    fixture.run.call(wait).await.unwrap().unwrap();
    assert_eq!(fixture.run.call(Now {}).await.unwrap().unwrap(), now);
    fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
    let later = fixture.run.call(Now {}).await.unwrap().unwrap();
    assert!(later < now, "the wait of the plan was not repeated: {later}");
    let entries = fixture.journal.entries();
    let reused = |entry: &Entry| matches!(entry, Entry::Done(done) if done.from_plan.is_some());
    assert_eq!(entries.iter().filter(|entry| reused(entry)).count(), 2);
}

#[tokio::test]
async fn a_call_that_the_plan_did_not_make_ends_the_reuse() {
    let mut now = 0;
    let (approval, plan) = planned(async |run| {
        run.call(Sleep { milliseconds: 1000 }).await.unwrap().unwrap();
        now = run.call(Now {}).await.unwrap().unwrap();
    })
    .await;
    let mut fixture = bound(approval, &plan);
    fixture.run.call(Sleep { milliseconds: 2000 }).await.unwrap().unwrap();
    assert_ne!(fixture.run.call(Now {}).await.unwrap().unwrap(), now);
}

/// Makes a plan that suspends, deletes, and restarts.
async fn planned_incident() -> (Approval, Vec<Entry>) {
    planned(async |run| {
        suspend_plex(run).await;
        run.call(delete(&["a"])).await.unwrap().unwrap();
        run.call(restart("media")).await.unwrap().unwrap();
    })
    .await
}

#[tokio::test]
async fn nothing_is_sent_if_any_object_of_the_plan_changed() {
    let (approval, plan) = planned_incident().await;
    let gone = || Error::NotFound("get deployments media/x: not found".into());
    let (same, changed) = ("u-1", "replaced");
    for (uids, errors, named) in [
        (vec![changed], vec![], vec!["Kustomization media/plex was replaced"]),
        (vec![same, changed], vec![], vec!["media/a was replaced"]),
        (vec![same, same, changed], vec![], vec!["Deployment media/x was replaced"]),
        (
            vec![changed, same, changed],
            vec![],
            vec!["Kustomization media/plex was replaced", "Deployment media/x was replaced"],
        ),
        (
            vec![],
            vec![None, None, Some(gone())],
            vec!["restart-deployment.restart of media/x is no longer possible: get deployments"],
        ),
    ] {
        let mut fixture = bound(approval.clone(), &plan);
        fixture.backend.uids.lock().unwrap().extend(uids);
        fixture.backend.read_errors.lock().unwrap().extend(errors);
        let halt = fixture.run.call_reversible(suspend(&["plex"])).await.unwrap_err();
        let Halt::Differs(difference) = &halt else { panic!("{halt}") };
        let text = difference.to_string();
        assert!(named.iter().all(|named| text.contains(named)), "{text}");
        assert!(text.contains("plan p1 is stale") && text.contains("`salve plan`"), "{text}");
        fixture.run.finish(not_fixed()).await;
        let calls = fixture.backend.calls.lock().unwrap();
        assert!(calls.iter().all(|call| call.starts_with("read-current")), "{calls:?}");
    }
}

#[tokio::test]
async fn nothing_is_sent_while_an_object_of_the_plan_cannot_be_read() {
    let (approval, plan) = planned_incident().await;
    for error in [
        Error::Unavailable("no response".into()),
        Error::Forbidden("RBAC".into()),
        Error::Denied("outside the footprint".into()),
    ] {
        let mut fixture = bound(approval.clone(), &plan);
        let kind = std::mem::discriminant(&error);
        fixture.backend.read_errors.lock().unwrap().extend([None, Some(error)]);
        let answer = fixture.run.call_reversible(suspend(&["plex"])).await.unwrap().unwrap_err();
        assert_eq!(std::mem::discriminant(&answer), kind, "{answer}");
        assert!(answer.text().contains("failed to compare the plan"), "{answer}");
        assert!(fixture.sent().is_empty(), "{:?}", fixture.calls());
        // The next write compares again what is left.
        fixture.backend.uids.lock().unwrap().extend(["u-1", "replaced"]);
        let halt = fixture.run.call(delete(&["a"])).await.unwrap_err();
        assert!(halt.to_string().contains("Deployment media/x was replaced"), "{halt}");
        assert!(fixture.sent().is_empty(), "{:?}", fixture.calls());
    }
}

#[tokio::test]
async fn what_the_plan_could_not_prepare_either_is_no_difference() {
    let unavailable = || Some(Error::Unavailable("no response".into()));
    let mut plan = fixture(Mode::Plan, Scripted::default());
    plan.backend.read_errors.lock().unwrap().push_back(unavailable());
    plan.run.call(delete(&["a"])).await.unwrap().unwrap_err();
    plan.run.call(restart("media")).await.unwrap().unwrap();
    let entries = plan.journal.entries();
    let approval = Approval::of("p1", "d", &entries);
    let mut fixture = bound(approval.clone(), &entries);
    fixture.backend.read_errors.lock().unwrap().extend([unavailable(), None, unavailable()]);
    fixture.run.call(delete(&["a"])).await.unwrap().unwrap_err();
    fixture.run.call(restart("media")).await.unwrap().unwrap();
    // It can be prepared now: the plan did not show that.
    let mut fixture = bound(approval, &entries);
    let halt = fixture.run.call(delete(&["a"])).await.unwrap_err();
    assert!(halt.to_string().contains("media/a appeared"), "{halt}");
}

#[tokio::test]
async fn an_object_that_is_not_granted_is_not_read_for_a_plan() {
    let (mut approval, plan) =
        planned(async |run| drop(run.call(delete(&["a"])).await.unwrap().unwrap())).await;
    let mut invalid = restart("media");
    invalid.target.name = "../x".into();
    for write in [restart("kube-system"), invalid] {
        let observed = ObservedState::default();
        approval.writes.truncate(1);
        approval.writes.push(Approved { write: Write::Restart(write), observed });
        let mut fixture = bound(approval.clone(), &plan);
        let halt = fixture.run.call(delete(&["a"])).await.unwrap_err();
        assert!(halt.to_string().contains("it is not granted"), "{halt}");
        assert_eq!(fixture.calls(), ["read-current delete-replicationsources.delete"]);
    }
}

#[tokio::test]
async fn comparing_the_plan_leaves_no_entries_and_a_replay_does_not_repeat_it() {
    let (approval, plan) = planned_incident().await;
    let calls = async |run: &mut Run| {
        suspend_plex(run).await;
        run.call(delete(&["a"])).await.unwrap().unwrap();
        run.call(restart("media")).await.unwrap().unwrap();
    };
    let mut fixture = bound(approval, &plan);
    calls(&mut fixture.run).await;
    let reads = |fixture: &Fixture| {
        fixture.calls().iter().filter(|call| call.starts_with("read-current")).count()
    };
    assert_eq!(reads(&fixture), 6, "{:?}", fixture.calls());
    let entries = fixture.journal.entries();
    let is_write = |entry: &&Entry| matches!(entry, Entry::Opened(_) | Entry::Closed(_));
    let others = entries.iter().filter(|entry| !is_write(entry));
    // The header, the approval, and the cluster lock.
    assert_eq!(others.count(), 3, "{entries:?}");
    calls(&mut Run::replay(entries, None).unwrap()).await;
}

/// Plans a run again with these calls.
struct Again<F>(F, GuestExit);

impl<F> Planner for Again<F>
where
    F: Fn(Run) -> BoxFuture<'static, ()> + Send + Sync,
{
    fn plan(&self, run: Run) -> BoxFuture<'static, GuestExit> {
        let (calls, exit) = ((self.0)(run), self.1.clone());
        Box::pin(async move {
            calls.await;
            exit
        })
    }
}

fn again(set: &'static [&'static str], restarts: bool) -> impl Fn(Run) -> BoxFuture<'static, ()> {
    move |mut run: Run| {
        Box::pin(async move {
            // Answered from the journal of the run.
            assert_eq!(run.call(Now {}).await.unwrap(), Ok(1));
            suspend_plex(&mut run).await;
            run.call(delete(set)).await.unwrap().unwrap();
            if restarts {
                run.call(restart("media")).await.unwrap().unwrap();
            }
        })
    }
}

#[tokio::test]
async fn nothing_is_sent_if_the_guest_would_write_something_else_now() {
    let (approval, plan) = planned_incident().await;
    let ends = || GuestExit::PlanEnds("the guest waits".into());
    let healthy = || concluded(Concluded::NothingToDo);
    for (set, restarts, exit, expected) in [
        (&["a"][..], true, ends(), None),
        (&["a", "b"], true, ends(), Some("1 ReplicationSource appeared (media/b)")),
        (&["b"], true, ends(), Some("1 ReplicationSource disappeared (media/a)")),
        (&["a"], false, healthy(), Some("restart of media/x would no longer be sent: summary")),
    ] {
        let Fixture { run, backend, journal, stop } = bound(approval.clone(), &plan);
        let run = run.with_planner(Arc::new(Again(again(set, restarts), exit)), header(), vec![]);
        let mut fixture = Fixture { run, backend, journal, stop };
        let now = fixture.run.call(Now {}).await.unwrap();
        assert_eq!(now, Ok(1));
        let entries = fixture.journal.entries().len();
        let answer = fixture.run.call_reversible(suspend(&["plex"])).await;
        let Some(expected) = expected else {
            answer.unwrap().unwrap();
            fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
            // It was planned again once.
            let reads = fixture.calls().iter().filter(|c| c.starts_with("read-current")).count();
            assert_eq!(reads, 3 + 3 + 2, "{:?}", fixture.calls());
            continue;
        };
        let halt = answer.unwrap_err();
        assert!(matches!(&halt, Halt::Differs(_)), "{halt}");
        let text = halt.to_string();
        assert!(text.contains(expected) && text.contains("none of it was sent"), "{text}");
        assert!(fixture.sent().is_empty(), "{:?}", fixture.calls());
        assert_eq!(fixture.journal.entries().len(), entries, "planning again leaves no entries");
    }
}

#[tokio::test]
async fn nothing_is_sent_if_the_plan_cannot_be_made_again() {
    let (approval, plan) = planned_incident().await;
    let failed = Failure { fault: Fault::Cluster, text: "unavailable: no response".into() };
    let Fixture { run, backend, journal, stop } = bound(approval, &plan);
    let nothing = |run: Run| -> BoxFuture<'static, ()> { Box::pin(async { drop(run) }) };
    let planner = Again(nothing, GuestExit::Failed(failed));
    let run = run.with_planner(Arc::new(planner), header(), vec![]);
    let mut fixture = Fixture { run, backend, journal, stop };
    let answer = fixture.run.call_reversible(suspend(&["plex"])).await.unwrap().unwrap_err();
    assert!(answer.text().contains("failed to check the approved plan again"), "{answer}");
    assert!(fixture.sent().is_empty(), "{:?}", fixture.calls());
}

/// The process dies in the deletion, the second write.
async fn died_in_the_deletion() -> Vec<Entry> {
    let (approval, plan) = planned_incident().await;
    let dies_at = Mutex::new(Some(2));
    let Fixture { run, backend, journal, .. } =
        fixture(Mode::Live, Scripted { dies_at, ..Scripted::default() });
    let mut run = run.approved(approval, &plan).unwrap();
    let died = backend.died.clone();
    tokio::select! {
        biased;
        () = died.notified() => {}
        () = async {
            suspend_plex(&mut run).await;
            drop(run.call(delete(&["a"])).await);
        } => panic!("it did not die"),
    }
    journal.entries()
}

#[tokio::test]
async fn a_recovered_run_compares_what_is_left_of_the_plan() {
    let entries = died_in_the_deletion().await;
    // What the dead process has suspended is not compared again, what is left is.
    let mut fixture = recovered(entries.clone(), Scripted::default(), grants());
    suspend_plex(&mut fixture.run).await;
    assert!(fixture.calls().is_empty(), "{:?}", fixture.calls());
    fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
    fixture.run.call(restart("media")).await.unwrap().unwrap();
    let (delete_call, restart_call) =
        ("delete-replicationsources.delete", "restart-deployment.restart");
    let expected = [
        format!("resolve {delete_call}"),
        format!("read-current {restart_call}"),
        format!("read-current {delete_call}"),
        format!("apply {delete_call}"),
        format!("read-current {restart_call}"),
        format!("apply {restart_call}"),
    ];
    assert_eq!(fixture.calls(), expected);

    let backend = Scripted { uids: Mutex::new(["replaced"].into()), ..Scripted::default() };
    let mut fixture = recovered(entries.clone(), backend, grants());
    suspend_plex(&mut fixture.run).await;
    let halt = fixture.run.call(delete(&["a"])).await.unwrap_err();
    assert!(halt.to_string().contains("Deployment media/x was replaced"), "{halt}");
    assert!(fixture.sent().is_empty(), "{:?}", fixture.calls());
    // Its outcome is recorded: nothing is in doubt.
    let last = fixture.journal.entries().pop();
    assert!(matches!(&last, Some(Entry::Closed(closed)) if closed.outcome.is_some()), "{last:?}");
    let result = fixture.run.finish(not_fixed()).await;
    assert!(result.open.is_empty(), "{result:?}");
    assert_eq!(
        *fixture.backend.calls.lock().unwrap().last().unwrap(),
        "release suspend-flux.resume"
    );

    // The same for a run whose write in doubt turns out to be applied: the next one compares.
    let done = deletion(
        &deletion_target("a"),
        salve_core::capability::delete_replicationsources::DeletionOutcome::Deleted,
    );
    let applied =
        salve_run::ApplyOutcome::Done(Ok(salve_core::capability::Answer::Delete(vec![done])));
    let backend = Scripted {
        uids: Mutex::new(["replaced"].into()),
        resolves: Mutex::new([applied].into()),
        ..Scripted::default()
    };
    let mut fixture = recovered(entries, backend, grants());
    suspend_plex(&mut fixture.run).await;
    fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
    let halt = fixture.run.call(restart("media")).await.unwrap_err();
    assert!(halt.to_string().contains("Deployment media/x was replaced"), "{halt}");
    assert!(fixture.sent().is_empty(), "{:?}", fixture.calls());
}

/// A guest that ends early releases what it suspended, and reports its own reason.
#[tokio::test]
async fn a_release_is_no_write_of_the_plan() {
    let (approval, plan) = planned_incident().await;
    let release = async |run: &mut Run, handle| {
        run.release(handle).await.unwrap().unwrap();
        run.call(reconcile()).await.unwrap().unwrap();
    };
    for deletes in [false, true] {
        let mut fixture = bound(approval.clone(), &plan);
        let handle = suspend_plex(&mut fixture.run).await;
        if deletes {
            fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
        }
        // What is reconciled is not compared with the write before it.
        fixture.backend.uids.lock().unwrap().push_back("new");
        release(&mut fixture.run, handle).await;
        // A release consumed no write of the plan: the next one is still the same.
        let halt = fixture.run.call(delete(&["b"])).await.unwrap_err();
        assert!(matches!(&halt, Halt::Differs(_)), "{halt}");
    }
    // Nor does it after a crash.
    let mut fixture = bound(approval.clone(), &plan);
    let handle = suspend_plex(&mut fixture.run).await;
    release(&mut fixture.run, handle).await;
    let entries = fixture.journal.entries();
    let mut fixture = recovered(entries, Scripted::default(), grants());
    let handle = suspend_plex(&mut fixture.run).await;
    release(&mut fixture.run, handle).await;
    assert!(fixture.calls().is_empty(), "{:?}", fixture.calls());
    fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
    fixture.run.call(restart("media")).await.unwrap().unwrap();

    // A release that follows a crash is made although the plan is stale.
    let mut fixture = bound(approval, &plan);
    suspend_plex(&mut fixture.run).await;
    let entries = fixture.journal.entries();
    let backend = Scripted { uids: Mutex::new(["new", "new"].into()), ..Scripted::default() };
    let mut fixture = recovered(entries, backend, grants());
    let handle = suspend_plex(&mut fixture.run).await;
    release(&mut fixture.run, handle).await;
    assert!(fixture.has_called("apply reconcile-flux.reconcile"), "{:?}", fixture.calls());
    let halt = fixture.run.call(delete(&["a"])).await.unwrap_err();
    assert!(halt.to_string().contains("is stale"), "{halt}");
}

#[tokio::test]
async fn a_write_denied_with_its_objects_counts_after_a_crash_too() {
    let (approval, plan) = planned_incident().await;
    let mut labeled = grants();
    for grant in &mut labeled.layers[0].grants {
        if grant.capability == Capability::SuspendFlux {
            grant.label_selector = Some(Selector::parse("app=sonarr").unwrap());
        }
    }
    let backend = Scripted::default();
    let Fixture { run, journal, .. } =
        fixture_with(Mode::Live, backend, labeled, Box::new(NoPrompt));
    let mut run = run.approved(approval, &plan).unwrap();
    run.call_reversible(suspend(&["plex"])).await.unwrap().unwrap_err();
    run.call(delete(&["a"])).await.unwrap().unwrap();
    let mut fixture = recovered(journal.entries(), Scripted::default(), grants());
    fixture.run.call_reversible(suspend(&["plex"])).await.unwrap().unwrap_err();
    fixture.run.call(delete(&["a"])).await.unwrap().unwrap();
    fixture.run.call(restart("media")).await.unwrap().unwrap();
}
