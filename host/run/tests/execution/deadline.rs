//! The deadline of a run, which bounds every call of the guest, however long that wants to wait.

use crate::fixture::*;
use salve_core::capability::Write;
use salve_core::capability::delete_replicationsources::{Delete, Pacing};
use salve_core::capability::run::Sleep;
use salve_core::capability::suspend_flux::Suspend;
use salve_core::journal::Entry;
use salve_core::outcome::Error;
use salve_run::{Halt, Mode, Run};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Half of the time until the deadline, in milliseconds.
const HALF: u64 = 1_800_000;

/// Makes a write that waits for more than half of the time until the deadline.
async fn slow_write(run: &mut Run, name: &str) -> Result<Result<(), Error>, Halt> {
    let pacing = Pacing { batch_size: 1, interval_ms: 600_000 };
    match name {
        "suspend-flux.suspend" => {
            let call = Suspend { drain_seconds: 3_600, ..suspend(&["plex"]) };
            run.call_reversible(call).await.map(|answer| answer.map(drop))
        }
        "delete-replicationsources.delete" => {
            let call = Delete { pacing, ..delete(&["a", "b", "c"]) };
            run.call(call).await.map(|answer| answer.map(drop))
        }
        "restart-deployment.restart" => {
            run.call(restart("media")).await.map(|answer| answer.map(drop))
        }
        other => unreachable!("{other}"),
    }
}

const SLOW_WRITES: [&str; 3] =
    ["suspend-flux.suspend", "delete-replicationsources.delete", "restart-deployment.restart"];

/// A write ends at the deadline, by the local clock or by the cluster's, is settled by reading, and
/// what it changed is released.
#[tokio::test(start_paused = true)]
async fn a_write_ends_at_the_deadline_and_is_settled() {
    for hang in [Hang::Apply, Hang::Pacing] {
        for name in SLOW_WRITES {
            let backend = Scripted {
                hang: Some(hang),
                apply_takes: Duration::from_secs(600),
                ..Scripted::default()
            };
            let mut fixture = fixture(Mode::Live, backend);
            fixture.run.call(Sleep { milliseconds: HALF }).await.unwrap().unwrap();
            let began = Instant::now();
            let answer = slow_write(&mut fixture.run, name).await.unwrap();
            let text = answer.err().map(|error| error.to_string()).unwrap_or_default();
            // A deletion has one outcome per object in place of an error.
            assert!(text.contains("deadline") || name.starts_with("delete"), "{name}: {text}");
            assert!(began.elapsed() <= Duration::from_millis(HALF), "{:?}", began.elapsed());
            assert!(fixture.has_called(&format!("resolve {name}")), "{:?}", fixture.calls());
            assert_eq!(fixture.sent()[0], format!("apply {name}"));
            let entries = fixture.journal.entries();
            let closed = |entry: &Entry| match entry {
                Entry::Closed(closed) => closed.outcome.is_some(),
                _ => false,
            };
            assert!(entries.iter().any(closed), "{entries:?}");
            // The guest has time to clean up.
            fixture.run.call(list_pods()).await.unwrap().unwrap();
            let result = fixture.run.finish(not_fixed()).await;
            assert!(result.open.is_empty(), "{result:?}");
        }
    }
}

#[tokio::test]
async fn a_write_that_conflicts_at_the_deadline_is_not_sent_again() {
    let applies = Mutex::new([conflict(None, Write::Restart(restart("media")))].into());
    let apply_takes = Duration::from_secs(3_601);
    let backend = Scripted { applies, apply_takes, ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    let error = fixture.run.call(restart("media")).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("the run's deadline has passed"), "{error}");
    assert_eq!(fixture.sent(), ["apply restart-deployment.restart"]);
    // A write that begins after it, to clean up, may take until the guest is stopped.
    fixture.run.call(reconcile()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_write_in_doubt_is_resolved_after_the_deadline_and_not_sent_again() {
    let entries = died(1, async |run| drop(run.call(restart("media")).await)).await;
    let backend = Scripted::default();
    backend.clock.advance(Duration::from_secs(24 * 3_600));
    let mut fixture = recovered(entries, backend, grants());
    let error = fixture.run.call(restart("media")).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("the run's deadline has passed"), "{error}");
    assert_eq!(fixture.calls(), ["resolve restart-deployment.restart"]);
}

#[tokio::test(start_paused = true)]
async fn a_read_ends_when_the_guest_is_stopped() {
    let backend = Scripted { hang: Some(Hang::Read), ..Scripted::default() };
    let mut fixture = fixture(Mode::Live, backend);
    // One minute before the grace period ends.
    for milliseconds in [HALF, HALF, 540_000] {
        fixture.run.call(Sleep { milliseconds }).await.unwrap().unwrap();
    }
    let began = Instant::now();
    fixture.run.call(list_pods()).await.unwrap().unwrap_err();
    assert!(began.elapsed() <= Duration::from_secs(60), "{:?}", began.elapsed());
}
