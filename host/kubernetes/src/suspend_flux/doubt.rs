//! A suspend whose answer got lost, or whose sender died: settled by reading, and made impossible where it was not applied.

use crate::backend::ClusterBackend;
use crate::failure::Failure;
use crate::object::{annotation, uid, version};
use crate::resource::Resource;
use crate::send::Session;
use salve_core::effect::shared::FluxRef;
use salve_core::effect::suspend_flux::{DEADLINE, RUN};
use salve_core::outcome::Error;
use serde_json::{Value, json};

/// How often a doubt is looked into before we say that we do not know.
const LOOKS: u32 = 5;

/// What became of a write.
pub(super) enum Settled {
    /// It was applied.
    Applied,
    /// It was not, and no longer can be.
    NotApplied(String),
    /// The cluster does not let us know.
    Unknown(Error),
}

/// Finds out whether a suspend was applied. Where it was not, moves the resourceVersion, so that it cannot arrive late.
pub(super) async fn settle(
    backend: &ClusterBackend,
    session: &Session,
    resource: &Resource,
    target: &FluxRef,
    before: &Value,
    why: &str,
) -> Settled {
    for _ in 0..LOOKS {
        let now = match session.find(resource, Some(&target.namespace), &target.name).await {
            Ok(Some(now)) if uid(&now) == uid(before) => now,
            Ok(_) => {
                return Settled::NotApplied(format!("{why}; the object is gone or another one"));
            }
            Err(failure) => return Settled::Unknown(unknown(target, why, failure)),
        };
        if annotation(&now, RUN) == Some(backend.run()) {
            return Settled::Applied;
        }
        if version(&now) != version(before) {
            // The write demands the version that it was made for: it fails whenever it arrives.
            if is_void(backend, &now) {
                withdraw(backend, session, resource, target, now, deadline(backend, before)).await;
                return Settled::NotApplied(format!(
                    "{why}; it was not applied, and no longer can be"
                ));
            }
            return Settled::NotApplied(format!(
                "{why}; it was not applied, and somebody has changed the object since"
            ));
        }
        match invalidate_in_flight_write(backend, session, resource, target, &now).await {
            Ok(()) => {
                return Settled::NotApplied(format!(
                    "{why}; it was not applied, and no longer can be"
                ));
            }
            Err(failure) if failure.is_stale() || failure.is_lost() => {}
            Err(failure) => return Settled::Unknown(unknown(target, why, failure)),
        }
    }
    Settled::Unknown(Error::Unavailable(format!(
        "{target} may be suspended, or may yet be: {why}, and the cluster gives no clear answer since"
    )))
}

/// The same for a write that is known not to be under way.
pub(super) async fn look(
    backend: &ClusterBackend,
    session: &Session,
    resource: &Resource,
    target: &FluxRef,
    before: &Value,
) -> Settled {
    match session.find(resource, Some(&target.namespace), &target.name).await {
        Ok(Some(now))
            if uid(&now) == uid(before) && annotation(&now, RUN) == Some(backend.run()) =>
        {
            Settled::Applied
        }
        Ok(_) => Settled::NotApplied("it was not sent".into()),
        Err(failure) => Settled::Unknown(failure.into()),
    }
}

/// Moves the resourceVersion, so that a write which demands the one of `now` fails whenever it arrives.
pub(super) async fn invalidate_in_flight_write(
    backend: &ClusterBackend,
    session: &Session,
    resource: &Resource,
    target: &FluxRef,
    now: &Value,
) -> Result<(), Failure> {
    // A patch that changes nothing would move no version: so a word is written, and the next one takes it away. Where one stands already, taking
    // it away is what moves the version.
    let stands = is_void(backend, now);
    // mutant lost-suspend-not-invalidated: Some(void(backend)) ~> deadline(backend, now)
    let word = if stands { None } else { Some(void(backend)) };
    let spoken = match session
        .patch(resource, &target.namespace, &target.name, noting(now, word.as_deref()))
        .await
    {
        Ok(spoken) => spoken,
        // Whether it was applied, the object says.
        Err(failure) if failure.is_lost() => match session
            .find(resource, Some(&target.namespace), &target.name)
            .await
        {
            Ok(Some(found)) if uid(&found) == uid(now) && is_void(backend, &found) != stands => {
                found
            }
            Ok(_) | Err(_) => return Err(failure),
        },
        Err(failure) => return Err(failure),
    };
    if !stands {
        withdraw(backend, session, resource, target, spoken, deadline(backend, now)).await;
    }
    Ok(())
}

/// The word that moves the version.
fn void(backend: &ClusterBackend) -> String {
    format!("void: {}", backend.run())
}

/// Whether an object bears that word still.
pub(super) fn is_void(backend: &ClusterBackend, object: &Value) -> bool {
    annotation(object, DEADLINE) == Some(&void(backend))
}

/// What stood in its place.
fn deadline(backend: &ClusterBackend, object: &Value) -> Option<String> {
    annotation(object, DEADLINE).filter(|_| !is_void(backend, object)).map(str::to_owned)
}

/// This in the annotation, of this very version of the object.
fn noting(object: &Value, word: Option<&str>) -> Value {
    json!({"metadata": {"uid": uid(object), "resourceVersion": version(object), "annotations": {DEADLINE: word}}})
}

/// Takes the word away, for what stood there `before`, and nothing that anybody has written since.
async fn withdraw(
    backend: &ClusterBackend,
    session: &Session,
    resource: &Resource,
    target: &FluxRef,
    mut now: Value,
    before: Option<String>,
) {
    for _ in 0..LOOKS {
        match session
            .patch(resource, &target.namespace, &target.name, noting(&now, before.as_deref()))
            .await
        {
            Ok(_) => return,
            Err(failure) if failure.is_lost() || failure.is_stale() => {
                match session.find(resource, Some(&target.namespace), &target.name).await {
                    Ok(Some(found)) if uid(&found) == uid(&now) && is_void(backend, &found) => {
                        now = found
                    }
                    Ok(_) => return,
                    Err(_) => {}
                }
            }
            Err(failure) => {
                tracing::warn!(target = %target, message = failure.message(), "the word that made a late write impossible stays in an annotation");
                return;
            }
        }
    }
}

fn unknown(target: &FluxRef, why: &str, failure: Failure) -> Error {
    Error::Unavailable(format!(
        "{target} may be suspended, or may yet be: {why}; and then {}",
        Error::from(failure).text()
    ))
}
