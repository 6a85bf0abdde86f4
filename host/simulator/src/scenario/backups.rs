//! The VolSync objects of the scene: sources, destinations, their snapshots and the claims of their movers.

use serde_json::{Value, json};

use super::builder::Builder;
use super::flux::{self, owner};
use super::stories::{STUCK_SINCE, admitted};
use super::{App, LONG_AGO};
use crate::actors::{bind, content_of, owned_by, volsync_claim, volsync_snapshot, volume_of};
use crate::incident::Incident;
use crate::kind;
use crate::object::{add_finalizer, set, text};
use crate::random::spread;
use crate::store::Key;

/// The settings of a mover for an app.
pub fn mover(app: &App) -> Value {
    json!({
        "accessModes": ["ReadWriteOnce"], "cacheAccessModes": ["ReadWriteOnce"], "cacheCapacity": "2Gi",
        "cacheStorageClassName": "ceph-block", "copyMethod": "Snapshot",
        "moverSecurityContext": {"fsGroup": 1000, "runAsGroup": 1000, "runAsUser": 1000},
        "repository": format!("{}-volsync-secret", app.name), "storageClassName": "ceph-block",
        "volumeSnapshotClassName": "csi-ceph-blockpool",
    })
}

/// An app's ReplicationSource, as Git declares it.
pub fn replication_of(app: &App) -> Value {
    let name = app.replication.as_ref().unwrap_or(&app.name);
    let mut restic = mover(app);
    restic["pruneIntervalDays"] = 14.into();
    restic["retain"] = json!({"daily": 7, "hourly": 24});
    json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
        "metadata": {"name": name, "namespace": app.namespace},
        "spec": {"sourcePVC": name, "trigger": {"schedule": schedule(app)}, "restic": restic},
    })
}

/// Schedules are spread over the night, so that a scene of some hours sees none of them.
pub fn schedule(app: &App) -> String {
    format!("{} 3 * * *", spread(&app.name, 60))
}

/// Places an app's ReplicationSource as its owner applied it.
pub fn replication(builder: &mut Builder, app: &App, status: Value) -> Value {
    let owner = if app.release { flux::release(builder, app) } else { owner(app) };
    builder.declare(&owner, replication_of(app), |source| set(source, &["status"], status))
}

/// The one condition that VolSync has.
pub fn condition(status: &str, reason: &str, message: &str, since: &str) -> Value {
    json!([{"type": "Synchronizing", "status": status, "reason": reason, "message": message, "lastTransitionTime": since}])
}

/// Synced last night, and due the next.
pub fn idle(app: &App) -> Value {
    let minute = spread(&app.name, 60);
    let last = format!("2026-08-20T03:{minute:02}:52Z");
    json!({
        "conditions": condition("False", "WaitingForSchedule", "Waiting for next scheduled synchronization", &last),
        "lastSyncDuration": "52.118211907s", "lastSyncTime": last, "nextSyncTime": format!("2026-08-21T03:{minute:02}:00Z"),
        "latestMoverStatus": {"result": "Successful", "logs": "snapshot 1a2b3c4d saved\nRestic completed in 41s"},
        "restic": {"lastPruned": "2026-08-12T00:03:02Z"},
    })
}

/// In error since the claim went away.
pub fn missing(app: &App) -> Value {
    let name = app.replication.as_ref().unwrap_or(&app.name);
    let message = format!("PersistentVolumeClaim \"{name}\" not found");
    json!({
        "conditions": condition("False", "Error", &message, "2026-08-18T12:00:00Z"),
        "lastSyncDuration": "58.02s", "lastSyncStartTime": "2026-08-18T12:00:00Z", "lastSyncTime": "2026-08-17T12:00:58Z",
        "nextSyncTime": "2026-08-18T12:00:00Z", "restic": {},
        "latestMoverStatus": {"result": "Successful", "logs": "Restic completed in 12s"},
    })
}

/// In progress since the jam began, after many good syncs.
pub fn syncing(app: &App) -> Value {
    let mut status = idle(app);
    status["conditions"] =
        condition("True", "SyncInProgress", "Synchronization in-progress", STUCK_SINCE);
    status["lastSyncStartTime"] = STUCK_SINCE.into();
    status["nextSyncTime"] = STUCK_SINCE.into();
    status
}

/// The snapshot of a claim, bound, and ready or not; its content is placed where it is ready.
pub fn snapshot(builder: &mut Builder, owner: &Value, pvc: &Value, ready: bool) -> Value {
    let name = format!("volsync-{}-src", text(owner, "/metadata/name"));
    named_snapshot(builder, owner, pvc, &name, ready)
}

/// The same, under another name.
pub fn named_snapshot(
    builder: &mut Builder,
    owner: &Value,
    pvc: &Value,
    name: &str,
    ready: bool,
) -> Value {
    let uid = builder.world.random.uid();
    let mut object = volsync_snapshot(owner, text(pvc, "/metadata/name"));
    owned_by(&mut object, owner, name);
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
    let mut status = json!({"boundVolumeSnapshotContentName": format!("snapcontent-{uid}"), "readyToUse": ready});
    if ready {
        status["creationTime"] = STUCK_SINCE.into();
        status["restoreSize"] = pvc["spec"]["resources"]["requests"]["storage"].clone();
    }
    set(&mut object, &["status"], status);
    let object = builder.place(object);
    if ready {
        let mut content = content_of(&object, pvc);
        let handle = format!("0001-0009-rook-ceph-0000000000000002-{uid}");
        set(&mut content, &["status"], json!({"readyToUse": true, "snapshotHandle": handle}));
        builder.place(content);
    }
    object
}

/// The content of a snapshot whose call hangs.
pub fn hanging_content(builder: &mut Builder, snapshot: &Value, pvc: &Value) {
    let handle = format!("0001-0009-rook-ceph-0000000000000002-{}", text(pvc, "/metadata/uid"));
    let uid = text(snapshot, "/metadata/uid");
    let reason = if builder.world.incident.is_locked() {
        format!(
            "code = Aborted desc = an operation with the given Volume ID snapshot-{uid} already exists"
        )
    } else {
        "code = DeadlineExceeded desc = context deadline exceeded".to_owned()
    };
    let error = json!({
        "time": "2026-08-20T09:57:30Z",
        "message": format!("Failed to check and update snapshot content: failed to take snapshot of the volume {handle}: \"rpc error: {reason}\""),
    });
    let mut content = content_of(snapshot, pvc);
    if builder.world.incident != Incident::MissingSnapshotter {
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
        builder.world.amend(&key, |snapshot| set(snapshot, &["status", "error"], error));
    }
    set(&mut content, &["metadata", "creationTimestamp"], STUCK_SINCE);
    builder.place(content);
}

/// An app's ReplicationDestination, as Git declares it.
pub fn destination(app: &App) -> Value {
    let mut restic = mover(app);
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

/// A claim that VolSync made for a mover.
pub fn mover_claim(
    builder: &mut Builder,
    owner: &Value,
    name: &str,
    size: &str,
    snapshot: Option<&str>,
) -> Value {
    let mut pvc = volsync_claim(owner, size, snapshot);
    owned_by(&mut pvc, owner, name);
    set(&mut pvc, &["apiVersion"], "v1");
    set(&mut pvc, &["kind"], "PersistentVolumeClaim");
    set(&mut pvc, &["metadata", "creationTimestamp"], STUCK_SINCE);
    admitted(&mut pvc);
    builder.place(pvc)
}

/// The cache of earlier syncs, which outlives them.
pub fn kept_cache(builder: &mut Builder, source: &Value) {
    let name = format!("volsync-src-{}-cache", text(source, "/metadata/name"));
    let cache = mover_claim(builder, source, &name, "2Gi", None);
    provide(builder, &cache);
    let key = Key::new(kind::CLAIMS, text(source, "/metadata/namespace"), &name);
    builder.world.amend(&key, |cache| set(cache, &["metadata", "creationTimestamp"], LONG_AGO));
}

/// Binds a placed claim to a volume of its own.
pub fn provide(builder: &mut Builder, pvc: &Value) {
    let volume = volume_of(pvc, "Delete");
    let name = text(&volume, "/metadata/name").to_owned();
    builder.place(volume);
    let key = Key::new(kind::CLAIMS, text(pvc, "/metadata/namespace"), text(pvc, "/metadata/name"));
    builder.world.amend(&key, |pvc| bind(pvc, &name));
}
