//! Changes that a run takes back. While one is in effect, annotations of the object name the run.
//!
//! `in_doubt` resolves a change whose response was lost, `release` restores the object.

pub(crate) mod in_doubt;
pub(crate) mod release;

use crate::failure::Failure;
use crate::object::{annotation, instant, list, owned, text, truncated, uid, version};
use crate::resource::Resource;
use crate::send::{FIELD_MANAGER, Session};
use crate::time;
use in_doubt::{INVALIDATION_PREFIX, Resolution};
use salve_core::capability::host::Leftover;
use salve_core::capability::run_annotations::{DEADLINE, REASON, RUN};
use salve_core::capability::{Reversal, Target};
use salve_core::outcome::Error;
use serde_json::{Value, json};

/// Returns the metadata of a patch that makes a change: `before` as the precondition, and the
/// annotations of the run. `previous` is the annotation with the previous value.
pub(crate) fn metadata(
    session: &Session,
    before: &Value,
    reason: &str,
    previous: (&str, &str),
) -> Value {
    let (previous_key, previous) = previous;
    // mutant suspend-without-resource-version: resourceVersion": version(before), " ~>
    // mutant override-without-resource-version: resourceVersion": version(before), " ~>
    json!({"uid": uid(before), "resourceVersion": version(before), "annotations": {
        RUN: session.run(), REASON: reason, DEADLINE: time::seconds(session.deadline()),
        previous_key: previous,
    }})
}

/// Describes a change that a run left behind. None if no annotation names a run.
pub(crate) fn leftover(object: &Value, active: bool, reversal: Reversal) -> Option<Leftover> {
    // Invalidating a change that may still arrive leaves a note if the process died meanwhile.
    let run = annotation(object, RUN)
        .or_else(|| annotation(object, DEADLINE)?.strip_prefix(INVALIDATION_PREFIX))?;
    Some(Leftover {
        run: truncated(run, 200),
        reason: truncated(annotation(object, REASON).unwrap_or_default(), 1024),
        deadline: instant(&json!({"at": annotation(object, DEADLINE)}), "/at"),
        active,
        reversal,
    })
}

/// Sends the patch of a change that was prepared against `before`. A lost response is resolved.
///
/// # Errors
/// The API server rejected the patch.
pub(crate) async fn apply(
    session: &Session,
    resource: &Resource,
    target: &Target,
    before: &Value,
    patch: Value,
) -> Result<Resolution, Error> {
    match session.patch(resource, namespace(target), name(target), patch).await {
        Ok(now) => Ok(Resolution::Applied(now)),
        Err(failure) if failure.is_stale() => Ok(Resolution::NotApplied(failure.message())),
        // mutant lost-suspend-not-applied: in_doubt::resolve(session, resource, target, before,
        //     &failure.message()).await ~> Resolution::NotApplied(failure.message())
        Err(failure) if failure.is_in_doubt() => {
            Ok(in_doubt::resolve(session, resource, target, before, &failure.message()).await)
        }
        Err(failure) => Err(failure.into()),
    }
}

async fn find(
    session: &Session,
    resource: &Resource,
    target: &Target,
) -> Result<Option<Value>, Failure> {
    session.find(resource, target.namespace.as_deref(), name(target)).await
}

fn namespace(target: &Target) -> &str {
    target.namespace.as_deref().unwrap_or_default()
}

fn name(target: &Target) -> &str {
    target.name.as_deref().unwrap_or_default()
}

/// Returns the managedFields entries that own a field, newest last.
pub(crate) fn field_owners<'a>(object: &'a Value, path: &[&str]) -> Vec<&'a Value> {
    let pointer: String = path.iter().map(|key| format!("/f:{key}")).collect();
    let pointer = format!("/fieldsV1{pointer}");
    let mut owners: Vec<&Value> = list(object, "/metadata/managedFields")
        .iter()
        .filter(|entry| entry.pointer(&pointer).is_some())
        .collect();
    owners.sort_by_key(|entry| instant(entry, "/time"));
    owners
}

/// Returns the field manager that took over a field from this run, if any.
pub(crate) fn taken_over_by(object: &Value, path: &[&str]) -> Option<String> {
    let owners = field_owners(object, path);
    if owners.iter().any(|entry| text(entry, "/manager") == Some(FIELD_MANAGER)) {
        return None;
    }
    owners.last().and_then(|entry| owned(entry, "/manager"))
}

/// Returns the field manager that changed a field last, for messages.
pub(crate) fn last_manager(object: &Value, path: &[&str]) -> String {
    taken_over_by(object, path).unwrap_or_else(|| "an unknown manager".into())
}
