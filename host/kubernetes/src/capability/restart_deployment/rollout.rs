//! Progress of a restart: kubectl's rollout status, and beyond it that every pod is new and that
//! the CSI sidecars have acquired their leases again. Sidecars do not release a lease when they
//! stop, so a rollout is complete minutes before a volume is provisioned again.
//!
//! Unlike kubectl's, a rollout is complete with as many ready pods as there were before: a replica
//! that could not run then, such as for lack of a node, is not what the restart is for. Nor does it
//! wait for a pod that stays Terminating because its node is down.

use super::START_TIMEOUT;
use crate::capability::query_drivers::replicas;
use crate::object::{
    created, instant, is_condition_true, is_terminating, name, number, raw_condition, text,
    truncated, uid,
};
use crate::pod;
use salve_core::Millis;
use salve_core::capability::restart_deployment::{AwaitRollout, Rollout};
use salve_core::capability::types::{Lease, Pod};
use serde_json::Value;

/// Returns the progress, and whether the rollout has failed.
pub(super) fn evaluate(
    call: &AwaitRollout,
    deployment: &Value,
    pods: &[Value],
    leases: Vec<Lease>,
    now: Millis,
) -> (Rollout, bool) {
    let pods = Pods::new(call, deployment, pods, now);
    let missing =
        kubectl_rollout_status(deployment, &pods).or_else(|| pods.old_or_unready()).or_else(|| {
            call.leases.iter().find_map(|wanted| {
                let found = leases.iter().find(|lease| &lease.name == wanted);
                lease_not_taken(wanted, found, &pods, call.restarted.at)
            })
        });
    let failed = missing.as_ref().and_then(|_| deadline_exceeded(deployment, call.restarted.at));
    let is_failed = failed.is_some();
    let waiting_for = failed.or(missing).map(|missing| match pods.overdue().as_slice() {
        [] => missing,
        overdue => format!("{missing}; still there: {}", overdue.join(", ")),
    });
    let rollout = Rollout { done: waiting_for.is_none(), waiting_for, pods: pods.parse(), leases };
    (rollout, is_failed)
}

/// The pods of a Deployment during a rollout.
struct Pods<'a> {
    all: &'a [Value],
    /// UIDs of the pods that were ready before.
    old: &'a [String],
    /// How many pods the Deployment is to have.
    replicas: usize,
    /// How many of them must be ready: as many as before, but at least one.
    wanted: usize,
    now: Millis,
}

impl<'a> Pods<'a> {
    fn new(call: &'a AwaitRollout, deployment: &Value, all: &'a [Value], now: Millis) -> Self {
        let (old, replicas) = (call.restarted.old_pods.as_slice(), replicas(deployment) as usize);
        // mutant unready-rollout-complete: old.len().max(1) ~> 0
        Self { all, old, replicas, wanted: old.len().max(1).min(replicas), now }
    }

    fn is_new(&self, pod: &Value) -> bool {
        !is_terminating(pod)
            && !pod::is_finished(pod)
            && !self.old.iter().any(|old| old == uid(pod))
    }

    fn describe(&self, which: impl Fn(&&Value) -> bool) -> Vec<String> {
        self.all.iter().filter(which).map(|pod| pod::describe(pod, self.now)).collect()
    }

    fn is_overdue(&self, pod: &Value) -> bool {
        pod::is_overdue(pod, self.now)
    }

    /// Returns the pods that are not waited for although they still exist.
    fn overdue(&self) -> Vec<String> {
        self.describe(|pod| self.is_overdue(pod))
    }

    /// Returns the pods that have to end, or to become ready.
    fn old_or_unready(&self) -> Option<String> {
        let old = self
            .describe(|pod| !self.is_new(pod) && !self.is_overdue(pod) && !pod::is_finished(pod));
        if !old.is_empty() {
            return Some(format!("old pods to terminate: {}", old.join(", ")));
        }
        let is_unready = |pod: &Value| self.is_new(pod) && !is_condition_true(pod, "Ready", None);
        let is_starting =
            |pod: &Value| is_unready(pod) && created(pod).saturating_add(START_TIMEOUT) > self.now;
        let ready = self.all.iter().filter(|pod| self.is_new(pod) && !is_unready(pod)).count();
        if ready >= self.replicas || ready >= self.wanted && !self.all.iter().any(is_starting) {
            return None;
        }
        let unready = self.describe(|pod| is_unready(pod));
        let separator = if unready.is_empty() { "" } else { ": " };
        Some(format!(
            "new pods: {ready} of {} are ready{separator}{}",
            self.replicas,
            unready.join(", ")
        ))
    }

    /// Returns the pods for the guest. One that should have ended has the reason.
    fn parse(&self) -> Vec<Pod> {
        let parsed = self.all.iter().map(|pod| match self.is_overdue(pod) {
            true => Pod { waiting: Some(pod::reason(pod, self.now)), ..pod::parse(pod) },
            false => pod::parse(pod),
        });
        parsed.collect()
    }
}

/// Returns the failure of the rollout, unless it is one from before the restart: pods that are
/// replaced one by one do not start a new rollout.
fn deadline_exceeded(deployment: &Value, since: Millis) -> Option<String> {
    let generation = number(deployment, "/metadata/generation").unwrap_or(0);
    let observed = number(deployment, "/status/observedGeneration").unwrap_or(0);
    let condition = raw_condition(deployment, "Progressing").filter(|condition| {
        text(condition, "/reason") == Some("ProgressDeadlineExceeded")
            && generation <= observed
            && instant(condition, "/lastUpdateTime").is_none_or(|updated| updated >= since)
    })?;
    Some(format!(
        "the rollout failed because its progress deadline was exceeded: {}",
        truncated(text(condition, "/message").unwrap_or_default(), 600)
    ))
}

/// Returns what the rollout waits for according to `kubectl rollout status`.
fn kubectl_rollout_status(deployment: &Value, pods: &Pods<'_>) -> Option<String> {
    let count = |at: &str| number(deployment, at).unwrap_or(0);
    let (replicas, wanted) = (pods.replicas as u64, pods.wanted as u64);
    let (updated, all) = (count("/status/updatedReplicas"), count("/status/replicas"));
    let available = count("/status/availableReplicas");
    if count("/metadata/generation") > count("/status/observedGeneration") {
        Some("the Deployment controller to observe the change".into())
    } else if updated < replicas {
        Some(format!("new pods: {updated} of {replicas} are created"))
    } else if all > updated {
        let old = pods.describe(|pod| pods.old.iter().any(|old| old == uid(pod)));
        let separator = if old.is_empty() { "" } else { ": " };
        Some(format!("{} old pods to terminate{separator}{}", all - updated, old.join(", ")))
    } else if available < updated.min(wanted) {
        let unready =
            pods.describe(|pod| pods.is_new(pod) && !is_condition_true(pod, "Ready", None));
        let separator = if unready.is_empty() { "" } else { ": " };
        Some(format!(
            "new pods: {available} of {updated} are available{separator}{}",
            unready.join(", ")
        ))
    } else {
        None
    }
}

/// Describes a lease that no new pod has acquired yet. Some holder identities begin with the pod's
/// name; for others, only the acquire time shows that the holder is new.
fn lease_not_taken(
    wanted: &str,
    found: Option<&Lease>,
    pods: &Pods<'_>,
    at: Millis,
) -> Option<String> {
    let Some(lease) = found else { return Some(format!("lease {wanted}, which does not exist")) };
    let holder = |pod: &&Value| {
        !name(pod).is_empty()
            && lease.holder.as_ref().is_some_and(|holder| holder.starts_with(name(pod)))
    };
    let held_by = pods.all.iter().find(holder);
    let is_acquired = lease.acquired.is_some_and(|acquired| acquired > at);
    let is_renewed = lease.renewed.is_some_and(|renewed| renewed > at);
    // A pod that is terminating acquires it for the last time.
    // mutant lease-of-terminating-pod: pods.is_new(pod) ~> true
    if is_renewed && held_by.map_or(is_acquired, |pod| pods.is_new(pod)) {
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
    use crate::time;
    use salve_core::capability::restart_deployment::Restarted;
    use salve_core::capability::types::ObjectRef;
    use serde_json::json;

    const AT: Millis = 1_000_000;
    /// Five minutes later.
    const NOW: Millis = AT + 330_000;

    fn deployment(observed: u64, updated: u64, all: u64, available: u64) -> Value {
        json!({"metadata": {"generation": 7}, "spec": {"replicas": 2},
            "status": {"observedGeneration": observed, "updatedReplicas": updated, "replicas": all,
                "availableReplicas": available}})
    }

    /// A pod that was created long before the restart, or a moment ago.
    fn pod_since(name: &str, ready: bool, created: Millis) -> Value {
        json!({"metadata": {"name": name, "uid": name, "namespace": "rook-ceph",
            "creationTimestamp": time::seconds(created)}, "spec": {"nodeName": "node-1"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready",
                "status": if ready { "True" } else { "False" }}]}})
    }

    fn pod(name: &str, ready: bool) -> Value {
        pod_since(name, ready, AT)
    }

    /// A terminating pod whose grace period ends at `end`.
    fn terminating(name: &str, ready: bool, end: Millis) -> Value {
        let mut pod = pod_since(name, ready, 0);
        pod["metadata"]["deletionTimestamp"] = time::seconds(end).into();
        pod
    }

    fn unscheduled(name: &str, created: Millis) -> Value {
        let mut pod = pod_since(name, false, created);
        pod["spec"] = json!({});
        pod["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
            "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}]});
        pod
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

    fn call(old: &[&str]) -> AwaitRollout {
        let old_pods = old.iter().map(|uid| (*uid).to_owned()).collect();
        AwaitRollout {
            target: ObjectRef::new("rook-ceph", "x"),
            restarted: Restarted { at: AT, old_pods },
            leases: vec!["l".into()],
            wait_seconds: 0,
        }
    }

    /// Returns what a restart of `old` waits for, five minutes after it.
    fn waiting_for(
        old: &[&str],
        deployment: &Value,
        pods: &[Value],
        leases: Vec<Lease>,
    ) -> Option<String> {
        let (rollout, failed) = evaluate(&call(old), deployment, pods, leases, NOW);
        assert_eq!(rollout.done, rollout.waiting_for.is_none());
        assert!(!failed);
        rollout.waiting_for
    }

    fn led() -> Vec<Lease> {
        vec![leased("a", AT + 1, AT + 2)]
    }

    #[test]
    fn every_phase_of_a_rollout_reports_what_it_waits_for() {
        let both = || vec![pod("a", true), pod("b", true)];
        for (deployment, pods, leases, expected) in [
            (deployment(6, 2, 2, 2), both(), led(), "to observe the change"),
            (deployment(7, 1, 2, 2), both(), led(), "1 of 2 are created"),
            (deployment(7, 2, 3, 2), both(), led(), "1 old pods"),
            (deployment(7, 2, 2, 1), both(), led(), "1 of 2 are available"),
            (
                deployment(7, 2, 2, 2),
                vec![pod("a", true), pod("b", true), pod("old", true)],
                led(),
                "old pods to terminate: old (Running, ready)",
            ),
            (
                deployment(7, 2, 2, 2),
                vec![pod("a", true), pod("b", false)],
                led(),
                "1 of 2 are ready: b (Running, not ready)",
            ),
            (deployment(7, 2, 2, 2), both(), vec![], "does not exist"),
        ] {
            let waiting = waiting_for(&["old", "old2"], &deployment, &pods, leases).unwrap();
            assert!(waiting.contains(expected), "{waiting} / {expected}");
        }
        assert_eq!(waiting_for(&["old", "old2"], &deployment(7, 2, 2, 2), &both(), led()), None);
    }

    #[test]
    fn a_replica_that_was_not_ready_before_is_not_waited_for() {
        let (one, two) = (deployment(7, 2, 2, 1), deployment(7, 2, 2, 2));
        let (soon, ago) = (NOW - 30_000, NOW - 90_000);
        let overdue = || terminating("old", false, AT);
        for (case, old, deployment, pods, expected) in [
            (
                "unschedulable before and after",
                &["old"][..],
                &one,
                vec![pod("a", true), unscheduled("b", 0)],
                None,
            ),
            (
                "still crashing",
                &["old"],
                &one,
                vec![pod("a", true), pod_since("b", false, ago)],
                None,
            ),
            (
                "it may still start",
                &["old"],
                &one,
                vec![pod("a", true), pod_since("b", false, soon)],
                Some("1 of 2 are ready: b (Running, not ready)"),
            ),
            (
                "one must be ready, even if none was",
                &[],
                &deployment(7, 2, 2, 0),
                vec![pod_since("a", false, ago), unscheduled("b", ago)],
                Some("0 of 2 are available: a (Running, not ready), b (Unschedulable: 0/2 nodes)"),
            ),
            (
                "both were ready before",
                &["old", "old2"],
                &one,
                vec![pod("a", true), unscheduled("b", ago)],
                Some("1 of 2 are available: b (Unschedulable: 0/2 nodes)"),
            ),
            (
                "an old pod stays on its dead node",
                &["old"],
                &two,
                vec![overdue(), pod("a", true), pod("b", true)],
                None,
            ),
            (
                "it ends",
                &["old"],
                &two,
                vec![terminating("old", false, NOW), pod("a", true), pod("b", true)],
                Some("old pods to terminate: old (terminating)"),
            ),
            (
                "so does one that was not ready",
                &["old"],
                &two,
                vec![terminating("old3", false, NOW), pod("a", true), pod("b", true)],
                Some("old pods to terminate: old3 (terminating)"),
            ),
            (
                "it still works",
                &["old"],
                &two,
                vec![terminating("old", true, AT), pod("a", true), pod("b", true)],
                Some("old pods to terminate: old (terminating)"),
            ),
            (
                "Recreate waits for it",
                &["old"],
                &deployment(7, 0, 0, 0),
                vec![overdue()],
                Some(
                    "0 of 2 are created; still there: old (terminating, its grace period ended \
                     5 min ago; is node node-1 down?)",
                ),
            ),
        ] {
            let waiting = waiting_for(old, deployment, &pods, led());
            match expected {
                None => assert_eq!(waiting, None, "{case}"),
                Some(expected) => {
                    let waiting = waiting.unwrap_or_else(|| panic!("{case} is done"));
                    assert!(waiting.contains(expected), "{case}: {waiting} / {expected}");
                }
            }
        }
        let pods = [overdue(), pod("a", true), pod("b", true)];
        let (rollout, _) = evaluate(&call(&["old"]), &two, &pods, led(), NOW);
        let reason = rollout.pods[0].waiting.as_deref();
        assert!(rollout.done && reason.unwrap().contains("is node node-1 down?"), "{reason:?}");
    }

    #[test]
    fn a_lease_counts_when_a_new_pod_holds_it_or_it_was_acquired_since() {
        let at = |lease| {
            let pods = [pod("a", true), pod("b", true), terminating("lost", false, AT)];
            waiting_for(&["old", "old2"], &deployment(7, 2, 2, 2), &pods, vec![lease])
        };
        assert!(at(leased("old", AT - 9, AT + 5)).is_some(), "renewed once more by the old pod");
        assert!(at(leased("lost", AT + 5, AT + 5)).is_some(), "acquired by a terminating pod");
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
    fn a_failed_rollout_ends_the_wait_unless_it_failed_before_the_restart() {
        let with_failure = |updated: Option<Millis>, available| {
            let mut deployment = deployment(7, 2, 2, available);
            deployment["status"]["conditions"] = json!([{"type": "Progressing", "status": "False",
                "reason": "ProgressDeadlineExceeded", "message": "timed out",
                "lastUpdateTime": updated.map(time::seconds)}]);
            deployment
        };
        let pods = [pod("a", true), unscheduled("b", 0)];
        for (case, old, updated, available, is_failed) in [
            ("since", &["old", "old2"][..], Some(AT + 5_000), 1, true),
            ("at a time that is not known", &["old", "old2"], None, 1, true),
            ("before", &["old", "old2"], Some(AT - 5_000), 1, false),
            ("by a replica that was not ready before", &["old"], Some(AT + 5_000), 1, false),
        ] {
            let deployment = with_failure(updated, available);
            let (rollout, failed) = evaluate(&call(old), &deployment, &pods, led(), NOW);
            assert_eq!(failed, is_failed, "{case}");
            let waiting = rollout.waiting_for.unwrap_or_default();
            assert_eq!(waiting.contains("timed out"), is_failed, "{case}: {waiting}");
        }
    }
}
