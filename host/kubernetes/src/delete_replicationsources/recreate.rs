//! Makes deleted ReplicationSources anew, for `undo`: never over one that bears the name.

use super::spec_digest;
use crate::discovery::{self, VOLSYNC};
use crate::object::{list, name, namespace, text};
use crate::resource::Resource;
use crate::send::{MANAGER, Session, concurrently};
use salve_core::effect::delete_replicationsources::{
    Creation, CreationOutcome, Manifest, Recreate,
};
use salve_core::effect::{Answer, Write};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{ApplyOutcome, Prepared};
use serde_json::Value;

/// How many are read at once.
const AT_ONCE: usize = 16;

/// Looks which names are free. The prior holds what will be made. Where an attempt went `before`, what it made is made.
pub(crate) async fn prepare(
    session: &Session,
    ask: &Recreate,
    before: Option<&ObservedState>,
) -> Result<Prepared, Error> {
    let resource = discovery::served(session, VOLSYNC, "replicationsources").await?;
    let (mut objects, mut settled) = (Vec::new(), Vec::new());
    for (one, found) in ask.set.iter().zip(find_all(session, &resource, &ask.set).await) {
        match found? {
            None => objects.push(one.manifest.clone()),
            // mutant undo-disowns-own-objects: before ~> None
            Some(found) if tried(one, before) && is_ours(one, &found) => {
                settled.push(made(one, CreationOutcome::Created, None))
            }
            // mutant undo-claims-existing: (found) => settled.push(occupied(one, &found)) ~> (_) =>
            //     settled.push(made(one, CreationOutcome::Created, None))
            Some(found) => settled.push(occupied(one, &found)),
        }
    }
    if objects.is_empty() {
        return Ok(Prepared::AlreadyDone(Answer::Recreate(settled)));
    }
    Ok(Prepared::Ready(ObservedState { objects, at: session.clock().now() }))
}

async fn find_all(
    session: &Session,
    resource: &Resource,
    set: &[Manifest],
) -> Vec<Result<Option<Value>, Error>> {
    let find = async |one: &Manifest| {
        session
            .find(resource, Some(&one.object.namespace), &one.object.name)
            .await
            .map_err(Error::from)
    };
    concurrently(set.iter().map(find).collect(), AT_ONCE).await
}

fn made(one: &Manifest, outcome: CreationOutcome, message: Option<String>) -> Creation {
    Creation { object: one.object.clone(), outcome, message }
}

fn occupied(one: &Manifest, found: &Value) -> Creation {
    let maker =
        list(found, "/metadata/managedFields").first().and_then(|entry| text(entry, "/manager"));
    let by = maker.map(|maker| format!(", made by {maker}")).unwrap_or_default();
    made(one, CreationOutcome::Occupied, Some(format!("an object bears its name already{by}")))
}

/// Makes those whose names were free, one after the other.
pub(crate) async fn recreate(
    session: &Session,
    ask: &Recreate,
    observed: &ObservedState,
) -> ApplyOutcome {
    let resource = match discovery::served(session, VOLSYNC, "replicationsources").await {
        Ok(resource) => resource,
        Err(error) => return ApplyOutcome::Done(Err(error)),
    };
    let mut completed = Vec::new();
    for (index, one) in ask.set.iter().enumerate() {
        if !tried(one, Some(observed)) {
            completed.push(made(
                one,
                CreationOutcome::Occupied,
                Some("an object bears its name already".into()),
            ));
            continue;
        }
        if index > 0 && session.stopped() {
            completed.push(made(one, CreationOutcome::Rejected, Some("stopped before it".into())));
            continue;
        }
        let failure =
            match session.create(&resource, &one.object.namespace, one.manifest.clone()).await {
                Ok(_) => {
                    completed.push(made(one, CreationOutcome::Created, None));
                    continue;
                }
                Err(failure) => failure,
            };
        // Where no answer came, the object says what became of it.
        if failure.is_lost()
            && let Ok(Some(found)) =
                session.find(&resource, Some(&one.object.namespace), &one.object.name).await
            && is_ours(one, &found)
        {
            completed.push(made(one, CreationOutcome::Created, None));
            continue;
        }
        if failure.code() == Some(409) || failure.is_lost() {
            // What became of it, the next attempt reads.
            let rest = Write::Recreate(Recreate { set: ask.set[index..].to_vec() });
            return ApplyOutcome::Conflict {
                completed: (!completed.is_empty()).then_some(Answer::Recreate(completed)),
                rest,
                message: failure.message(),
            };
        }
        completed.push(made(
            one,
            CreationOutcome::Rejected,
            Some(Error::from(failure).text().to_owned()),
        ));
    }
    ApplyOutcome::Done(Ok(Answer::Recreate(completed)))
}

/// Finds out which were made. One that arrives late finds its name taken, or does what is wanted.
pub(crate) async fn settle(session: &Session, ask: &Recreate) -> ApplyOutcome {
    let resource = match discovery::served(session, VOLSYNC, "replicationsources").await {
        Ok(resource) => resource,
        Err(error) => return ApplyOutcome::Done(Err(error)),
    };
    let (mut completed, mut rest) = (Vec::new(), Vec::new());
    for (one, found) in ask.set.iter().zip(find_all(session, &resource, &ask.set).await) {
        match found {
            Err(error) => return ApplyOutcome::Done(Err(error)),
            Ok(None) => rest.push(one.clone()),
            Ok(Some(found)) if is_ours(one, &found) => {
                completed.push(made(one, CreationOutcome::Created, None))
            }
            Ok(Some(found)) => completed.push(occupied(one, &found)),
        }
    }
    if rest.is_empty() {
        return ApplyOutcome::Done(Ok(Answer::Recreate(completed)));
    }
    let message = format!("{} of {} had not been made", rest.len(), ask.set.len());
    ApplyOutcome::Conflict {
        completed: (!completed.is_empty()).then_some(Answer::Recreate(completed)),
        rest: Write::Recreate(Recreate { set: rest }),
        message,
    }
}

/// Whether an attempt has asked for this one.
fn tried(one: &Manifest, before: Option<&ObservedState>) -> bool {
    let asked = before.map(|observed| observed.objects.as_slice()).unwrap_or_default();
    asked
        .iter()
        .any(|object| namespace(object) == one.object.namespace && name(object) == one.object.name)
}

/// Whether it is what we made: by our name, with this spec.
fn is_ours(one: &Manifest, found: &Value) -> bool {
    let managers = list(found, "/metadata/managedFields");
    managers.iter().any(|entry| text(entry, "/manager") == Some(MANAGER))
        && spec_digest(found) == spec_digest(&one.manifest)
}
