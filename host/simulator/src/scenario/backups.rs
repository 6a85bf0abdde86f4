//! The VolSync objects of a scenario: sources, destinations, their snapshots, and their mover PVCs.

use serde_json::{Value, json};

use super::apps::{STUCK_SINCE, apply_admission};
use super::base::{App, LONG_AGO};
use super::builder::Builder;
use super::flux::{self, kustomization};
use crate::actors::csi::Sidecar;
use crate::actors::{bind, content_for, mover_pvc, set_owner, snapshot_of, volume_for};
use crate::kind;
use crate::object::{add_finalizer, set, text};
use crate::random::hash_below;
use crate::store::Key;

/// Returns the restic settings of an app's mover.
pub fn mover_spec(app: &App) -> Value {
    json!({
        "accessModes": ["ReadWriteOnce"], "cacheAccessModes": ["ReadWriteOnce"],
        "cacheCapacity": "2Gi", "cacheStorageClassName": "ceph-block", "copyMethod": "Snapshot",
        "moverSecurityContext": {"fsGroup": 1000, "runAsGroup": 1000, "runAsUser": 1000},
        "repository": format!("{}-volsync-secret", app.name), "storageClassName": "ceph-block",
        "volumeSnapshotClassName": "csi-ceph-blockpool",
    })
}

/// Returns an app's ReplicationSource as declared in Git.
pub fn replication_source(app: &App) -> Value {
    let name = app.replication.as_ref().unwrap_or(&app.name);
    let mut restic = mover_spec(app);
    restic["pruneIntervalDays"] = 14.into();
    restic["retain"] = json!({"daily": 7, "hourly": 24});
    json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
        "metadata": {"name": name, "namespace": app.namespace},
        "spec": {"sourcePVC": name, "trigger": {"schedule": schedule(app)}, "restic": restic},
    })
}

/// Returns an app's backup schedule, at night, so that no backup is due in the first hours of a
/// scenario.
pub fn schedule(app: &App) -> String {
    format!("{} 3 * * *", hash_below(&app.name, 60))
}

/// Places an app's ReplicationSource as applied by its owner.
pub fn place_replication_source(builder: &mut Builder, app: &App, status: Value) -> Value {
    let owner = if app.release { flux::place_release(builder, app) } else { kustomization(app) };
    builder.declare(&owner, replication_source(app), |source| set(source, &["status"], status))
}

/// Returns a list with the Synchronizing condition.
pub fn conditions(status: &str, reason: &str, message: &str, since: &str) -> Value {
    json!([{
        "type": "Synchronizing", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since,
    }])
}

/// Returns the status of a source that synced last night and is due next night.
pub fn idle_status(app: &App) -> Value {
    let minute = hash_below(&app.name, 60);
    let last = format!("2026-08-20T03:{minute:02}:52Z");
    json!({
        "conditions": conditions(
            "False",
            "WaitingForSchedule",
            "Waiting for next scheduled synchronization",
            &last,
        ),
        "lastSyncDuration": "52.118211907s", "lastSyncTime": last,
        "nextSyncTime": format!("2026-08-21T03:{minute:02}:00Z"),
        "latestMoverStatus": {
            "result": "Successful", "logs": "snapshot 1a2b3c4d saved\nRestic completed in 41s",
        },
        "restic": {"lastPruned": "2026-08-12T00:03:02Z"},
    })
}

/// Returns the status of a source that reports an error since its PVC was deleted.
pub fn missing_pvc_status(app: &App) -> Value {
    let name = app.replication.as_ref().unwrap_or(&app.name);
    let message = format!("PersistentVolumeClaim \"{name}\" not found");
    json!({
        "conditions": conditions("False", "Error", &message, "2026-08-18T12:00:00Z"),
        "lastSyncDuration": "58.02s", "lastSyncStartTime": "2026-08-18T12:00:00Z",
        "lastSyncTime": "2026-08-17T12:00:58Z", "nextSyncTime": "2026-08-18T12:00:00Z",
        "restic": {},
        "latestMoverStatus": {"result": "Successful", "logs": "Restic completed in 12s"},
    })
}

/// Returns the status of a source whose sync hangs since the driver locked.
pub fn syncing_status(app: &App) -> Value {
    let mut status = idle_status(app);
    status["conditions"] =
        conditions("True", "SyncInProgress", "Synchronization in-progress", STUCK_SINCE);
    status["lastSyncStartTime"] = STUCK_SINCE.into();
    status["nextSyncTime"] = STUCK_SINCE.into();
    status
}

/// Places the bound snapshot of a PVC. If it is `ready`, also places its content.
pub fn place_snapshot(builder: &mut Builder, owner: &Value, pvc: &Value, ready: bool) -> Value {
    let name = format!("volsync-{}-src", text(owner, "/metadata/name"));
    place_named_snapshot(builder, owner, pvc, &name, ready)
}

/// Like `place_snapshot`, with a given name.
pub fn place_named_snapshot(
    builder: &mut Builder,
    owner: &Value,
    pvc: &Value,
    name: &str,
    ready: bool,
) -> Value {
    let uid = builder.world.random.uid();
    let mut object = snapshot_of(owner, text(pvc, "/metadata/name"));
    set_owner(&mut object, owner, name);
    set(&mut object, &["apiVersion"], "snapshot.storage.k8s.io/v1");
    set(&mut object, &["kind"], "VolumeSnapshot");
    set(&mut object, &["metadata", "uid"], uid.clone());
    set(&mut object, &["metadata", "creationTimestamp"], STUCK_SINCE);
    for protection in ["as-source", "bound"] {
        add_finalizer(
            &mut object,
            &format!("snapshot.storage.kubernetes.io/volumesnapshot-{protection}-protection"),
        );
    }
    let mut status = json!({
        "boundVolumeSnapshotContentName": format!("snapcontent-{uid}"), "readyToUse": ready,
    });
    if ready {
        status["creationTime"] = STUCK_SINCE.into();
        status["restoreSize"] = pvc["spec"]["resources"]["requests"]["storage"].clone();
    }
    set(&mut object, &["status"], status);
    let object = builder.place(object);
    if ready {
        let mut content = content_for(builder.world, &object, pvc);
        let handle = format!("0001-0009-rook-ceph-0000000000000002-{uid}");
        set(&mut content, &["status"], json!({"readyToUse": true, "snapshotHandle": handle}));
        builder.place(content);
    }
    object
}

/// Places the content of a snapshot whose call hangs.
pub fn place_hanging_content(builder: &mut Builder, snapshot: &Value, pvc: &Value) {
    let handle = format!("0001-0009-rook-ceph-0000000000000002-{}", text(pvc, "/metadata/uid"));
    let uid = text(snapshot, "/metadata/uid");
    let reason = if builder.cluster.is_locked() {
        format!(
            "code = Aborted desc = \
             an operation with the given Volume ID snapshot-{uid} already exists"
        )
    } else {
        "code = DeadlineExceeded desc = context deadline exceeded".to_owned()
    };
    let error = json!({
        "time": "2026-08-20T09:57:30Z",
        "message": format!(
            "Failed to check and update snapshot content: failed to take snapshot of the volume \
             {handle}: \"rpc error: {reason}\""
        ),
    });
    let mut content = content_for(builder.world, snapshot, pvc);
    if builder.cluster.has_container(Sidecar::Snapshotter.container()) {
        set(
            &mut content,
            &[
                "metadata",
                "annotations",
                "snapshot.storage.kubernetes.io/volumesnapshot-being-created",
            ],
            "yes",
        );
        set(&mut content, &["status"], json!({"readyToUse": false, "error": error}));
        let key = Key::new(
            kind::SNAPSHOTS,
            text(snapshot, "/metadata/namespace"),
            text(snapshot, "/metadata/name"),
        );
        builder.world.update(&key, |snapshot| set(snapshot, &["status", "error"], error));
    }
    set(&mut content, &["metadata", "creationTimestamp"], STUCK_SINCE);
    builder.place(content);
}

/// Returns an app's ReplicationDestination as declared in Git.
pub fn replication_destination(app: &App) -> Value {
    let mut restic = mover_spec(app);
    restic["capacity"] = app.size.clone().into();
    restic["cleanupCachePVC"] = true.into();
    restic["cleanupTempPVC"] = true.into();
    json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination",
        "metadata": {
            "name": format!("{}-dst", app.name), "namespace": app.namespace,
            "labels": {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"},
        },
        "spec": {"trigger": {"manual": "restore-once"}, "restic": restic},
    })
}

/// Places a PVC that VolSync created for a mover.
pub fn place_mover_pvc(
    builder: &mut Builder,
    owner: &Value,
    name: &str,
    size: &str,
    snapshot: Option<&str>,
) -> Value {
    let mut pvc = mover_pvc(owner, size, snapshot);
    set_owner(&mut pvc, owner, name);
    set(&mut pvc, &["apiVersion"], "v1");
    set(&mut pvc, &["kind"], "PersistentVolumeClaim");
    set(&mut pvc, &["metadata", "creationTimestamp"], STUCK_SINCE);
    apply_admission(&mut pvc);
    builder.place(pvc)
}

/// Places the cache that is kept between syncs.
pub fn place_cache(builder: &mut Builder, source: &Value) {
    let name = format!("volsync-src-{}-cache", text(source, "/metadata/name"));
    let cache = place_mover_pvc(builder, source, &name, "2Gi", None);
    bind_new_volume(builder, &cache);
    let key = Key::new(kind::PVCS, text(source, "/metadata/namespace"), &name);
    builder.world.update(&key, |cache| set(cache, &["metadata", "creationTimestamp"], LONG_AGO));
}

/// Binds a placed PVC to a new volume.
pub fn bind_new_volume(builder: &mut Builder, pvc: &Value) {
    let volume = volume_for(builder.world, pvc, "Delete");
    let name = text(&volume, "/metadata/name").to_owned();
    builder.place(volume);
    let key = Key::new(kind::PVCS, text(pvc, "/metadata/namespace"), text(pvc, "/metadata/name"));
    builder.world.update(&key, |pvc| bind(pvc, &name));
}
