//! How far a restart is: kubectl's rollout status, and what it does not look at: that every pod is a new one, and that the
//! sidecars lead again. CSI sidecars do not release their leases, so a rollout is over minutes before anything is provisioned.

use crate::object::{capped, number, raw_condition, text};
use crate::query_drivers::replicas;
use salve_core::Millis;
use salve_core::effect::restart_deployment::{AwaitRollout, Rollout};
use salve_core::effect::shared::{Lease, Pod};
use serde_json::Value;

/// How far it is, and whether waiting on makes no sense.
pub(super) fn judge(
    ask: &AwaitRollout,
    deployment: &Value,
    pods: Vec<Pod>,
    leases: Vec<Lease>,
) -> (Rollout, bool) {
    let failed = deadline_exceeded(deployment);
    let waiting_for = failed
        .clone()
        .or_else(|| status(deployment))
        .or_else(|| old_or_unready(ask, deployment, &pods))
        .or_else(|| {
            ask.leases.iter().find_map(|wanted| {
                lease(
                    wanted,
                    leases.iter().find(|lease| &lease.name == wanted),
                    &ask.restarted.old_pods,
                    &pods,
                    ask.restarted.at,
                )
            })
        });
    (Rollout { done: waiting_for.is_none(), waiting_for, pods, leases }, failed.is_some())
}

fn deadline_exceeded(deployment: &Value) -> Option<String> {
    let generation = number(deployment, "/metadata/generation").unwrap_or(0);
    let seen = number(deployment, "/status/observedGeneration").unwrap_or(0);
    let condition = raw_condition(deployment, "Progressing").filter(|one| {
        text(one, "/reason") == Some("ProgressDeadlineExceeded") && generation <= seen
    })?;
    Some(format!(
        "the rollout has failed, its progress deadline is over: {}",
        capped(text(condition, "/message").unwrap_or_default(), 600)
    ))
}

/// kubectl's rollout status.
fn status(deployment: &Value) -> Option<String> {
    let count = |at: &str| number(deployment, at).unwrap_or(0);
    let (wanted, all) = (u64::from(replicas(deployment)), count("/status/replicas"));
    let (updated, available) =
        (count("/status/updatedReplicas"), count("/status/availableReplicas"));
    if count("/metadata/generation") > count("/status/observedGeneration") {
        Some("the Deployment controller to see the change".into())
    } else if updated < wanted {
        Some(format!("new pods: {updated} of {wanted} are made"))
    } else if all > updated {
        Some(format!("{} old pods to end", all - updated))
    } else if available < updated {
        Some(format!("new pods: {available} of {updated} are available"))
    } else {
        None
    }
}

fn old_or_unready(ask: &AwaitRollout, deployment: &Value, pods: &[Pod]) -> Option<String> {
    let old: Vec<&str> = pods
        .iter()
        .filter(|pod| ask.restarted.old_pods.contains(&pod.uid))
        .map(|pod| pod.name.as_str())
        .collect();
    if !old.is_empty() {
        return Some(format!("old pods to end: {}", old.join(", ")));
    }
    let (ready, wanted) = (
        pods.iter().filter(|pod| pod.ready && !pod.terminating).count(),
        replicas(deployment) as usize,
    );
    (ready < wanted).then(|| format!("new pods: {ready} of {wanted} are ready"))
}

/// What a lease still lacks. Some identities are a pod's name, or begin with it; others are a number, and then only the time tells.
fn lease(
    wanted: &str,
    found: Option<&Lease>,
    old: &[String],
    pods: &[Pod],
    at: Millis,
) -> Option<String> {
    let Some(lease) = found else { return Some(format!("lease {wanted}, which does not exist")) };
    let new_holder = lease.holder.as_ref().is_some_and(|holder| {
        pods.iter().any(|pod| !old.contains(&pod.uid) && holder.starts_with(&pod.name))
    });
    let taken = lease.acquired.is_some_and(|acquired| acquired > at);
    let alive = lease.renewed.is_some_and(|renewed| renewed > at);
    if alive && (taken || new_holder) {
        return None;
    }
    Some(format!(
        "lease {wanted} to be taken by a new pod; {} holds it",
        lease.holder.as_deref().map_or_else(|| "nobody".into(), |holder| capped(holder, 120))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::effect::restart_deployment::Restarted;
    use salve_core::effect::shared::ObjectRef;
    use serde_json::json;

    const AT: Millis = 1_000_000;

    fn deployment(observed: u64, updated: u64, all: u64, available: u64) -> Value {
        json!({"metadata": {"generation": 7}, "spec": {"replicas": 2},
            "status": {"observedGeneration": observed, "updatedReplicas": updated, "replicas": all, "availableReplicas": available}})
    }

    fn pod(name: &str, ready: bool) -> Pod {
        Pod {
            namespace: "rook-ceph".into(),
            name: name.into(),
            uid: name.into(),
            phase: "Running".into(),
            ready,
            terminating: false,
            restarts: 0,
            created: 0,
            waiting: None,
            pvcs: vec![],
            owner: None,
        }
    }

    fn leased(holder: &str, acquired: Millis, renewed: Millis) -> Lease {
        Lease {
            namespace: "rook-ceph".into(),
            name: "l".into(),
            holder: Some(holder.into()),
            acquired: Some(acquired),
            renewed: Some(renewed),
            duration_seconds: 137,
        }
    }

    fn waits(deployment: &Value, pods: Vec<Pod>, leases: Vec<Lease>) -> Option<String> {
        let restarted = Restarted { at: AT, old_pods: vec!["old".into()] };
        let ask = AwaitRollout {
            target: ObjectRef::new("rook-ceph", "x"),
            restarted,
            leases: vec!["l".into()],
            wait_seconds: 0,
        };
        let (rollout, _) = judge(&ask, deployment, pods, leases);
        assert_eq!(rollout.done, rollout.waiting_for.is_none());
        rollout.waiting_for
    }

    #[test]
    fn every_stage_says_what_it_waits_for() {
        let both = || vec![pod("a", true), pod("b", true)];
        let led = || vec![leased("a", AT + 1, AT + 2)];
        for (deployment, pods, leases, word) in [
            (deployment(6, 2, 2, 2), both(), led(), "to see the change"),
            (deployment(7, 1, 2, 2), both(), led(), "1 of 2 are made"),
            (deployment(7, 2, 3, 2), both(), led(), "1 old pods"),
            (deployment(7, 2, 2, 1), both(), led(), "1 of 2 are available"),
            (
                deployment(7, 2, 2, 2),
                vec![pod("a", true), pod("b", true), pod("old", true)],
                led(),
                "old pods to end: old",
            ),
            (
                deployment(7, 2, 2, 2),
                vec![pod("a", true), pod("b", false)],
                led(),
                "1 of 2 are ready",
            ),
            (deployment(7, 2, 2, 2), both(), vec![], "does not exist"),
        ] {
            let waiting = waits(&deployment, pods, leases).unwrap();
            assert!(waiting.contains(word), "{waiting} / {word}");
        }
        assert_eq!(waits(&deployment(7, 2, 2, 2), both(), led()), None);
    }

    #[test]
    fn a_lease_counts_when_a_new_pod_holds_it_or_it_was_taken_since() {
        let at = |lease| {
            waits(&deployment(7, 2, 2, 2), vec![pod("a", true), pod("b", true)], vec![lease])
        };
        assert!(at(leased("old", AT - 9, AT + 5)).is_some(), "the old pod renewed it once more");
        assert!(
            at(leased("1751364030123-4711-driver", AT - 9, AT - 5)).is_some(),
            "a dead identity"
        );
        assert!(
            at(leased("1751364030123-4711-driver", AT + 9, AT + 9)).is_none(),
            "an identity without a pod's name, but taken since"
        );
        assert!(at(leased("b", AT - 9, AT + 5)).is_none());
        assert!(at(leased("b", AT - 9, AT - 5)).is_some());
    }

    #[test]
    fn a_rollout_that_failed_is_not_waited_for() {
        let mut deployment = deployment(7, 1, 2, 1);
        deployment["status"]["conditions"] = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]);
        let ask = AwaitRollout {
            target: ObjectRef::new("a", "b"),
            restarted: Restarted { at: 0, old_pods: vec![] },
            leases: vec![],
            wait_seconds: 9,
        };
        let (rollout, hopeless) = judge(&ask, &deployment, vec![], vec![]);
        assert!(hopeless && !rollout.done && rollout.waiting_for.unwrap().contains("timed out"));
    }
}
