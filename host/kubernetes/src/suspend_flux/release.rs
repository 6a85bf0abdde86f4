//! The way back: what this run suspended, exactly as it was, unless somebody has taken it over.

use super::doubt::{invalidate_in_flight_write, is_void};
use super::{changer, word};
use crate::backend::ClusterBackend;
use crate::flux;
use crate::object::{annotation, uid, version};
use crate::send::Session;
use salve_core::effect::suspend_flux::{
    DEADLINE, PRIOR, PreviousSuspend, REASON, RUN, Resume, Resumed,
};
use salve_core::effect::{Answer, Write};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{ApplyOutcome, Prepared};
use serde_json::{Value, json};

/// What there is to give back.
#[derive(Debug)]
pub(super) enum Hold {
    /// It is ours still.
    Ours,
    /// It bears our mark, but somebody has set the field since: only the mark is to go.
    MarkOnly(String),
    /// Nothing is to be done.
    Nothing(Resumed),
}

/// Whether the suspension still is this run's.
pub(super) fn hold(ask: &Resume, object: Option<&Value>, run: &str) -> Hold {
    let over = |restored: PreviousSuspend, why: String| {
        Hold::Nothing(Resumed { restored, taken_over: Some(why) })
    };
    let Some(object) = object else { return over(ask.previous, "it was deleted".into()) };
    let now = flux::suspend(object);
    if uid(object) != ask.uid {
        return over(now, "it was deleted, and another object bears its name".into());
    }
    match annotation(object, RUN) {
        // mutant other-run-resumed: run ~> run && now != PreviousSuspend::True
        Some(holder) if holder != run => over(now, format!("run {holder} holds it now")),
        // Nothing of ours ever arrived, or all of it was given back: the state is what it was.
        None if now == ask.previous => Hold::Nothing(Resumed { restored: now, taken_over: None }),
        None => over(
            now,
            format!(
                "{} has removed this run's mark; spec.suspend is {} now",
                changer(object),
                word(now)
            ),
        ),
        // mutant manual-change-reverted: MarkOnly(format!("{} has resumed it", changer(object))) ~>
        //     Ours
        Some(_) if now != PreviousSuspend::True => {
            Hold::MarkOnly(format!("{} has resumed it", changer(object)))
        }
        Some(_) => match flux::suspended_by_another(object) {
            Some(manager) => Hold::MarkOnly(format!("{manager} has suspended it anew")),
            None => Hold::Ours,
        },
    }
}

/// Reads what is to be given back. `doubt` is what the suspend was prepared against, if that may yet arrive.
pub(crate) async fn prepare_resume(
    backend: &ClusterBackend,
    session: &Session,
    ask: &Resume,
    doubt: Option<&ObservedState>,
) -> Result<Prepared, Error> {
    let object = flux::find(session, &ask.target).await?;
    let demanded = doubt.and_then(|observed| observed.objects.first()).map(version);
    // It may yet arrive; or the word that kept it from that stands there still.
    let doubtful = object
        .as_ref()
        .is_some_and(|object| demanded == Some(version(object)) || is_void(backend, object));
    match (hold(ask, object.as_ref(), backend.run()), object) {
        // mutant resume-does-not-invalidate-suspend: doubtful ~> doubtful && ask.uid.is_empty()
        (Hold::Nothing(_), Some(object)) if doubtful => Ok(Prepared::Ready(ObservedState {
            objects: vec![flux::outline(&object)],
            at: session.clock().now(),
        })),
        (Hold::Nothing(resumed), _) => Ok(Prepared::AlreadyDone(Answer::Resume(resumed))),
        (Hold::Ours | Hold::MarkOnly(_), Some(object)) => Ok(Prepared::Ready(ObservedState {
            objects: vec![flux::outline(&object)],
            at: session.clock().now(),
        })),
        (Hold::Ours | Hold::MarkOnly(_), None) => {
            Err(Error::NotFound(format!("there is no {}", ask.target)))
        }
    }
}

/// One write: the field as it was, and our mark gone.
pub(super) fn unmark(ask: &Resume, object: &Value, ours: bool) -> Value {
    // mutant annotation-left-behind: DEADLINE: null, ~>
    // mutant resume-without-resource-version: resourceVersion": version(object), " ~>
    let mut patch = json!({"metadata": {"uid": uid(object), "resourceVersion": version(object), "annotations": {RUN: null, REASON: null, DEADLINE: null, PRIOR: null}}});
    if ours {
        patch["spec"] = json!({"suspend": match ask.previous {
            // mutant absent-restored-as-false: Null ~> Bool(false)
            PreviousSuspend::Absent => Value::Null,
            PreviousSuspend::False => Value::Bool(false),
            PreviousSuspend::True => Value::Bool(true),
        }});
    }
    patch
}

/// Gives it back, unless somebody has taken it over.
pub(crate) async fn resume(
    backend: &ClusterBackend,
    session: &Session,
    ask: &Resume,
    observed: &ObservedState,
) -> ApplyOutcome {
    let again = |message: String| ApplyOutcome::Conflict {
        completed: None,
        rest: Write::Resume(ask.clone()),
        message,
    };
    // Read once more: who owns the field stands in managedFields, which the journal does not keep.
    let object = match flux::find(session, &ask.target).await {
        Ok(object) => object,
        Err(error) => return ApplyOutcome::Done(Err(error)),
    };
    let taken_over = match hold(ask, object.as_ref(), backend.run()) {
        Hold::Nothing(resumed) => {
            // Nothing of ours is there, and nothing has changed since it was prepared: that was done because of a doubt.
            let as_before = |now: &Value| {
                observed.objects.first().is_some_and(|before| {
                    version(before) == version(now) && uid(before) == uid(now)
                })
            };
            if let Some(now) = object.filter(as_before) {
                let forestalled = match flux::served(session, ask.target.kind).await {
                    Ok(resource) => {
                        invalidate_in_flight_write(backend, session, &resource, &ask.target, &now)
                            .await
                    }
                    Err(error) => return ApplyOutcome::Done(Err(error)),
                };
                match forestalled {
                    Ok(()) => {}
                    Err(failure) if failure.is_stale() => return again(failure.message()),
                    Err(failure) => return ApplyOutcome::Done(Err(failure.into())),
                }
            }
            return ApplyOutcome::Done(Ok(Answer::Resume(resumed)));
        }
        Hold::MarkOnly(why) => Some(why),
        Hold::Ours => None,
    };
    let (Some(now), Some(before)) = (object, observed.objects.first()) else {
        return again("there is nothing to give back".into());
    };
    if version(&now) != version(before) {
        return again(format!("{} has changed since it was read", ask.target));
    }
    let restored = if taken_over.is_some() { flux::suspend(&now) } else { ask.previous };
    let done =
        |taken_over| ApplyOutcome::Done(Ok(Answer::Resume(Resumed { restored, taken_over })));
    let resource = match flux::served(session, ask.target.kind).await {
        Ok(resource) => resource,
        Err(error) => return ApplyOutcome::Done(Err(error)),
    };
    match session
        .patch(
            &resource,
            &ask.target.namespace,
            &ask.target.name,
            unmark(ask, &now, taken_over.is_none()),
        )
        .await
    {
        Ok(_) => done(taken_over),
        Err(failure) if failure.is_stale() || failure.code() == Some(404) => {
            again(failure.message())
        }
        Err(failure) if failure.is_lost() => match flux::find(session, &ask.target).await {
            Ok(Some(object))
                if uid(&object) == ask.uid
                    && annotation(&object, RUN).is_none()
                    && flux::suspend(&object) == restored =>
            {
                done(taken_over)
            }
            // Should it arrive late after all, it does what is wanted.
            Ok(_) => again(failure.message()),
            Err(error) => ApplyOutcome::Done(Err(Error::Unavailable(format!(
                "{} may still be suspended: {}; and then {}",
                ask.target,
                failure.message(),
                error.text()
            )))),
        },
        Err(failure) => ApplyOutcome::Done(Err(failure.into())),
    }
}
