//! The snapshot controller and csi-snapshotter: bind a VolumeSnapshot to its content, take the
//! snapshot, and delete both. A content that is being created is not deleted until its call
//! returns.

use std::time::Duration;

use serde_json::{Value, json};

use super::csi::{self, Sidecar};
use super::provision::csi_handle;
use super::{Task, lock, pvcs};
use crate::kind;
use crate::object::{
    add_finalizer, annotation, is_terminating, remove_finalizers, seconds, set, text, unset,
};
use crate::store::Key;
use crate::world::World;

const CREATING: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-created";
const DELETING: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
const SOURCE_PROTECTION: &str =
    "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
const BOUND_PROTECTION: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
const CONTENT_PROTECTION: &str =
    "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// Reconciles a VolumeSnapshot.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(snapshot) = world.get(key) else { return };
    let content = Key::new(
        kind::SNAPSHOT_CONTENTS,
        "",
        &format!("snapcontent-{}", text(&snapshot, "/metadata/uid")),
    );
    if is_terminating(&snapshot) {
        delete(world, key, &content);
    } else if world.get(&content).is_none() {
        bind(world, key, &snapshot, &content);
    } else if snapshot.pointer("/status/readyToUse") != Some(&Value::Bool(true)) {
        take_snapshot(world, key, &snapshot, &content);
    }
}

/// Creates the content of a snapshot, or reports why its source is not suitable.
fn bind(world: &mut World, key: &Key, snapshot: &Value, content: &Key) {
    if !is_controller_running(world) {
        return;
    }
    let source = text(snapshot, "/spec/source/persistentVolumeClaimName").to_owned();
    let pvc_key = Key::new(kind::PVCS, &key.namespace, &source);
    let pvc = world.get(&pvc_key);
    let why = match &pvc {
        None => format!(
            "Failed to create snapshot content with error snapshot controller failed to update {} \
             on API server: cannot get claim from snapshot",
            key.name
        ),
        Some(pvc) if is_terminating(pvc) => {
            format!(
                "Failed to create snapshot content with error cannot add finalizer on claim \
                 [{source}] for snapshot [{}]: claim is being deleted",
                key.name
            )
        }
        Some(pvc) if text(pvc, "/status/phase") != "Bound" => {
            format!(
                "Failed to create snapshot content with error the PVC {source} is not yet bound to \
                 a PV, will not attempt to take a snapshot"
            )
        }
        Some(_) => String::new(),
    };
    if !why.is_empty() {
        let now = seconds(world.now);
        if text(snapshot, "/status/error/message") != why {
            world.update(key, |snapshot| {
                set(
                    snapshot,
                    &["status"],
                    json!({"readyToUse": false, "error": {"time": now, "message": why}}),
                )
            });
        }
        if pvc.is_some_and(|pvc| !is_terminating(&pvc)) {
            world.update(&pvc_key, |pvc| add_finalizer(pvc, pvcs::AS_SOURCE_PROTECTION));
        }
        return;
    }
    let Some(pvc) = pvc else { return };
    world.update(&pvc_key, |pvc| add_finalizer(pvc, pvcs::AS_SOURCE_PROTECTION));
    let object = content_for(world, snapshot, &pvc);
    world.create(kind::SNAPSHOT_CONTENTS, object);
    world.update(key, |snapshot| {
        add_finalizer(snapshot, SOURCE_PROTECTION);
        add_finalizer(snapshot, BOUND_PROTECTION);
        set(
            snapshot,
            &["status"],
            json!({"boundVolumeSnapshotContentName": content.name, "readyToUse": false}),
        );
    });
    world.schedule_once(Duration::from_secs(1), Task::Snapshot(key.clone()));
}

/// Returns whether the snapshot-controller has not been scaled to zero.
fn is_controller_running(world: &World) -> bool {
    let key = Key::new(kind::DEPLOYMENTS, "kube-system", "snapshot-controller");
    world
        .get(&key)
        .is_none_or(|deployment| deployment.pointer("/spec/replicas") != Some(&Value::from(0)))
}

/// Returns the content that is bound to a snapshot of a PVC.
pub fn content_for(world: &World, snapshot: &Value, pvc: &Value) -> Value {
    let driver = &world.csi.driver;
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
        "metadata": {
            "name": format!("snapcontent-{}", text(snapshot, "/metadata/uid")),
            "annotations": {
                "snapshot.storage.kubernetes.io/deletion-secret-name": "rook-csi-rbd-provisioner",
                "snapshot.storage.kubernetes.io/deletion-secret-namespace": csi::NAMESPACE,
            },
            "finalizers": [CONTENT_PROTECTION],
        },
        "spec": {
            "deletionPolicy": "Delete", "driver": driver, "sourceVolumeMode": "Filesystem",
            "source": {"volumeHandle": csi_handle(text(pvc, "/metadata/uid"))},
            "volumeSnapshotClassName": text(snapshot, "/spec/volumeSnapshotClassName"),
            "volumeSnapshotRef": {
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                "name": text(snapshot, "/metadata/name"),
                "namespace": text(snapshot, "/metadata/namespace"),
                "uid": text(snapshot, "/metadata/uid"),
            },
        },
    })
}

/// Takes the snapshot, unless the driver hangs.
fn take_snapshot(world: &mut World, key: &Key, snapshot: &Value, content: &Key) {
    let Some((_, pod)) = csi::leader(world, Sidecar::Snapshotter) else { return };
    if world.csi.ceph_down {
        return;
    }
    let call = format!("snapshot-{}", text(snapshot, "/metadata/uid"));
    world.update(content, |content| set(content, &["metadata", "annotations", CREATING], "yes"));
    if world.csi.is_blocked(&pod) {
        lock::hang_call(world, Sidecar::Snapshotter, &call);
        return;
    }
    let (time, size) = (world.now, source_size(world, key, snapshot));
    let uid = text(snapshot, "/metadata/uid");
    world.update(content, |content| {
        unset(content, &["metadata", "annotations", CREATING]);
        let status = json!({
            "readyToUse": true, "snapshotHandle": csi_handle(uid),
            "creationTime": time.as_second() * 1_000_000_000,
        });
        set(content, &["status"], status);
    });
    world.update(key, |snapshot| {
        set(snapshot, &["status", "readyToUse"], true);
        set(snapshot, &["status", "creationTime"], seconds(time));
        set(snapshot, &["status", "restoreSize"], size);
        unset(snapshot, &["status", "error"]);
    });
    let source = text(snapshot, "/spec/source/persistentVolumeClaimName");
    world.schedule_once(
        super::WATCH_LATENCY,
        Task::Pvc(Key::new(kind::PVCS, &key.namespace, source)),
    );
}

fn source_size(world: &World, key: &Key, snapshot: &Value) -> String {
    let source = text(snapshot, "/spec/source/persistentVolumeClaimName");
    let pvc = world.get(&Key::new(kind::PVCS, &key.namespace, source));
    pvc.map_or_else(String::new, |pvc| text(&pvc, "/spec/resources/requests/storage").to_owned())
}

/// Deletes a snapshot after its content. The content is deleted only if no call for it is pending.
fn delete(world: &mut World, key: &Key, content: &Key) {
    if let Some(object) = world.get(content) {
        world
            .update(content, |content| set(content, &["metadata", "annotations", DELETING], "yes"));
        world.delete(content);
        let leader = csi::leader(world, Sidecar::Snapshotter).map(|(_, pod)| pod);
        let call = format!("snapshot-{}", content.name.trim_start_matches("snapcontent-"));
        let creating = annotation(&object, CREATING).is_some();
        let stuck = match &leader {
            None => true,
            Some(pod) => world.csi.is_blocked(pod) || (creating && world.csi.lock(&call).is_some()),
        };
        if stuck || world.csi.ceph_down {
            world.schedule_once(RETRY_DELAY, Task::Snapshot(key.clone()));
            return;
        }
        world.update(content, |content| remove_finalizers(content, is_snapshot_finalizer));
    }
    world.update(key, |snapshot| remove_finalizers(snapshot, is_snapshot_finalizer));
    // The source PVC may no longer be protected.
    for (pvc, _) in world.all(kind::PVCS) {
        if pvc.namespace == key.namespace {
            world.schedule_once(super::WATCH_LATENCY, Task::Pvc(pvc));
        }
    }
}

/// Returns whether a finalizer belongs to the snapshot controllers.
fn is_snapshot_finalizer(finalizer: &str) -> bool {
    finalizer.starts_with("snapshot.storage.kubernetes.io/")
}
