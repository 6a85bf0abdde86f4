//! What no object of the cluster shows: the memory of the driver, of the storage, and of what is
//! outside of the cluster. A test sets it as the cause of an incident, lets the controllers create
//! the consequences, and compares a diagnosis with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::actors::Task;
use crate::actors::csi::{self, Lock, NAMESPACE, Sidecar, klog};
use crate::actors::lock::Operation;
use crate::actors::mover::{self, Mover};
use crate::actors::neighbors::Neighbor;
use crate::actors::provision::Refusal;
use crate::kind::{self, Kind};
use crate::object::{set, text};
use crate::scenario::installation::{self, Installation};
use crate::simulator::Simulator;
use crate::store::Key;

/// An operation lock that a pod of the driver holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLock {
    /// The request name, or the CSI handle of the volume or snapshot.
    pub key: String,
    /// The UID of the pod.
    pub pod: String,
    /// The node, if the pod is one of the node plugin.
    pub node: Option<String>,
    /// Whether the pod has logged the rejection of a call.
    pub is_logged: bool,
}

impl Simulator {
    /// Creates a cluster with this CSI driver and without apps.
    pub fn with_driver(installation: &Installation) -> Self {
        Simulator { world: Arc::new(Mutex::new(installation::build(installation))) }
    }

    /// Returns the locks that the pods of the driver hold.
    pub fn held_locks(&self) -> Vec<HeldLock> {
        let world = self.lock();
        let controller = world.csi.locks.iter().map(|lock| HeldLock {
            key: lock.key.clone(),
            pod: lock.pod.clone(),
            node: None,
            is_logged: lock.failures > 1,
        });
        let nodes = world.csi.nodes.locks.iter().map(|(key, node)| HeldLock {
            key: key.clone(),
            pod: world.csi.nodes.pods.get(node).cloned().unwrap_or_default(),
            node: Some(node.clone()),
            is_logged: true,
        });
        controller.chain(nodes).collect()
    }

    /// Lets every new call of a sidecar hang in its current leader pod. Returns the UID of the pod,
    /// or `None` if there is no leader.
    pub fn hang_controller(&self, sidecar: Sidecar) -> Option<String> {
        let mut world = self.lock();
        let (_, pod) = csi::leader(&world, sidecar)?;
        world.csi.hanging.insert(pod.clone());
        Some(pod)
    }

    /// Adds the lock of a call of a sidecar that hangs, for an object that may not exist.
    pub fn hold_lock(&self, sidecar: Sidecar, key: &str, operation: Operation) {
        let mut world = self.lock();
        let Some((_, pod)) = csi::leader(&world, sidecar) else { return };
        world.csi.operations.insert(key.to_owned(), operation);
        world.csi.locks.push(Lock { key: key.to_owned(), pod, failures: 1 });
        world.schedule(Duration::from_secs(1), Task::RejectCall(key.to_owned()));
    }

    /// Lets all calls that hang in the controller return, and releases their locks.
    pub fn release_controller(&self) {
        let mut world = self.lock();
        world.csi.locks.clear();
        world.csi.hanging.clear();
        for sidecar in Sidecar::ALL {
            if csi::leader(&world, sidecar).is_some() {
                csi::on_leader_elected(&mut world, sidecar);
            }
        }
    }

    /// Lets every new call to the node plugin on a node hang.
    pub fn hang_node(&self, node: &str) {
        self.lock().csi.nodes.hanging.insert(node.to_owned());
    }

    /// Sets whether Ceph does not respond, and its health accordingly.
    pub fn set_ceph_down(&self, down: bool) {
        let mut world = self.lock();
        world.csi.ceph_down = down;
        let cluster = Key::new(kind::CEPH_CLUSTERS, NAMESPACE, "rook-ceph");
        let health = if down { "HEALTH_ERR" } else { "HEALTH_OK" };
        world.update(&cluster, |cluster| set(cluster, &["status", "ceph", "health"], health));
        world.process_changes();
    }

    pub fn is_ceph_down(&self) -> bool {
        self.lock().csi.ceph_down
    }

    /// Sets why the driver does not create volumes, or that it does.
    pub fn set_refusal(&self, refusal: Option<Refusal>) {
        self.lock().csi.refusal = refusal;
    }

    pub fn refusal(&self) -> Option<Refusal> {
        self.lock().csi.refusal.clone()
    }

    /// Sets what happens to the mover of a ReplicationSource.
    pub fn set_mover(&self, namespace: &str, source: &str, mover: Mover) {
        let key = Key::new(kind::REPLICATION_SOURCES, namespace, source);
        self.lock().movers.insert(key, mover);
    }

    pub fn mover(&self, namespace: &str, source: &str) -> Option<Mover> {
        self.lock().movers.get(&Key::new(kind::REPLICATION_SOURCES, namespace, source)).cloned()
    }

    /// Returns the node on which the mover of a ReplicationSource of this name runs.
    pub fn mover_node(&self, source: &str) -> String {
        mover::node_of(&Key::new(kind::REPLICATION_SOURCES, "", source))
    }

    /// Sets what another CSI driver answers.
    pub fn set_neighbor(&self, driver: &str, neighbor: Neighbor) {
        self.lock().neighbors.insert(driver.to_owned(), neighbor);
    }

    pub fn neighbors(&self) -> Vec<(String, Neighbor)> {
        self.lock().neighbors.iter().map(|(name, neighbor)| (name.clone(), *neighbor)).collect()
    }

    /// Adds an object to those that the Git repository declares for an owner, a Kustomization or a
    /// HelmRelease.
    pub fn declare(&self, owner: &Value, object: Value) {
        if let Some(owner) = key_of(owner) {
            self.lock().git.declare(&owner, object);
        }
    }

    /// Creates an object that a controller outside of the cluster applies, and creates again
    /// whenever it is deleted.
    pub fn apply_from_elsewhere(&self, object: Value) {
        let Some(key) = key_of(&object) else { return };
        let mut world = self.lock();
        world.git.elsewhere.insert(key.clone(), object.clone());
        world.create(key.kind, object);
        world.process_changes();
    }

    /// Returns whether a controller outside of the cluster applies this object.
    pub fn is_applied_from_elsewhere(&self, object: &Value) -> bool {
        key_of(object).is_some_and(|key| self.lock().git.elsewhere.contains_key(&key))
    }

    /// Returns whether the Git repository declares this object for an existing owner.
    pub fn is_declared(&self, object: &Value) -> bool {
        let Some(wanted) = key_of(object) else { return false };
        let world = self.lock();
        [kind::KUSTOMIZATIONS, kind::HELM_RELEASES].into_iter().any(|kind| {
            world.store.list(kind, None).any(|(owner, _)| {
                let declared = world.git.declared(owner);
                declared.iter().any(|object| key_of(object).as_ref() == Some(&wanted))
            })
        })
    }

    /// Writes a line to the log of the driver's plugin in the pod with this UID.
    pub fn write_plugin_log(&self, pod: &str, severity: char, line: &str) {
        let mut world = self.lock();
        let (now, plugin) = (world.now, world.csi.plugin.clone());
        world.logs.write(pod, &plugin, now, klog(severity, now, "utils.go:271", line));
    }
}

fn key_of(object: &Value) -> Option<Key> {
    let group = text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let kind = Kind::find(group, text(object, "/kind"))?;
    let namespace = if kind.namespaced { text(object, "/metadata/namespace") } else { "" };
    Some(Key::new(kind, namespace, text(object, "/metadata/name")))
}
