//! Waits until suspended objects are idle. Suspending does not interrupt a reconciliation.

use crate::flux::{self, Activity};
use crate::object::{annotation, uid};
use crate::send::{MAX_CONCURRENT_REQUESTS, Session, concurrently};
use crate::temporary_change::last_manager;
use crate::time;
use salve_core::Millis;
use salve_core::capability::run_annotations::RUN;
use salve_core::capability::suspend_flux::PreviousSuspend;
use salve_core::capability::types::FluxRef;
use salve_core::outcome::Error;
use serde_json::Value;
use std::time::Duration;

/// How often the progress is read.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How long after all objects looked idle they are read again: a controller may have started a
/// reconciliation from its cache, which did not have the suspension yet, and report it only after
/// it has read the source and the dependencies.
const CONFIRM_AFTER: Duration = Duration::from_secs(5);

/// An object that this run has suspended.
#[derive(Clone, Copy)]
pub(super) struct Draining<'a> {
    pub(super) target: &'a FluxRef,
    pub(super) uid: &'a str,
}

/// Until when to wait.
#[derive(Clone, Copy)]
pub(super) struct Timeout {
    seconds: u32,
    until: Millis,
}

impl Timeout {
    /// Starts now.
    pub(super) fn start(session: &Session, seconds: u32) -> Self {
        Self { seconds, until: session.clock().now() + u64::from(seconds) * 1000 }
    }
}

/// Waits until all objects are idle, and confirms it after [`CONFIRM_AFTER`]. Returns one result
/// per object, in the same order.
///
/// # Errors
/// See [`wait_until_idle`].
pub(super) async fn drain(
    session: &Session,
    objects: &[Draining<'_>],
    seconds: u32,
) -> Vec<Result<(), Error>> {
    let timeout = Timeout::start(session, seconds);
    let results = wait_until_idle(session, objects, timeout).await;
    // A failed set is given up.
    if objects.is_empty() || results.iter().any(Result::is_err) {
        return results;
    }
    // A reconciliation that starts from now on finds the suspension.
    session.sleep(CONFIRM_AFTER).await;
    // mutant idle-not-confirmed: wait_until_idle(session, objects, timeout).await ~> results
    wait_until_idle(session, objects, timeout).await
}

/// Waits until all objects are idle. Returns one result per object, in the same order.
///
/// # Errors
/// `conflict` if an object was changed by someone else, `unavailable` if its reconciliation did not
/// end in time or the user asked to stop.
pub(super) async fn wait_until_idle(
    session: &Session,
    objects: &[Draining<'_>],
    timeout: Timeout,
) -> Vec<Result<(), Error>> {
    let mut results = vec![Ok(()); objects.len()];
    loop {
        let open: Vec<usize> = (0..objects.len()).filter(|index| results[*index].is_ok()).collect();
        let reads = open.iter().map(|index| observe(session, &objects[*index])).collect();
        let reads = concurrently(reads, MAX_CONCURRENT_REQUESTS).await;
        let end = match (session.clock().now() >= timeout.until, session.stop_requested()) {
            (true, _) => Some(WaitEnd::TimedOut(timeout.seconds)),
            (false, true) => Some(WaitEnd::Stopped),
            (false, false) => None,
        };
        let mut is_busy = false;
        for (index, read) in open.into_iter().zip(reads) {
            match read.and_then(|read| read.decide(objects[index].target, end)) {
                Ok(Decision::Idle) => {}
                Ok(Decision::Wait) => is_busy = true,
                Err(error) => results[index] = Err(error),
            }
        }
        if !is_busy {
            return results;
        }
        session.sleep(POLL_INTERVAL).await;
    }
}

/// Why the wait ends while an object is not idle.
#[derive(Clone, Copy)]
pub(super) enum WaitEnd {
    /// After this many seconds.
    TimedOut(u32),
    Stopped,
}

/// What to do after an object was read.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    Idle,
    Wait,
}

/// A suspended object, as it was read.
pub(super) struct Observed {
    pub(super) activity: Activity,
    /// See [`flux::interrupted_at`].
    pub(super) interrupted_at: Option<Millis>,
}

/// Reads an object, and checks that this run still suspends it.
async fn observe(session: &Session, draining: &Draining<'_>) -> Result<Observed, Error> {
    let Draining { target, uid: uid_before } = draining;
    let object = flux::get(session, target).await?;
    if !is_suspended_by_run(&object, uid_before, session.run()) {
        return Err(Error::Conflict(format!(
            "{target} was changed by {} while waiting for its reconciliation to end",
            last_manager(&object, &flux::SUSPEND)
        )));
    }
    let now = session.clock().now();
    Ok(Observed {
        // mutant suspend-skips-drain: flux::activity(target.kind, &object, now) ~> Activity::Idle
        activity: flux::activity(target.kind, &object, now),
        interrupted_at: flux::interrupted_at(target.kind, &object),
    })
}

fn is_suspended_by_run(object: &Value, uid_before: &str, run: &str) -> bool {
    uid(object) == uid_before
        && annotation(object, RUN) == Some(run)
        && PreviousSuspend::of(object) == PreviousSuspend::True
}

impl Observed {
    /// Decides whether to wait for an object. `end` is why the wait must end now, if it must.
    pub(super) fn decide(self, target: &FluxRef, end: Option<WaitEnd>) -> Result<Decision, Error> {
        match (self.activity, end) {
            (Activity::Idle, _) => Ok(Decision::Idle),
            (Activity::Preparing | Activity::Applying(_), None) => Ok(Decision::Wait),
            // Its controller neither observed the suspension nor started an upgrade in all this
            // time: it is down.
            (Activity::Preparing, Some(WaitEnd::TimedOut(_))) => Ok(Decision::Idle),
            (Activity::Applying(message), Some(WaitEnd::TimedOut(seconds))) => {
                let report = match message.as_str() {
                    "" => String::new(),
                    message => format!(" (its controller reports: {message})"),
                };
                let retry = self.interrupted_at.map_or_else(String::new, |at| {
                    format!("; if its controller is down, try again after {}", time::seconds(at))
                });
                Err(Error::Unavailable(format!(
                    "the reconciliation of {target} did not end within {seconds} s{report}{retry}"
                )))
            }
            (Activity::Preparing | Activity::Applying(_), Some(WaitEnd::Stopped)) => {
                Err(Error::Unavailable(format!(
                    "stopped while the reconciliation of {target} was in progress"
                )))
            }
        }
    }
}
