//! csi-provisioner: provisions about one volume per second while it is the leader and its pod has
//! no locks.

use std::time::Duration;

use serde_json::{Value, json};

use super::csi::{self, CALL_TIMEOUT, Sidecar};
use super::events::{self, Event};
use super::{Task, lock};
use crate::kind;
use crate::object::{is_terminating, set, text};
use crate::store::Key;
use crate::world::World;

const PROVISION_TIME: Duration = Duration::from_secs(1);
const RETRY_DELAY: Duration = Duration::from_secs(15);

/// Why a driver does not create a volume although it responds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It rejects the request with this gRPC error, for all PVCs whose names contain this text.
    Rejects { pvcs: String, error: String },
    /// The storage is still copying the data of the snapshot, which this gRPC error reports.
    Copying { error: String },
}

impl Refusal {
    /// Returns the error for a PVC, if it is refused.
    fn error_for(&self, key: &Key, pvc: &Value) -> Option<&str> {
        match self {
            Refusal::Rejects { pvcs, error } => key.name.contains(pvcs).then_some(error),
            Refusal::Copying { error } => {
                (text(pvc, "/spec/dataSource/kind") == "VolumeSnapshot").then_some(error)
            }
        }
    }
}

/// Returns whether a PVC waits for the driver: it is Pending, of the driver's StorageClass, and not
/// filled by VolSync's populator.
pub fn is_waiting_for_driver(world: &World, pvc: &Value) -> bool {
    let class =
        world.get(&Key::new(kind::STORAGE_CLASSES, "", text(pvc, "/spec/storageClassName")));
    text(pvc, "/status/phase") == "Pending"
        && text(pvc, "/spec/volumeName").is_empty()
        && !is_terminating(pvc)
        && text(pvc, "/spec/dataSourceRef/kind") != "ReplicationDestination"
        && class.is_some_and(|class| text(&class, "/provisioner") == world.csi.driver)
}

/// Tries to provision a volume for a PVC.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(pvc) = world.get(key) else { return };
    let Some((_, pod)) = csi::leader(world, Sidecar::Provisioner) else { return };
    if !is_waiting_for_driver(world, &pvc) {
        return;
    }
    let source = text(&pvc, "/spec/dataSource/name");
    if text(&pvc, "/spec/dataSource/kind") == "VolumeSnapshot" {
        let snapshot = world.get(&Key::new(kind::SNAPSHOTS, &key.namespace, source));
        let why = match &snapshot {
            None => "not found",
            Some(snapshot) if is_terminating(snapshot) => "is being deleted",
            Some(snapshot)
                if snapshot.pointer("/status/readyToUse") != Some(&Value::Bool(true)) =>
            {
                "is not Ready"
            }
            Some(_) => "",
        };
        if !why.is_empty() {
            let message = format!(
                "error getting handle for DataSource Type VolumeSnapshot by Name {source}: \
                 snapshot {source} {why}"
            );
            let event = Event {
                event_type: "Warning",
                reason: "ProvisioningFailed",
                message,
                component: lock::provisioner_component(world, &pod),
            };
            events::record(world, &pvc, &event);
            world.schedule_once(RETRY_DELAY, Task::Pvc(key.clone()));
            return;
        }
    }
    let call = format!("pvc-{}", text(&pvc, "/metadata/uid"));
    let refusal = world.csi.refusal.as_ref().and_then(|refusal| refusal.error_for(key, &pvc));
    if let Some(error) = refusal.map(str::to_owned) {
        let event = lock::provisioning_failed(world, &pod, &error);
        events::record(world, &pvc, &event);
        world.schedule_once(CALL_TIMEOUT, Task::Pvc(key.clone()));
    } else if world.csi.ceph_down {
        let reason = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
        let event = lock::provisioning_failed(world, &pod, reason);
        events::record(world, &pvc, &event);
        world.schedule_once(CALL_TIMEOUT, Task::Pvc(key.clone()));
    } else if world.csi.is_blocked(&pod) {
        lock::hang_call(world, Sidecar::Provisioner, &call);
    } else {
        let free = world.csi.busy_until.unwrap_or(world.now).max(world.now);
        let done = free.saturating_add(crate::world::signed(PROVISION_TIME)).unwrap_or(free);
        world.csi.busy_until = Some(done);
        let delay = Duration::try_from(done.duration_since(world.now)).unwrap_or(PROVISION_TIME);
        world.schedule(delay, Task::Provisioned(key.clone()));
    }
}

/// Creates the provisioned volume and binds the PVC to it.
pub fn finish(world: &mut World, key: &Key) {
    let Some(pvc) = world.get(key) else { return };
    let Some((_, pod)) = csi::leader(world, Sidecar::Provisioner) else { return };
    let locked = world.csi.lock(&format!("pvc-{}", text(&pvc, "/metadata/uid"))).is_some();
    if !is_waiting_for_driver(world, &pvc) || locked {
        return;
    }
    let volume = volume_for(world, &pvc, "Delete");
    let name = text(&volume, "/metadata/name").to_owned();
    world.create(kind::VOLUMES, volume);
    world.update(key, |pvc| bind(pvc, &name));
    let event = Event {
        event_type: "Normal",
        reason: "ProvisioningSucceeded",
        message: format!("Successfully provisioned volume {name}"),
        component: lock::provisioner_component(world, &pod),
    };
    events::record(world, &pvc, &event);
}

/// Returns the volume of a PVC, with a reclaim policy.
pub fn volume_for(world: &World, pvc: &Value, policy: &str) -> Value {
    let driver = &world.csi.driver;
    let uid = text(pvc, "/metadata/uid");
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {
            "name": format!("pvc-{uid}"),
            "annotations": {"pv.kubernetes.io/provisioned-by": driver},
            "finalizers": ["kubernetes.io/pv-protection"],
        },
        "spec": {
            "accessModes": pvc["spec"]["accessModes"],
            "capacity": pvc["spec"]["resources"]["requests"],
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "name": text(pvc, "/metadata/name"),
                "namespace": text(pvc, "/metadata/namespace"), "uid": uid,
            },
            "csi": {"driver": driver, "fsType": "ext4", "volumeHandle": csi_handle(uid)},
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": text(pvc, "/spec/storageClassName"),
            "volumeMode": "Filesystem",
        },
        "status": {"phase": "Bound"},
    })
}

/// Returns the CSI handle of the volume or snapshot for the object with this UID.
pub fn csi_handle(uid: &str) -> String {
    format!("0001-0009-rook-ceph-0000000000000002-{uid}")
}

/// Binds a PVC to a volume.
pub fn bind(pvc: &mut Value, volume: &str) {
    set(pvc, &["spec", "volumeName"], volume);
    for annotation in ["pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller"] {
        set(pvc, &["metadata", "annotations", annotation], "yes");
    }
    let status = json!({
        "phase": "Bound", "accessModes": pvc["spec"]["accessModes"],
        "capacity": pvc["spec"]["resources"]["requests"],
    });
    set(pvc, &["status"], status);
}
