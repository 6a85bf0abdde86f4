//! `suspend-flux`: suspends one Flux object, and gives it back exactly as it was.

use crate::backend::Performer;
use crate::failure::Failure;
use crate::flux;
use crate::object::{annotation, instant, is_terminating, uid, version};
use crate::resource::Resource;
use crate::send::Session;
use crate::time;
use salve_core::Millis;
use salve_core::effect::suspend_flux::{DEADLINE, PRIOR, Prior as Before, REASON, RUN, Resume, Resumed, Suspend, Suspended};
use salve_core::effect::{Answer, Touch, shared::FluxRef};
use salve_core::journal::Prior;
use salve_core::outcome::Error;
use salve_run::{Acted, Prepared};
use serde_json::{Value, json};
use std::time::Duration;

/// How often a doubt is looked into before we say that we do not know.
const LOOKS: u32 = 5;
/// How often the drain is looked at.
const GLANCE: Duration = Duration::from_secs(2);

/// Reads what is to be suspended.
///
/// # Errors
/// `conflict` where somebody else holds it, or a parent would undo the suspend.
pub(crate) async fn prepare_suspend(performer: &Performer, session: &Session, ask: &Suspend) -> Result<Prepared, Error> {
    let object = flux::get(session, &ask.target).await?;
    let parent_suspended = parent_is_suspended(performer, session, &ask.target, &object).await?;
    match may_be_suspended(&ask.target, &object, performer.run(), parent_suspended, session.clock().now())? {
        Some(settled) => {
            performer.hold(&ask.target, true);
            Ok(Prepared::Settled(Answer::Suspend(settled)))
        }
        None => Ok(Prepared::Ready(Prior { objects: vec![flux::outline(&object)], at: session.clock().now() })),
    }
}

/// Whether we may suspend it. The answer, where this run has suspended it already.
fn may_be_suspended(target: &FluxRef, object: &Value, run: &str, parent_suspended: bool, now: Millis) -> Result<Option<Suspended>, Error> {
    if is_terminating(object) {
        return Err(Error::Conflict(format!("{target} is being deleted; suspended, it would leave behind all that it made")));
    }
    let suspended = flux::suspend(object) == Before::True;
    match annotation(object, RUN) {
        Some(holder) if holder == run && suspended => return Ok(Some(Suspended { uid: uid(object).to_owned(), prior: marked_prior(object) })),
        // What a person has resumed and a dead run left marked holds nobody up once its time is over.
        Some(holder) if holder != run && (suspended || instant(&json!({"at": annotation(object, DEADLINE)}), "/at").is_none_or(|until| until > now)) => {
            let reason = annotation(object, REASON).filter(|r| !r.is_empty()).map_or_else(String::new, |r| format!(" ({})", crate::object::capped(r, 200)));
            return Err(Error::Conflict(format!("{target} is held by run {holder}{reason}; let it finish, or see `salve doctor`")));
        }
        Some(_) | None => {}
    }
    if let Some(by) = flux::suspended_by(object) {
        let manager = by.manager.unwrap_or_else(|| "somebody".into());
        let since = by.since.map_or_else(String::new, |at| format!(" since {}", time::seconds(at)));
        return Err(Error::Conflict(format!("{target} is suspended already, by {manager}{since}: it stays as they want it")));
    }
    if let (true, Some(parent), Some(manager)) =
        (flux::read(target, object, parent_suspended).parent_reverts, flux::labelled_owner(object), flux::suspend_applied_by(object))
    {
        return Err(Error::Conflict(format!(
            "{parent} states spec.suspend of {target} (applied by {manager}) and would undo the suspend: suspend {parent} first"
        )));
    }
    Ok(None)
}

/// Whether the parent applies nothing: because this run holds it, or because it is seen to be suspended.
async fn parent_is_suspended(performer: &Performer, session: &Session, target: &FluxRef, object: &Value) -> Result<bool, Error> {
    let Some(parent) = flux::labelled_owner(object).filter(|parent| parent != target && flux::suspend_applied_by(object).is_some()) else { return Ok(false) };
    if performer.holds(&parent) {
        return Ok(true);
    }
    crate::query_flux::is_suspended(session, &parent).await
}

fn marked_prior(object: &Value) -> Before {
    match annotation(object, PRIOR) {
        Some("false") => Before::False,
        Some("true") => Before::True,
        Some(_) | None => Before::Absent,
    }
}

fn word(prior: Before) -> &'static str {
    match prior {
        Before::Absent => "absent",
        Before::False => "false",
        Before::True => "true",
    }
}

/// One write: the field, and who, why, how long and what it was before.
fn mark(performer: &Performer, ask: &Suspend, object: &Value) -> Value {
    json!({
        "metadata": {"uid": uid(object), "resourceVersion": version(object), "annotations": {
            RUN: performer.run(), REASON: ask.reason, DEADLINE: time::seconds(performer.deadline()), PRIOR: word(flux::suspend(object)),
        }},
        "spec": {"suspend": true},
    })
}

/// Suspends it, and waits until the reconciliation in progress has ended.
pub(crate) async fn suspend(performer: &Performer, session: &Session, ask: &Suspend, prior: &Prior) -> Acted {
    let Some(before) = prior.objects.first() else { return Acted::Done(Err(Error::Invalid("a suspend without the state before".into()))) };
    let resource = match flux::served(session, ask.target.kind).await {
        Ok(resource) => resource,
        Err(error) => return Acted::Done(Err(error)),
    };
    let (namespace, name) = (&ask.target.namespace, &ask.target.name);
    // Until it is settled: whoever drops this future half-way leaves a write that may yet arrive, and its release must know.
    performer.doubt(&ask.target, Some(version(before)));
    let applied = match session.patch(&resource, namespace, name, mark(performer, ask, before)).await {
        Ok(_) => Settled::Applied,
        Err(failure) if failure.is_stale() => Settled::NotApplied(failure.message()),
        Err(failure) if failure.is_lost() => settle(performer, session, &resource, &ask.target, before, failure).await,
        Err(failure) => Settled::Refused(failure.into()),
    };
    match applied {
        Settled::Applied => {
            performer.doubt(&ask.target, None);
            performer.hold(&ask.target, true);
            let suspended = Suspended { uid: uid(before).to_owned(), prior: flux::suspend(before) };
            Acted::Done(drain(performer, session, ask, &suspended.uid).await.map(|()| Answer::Suspend(suspended)))
        }
        Settled::NotApplied(message) => {
            performer.doubt(&ask.target, None);
            Acted::Conflict { sofar: None, rest: Touch::Suspend(ask.clone()), message }
        }
        Settled::Refused(error) => {
            performer.doubt(&ask.target, None);
            Acted::Done(Err(error))
        }
        Settled::Unknown(error) => Acted::Done(Err(error)),
    }
}

/// What became of a write.
enum Settled {
    /// It was applied.
    Applied,
    /// It was not, and no longer can be.
    NotApplied(String),
    /// It was refused.
    Refused(Error),
    /// The cluster does not let us know.
    Unknown(Error),
}

/// Finds out whether a suspend was applied. Where it was not, moves the resourceVersion, so that it cannot arrive late.
async fn settle(performer: &Performer, session: &Session, resource: &Resource, target: &FluxRef, before: &Value, lost: Failure) -> Settled {
    let why = lost.message();
    for _ in 0..LOOKS {
        let now = match session.find(resource, Some(&target.namespace), &target.name).await {
            Ok(Some(now)) if uid(&now) == uid(before) => now,
            Ok(_) => return Settled::NotApplied(format!("{why}; the object is gone or another one")),
            Err(failure) => return Settled::Unknown(unknown(target, &why, failure)),
        };
        if annotation(&now, RUN) == Some(performer.run()) {
            return Settled::Applied;
        }
        if version(&now) != version(before) {
            // The write demands the version that it was made for: it fails whenever it arrives.
            return Settled::NotApplied(format!("{why}; it was not applied, and somebody has changed the object since"));
        }
        match forestall(performer, session, resource, target, &now).await {
            Ok(()) => return Settled::NotApplied(format!("{why}; it was not applied, and no longer can be")),
            Err(failure) if failure.is_stale() || failure.is_lost() => {}
            Err(failure) => return Settled::Unknown(unknown(target, &why, failure)),
        }
    }
    Settled::Unknown(Error::Unavailable(format!("{target} may be suspended, or may yet be: {why}, and the cluster gives no clear answer since")))
}

/// Moves the resourceVersion, so that a write which demands the one of `now` fails whenever it arrives.
async fn forestall(performer: &Performer, session: &Session, resource: &Resource, target: &FluxRef, now: &Value) -> Result<(), Failure> {
    // A patch that changes nothing would move no version: so a word is written, and the next one takes it away.
    let word = json!({"metadata": {"uid": uid(now), "resourceVersion": version(now), "annotations": {DEADLINE: format!("void: {}", performer.run())}}});
    session.patch(resource, &target.namespace, &target.name, word).await?;
    let back = json!({"metadata": {"uid": uid(now), "annotations": {DEADLINE: annotation(now, DEADLINE)}}});
    if let Err(failure) = session.patch(resource, &target.namespace, &target.name, back).await {
        tracing::warn!(target = %target, message = failure.message(), "the word that made a late write impossible stays in an annotation");
    }
    performer.doubt(target, None);
    Ok(())
}

fn unknown(target: &FluxRef, why: &str, failure: Failure) -> Error {
    Error::Unavailable(format!("{target} may be suspended, or may yet be: {why}; and then {}", Error::from(failure).text()))
}

/// Waits until no reconciliation goes on. Suspending interrupts none.
async fn drain(performer: &Performer, session: &Session, ask: &Suspend, uid_before: &str) -> Result<(), Error> {
    let clock = session.clock();
    let until = clock.now() + u64::from(ask.drain_seconds) * 1000;
    loop {
        let object = flux::get(session, &ask.target).await?;
        if uid(&object) != uid_before || annotation(&object, RUN) != Some(performer.run()) || flux::suspend(&object) != Before::True {
            return Err(Error::Conflict(format!("{} was changed by {} while it was drained", ask.target, changer(&object))));
        }
        if !flux::is_busy(&object) {
            return Ok(());
        }
        if clock.now() >= until {
            return Err(Error::Unavailable(format!("the reconciliation of {} that was going on did not end within {} s", ask.target, ask.drain_seconds)));
        }
        if session.stopped() {
            return Err(Error::Unavailable(format!("stopped while the reconciliation of {} was still going on", ask.target)));
        }
        session.pause(GLANCE).await;
    }
}

fn changer(object: &Value) -> String {
    flux::suspended_by_another(object).unwrap_or_else(|| "somebody".into())
}

/// What there is to give back.
enum Hold {
    /// It is ours still.
    Ours,
    /// It bears our mark, but somebody has set the field since: only the mark is to go.
    MarkOnly(String),
    /// Nothing is to be done.
    Nothing(Resumed),
}

/// Whether the suspension still is this run's.
fn hold(ask: &Resume, object: Option<&Value>, run: &str) -> Hold {
    let over = |restored: Before, why: String| Hold::Nothing(Resumed { restored, taken_over: Some(why) });
    let Some(object) = object else { return over(ask.prior, "it was deleted".into()) };
    let now = flux::suspend(object);
    if uid(object) != ask.uid {
        return over(now, "it was deleted, and another object bears its name".into());
    }
    match annotation(object, RUN) {
        Some(holder) if holder != run => over(now, format!("run {holder} holds it now")),
        // Nothing of ours ever arrived, or all of it was given back: the state is what it was.
        None if now == ask.prior => Hold::Nothing(Resumed { restored: now, taken_over: None }),
        None => over(now, format!("{} has removed this run's mark; spec.suspend is {} now", changer(object), word(now))),
        Some(_) if now != Before::True => Hold::MarkOnly(format!("{} has resumed it", changer(object))),
        Some(_) => match flux::suspended_by_another(object) {
            Some(manager) => Hold::MarkOnly(format!("{manager} has suspended it anew")),
            None => Hold::Ours,
        },
    }
}

/// Reads what is to be given back.
pub(crate) async fn prepare_resume(performer: &Performer, session: &Session, ask: &Resume) -> Result<Prepared, Error> {
    let object = flux::find(session, &ask.target).await?;
    let doubtful = object.as_ref().is_some_and(|object| performer.doubts(&ask.target, version(object)));
    match (hold(ask, object.as_ref(), performer.run()), object) {
        (Hold::Nothing(_), Some(object)) if doubtful => Ok(Prepared::Ready(Prior { objects: vec![flux::outline(&object)], at: session.clock().now() })),
        (Hold::Nothing(resumed), _) => {
            performer.hold(&ask.target, false);
            Ok(Prepared::Settled(Answer::Resume(resumed)))
        }
        (Hold::Ours | Hold::MarkOnly(_), Some(object)) => Ok(Prepared::Ready(Prior { objects: vec![flux::outline(&object)], at: session.clock().now() })),
        (Hold::Ours | Hold::MarkOnly(_), None) => Err(Error::NotFound(format!("there is no {}", ask.target))),
    }
}

/// One write: the field as it was, and our mark gone.
fn unmark(ask: &Resume, object: &Value, ours: bool) -> Value {
    let mut patch =
        json!({"metadata": {"uid": uid(object), "resourceVersion": version(object), "annotations": {RUN: null, REASON: null, DEADLINE: null, PRIOR: null}}});
    if ours {
        patch["spec"] = json!({"suspend": match ask.prior {
            Before::Absent => Value::Null,
            Before::False => Value::Bool(false),
            Before::True => Value::Bool(true),
        }});
    }
    patch
}

/// Gives it back, unless somebody has taken it over.
pub(crate) async fn resume(performer: &Performer, session: &Session, ask: &Resume, prior: &Prior) -> Acted {
    let again = |message: String| Acted::Conflict { sofar: None, rest: Touch::Resume(ask.clone()), message };
    // Read once more: who owns the field stands in managedFields, which the journal does not keep.
    let object = match flux::find(session, &ask.target).await {
        Ok(object) => object,
        Err(error) => return Acted::Done(Err(error)),
    };
    let taken_over = match hold(ask, object.as_ref(), performer.run()) {
        Hold::Nothing(resumed) => {
            if let Some(now) = object.filter(|now| performer.doubts(&ask.target, version(now))) {
                let forestalled = match flux::served(session, ask.target.kind).await {
                    Ok(resource) => forestall(performer, session, &resource, &ask.target, &now).await,
                    Err(error) => return Acted::Done(Err(error)),
                };
                match forestalled {
                    Ok(()) => {}
                    Err(failure) if failure.is_stale() => return again(failure.message()),
                    Err(failure) => return Acted::Done(Err(failure.into())),
                }
            }
            performer.hold(&ask.target, false);
            return Acted::Done(Ok(Answer::Resume(resumed)));
        }
        Hold::MarkOnly(why) => Some(why),
        Hold::Ours => None,
    };
    let (Some(now), Some(before)) = (object, prior.objects.first()) else { return again("there is nothing to give back".into()) };
    if version(&now) != version(before) {
        return again(format!("{} has changed since it was read", ask.target));
    }
    let restored = if taken_over.is_some() { flux::suspend(&now) } else { ask.prior };
    let done = |taken_over| {
        performer.hold(&ask.target, false);
        Acted::Done(Ok(Answer::Resume(Resumed { restored, taken_over })))
    };
    let resource = match flux::served(session, ask.target.kind).await {
        Ok(resource) => resource,
        Err(error) => return Acted::Done(Err(error)),
    };
    match session.patch(&resource, &ask.target.namespace, &ask.target.name, unmark(ask, &now, taken_over.is_none())).await {
        Ok(_) => done(taken_over),
        Err(failure) if failure.is_stale() || failure.code() == Some(404) => again(failure.message()),
        Err(failure) if failure.is_lost() => match flux::find(session, &ask.target).await {
            Ok(Some(object)) if uid(&object) == ask.uid && annotation(&object, RUN).is_none() && flux::suspend(&object) == restored => done(taken_over),
            // Should it arrive late after all, it does what is wanted.
            Ok(_) => again(failure.message()),
            Err(error) => {
                Acted::Done(Err(Error::Unavailable(format!("{} may still be suspended: {}; and then {}", ask.target, failure.message(), error.text()))))
            }
        },
        Err(failure) => Acted::Done(Err(failure.into())),
    }
}

#[cfg(test)]
#[path = "suspend_flux_tests.rs"]
mod tests;
