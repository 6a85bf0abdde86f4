//! `suspend-flux`: suspends a set of Flux objects one after the other, waiting for each to become
//! idle.

mod leftovers;

use crate::capability::query_flux;
use crate::flux::{self, Activity};
use crate::object::{annotation, instant, is_terminating, truncated, uid};
use crate::perform::{Applied, PerformReversal, PerformWrite};
use crate::resource::Resource;
use crate::send::{MAX_CONCURRENT_REQUESTS, Session, concurrently};
use crate::temporary_change::in_doubt::{self, Resolution};
use crate::temporary_change::release::{self, Restore};
use crate::temporary_change::{self, last_manager, taken_over_by};
use crate::time;
use salve_core::Millis;
use salve_core::capability::host::Leftover;
use salve_core::capability::run_annotations::{DEADLINE, REASON, RUN};
use salve_core::capability::suspend_flux::{
    PREVIOUS, PreviousSuspend, Resume, Suspend, SuspendOutcome, SuspendResult, Suspended,
};
use salve_core::capability::types::{FluxRef, Kind};
use salve_core::capability::{Released, Target};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{Current, ReleaseOutcome};
use serde_json::{Value, json};
use std::time::Duration;

/// How often the progress of a drain is read.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The state of an object before it is suspended.
#[derive(Debug, PartialEq)]
enum Precheck {
    Suspendable,
    SuspendedByThisRun(Suspended),
    /// Suspended by a user, with a description; it stays suspended.
    SuspendedByOther(String),
}

/// Reads the objects. The observed state contains those that will be suspended.
///
/// # Errors
/// `conflict` if another run has suspended one of them, or a parent would revert the suspension.
async fn read_before_suspend(
    session: &Session,
    call: &Suspend,
) -> Result<Current<Vec<SuspendResult>>, Error> {
    let found = concurrently(
        call.targets.iter().map(|target| flux::get(session, target)).collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let (mut objects, mut finished) = (Vec::new(), Vec::new());
    for (index, (target, object)) in call.targets.iter().zip(found).enumerate() {
        let object = object?;
        let parent_suspended =
            parent_is_suspended(session, target, &object, &call.targets[..index]).await?;
        match check_suspendable(
            target,
            &object,
            session.run(),
            parent_suspended,
            session.clock().now(),
        )? {
            Precheck::Suspendable => objects.push(flux::saved_fields(&object)),
            other @ (Precheck::SuspendedByThisRun(_) | Precheck::SuspendedByOther(_)) => {
                finished.extend(other.into_result(target));
            }
        }
    }
    if objects.is_empty() {
        return Ok(Current::AlreadyDone(finished));
    }
    Ok(Current::Ready(ObservedState { objects, at: session.clock().now() }))
}

impl Precheck {
    /// Returns the result for an object that needs no suspend, or None if it can be suspended.
    fn into_result(self, target: &FluxRef) -> Option<SuspendResult> {
        let outcome = match self {
            Self::Suspendable => return None,
            Self::SuspendedByThisRun(suspended) => SuspendOutcome::Suspended(suspended),
            Self::SuspendedByOther(why) => SuspendOutcome::AlreadySuspended(why),
        };
        Some(SuspendResult { target: target.clone(), outcome })
    }
}

/// Checks whether this run may suspend an object.
fn check_suspendable(
    target: &FluxRef,
    object: &Value,
    run: &str,
    parent_suspended: bool,
    now: Millis,
) -> Result<Precheck, Error> {
    if is_terminating(object) {
        return Err(Error::Conflict(format!(
            "{target} is being deleted; suspending it would orphan the objects that it manages"
        )));
    }
    let suspended = PreviousSuspend::of(object) == PreviousSuspend::True;
    match annotation(object, RUN) {
        Some(holder) if holder == run && suspended => {
            return Ok(Precheck::SuspendedByThisRun(Suspended {
                uid: uid(object).to_owned(),
                previous: PreviousSuspend::parse(annotation(object, PREVIOUS)),
            }));
        }
        // An object that was resumed manually but still has the annotations of a crashed run can be
        // suspended once that run's deadline has passed.
        // mutant other-run-not-seen: (suspended ~> !suspended && (suspended
        Some(holder)
            if holder != run
                && (suspended
                    || instant(&json!({"at": annotation(object, DEADLINE)}), "/at")
                        .is_none_or(|until| until > now)) =>
        {
            let reason = annotation(object, REASON)
                .filter(|r| !r.is_empty())
                .map_or_else(String::new, |r| format!(" ({})", truncated(r, 200)));
            return Err(Error::Conflict(format!(
                "{target} was suspended by run {holder}{reason}; wait for that run to finish, \
                or see `salve doctor`"
            )));
        }
        Some(holder) if holder == run && annotation(object, PREVIOUS).is_none() => {
            return Err(Error::Conflict(format!(
                "{target} is already changed by this run; release that first"
            )));
        }
        Some(_) | None => {}
    }
    // mutant earlier-suspension-claimed: (object) ~> (object).filter(|_| target.name.is_empty())
    if let Some(by) = flux::suspended_by(object) {
        let manager = by.manager.unwrap_or_else(|| "an unknown manager".into());
        let since = by.since.map_or_else(String::new, |at| format!(" since {}", time::seconds(at)));
        return Ok(Precheck::SuspendedByOther(format!("already suspended by {manager}{since}")));
    }
    // mutant parent-revert-ignored: true ~> false
    if let (true, Some(parent), Some(manager)) = (
        flux::parse(target, object, parent_suspended).parent_reverts,
        flux::labelled_owner(object),
        flux::suspend_applied_by(object),
    ) {
        return Err(Error::Conflict(format!(
            "{parent} sets spec.suspend of {target} (field manager {manager}) and would revert the \
            suspension; suspend {parent} first"
        )));
    }
    Ok(Precheck::Suspendable)
}

/// Returns true if the parent applies nothing: it comes earlier in this set, or is suspended
/// already.
async fn parent_is_suspended(
    session: &Session,
    target: &FluxRef,
    object: &Value,
    earlier: &[FluxRef],
) -> Result<bool, Error> {
    let Some(parent) = flux::labelled_owner(object)
        .filter(|parent| parent != target && flux::suspend_applied_by(object).is_some())
    else {
        return Ok(false);
    };
    if earlier.contains(&parent) {
        return Ok(true);
    }
    query_flux::is_suspended(session, &parent).await
}

/// The outcome of one step: suspending one object of the set.
enum SuspendStep {
    Finished(SuspendResult),
    /// The object must be read again before another attempt. Contains the cause.
    Retry(String),
    /// The set fails. With `doubtful`, the suspend may still be applied.
    Failed {
        error: Error,
        doubtful: bool,
    },
}

/// Suspends the objects in order, waiting after each until its reconciliation has ended.
///
/// # Guarantees
/// A request is only sent once the outcome of the one before is known. A conflict splits the set:
/// `completed` contains the finished objects, `remaining` the others in order.
async fn suspend(session: &Session, call: &Suspend, observed: &ObservedState) -> Applied<Suspend> {
    let mut results = Vec::new();
    for (index, target) in call.targets.iter().enumerate() {
        let step = if index > 0 && session.stop_requested() {
            SuspendStep::Failed {
                error: Error::Unavailable(format!("stopped before {target} was suspended")),
                doubtful: false,
            }
        } else {
            match observed.flux_object(target) {
                Some(before) => suspend_object(session, call, target, before).await,
                None => recheck(session, target, &call.targets[..index]).await,
            }
        };
        match step {
            SuspendStep::Finished(result) => results.push(result),
            SuspendStep::Retry(message) => {
                let remaining = Suspend { targets: call.targets[index..].to_vec(), ..call.clone() };
                return Applied::Conflict {
                    completed: (!results.is_empty()).then_some(results),
                    remaining,
                    message,
                };
            }
            SuspendStep::Failed { error, doubtful } => {
                results.push(SuspendResult {
                    target: target.clone(),
                    outcome: SuspendOutcome::Failed { error, doubtful },
                });
                results.extend(call.targets[index + 1..].iter().map(|target| SuspendResult {
                    target: target.clone(),
                    outcome: SuspendOutcome::NotTried,
                }));
                // mutant suspend-continues-after-failure: break ~> continue
                break;
            }
        }
    }
    Applied::Done(Ok(results))
}

/// Reads an object again that needed no suspend before, to report the reason.
async fn recheck(session: &Session, target: &FluxRef, earlier: &[FluxRef]) -> SuspendStep {
    let precheck = async {
        let object = flux::get(session, target).await?;
        let parent_suspended = parent_is_suspended(session, target, &object, earlier).await?;
        check_suspendable(target, &object, session.run(), parent_suspended, session.clock().now())
    };
    match precheck.await {
        Ok(precheck) => precheck.into_result(target).map_or_else(
            || SuspendStep::Retry(format!("{target} was resumed in the meantime")),
            SuspendStep::Finished,
        ),
        Err(error) => SuspendStep::Failed { error, doubtful: false },
    }
}

async fn suspend_object(
    session: &Session,
    call: &Suspend,
    target: &FluxRef,
    before: &Value,
) -> SuspendStep {
    let resource = match flux::resource(session, target.kind).await {
        Ok(resource) => resource,
        Err(error) => return SuspendStep::Failed { error, doubtful: false },
    };
    let previous = (PREVIOUS, PreviousSuspend::of(before).as_str());
    let metadata = temporary_change::metadata(session, before, &call.reason, previous);
    let patch = json!({"metadata": metadata, "spec": {"suspend": true}});
    match temporary_change::apply(session, &resource, &target.target(), before, patch).await {
        Ok(Resolution::Applied(_)) => drain_and_finish(session, call, target, before).await,
        Ok(Resolution::NotApplied(message)) => SuspendStep::Retry(message),
        Ok(Resolution::Unknown(error)) => SuspendStep::Failed { error, doubtful: true },
        Err(error) => SuspendStep::Failed { error, doubtful: false },
    }
}

async fn drain_and_finish(
    session: &Session,
    call: &Suspend,
    target: &FluxRef,
    before: &Value,
) -> SuspendStep {
    match drain(session, target, uid(before), call.drain_seconds).await {
        Ok(()) => {
            let suspended =
                Suspended { uid: uid(before).to_owned(), previous: PreviousSuspend::of(before) };
            SuspendStep::Finished(SuspendResult {
                target: target.clone(),
                outcome: SuspendOutcome::Suspended(suspended),
            })
        }
        Err(error) => SuspendStep::Failed { error, doubtful: false },
    }
}

/// Reads which objects of a set were suspended. Afterwards, a request that was in flight can no
/// longer be applied.
async fn resolve_suspend(
    session: &Session,
    call: &Suspend,
    observed: &ObservedState,
) -> Applied<Suspend> {
    let (mut results, mut remaining) = (Vec::new(), Vec::new());
    let mut rest_not_sent = false;
    for target in &call.targets {
        let Some(before) = observed.flux_object(target) else {
            remaining.push(target.clone());
            continue;
        };
        let resource = match flux::resource(session, target.kind).await {
            Ok(resource) => resource,
            Err(error) => return Applied::Done(Err(error)),
        };
        // Requests are sent one after the other: after one that was not applied, none was sent.
        let resolution = if rest_not_sent {
            in_doubt::check_applied(session, &resource, &target.target(), before).await
        } else {
            let why = "the process that sent it ended";
            in_doubt::resolve(session, &resource, &target.target(), before, why).await
        };
        match resolution {
            Resolution::Applied(_) => match drain_and_finish(session, call, target, before).await {
                SuspendStep::Finished(result) => results.push(result),
                SuspendStep::Failed { error, .. } => results.push(SuspendResult {
                    target: target.clone(),
                    outcome: SuspendOutcome::Failed { error, doubtful: false },
                }),
                SuspendStep::Retry(_) => remaining.push(target.clone()),
            },
            Resolution::NotApplied(_) => {
                rest_not_sent = true;
                remaining.push(target.clone());
            }
            Resolution::Unknown(error) => return Applied::Done(Err(error)),
        }
    }
    if remaining.is_empty() {
        return Applied::Done(Ok(results));
    }
    let message = format!("{} of {} were not suspended", remaining.len(), call.targets.len());
    Applied::Conflict {
        completed: (!results.is_empty()).then_some(results),
        remaining: Suspend { targets: remaining, ..call.clone() },
        message,
    }
}

/// Waits until the object is idle. Suspending does not interrupt a reconciliation.
async fn drain(
    session: &Session,
    target: &FluxRef,
    uid_before: &str,
    seconds: u32,
) -> Result<(), Error> {
    let clock = session.clock();
    let until = clock.now() + u64::from(seconds) * 1000;
    loop {
        let object = flux::get(session, target).await?;
        if uid(&object) != uid_before
            || annotation(&object, RUN) != Some(session.run())
            || PreviousSuspend::of(&object) != PreviousSuspend::True
        {
            return Err(Error::Conflict(format!(
                "{target} was changed by {} while waiting for its reconciliation to end",
                last_manager(&object, &flux::SUSPEND)
            )));
        }
        let now = clock.now();
        // mutant suspend-skips-drain: flux::activity(target.kind, &object, now) ~> Activity::Idle
        match flux::activity(target.kind, &object, now) {
            Activity::Idle => return Ok(()),
            // Its controller did not go on in all this time: it is down, or has no prerequisites.
            Activity::Preparing if now >= until => return Ok(()),
            Activity::Applying(message) if now >= until => {
                return Err(Error::Unavailable(still_applying(target, &object, &message, seconds)));
            }
            Activity::Preparing | Activity::Applying(_) => {}
        }
        if session.stop_requested() {
            return Err(Error::Unavailable(format!(
                "stopped while the reconciliation of {target} was in progress"
            )));
        }
        session.sleep(POLL_INTERVAL).await;
    }
}

/// Describes a reconciliation that did not end in time.
fn still_applying(target: &FluxRef, object: &Value, message: &str, seconds: u32) -> String {
    let report = match message {
        "" => String::new(),
        message => format!(" (its controller reports: {message})"),
    };
    let interrupted = flux::interrupted_at(target.kind, object).map_or_else(String::new, |at| {
        format!("; if its controller is down, try again after {}", time::seconds(at))
    });
    format!("the reconciliation of {target} did not end within {seconds} s{report}{interrupted}")
}

impl Restore for Resume {
    fn target(&self) -> Target {
        self.target.target()
    }
    fn uid(&self) -> &str {
        &self.uid
    }
    async fn resource(&self, session: &Session) -> Result<Resource, Error> {
        flux::resource(session, self.target.kind).await
    }
    fn saved_fields(&self, object: &Value) -> Value {
        flux::saved_fields(object)
    }
    fn field(&self) -> Vec<&str> {
        flux::SUSPEND.into()
    }
    fn previous(&self) -> Value {
        match self.previous {
            // mutant absent-restored-as-false: Null ~> Bool(false)
            PreviousSuspend::Absent => Value::Null,
            PreviousSuspend::False => Value::Bool(false),
            PreviousSuspend::True => Value::Bool(true),
        }
    }
    fn annotations(&self) -> Vec<String> {
        [RUN, REASON, DEADLINE, PREVIOUS].map(str::to_owned).into()
    }
    fn check_still_set(&self, object: &Value) -> Result<(), Option<String>> {
        if PreviousSuspend::of(object) != PreviousSuspend::True {
            return Err(Some(format!("{} resumed it", last_manager(object, &flux::SUSPEND))));
        }
        match taken_over_by(object, &flux::SUSPEND) {
            Some(manager) => Err(Some(format!("{manager} suspended it again"))),
            None => Ok(()),
        }
    }
}

impl PerformWrite for Suspend {
    async fn read_current(
        &self,
        session: &Session,
        _: Option<&ObservedState>,
    ) -> Result<Current<Vec<SuspendResult>>, Error> {
        read_before_suspend(session, self).await
    }
    async fn apply(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        suspend(session, self, observed).await
    }
    async fn resolve(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        resolve_suspend(session, self, observed).await
    }
}

impl PerformReversal for Resume {
    async fn read_current(
        &self,
        session: &Session,
        in_doubt: Option<&ObservedState>,
    ) -> Result<Current<Released>, Error> {
        release::read_current(session, self, in_doubt).await
    }
    async fn release(&self, session: &Session, observed: &ObservedState) -> ReleaseOutcome {
        release::release(session, self, observed).await
    }
    async fn leftovers(session: &Session, _: &[Kind]) -> Result<Vec<Leftover>, Error> {
        leftovers::find(session).await
    }
}

#[cfg(test)]
mod tests;
