//! The scheduler and the kubelet: a pod starts once its PVCs are bound, and stops a few seconds
//! after its deletion.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Task, csi, mover, node_plugin, nodes};
use crate::kind;
use crate::object::{is_terminating, label, list, nanos, seconds, set, set_condition, text};
use crate::random::hash_below;
use crate::store::{Change, ChangeType, Key};
use crate::world::World;

const START_TIME: Duration = Duration::from_secs(8);
const STOP_TIME: Duration = Duration::from_secs(2);
/// How often the scheduler tries again to find a node.
const SCHEDULING_INTERVAL: Duration = Duration::from_secs(10);

/// Returns the names of the PVCs that a pod mounts.
pub fn pvcs(pod: &Value) -> impl Iterator<Item = &str> {
    list(pod, "/spec/volumes")
        .iter()
        .map(|volume| text(volume, "/persistentVolumeClaim/claimName"))
        .filter(|name| !name.is_empty())
}

/// Returns whether a pod is Running and Ready.
pub fn is_ready(pod: &Value) -> bool {
    text(pod, "/status/phase") == "Running"
        && crate::object::condition(pod, "Ready")
            .is_some_and(|ready| text(ready, "/status") == "True")
}

/// Returns whether all containers of a pod have ended for good.
pub fn is_finished(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"))
}

/// Schedules the tasks that follow a change of a pod.
pub fn on_change(world: &mut World, change: &Change) {
    let (key, pod) = (&change.key, &change.object);
    match change.change_type {
        ChangeType::Added => world.schedule_once(super::WATCH_LATENCY, Task::Pod(key.clone())),
        ChangeType::Modified if is_terminating(pod) => {
            world.schedule_once(STOP_TIME, Task::Pod(key.clone()))
        }
        ChangeType::Modified => {}
        ChangeType::Deleted => {
            csi::on_pod_deleted(world, text(pod, "/metadata/uid"));
            for pvc in pvcs(pod) {
                world.schedule_once(
                    super::WATCH_LATENCY,
                    Task::Pvc(Key::new(kind::PVCS, &key.namespace, pvc)),
                );
            }
        }
    }
    if let Some(deployment) = super::workloads::deployment_of(world, &key.namespace, pod) {
        world.schedule_once(super::workloads::WATCH_LATENCY, Task::Rollout(deployment));
    }
}

/// Schedules, starts, or stops a pod.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(pod) = world.get(key) else { return };
    if is_terminating(&pod) {
        if nodes::has_reachable_node(world, &pod) {
            world.update(key, |pod| set(pod, &["metadata", "deletionGracePeriodSeconds"], 0));
        }
        return;
    }
    if text(&pod, "/status/phase") != "Pending" {
        return;
    }
    let unbound = pvcs(&pod).any(|pvc| {
        let pvc = world.get(&Key::new(kind::PVCS, &key.namespace, pvc));
        pvc.is_none_or(|pvc| text(&pvc, "/status/phase") != "Bound")
    });
    let now = world.now;
    if unbound {
        world.update(key, |pod| set_unschedulable(pod, now));
        return;
    }
    if mover::hold_back(world, key, &pod) {
        return;
    }
    let Some(node) = node_for(world, key, &pod) else {
        let message = "0/3 nodes are available: no node is reachable and satisfies the pod \
                       anti-affinity rules.";
        world.update(key, |pod| set_not_scheduled(pod, message, now));
        world.schedule_once(SCHEDULING_INTERVAL, Task::Pod(key.clone()));
        return;
    };
    world.update(key, |pod| {
        set(pod, &["spec", "nodeName"], node);
        set_condition(pod, json!({"type": "PodScheduled", "status": "True"}), now);
    });
    world.schedule_once(START_TIME, Task::PodStarted(key.clone()));
}

/// Returns the node of a pod, or one that it can be scheduled on: a reachable one. A pod with
/// required anti-affinity shares it with no other pod of its app.
fn node_for(world: &World, key: &Key, pod: &Value) -> Option<String> {
    let node = text(pod, "/spec/nodeName");
    if !node.is_empty() {
        return Some(node.to_owned());
    }
    let rules = "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let is_exclusive = !list(pod, rules).is_empty();
    let is_taken = |node: &str| {
        world.store.list(kind::PODS, Some(&key.namespace)).any(|(_, other)| {
            text(other, "/spec/nodeName") == node
                && label(other, "app") == label(pod, "app")
                && !is_finished(other)
        })
    };
    let preferred = hash_below(&key.name, 3);
    (0..3)
        .map(|offset| format!("node-{}", 1 + (preferred + offset) % 3))
        .find(|node| nodes::is_reachable(world, node) && !(is_exclusive && is_taken(node)))
}

/// Sets the condition of a pod that waits for its PVCs to be bound.
pub fn set_unschedulable(pod: &mut Value, now: jiff::Timestamp) {
    let message = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
    set_not_scheduled(pod, message, now);
}

/// Sets the condition of a pod that is not scheduled.
pub fn set_not_scheduled(pod: &mut Value, message: &str, now: jiff::Timestamp) {
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": message,
    });
    set_condition(pod, condition, now);
}

/// Starts the containers of a pod.
pub fn start_containers(world: &mut World, key: &Key) {
    let Some(pod) = world.get(key) else { return };
    if is_terminating(&pod)
        || text(&pod, "/status/phase") != "Pending"
        || !nodes::has_reachable_node(world, &pod)
    {
        return;
    }
    if !node_plugin::stage(world, key, &pod) {
        return;
    }
    let now = world.now;
    world.update(key, |pod| set(pod, &["status"], running_status(pod, now)));
    csi::on_pod_started(world, &pod);
}

/// Returns the status of a pod whose containers all started at `since`.
pub fn running_status(pod: &Value, since: jiff::Timestamp) -> Value {
    let at = seconds(since);
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at});
    let containers: Vec<Value> = list(pod, "/spec/containers")
        .iter()
        .map(|container| {
            json!({
                "name": text(container, "/name"), "image": text(container, "/image"), "imageID": "",
                "containerID": format!("containerd://{:016x}", hash_below(&nanos(since), u64::MAX)),
                "ready": true, "restartCount": 0, "started": true,
                "state": {"running": {"startedAt": at}},
            })
        })
        .collect();
    json!({
        "phase": "Running", "qosClass": "BestEffort", "startTime": at,
        "podIP": "10.42.0.10", "hostIP": "192.0.2.11",
        "conditions": [
            condition("PodScheduled"), condition("Initialized"),
            condition("ContainersReady"), condition("Ready"),
        ],
        "containerStatuses": containers,
    })
}
