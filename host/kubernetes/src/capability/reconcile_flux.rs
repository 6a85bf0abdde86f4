//! `reconcile-flux`: requests a reconciliation of a Flux object, as `flux reconcile` does, and
//! waits for the result.

use crate::flux::{self, Readiness};
use crate::object::{annotation, condition, text, uid};
use crate::perform::{Applied, PerformWrite};
use crate::send::Session;
use crate::time;
use salve_core::capability::reconcile_flux::{Reconcile, Reconciliation};
use salve_core::capability::types::FluxKind;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::Current;
use serde_json::{Value, json};
use std::time::Duration;

const REQUESTED: &str = "reconcile.fluxcd.io/requestedAt";
const FORCED: &str = "reconcile.fluxcd.io/forceAt";
/// How often the result is read.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Reads the object.
///
/// # Errors
/// `conflict` if it is suspended.
async fn read_current(
    session: &Session,
    call: &Reconcile,
) -> Result<Current<Reconciliation>, Error> {
    let object = flux::get(session, &call.target).await?;
    if let Some(who) = flux::who_suspended(&object) {
        return Err(Error::Conflict(format!(
            "{} is suspended by {who}: a reconcile request would have no effect",
            call.target
        )));
    }
    Ok(Current::Ready(ObservedState {
        objects: vec![flux::saved_fields(&object)],
        at: session.clock().now(),
    }))
}

/// Returns a patch that requests a reconciliation. `at` is the time of the observed state, so that
/// a retry writes the same value.
fn request(call: &Reconcile, object: &Value, at: &str) -> Value {
    let mut annotations = json!({REQUESTED: at});
    if call.force && call.target.kind == FluxKind::HelmRelease {
        annotations[FORCED] = at.into();
    }
    // Without resourceVersion, because the request applies whatever else has changed.
    json!({"metadata": {"uid": uid(object), "annotations": annotations}})
}

/// Requests a reconciliation and waits for the result.
async fn reconcile(
    session: &Session,
    call: &Reconcile,
    observed: &ObservedState,
) -> Applied<Reconcile> {
    let Some(before) = observed.objects.first() else {
        return Applied::Done(Err(Error::Invalid("missing observed state of the object".into())));
    };
    let at = time::precise(observed.at);
    let resource = match flux::resource(session, call.target.kind).await {
        Ok(resource) => resource,
        Err(error) => return Applied::Done(Err(error)),
    };
    match session
        .patch(&resource, &call.target.namespace, &call.target.name, request(call, before, &at))
        .await
    {
        Ok(_) => {}
        Err(failure) if failure.code() == Some(409) => {
            return Applied::Conflict {
                completed: None,
                remaining: call.clone(),
                message: failure.message(),
            };
        }
        Err(failure) if failure.is_in_doubt() => match flux::get(session, &call.target).await {
            Ok(now) if annotation(&now, REQUESTED) == Some(&at) => {}
            // If the lost request is still applied later, the result is the same.
            Ok(_) => {
                return Applied::Conflict {
                    completed: None,
                    remaining: call.clone(),
                    message: failure.message(),
                };
            }
            Err(error) => return Applied::Done(Err(error)),
        },
        Err(failure) => return Applied::Done(Err(failure.into())),
    }
    Applied::Done(await_result(session, call, uid(before), &at).await)
}

/// Waits until the controller has handled the request, or `wait_seconds` have passed.
async fn await_result(
    session: &Session,
    call: &Reconcile,
    uid_before: &str,
    at: &str,
) -> Result<Reconciliation, Error> {
    let clock = session.clock();
    let until = clock.now() + u64::from(call.wait_seconds) * 1000;
    loop {
        let object = flux::get(session, &call.target).await?;
        if uid(&object) != uid_before {
            return Err(Error::Conflict(format!(
                "{} was deleted and recreated while waiting for its reconciliation",
                call.target
            )));
        }
        let (status, is_final) = reconciliation_status(&object, at);
        if is_final || clock.now() >= until || session.stop_requested() {
            return Ok(status);
        }
        session.sleep(POLL_INTERVAL).await;
    }
}

/// Returns the state of the reconciliation requested at `at`, and whether it is final.
fn reconciliation_status(object: &Value, at: &str) -> (Reconciliation, bool) {
    let handled = text(object, "/status/lastHandledReconcileAt") == Some(at);
    let (ready, is_final, message) = match flux::readiness(object) {
        Readiness::Ready => (true, true, String::new()),
        Readiness::Failed(why) => (false, true, why),
        Readiness::Progressing(why) => (false, false, why),
    };
    let ready_message = condition(object, "Ready").map(|ready| ready.message).unwrap_or_default();
    (
        Reconciliation {
            handled,
            ready: handled && ready,
            message: if message.is_empty() { ready_message } else { message },
        },
        handled && is_final,
    )
}

impl PerformWrite for Reconcile {
    async fn read_current(
        &self,
        session: &Session,
        _: Option<&ObservedState>,
    ) -> Result<Current<Reconciliation>, Error> {
        read_current(session, self).await
    }
    async fn apply(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        reconcile(session, self, observed).await
    }
    async fn resolve(&self, _: &Session, _: &ObservedState) -> Applied<Self> {
        // A second request has the same effect.
        Applied::Conflict {
            completed: None,
            remaining: self.clone(),
            message: "the outcome is unknown".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::capability::types::FluxRef;

    fn object(handled: &str, ready: &str) -> Value {
        json!({"metadata": {"generation": 2, "uid": "u"},
            "status": {"observedGeneration": 2, "lastHandledReconcileAt": handled,
            "conditions": [{"type": "Ready", "status": ready, "message": "Applied revision"}]}})
    }

    #[test]
    fn ready_only_counts_after_this_request_was_handled() {
        assert_eq!(
            reconciliation_status(&object("before", "True"), "at"),
            (
                Reconciliation { handled: false, ready: false, message: "Applied revision".into() },
                false
            )
        );
        assert_eq!(
            reconciliation_status(&object("at", "True"), "at"),
            (
                Reconciliation { handled: true, ready: true, message: "Applied revision".into() },
                true
            )
        );
        assert_eq!(
            reconciliation_status(&object("at", "False"), "at"),
            (
                Reconciliation { handled: true, ready: false, message: "Applied revision".into() },
                false
            )
        );
    }

    #[test]
    fn force_applies_only_to_helm_releases() {
        let call = |kind, force| Reconcile {
            target: FluxRef { kind, namespace: "a".into(), name: "b".into() },
            force,
            wait_seconds: 0,
        };
        let patch = |kind, force| {
            request(&call(kind, force), &json!({"metadata": {"uid": "u"}}),
                "at")["metadata"]["annotations"].clone()
        };
        assert_eq!(patch(FluxKind::HelmRelease, true), json!({REQUESTED: "at", FORCED: "at"}));
        assert_eq!(patch(FluxKind::HelmRelease, false), json!({REQUESTED: "at"}));
        assert_eq!(patch(FluxKind::Kustomization, true), json!({REQUESTED: "at"}));
    }
}
