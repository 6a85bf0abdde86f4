//! `delete-replicationsources`: deletes a set of ReplicationSources, each with its uid and
//! resourceVersion as preconditions, if its spec has not changed since it was chosen.

mod recreate;

use crate::capability::query_replicationsources::spec_digest;
use crate::discovery;
use crate::failure::FailureKind;
use crate::object::{finalizers, is_terminating, manifest, name, namespace, uid, version};
use crate::perform::{Applied, PerformWrite};
use crate::resource::Resource;
use crate::send::{MAX_CONCURRENT_REQUESTS, Session, concurrently};
use salve_core::capability::delete_replicationsources::{
    Delete, Deletion, DeletionOutcome, DeletionTarget,
};
use salve_core::capability::types::VOLSYNC;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::Current;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// Reads the objects. The observed state contains the manifests of those that will be deleted, in
/// the order of the set.
async fn read_current(session: &Session, call: &Delete) -> Result<Current<Vec<Deletion>>, Error> {
    let resource = discovery::require_resource(session, VOLSYNC, "replicationsources").await?;
    let found = concurrently(
        call.set
            .iter()
            .map(|target| {
                session.find(&resource, Some(&target.object.namespace), &target.object.name)
            })
            .collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let (mut objects, mut finished) = (Vec::new(), Vec::new());
    for (target, found) in call.set.iter().zip(found) {
        let found = found?;
        match outcome_without_deletion(target, found.as_ref()) {
            Some(deletion) => finished.push(deletion),
            None => objects.extend(found.map(saved_manifest)),
        }
    }
    if objects.is_empty() {
        return Ok(Current::AlreadyDone(finished));
    }
    Ok(Current::Ready(ObservedState { objects, at: session.clock().now() }))
}

/// Returns the manifest that `undo` needs. The status is left out: it contains the last lines of
/// the mover's log, with repository URLs and paths.
fn saved_manifest(mut object: Value) -> Value {
    // mutant status-of-deleted-source-saved: map.shift_remove("status"); ~>
    if let Some(map) = object.as_object_mut() {
        map.shift_remove("status");
    }
    manifest(object)
}

/// Returns the outcome for an object that must not be deleted (any more), or None if it is still
/// the object that was chosen.
fn outcome_without_deletion(target: &DeletionTarget, found: Option<&Value>) -> Option<Deletion> {
    match found {
        None => Some(deletion(target, DeletionOutcome::AlreadyGone, None)),
        // mutant delete-replaced-object: != target.uid ~> .is_empty()
        Some(found) if uid(found) != target.uid => Some(deletion(
            target,
            DeletionOutcome::Replaced,
            Some(format!("replaced by another object of the same name (uid {})", uid(found))),
        )),
        // mutant delete-changed-object: != target.digest ~> .len() != target.digest.len()
        Some(found) if spec_digest(found) != target.digest => Some(deletion(
            target,
            DeletionOutcome::Changed,
            Some("its spec changed after it was chosen".into()),
        )),
        Some(found) if is_terminating(found) => Some(deletion(
            target,
            DeletionOutcome::AlreadyGone,
            Some(format!(
                "already being deleted, waiting for finalizers: {}",
                finalizers(found).join(", ")
            )),
        )),
        Some(_) => None,
    }
}

fn deletion(
    target: &DeletionTarget,
    outcome: DeletionOutcome,
    message: Option<String>,
) -> Deletion {
    Deletion { object: target.object.clone(), uid: target.uid.clone(), outcome, message }
}

/// The outcome of one attempt to delete one object.
enum Attempt {
    Finished(Deletion),
    /// The object must be read again before another attempt. Contains the cause.
    Retry(String),
    /// The API server cannot be reached. Contains the outcome for this object and the cause.
    Unreachable(DeletionOutcome, String),
}

/// Deletes the objects in the observed state, in batches.
///
/// # Guarantees
/// `Conflict` splits the set: `completed` contains the finished objects, `remaining` the others,
/// both in the order of the set. The caller has to merge the answers of all attempts in that order.
async fn delete(session: &Session, call: &Delete, observed: &ObservedState) -> Applied<Delete> {
    let resource = match discovery::require_resource(session, VOLSYNC, "replicationsources").await {
        Ok(resource) => resource,
        Err(error) => return Applied::Done(Err(error)),
    };
    let saved: HashMap<(&str, &str), &Value> =
        observed.objects.iter().map(|object| ((namespace(object), name(object)), object)).collect();
    let (mut completed, mut remaining, mut message, mut unreachable) =
        (Vec::new(), Vec::new(), String::new(), None);
    for (index, batch) in call.set.chunks(call.pacing.batch_size.max(1) as usize).enumerate() {
        if index > 0 && unreachable.is_none() && call.pacing.interval_ms > 0 {
            session.sleep(Duration::from_millis(call.pacing.interval_ms.into())).await;
        }
        // The run may stop between two batches, but not before the first.
        if index > 0 && session.stop_requested() {
            unreachable.get_or_insert_with(|| "stopped before it was deleted".into());
        }
        let attempts = match &unreachable {
            // Without a reachable API server, trying every remaining object could take hours.
            Some(why) => batch
                .iter()
                .map(|_| {
                    Attempt::Unreachable(DeletionOutcome::Rejected, format!("not attempted: {why}"))
                })
                .collect(),
            None => {
                concurrently(
                    batch
                        .iter()
                        .map(|target| {
                            attempt(
                                session,
                                &resource,
                                target,
                                saved
                                    .get(&(&target.object.namespace, &target.object.name))
                                    .copied(),
                            )
                        })
                        .collect(),
                    batch.len(),
                )
                .await
            }
        };
        for (target, attempt) in batch.iter().zip(attempts) {
            match attempt {
                Attempt::Finished(deletion) => completed.push(deletion),
                Attempt::Retry(why) => {
                    remaining.push(target.clone());
                    message = why;
                }
                Attempt::Unreachable(outcome, why) => {
                    completed.push(deletion(target, outcome, Some(why.clone())));
                    unreachable.get_or_insert(why);
                }
            }
        }
    }
    if remaining.is_empty() {
        return Applied::Done(Ok(completed));
    }
    Applied::Conflict {
        completed: (!completed.is_empty()).then_some(completed),
        remaining: Delete { set: remaining, pacing: call.pacing.clone() },
        message,
    }
}

/// Deletes one object, if its manifest was saved.
async fn attempt(
    session: &Session,
    resource: &Resource,
    target: &DeletionTarget,
    saved: Option<&Value>,
) -> Attempt {
    let (ns, object) = (&target.object.namespace, &target.object.name);
    let Some(saved) = saved else {
        // It was not to be deleted when it was read. Read it again to report the reason.
        return match session.find(resource, Some(ns), object).await {
            Ok(found) => Attempt::Finished(
                outcome_without_deletion(target, found.as_ref()).unwrap_or_else(|| {
                    deletion(
                        target,
                        DeletionOutcome::Changed,
                        Some("its spec had changed when it was about to be deleted".into()),
                    )
                }),
            ),
            Err(failure) => Attempt::Finished(deletion(
                target,
                DeletionOutcome::Rejected,
                Some(Error::from(failure).text().to_owned()),
            )),
        };
    };
    // mutant delete-without-resource-version: (version(saved)) ~> (version(saved)).filter(|_|
    //     false)
    let failure =
        match session.delete(resource, ns, object, &target.uid, Some(version(saved))).await {
            Ok(response) => {
                let pending = Some(finalizers(&response))
                    .filter(|finalizers| !finalizers.is_empty())
                    .map(|finalizers| format!("waiting for finalizers: {}", finalizers.join(", ")));
                return Attempt::Finished(deletion(target, DeletionOutcome::Deleted, pending));
            }
            Err(failure) => failure,
        };
    let in_doubt = failure.is_in_doubt();
    match &failure.kind {
        FailureKind::Absent(_) => {
            return Attempt::Finished(deletion(target, DeletionOutcome::AlreadyGone, None));
        }
        FailureKind::Rejected(rejection) if rejection.code == 409 => {}
        FailureKind::InDoubt(_) => {}
        FailureKind::NotSent(_) => {
            return Attempt::Unreachable(
                DeletionOutcome::Rejected,
                Error::from(failure).text().to_owned(),
            );
        }
        FailureKind::Rejected(_) | FailureKind::Credentials(_) | FailureKind::Blocked(_) => {
            return Attempt::Finished(deletion(
                target,
                DeletionOutcome::Rejected,
                Some(Error::from(failure).text().to_owned()),
            ));
        }
    }
    let why = failure.message();
    match session.find(resource, Some(ns), object).await {
        Ok(found)
            if in_doubt
                && found
                    .as_ref()
                    .is_none_or(|found| uid(found) != target.uid || is_terminating(found)) =>
        {
            Attempt::Finished(deletion(
                target,
                DeletionOutcome::Deleted,
                Some(format!("no response ({why}), but it is gone")),
            ))
        }
        // Unchanged except for its status, or the request was lost. If that still arrives, it
        // deletes only the object with this uid, as intended.
        Ok(found) => outcome_without_deletion(target, found.as_ref())
            .map_or(Attempt::Retry(why), Attempt::Finished),
        // mutant lost-delete-called-refused: if in_doubt { DeletionOutcome::Unknown } else {
        //     DeletionOutcome::Rejected } ~> DeletionOutcome::Rejected
        Err(failure) => Attempt::Unreachable(
            if in_doubt { DeletionOutcome::Unknown } else { DeletionOutcome::Rejected },
            format!("{why}; reading it failed: {}", Error::from(failure).text()),
        ),
    }
}

/// Reads which objects are gone. A request that arrives late deletes only the object with the same
/// uid, as a second request would.
async fn resolve_in_doubt(
    session: &Session,
    call: &Delete,
    observed: &ObservedState,
) -> Applied<Delete> {
    let resource = match discovery::require_resource(session, VOLSYNC, "replicationsources").await {
        Ok(resource) => resource,
        Err(error) => return Applied::Done(Err(error)),
    };
    let found = concurrently(
        call.set
            .iter()
            .map(|target| {
                session.find(&resource, Some(&target.object.namespace), &target.object.name)
            })
            .collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let was_observed =
        |target: &DeletionTarget| observed.objects.iter().any(|object| uid(object) == target.uid);
    let (mut completed, mut remaining) = (Vec::new(), Vec::new());
    for (target, found) in call.set.iter().zip(found) {
        let found = match found {
            Ok(found) => found,
            Err(failure) => return Applied::Done(Err(failure.into())),
        };
        let is_gone =
            found.as_ref().is_none_or(|found| uid(found) != target.uid || is_terminating(found));
        match outcome_without_deletion(target, found.as_ref()) {
            Some(_) if was_observed(target) && is_gone => completed.push(deletion(
                target,
                DeletionOutcome::Deleted,
                Some("the process that deleted it ended, but it is gone".into()),
            )),
            Some(deletion) => completed.push(deletion),
            None => remaining.push(target.clone()),
        }
    }
    if remaining.is_empty() {
        return Applied::Done(Ok(completed));
    }
    let message = format!("{} of {} were not deleted", remaining.len(), call.set.len());
    Applied::Conflict {
        completed: (!completed.is_empty()).then_some(completed),
        remaining: Delete { set: remaining, pacing: call.pacing.clone() },
        message,
    }
}

impl PerformWrite for Delete {
    async fn read_current(
        &self,
        session: &Session,
        _: Option<&ObservedState>,
    ) -> Result<Current<Vec<Deletion>>, Error> {
        read_current(session, self).await
    }
    async fn apply(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        delete(session, self, observed).await
    }
    async fn resolve(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        resolve_in_doubt(session, self, observed).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::capability::types::ObjectRef;
    use serde_json::json;

    #[test]
    fn only_the_unchanged_chosen_object_is_deleted() {
        let object = json!({"metadata": {"uid": "u"}, "spec": {"sourcePVC": "sonarr"}});
        let target = DeletionTarget {
            object: ObjectRef::new("media", "sonarr"),
            uid: "u".into(),
            digest: spec_digest(&object),
            reason: String::new(),
        };
        let outcome = |found: Option<&Value>| {
            outcome_without_deletion(&target, found).map(|deletion| deletion.outcome)
        };
        assert_eq!(outcome(Some(&object)), None);
        assert_eq!(outcome(None), Some(DeletionOutcome::AlreadyGone));
        let mut replacement = object.clone();
        replacement["metadata"]["uid"] = "v".into();
        assert_eq!(outcome(Some(&replacement)), Some(DeletionOutcome::Replaced));
        let mut changed = object.clone();
        changed["spec"]["paused"] = true.into();
        assert_eq!(outcome(Some(&changed)), Some(DeletionOutcome::Changed));
        let mut moved = object;
        moved["status"] = json!({"lastSyncTime": "now"});
        moved["metadata"]["resourceVersion"] = "9".into();
        assert_eq!(outcome(Some(&moved)), None);
    }
}
