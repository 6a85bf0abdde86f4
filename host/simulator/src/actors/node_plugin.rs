//! The node plugin and the kubelet's calls to it: on a node where staging hangs, the plugin's pod
//! holds a lock for each volume, and pods with volumes of the driver do not start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::csi::klog;
use super::events::{self, Event};
use super::provision::csi_handle;
use super::{Task, pods};
use crate::kind;
use crate::object::{set, text};
use crate::store::Key;
use crate::world::World;

/// How long the kubelet waits for a call, and until it tries again.
const RETRY_DELAY: Duration = Duration::from_secs(122);

/// The state of the node plugins that no object shows.
#[derive(Debug, Default, Clone)]
pub struct NodePlugins {
    /// The nodes on which new calls hang.
    pub hanging: BTreeSet<String>,
    /// The locked volumes, by handle, with their nodes.
    pub locks: BTreeMap<String, String>,
    /// The UID of the plugin's pod on each node.
    pub pods: BTreeMap<String, String>,
}

/// Stages the volumes of a pod on its node. Returns false if a call hangs or is rejected; the
/// kubelet then tries again.
pub fn stage(world: &mut World, key: &Key, pod: &Value) -> bool {
    let node = text(pod, "/spec/nodeName").to_owned();
    let Some((volume, handle)) = volume_of_driver(world, key, pod) else { return true };
    if !world.csi.nodes.hanging.contains(&node) {
        return true;
    }
    let is_first = world.csi.nodes.locks.insert(handle.clone(), node.clone()).is_none();
    let error = if is_first {
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned()
    } else {
        log_rejection(world, &node, &handle);
        format!(
            "rpc error: code = Aborted desc = an operation with the given Volume ID {handle} \
             already exists"
        )
    };
    let event = Event {
        event_type: "Warning",
        reason: "FailedMount",
        message: format!("MountVolume.MountDevice failed for volume \"{volume}\" : {error}"),
        component: "kubelet".to_owned(),
    };
    events::record(world, pod, &event);
    world.update(key, set_creating);
    world.schedule_once(RETRY_DELAY, Task::PodStarted(key.clone()));
    false
}

/// Returns the name and the handle of the first volume of the driver that a pod mounts.
fn volume_of_driver(world: &World, key: &Key, pod: &Value) -> Option<(String, String)> {
    pods::pvcs(pod).find_map(|pvc| {
        let pvc = world.get(&Key::new(kind::PVCS, &key.namespace, pvc))?;
        let name = text(&pvc, "/spec/volumeName");
        let volume = world.get(&Key::new(kind::VOLUMES, "", name))?;
        let is_of_driver = text(&volume, "/spec/csi/driver") == world.csi.driver;
        is_of_driver.then(|| (name.to_owned(), csi_handle(name.trim_start_matches("pvc-"))))
    })
}

fn log_rejection(world: &mut World, node: &str, handle: &str) {
    let Some(uid) = world.csi.nodes.pods.get(node).cloned() else { return };
    let (call, now, plugin) = (world.csi.next_call(), world.now, world.csi.plugin.clone());
    let error = format!("an operation with the given Volume ID {handle} already exists");
    let line = format!("ID: {call} Req-ID: {handle} {error}");
    world.logs.write(&uid, &plugin, now, klog('E', now, "nodeserver.go:320", &line));
    let line =
        format!("ID: {call} Req-ID: {handle} GRPC error: rpc error: code = Aborted desc = {error}");
    world.logs.write(&uid, &plugin, now, klog('E', now, "utils.go:271", &line));
}

/// Sets the status of a pod whose volumes are not mounted yet.
pub fn set_creating(pod: &mut Value) {
    let name = pod.pointer("/spec/containers/0/name").cloned().unwrap_or_default();
    let waiting = json!({"name": name, "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ContainerCreating"}}});
    set(pod, &["status", "containerStatuses"], vec![waiting]);
}

/// Drops the locks of a deleted pod.
pub fn on_pod_deleted(world: &mut World, uid: &str) {
    let nodes = &mut world.csi.nodes;
    let node = nodes.pods.iter().find(|(_, pod)| *pod == uid).map(|(node, _)| node.clone());
    if let Some(node) = node {
        nodes.hanging.remove(&node);
        nodes.locks.retain(|_, of| *of != node);
    }
}
