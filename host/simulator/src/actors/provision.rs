//! csi-provisioner: makes a volume for each claim of the driver, about one a second, while it leads and nothing is locked.

use std::time::Duration;

use serde_json::{Value, json};

use super::csi::{self, CALL_TIMEOUT, DRIVER, Sidecar};
use super::events::{self, Event};
use super::{Wake, lock};
use crate::kind;
use crate::object::{is_terminating, set, text};
use crate::store::Key;
use crate::world::World;

const PACE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Whether a claim waits for the driver: Pending, of its class, and not filled by VolSync's populator.
pub fn is_ours(world: &World, pvc: &Value) -> bool {
    let class =
        world.get(&Key::new(kind::STORAGE_CLASSES, "", text(pvc, "/spec/storageClassName")));
    text(pvc, "/status/phase") == "Pending"
        && text(pvc, "/spec/volumeName").is_empty()
        && !is_terminating(pvc)
        && text(pvc, "/spec/dataSourceRef/kind") != "ReplicationDestination"
        && class.is_some_and(|class| text(&class, "/provisioner") == DRIVER)
}

/// Tries to provision a claim.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(pvc) = world.get(key) else { return };
    let Some((_, pod)) = csi::leader(world, Sidecar::Provisioner) else { return };
    if !is_ours(world, &pvc) {
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
                "error getting handle for DataSource Type VolumeSnapshot by Name {source}: snapshot {source} {why}"
            );
            let event = Event {
                kind: "Warning",
                reason: "ProvisioningFailed",
                message,
                component: lock::component(world, &pod),
            };
            events::record(world, &pvc, &event);
            world.wake_once(LOOK_AGAIN, Wake::Pvc(key.clone()));
            return;
        }
    }
    let call = format!("pvc-{}", text(&pvc, "/metadata/uid"));
    if world.csi.ceph_down {
        let reason = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
        let event = lock::failed(world, &pod, reason);
        events::record(world, &pvc, &event);
        world.wake_once(CALL_TIMEOUT, Wake::Pvc(key.clone()));
    } else if world.csi.is_jammed(&pod) {
        lock::hang(world, Sidecar::Provisioner, &call);
    } else {
        let free = world.csi.busy_until.unwrap_or(world.now).max(world.now);
        let done = free.saturating_add(crate::world::signed(PACE)).unwrap_or(free);
        world.csi.busy_until = Some(done);
        let delay = Duration::try_from(done.duration_since(world.now)).unwrap_or(PACE);
        world.wake(delay, Wake::Provisioned(key.clone()));
    }
}

/// A volume has been made: the claim is bound to it.
pub fn provisioned(world: &mut World, key: &Key) {
    let Some(pvc) = world.get(key) else { return };
    let Some((_, pod)) = csi::leader(world, Sidecar::Provisioner) else { return };
    let locked = world.csi.lock(&format!("pvc-{}", text(&pvc, "/metadata/uid"))).is_some();
    if !is_ours(world, &pvc) || locked {
        return;
    }
    let volume = volume(&pvc, "Delete");
    let name = text(&volume, "/metadata/name").to_owned();
    world.create(kind::VOLUMES, volume);
    world.amend(key, |pvc| bind(pvc, &name));
    let event = Event {
        kind: "Normal",
        reason: "ProvisioningSucceeded",
        message: format!("Successfully provisioned volume {name}"),
        component: lock::component(world, &pod),
    };
    events::record(world, &pvc, &event);
}

/// The volume of a claim.
pub fn volume(pvc: &Value, policy: &str) -> Value {
    let uid = text(pvc, "/metadata/uid");
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {
            "name": format!("pvc-{uid}"), "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER},
            "finalizers": ["kubernetes.io/pv-protection"],
        },
        "spec": {
            "accessModes": pvc["spec"]["accessModes"], "capacity": pvc["spec"]["resources"]["requests"],
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": text(pvc, "/metadata/name"),
                "namespace": text(pvc, "/metadata/namespace"), "uid": uid,
            },
            "csi": {"driver": DRIVER, "fsType": "ext4", "volumeHandle": handle(uid)},
            "persistentVolumeReclaimPolicy": policy, "storageClassName": text(pvc, "/spec/storageClassName"),
            "volumeMode": "Filesystem",
        },
        "status": {"phase": "Bound"},
    })
}

/// The CSI handle of the volume or snapshot made for the object of this uid.
pub fn handle(uid: &str) -> String {
    format!("0001-0009-rook-ceph-0000000000000002-{uid}")
}

/// Binds a claim to a volume.
pub fn bind(pvc: &mut Value, volume: &str) {
    set(pvc, &["spec", "volumeName"], volume);
    for mark in ["pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller"] {
        set(pvc, &["metadata", "annotations", mark], "yes");
    }
    let status = json!({
        "phase": "Bound", "accessModes": pvc["spec"]["accessModes"], "capacity": pvc["spec"]["resources"]["requests"],
    });
    set(pvc, &["status"], status);
}
