//! Recreates deleted ReplicationSources for `undo`. Never overwrites an existing object.

use crate::capability::query_replicationsources::spec_digest;
use crate::discovery;
use crate::object::{list, name, namespace, text};
use crate::perform::{Applied, PerformWrite};
use crate::resource::Resource;
use crate::send::{FIELD_MANAGER, MAX_CONCURRENT_REQUESTS, Session, concurrently};
use salve_core::capability::delete_replicationsources::{
    Creation, CreationOutcome, Manifest, Recreate,
};
use salve_core::capability::types::VOLSYNC;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::Current;
use serde_json::Value;

/// Reads which names are free. The observed state contains the objects that will be created.
/// `before` is the observed state of an earlier attempt: what that attempt created counts as
/// created.
async fn read_current(
    session: &Session,
    call: &Recreate,
    before: Option<&ObservedState>,
) -> Result<Current<Vec<Creation>>, Error> {
    let resource = discovery::require_resource(session, VOLSYNC, "replicationsources").await?;
    let (mut objects, mut finished) = (Vec::new(), Vec::new());
    for (entry, found) in call.set.iter().zip(find_all(session, &resource, &call.set).await) {
        match found? {
            None => objects.push(entry.manifest.clone()),
            // mutant undo-disowns-own-objects: before ~> None
            Some(found) if was_requested(entry, before) && was_created_by_us(entry, &found) => {
                finished.push(creation(entry, CreationOutcome::Created, None))
            }
            // mutant undo-claims-existing: (found) => finished.push(occupied(entry, &found)) ~>
            //     (_) => finished.push(creation(entry, CreationOutcome::Created, None))
            Some(found) => finished.push(occupied(entry, &found)),
        }
    }
    if objects.is_empty() {
        return Ok(Current::AlreadyDone(finished));
    }
    Ok(Current::Ready(ObservedState { objects, at: session.clock().now() }))
}

async fn find_all(
    session: &Session,
    resource: &Resource,
    set: &[Manifest],
) -> Vec<Result<Option<Value>, Error>> {
    let find = async |entry: &Manifest| {
        session
            .find(resource, Some(&entry.object.namespace), &entry.object.name)
            .await
            .map_err(Error::from)
    };
    concurrently(set.iter().map(find).collect(), MAX_CONCURRENT_REQUESTS).await
}

fn creation(entry: &Manifest, outcome: CreationOutcome, message: Option<String>) -> Creation {
    Creation { object: entry.object.clone(), outcome, message }
}

fn occupied(entry: &Manifest, found: &Value) -> Creation {
    let manager =
        list(found, "/metadata/managedFields").first().and_then(|entry| text(entry, "/manager"));
    let by = manager.map(|manager| format!(", created by {manager}")).unwrap_or_default();
    creation(
        entry,
        CreationOutcome::Occupied,
        Some(format!("an object of this name already exists{by}")),
    )
}

/// Creates the objects whose names were free, one after the other.
async fn recreate(
    session: &Session,
    call: &Recreate,
    observed: &ObservedState,
) -> Applied<Recreate> {
    let resource = match discovery::require_resource(session, VOLSYNC, "replicationsources").await {
        Ok(resource) => resource,
        Err(error) => return Applied::Done(Err(error)),
    };
    let mut completed = Vec::new();
    for (index, entry) in call.set.iter().enumerate() {
        if !was_requested(entry, Some(observed)) {
            completed.push(creation(
                entry,
                CreationOutcome::Occupied,
                Some("an object of this name already exists".into()),
            ));
            continue;
        }
        if index > 0 && session.stop_requested() {
            completed.push(creation(
                entry,
                CreationOutcome::Rejected,
                Some("stopped before it was created".into()),
            ));
            continue;
        }
        let failure = match session
            .create(&resource, &entry.object.namespace, entry.manifest.clone())
            .await
        {
            Ok(_) => {
                completed.push(creation(entry, CreationOutcome::Created, None));
                continue;
            }
            Err(failure) => failure,
        };
        // If the response was lost, read whether the object was created.
        if failure.is_in_doubt()
            && let Ok(Some(found)) =
                session.find(&resource, Some(&entry.object.namespace), &entry.object.name).await
            && was_created_by_us(entry, &found)
        {
            completed.push(creation(entry, CreationOutcome::Created, None));
            continue;
        }
        if failure.code() == Some(409) || failure.is_in_doubt() {
            // The next attempt reads the outcome.
            let remaining = Recreate { set: call.set[index..].to_vec() };
            return Applied::Conflict {
                completed: (!completed.is_empty()).then_some(completed),
                remaining,
                message: failure.message(),
            };
        }
        completed.push(creation(
            entry,
            CreationOutcome::Rejected,
            Some(Error::from(failure).text().to_owned()),
        ));
    }
    Applied::Done(Ok(completed))
}

/// Reads which objects were created. A request that arrives late is rejected because the name is
/// taken, or creates the requested object.
async fn resolve_in_doubt(session: &Session, call: &Recreate) -> Applied<Recreate> {
    let resource = match discovery::require_resource(session, VOLSYNC, "replicationsources").await {
        Ok(resource) => resource,
        Err(error) => return Applied::Done(Err(error)),
    };
    let (mut completed, mut remaining) = (Vec::new(), Vec::new());
    for (entry, found) in call.set.iter().zip(find_all(session, &resource, &call.set).await) {
        match found {
            Err(error) => return Applied::Done(Err(error)),
            Ok(None) => remaining.push(entry.clone()),
            Ok(Some(found)) if was_created_by_us(entry, &found) => {
                completed.push(creation(entry, CreationOutcome::Created, None))
            }
            Ok(Some(found)) => completed.push(occupied(entry, &found)),
        }
    }
    if remaining.is_empty() {
        return Applied::Done(Ok(completed));
    }
    let message = format!("{} of {} were not created", remaining.len(), call.set.len());
    Applied::Conflict {
        completed: (!completed.is_empty()).then_some(completed),
        remaining: Recreate { set: remaining },
        message,
    }
}

/// Returns true if an earlier attempt tried to create this object.
fn was_requested(entry: &Manifest, before: Option<&ObservedState>) -> bool {
    let requested = before.map(|observed| observed.objects.as_slice()).unwrap_or_default();
    requested.iter().any(|object| {
        namespace(object) == entry.object.namespace && name(object) == entry.object.name
    })
}

/// Returns true if we created the object: it has our field manager and the same spec.
fn was_created_by_us(entry: &Manifest, found: &Value) -> bool {
    let managers = list(found, "/metadata/managedFields");
    managers.iter().any(|entry| text(entry, "/manager") == Some(FIELD_MANAGER))
        && spec_digest(found) == spec_digest(&entry.manifest)
}

impl PerformWrite for Recreate {
    async fn read_current(
        &self,
        session: &Session,
        before: Option<&ObservedState>,
    ) -> Result<Current<Vec<Creation>>, Error> {
        read_current(session, self, before).await
    }
    async fn apply(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        recreate(session, self, observed).await
    }
    async fn resolve(&self, session: &Session, _: &ObservedState) -> Applied<Self> {
        resolve_in_doubt(session, self).await
    }
}
