//! `restart-deployment`: restarts one Deployment. `replace` replaces its pods, `rollout` computes
//! the progress.

mod replace;
mod rollout;

use crate::capability::query_drivers::{parse_lease, replicas};
use crate::object::{
    is_condition_true, is_terminating, is_true, name, namespace, number, uid, version,
};
use crate::perform::{Applied, PerformRead, PerformWrite};
use crate::pod;
use crate::resource::{DEPLOYMENTS, LEASES, PODS};
use crate::send::{ListFilter, MAX_CONCURRENT_REQUESTS, Session, concurrently};
use crate::time;
use salve_core::Millis;
use salve_core::capability::restart_deployment::{
    AwaitRollout, Restart, Restarted, Rollout, Strategy,
};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::Current;
use serde_json::{Value, json};
use std::time::Duration;

/// The annotation that `kubectl rollout restart` sets.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// How often the progress of a rollout is read.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How long a new pod is waited for beyond the number of pods that were ready before, in
/// milliseconds.
const START_TIMEOUT: Millis = 60_000;

/// Reads the Deployment and its pods. The time and the pods of an earlier attempt, `before`, are
/// reused, so that a retried restart is the same restart.
///
/// # Errors
/// `conflict` if the Deployment was replaced; `invalid` if it is paused or has no replicas.
async fn read_current(
    session: &Session,
    call: &Restart,
    before: Option<&ObservedState>,
) -> Result<Current<Restarted>, Error> {
    let deployment =
        session.get(&DEPLOYMENTS, Some(&call.target.namespace), &call.target.name).await?;
    check_restartable(call, &deployment)?;
    if let Some((at, (previous, pods))) =
        before.and_then(|observed| Some((observed.at, observed.objects.split_first()?)))
    {
        if call.strategy == Strategy::Annotate && is_restarted(&deployment, previous, at) {
            return Ok(Current::AlreadyDone(restarted(at, pods)));
        }
        let objects =
            std::iter::once(saved_fields(&deployment)).chain(pods.iter().cloned()).collect();
        return Ok(Current::Ready(ObservedState { objects, at }));
    }
    let pods = pod::of_deployment(session, &deployment).await?;
    let clock = session.clock();
    if restarted_at(&deployment) == Some(&time::seconds(clock.now())) {
        // The annotation has whole seconds: writing the same value again would not restart
        // anything.
        clock.sleep(Duration::from_secs(1)).await;
    }
    let objects = std::iter::once(saved_fields(&deployment))
        .chain(pods.iter().filter(|pod| must_be_replaced(pod)).map(pod_reference))
        .collect();
    Ok(Current::Ready(ObservedState { objects, at: clock.now() }))
}

fn check_restartable(call: &Restart, deployment: &Value) -> Result<(), Error> {
    let target = &call.target;
    // mutant restart-replaced-deployment: != call.uid ~> .is_empty()
    if uid(deployment) != call.uid {
        return Err(Error::Conflict(format!(
            "Deployment {target} was replaced by another object of the same name (uid {})",
            uid(deployment)
        )));
    }
    if is_terminating(deployment) {
        return Err(Error::Conflict(format!("Deployment {target} is being deleted")));
    }
    if is_true(deployment, "/spec/paused") {
        return Err(Error::Invalid(format!(
            "Deployment {target} is paused: a restart would have no effect until it is resumed"
        )));
    }
    if replicas(deployment) == 0 {
        return Err(Error::Invalid(format!(
            "Deployment {target} has no replicas: there is nothing to restart"
        )));
    }
    Ok(())
}

fn restarted_at(deployment: &Value) -> Option<&str> {
    deployment.pointer("/spec/template/metadata/annotations")?.get(RESTARTED)?.as_str()
}

/// Returns true if a Deployment was restarted at or after `at`. A later restart by someone else
/// also replaces the pods.
fn is_restarted(now: &Value, before: &Value, at: Millis) -> bool {
    restarted_at(now) != restarted_at(before)
        && restarted_at(now)
            .and_then(time::millis)
            .is_some_and(|restarted| restarted / 1000 >= at / 1000)
}

/// Returns the answer. Only pods that were ready are listed, because their number is how many new
/// pods must be ready in the end. Of the others, those that still exist are terminating.
fn restarted(at: Millis, pods: &[Value]) -> Restarted {
    let ready = pods.iter().filter(|pod| was_ready(pod));
    Restarted { at, old_pods: ready.map(|pod| uid(pod).to_owned()).collect() }
}

/// Returns true for a pod whose containers run: one that has not started is as good as new, and
/// one that is terminating on a dead node may stay forever.
fn must_be_replaced(pod: &Value) -> bool {
    // mutant terminating-pod-replaced: && !is_terminating(pod) ~>
    !pod::is_finished(pod) && !is_terminating(pod) && pod::has_started(pod)
}

/// Returns true if a saved pod was ready when the restart began.
fn was_ready(pod: &Value) -> bool {
    // Earlier versions did not save the status.
    pod.get("status").is_none() || is_condition_true(pod, "Ready", None)
}

/// Returns the fields to save. The environments of containers are left out, because they can
/// contain secrets.
fn saved_fields(deployment: &Value) -> Value {
    let spec = deployment.get("spec").cloned().unwrap_or_default();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name(deployment), "namespace": namespace(deployment), "uid": uid(deployment),
            "resourceVersion": version(deployment),
            "generation": number(deployment, "/metadata/generation"),
            "creationTimestamp": deployment.pointer("/metadata/creationTimestamp"),
            // Grants can select by labels.
            "labels": deployment.pointer("/metadata/labels"),
        },
        "spec": {
            "replicas": replicas(deployment), "selector": spec.get("selector"),
            "strategy": spec.get("strategy"),
            "progressDeadlineSeconds": spec.get("progressDeadlineSeconds"),
            // mutant deployment-environment-saved: {"metadata": {"annotations": {RESTARTED:
            //     restarted_at(deployment)}}} ~> spec.get("template")
            "template": {"metadata": {"annotations": {RESTARTED: restarted_at(deployment)}}},
        },
    })
}

fn pod_reference(pod: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name(pod), "namespace": namespace(pod), "uid": uid(pod)},
        "status": {"conditions": [{"type": "Ready",
            "status": if is_condition_true(pod, "Ready", None) { "True" } else { "False" }}]}})
}

/// Restarts the Deployment.
async fn restart(session: &Session, call: &Restart, observed: &ObservedState) -> Applied<Restart> {
    let Some((deployment, pods)) = observed.objects.split_first() else {
        return Applied::Done(Err(Error::Invalid(
            "missing observed state of the Deployment".into(),
        )));
    };
    let restarted = restarted(observed.at, pods);
    match call.strategy {
        Strategy::Annotate => annotate(session, call, deployment, restarted).await,
        Strategy::ReplacePods => Applied::Done(
            replace::replace_pods(session, deployment, pods, observed.at).await.map(|()| restarted),
        ),
    }
}

/// Sets the annotation as kubectl does, with uid and resourceVersion as preconditions.
async fn annotate(
    session: &Session,
    call: &Restart,
    before: &Value,
    restarted: Restarted,
) -> Applied<Restart> {
    let at = time::seconds(restarted.at);
    let patch = json!({
        // mutant restart-without-resource-version: (before), "resourceVersion": version(before) ~>
        //     (before)
        "metadata": {"uid": uid(before), "resourceVersion": version(before)},
        "spec": {"template": {"metadata": {"annotations": {RESTARTED: at}}}},
    });
    let conflict =
        |message| Applied::Conflict { completed: None, remaining: call.clone(), message };
    match session.patch(&DEPLOYMENTS, &call.target.namespace, &call.target.name, patch).await {
        Ok(_) => Applied::Done(Ok(restarted)),
        Err(failure) if failure.code() == Some(409) => conflict(failure.message()),
        Err(failure) if failure.is_in_doubt() => {
            match session.find(&DEPLOYMENTS, Some(&call.target.namespace), &call.target.name).await
            {
                // mutant lost-restart-inverted: (&now) == Some ~> (&now) != Some
                Ok(Some(now)) if uid(&now) == uid(before) && restarted_at(&now) == Some(&at) => {
                    Applied::Done(Ok(restarted))
                }
                // Both requests have a resourceVersion precondition, so only the first to arrive is
                // applied.
                Ok(_) => conflict(failure.message()),
                Err(second) => Applied::Done(Err(Error::Unavailable(format!(
                    "Deployment {} may be restarting: {}; reading it failed: {}",
                    call.target,
                    failure.message(),
                    Error::from(second).text()
                )))),
            }
        }
        Err(failure) => Applied::Done(Err(failure.into())),
    }
}

/// Reads whether the Deployment was restarted. A request that arrives late is the same restart, or
/// fails because of its resourceVersion precondition.
async fn resolve_in_doubt(
    session: &Session,
    call: &Restart,
    observed: &ObservedState,
) -> Applied<Restart> {
    let Some((before, pods)) = observed.objects.split_first() else {
        return Applied::Done(Err(Error::Invalid(
            "missing observed state of the Deployment".into(),
        )));
    };
    let restarted = restarted(observed.at, pods);
    let done = match call.strategy {
        Strategy::Annotate => {
            match session.find(&DEPLOYMENTS, Some(&call.target.namespace), &call.target.name).await
            {
                Ok(now) => now.is_some_and(|now| {
                    uid(&now) == call.uid && is_restarted(&now, before, observed.at)
                }),
                Err(failure) => return Applied::Done(Err(failure.into())),
            }
        }
        Strategy::ReplacePods => {
            let found = concurrently(
                pods.iter()
                    .map(|pod| session.find(&PODS, Some(namespace(pod)), name(pod)))
                    .collect(),
                MAX_CONCURRENT_REQUESTS,
            )
            .await;
            let mut gone = true;
            for (pod, found) in pods.iter().zip(found) {
                match found {
                    Ok(found) => {
                        gone &= found
                            .is_none_or(|found| uid(&found) != uid(pod) || is_terminating(&found))
                    }
                    Err(failure) => return Applied::Done(Err(failure.into())),
                }
            }
            gone
        }
    };
    if done {
        return Applied::Done(Ok(restarted));
    }
    Applied::Conflict {
        completed: None,
        remaining: call.clone(),
        message: format!("Deployment {} was not restarted, or not completely", call.target),
    }
}

/// Waits until the restart is complete, has failed, or `wait_seconds` have passed.
///
/// # Errors
/// `not-found` if the Deployment was deleted.
async fn await_rollout(session: &Session, call: &AwaitRollout) -> Result<Rollout, Error> {
    let clock = session.clock();
    let until = clock.now() + u64::from(call.wait_seconds) * 1000;
    loop {
        let deployment =
            session.get(&DEPLOYMENTS, Some(&call.target.namespace), &call.target.name).await?;
        let pods = pod::of_deployment(session, &deployment).await?;
        let leases = if call.leases.is_empty() {
            vec![]
        } else {
            session.list(&LEASES, Some(&call.target.namespace), ListFilter::default()).await?
        };
        let leases = call
            .leases
            .iter()
            .filter_map(|wanted| leases.iter().find(|lease| name(lease) == wanted))
            .map(parse_lease)
            .collect();
        let (rollout, failed) = rollout::evaluate(call, &deployment, &pods, leases, clock.now());
        if rollout.done || failed || clock.now() >= until || session.stop_requested() {
            return Ok(rollout);
        }
        session.sleep(POLL_INTERVAL).await;
    }
}

impl PerformRead for AwaitRollout {
    async fn read(&self, session: &Session) -> Result<Rollout, Error> {
        await_rollout(session, self).await
    }
}

impl PerformWrite for Restart {
    async fn read_current(
        &self,
        session: &Session,
        before: Option<&ObservedState>,
    ) -> Result<Current<Restarted>, Error> {
        read_current(session, self, before).await
    }
    async fn apply(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        restart(session, self, observed).await
    }
    async fn resolve(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        resolve_in_doubt(session, self, observed).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::capability::types::ObjectRef;

    fn deployment() -> Value {
        json!({"metadata": {"name": "x", "namespace": "rook-ceph", "uid": "u",
            "resourceVersion": "3"}, "spec": {"replicas": 2,
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"spec": {"containers": [{"env": [{"name": "KEY",
                "value": "hunter2"}]}]}}}})
    }

    fn restart_error(change: impl FnOnce(&mut Value)) -> Option<Error> {
        let mut object = deployment();
        change(&mut object);
        let call = Restart {
            target: ObjectRef::new("rook-ceph", "x"),
            uid: "u".into(),
            strategy: Strategy::Annotate,
        };
        check_restartable(&call, &object).err()
    }

    #[test]
    fn only_an_unpaused_deployment_with_the_same_uid_is_restarted() {
        assert_eq!(restart_error(|_| {}), None);
        assert!(matches!(
            restart_error(|o| o["metadata"]["uid"] = "v".into()),
            Some(Error::Conflict(_))
        ));
        assert!(matches!(
            restart_error(|o| o["spec"]["paused"] = true.into()),
            Some(Error::Invalid(_))
        ));
        assert!(matches!(
            restart_error(|o| o["spec"]["replicas"] = 0.into()),
            Some(Error::Invalid(_))
        ));
        assert_eq!(
            restart_error(|o| drop(o["spec"].as_object_mut().unwrap().remove("replicas"))),
            None,
            "one is the default"
        );
    }

    #[test]
    fn container_environments_are_not_saved() {
        let saved = saved_fields(&deployment());
        assert!(!saved.to_string().contains("hunter2"));
        assert_eq!(pod::selector(&saved).as_deref(), Some("app=x"));
        assert_eq!((namespace(&saved), version(&saved), replicas(&saved)), ("rook-ceph", "3", 2));
    }

    #[test]
    fn the_pods_that_run_are_replaced_and_those_that_were_ready_are_counted() {
        let pod = |phase: &str, ready: &str| {
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "status": {
                "phase": phase, "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let mut terminating = pod("Running", "False");
        terminating["metadata"]["deletionTimestamp"] = "2026-08-20T10:00:00Z".into();
        let mut crashed = pod("Pending", "False");
        crashed["status"]["containerStatuses"] = json!([{"restartCount": 3}]);
        for (case, pod, is_replaced, is_counted) in [
            ("ready", pod("Running", "True"), true, true),
            ("not ready", pod("Running", "False"), true, false),
            ("crashed before all containers started", crashed, true, false),
            ("pending", pod("Pending", "False"), false, false),
            ("terminating", terminating, false, false),
            ("evicted", pod("Failed", "False"), false, false),
            ("completed", pod("Succeeded", "False"), false, false),
        ] {
            assert_eq!(must_be_replaced(&pod), is_replaced, "{case}");
            assert_eq!(restarted(1, &[pod_reference(&pod)]).old_pods.len() == 1, is_counted);
        }
        let mut saved_before = pod_reference(&pod("Running", "False"));
        saved_before.as_object_mut().unwrap().remove("status");
        assert_eq!(restarted(1, &[saved_before]).old_pods, ["u"]);
    }
}
