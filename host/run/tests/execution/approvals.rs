//! A run that is bound to an approved plan.

use crate::fixture::*;
use salve_core::approval::Approval;
use salve_core::capability::run::{Now, Sleep};
use salve_core::journal::Entry;
use salve_run::{Halt, Mode, Run};

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
        assert!(fixture.calls().is_empty(), "{:?}", fixture.calls());
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
    let again = salve_core::capability::Write::Delete(delete(&["a"]));
    fixture.backend.applies.lock().unwrap().push_back(conflict(None, again));
    fixture.backend.uids.lock().unwrap().extend(["u-1", "replaced"]);
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
