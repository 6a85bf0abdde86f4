//! `restart-deployment`: restarts one Deployment (how far it is, is judged in `rollout`).

mod rollout;

use crate::failure::How;
use crate::object::{holds, is_terminating, is_true, name, namespace, number, text, uid, version};
use crate::pod;
use crate::query_drivers::{read_lease, replicas};
use crate::resource::{DEPLOYMENTS, LEASES, PODS};
use crate::send::{Narrow, Session, concurrently};
use crate::time;
use salve_core::Millis;
use salve_core::effect::restart_deployment::{AwaitRollout, Restart, Restarted, Rollout, Strategy};
use salve_core::effect::{Answer, Write};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{ApplyOutcome, Prepared};
use serde_json::{Value, json};
use std::time::Duration;

/// What `kubectl rollout restart` writes.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// How often a rollout is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How long a pod's replacement may take where the Deployment does not say.
const PROGRESS_SECONDS: u64 = 600;
/// How often the deletion of a pod is tried.
const TRIES: u32 = 3;
/// How many pods are looked at at once.
const AT_ONCE: usize = 16;

/// Reads what is to be restarted, and its pods. An attempt before this one has said already when, and which pods have to go:
/// so a restart that is tried again is the same restart.
///
/// # Errors
/// `conflict` where another object bears the name; `invalid` where it is paused or has no replicas.
pub(crate) async fn prepare(
    session: &Session,
    ask: &Restart,
    before: Option<&ObservedState>,
) -> Result<Prepared, Error> {
    let deployment =
        session.get(&DEPLOYMENTS, Some(&ask.target.namespace), &ask.target.name).await?;
    may_be_restarted(ask, &deployment)?;
    if let Some((at, (was, pods))) =
        before.and_then(|observed| Some((observed.at, observed.objects.split_first()?)))
    {
        if ask.strategy == Strategy::Annotate && is_restarted(&deployment, was, at) {
            return Ok(Prepared::AlreadyDone(Answer::Restart(restarted(at, pods))));
        }
        let objects = std::iter::once(outline(&deployment)).chain(pods.iter().cloned()).collect();
        return Ok(Prepared::Ready(ObservedState { objects, at }));
    }
    let pods = pod::of_deployment(session, &deployment).await?;
    let clock = session.clock();
    if stamp(&deployment) == Some(&time::seconds(clock.now())) {
        // The annotation counts seconds: the same again would restart nothing.
        clock.sleep(Duration::from_secs(1)).await;
    }
    let objects = std::iter::once(outline(&deployment))
        .chain(pods.iter().filter(|pod| !is_over(pod)).map(identity))
        .collect();
    Ok(Prepared::Ready(ObservedState { objects, at: clock.now() }))
}

fn may_be_restarted(ask: &Restart, deployment: &Value) -> Result<(), Error> {
    let target = &ask.target;
    // mutant restart-replaced-deployment: != ask.uid ~> .is_empty()
    if uid(deployment) != ask.uid {
        return Err(Error::Conflict(format!(
            "Deployment {target} is another object now, of uid {}",
            uid(deployment)
        )));
    }
    if is_terminating(deployment) {
        return Err(Error::Conflict(format!("Deployment {target} is being deleted")));
    }
    if is_true(deployment, "/spec/paused") {
        return Err(Error::Invalid(format!(
            "Deployment {target} is paused: a restart would not happen before somebody resumes it"
        )));
    }
    if replicas(deployment) == 0 {
        return Err(Error::Invalid(format!(
            "Deployment {target} has no replicas: there is nothing to restart"
        )));
    }
    Ok(())
}

fn stamp(deployment: &Value) -> Option<&str> {
    deployment.pointer("/spec/template/metadata/annotations")?.get(RESTARTED)?.as_str()
}

/// Whether a Deployment was restarted at `at` or since: whoever did it later has replaced the same pods.
fn is_restarted(now: &Value, before: &Value, at: Millis) -> bool {
    stamp(now) != stamp(before)
        && stamp(now).and_then(time::millis).is_some_and(|stamped| stamped / 1000 >= at / 1000)
}

fn restarted(at: Millis, pods: &[Value]) -> Restarted {
    Restarted { at, old_pods: pods.iter().map(|pod| uid(pod).to_owned()).collect() }
}

/// A pod that has run to its end waits for nobody.
fn is_over(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"))
}

/// What is kept of the Deployment. Its containers' environments may hold what no file should.
fn outline(deployment: &Value) -> Value {
    let spec = deployment.get("spec").cloned().unwrap_or_default();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name(deployment), "namespace": namespace(deployment), "uid": uid(deployment), "resourceVersion": version(deployment),
            "generation": number(deployment, "/metadata/generation"), "creationTimestamp": deployment.pointer("/metadata/creationTimestamp"),
            // Grants may select by them.
            "labels": deployment.pointer("/metadata/labels"),
        },
        "spec": {
            "replicas": replicas(deployment), "selector": spec.get("selector"), "strategy": spec.get("strategy"), "progressDeadlineSeconds": spec.get("progressDeadlineSeconds"),
            // mutant deployment-environment-saved: {"metadata": {"annotations": {RESTARTED:
            //     stamp(deployment)}}} ~> spec.get("template")
            "template": {"metadata": {"annotations": {RESTARTED: stamp(deployment)}}},
        },
    })
}

fn identity(pod: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name(pod), "namespace": namespace(pod), "uid": uid(pod)}})
}

/// Restarts it.
pub(crate) async fn restart(
    session: &Session,
    ask: &Restart,
    observed: &ObservedState,
) -> ApplyOutcome {
    let Some((deployment, pods)) = observed.objects.split_first() else {
        return ApplyOutcome::Done(Err(Error::Invalid(
            "a restart without the state before".into(),
        )));
    };
    let restarted = restarted(observed.at, pods);
    match ask.strategy {
        Strategy::Annotate => annotate(session, ask, deployment, restarted).await,
        Strategy::ReplacePods => ApplyOutcome::Done(
            replace(session, deployment, pods, observed.at)
                .await
                .map(|()| Answer::Restart(restarted)),
        ),
    }
}

/// As kubectl does, for this uid and this resourceVersion.
async fn annotate(
    session: &Session,
    ask: &Restart,
    before: &Value,
    restarted: Restarted,
) -> ApplyOutcome {
    let at = time::seconds(restarted.at);
    let patch = json!({
        // mutant restart-without-resource-version: (before), "resourceVersion": version(before) ~>
        //     (before)
        "metadata": {"uid": uid(before), "resourceVersion": version(before)},
        "spec": {"template": {"metadata": {"annotations": {RESTARTED: at}}}},
    });
    let again = |message| ApplyOutcome::Conflict {
        completed: None,
        rest: Write::Restart(ask.clone()),
        message,
    };
    match session.patch(&DEPLOYMENTS, &ask.target.namespace, &ask.target.name, patch).await {
        Ok(_) => ApplyOutcome::Done(Ok(Answer::Restart(restarted))),
        Err(failure) if failure.code() == Some(409) => again(failure.message()),
        Err(failure) if failure.is_lost() => {
            match session.find(&DEPLOYMENTS, Some(&ask.target.namespace), &ask.target.name).await {
                // mutant lost-restart-inverted: (&now) == Some ~> (&now) != Some
                Ok(Some(now)) if uid(&now) == uid(before) && stamp(&now) == Some(&at) => {
                    ApplyOutcome::Done(Ok(Answer::Restart(restarted)))
                }
                // Both demand a resourceVersion: of this one and the next, only the first to arrive can be applied.
                Ok(_) => again(failure.message()),
                Err(second) => ApplyOutcome::Done(Err(Error::Unavailable(format!(
                    "Deployment {} may be restarting: {}; and then {}",
                    ask.target,
                    failure.message(),
                    Error::from(second).text()
                )))),
            }
        }
        Err(failure) => ApplyOutcome::Done(Err(failure.into())),
    }
}

/// Deletes the pods one after the other, each by its uid, and waits in between until as many are ready as there should be.
async fn replace(
    session: &Session,
    deployment: &Value,
    pods: &[Value],
    at: Millis,
) -> Result<(), Error> {
    let clock = session.clock();
    let timeout =
        number(deployment, "/spec/progressDeadlineSeconds").unwrap_or(PROGRESS_SECONDS) * 1000;
    for (index, pod) in pods.iter().enumerate() {
        let left = pods.len() - index - 1;
        remove(session, pod).await.map_err(|error| {
            Error::Unavailable(format!(
                "{}; {} of {} pods were replaced",
                error.text(),
                index,
                pods.len()
            ))
        })?;
        if left == 0 {
            // The last one is waited for by `await-rollout`.
            return Ok(());
        }
        let until = clock.now().max(at) + timeout;
        while !is_replaced(
            &pod::of_deployment(session, deployment).await?,
            pod,
            replicas(deployment),
        ) {
            if clock.now() >= until {
                let waited = time::spoken(timeout);
                return Err(Error::Unavailable(format!(
                    "no replacement of pod {} was ready within {waited}; {left} old pods were left running",
                    name(pod)
                )));
            }
            clock.sleep(POLL_INTERVAL).await;
        }
    }
    Ok(())
}

/// Whether a pod is gone, and as many are ready as there should be.
fn is_replaced(now: &[Value], old: &Value, wanted: u32) -> bool {
    let ready = now.iter().filter(|pod| holds(pod, "Ready", None) && !is_terminating(pod)).count();
    now.iter().all(|pod| uid(pod) != uid(old)) && ready >= wanted as usize
}

/// Has one pod deleted. Gone already is as good.
async fn remove(session: &Session, pod: &Value) -> Result<(), Error> {
    let mut tries = 1;
    loop {
        let failure = match session.delete(&PODS, namespace(pod), name(pod), uid(pod), None).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        match &failure.how {
            // 409: another pod bears its name.
            How::Refused(refusal) if matches!(refusal.code, 404 | 409) => return Ok(()),
            How::Lost(_) => {}
            How::Refused(_) | How::Unsent(_) | How::Credentials(_) | How::Blocked(_) => {
                return Err(failure.into());
            }
        }
        let now = session.find(&PODS, Some(namespace(pod)), name(pod)).await?;
        if now.is_none_or(|now| uid(&now) != uid(pod) || is_terminating(&now)) {
            return Ok(());
        }
        // It names the uid, so whenever it arrives it does what is wanted.
        if tries == TRIES {
            return Err(failure.into());
        }
        tries += 1;
    }
}

/// Finds out whether it was restarted. One that arrives late is the same restart, or finds another resourceVersion.
pub(crate) async fn settle(
    session: &Session,
    ask: &Restart,
    observed: &ObservedState,
) -> ApplyOutcome {
    let Some((before, pods)) = observed.objects.split_first() else {
        return ApplyOutcome::Done(Err(Error::Invalid(
            "a restart without the state before".into(),
        )));
    };
    let restarted = restarted(observed.at, pods);
    let done = match ask.strategy {
        Strategy::Annotate => {
            match session.find(&DEPLOYMENTS, Some(&ask.target.namespace), &ask.target.name).await {
                Ok(now) => now.is_some_and(|now| {
                    uid(&now) == ask.uid && is_restarted(&now, before, observed.at)
                }),
                Err(failure) => return ApplyOutcome::Done(Err(failure.into())),
            }
        }
        Strategy::ReplacePods => {
            let found = concurrently(
                pods.iter()
                    .map(|pod| session.find(&PODS, Some(namespace(pod)), name(pod)))
                    .collect(),
                AT_ONCE,
            )
            .await;
            let mut gone = true;
            for (pod, found) in pods.iter().zip(found) {
                match found {
                    Ok(found) => {
                        gone &= found
                            .is_none_or(|found| uid(&found) != uid(pod) || is_terminating(&found))
                    }
                    Err(failure) => return ApplyOutcome::Done(Err(failure.into())),
                }
            }
            gone
        }
    };
    if done {
        return ApplyOutcome::Done(Ok(Answer::Restart(restarted)));
    }
    ApplyOutcome::Conflict {
        completed: None,
        rest: Write::Restart(ask.clone()),
        message: format!("Deployment {} had not been restarted, or not all of it", ask.target),
    }
}

/// Waits until the restart is through, or for as long as is asked.
///
/// # Errors
/// `not-found` where the Deployment is gone.
pub(crate) async fn await_rollout(session: &Session, ask: &AwaitRollout) -> Result<Rollout, Error> {
    let clock = session.clock();
    let until = clock.now() + u64::from(ask.wait_seconds) * 1000;
    loop {
        let deployment =
            session.get(&DEPLOYMENTS, Some(&ask.target.namespace), &ask.target.name).await?;
        let pods = pod::of_deployment(session, &deployment).await?.iter().map(pod::read).collect();
        let leases = if ask.leases.is_empty() {
            vec![]
        } else {
            session.list(&LEASES, Some(&ask.target.namespace), Narrow::default()).await?
        };
        let leases = ask
            .leases
            .iter()
            .filter_map(|wanted| leases.iter().find(|lease| name(lease) == wanted))
            .map(read_lease)
            .collect();
        let (rollout, hopeless) = rollout::judge(ask, &deployment, pods, leases);
        if rollout.done || hopeless || clock.now() >= until {
            return Ok(rollout);
        }
        clock.sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::effect::shared::ObjectRef;

    fn deployment() -> Value {
        json!({"metadata": {"name": "x", "namespace": "rook-ceph", "uid": "u", "resourceVersion": "3"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "x"}},
            "template": {"spec": {"containers": [{"env": [{"name": "KEY", "value": "hunter2"}]}]}}}})
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> Option<Error> {
        let mut object = deployment();
        change(&mut object);
        let ask = Restart {
            target: ObjectRef::new("rook-ceph", "x"),
            uid: "u".into(),
            strategy: Strategy::Annotate,
        };
        may_be_restarted(&ask, &object).err()
    }

    #[test]
    fn only_a_running_deployment_of_that_uid_is_restarted() {
        assert_eq!(refusal(|_| {}), None);
        assert!(matches!(refusal(|o| o["metadata"]["uid"] = "v".into()), Some(Error::Conflict(_))));
        assert!(matches!(refusal(|o| o["spec"]["paused"] = true.into()), Some(Error::Invalid(_))));
        assert!(matches!(refusal(|o| o["spec"]["replicas"] = 0.into()), Some(Error::Invalid(_))));
        assert_eq!(
            refusal(|o| drop(o["spec"].as_object_mut().unwrap().remove("replicas"))),
            None,
            "one is the default"
        );
    }

    #[test]
    fn no_environment_is_kept() {
        let kept = outline(&deployment());
        assert!(!kept.to_string().contains("hunter2"));
        assert_eq!(pod::selector(&kept).as_deref(), Some("app=x"));
        assert_eq!((namespace(&kept), version(&kept), replicas(&kept)), ("rook-ceph", "3", 2));
    }

    #[test]
    fn a_pod_is_replaced_when_it_is_gone_and_enough_are_ready() {
        let pod = |uid: &str, ready: &str| json!({"metadata": {"uid": uid}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let old = pod("a", "True");
        assert!(!is_replaced(&[pod("a", "True"), pod("b", "True")], &old, 2));
        assert!(!is_replaced(&[pod("b", "True"), pod("c", "False")], &old, 2));
        assert!(is_replaced(&[pod("b", "True"), pod("c", "True")], &old, 2));
    }
}
