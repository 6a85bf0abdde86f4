//! Restores what a run changed temporarily, unless someone else has taken the object over.

use super::in_doubt::{has_invalidation_note, invalidate_in_flight_write};
use super::{find, last_manager, name, namespace};
use crate::object::{annotation, uid, version};
use crate::resource::Resource;
use crate::send::Session;
use salve_core::capability::Released;
use salve_core::capability::Target;
use salve_core::capability::call::ReversalCall;
use salve_core::capability::run_annotations::RUN;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{Current, ReleaseOutcome};
use serde_json::{Map, Value, json};

/// Takes back the change of one field. While it is in effect, annotations name the run.
pub(crate) trait Restore: ReversalCall {
    fn target(&self) -> Target;

    /// Returns the UID of the object that was changed.
    fn uid(&self) -> &str;

    async fn resource(&self, session: &Session) -> Result<Resource, Error>;

    /// Returns what the journal keeps of the object.
    fn saved_fields(&self, object: &Value) -> Value;

    /// Returns the path of the field.
    fn field(&self) -> Vec<&str>;

    /// Returns the field's previous value; null if it was absent.
    fn previous(&self) -> Value;

    /// Returns the keys of the annotations.
    fn annotations(&self) -> Vec<String>;

    /// Checks that the field is as this run set it.
    ///
    /// # Errors
    /// Who changed it; none if it was restored already.
    fn check_still_set(&self, object: &Value) -> Result<(), Option<String>>;
}

/// What to do to take back a change.
#[derive(Debug)]
pub(crate) enum ReleaseAction {
    /// Restore the field and remove the annotations.
    Restore,
    /// Only remove the annotations: the field was restored, or changed as the text says.
    RemoveAnnotations(Option<String>),
    Nothing(Released),
}

/// Decides whether the change is still this run's.
pub(crate) fn release_action(
    call: &impl Restore,
    object: Option<&Value>,
    run: &str,
) -> ReleaseAction {
    let taken_over = |why: String| ReleaseAction::Nothing(Released { taken_over: Some(why) });
    let Some(object) = object else { return taken_over("it was deleted".into()) };
    if uid(object) != call.uid() {
        return taken_over("it was replaced by another object of the same name".into());
    }
    match annotation(object, RUN) {
        // mutant other-run-resumed: run ~> run && call.check_still_set(object).is_err()
        Some(holder) if holder != run => taken_over(format!("run {holder} took it over")),
        // The change was never applied, or was taken back already.
        None if is_previous(call, object) => ReleaseAction::Nothing(Released { taken_over: None }),
        None => taken_over(without_annotations(call, object)),
        Some(_) => match call.check_still_set(object) {
            Ok(()) => ReleaseAction::Restore,
            // mutant manual-change-reverted: RemoveAnnotations(changed_by) ~> Restore
            Err(changed_by) => ReleaseAction::RemoveAnnotations(changed_by),
        },
    }
}

/// Says what became of a change whose annotations were removed.
fn without_annotations(call: &impl Restore, object: &Value) -> String {
    let (path, field) = (call.field(), call.field().join("."));
    let now = value_at(object, &path).map_or_else(|| "absent".into(), Value::to_string);
    if call.check_still_set(object).is_ok() {
        return format!(
            "someone removed this run's annotations, but {field} is still {now}, as this run set \
             it: if no one else needs that, run `{}`",
            call.commands().join("; ")
        );
    }
    let by = last_manager(object, &path);
    format!("{by} removed this run's annotations; {field} is now {now}")
}

fn is_previous(call: &impl Restore, object: &Value) -> bool {
    value_at(object, &call.field()).unwrap_or(&Value::Null) == &call.previous()
}

/// Returns the value of a field, if it is present.
pub(crate) fn value_at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// Reads the object to restore. `in_doubt` is the state that the change was prepared against, if
/// that may still be applied.
pub(crate) async fn read_current(
    session: &Session,
    call: &impl Restore,
    in_doubt: Option<&ObservedState>,
) -> Result<Current<Released>, Error> {
    let resource = call.resource(session).await?;
    let object = find(session, &resource, &call.target()).await?;
    let prepared = in_doubt
        .and_then(|observed| observed.objects.iter().find(|prepared| uid(prepared) == call.uid()));
    // The change may still be applied, or the note that invalidated it is still there.
    let must_invalidate = object.as_ref().is_some_and(|object| {
        prepared.map(version) == Some(version(object)) || has_invalidation_note(session, object)
    });
    let ready = |object: &Value| {
        Current::Ready(ObservedState {
            objects: vec![call.saved_fields(object)],
            at: session.clock().now(),
        })
    };
    match (release_action(call, object.as_ref(), session.run()), object) {
        // mutant resume-does-not-invalidate-suspend: must_invalidate ~> must_invalidate &&
        //     call.uid().is_empty()
        (ReleaseAction::Nothing(_), Some(object)) if must_invalidate => Ok(ready(&object)),
        (ReleaseAction::Nothing(released), _) => Ok(Current::AlreadyDone(released)),
        (ReleaseAction::Restore | ReleaseAction::RemoveAnnotations(_), Some(object)) => {
            Ok(ready(&object))
        }
        (ReleaseAction::Restore | ReleaseAction::RemoveAnnotations(_), None) => {
            Err(Error::NotFound(format!("{} does not exist", call.target())))
        }
    }
}

/// Returns a patch that removes the annotations and, with `restore`, restores the field.
pub(crate) fn release_patch(call: &impl Restore, object: &Value, restore: bool) -> Value {
    // mutant annotation-left-behind: annotations().into_iter() ~>
    //     annotations().into_iter().skip(1)
    let removed: Map<String, Value> =
        call.annotations().into_iter().map(|key| (key, Value::Null)).collect();
    // mutant resume-without-resource-version: resourceVersion": version(object), " ~>
    let mut patch = json!({"metadata": {"uid": uid(object), "resourceVersion": version(object),
        "annotations": removed}});
    if restore {
        let nested = |value, key: &&str| json!({*key: value});
        let fields = call.field().iter().rev().fold(call.previous(), nested);
        let fields = fields.as_object().cloned().unwrap_or_default();
        patch.as_object_mut().into_iter().for_each(|patch| patch.extend(fields.clone()));
    }
    patch
}

/// Restores the object, unless someone else has taken it over.
pub(crate) async fn release(
    session: &Session,
    call: &impl Restore,
    observed: &ObservedState,
) -> ReleaseOutcome {
    match try_release(session, call, observed).await {
        Ok(outcome) => outcome,
        Err(error) => ReleaseOutcome::Done(Err(error)),
    }
}

async fn try_release(
    session: &Session,
    call: &impl Restore,
    observed: &ObservedState,
) -> Result<ReleaseOutcome, Error> {
    let (resource, target) = (call.resource(session).await?, call.target());
    // Read again, because the journal does not contain managedFields, which name the field's owner.
    let object = find(session, &resource, &target).await?;
    let taken_over = match release_action(call, object.as_ref(), session.run()) {
        ReleaseAction::Nothing(released) => {
            // An object that is unchanged since it was read was only read to invalidate a change.
            let is_unchanged = |now: &Value| {
                observed.objects.first().is_some_and(|before| {
                    version(before) == version(now) && uid(before) == uid(now)
                })
            };
            if let Some(now) = object.filter(is_unchanged) {
                match invalidate_in_flight_write(session, &resource, &target, &now).await {
                    Ok(()) => {}
                    Err(failure) if failure.is_stale() => {
                        return Ok(ReleaseOutcome::Conflict(failure.message()));
                    }
                    Err(failure) => return Err(failure.into()),
                }
            }
            return Ok(ReleaseOutcome::Done(Ok(released)));
        }
        ReleaseAction::RemoveAnnotations(changed_by) => Some(changed_by),
        ReleaseAction::Restore => None,
    };
    let (Some(now), Some(before)) = (object, observed.objects.first()) else {
        return Ok(ReleaseOutcome::Conflict("there is nothing to restore".into()));
    };
    if version(&now) != version(before) {
        return Ok(ReleaseOutcome::Conflict(format!("{target} has changed since it was read")));
    }
    let restore = taken_over.is_none();
    let expected = if restore {
        call.previous()
    } else {
        value_at(&now, &call.field()).cloned().unwrap_or_default()
    };
    let done = Ok(ReleaseOutcome::Done(Ok(Released { taken_over: taken_over.flatten() })));
    let patch = release_patch(call, &now, restore);
    match session.patch(&resource, namespace(&target), name(&target), patch).await {
        Ok(_) => done,
        Err(failure) if failure.is_stale() || failure.is_absent() => {
            Ok(ReleaseOutcome::Conflict(failure.message()))
        }
        Err(failure) if failure.is_in_doubt() => match find(session, &resource, &target).await {
            Ok(Some(object))
                if uid(&object) == call.uid()
                    && annotation(&object, RUN).is_none()
                    && value_at(&object, &call.field()).unwrap_or(&Value::Null) == &expected =>
            {
                done
            }
            // If the lost request is still applied later, the result is the same.
            Ok(_) => Ok(ReleaseOutcome::Conflict(failure.message())),
            Err(second) => Err(Error::Unavailable(format!(
                "{}: {}; reading it failed: {}",
                call.still_active(true),
                failure.message(),
                Error::from(second).text()
            ))),
        },
        Err(failure) => Err(failure.into()),
    }
}
