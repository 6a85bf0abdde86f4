//! What has become of each app by 10:00, told in objects.

use serde_json::{Value, json};

use super::backups::{
    condition, destination, hanging_content, idle, kept_cache, missing, mover_claim,
    named_snapshot, provide, replication, replication_of, snapshot, syncing,
};
use super::builder::{Builder, Workload};
use super::flux::{self, owner};
use super::{App, Story};
use crate::actors::csi::{DRIVER, Sidecar};
use crate::actors::{
    AS_SOURCE, bind, content_of, owned_by, prime_claim, volsync_snapshot, volume_of,
};
use crate::incident::Incident;
use crate::kind;
use crate::object::{add_finalizer, set, text};
use crate::random::spread;
use crate::store::Key;

/// When the driver jammed.
pub const STUCK_SINCE: &str = "2026-08-20T06:00:00Z";
const RECENT: &str = "2026-08-20T08:40:00Z";

/// Places the objects of an app.
pub fn tell(builder: &mut Builder, app: &App) {
    if app.story != Story::Abandoned {
        flux::note(builder, app);
    }
    match app.story {
        Story::Healthy => {
            bound_claim(builder, app, false);
            running(builder, app);
            let source = replication(builder, app, idle(app));
            kept_cache(builder, &source);
        }
        Story::Abandoned => abandoned(builder, app),
        Story::UndeclaredClaim => {
            let mut status = idle(app);
            if !app.suspended {
                status = missing(app);
            }
            replication(builder, app, status);
        }
        Story::Terminating => terminating(builder, app),
        Story::ClaimLocked => {
            let pvc = pending_claim(builder, app, false);
            locked(builder, &pvc);
            waiting(builder, app);
            never_synced(builder, app);
        }
        Story::PrimeLocked => {
            let image = restored(builder, app, true);
            let pvc = pending_claim(builder, app, true);
            let prime = prime(builder, &pvc, &image);
            locked(builder, &prime);
            waiting(builder, app);
            never_synced(builder, app);
        }
        Story::ImageLocked => {
            let image = restored(builder, app, false);
            let pvc = pending_claim(builder, app, true);
            prime(builder, &pvc, &image);
            waiting(builder, app);
            never_synced(builder, app);
        }
        Story::CloneLocked | Story::CacheLocked => backing_up(builder, app),
        Story::RestoreLocked => {
            restoring(builder, app);
            pending_claim(builder, app, true);
            waiting(builder, app);
            never_synced(builder, app);
        }
        Story::WaitsForConsumer => waits_for_consumer(builder, app),
        Story::Untaken => {
            let pvc = bound_claim(builder, app, false);
            running(builder, app);
            let source = replication(builder, app, syncing(app));
            kept_cache(builder, &source);
            let snapshot = snapshot(builder, &source, &pvc, false);
            // A content without status: no sidecar has ever looked at it.
            let mut content = content_of(&snapshot, &pvc);
            set(&mut content, &["metadata", "creationTimestamp"], STUCK_SINCE);
            builder.place(content);
        }
    }
}

fn pvc(app: &App, restorable: bool) -> Value {
    let mut pvc = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": app.name, "namespace": app.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": app.size}},
            "storageClassName": "ceph-block", "volumeMode": "Filesystem",
        },
    });
    if restorable {
        pvc["spec"]["dataSourceRef"] = json!({
            "apiGroup": "volsync.backube", "kind": "ReplicationDestination", "name": format!("{}-dst", app.name),
        });
    }
    pvc
}

/// What the API server and the controllers add to every claim of the driver.
pub fn admitted(pvc: &mut Value) {
    add_finalizer(pvc, "kubernetes.io/pvc-protection");
    for mark in [
        "volume.beta.kubernetes.io/storage-provisioner",
        "volume.kubernetes.io/storage-provisioner",
    ] {
        set(pvc, &["metadata", "annotations", mark], DRIVER);
    }
    if let Some(source) = pvc.pointer("/spec/dataSourceRef").cloned() {
        set(pvc, &["spec", "dataSource"], source);
    }
    if pvc.get("status").is_none() {
        set(pvc, &["status"], json!({"phase": "Pending"}));
    }
}

fn bound_claim(builder: &mut Builder, app: &App, restorable: bool) -> Value {
    let uid = builder.world.random.uid();
    let pvc = builder.declare(&owner(app), pvc(app, restorable), |pvc| {
        admitted(pvc);
        set(pvc, &["metadata", "uid"], uid.clone());
        bind(pvc, &format!("pvc-{uid}"));
    });
    builder.place(volume_of(&pvc, "Delete"));
    pvc
}

fn pending_claim(builder: &mut Builder, app: &App, restorable: bool) -> Value {
    builder.declare(&owner(app), pvc(app, restorable), |pvc| {
        admitted(pvc);
        set(pvc, &["metadata", "creationTimestamp"], RECENT);
    })
}

/// Notes that the driver refuses calls for a claim.
fn locked(builder: &mut Builder, pvc: &Value) {
    if builder.world.incident.is_locked() {
        builder.locked.push((format!("pvc-{}", text(pvc, "/metadata/uid")), Sidecar::Provisioner));
    }
}

/// Notes that the driver refuses calls for a snapshot.
fn locked_snapshot(builder: &mut Builder, snapshot: &Value) {
    if builder.world.incident.is_locked() {
        builder
            .locked
            .push((format!("snapshot-{}", text(snapshot, "/metadata/uid")), Sidecar::Snapshotter));
    }
}

fn workload(app: &App, replicas: usize, pending: bool) -> Workload {
    let hash = format!("{:09x}", spread(&app.name, 0xf_ffff_ffff));
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

fn running(builder: &mut Builder, app: &App) {
    builder.workload(&workload(app, 1, false));
}

fn waiting(builder: &mut Builder, app: &App) {
    builder.workload(&workload(app, 1, true));
}

/// A source whose claim was never bound: its snapshot cannot be taken.
fn never_synced(builder: &mut Builder, app: &App) {
    let status = json!({
        "conditions": condition("True", "SyncInProgress", "Synchronization in-progress", RECENT), "lastSyncStartTime": RECENT,
    });
    let source = replication(builder, app, status);
    let pvc = text(&source, "/spec/sourcePVC").to_owned();
    let mut snapshot = volsync_snapshot(&source, &pvc);
    owned_by(&mut snapshot, &source, &format!("volsync-{}-src", text(&source, "/metadata/name")));
    set(&mut snapshot, &["apiVersion"], "snapshot.storage.k8s.io/v1");
    set(&mut snapshot, &["kind"], "VolumeSnapshot");
    set(&mut snapshot, &["metadata", "creationTimestamp"], RECENT);
    let message = format!(
        "Failed to create snapshot content with error the PVC {pvc} is not yet bound to a PV, will not attempt to take a snapshot"
    );
    set(
        &mut snapshot,
        &["status"],
        json!({"readyToUse": false, "error": {"time": RECENT, "message": message}}),
    );
    builder.place(snapshot);
    let key = Key::new(kind::CLAIMS, &app.namespace, &pvc);
    builder.world.amend(&key, |pvc| add_finalizer(pvc, AS_SOURCE));
}

fn abandoned(builder: &mut Builder, app: &App) {
    let mut source = replication_of(app);
    // The Kustomization that these labels name was deleted while it was suspended.
    set(&mut source, &["metadata", "labels", "kustomize.toolkit.fluxcd.io/name"], app.name.clone());
    set(
        &mut source,
        &["metadata", "labels", "kustomize.toolkit.fluxcd.io/namespace"],
        app.namespace.clone(),
    );
    builder.apply(&source, "kustomize-controller", |source| set(source, &["status"], missing(app)));
}

fn terminating(builder: &mut Builder, app: &App) {
    restored(builder, app, true);
    let pvc = bound_claim(builder, app, true);
    let key = Key::new(kind::CLAIMS, &app.namespace, &app.name);
    builder.world.amend(&key, |pvc| {
        set(pvc, &["metadata", "deletionTimestamp"], "2026-08-20T06:01:10Z");
        set(pvc, &["metadata", "deletionGracePeriodSeconds"], 0);
        add_finalizer(pvc, AS_SOURCE);
    });
    let policy =
        if builder.world.incident == Incident::TerminatingDelete { "Delete" } else { "Retain" };
    let volume = Key::new(kind::VOLUMES, "", text(&pvc, "/spec/volumeName"));
    builder
        .world
        .amend(&volume, |volume| set(volume, &["spec", "persistentVolumeReclaimPolicy"], policy));
    let source = replication(builder, app, syncing(app));
    kept_cache(builder, &source);
    let snapshot = snapshot(builder, &source, &pvc, false);
    hanging_content(builder, &snapshot, &pvc);
    locked_snapshot(builder, &snapshot);
}

/// A finished ReplicationDestination with its image; returns the image's name.
fn restored(builder: &mut Builder, app: &App, ready: bool) -> String {
    let image = format!("volsync-{}-dst-dest-20260820085502", app.name);
    let status = json!({
        "conditions": condition("False", "WaitingForManual", "Waiting for manual trigger", "2026-08-20T08:55:02Z"),
        "lastManualSync": "restore-once", "lastSyncDuration": "4m57.2s", "lastSyncTime": "2026-08-20T08:55:02Z",
        "latestImage": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": image},
    });
    let destination =
        builder.declare(&owner(app), destination(app), |object| set(object, &["status"], status));
    // The claim that it was taken of has been cleared away.
    let taken_of = json!({
        "metadata": {"name": format!("volsync-{}-dst-dest", app.name), "uid": builder.world.random.uid()},
        "spec": {"resources": {"requests": {"storage": app.size}}},
    });
    let snapshot = named_snapshot(builder, &destination, &taken_of, &image, ready);
    if !ready {
        hanging_content(builder, &snapshot, &taken_of);
        locked_snapshot(builder, &snapshot);
    }
    image
}

fn prime(builder: &mut Builder, pvc: &Value, image: &str) -> Value {
    let name = format!("vs-prime-{}", text(pvc, "/metadata/uid"));
    let mut prime = prime_claim(pvc, &name, image);
    admitted(&mut prime);
    set(&mut prime, &["metadata", "creationTimestamp"], "2026-08-20T08:55:03Z");
    builder.place(prime)
}

/// A backup whose clone, or whose cache, is locked.
fn backing_up(builder: &mut Builder, app: &App) {
    let pvc = bound_claim(builder, app, false);
    running(builder, app);
    let source = replication(builder, app, syncing(app));
    snapshot(builder, &source, &pvc, true);
    let data = format!("volsync-{}-src", app.name);
    let clone = mover_claim(builder, &source, &data, &app.size, Some(&data));
    if app.story == Story::CloneLocked {
        kept_cache(builder, &source);
        locked(builder, &clone);
        return;
    }
    provide(builder, &clone);
    let cache =
        mover_claim(builder, &source, &format!("volsync-src-{}-cache", app.name), "2Gi", None);
    locked(builder, &cache);
}

/// A restore whose cache is locked.
fn restoring(builder: &mut Builder, app: &App) {
    let status = json!({
        "conditions": condition("True", "SyncInProgress", "Synchronization in-progress", RECENT), "lastSyncStartTime": RECENT,
    });
    let destination = builder.declare(&owner(app), destination(app), |object| {
        set(object, &["metadata", "creationTimestamp"], RECENT);
        set(object, &["status"], status);
    });
    let cache = mover_claim(
        builder,
        &destination,
        &format!("volsync-dst-{}-dst-cache", app.name),
        "2Gi",
        None,
    );
    locked(builder, &cache);
}

fn waits_for_consumer(builder: &mut Builder, app: &App) {
    let mut declared = pvc(app, false);
    declared["spec"]["storageClassName"] = "openebs-hostpath".into();
    let pvc = builder.declare(&owner(app), declared, |pvc| {
        add_finalizer(pvc, "kubernetes.io/pvc-protection");
        set(pvc, &["metadata", "creationTimestamp"], "2026-08-20T09:30:00Z");
        set(pvc, &["status"], json!({"phase": "Pending"}));
    });
    builder.place(json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{}.17d4a0c2f1e00001", app.name), "namespace": app.namespace},
        "involvedObject": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": app.name, "namespace": app.namespace,
            "uid": text(&pvc, "/metadata/uid"),
        },
        "type": "Normal", "reason": "WaitForFirstConsumer", "count": 120,
        "message": "waiting for first consumer to be created before binding",
        "firstTimestamp": "2026-08-20T09:30:00Z", "lastTimestamp": "2026-08-20T09:59:45Z",
        "source": {"component": "persistentvolume-controller"},
    }));
}
