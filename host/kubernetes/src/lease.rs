//! The cluster's Lease: one run at a time changes a cluster, whatever guest it runs and whatever machine it runs on.
//!
//! It lies in the namespace `salve` where there is one, else in `default`. It is not renewed: it names the time by which the run means
//! to be through, and after that nobody takes it away by themselves, for the run that it names may have left something.

use crate::object::{annotation, capped, instant, name, namespace, number, owned, uid};
use crate::resource::{LEASES, NAMESPACES};
use crate::send::Session;
use crate::time;
use salve_core::effect::host::{
    AcquireLease, Acquired, Holder, LEASE, LEASE_NAMESPACES, ReleaseLease,
};
use salve_core::effect::suspend_flux::REASON;
use salve_core::effect::{Answer, Write};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{ApplyOutcome, Prepared};
use serde_json::{Value, json};

/// Who holds the cluster.
pub(crate) async fn holder(session: &Session) -> Result<Option<Holder>, Error> {
    let place = place(session).await?;
    Ok(session.find(&LEASES, Some(place), LEASE).await?.map(|lease| read(&lease)))
}

/// Where the Lease lies.
async fn place(session: &Session) -> Result<&'static str, Error> {
    let [local, other] = LEASE_NAMESPACES;
    match session.find(&NAMESPACES, None, local).await {
        Ok(Some(_)) => Ok(local),
        Ok(None) => Ok(other),
        // Who may not ask for the namespace has one of its own, or meets a refusal there that says more.
        Err(failure) if failure.code() == Some(403) => Ok(local),
        Err(failure) => Err(failure.into()),
    }
}

fn read(lease: &Value) -> Holder {
    let since = instant(lease, "/spec/acquireTime");
    let seconds = number(lease, "/spec/leaseDurationSeconds").unwrap_or(0);
    Holder {
        namespace: namespace(lease).to_owned(),
        uid: uid(lease).to_owned(),
        run: capped(&owned(lease, "/spec/holderIdentity").unwrap_or_default(), 200),
        reason: capped(annotation(lease, REASON).unwrap_or_default(), 1024),
        since,
        until: since.map(|since| since + seconds * 1000),
    }
}

/// Looks whether it is free.
///
/// # Errors
/// `conflict` where another run holds it.
pub(crate) async fn prepare_acquire(
    session: &Session,
    ask: &AcquireLease,
) -> Result<Prepared, Error> {
    let place = place(session).await?;
    match session.find(&LEASES, Some(place), LEASE).await?.map(|lease| read(&lease)) {
        None => {
            let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE, "namespace": place}});
            Ok(Prepared::Ready(ObservedState { objects: vec![object], at: session.clock().now() }))
        }
        // mutant expired-lease-taken: run => ~> run || held.until.is_some_and(|until| until <
        //     session.clock().now()) =>
        Some(held) if held.run == ask.run => Ok(Prepared::AlreadyDone(acquired(&held))),
        // mutant other-lease-accepted: Err(Error::Conflict(held.told(session.clock().now()))) ~>
        //     Ok(Prepared::AlreadyDone(acquired(&held)))
        Some(held) => Err(Error::Conflict(held.told(session.clock().now()))),
    }
}

fn acquired(held: &Holder) -> Answer {
    Answer::AcquireLease(Acquired { namespace: held.namespace.clone(), uid: held.uid.clone() })
}

/// Takes it.
pub(crate) async fn acquire(
    session: &Session,
    ask: &AcquireLease,
    observed: &ObservedState,
) -> ApplyOutcome {
    let Some(place) = observed.objects.first().map(namespace) else {
        return ApplyOutcome::Done(Err(Error::Invalid("a lease without a place".into())));
    };
    let at = time::micros(observed.at);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": place, "annotations": {REASON: ask.reason}},
        "spec": {"holderIdentity": ask.run, "acquireTime": at, "renewTime": at, "leaseDurationSeconds": ask.seconds.clamp(1, i32::MAX as u64)},
    });
    let again = |message: String| ApplyOutcome::Conflict {
        completed: None,
        rest: Write::AcquireLease(ask.clone()),
        message,
    };
    match session.create(&LEASES, place, lease).await {
        Ok(made) => ApplyOutcome::Done(Ok(acquired(&read(&made)))),
        Err(failure) if failure.code() == Some(409) || failure.is_lost() => {
            again(failure.message())
        }
        Err(failure) => ApplyOutcome::Done(Err(failure.into())),
    }
}

/// Finds out whether it was taken.
pub(crate) async fn settle_acquire(session: &Session, ask: &AcquireLease) -> ApplyOutcome {
    match holder(session).await {
        Ok(Some(held)) if held.run == ask.run => ApplyOutcome::Done(Ok(acquired(&held))),
        Ok(_) => ApplyOutcome::Conflict {
            completed: None,
            rest: Write::AcquireLease(ask.clone()),
            message: "the Lease was not taken".into(),
        },
        Err(error) => ApplyOutcome::Done(Err(error)),
    }
}

/// Looks whether it is still held.
pub(crate) async fn prepare_release(
    session: &Session,
    ask: &ReleaseLease,
) -> Result<Prepared, Error> {
    let found = session.find(&LEASES, Some(&ask.namespace), LEASE).await?;
    match found.filter(|lease| uid(lease) == ask.uid) {
        Some(lease) => {
            let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name(&lease), "namespace": namespace(&lease), "uid": uid(&lease)}});
            Ok(Prepared::Ready(ObservedState { objects: vec![object], at: session.clock().now() }))
        }
        None => Ok(Prepared::AlreadyDone(Answer::ReleaseLease(()))),
    }
}

/// Gives it back.
pub(crate) async fn release(session: &Session, ask: &ReleaseLease) -> ApplyOutcome {
    match session.delete(&LEASES, &ask.namespace, LEASE, &ask.uid, None).await {
        Ok(_) => ApplyOutcome::Done(Ok(Answer::ReleaseLease(()))),
        // Gone, or another's, or nobody knows: it is read again.
        Err(failure) if matches!(failure.code(), Some(404 | 409)) || failure.is_lost() => {
            ApplyOutcome::Conflict {
                completed: None,
                rest: Write::ReleaseLease(ask.clone()),
                message: failure.message(),
            }
        }
        Err(failure) => ApplyOutcome::Done(Err(failure.into())),
    }
}
