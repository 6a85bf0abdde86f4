//! Locks in the node plugin of one node, which a restart of the controller does not release.

use std::collections::BTreeMap;

use salve_sdk::format::{count, join};
use salve_sdk::query_pods::{PendingPod, PendingReason};
use salve_sdk::report::Finding;

use crate::evidence::Observation;
use crate::lock::LockKey;

/// Returns the pods that a lock in a node plugin keeps from starting, by node.
fn pods_by_node(pods: &[PendingPod]) -> BTreeMap<&str, Vec<&PendingPod>> {
    let mut nodes: BTreeMap<&str, Vec<&PendingPod>> = BTreeMap::new();
    for pod in pods {
        let is_locked =
            pod.reason == PendingReason::MountFailed && LockKey::parse(&pod.message).is_some();
        if is_locked {
            nodes.entry(pod.node.as_deref().unwrap_or("(unknown)")).or_default().push(pod);
        }
    }
    nodes
}

/// Reports the nodes whose node plugin holds locks, with the pod to restart.
pub fn findings(observation: &Observation) -> Vec<Finding> {
    pods_by_node(&observation.pending_pods)
        .into_iter()
        .map(|(node, pods)| {
            let names = join(pods.iter().map(|pod| &pod.object), 2);
            let waiting = match pods.as_slice() {
                [_] => format!("pod {names} cannot start"),
                many => format!("{} ({names}) cannot start", count(many.len(), "pod")),
            };
            Finding::with_details(
                format!(
                    "the node plugin of {} on node {node} holds a lock, so {waiting}: delete the \
                     one node plugin pod on {node}, after draining the node if it mounts volumes \
                     with ceph-fuse or rbd-nbd; do not restart the controller; if the lock \
                     returns, check the network between {node} and Ceph",
                    observation.driver.name
                ),
                pods.iter().map(|pod| format!("{}: {}", pod.object, pod.message)),
            )
        })
        .collect()
}

#[cfg(test)]
#[path = "tests/node_locks.rs"]
mod tests;
