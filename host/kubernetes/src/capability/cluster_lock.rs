//! The cluster lock, a Lease: only one run at a time changes a cluster, on whatever machine.
//!
//! The Lease is created in the namespace `salve` if that exists, else in `default`. It is not
//! renewed: its duration ends at the run's deadline. An expired Lease is never taken over
//! automatically, because the run that it names may have left something behind.

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

/// Returns the runs that have a Lease, and the namespace in which to create one.
///
/// The namespace `salve` may have been created while a run holds a Lease in `default`, so both are
/// searched.
async fn find_holders(session: &Session) -> Result<(Vec<Holder>, &'static str), Error> {
    let [preferred, fallback] = LEASE_NAMESPACES;
    let exists = match session.find(&NAMESPACES, None, preferred).await {
        Ok(found) => found.is_some(),
        // If the namespace cannot be read, the error of the Lease request itself is more specific.
        Err(failure) if failure.code() == Some(403) => true,
        Err(failure) => return Err(failure.into()),
    };
    if !exists {
        let lease = session.find(&LEASES, Some(fallback), LEASE).await?;
        return Ok((lease.iter().map(parse_holder).collect(), fallback));
    }
    let lease = session.find(&LEASES, Some(preferred), LEASE).await?;
    // mutant lease-of-other-namespace-ignored: Some(fallback), LEASE ~> Some(preferred), LEASE
    let earlier = match session.find(&LEASES, Some(fallback), LEASE).await {
        Ok(earlier) => earlier,
        // Roles that earlier versions generated name only the preferred namespace.
        Err(failure) if failure.code() == Some(403) => None,
        Err(failure) => return Err(failure.into()),
    };
    Ok((lease.iter().chain(&earlier).map(parse_holder).collect(), preferred))
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
    let (holders, lease_namespace) = find_holders(session).await?;
    let now = session.clock().now();
    // mutant expired-lease-taken: .find(|holder| holder.run != call.run) ~> .find(|holder|
    //     holder.run != call.run && !holder.until.is_some_and(|until| until < now))
    if let Some(other) = holders.iter().find(|holder| holder.run != call.run) {
        // mutant other-lease-accepted: Err(Error::Conflict(other.conflict_message(now))) ~>
        //     Ok(Current::AlreadyDone(acquired(other)))
        return Err(Error::Conflict(other.conflict_message(now)));
    }
    if let Some(ours) = holders.first() {
        return Ok(Current::AlreadyDone(acquired(ours)));
    }
    let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": lease_namespace}});
    Ok(Current::Ready(ObservedState { objects: vec![object], at: now }))
}

fn acquired(holder: &Holder) -> Acquired {
    Acquired { namespace: holder.namespace.clone(), uid: holder.uid.clone() }
}

impl PerformRead for GetHolder {
    async fn read(&self, session: &Session) -> Result<Option<Holder>, Error> {
        Ok(find_holders(session).await?.0.into_iter().next())
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
        let holders = match find_holders(session).await {
            Ok((holders, _)) => holders,
            Err(error) => return Applied::Done(Err(error)),
        };
        match holders.iter().find(|holder| holder.run == self.run) {
            Some(ours) => Applied::Done(Ok(acquired(ours))),
            None => Applied::InDoubt {
                remaining: self.clone(),
                message: "the Lease was not created".into(),
            },
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
