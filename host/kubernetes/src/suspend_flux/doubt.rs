//! A suspend whose answer got lost, or whose sender died: settled by reading, and made impossible where it was not applied.

use crate::backend::Performer;
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
pub(super) async fn settle(performer: &Performer, session: &Session, resource: &Resource, target: &FluxRef, before: &Value, why: &str) -> Settled {
    for _ in 0..LOOKS {
        let now = match session.find(resource, Some(&target.namespace), &target.name).await {
            Ok(Some(now)) if uid(&now) == uid(before) => now,
            Ok(_) => return Settled::NotApplied(format!("{why}; the object is gone or another one")),
            Err(failure) => return Settled::Unknown(unknown(target, why, failure)),
        };
        if annotation(&now, RUN) == Some(performer.run()) {
            return Settled::Applied;
        }
        if is_void(performer, &now) {
            withdraw(session, resource, target, uid(&now), None).await;
            return Settled::NotApplied(format!("{why}; it was not applied, and no longer can be"));
        }
        if version(&now) != version(before) {
            // The write demands the version that it was made for: it fails whenever it arrives.
            return Settled::NotApplied(format!("{why}; it was not applied, and somebody has changed the object since"));
        }
        match forestall(performer, session, resource, target, &now).await {
            Ok(()) => return Settled::NotApplied(format!("{why}; it was not applied, and no longer can be")),
            Err(failure) if failure.is_stale() || failure.is_lost() => {}
            Err(failure) => return Settled::Unknown(unknown(target, why, failure)),
        }
    }
    Settled::Unknown(Error::Unavailable(format!("{target} may be suspended, or may yet be: {why}, and the cluster gives no clear answer since")))
}

/// The same for a write that is known not to be under way.
pub(super) async fn look(performer: &Performer, session: &Session, resource: &Resource, target: &FluxRef, before: &Value) -> Settled {
    match session.find(resource, Some(&target.namespace), &target.name).await {
        Ok(Some(now)) if uid(&now) == uid(before) && annotation(&now, RUN) == Some(performer.run()) => Settled::Applied,
        Ok(_) => Settled::NotApplied("it was not sent".into()),
        Err(failure) => Settled::Unknown(failure.into()),
    }
}

/// Moves the resourceVersion, so that a write which demands the one of `now` fails whenever it arrives.
pub(super) async fn forestall(performer: &Performer, session: &Session, resource: &Resource, target: &FluxRef, now: &Value) -> Result<(), Failure> {
    // A patch that changes nothing would move no version: so a word is written, and the next one takes it away.
    let word = json!({"metadata": {"uid": uid(now), "resourceVersion": version(now), "annotations": {DEADLINE: void(performer)}}});
    if let Err(failure) = session.patch(resource, &target.namespace, &target.name, word).await {
        let found = if failure.is_lost() { session.find(resource, Some(&target.namespace), &target.name).await.ok().flatten() } else { None };
        if !found.is_some_and(|found| is_void(performer, &found)) {
            return Err(failure);
        }
    }
    let before = annotation(now, DEADLINE).filter(|_| !is_void(performer, now));
    withdraw(session, resource, target, uid(now), before).await;
    Ok(())
}

/// The word that moves the version.
fn void(performer: &Performer) -> String {
    format!("void: {}", performer.run())
}

/// Whether an object bears that word still.
pub(super) fn is_void(performer: &Performer, object: &Value) -> bool {
    annotation(object, DEADLINE) == Some(&void(performer))
}

/// Takes the word away. It changes nothing but itself, so one that got lost is sent again.
async fn withdraw(session: &Session, resource: &Resource, target: &FluxRef, uid: &str, before: Option<&str>) {
    let back = json!({"metadata": {"uid": uid, "annotations": {DEADLINE: before}}});
    for _ in 0..LOOKS {
        match session.patch(resource, &target.namespace, &target.name, back.clone()).await {
            Err(failure) if failure.is_lost() => {}
            Ok(_) => return,
            Err(failure) => {
                tracing::warn!(target = %target, message = failure.message(), "the word that made a late write impossible stays in an annotation");
                return;
            }
        }
    }
}

fn unknown(target: &FluxRef, why: &str, failure: Failure) -> Error {
    Error::Unavailable(format!("{target} may be suspended, or may yet be: {why}; and then {}", Error::from(failure).text()))
}
