//! Resolves a temporary change in doubt, i.e. one whose response was lost or whose process crashed:
//! reads whether it was applied and, if not, invalidates it.

use super::{find, name, namespace};
use crate::failure::Failure;
use crate::object::{annotation, uid, version};
use crate::resource::Resource;
use crate::send::Session;
use salve_core::capability::Target;
use salve_core::capability::run_annotations::{DEADLINE, RUN};
use salve_core::outcome::Error;
use serde_json::{Value, json};

/// Maximum number of attempts to resolve one change.
const MAX_READS: u32 = 5;

/// Prefix of the annotation value that is written to change an object's resourceVersion, followed
/// by the run ID.
pub(crate) const INVALIDATION_PREFIX: &str = "void: ";

/// The outcome of a temporary change.
pub(crate) enum Resolution {
    /// Contains the object as it was read afterwards.
    Applied(Value),
    /// It was not applied and no longer can be. Contains the cause.
    NotApplied(String),
    /// The object could not be read or changed.
    Unknown(Error),
}

/// Reads whether a change was applied. If not, changes the object's resourceVersion, so that the
/// request fails if it arrives late.
pub(crate) async fn resolve(
    session: &Session,
    resource: &Resource,
    target: &Target,
    before: &Value,
    why: &str,
) -> Resolution {
    for _ in 0..MAX_READS {
        let now = match find(session, resource, target).await {
            Ok(Some(now)) if uid(&now) == uid(before) => now,
            Ok(_) => {
                return Resolution::NotApplied(format!(
                    "{why}; the object was deleted or replaced"
                ));
            }
            Err(failure) => return Resolution::Unknown(unknown_error(target, why, failure)),
        };
        if annotation(&now, RUN) == Some(session.run()) {
            return Resolution::Applied(now);
        }
        if version(&now) != version(before) {
            // The write has a resourceVersion precondition, so it fails whenever it arrives.
            if has_invalidation_note(session, &now) {
                remove_note(session, resource, target, now, deadline(session, before)).await;
                return Resolution::NotApplied(format!(
                    "{why}; it was not applied and no longer can be"
                ));
            }
            return Resolution::NotApplied(format!(
                "{why}; it was not applied, and the object has changed since"
            ));
        }
        match invalidate_in_flight_write(session, resource, target, &now).await {
            Ok(()) => {
                return Resolution::NotApplied(format!(
                    "{why}; it was not applied and no longer can be"
                ));
            }
            Err(failure) if failure.is_stale() || failure.is_in_doubt() => {}
            Err(failure) => return Resolution::Unknown(unknown_error(target, why, failure)),
        }
    }
    Resolution::Unknown(Error::Unavailable(format!(
        "this run may have changed {target}, or may still change it: {why}, and the outcome could \
         not be resolved"
    )))
}

/// Reads whether a change was applied that is known not to be in flight.
pub(crate) async fn check_applied(
    session: &Session,
    resource: &Resource,
    target: &Target,
    before: &Value,
) -> Resolution {
    match find(session, resource, target).await {
        Ok(Some(now))
            if uid(&now) == uid(before) && annotation(&now, RUN) == Some(session.run()) =>
        {
            Resolution::Applied(now)
        }
        Ok(_) => Resolution::NotApplied("it was not sent".into()),
        Err(failure) => Resolution::Unknown(failure.into()),
    }
}

/// Changes the resourceVersion, so that a write with that of `now` as precondition fails whenever
/// it arrives.
pub(super) async fn invalidate_in_flight_write(
    session: &Session,
    resource: &Resource,
    target: &Target,
    now: &Value,
) -> Result<(), Failure> {
    // A patch without changes keeps the resourceVersion, so a note is written to an annotation and
    // removed by the next patch. If there is a note already, its removal changes the version.
    let noted_before = has_invalidation_note(session, now);
    // mutant lost-suspend-not-invalidated: Some(invalidation_note(session)) ~>
    //     deadline(session, now)
    let note = if noted_before { None } else { Some(invalidation_note(session)) };
    let noted = match session
        .patch(resource, namespace(target), name(target), deadline_patch(now, note.as_deref()))
        .await
    {
        Ok(noted) => noted,
        // The object shows whether the patch was applied.
        Err(failure) if failure.is_in_doubt() => match find(session, resource, target).await {
            Ok(Some(found))
                if uid(&found) == uid(now)
                    && has_invalidation_note(session, &found) != noted_before =>
            {
                found
            }
            Ok(_) | Err(_) => return Err(failure),
        },
        Err(failure) => return Err(failure),
    };
    if !noted_before {
        remove_note(session, resource, target, noted, deadline(session, now)).await;
    }
    Ok(())
}

/// Returns the note that is written to change the resourceVersion.
fn invalidation_note(session: &Session) -> String {
    format!("{INVALIDATION_PREFIX}{}", session.run())
}

/// Returns true if an object still has this run's note.
pub(super) fn has_invalidation_note(session: &Session, object: &Value) -> bool {
    annotation(object, DEADLINE) == Some(&invalidation_note(session))
}

/// Returns the deadline annotation, unless it is the note.
fn deadline(session: &Session, object: &Value) -> Option<String> {
    annotation(object, DEADLINE)
        .filter(|_| !has_invalidation_note(session, object))
        .map(str::to_owned)
}

/// Returns a patch that sets or removes the deadline annotation of exactly this version of the
/// object.
fn deadline_patch(object: &Value, note: Option<&str>) -> Value {
    json!({"metadata": {"uid": uid(object), "resourceVersion": version(object),
        "annotations": {DEADLINE: note}}})
}

/// Replaces the note with the annotation's value `before`, unless the annotation was changed since.
async fn remove_note(
    session: &Session,
    resource: &Resource,
    target: &Target,
    mut now: Value,
    before: Option<String>,
) {
    for _ in 0..MAX_READS {
        match session
            .patch(
                resource,
                namespace(target),
                name(target),
                deadline_patch(&now, before.as_deref()),
            )
            .await
        {
            Ok(_) => return,
            Err(failure) if failure.is_in_doubt() || failure.is_stale() => {
                match find(session, resource, target).await {
                    Ok(Some(found))
                        if uid(&found) == uid(&now) && has_invalidation_note(session, &found) =>
                    {
                        now = found
                    }
                    Ok(_) => return,
                    Err(_) => {}
                }
            }
            Err(failure) => {
                tracing::warn!(
                    target = %target,
                    message = failure.message(),
                    "failed to remove the note from the salve.dev/deadline annotation"
                );
                return;
            }
        }
    }
}

fn unknown_error(target: &Target, why: &str, failure: Failure) -> Error {
    Error::Unavailable(format!(
        "this run may have changed {target}, or may still change it: {why}; reading it failed: {}",
        Error::from(failure).text()
    ))
}
