//! Progress of a restart: kubectl's rollout status, and beyond it that every pod is new and that
//! the CSI sidecars have acquired their leases again. Sidecars do not release a lease when they
//! stop, so a rollout is complete minutes before a volume is provisioned again.

use crate::capability::query_drivers::replicas;
use crate::object::{number, raw_condition, text, truncated};
use salve_core::Millis;
use salve_core::capability::restart_deployment::{AwaitRollout, Rollout};
use salve_core::capability::types::{Lease, Pod};
use serde_json::Value;

/// Returns the progress, and whether the rollout has failed.
pub(super) fn evaluate(
    call: &AwaitRollout,
    deployment: &Value,
    pods: Vec<Pod>,
    leases: Vec<Lease>,
) -> (Rollout, bool) {
    let failed = deadline_exceeded(deployment);
    let waiting_for = failed
        .clone()
        .or_else(|| kubectl_rollout_status(deployment))
        .or_else(|| old_or_unready(call, deployment, &pods))
        .or_else(|| {
            call.leases.iter().find_map(|wanted| {
                lease_not_taken(
                    wanted,
                    leases.iter().find(|lease| &lease.name == wanted),
                    &call.restarted.old_pods,
                    &pods,
                    call.restarted.at,
                )
            })
        });
    (Rollout { done: waiting_for.is_none(), waiting_for, pods, leases }, failed.is_some())
}

fn deadline_exceeded(deployment: &Value) -> Option<String> {
    let generation = number(deployment, "/metadata/generation").unwrap_or(0);
    let observed = number(deployment, "/status/observedGeneration").unwrap_or(0);
    let condition = raw_condition(deployment, "Progressing").filter(|condition| {
        text(condition, "/reason") == Some("ProgressDeadlineExceeded") && generation <= observed
    })?;
    Some(format!(
        "the rollout failed because its progress deadline was exceeded: {}",
        truncated(text(condition, "/message").unwrap_or_default(), 600)
    ))
}

/// Returns what the rollout waits for according to `kubectl rollout status`.
fn kubectl_rollout_status(deployment: &Value) -> Option<String> {
    let count = |at: &str| number(deployment, at).unwrap_or(0);
    let (wanted, all) = (u64::from(replicas(deployment)), count("/status/replicas"));
    let (updated, available) =
        (count("/status/updatedReplicas"), count("/status/availableReplicas"));
    if count("/metadata/generation") > count("/status/observedGeneration") {
        Some("the Deployment controller to observe the change".into())
    } else if updated < wanted {
        Some(format!("new pods: {updated} of {wanted} are created"))
    } else if all > updated {
        Some(format!("{} old pods to terminate", all - updated))
    } else if available < updated {
        Some(format!("new pods: {available} of {updated} are available"))
    } else {
        None
    }
}

fn old_or_unready(call: &AwaitRollout, deployment: &Value, pods: &[Pod]) -> Option<String> {
    let old: Vec<&str> = pods
        .iter()
        .filter(|pod| call.restarted.old_pods.contains(&pod.uid))
        .map(|pod| pod.name.as_str())
        .collect();
    if !old.is_empty() {
        return Some(format!("old pods to terminate: {}", old.join(", ")));
    }
    let (ready, wanted) = (
        pods.iter().filter(|pod| pod.ready && !pod.terminating).count(),
        replicas(deployment) as usize,
    );
    (ready < wanted).then(|| format!("new pods: {ready} of {wanted} are ready"))
}

/// Describes a lease that no new pod has acquired yet. Some holder identities begin with the pod's
/// name; for others, only the acquire time shows that the holder is new.
fn lease_not_taken(
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
    let is_acquired = lease.acquired.is_some_and(|acquired| acquired > at);
    let is_renewed = lease.renewed.is_some_and(|renewed| renewed > at);
    if is_renewed && (is_acquired || new_holder) {
        return None;
    }
    Some(format!(
        "lease {wanted} to be acquired by a new pod; its holder is {}",
        lease.holder.as_deref().map_or_else(|| "none".into(), |holder| truncated(holder, 120))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::capability::restart_deployment::Restarted;
    use salve_core::capability::types::ObjectRef;
    use serde_json::json;

    const AT: Millis = 1_000_000;

    fn deployment(observed: u64, updated: u64, all: u64, available: u64) -> Value {
        json!({"metadata": {"generation": 7}, "spec": {"replicas": 2},
            "status": {"observedGeneration": observed, "updatedReplicas": updated, "replicas": all,
                "availableReplicas": available}})
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

    fn waiting_for(deployment: &Value, pods: Vec<Pod>, leases: Vec<Lease>) -> Option<String> {
        let restarted = Restarted { at: AT, old_pods: vec!["old".into()] };
        let call = AwaitRollout {
            target: ObjectRef::new("rook-ceph", "x"),
            restarted,
            leases: vec!["l".into()],
            wait_seconds: 0,
        };
        let (rollout, _) = evaluate(&call, deployment, pods, leases);
        assert_eq!(rollout.done, rollout.waiting_for.is_none());
        rollout.waiting_for
    }

    #[test]
    fn every_phase_of_a_rollout_reports_what_it_waits_for() {
        let both = || vec![pod("a", true), pod("b", true)];
        let led = || vec![leased("a", AT + 1, AT + 2)];
        for (deployment, pods, leases, expected) in [
            (deployment(6, 2, 2, 2), both(), led(), "to observe the change"),
            (deployment(7, 1, 2, 2), both(), led(), "1 of 2 are created"),
            (deployment(7, 2, 3, 2), both(), led(), "1 old pods"),
            (deployment(7, 2, 2, 1), both(), led(), "1 of 2 are available"),
            (
                deployment(7, 2, 2, 2),
                vec![pod("a", true), pod("b", true), pod("old", true)],
                led(),
                "old pods to terminate: old",
            ),
            (
                deployment(7, 2, 2, 2),
                vec![pod("a", true), pod("b", false)],
                led(),
                "1 of 2 are ready",
            ),
            (deployment(7, 2, 2, 2), both(), vec![], "does not exist"),
        ] {
            let waiting = waiting_for(&deployment, pods, leases).unwrap();
            assert!(waiting.contains(expected), "{waiting} / {expected}");
        }
        assert_eq!(waiting_for(&deployment(7, 2, 2, 2), both(), led()), None);
    }

    #[test]
    fn a_lease_counts_when_a_new_pod_holds_it_or_it_was_acquired_since() {
        let at = |lease| {
            waiting_for(&deployment(7, 2, 2, 2), vec![pod("a", true), pod("b", true)], vec![lease])
        };
        assert!(at(leased("old", AT - 9, AT + 5)).is_some(), "renewed once more by the old pod");
        assert!(
            at(leased("1751364030123-4711-driver", AT - 9, AT - 5)).is_some(),
            "not renewed since"
        );
        assert!(
            at(leased("1751364030123-4711-driver", AT + 9, AT + 9)).is_none(),
            "an identity without a pod's name, but acquired since"
        );
        assert!(at(leased("b", AT - 9, AT + 5)).is_none());
        assert!(at(leased("b", AT - 9, AT - 5)).is_some());
    }

    #[test]
    fn a_failed_rollout_ends_the_wait() {
        let mut deployment = deployment(7, 1, 2, 1);
        deployment["status"]["conditions"] = json!([{"type": "Progressing", "status": "False",
            "reason": "ProgressDeadlineExceeded", "message": "timed out"}]);
        let call = AwaitRollout {
            target: ObjectRef::new("a", "b"),
            restarted: Restarted { at: 0, old_pods: vec![] },
            leases: vec![],
            wait_seconds: 9,
        };
        let (rollout, hopeless) = evaluate(&call, &deployment, vec![], vec![]);
        assert!(hopeless && !rollout.done && rollout.waiting_for.unwrap().contains("timed out"));
    }
}
