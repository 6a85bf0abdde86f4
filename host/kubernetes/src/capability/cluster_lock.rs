//! The cluster lock, a Lease: only one run at a time changes a cluster, on whatever machine.
//!
//! The Lease is in the namespace `salve` if that exists, else in `default`. It is not renewed: its
//! duration ends at the run's deadline. An expired Lease is never taken over automatically, because
//! the run that it names may have left something behind.

use crate::object::{annotation, instant, name, namespace, number, owned, truncated, uid};
use crate::perform::{Applied, PerformRead, PerformReversal, PerformWrite};
use crate::resource::{LEASES, NAMESPACES};
use crate::send::Session;
use crate::time;
use salve_core::capability::Released;
use salve_core::capability::cluster_lock::{
    AcquireLease, Acquired, GetHolder, Holder, LEASE, LEASE_NAMESPACES, ReleaseLease,
};
use salve_core::capability::host::Leftover;
use salve_core::capability::run_annotations::REASON;
use salve_core::capability::types::Kind;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{Current, ReleaseOutcome};
use serde_json::{Value, json};

/// Returns the run that holds the cluster lock.
async fn holder(session: &Session) -> Result<Option<Holder>, Error> {
    let namespace = lease_namespace(session).await?;
    Ok(session.find(&LEASES, Some(namespace), LEASE).await?.map(|lease| parse_holder(&lease)))
}

/// Returns the namespace of the Lease.
async fn lease_namespace(session: &Session) -> Result<&'static str, Error> {
    let [preferred, fallback] = LEASE_NAMESPACES;
    match session.find(&NAMESPACES, None, preferred).await {
        Ok(Some(_)) => Ok(preferred),
        Ok(None) => Ok(fallback),
        // If the namespace cannot be read, the error of the Lease request itself is more specific.
        Err(failure) if failure.code() == Some(403) => Ok(preferred),
        Err(failure) => Err(failure.into()),
    }
}

fn parse_holder(lease: &Value) -> Holder {
    let since = instant(lease, "/spec/acquireTime");
    let seconds = number(lease, "/spec/leaseDurationSeconds").unwrap_or(0);
    Holder {
        namespace: namespace(lease).to_owned(),
        uid: uid(lease).to_owned(),
        run: truncated(&owned(lease, "/spec/holderIdentity").unwrap_or_default(), 200),
        reason: truncated(annotation(lease, REASON).unwrap_or_default(), 1024),
        since,
        until: since.map(|since| since + seconds * 1000),
    }
}

/// Checks that the lock is free.
///
/// # Errors
/// `conflict` if another run holds the lock.
async fn read_before_acquire(
    session: &Session,
    call: &AcquireLease,
) -> Result<Current<Acquired>, Error> {
    let lease_namespace = lease_namespace(session).await?;
    match session
        .find(&LEASES, Some(lease_namespace), LEASE)
        .await?
        .map(|lease| parse_holder(&lease))
    {
        None => {
            let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": LEASE, "namespace": lease_namespace}});
            Ok(Current::Ready(ObservedState { objects: vec![object], at: session.clock().now() }))
        }
        // mutant expired-lease-taken: run => ~> run || holder.until.is_some_and(|until| until <
        //     session.clock().now()) =>
        Some(holder) if holder.run == call.run => Ok(Current::AlreadyDone(acquired(&holder))),
        // mutant other-lease-accepted:
        //     Err(Error::Conflict(holder.conflict_message(session.clock().now()))) ~>
        //     Ok(Current::AlreadyDone(acquired(&holder)))
        Some(holder) => Err(Error::Conflict(holder.conflict_message(session.clock().now()))),
    }
}

fn acquired(holder: &Holder) -> Acquired {
    Acquired { namespace: holder.namespace.clone(), uid: holder.uid.clone() }
}

impl PerformRead for GetHolder {
    async fn read(&self, session: &Session) -> Result<Option<Holder>, Error> {
        holder(session).await
    }
}

impl PerformWrite for AcquireLease {
    async fn read_current(
        &self,
        session: &Session,
        _: Option<&ObservedState>,
    ) -> Result<Current<Acquired>, Error> {
        read_before_acquire(session, self).await
    }

    async fn apply(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        let Some(lease_namespace) = observed.objects.first().map(namespace) else {
            return Applied::Done(Err(Error::Invalid("missing namespace of the Lease".into())));
        };
        let at = time::micros(observed.at);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": LEASE, "namespace": lease_namespace,
                "annotations": {REASON: self.reason}},
            "spec": {"holderIdentity": self.run, "acquireTime": at, "renewTime": at,
                "leaseDurationSeconds": self.seconds.clamp(1, i32::MAX as u64)},
        });
        match session.create(&LEASES, lease_namespace, lease).await {
            Ok(created) => Applied::Done(Ok(acquired(&parse_holder(&created)))),
            Err(failure) if failure.code() == Some(409) => Applied::Conflict {
                completed: None,
                remaining: self.clone(),
                message: failure.message(),
            },
            // Nothing can invalidate a creation that is still on its way.
            // mutant lost-lease-not-applied: Applied::InDoubt { remaining: self.clone(),
            //     message: failure.message() } ~> Applied::Conflict { completed: None, remaining:
            //     self.clone(), message: failure.message() }
            Err(failure) if failure.is_in_doubt() => {
                Applied::InDoubt { remaining: self.clone(), message: failure.message() }
            }
            Err(failure) => Applied::Done(Err(failure.into())),
        }
    }

    async fn resolve(&self, session: &Session, _: &ObservedState) -> Applied<Self> {
        match holder(session).await {
            Ok(Some(holder)) if holder.run == self.run => Applied::Done(Ok(acquired(&holder))),
            Ok(_) => Applied::InDoubt {
                remaining: self.clone(),
                message: "the Lease was not created".into(),
            },
            Err(error) => Applied::Done(Err(error)),
        }
    }
}

impl PerformReversal for ReleaseLease {
    async fn read_current(
        &self,
        session: &Session,
        _: Option<&ObservedState>,
    ) -> Result<Current<Released>, Error> {
        let found = session.find(&LEASES, Some(&self.namespace), LEASE).await?;
        match found.filter(|lease| parse_holder(lease).run == self.run) {
            Some(lease) => {
                let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": name(&lease), "namespace": namespace(&lease),
                    "uid": uid(&lease)}});
                let at = session.clock().now();
                Ok(Current::Ready(ObservedState { objects: vec![object], at }))
            }
            None => Ok(Current::AlreadyDone(Released { taken_over: None })),
        }
    }

    async fn release(&self, session: &Session, observed: &ObservedState) -> ReleaseOutcome {
        let Some(lease_uid) = observed.objects.first().map(uid) else {
            return ReleaseOutcome::Conflict("missing observed state of the Lease".into());
        };
        match session.delete(&LEASES, &self.namespace, LEASE, lease_uid, None).await {
            Ok(_) => ReleaseOutcome::Done(Ok(Released { taken_over: None })),
            // Deleted, replaced, or unknown: the next attempt reads it again.
            Err(failure)
                if failure.is_absent() || failure.code() == Some(409) || failure.is_in_doubt() =>
            {
                ReleaseOutcome::Conflict(failure.message())
            }
            Err(failure) => ReleaseOutcome::Done(Err(failure.into())),
        }
    }

    async fn leftovers(_: &Session, _: &[Kind]) -> Result<Vec<Leftover>, Error> {
        // `GetHolder` finds it.
        Ok(vec![])
    }
}
