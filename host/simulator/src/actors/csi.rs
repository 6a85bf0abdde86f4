//! The in-memory state of the CSI driver: the leader pod of each of its controller's sidecars, and
//! the operation locks of each pod's plugin. Locks disappear with their pod. In a pod with a lock,
//! every new call hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::Task;
use super::lock::Operation;
use super::node_plugin::NodePlugins;
use super::pods::is_ready;
use super::provision::Refusal;
use crate::kind;
use crate::object::{is_terminating, label, list, text};
use crate::random::hash_below;
use crate::store::Key;
use crate::world::World;

pub const DRIVER: &str = "rook-ceph.rbd.csi.ceph.com";
pub const NAMESPACE: &str = "rook-ceph";
/// The container of the RBD plugin.
pub const PLUGIN: &str = "csi-rbdplugin";
/// The `--timeout` of the sidecars.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(150);

/// A sidecar that calls the driver in the pod where it is the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecar {
    Provisioner,
    Snapshotter,
}

impl Sidecar {
    pub const ALL: [Sidecar; 2] = [Sidecar::Provisioner, Sidecar::Snapshotter];

    pub fn container(self) -> &'static str {
        match self {
            Sidecar::Provisioner => "csi-provisioner",
            Sidecar::Snapshotter => "csi-snapshotter",
        }
    }

    /// Returns the Lease of a driver's sidecar.
    pub fn lease(self, driver: &str) -> Key {
        let driver = driver.replace('.', "-");
        let name = match self {
            Sidecar::Provisioner => driver,
            Sidecar::Snapshotter => format!("external-snapshotter-leader-{driver}"),
        };
        Key::new(kind::LEASES, NAMESPACE, &name)
    }
}

/// The operation lock of a call that never returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    pub key: String,
    /// The UID of the pod with the lock.
    pub pod: String,
    /// How many calls have failed. The first one times out, further ones are rejected with
    /// `Aborted`, and logged.
    pub failures: u32,
}

/// The state of the CSI driver that no object shows.
#[derive(Debug, Clone)]
pub struct Csi {
    /// The name of the driver.
    pub driver: String,
    /// The container of the plugin, in the pods of the controller and of the node plugin.
    pub plugin: String,
    /// The version of ceph-csi, which determines the texts of its log.
    pub version: (u32, u32),
    /// The name of the controller's Deployment.
    pub deployment: String,
    pub locks: Vec<Lock>,
    /// The operations that hold the locks of existing volumes and snapshots, by handle. `Restore`
    /// if there is none.
    pub operations: BTreeMap<String, Operation>,
    /// UIDs of the controller pods in which every new call hangs.
    pub hanging: BTreeSet<String>,
    /// Why the driver does not create volumes from snapshots or with a size, if it does not.
    pub refusal: Option<Refusal>,
    pub nodes: NodePlugins,
    /// Whether Ceph does not respond.
    pub ceph_down: bool,
    /// The time when the provisioner finishes the calls that it has started.
    pub busy_until: Option<Timestamp>,
    /// The UID of the leader pod of each sidecar.
    leaders: [Option<String>; 2],
    calls: u64,
}

impl Default for Csi {
    fn default() -> Self {
        Csi {
            driver: DRIVER.to_owned(),
            plugin: PLUGIN.to_owned(),
            version: (3, 14),
            deployment: String::new(),
            locks: Vec::new(),
            operations: BTreeMap::new(),
            hanging: BTreeSet::new(),
            refusal: None,
            nodes: NodePlugins::default(),
            ceph_down: false,
            busy_until: None,
            leaders: [None, None],
            calls: 0,
        }
    }
}

impl Csi {
    /// Returns the keys of all locks.
    pub fn keys(&self) -> Vec<String> {
        self.locks.iter().map(|lock| lock.key.clone()).collect()
    }

    pub fn lock(&self, key: &str) -> Option<&Lock> {
        self.locks.iter().find(|lock| lock.key == key)
    }

    /// Returns whether calls to the plugin in the pod with this UID hang.
    pub fn is_blocked(&self, pod: &str) -> bool {
        self.hanging.contains(pod) || self.locks.iter().any(|lock| lock.pod == pod)
    }

    pub fn set_leader(&mut self, sidecar: Sidecar, pod: &str) {
        self.leaders[sidecar as usize] = Some(pod.to_owned());
    }

    /// Returns the UID of the most recent leader pod, which may no longer exist.
    pub fn last_leader(&self, sidecar: Sidecar) -> Option<&str> {
        self.leaders[sidecar as usize].as_deref()
    }

    /// Returns the ID of the next call for the plugin's log.
    pub fn next_call(&mut self) -> u64 {
        self.calls += 1;
        90_000 + self.calls
    }
}

/// Returns the keys and UIDs of the controller's ready pods that have `container`.
pub fn ready_pods_with(world: &World, container: &str) -> Vec<(Key, String)> {
    world
        .store
        .list(kind::PODS, Some(NAMESPACE))
        .filter(|(_, pod)| {
            label(pod, "app") == Some(&world.csi.deployment)
                && !is_terminating(pod)
                && is_ready(pod)
        })
        .filter(|(_, pod)| {
            list(pod, "/spec/containers").iter().any(|object| text(object, "/name") == container)
        })
        .map(|(key, pod)| (key.clone(), text(pod, "/metadata/uid").to_owned()))
        .collect()
}

/// Returns the leader pod of a sidecar, if it is ready.
pub fn leader(world: &World, sidecar: Sidecar) -> Option<(Key, String)> {
    let uid = world.csi.last_leader(sidecar)?.to_owned();
    ready_pods_with(world, sidecar.container()).into_iter().find(|(_, pod)| *pod == uid)
}

/// Drops the locks of a deleted pod.
pub fn on_pod_deleted(world: &mut World, uid: &str) {
    world.csi.locks.retain(|lock| lock.pod != uid);
    world.csi.hanging.remove(uid);
    super::node_plugin::on_pod_deleted(world, uid);
}

/// Logs the start of a controller pod, whose sidecars try to acquire their Leases.
pub fn on_pod_started(world: &mut World, pod: &Value) {
    if label(pod, "app") != Some(&world.csi.deployment) {
        return;
    }
    let (uid, now) = (text(pod, "/metadata/uid").to_owned(), world.now);
    for sidecar in Sidecar::ALL {
        let container = sidecar.container();
        if list(pod, "/spec/containers").iter().any(|object| text(object, "/name") == container) {
            let line = format!(
                "attempting to acquire leader lease {NAMESPACE}/{}...",
                sidecar.lease(&world.csi.driver).name
            );
            let line = klog('I', now, "leaderelection.go:257", &line);
            world.logs.write(&uid, container, now, line);
        }
    }
    let (plugin, (major, minor)) = (world.csi.plugin.clone(), world.csi.version);
    let line = format!("Driver version: v{major}.{minor}.0");
    world.logs.write(&uid, &plugin, now, klog('I', now, "cephcsi.go:196", &line));
}

/// Lets a new leader process everything that waits for it.
pub fn on_leader_elected(world: &mut World, sidecar: Sidecar) {
    let cause = super::lock::blocking_snapshot(world);
    match sidecar {
        Sidecar::Provisioner => {
            let mut waiting: Vec<Key> = Vec::new();
            for (key, pvc) in world.all(kind::PVCS) {
                if super::provision::is_waiting_for_driver(world, &pvc) {
                    waiting.push(key.clone());
                }
                world.schedule_once(super::WATCH_LATENCY, Task::Pvc(key));
            }
            // If the cause still exists, the driver locks again after a few successful calls.
            for key in waiting.into_iter().skip(2).filter(|_| cause.is_some()) {
                if let Some(pvc) = world.get(&key) {
                    super::lock::hang_call(
                        world,
                        sidecar,
                        &format!("pvc-{}", text(&pvc, "/metadata/uid")),
                    );
                }
            }
        }
        Sidecar::Snapshotter => {
            if let Some(uid) = cause {
                super::lock::hang_call(world, sidecar, &format!("snapshot-{uid}"));
            }
            for (key, _) in world.all(kind::SNAPSHOTS) {
                world.schedule_once(
                    super::WATCH_LATENCY + Duration::from_millis(hash_below(&key.name, 3_000)),
                    Task::Snapshot(key),
                );
            }
        }
    }
}

/// Formats a line like klog.
pub fn klog(severity: char, time: Timestamp, location: &str, text: &str) -> String {
    format!("{severity}{}       1 {location}] {text}", time.strftime("%m%d %H:%M:%S.%6f"))
}
