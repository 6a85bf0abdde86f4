//! The cluster lock: one run at a time writes.

use crate::fixture::*;
use salve_core::capability::{Effect, Reversal};
use salve_core::journal::{Entry, Origin};
use salve_core::outcome::Error;
use salve_core::report::Verdict;
use salve_run::{Halt, Mode, ReleaseOutcome};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn nothing_is_written_while_another_run_holds_the_lock() {
    let backend = Scripted { lock: Lock::HeldBy("0badcafe"), ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    fixture.run.call(list_pods()).await.unwrap().unwrap();
    let halt = fixture.run.call(restart("media")).await.unwrap_err();
    assert!(
        matches!(&halt, Halt::ClusterLocked(error) if error.text().contains("0badcafe")),
        "{halt}"
    );
    let (journal, backend) = (fixture.journal.clone(), fixture.backend.clone());
    let result = fixture.run.finish(not_fixed()).await;
    assert!(result.open.is_empty(), "{result:?}");
    assert_eq!(*backend.calls.lock().unwrap(), ["read query-pods.list-pods"]);
    assert!(!journal.entries().iter().any(|entry| entry.opened().is_some()));
}

#[tokio::test]
async fn the_lock_is_acquired_once_before_the_first_write_and_released_last() {
    let mut fixture = live([]);
    fixture.run.call(list_pods()).await.unwrap().unwrap();
    fixture.run.call(restart("media")).await.unwrap().unwrap();
    suspend_plex(&mut fixture.run).await;
    let journal = fixture.journal.clone();
    fixture.run.finish(not_fixed()).await;
    let call = |entry: &Entry| match entry {
        Entry::Done(done) => Some((done.n, done.origin, done.effect.name())),
        Entry::Opened(opened) => Some((opened.n, opened.origin, opened.effect.name())),
        _ => None,
    };
    assert_eq!(
        journal.entries().iter().filter_map(call).collect::<Vec<_>>(),
        [
            (1, Origin::Guest, "query-pods.list-pods"),
            (2, Origin::Host, "cluster-lock.acquire"),
            (3, Origin::Guest, "restart-deployment.restart"),
            (4, Origin::Guest, "suspend-flux.suspend"),
            (5, Origin::Host, "suspend-flux.resume"),
            (6, Origin::Host, "cluster-lock.release"),
        ]
    );
}

#[tokio::test]
async fn a_run_that_writes_nothing_does_not_acquire_the_lock() {
    let mut fixture = live([]);
    fixture.run.call(list_pods()).await.unwrap().unwrap();
    assert!(fixture.run.call(restart("kube-system")).await.unwrap().is_err());
    let journal = fixture.journal.clone();
    fixture.run.finish(not_fixed()).await;
    let is_lock = |entry: &Entry| matches!(entry, Entry::Done(done) if done.origin == Origin::Host);
    assert!(!journal.entries().iter().any(is_lock));
}

/// The Lease may have been created although no response arrived: in both scripts it cannot be read
/// afterwards, and in the second one another request conflicts with it first.
#[tokio::test]
async fn a_lock_acquired_without_a_response_is_released_by_reading() {
    for lock in [Lock::Lost, Lock::LostThenConflict] {
        let mut fixture = fixture(Mode::Live, Scripted { lock, ..Scripted::default() });
        let halt = fixture.run.call(restart("media")).await.unwrap_err();
        assert!(
            matches!(&halt, Halt::ClusterLocked(Error::Unavailable(text)) if text.contains("refused")),
            "{halt}"
        );
        let (journal, backend) = (fixture.journal.clone(), fixture.backend.clone());
        let result = fixture.run.finish(not_fixed()).await;
        assert_eq!(result.verdict, Verdict::NotFixed, "{lock:?}: {result:?}");
        let entries = journal.entries();
        let conflict = entries.iter().find_map(|entry| match entry {
            Entry::Closed(closed) => Some(closed),
            _ => None,
        });
        assert!(conflict.unwrap().in_doubt, "{entries:?}");
        let calls = backend.calls.lock().unwrap();
        assert_eq!(
            *calls,
            ["read-reversal cluster-lock.release", "release cluster-lock.release"],
            "{lock:?}"
        );
        let release = entries.iter().filter_map(Entry::opened).next_back().unwrap();
        assert!(
            matches!(&release.effect, Effect::Reversal(Reversal::ReleaseLease(release)) if release.namespace == "salve" && release.run == "r1"),
            "{release:?}"
        );
    }
}

#[tokio::test]
async fn a_lock_acquired_without_a_response_that_cannot_be_released_is_reported() {
    let forbidden = || ReleaseOutcome::Done(Err(Error::Forbidden("RBAC".into())));
    let releases = Mutex::new(std::iter::repeat_with(forbidden).take(50).collect());
    let backend = Scripted { lock: Lock::Lost, releases, ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    assert!(fixture.run.call(restart("media")).await.is_err());
    let result = fixture.run.finish(not_fixed()).await;
    assert_eq!(result.verdict, Verdict::ActionRequired);
    assert!(result.open[0].in_doubt);
    assert!(
        result.summary.contains("this run may still hold the cluster lock"),
        "{}",
        result.summary
    );
}

/// Stopped three times, a run no longer waits for suspensions. The lock would keep all other runs
/// from writing.
#[tokio::test(start_paused = true)]
async fn the_third_request_to_stop_does_not_skip_the_lock() {
    let mut fixture = live([]);
    suspend_plex(&mut fixture.run).await;
    fixture.backend.is_silent.store(true, Ordering::SeqCst);
    (0..3).for_each(|_| fixture.stop.request());
    let journal = fixture.journal.clone();
    let result = fixture.run.finish(not_fixed()).await;
    let names: Vec<_> = result.open.iter().map(|open| open.reversal.name()).collect();
    assert_eq!(names, ["suspend-flux.resume"]);
    let entries = journal.entries();
    let is_release = |entry: &Entry| matches!(entry, Entry::Done(d) if d.effect.name() == "cluster-lock.release");
    assert!(entries.iter().any(is_release), "{entries:?}");
}
