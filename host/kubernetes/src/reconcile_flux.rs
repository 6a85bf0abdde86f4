//! `reconcile-flux`: asks a Flux object to reconcile now, as `flux reconcile` does, and waits for the answer.

use crate::flux::{self, Readiness};
use crate::object::{annotation, condition, text, uid};
use crate::send::Session;
use crate::time;
use salve_core::effect::reconcile_flux::{Reconcile, Reconciliation};
use salve_core::effect::shared::FluxKind;
use salve_core::effect::{Answer, Write};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{ApplyOutcome, Prepared};
use serde_json::{Value, json};
use std::time::Duration;

const REQUESTED: &str = "reconcile.fluxcd.io/requestedAt";
const FORCED: &str = "reconcile.fluxcd.io/forceAt";
/// How often the answer is looked for.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Reads it.
///
/// # Errors
/// `conflict` where it is suspended.
pub(crate) async fn prepare(session: &Session, ask: &Reconcile) -> Result<Prepared, Error> {
    let object = flux::get(session, &ask.target).await?;
    if let Some(by) = flux::suspended_by(&object) {
        let who = by
            .run
            .map(|run| format!("run {run}"))
            .or(by.manager)
            .unwrap_or_else(|| "somebody".into());
        return Err(Error::Conflict(format!(
            "{} is suspended, by {who}: nothing would happen",
            ask.target
        )));
    }
    Ok(Prepared::Ready(ObservedState {
        objects: vec![flux::outline(&object)],
        at: session.clock().now(),
    }))
}

/// The write: a time that its controller has not handled yet. It carries the prior's time, so that once more writes the same.
fn request(ask: &Reconcile, object: &Value, at: &str) -> Value {
    let mut annotations = json!({REQUESTED: at});
    if ask.force && ask.target.kind == FluxKind::HelmRelease {
        annotations[FORCED] = at.into();
    }
    // No resourceVersion: whatever else changed, it is still wanted.
    json!({"metadata": {"uid": uid(object), "annotations": annotations}})
}

/// Asks, and waits for the answer.
pub(crate) async fn reconcile(
    session: &Session,
    ask: &Reconcile,
    observed: &ObservedState,
) -> ApplyOutcome {
    let Some(before) = observed.objects.first() else {
        return ApplyOutcome::Done(Err(Error::Invalid(
            "a reconcile without the state before".into(),
        )));
    };
    let at = time::precise(observed.at);
    let resource = match flux::served(session, ask.target.kind).await {
        Ok(resource) => resource,
        Err(error) => return ApplyOutcome::Done(Err(error)),
    };
    match session
        .patch(&resource, &ask.target.namespace, &ask.target.name, request(ask, before, &at))
        .await
    {
        Ok(_) => {}
        Err(failure) if failure.code() == Some(409) => {
            return ApplyOutcome::Conflict {
                completed: None,
                rest: Write::Reconcile(ask.clone()),
                message: failure.message(),
            };
        }
        Err(failure) if failure.is_lost() => match flux::get(session, &ask.target).await {
            Ok(now) if annotation(&now, REQUESTED) == Some(&at) => {}
            // Should it arrive late, it asks for what is wanted anyway.
            Ok(_) => {
                return ApplyOutcome::Conflict {
                    completed: None,
                    rest: Write::Reconcile(ask.clone()),
                    message: failure.message(),
                };
            }
            Err(error) => return ApplyOutcome::Done(Err(error)),
        },
        Err(failure) => return ApplyOutcome::Done(Err(failure.into())),
    }
    ApplyOutcome::Done(answer(session, ask, uid(before), &at).await.map(Answer::Reconcile))
}

async fn answer(
    session: &Session,
    ask: &Reconcile,
    before: &str,
    at: &str,
) -> Result<Reconciliation, Error> {
    let clock = session.clock();
    let until = clock.now() + u64::from(ask.wait_seconds) * 1000;
    loop {
        let object = flux::get(session, &ask.target).await?;
        if uid(&object) != before {
            return Err(Error::Conflict(format!(
                "{} was deleted and made anew while it was waited for",
                ask.target
            )));
        }
        let (seen, over) = judge(&object, at);
        if over || clock.now() >= until || session.stopped() {
            return Ok(seen);
        }
        session.pause(POLL_INTERVAL).await;
    }
}

/// What there is to say, and whether it is the last word.
fn judge(object: &Value, at: &str) -> (Reconciliation, bool) {
    let handled = text(object, "/status/lastHandledReconcileAt") == Some(at);
    let (ready, over, words) = match flux::readiness(object) {
        Readiness::Ready => (true, true, String::new()),
        Readiness::Failed(why) => (false, true, why),
        Readiness::Progressing(why) => (false, false, why),
    };
    let said = condition(object, "Ready").map(|ready| ready.message).unwrap_or_default();
    (
        Reconciliation {
            handled,
            ready: handled && ready,
            message: if words.is_empty() { said } else { words },
        },
        handled && over,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::effect::shared::FluxRef;

    fn object(handled: &str, ready: &str) -> Value {
        json!({"metadata": {"generation": 2, "uid": "u"}, "status": {"observedGeneration": 2, "lastHandledReconcileAt": handled,
            "conditions": [{"type": "Ready", "status": ready, "message": "Applied revision"}]}})
    }

    #[test]
    fn ready_counts_only_once_this_request_was_handled() {
        assert_eq!(
            judge(&object("before", "True"), "at"),
            (
                Reconciliation { handled: false, ready: false, message: "Applied revision".into() },
                false
            )
        );
        assert_eq!(
            judge(&object("at", "True"), "at"),
            (
                Reconciliation { handled: true, ready: true, message: "Applied revision".into() },
                true
            )
        );
        assert_eq!(
            judge(&object("at", "False"), "at"),
            (
                Reconciliation { handled: true, ready: false, message: "Applied revision".into() },
                false
            )
        );
    }

    #[test]
    fn force_is_for_releases() {
        let ask = |kind, force| Reconcile {
            target: FluxRef { kind, namespace: "a".into(), name: "b".into() },
            force,
            wait_seconds: 0,
        };
        let patch = |kind, force| {
            request(&ask(kind, force), &json!({"metadata": {"uid": "u"}}), "at")["metadata"]["annotations"].clone()
        };
        assert_eq!(patch(FluxKind::HelmRelease, true), json!({REQUESTED: "at", FORCED: "at"}));
        assert_eq!(patch(FluxKind::HelmRelease, false), json!({REQUESTED: "at"}));
        assert_eq!(patch(FluxKind::Kustomization, true), json!({REQUESTED: "at"}));
    }
}
