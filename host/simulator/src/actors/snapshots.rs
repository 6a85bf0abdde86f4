//! The snapshot controller and csi-snapshotter: bind a VolumeSnapshot to its content, take the snapshot, and take both
//! away again. A content that is being created is not deleted until its call has ended.

use std::time::Duration;

use serde_json::{Value, json};

use super::csi::{self, DRIVER, Sidecar};
use super::provision::handle;
use super::{Wake, lock, pvcs};
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
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Takes one step for a VolumeSnapshot.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(snapshot) = world.get(key) else { return };
    let content =
        Key::new(kind::CONTENTS, "", &format!("snapcontent-{}", text(&snapshot, "/metadata/uid")));
    if is_terminating(&snapshot) {
        delete(world, key, &content);
    } else if world.get(&content).is_none() {
        bind(world, key, &snapshot, &content);
    } else if snapshot.pointer("/status/readyToUse") != Some(&Value::Bool(true)) {
        take(world, key, &snapshot, &content);
    }
}

/// Makes the content of a snapshot, if its source can be one.
fn bind(world: &mut World, key: &Key, snapshot: &Value, content: &Key) {
    let source = text(snapshot, "/spec/source/persistentVolumeClaimName").to_owned();
    let claim_key = Key::new(kind::CLAIMS, &key.namespace, &source);
    let pvc = world.get(&claim_key);
    let why = match &pvc {
        None => format!(
            "Failed to create snapshot content with error snapshot controller failed to update {} on API server: cannot get claim from snapshot",
            key.name
        ),
        Some(pvc) if is_terminating(pvc) => {
            format!(
                "Failed to create snapshot content with error cannot add finalizer on claim [{source}] for snapshot [{}]: claim is being deleted",
                key.name
            )
        }
        Some(pvc) if text(pvc, "/status/phase") != "Bound" => {
            format!(
                "Failed to create snapshot content with error the PVC {source} is not yet bound to a PV, will not attempt to take a snapshot"
            )
        }
        Some(_) => String::new(),
    };
    if !why.is_empty() {
        let now = seconds(world.now);
        if text(snapshot, "/status/error/message") != why {
            world.amend(key, |snapshot| {
                set(
                    snapshot,
                    &["status"],
                    json!({"readyToUse": false, "error": {"time": now, "message": why}}),
                )
            });
        }
        if pvc.is_some_and(|pvc| !is_terminating(&pvc)) {
            world.amend(&claim_key, |pvc| add_finalizer(pvc, pvcs::AS_SOURCE));
        }
        return;
    }
    let Some(pvc) = pvc else { return };
    world.amend(&claim_key, |pvc| add_finalizer(pvc, pvcs::AS_SOURCE));
    world.create(kind::CONTENTS, content_of(snapshot, &pvc));
    world.amend(key, |snapshot| {
        add_finalizer(snapshot, SOURCE_PROTECTION);
        add_finalizer(snapshot, BOUND_PROTECTION);
        set(
            snapshot,
            &["status"],
            json!({"boundVolumeSnapshotContentName": content.name, "readyToUse": false}),
        );
    });
    world.wake_once(Duration::from_secs(1), Wake::Snapshot(key.clone()));
}

/// The content that is bound to a snapshot of a claim.
pub fn content_of(snapshot: &Value, pvc: &Value) -> Value {
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
            "deletionPolicy": "Delete", "driver": DRIVER, "sourceVolumeMode": "Filesystem",
            "source": {"volumeHandle": handle(text(pvc, "/metadata/uid"))},
            "volumeSnapshotClassName": text(snapshot, "/spec/volumeSnapshotClassName"),
            "volumeSnapshotRef": {
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "name": text(snapshot, "/metadata/name"),
                "namespace": text(snapshot, "/metadata/namespace"), "uid": text(snapshot, "/metadata/uid"),
            },
        },
    })
}

/// Takes the snapshot, if the sidecar works.
fn take(world: &mut World, key: &Key, snapshot: &Value, content: &Key) {
    let Some((_, pod)) = csi::leader(world, Sidecar::Snapshotter) else { return };
    if world.csi.ceph_down {
        return;
    }
    let call = format!("snapshot-{}", text(snapshot, "/metadata/uid"));
    world.amend(content, |content| set(content, &["metadata", "annotations", CREATING], "yes"));
    if world.csi.is_jammed(&pod) {
        lock::hang(world, Sidecar::Snapshotter, &call);
        return;
    }
    let (time, size) = (world.now, source_size(world, key, snapshot));
    let uid = text(snapshot, "/metadata/uid");
    world.amend(content, |content| {
        unset(content, &["metadata", "annotations", CREATING]);
        let status = json!({
            "readyToUse": true, "snapshotHandle": handle(uid), "creationTime": time.as_second() * 1_000_000_000,
        });
        set(content, &["status"], status);
    });
    world.amend(key, |snapshot| {
        set(snapshot, &["status", "readyToUse"], true);
        set(snapshot, &["status", "creationTime"], seconds(time));
        set(snapshot, &["status", "restoreSize"], size);
        unset(snapshot, &["status", "error"]);
    });
    let source = text(snapshot, "/spec/source/persistentVolumeClaimName");
    world.wake_once(super::NOTICE, Wake::Pvc(Key::new(kind::CLAIMS, &key.namespace, source)));
}

fn source_size(world: &World, key: &Key, snapshot: &Value) -> String {
    let source = text(snapshot, "/spec/source/persistentVolumeClaimName");
    let pvc = world.get(&Key::new(kind::CLAIMS, &key.namespace, source));
    pvc.map_or_else(String::new, |pvc| text(&pvc, "/spec/resources/requests/storage").to_owned())
}

/// Takes a snapshot away: its content first, and that only when no call for it is under way.
fn delete(world: &mut World, key: &Key, content: &Key) {
    if let Some(object) = world.get(content) {
        world.amend(content, |content| set(content, &["metadata", "annotations", DELETING], "yes"));
        world.delete(content);
        let leader = csi::leader(world, Sidecar::Snapshotter).map(|(_, pod)| pod);
        let call = format!("snapshot-{}", content.name.trim_start_matches("snapcontent-"));
        let creating = annotation(&object, CREATING).is_some();
        let stuck = match &leader {
            None => true,
            Some(pod) => world.csi.is_jammed(pod) || (creating && world.csi.lock(&call).is_some()),
        };
        if stuck || world.csi.ceph_down {
            world.wake_once(LOOK_AGAIN, Wake::Snapshot(key.clone()));
            return;
        }
        world.amend(content, |content| remove_finalizers(content, is_ours));
    }
    world.amend(key, |snapshot| remove_finalizers(snapshot, is_ours));
    // Gone now: the claim that was snapped may be free.
    for (pvc, _) in world.all(kind::CLAIMS) {
        if pvc.namespace == key.namespace {
            world.wake_once(super::NOTICE, Wake::Pvc(pvc));
        }
    }
}

/// A finalizer of the snapshot controllers: they leave those of others alone.
fn is_ours(finalizer: &str) -> bool {
    finalizer.starts_with("snapshot.storage.kubernetes.io/")
}
