//! Resumes what this run suspended: restores the previous value exactly, unless someone else has
//! taken the object over.

use super::in_doubt::{has_invalidation_note, invalidate_in_flight_write};
use super::last_manager;
use crate::flux;
use crate::object::{annotation, uid, version};
use crate::send::Session;
use salve_core::capability::Released;
use salve_core::capability::suspend_flux::{
    DEADLINE, PREVIOUS, PreviousSuspend, REASON, RUN, Resume,
};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{Current, ReleaseOutcome};
use serde_json::{Value, json};

/// What to do to release a suspension.
#[derive(Debug)]
pub(super) enum ReleaseAction {
    /// Restore the field and remove the annotations.
    Resume,
    /// Only remove the annotations, because someone else has set the field since. Contains who.
    RemoveAnnotations(String),
    Nothing(Released),
}

/// Decides whether the suspension is still this run's.
pub(super) fn release_action(call: &Resume, object: Option<&Value>, run: &str) -> ReleaseAction {
    let taken_over = |why: String| ReleaseAction::Nothing(Released { taken_over: Some(why) });
    let Some(object) = object else { return taken_over("it was deleted".into()) };
    let now = PreviousSuspend::of(object);
    if uid(object) != call.uid {
        return taken_over("it was replaced by another object of the same name".into());
    }
    match annotation(object, RUN) {
        // mutant other-run-resumed: run ~> run && now != PreviousSuspend::True
        Some(holder) if holder != run => taken_over(format!("run {holder} took it over")),
        // The suspend was never applied, or was released already.
        None if now == call.previous => ReleaseAction::Nothing(Released { taken_over: None }),
        None => taken_over(format!(
            "{} removed this run's annotations; spec.suspend is now {}",
            last_manager(object),
            now.as_str()
        )),
        // mutant manual-change-reverted: RemoveAnnotations(format!("{} resumed it",
        //     last_manager(object))) ~> Resume
        Some(_) if now != PreviousSuspend::True => {
            ReleaseAction::RemoveAnnotations(format!("{} resumed it", last_manager(object)))
        }
        Some(_) => match flux::suspended_by_other_manager(object) {
            Some(manager) => {
                ReleaseAction::RemoveAnnotations(format!("{manager} suspended it again"))
            }
            None => ReleaseAction::Resume,
        },
    }
}

/// Reads the object to resume. `in_doubt` is the state that the suspend was sent for, if that may
/// still be applied.
pub(super) async fn read_before_resume(
    session: &Session,
    call: &Resume,
    in_doubt: Option<&ObservedState>,
) -> Result<Current<Released>, Error> {
    let object = flux::find(session, &call.target).await?;
    let precondition =
        in_doubt.and_then(|observed| observed.flux_object(&call.target)).map(version);
    // The suspend may still be applied, or the note that invalidated it is still there.
    let must_invalidate = object.as_ref().is_some_and(|object| {
        precondition == Some(version(object)) || has_invalidation_note(session, object)
    });
    match (release_action(call, object.as_ref(), session.run()), object) {
        // mutant resume-does-not-invalidate-suspend: must_invalidate ~> must_invalidate &&
        //     call.uid.is_empty()
        (ReleaseAction::Nothing(_), Some(object)) if must_invalidate => {
            Ok(Current::Ready(ObservedState {
                objects: vec![flux::saved_fields(&object)],
                at: session.clock().now(),
            }))
        }
        (ReleaseAction::Nothing(released), _) => Ok(Current::AlreadyDone(released)),
        (ReleaseAction::Resume | ReleaseAction::RemoveAnnotations(_), Some(object)) => {
            Ok(Current::Ready(ObservedState {
                objects: vec![flux::saved_fields(&object)],
                at: session.clock().now(),
            }))
        }
        (ReleaseAction::Resume | ReleaseAction::RemoveAnnotations(_), None) => {
            Err(Error::NotFound(format!("{} does not exist", call.target)))
        }
    }
}

/// Returns a patch that removes the annotations and, with `restore`, restores the field.
pub(super) fn resume_patch(call: &Resume, object: &Value, restore: bool) -> Value {
    // mutant annotation-left-behind: DEADLINE: null, ~>
    // mutant resume-without-resource-version: resourceVersion": version(object), " ~>
    let mut patch = json!({"metadata": {"uid": uid(object), "resourceVersion": version(object),
        "annotations": {RUN: null, REASON: null, DEADLINE: null, PREVIOUS: null}}});
    if restore {
        patch["spec"] = json!({"suspend": match call.previous {
            // mutant absent-restored-as-false: Null ~> Bool(false)
            PreviousSuspend::Absent => Value::Null,
            PreviousSuspend::False => Value::Bool(false),
            PreviousSuspend::True => Value::Bool(true),
        }});
    }
    patch
}

/// Resumes the object, unless someone else has taken it over.
pub(super) async fn resume(
    session: &Session,
    call: &Resume,
    observed: &ObservedState,
) -> ReleaseOutcome {
    let conflict = ReleaseOutcome::Conflict;
    // Read again, because the journal does not contain managedFields, which name the field's owner.
    let object = match flux::find(session, &call.target).await {
        Ok(object) => object,
        Err(error) => return ReleaseOutcome::Done(Err(error)),
    };
    let taken_over = match release_action(call, object.as_ref(), session.run()) {
        ReleaseAction::Nothing(released) => {
            // If the object is unchanged since it was read, it was only read to invalidate a
            // suspend.
            let is_unchanged = |now: &Value| {
                observed.objects.first().is_some_and(|before| {
                    version(before) == version(now) && uid(before) == uid(now)
                })
            };
            if let Some(now) = object.filter(is_unchanged) {
                let invalidated = match flux::resource(session, call.target.kind).await {
                    Ok(resource) => {
                        invalidate_in_flight_write(session, &resource, &call.target, &now).await
                    }
                    Err(error) => return ReleaseOutcome::Done(Err(error)),
                };
                match invalidated {
                    Ok(()) => {}
                    Err(failure) if failure.is_stale() => return conflict(failure.message()),
                    Err(failure) => return ReleaseOutcome::Done(Err(failure.into())),
                }
            }
            return ReleaseOutcome::Done(Ok(released));
        }
        ReleaseAction::RemoveAnnotations(why) => Some(why),
        ReleaseAction::Resume => None,
    };
    let (Some(now), Some(before)) = (object, observed.objects.first()) else {
        return conflict("there is nothing to resume".into());
    };
    if version(&now) != version(before) {
        return conflict(format!("{} has changed since it was read", call.target));
    }
    let restored = if taken_over.is_some() { PreviousSuspend::of(&now) } else { call.previous };
    let done = |taken_over| ReleaseOutcome::Done(Ok(Released { taken_over }));
    let resource = match flux::resource(session, call.target.kind).await {
        Ok(resource) => resource,
        Err(error) => return ReleaseOutcome::Done(Err(error)),
    };
    match session
        .patch(
            &resource,
            &call.target.namespace,
            &call.target.name,
            resume_patch(call, &now, taken_over.is_none()),
        )
        .await
    {
        Ok(_) => done(taken_over),
        Err(failure) if failure.is_stale() || failure.code() == Some(404) => {
            conflict(failure.message())
        }
        Err(failure) if failure.is_in_doubt() => match flux::find(session, &call.target).await {
            Ok(Some(object))
                if uid(&object) == call.uid
                    && annotation(&object, RUN).is_none()
                    && PreviousSuspend::of(&object) == restored =>
            {
                done(taken_over)
            }
            // If the lost request is still applied later, the result is the same.
            Ok(_) => conflict(failure.message()),
            Err(error) => ReleaseOutcome::Done(Err(Error::Unavailable(format!(
                "{} may still be suspended: {}; reading it failed: {}",
                call.target,
                failure.message(),
                error.text()
            )))),
        },
        Err(failure) => ReleaseOutcome::Done(Err(failure.into())),
    }
}
