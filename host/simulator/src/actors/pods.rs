//! The scheduler and the kubelet: a pod starts when its claims are bound, and ends some seconds after its deletion.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Wake, csi};
use crate::kind;
use crate::object::{is_terminating, list, nanos, seconds, set, set_condition, text};
use crate::random::spread;
use crate::store::{Change, Key, What};
use crate::world::World;

const START: Duration = Duration::from_secs(8);
const STOP: Duration = Duration::from_secs(2);

/// The claims that a pod mounts.
pub fn pvcs(pod: &Value) -> impl Iterator<Item = &str> {
    list(pod, "/spec/volumes")
        .iter()
        .map(|volume| text(volume, "/persistentVolumeClaim/claimName"))
        .filter(|name| !name.is_empty())
}

/// Whether a pod is Running and Ready.
pub fn is_ready(pod: &Value) -> bool {
    text(pod, "/status/phase") == "Running"
        && crate::object::condition(pod, "Ready").is_some_and(|one| text(one, "/status") == "True")
}

/// Wakes those whom a change of a pod concerns.
pub fn observe(world: &mut World, change: &Change) {
    let (key, pod) = (&change.key, &change.object);
    match change.what {
        What::Added => world.wake_once(super::NOTICE, Wake::Pod(key.clone())),
        What::Modified if is_terminating(pod) => world.wake_once(STOP, Wake::Pod(key.clone())),
        What::Modified => {}
        What::Deleted => {
            csi::pod_gone(world, text(pod, "/metadata/uid"));
            for pvc in pvcs(pod) {
                world.wake_once(
                    super::NOTICE,
                    Wake::Pvc(Key::new(kind::CLAIMS, &key.namespace, pvc)),
                );
            }
        }
    }
    if let Some(deployment) = super::workloads::deployment_of(world, &key.namespace, pod) {
        world.wake_once(super::workloads::NOTICE, Wake::Rollout(deployment));
    }
}

/// Starts or ends a pod.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(pod) = world.get(key) else { return };
    if is_terminating(&pod) {
        world.amend(key, |pod| set(pod, &["metadata", "deletionGracePeriodSeconds"], 0));
        return;
    }
    if text(&pod, "/status/phase") != "Pending" {
        return;
    }
    let unbound = pvcs(&pod).any(|pvc| {
        let pvc = world.get(&Key::new(kind::CLAIMS, &key.namespace, pvc));
        pvc.is_none_or(|pvc| text(&pvc, "/status/phase") != "Bound")
    });
    let now = world.now;
    if unbound {
        world.amend(key, |pod| wait(pod, now));
        return;
    }
    world.amend(key, |pod| {
        if text(pod, "/spec/nodeName").is_empty() {
            let node = format!("node-{}", 1 + spread(&key.name, 3));
            set(pod, &["spec", "nodeName"], node);
        }
        set_condition(pod, json!({"type": "PodScheduled", "status": "True"}), now);
    });
    world.wake_once(START, Wake::PodStarted(key.clone()));
}

/// Says of a pod that it cannot be scheduled before its claims are bound.
pub fn wait(pod: &mut Value, now: jiff::Timestamp) {
    let waiting = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."});
    set_condition(pod, waiting, now);
}

/// A pod's containers run.
pub fn started(world: &mut World, key: &Key) {
    let Some(pod) = world.get(key) else { return };
    if is_terminating(&pod) || text(&pod, "/status/phase") != "Pending" {
        return;
    }
    let now = world.now;
    world.amend(key, |pod| set(pod, &["status"], running(pod, now)));
    csi::pod_started(world, &pod);
}

/// The status of a pod whose containers all started at `since`.
pub fn running(pod: &Value, since: jiff::Timestamp) -> Value {
    let at = seconds(since);
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at});
    let containers: Vec<Value> = list(pod, "/spec/containers")
        .iter()
        .map(|container| {
            json!({
                "name": text(container, "/name"), "image": text(container, "/image"), "imageID": "",
                "containerID": format!("containerd://{:016x}", spread(&nanos(since), u64::MAX)),
                "ready": true, "restartCount": 0, "started": true, "state": {"running": {"startedAt": at}},
            })
        })
        .collect();
    json!({
        "phase": "Running", "qosClass": "BestEffort", "startTime": at, "podIP": "10.42.0.10", "hostIP": "192.0.2.11",
        "conditions": [condition("PodScheduled"), condition("Initialized"), condition("ContainersReady"), condition("Ready")],
        "containerStatuses": containers,
    })
}
