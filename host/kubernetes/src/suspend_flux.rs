//! `suspend-flux`: suspends a set of Flux objects, one after the other, each once the one before it rests.
//! The way back is in `release`, writes of which nobody knows what became in `doubt`.

mod doubt;
mod release;

use crate::backend::ClusterBackend;
use crate::flux;
use crate::object::{annotation, instant, is_terminating, uid, version};
use crate::send::{Session, concurrently};
use crate::time;
use doubt::Settled;
use salve_core::Millis;
use salve_core::effect::suspend_flux::{
    DEADLINE, PRIOR, PreviousSuspend, REASON, RUN, Suspend, SuspendOutcome, SuspendResult,
    Suspended,
};
use salve_core::effect::{Answer, Write, shared::FluxRef};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{ApplyOutcome, Prepared};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) use release::{prepare_resume, resume};

/// How many are read at once.
const AT_ONCE: usize = 16;
/// How often the drain is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How an object stands before it is suspended.
#[derive(Debug, PartialEq)]
enum Precheck {
    /// It may be suspended.
    Free,
    /// This run has suspended it already.
    Ours(Suspended),
    /// A person has: it stays so.
    Theirs(String),
}

/// Reads what is to be suspended. The prior holds those that will be.
///
/// # Errors
/// `conflict` where another run holds one of them, or a parent would undo the suspend.
pub(crate) async fn prepare_suspend(
    backend: &ClusterBackend,
    session: &Session,
    ask: &Suspend,
) -> Result<Prepared, Error> {
    let found = concurrently(
        ask.targets.iter().map(|target| flux::get(session, target)).collect(),
        AT_ONCE,
    )
    .await;
    let (mut objects, mut settled) = (Vec::new(), Vec::new());
    for (index, (target, object)) in ask.targets.iter().zip(found).enumerate() {
        let object = object?;
        let parent_suspended =
            parent_is_suspended(session, target, &object, &ask.targets[..index]).await?;
        match standing(target, &object, backend.run(), parent_suspended, session.clock().now())? {
            Precheck::Free => objects.push(flux::outline(&object)),
            other => settled.extend(other.hold(target)),
        }
    }
    if objects.is_empty() {
        return Ok(Prepared::AlreadyDone(Answer::Suspend(settled)));
    }
    Ok(Prepared::Ready(ObservedState { objects, at: session.clock().now() }))
}

impl Precheck {
    /// What there is to say of an object that needs no suspend.
    fn hold(self, target: &FluxRef) -> Option<SuspendResult> {
        let outcome = match self {
            Self::Free => return None,
            Self::Ours(suspended) => SuspendOutcome::Suspended(suspended),
            Self::Theirs(why) => SuspendOutcome::AlreadySuspended(why),
        };
        Some(SuspendResult { target: target.clone(), outcome })
    }
}

/// Whether we may suspend it.
fn standing(
    target: &FluxRef,
    object: &Value,
    run: &str,
    parent_suspended: bool,
    now: Millis,
) -> Result<Precheck, Error> {
    if is_terminating(object) {
        return Err(Error::Conflict(format!(
            "{target} is being deleted; suspended, it would leave behind all that it made"
        )));
    }
    let suspended = flux::suspend(object) == PreviousSuspend::True;
    match annotation(object, RUN) {
        Some(holder) if holder == run && suspended => {
            return Ok(Precheck::Ours(Suspended {
                uid: uid(object).to_owned(),
                previous: marked_prior(object),
            }));
        }
        // What a person has resumed and a dead run left marked holds nobody up once its time is over.
        // mutant other-run-not-seen: (suspended ~> !suspended && (suspended
        Some(holder)
            if holder != run
                && (suspended
                    || instant(&json!({"at": annotation(object, DEADLINE)}), "/at")
                        .is_none_or(|until| until > now)) =>
        {
            let reason = annotation(object, REASON)
                .filter(|r| !r.is_empty())
                .map_or_else(String::new, |r| format!(" ({})", crate::object::capped(r, 200)));
            return Err(Error::Conflict(format!(
                "{target} is held by run {holder}{reason}; let it finish, or see `salve doctor`"
            )));
        }
        Some(_) | None => {}
    }
    // mutant earlier-suspension-claimed: (object) ~> (object).filter(|_| target.name.is_empty())
    if let Some(by) = flux::suspended_by(object) {
        let manager = by.manager.unwrap_or_else(|| "somebody".into());
        let since = by.since.map_or_else(String::new, |at| format!(" since {}", time::seconds(at)));
        return Ok(Precheck::Theirs(format!("suspended already, by {manager}{since}")));
    }
    // mutant parent-revert-ignored: true ~> false
    if let (true, Some(parent), Some(manager)) = (
        flux::read(target, object, parent_suspended).parent_reverts,
        flux::labelled_owner(object),
        flux::suspend_applied_by(object),
    ) {
        return Err(Error::Conflict(format!(
            "{parent} states spec.suspend of {target} (applied by {manager}) and would undo the suspend: suspend {parent} first"
        )));
    }
    Ok(Precheck::Free)
}

/// Whether the parent applies nothing: because it goes first in this set, or because it is seen to be suspended.
async fn parent_is_suspended(
    session: &Session,
    target: &FluxRef,
    object: &Value,
    first: &[FluxRef],
) -> Result<bool, Error> {
    let Some(parent) = flux::labelled_owner(object)
        .filter(|parent| parent != target && flux::suspend_applied_by(object).is_some())
    else {
        return Ok(false);
    };
    if first.contains(&parent) {
        return Ok(true);
    }
    crate::query_flux::is_suspended(session, &parent).await
}

fn marked_prior(object: &Value) -> PreviousSuspend {
    match annotation(object, PRIOR) {
        Some("false") => PreviousSuspend::False,
        Some("true") => PreviousSuspend::True,
        Some(_) | None => PreviousSuspend::Absent,
    }
}

fn word(observed: PreviousSuspend) -> &'static str {
    match observed {
        PreviousSuspend::Absent => "absent",
        PreviousSuspend::False => "false",
        PreviousSuspend::True => "true",
    }
}

/// One write: the field, and who, why, how long and what it was before.
fn mark(backend: &ClusterBackend, reason: &str, object: &Value) -> Value {
    json!({
        // mutant suspend-without-resource-version: resourceVersion": version(object), " ~>
        "metadata": {"uid": uid(object), "resourceVersion": version(object), "annotations": {
            RUN: backend.run(), REASON: reason, DEADLINE: time::seconds(backend.deadline()), PRIOR: word(flux::suspend(object)),
        }},
        "spec": {"suspend": true},
    })
}

/// What became of one object of the set.
enum One {
    /// There is an answer.
    GuestExited(SuspendResult),
    /// It has to be read and tried again.
    Again(String),
    /// It came to nothing, and so does the set.
    Failed { error: Error, doubtful: bool },
}

/// Suspends them in their order, and waits after each until the reconciliation in progress has ended.
///
/// # Guarantees
/// One is sent only after it is known what became of the one before it. A conflict splits the set: `completed` answers what is settled, `rest`
/// holds the others in their order.
pub(crate) async fn suspend(
    backend: &ClusterBackend,
    session: &Session,
    ask: &Suspend,
    observed: &ObservedState,
) -> ApplyOutcome {
    let mut holds = Vec::new();
    for (index, target) in ask.targets.iter().enumerate() {
        let one = if index > 0 && session.stopped() {
            One::Failed {
                error: Error::Unavailable(format!("stopped before {target} was suspended")),
                doubtful: false,
            }
        } else {
            match observed.of(target) {
                Some(before) => suspend_one(backend, session, ask, target, before).await,
                None => look_again(backend, session, target, &ask.targets[..index]).await,
            }
        };
        match one {
            One::GuestExited(hold) => holds.push(hold),
            One::Again(message) => {
                let rest = Write::Suspend(Suspend {
                    targets: ask.targets[index..].to_vec(),
                    ..ask.clone()
                });
                return ApplyOutcome::Conflict {
                    completed: (!holds.is_empty()).then_some(Answer::Suspend(holds)),
                    rest,
                    message,
                };
            }
            One::Failed { error, doubtful } => {
                holds.push(SuspendResult {
                    target: target.clone(),
                    outcome: SuspendOutcome::Failed { error, doubtful },
                });
                holds.extend(ask.targets[index + 1..].iter().map(|target| SuspendResult {
                    target: target.clone(),
                    outcome: SuspendOutcome::NotTried,
                }));
                // mutant suspend-continues-after-failure: break ~> continue
                break;
            }
        }
    }
    ApplyOutcome::Done(Ok(Answer::Suspend(holds)))
}

/// It needed no suspend when it was read. Why, the prior does not hold.
async fn look_again(
    backend: &ClusterBackend,
    session: &Session,
    target: &FluxRef,
    first: &[FluxRef],
) -> One {
    let seen = async {
        let object = flux::get(session, target).await?;
        let parent_suspended = parent_is_suspended(session, target, &object, first).await?;
        standing(target, &object, backend.run(), parent_suspended, session.clock().now())
    };
    match seen.await {
        Ok(standing) => standing.hold(target).map_or_else(
            || One::Again(format!("{target} was resumed meanwhile")),
            One::GuestExited,
        ),
        Err(error) => One::Failed { error, doubtful: false },
    }
}

async fn suspend_one(
    backend: &ClusterBackend,
    session: &Session,
    ask: &Suspend,
    target: &FluxRef,
    before: &Value,
) -> One {
    let resource = match flux::served(session, target.kind).await {
        Ok(resource) => resource,
        Err(error) => return One::Failed { error, doubtful: false },
    };
    let settled = match session
        .patch(&resource, &target.namespace, &target.name, mark(backend, &ask.reason, before))
        .await
    {
        Ok(_) => Settled::Applied,
        Err(failure) if failure.is_stale() => Settled::NotApplied(failure.message()),
        // mutant lost-suspend-not-applied: doubt::settle(backend, session, &resource, target,
        //     before, &failure.message()).await ~> AlreadyDone::NotApplied(failure.message())
        Err(failure) if failure.is_lost() => {
            doubt::settle(backend, session, &resource, target, before, &failure.message()).await
        }
        Err(failure) => return One::Failed { error: failure.into(), doubtful: false },
    };
    match settled {
        Settled::Applied => rested(backend, session, ask, target, before).await,
        Settled::NotApplied(message) => One::Again(message),
        Settled::Unknown(error) => One::Failed { error, doubtful: true },
    }
}

async fn rested(
    backend: &ClusterBackend,
    session: &Session,
    ask: &Suspend,
    target: &FluxRef,
    before: &Value,
) -> One {
    match drain(backend, session, target, uid(before), ask.drain_seconds).await {
        Ok(()) => {
            let suspended =
                Suspended { uid: uid(before).to_owned(), previous: flux::suspend(before) };
            One::GuestExited(SuspendResult {
                target: target.clone(),
                outcome: SuspendOutcome::Suspended(suspended),
            })
        }
        Err(error) => One::Failed { error, doubtful: false },
    }
}

/// Finds out which of a set are suspended. The one that may have been under way can no longer arrive afterwards.
pub(crate) async fn settle_suspend(
    backend: &ClusterBackend,
    session: &Session,
    ask: &Suspend,
    observed: &ObservedState,
) -> ApplyOutcome {
    let (mut holds, mut rest) = (Vec::new(), Vec::new());
    let mut forestalled = false;
    for target in &ask.targets {
        let Some(before) = observed.of(target) else {
            rest.push(target.clone());
            continue;
        };
        let resource = match flux::served(session, target.kind).await {
            Ok(resource) => resource,
            Err(error) => return ApplyOutcome::Done(Err(error)),
        };
        // They are sent one after the other: where one is known not to have been applied, none after it was sent.
        let settled = if forestalled {
            doubt::look(backend, session, &resource, target, before).await
        } else {
            doubt::settle(backend, session, &resource, target, before, "its sender is gone").await
        };
        match settled {
            Settled::Applied => match rested(backend, session, ask, target, before).await {
                One::GuestExited(hold) => holds.push(hold),
                One::Failed { error, .. } => holds.push(SuspendResult {
                    target: target.clone(),
                    outcome: SuspendOutcome::Failed { error, doubtful: false },
                }),
                One::Again(_) => rest.push(target.clone()),
            },
            Settled::NotApplied(_) => {
                forestalled = true;
                rest.push(target.clone());
            }
            Settled::Unknown(error) => return ApplyOutcome::Done(Err(error)),
        }
    }
    if rest.is_empty() {
        return ApplyOutcome::Done(Ok(Answer::Suspend(holds)));
    }
    let message = format!("{} of {} had not been suspended", rest.len(), ask.targets.len());
    ApplyOutcome::Conflict {
        completed: (!holds.is_empty()).then_some(Answer::Suspend(holds)),
        rest: Write::Suspend(Suspend { targets: rest, ..ask.clone() }),
        message,
    }
}

/// Waits until no reconciliation goes on. Suspending interrupts none.
async fn drain(
    backend: &ClusterBackend,
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
            || annotation(&object, RUN) != Some(backend.run())
            || flux::suspend(&object) != PreviousSuspend::True
        {
            return Err(Error::Conflict(format!(
                "{target} was changed by {} while it was drained",
                changer(&object)
            )));
        }
        // mutant suspend-skips-drain: (&object) ~> (&object) || seconds > 0
        if !flux::is_busy(&object) {
            return Ok(());
        }
        if clock.now() >= until {
            return Err(Error::Unavailable(format!(
                "the reconciliation of {target} that was going on did not end within {seconds} s"
            )));
        }
        if session.stopped() {
            return Err(Error::Unavailable(format!(
                "stopped while the reconciliation of {target} was still going on"
            )));
        }
        session.pause(POLL_INTERVAL).await;
    }
}

fn changer(object: &Value) -> String {
    flux::suspended_by_another(object).unwrap_or_else(|| "somebody".into())
}

#[cfg(test)]
mod tests;
