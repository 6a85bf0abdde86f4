//! `suspend-flux`: suspends a set of Flux objects one after the other, and waits until they are
//! idle.

mod drain;
mod leftovers;

use crate::capability::query_flux;
use crate::flux;
use crate::object::{annotation, instant, is_terminating, truncated, uid};
use crate::perform::{Applied, PerformReversal, PerformWrite};
use crate::resource::Resource;
use crate::send::{MAX_CONCURRENT_REQUESTS, Session, concurrently};
use crate::temporary_change::in_doubt::{self, Resolution};
use crate::temporary_change::release::{self, Restore};
use crate::temporary_change::{self, last_manager, taken_over_by};
use crate::time;
use drain::{Draining, Timeout, drain, wait_until_idle};
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
    if let Some(parent) = flux::reverting_operator_parent(object) {
        let (kind, namespace, name) =
            (target.kind.flux_argument(), &target.namespace, &target.name);
        return Err(Error::Conflict(format!(
            "{parent} sets spec.suspend of {target} (field manager flux-operator) and would revert \
            the suspension, and Salve cannot pause it; pause it with `{}`, and suspend {target} \
            with `flux suspend {kind} {name} -n {namespace}`; after the run, resume {target} and \
            remove the annotation",
            parent.pause_command()
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
enum SuspendStep<'a> {
    /// It needs no suspend.
    Finished(SuspendResult),
    /// It was suspended; a reconciliation may be in progress. Contains its state before.
    Suspended(&'a Value),
    /// The object must be read again before another attempt. Contains the cause.
    Retry(String),
    /// The set fails. With `doubtful`, the suspend may still be applied.
    Failed { error: Error, doubtful: bool },
}

/// The results of a set so far.
#[derive(Default)]
struct Progress<'a> {
    results: Vec<SuspendResult>,
    /// The objects that were suspended, with the index of their results.
    suspended: Vec<(usize, Draining<'a>)>,
    /// How many of `suspended` have been seen idle.
    idle: usize,
}

impl<'a> Progress<'a> {
    fn push(&mut self, target: &FluxRef, outcome: SuspendOutcome) {
        self.results.push(SuspendResult { target: target.clone(), outcome });
    }

    fn push_suspended(&mut self, target: &'a FluxRef, before: &'a Value) {
        self.suspended.push((self.results.len(), Draining { target, uid: uid(before) }));
        let suspended =
            Suspended { uid: uid(before).to_owned(), previous: PreviousSuspend::of(before) };
        self.push(target, SuspendOutcome::Suspended(suspended));
    }

    /// Waits at most `seconds` until `parent` is idle, if it was suspended. Returns false if it is
    /// not idle.
    async fn wait_for(&mut self, session: &Session, parent: &FluxRef, seconds: u32) -> bool {
        let open = &self.suspended[self.idle..];
        if open.iter().all(|(_, suspended)| suspended.target != parent) {
            return true;
        }
        let objects: Vec<_> = open.iter().map(|(_, suspended)| *suspended).collect();
        let timeout = Timeout::start(session, seconds);
        let waited = wait_until_idle(session, &objects, timeout).await;
        let is_idle = self.record(self.idle, waited);
        self.idle = self.suspended.len();
        is_idle
    }

    /// Waits at most `seconds` until all suspended objects are idle. Returns false if one of them
    /// is not.
    async fn drain(&mut self, session: &Session, seconds: u32) -> bool {
        let objects: Vec<_> = self.suspended.iter().map(|(_, suspended)| *suspended).collect();
        let waited = drain(session, &objects, seconds).await;
        self.record(0, waited)
    }

    /// Returns a result for each of `targets`, of which those without a result were not tried.
    fn finish(mut self, targets: &[FluxRef]) -> Vec<SuspendResult> {
        for target in &targets[self.results.len()..] {
            self.push(target, SuspendOutcome::NotTried);
        }
        self.results
    }

    /// Records failures of the suspended objects from the `first` on. Returns false if there are
    /// any.
    fn record(&mut self, first: usize, waited: Vec<Result<(), Error>>) -> bool {
        let mut is_idle = true;
        for ((index, _), waited) in self.suspended[first..].iter().zip(waited) {
            if let Err(error) = waited {
                self.results[*index].outcome = SuspendOutcome::Failed { error, doubtful: false };
                is_idle = false;
            }
        }
        is_idle
    }
}

/// Suspends the objects in order, and waits until all of their reconciliations have ended.
///
/// # Guarantees
/// A request is only sent once the outcome of the one before is known, and that for an object only
/// once its parent is idle: a reconciliation of the parent could revert it. A conflict splits the
/// set: `completed` contains the finished objects, `remaining` the others in order.
async fn suspend(session: &Session, call: &Suspend, observed: &ObservedState) -> Applied<Suspend> {
    let mut progress = Progress::default();
    let mut conflict = None;
    for (index, target) in call.targets.iter().enumerate() {
        let before = observed.flux_object(target);
        // mutant child-suspended-before-parent-is-idle: (flux::labelled_owner)
        //     ~> (flux::labelled_owner).filter(|_| false)
        if let Some(parent) = before.and_then(flux::labelled_owner)
            && !progress.wait_for(session, &parent, call.drain_seconds).await
        {
            return Applied::Done(Ok(progress.finish(&call.targets)));
        }
        let step = if index > 0 && session.stop_requested() {
            SuspendStep::Failed {
                error: Error::Unavailable(format!("stopped before {target} was suspended")),
                doubtful: false,
            }
        } else {
            match before {
                Some(before) => suspend_object(session, call, target, before).await,
                None => recheck(session, target, &call.targets[..index]).await,
            }
        };
        match step {
            SuspendStep::Finished(result) => progress.results.push(result),
            SuspendStep::Suspended(before) => progress.push_suspended(target, before),
            SuspendStep::Retry(message) => {
                conflict = Some(message);
                break;
            }
            SuspendStep::Failed { error, doubtful } => {
                progress.push(target, SuspendOutcome::Failed { error, doubtful });
                // mutant suspend-continues-after-failure: break ~> continue
                break;
            }
        }
    }
    let is_drained = progress.drain(session, call.drain_seconds).await;
    match conflict {
        Some(message) if is_drained => {
            let remaining = call.targets[progress.results.len()..].to_vec();
            Applied::Conflict {
                completed: (!progress.results.is_empty()).then_some(progress.results),
                remaining: Suspend { targets: remaining, ..call.clone() },
                message,
            }
        }
        Some(_) | None => Applied::Done(Ok(progress.finish(&call.targets))),
    }
}

/// Reads an object again that needed no suspend before, to report the reason.
async fn recheck<'a>(session: &Session, target: &FluxRef, earlier: &[FluxRef]) -> SuspendStep<'a> {
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

async fn suspend_object<'a>(
    session: &Session,
    call: &Suspend,
    target: &FluxRef,
    before: &'a Value,
) -> SuspendStep<'a> {
    let resource = match flux::resource(session, target.kind).await {
        Ok(resource) => resource,
        Err(error) => return SuspendStep::Failed { error, doubtful: false },
    };
    let previous = (PREVIOUS, PreviousSuspend::of(before).as_str());
    let metadata = temporary_change::metadata(session, before, &call.reason, previous);
    let patch = json!({"metadata": metadata, "spec": {"suspend": true}});
    match temporary_change::apply(session, &resource, &target.target(), before, patch).await {
        Ok(Resolution::Applied(_)) => SuspendStep::Suspended(before),
        Ok(Resolution::NotApplied(message)) => SuspendStep::Retry(message),
        Ok(Resolution::Unknown(error)) => SuspendStep::Failed { error, doubtful: true },
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
    let (mut progress, mut remaining) = (Progress::default(), Vec::new());
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
            Resolution::Applied(_) => progress.push_suspended(target, before),
            Resolution::NotApplied(_) => {
                rest_not_sent = true;
                remaining.push(target.clone());
            }
            Resolution::Unknown(error) => return Applied::Done(Err(error)),
        }
    }
    progress.drain(session, call.drain_seconds).await;
    let results = progress.results;
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
