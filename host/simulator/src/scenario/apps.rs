//! The objects of each app, according to its state at 10:00.

use serde_json::{Value, json};

use super::backups::{
    bind_new_volume, conditions, idle_status, missing_pvc_status, place_cache,
    place_hanging_content, place_mover_pvc, place_named_snapshot, place_replication_source,
    place_snapshot, replication_destination, replication_source, syncing_status,
};
use super::base::App;
use super::builder::{Builder, Workload};
use super::cluster::AppState;
use super::flux::{self, kustomization};
use crate::actors::csi::{DRIVER, Sidecar};
use crate::actors::{
    AS_SOURCE_PROTECTION, bind, content_for, prime_pvc, set_owner, snapshot_of, volume_for,
};
use crate::kind;
use crate::object::{add_finalizer, set, text};
use crate::random::hash_below;
use crate::store::Key;

/// The time when the driver locked.
pub const STUCK_SINCE: &str = "2026-08-20T06:00:00Z";
const RECENT: &str = "2026-08-20T08:40:00Z";

/// Places the objects of an app.
pub fn place(builder: &mut Builder, app: &App) {
    if app.state != AppState::Absent {
        flux::add_kustomization(builder, app);
    }
    match app.state {
        AppState::Absent => {}
        AppState::Healthy => {
            place_bound_pvc(builder, app, false);
            place_running_workload(builder, app);
            let source = place_replication_source(builder, app, idle_status(app));
            place_cache(builder, &source);
        }
        AppState::Abandoned => place_abandoned(builder, app),
        AppState::MissingPvc => {
            let mut status = idle_status(app);
            if !app.suspended {
                status = missing_pvc_status(app);
            }
            place_replication_source(builder, app, status);
        }
        AppState::Terminating | AppState::TerminatingDelete => place_terminating(builder, app),
        AppState::PvcLocked => {
            let pvc = place_pending_pvc(builder, app, false);
            lock_pvc(builder, &pvc);
            place_pending_workload(builder, app);
            place_never_synced(builder, app);
        }
        AppState::PrimeLocked => {
            let image = place_restored(builder, app, true);
            let pvc = place_pending_pvc(builder, app, true);
            let prime = place_prime(builder, &pvc, &image);
            lock_pvc(builder, &prime);
            place_pending_workload(builder, app);
            place_never_synced(builder, app);
        }
        AppState::ImageLocked => {
            let image = place_restored(builder, app, false);
            let pvc = place_pending_pvc(builder, app, true);
            place_prime(builder, &pvc, &image);
            place_pending_workload(builder, app);
            place_never_synced(builder, app);
        }
        AppState::CloneLocked | AppState::CacheLocked => place_backing_up(builder, app),
        AppState::RestoreLocked => {
            place_restoring(builder, app);
            place_pending_pvc(builder, app, true);
            place_pending_workload(builder, app);
            place_never_synced(builder, app);
        }
        AppState::WaitsForConsumer => place_waiting_for_consumer(builder, app),
        AppState::SnapshotNotTaken => {
            let pvc = place_bound_pvc(builder, app, false);
            place_running_workload(builder, app);
            let source = place_replication_source(builder, app, syncing_status(app));
            place_cache(builder, &source);
            let snapshot = place_snapshot(builder, &source, &pvc, false);
            // The content has no status, because no sidecar has processed it.
            let mut content = content_for(builder.world, &snapshot, &pvc);
            set(&mut content, &["metadata", "creationTimestamp"], STUCK_SINCE);
            builder.place(content);
        }
    }
}

fn declared_pvc(app: &App, from_backup: bool) -> Value {
    let mut pvc = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": app.name, "namespace": app.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": app.size}},
            "storageClassName": "ceph-block", "volumeMode": "Filesystem",
        },
    });
    if from_backup {
        pvc["spec"]["dataSourceRef"] = json!({
            "apiGroup": "volsync.backube", "kind": "ReplicationDestination",
            "name": format!("{}-dst", app.name),
        });
    }
    pvc
}

/// Sets what the API server and the controllers add to every PVC of the driver.
pub fn apply_admission(pvc: &mut Value) {
    add_finalizer(pvc, "kubernetes.io/pvc-protection");
    for annotation in [
        "volume.beta.kubernetes.io/storage-provisioner",
        "volume.kubernetes.io/storage-provisioner",
    ] {
        set(pvc, &["metadata", "annotations", annotation], DRIVER);
    }
    if let Some(source) = pvc.pointer("/spec/dataSourceRef").cloned() {
        set(pvc, &["spec", "dataSource"], source);
    }
    if pvc.get("status").is_none() {
        set(pvc, &["status"], json!({"phase": "Pending"}));
    }
}

fn place_bound_pvc(builder: &mut Builder, app: &App, from_backup: bool) -> Value {
    let uid = builder.world.random.uid();
    let pvc = builder.declare(&kustomization(app), declared_pvc(app, from_backup), |pvc| {
        apply_admission(pvc);
        set(pvc, &["metadata", "uid"], uid.clone());
        bind(pvc, &format!("pvc-{uid}"));
    });
    builder.place(volume_for(builder.world, &pvc, "Delete"));
    pvc
}

fn place_pending_pvc(builder: &mut Builder, app: &App, from_backup: bool) -> Value {
    builder.declare(&kustomization(app), declared_pvc(app, from_backup), |pvc| {
        apply_admission(pvc);
        set(pvc, &["metadata", "creationTimestamp"], RECENT);
    })
}

/// Adds an operation lock for a PVC, if the incident has locks.
fn lock_pvc(builder: &mut Builder, pvc: &Value) {
    if builder.cluster.is_locked() {
        builder.locked.push((format!("pvc-{}", text(pvc, "/metadata/uid")), Sidecar::Provisioner));
    }
}

/// Adds an operation lock for a snapshot, if the incident has locks.
fn lock_snapshot(builder: &mut Builder, snapshot: &Value) {
    if builder.cluster.is_locked() {
        builder
            .locked
            .push((format!("snapshot-{}", text(snapshot, "/metadata/uid")), Sidecar::Snapshotter));
    }
}

fn workload(app: &App, replicas: usize, pending: bool) -> Workload {
    let hash = format!("{:09x}", hash_below(&app.name, 0xf_ffff_ffff));
    Workload {
        namespace: app.namespace.clone(),
        name: app.name.clone(),
        containers: vec!["app".to_owned()],
        hash,
        pods: vec!["b7k4x".to_owned(); replicas],
        pvc: Some(app.name.clone()),
        pending,
        ..Workload::default()
    }
}

fn place_running_workload(builder: &mut Builder, app: &App) {
    builder.workload(&workload(app, 1, false));
}

fn place_pending_workload(builder: &mut Builder, app: &App) {
    builder.workload(&workload(app, 1, true));
}

/// Places a ReplicationSource whose PVC was never bound, so that its snapshot cannot be taken.
fn place_never_synced(builder: &mut Builder, app: &App) {
    let status = json!({
        "conditions": conditions("True", "SyncInProgress", "Synchronization in-progress", RECENT),
        "lastSyncStartTime": RECENT,
    });
    let source = place_replication_source(builder, app, status);
    let pvc = text(&source, "/spec/sourcePVC").to_owned();
    let mut snapshot = snapshot_of(&source, &pvc);
    set_owner(&mut snapshot, &source, &format!("volsync-{}-src", text(&source, "/metadata/name")));
    set(&mut snapshot, &["apiVersion"], "snapshot.storage.k8s.io/v1");
    set(&mut snapshot, &["kind"], "VolumeSnapshot");
    set(&mut snapshot, &["metadata", "creationTimestamp"], RECENT);
    let message = format!(
        "Failed to create snapshot content with error the PVC {pvc} is not yet bound to a PV, \
         will not attempt to take a snapshot"
    );
    set(
        &mut snapshot,
        &["status"],
        json!({"readyToUse": false, "error": {"time": RECENT, "message": message}}),
    );
    builder.place(snapshot);
    let key = Key::new(kind::PVCS, &app.namespace, &pvc);
    builder.world.update(&key, |pvc| add_finalizer(pvc, AS_SOURCE_PROTECTION));
}

fn place_abandoned(builder: &mut Builder, app: &App) {
    let mut source = replication_source(app);
    // Its Kustomization no longer declares it, and was told not to prune it.
    set(&mut source, &["metadata", "annotations", "kustomize.toolkit.fluxcd.io/prune"], "disabled");
    set(&mut source, &["metadata", "labels", "kustomize.toolkit.fluxcd.io/name"], app.name.clone());
    set(
        &mut source,
        &["metadata", "labels", "kustomize.toolkit.fluxcd.io/namespace"],
        app.namespace.clone(),
    );
    builder.apply(&source, "kustomize-controller", |source| {
        set(source, &["status"], missing_pvc_status(app))
    });
}

fn place_terminating(builder: &mut Builder, app: &App) {
    place_restored(builder, app, true);
    let pvc = place_bound_pvc(builder, app, true);
    let key = Key::new(kind::PVCS, &app.namespace, &app.name);
    builder.world.update(&key, |pvc| {
        set(pvc, &["metadata", "deletionTimestamp"], "2026-08-20T06:01:10Z");
        set(pvc, &["metadata", "deletionGracePeriodSeconds"], 0);
        add_finalizer(pvc, AS_SOURCE_PROTECTION);
    });
    let policy = if app.state == AppState::TerminatingDelete { "Delete" } else { "Retain" };
    let volume = Key::new(kind::VOLUMES, "", text(&pvc, "/spec/volumeName"));
    builder
        .world
        .update(&volume, |volume| set(volume, &["spec", "persistentVolumeReclaimPolicy"], policy));
    let source = place_replication_source(builder, app, syncing_status(app));
    place_cache(builder, &source);
    let snapshot = place_snapshot(builder, &source, &pvc, false);
    place_hanging_content(builder, &snapshot, &pvc);
    lock_snapshot(builder, &snapshot);
}

/// Places a finished ReplicationDestination and its image, and returns the name of the image.
fn place_restored(builder: &mut Builder, app: &App, ready: bool) -> String {
    const RESTORED: &str = "2026-08-20T08:55:02Z";
    let image = format!("volsync-{}-dst-dest-20260820085502", app.name);
    let status = json!({
        "conditions":
            conditions("False", "WaitingForManual", "Waiting for manual trigger", RESTORED),
        "lastManualSync": "restore-once", "lastSyncDuration": "4m57.2s", "lastSyncTime": RESTORED,
        "latestImage": {
            "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": image,
        },
    });
    let destination =
        builder.declare(&kustomization(app), replication_destination(app), |object| {
            set(object, &["status"], status)
        });
    // VolSync has already deleted the PVC that the snapshot was taken of.
    let snapshot_source = json!({
        "metadata": {
            "name": format!("volsync-{}-dst-dest", app.name), "uid": builder.world.random.uid(),
        },
        "spec": {"resources": {"requests": {"storage": app.size}}},
    });
    let snapshot = place_named_snapshot(builder, &destination, &snapshot_source, &image, ready);
    if !ready {
        place_hanging_content(builder, &snapshot, &snapshot_source);
        lock_snapshot(builder, &snapshot);
    }
    image
}

fn place_prime(builder: &mut Builder, pvc: &Value, image: &str) -> Value {
    let name = format!("vs-prime-{}", text(pvc, "/metadata/uid"));
    let mut prime = prime_pvc(pvc, &name, image);
    apply_admission(&mut prime);
    set(&mut prime, &["metadata", "creationTimestamp"], "2026-08-20T08:55:03Z");
    builder.place(prime)
}

/// Places a running backup whose clone or cache is locked.
fn place_backing_up(builder: &mut Builder, app: &App) {
    let pvc = place_bound_pvc(builder, app, false);
    place_running_workload(builder, app);
    let source = place_replication_source(builder, app, syncing_status(app));
    place_snapshot(builder, &source, &pvc, true);
    let data = format!("volsync-{}-src", app.name);
    let clone = place_mover_pvc(builder, &source, &data, &app.size, Some(&data));
    if app.state == AppState::CloneLocked {
        place_cache(builder, &source);
        lock_pvc(builder, &clone);
        return;
    }
    bind_new_volume(builder, &clone);
    let cache =
        place_mover_pvc(builder, &source, &format!("volsync-src-{}-cache", app.name), "2Gi", None);
    lock_pvc(builder, &cache);
}

/// Places a running restore whose cache is locked.
fn place_restoring(builder: &mut Builder, app: &App) {
    let status = json!({
        "conditions": conditions("True", "SyncInProgress", "Synchronization in-progress", RECENT),
        "lastSyncStartTime": RECENT,
    });
    let destination =
        builder.declare(&kustomization(app), replication_destination(app), |object| {
            set(object, &["metadata", "creationTimestamp"], RECENT);
            set(object, &["status"], status);
        });
    let cache = place_mover_pvc(
        builder,
        &destination,
        &format!("volsync-dst-{}-dst-cache", app.name),
        "2Gi",
        None,
    );
    lock_pvc(builder, &cache);
}

fn place_waiting_for_consumer(builder: &mut Builder, app: &App) {
    let mut declared = declared_pvc(app, false);
    declared["spec"]["storageClassName"] = "openebs-hostpath".into();
    let pvc = builder.declare(&kustomization(app), declared, |pvc| {
        add_finalizer(pvc, "kubernetes.io/pvc-protection");
        set(pvc, &["metadata", "creationTimestamp"], "2026-08-20T09:30:00Z");
        set(pvc, &["status"], json!({"phase": "Pending"}));
    });
    builder.place(json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{}.17d4a0c2f1e00001", app.name), "namespace": app.namespace},
        "involvedObject": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": app.name,
            "namespace": app.namespace, "uid": text(&pvc, "/metadata/uid"),
        },
        "type": "Normal", "reason": "WaitForFirstConsumer", "count": 120,
        "message": "waiting for first consumer to be created before binding",
        "firstTimestamp": "2026-08-20T09:30:00Z", "lastTimestamp": "2026-08-20T09:59:45Z",
        "source": {"component": "persistentvolume-controller"},
    }));
}
