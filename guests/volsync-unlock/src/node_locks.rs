//! Locks in the node plugin of one node, which a restart of the controller does not release.

use std::collections::{BTreeMap, BTreeSet};

use salve_sdk::format::{age, count, join};
use salve_sdk::query_pods::{PendingPod, PendingReason};
use salve_sdk::report::Finding;

use crate::evidence::{MAX_AGE_MS, NodeLog, Observation};
use crate::lock::LockKey;

/// Returns the nodes on which a volume cannot be mounted.
pub fn nodes_to_read(pods: &[PendingPod]) -> BTreeSet<&str> {
    pods.iter()
        .filter(|pod| pod.reason == PendingReason::MountFailed)
        .filter_map(|pod| pod.node.as_deref())
        .collect()
}

/// Returns the pods that a lock in a node plugin keeps from starting, by node. Either the event of
/// the pod says so, or the log of the node plugin: kubelet may only report that it timed out.
fn pods_by_node(observation: &Observation) -> BTreeMap<&str, Vec<&PendingPod>> {
    let mut nodes: BTreeMap<&str, Vec<&PendingPod>> = BTreeMap::new();
    for pod in &observation.pending_pods {
        if pod.reason != PendingReason::MountFailed {
            continue;
        }
        let logs_lock = |node: &str| {
            let log = observation.node_logs.get(node);
            log.is_some_and(|log| !recent_keys(log, observation.now).is_empty())
        };
        let is_locked =
            // mutant mount-events-ignored: LockKey::parse(&pod.message).is_some() || ~>
            // mutant node-log-ignored: || pod.node.as_deref().is_some_and(logs_lock) ~>
            LockKey::parse(&pod.message).is_some() || pod.node.as_deref().is_some_and(logs_lock);
        if is_locked {
            nodes.entry(pod.node.as_deref().unwrap_or("(unknown)")).or_default().push(pod);
        }
    }
    nodes
}

/// Returns the keys that a node plugin logged recently, each with when.
fn recent_keys(log: &NodeLog, now: u64) -> Vec<(&LockKey, u64)> {
    let sightings = log.log.sightings.0.iter().map(|(key, sighting)| (key, sighting.last));
    sightings.filter(|(_, last)| now.saturating_sub(*last) <= MAX_AGE_MS).collect()
}

/// Reports the nodes whose node plugin holds locks, with the pod to restart.
pub fn findings(observation: &Observation) -> Vec<Finding> {
    pods_by_node(observation)
        .into_iter()
        .map(|(node, pods)| {
            let names = join(pods.iter().map(|pod| &pod.object), 2);
            let waiting = match pods.as_slice() {
                [_] => format!("pod {names} cannot start"),
                many => format!("{} ({names}) cannot start", count(many.len(), "pod")),
            };
            let log = observation.node_logs.get(node);
            let plugin = match log {
                Some(log) => format!("delete the node plugin pod {}", log.pod),
                None => format!("delete the one node plugin pod on {node}"),
            };
            let drain = "drain the node first if it mounts volumes with ceph-fuse or rbd-nbd";
            let keys = log.map(|log| recent_keys(log, observation.now)).unwrap_or_default();
            let driver = &observation.driver.name;
            // Anyone who may create Events can forge one, and an old one may outlast its lock.
            // mutant mount-events-believed: log.is_some() && keys.is_empty() ~> false
            let problem = if log.is_some() && keys.is_empty() {
                format!(
                    "{waiting}: an event reports a lock in the node plugin of {driver} on node \
                     {node}, but its log shows none: read the log before you {plugin}, and do it \
                     only if the log confirms the lock ({drain})"
                )
            } else {
                format!(
                    "the node plugin of {driver} on node {node} holds a lock, so {waiting}: \
                     {plugin} ({drain})"
                )
            };
            let logged = keys.into_iter().map(|(key, last)| {
                format!("{key}: last logged {} ago", age(last, observation.now))
            });
            Finding::with_details(
                format!(
                    "{problem}; do not restart the controller; if the lock returns, check the \
                     network between {node} and Ceph"
                ),
                pods.iter().map(|pod| format!("{}: {}", pod.object, pod.message)).chain(logged),
            )
        })
        .collect()
}

#[cfg(test)]
#[path = "tests/node_locks.rs"]
mod tests;
