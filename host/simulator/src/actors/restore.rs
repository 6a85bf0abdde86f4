//! VolSync's ReplicationDestination controller, and the volume populator that fills PVCs from them.
//! A restore publishes its image as soon as the snapshot is bound, even if it is not ready.

use std::time::Duration;

use serde_json::{Value, json};

use super::backup::{ensure, mover_pvc, set_synchronizing};
use super::events::{self, Event};
use super::{Task, provision};
use crate::kind;
use crate::object::{is_terminating, micros, number, seconds, set, text, time, unset};
use crate::store::{Key, owner_reference};
use crate::world::World;

const TRANSFER_TIME: Duration = Duration::from_secs(20);
const CONTROLLER: &str = "volsync-controller";
const SNAPSHOT_NAME: &str = "volsync.backube/snapname";

/// Reconciles a ReplicationDestination.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(destination) = world.get(key) else { return };
    let manual = text(&destination, "/spec/trigger/manual");
    let done = !manual.is_empty() && manual == text(&destination, "/status/lastManualSync");
    if is_terminating(&destination) || done {
        return;
    }
    if destination.pointer("/status/lastSyncStartTime").is_none() {
        let now = seconds(world.now);
        world.update(key, |destination| set(destination, &["status", "lastSyncStartTime"], now));
        set_synchronizing(world, key, "True", "SyncInProgress", "Synchronization in-progress");
    }
    let size = |field: &str, default: &str| {
        destination.pointer(field).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let (capacity, cache_capacity) =
        (size("/spec/restic/capacity", "10Gi"), size("/spec/restic/cacheCapacity", "2Gi"));
    let (data, cache) =
        (format!("volsync-{}-dest", key.name), format!("volsync-dst-{}-cache", key.name));
    let bound_pvc = |world: &mut World, name: &str, size: &str| {
        let pvc = ensure(world, key, kind::PVCS, name, || mover_pvc(&destination, size, None));
        pvc.filter(|pvc| text(pvc, "/status/phase") == "Bound")
    };
    if bound_pvc(world, &cache, &cache_capacity).is_none() {
        return;
    }
    let Some(pvc) = bound_pvc(world, &data, &capacity) else { return };
    let mover = format!("volsync-dst-{}", key.name);
    let job = ensure(
        world,
        key,
        kind::JOBS,
        &mover,
        || json!({"spec": {"backoffLimit": 2, "parallelism": 1}}),
    );
    let started = job.and_then(|job| time(&job, "/metadata/creationTimestamp"));
    let elapsed = started.map_or(Duration::ZERO, |started| world.elapsed_since(started));
    if elapsed < TRANSFER_TIME {
        world.schedule_once(TRANSFER_TIME.saturating_sub(elapsed), Task::Restore(key.clone()));
        return;
    }
    publish(world, key, &destination, &pvc, &[&mover, &cache, &data]);
}

/// Takes a snapshot of the restored data and publishes it once it is bound. `temporary` has the
/// names of the mover Job, its cache PVC, and its data PVC.
fn publish(world: &mut World, key: &Key, destination: &Value, pvc: &Value, temporary: &[&str; 3]) {
    let existing = crate::object::annotation(pvc, SNAPSHOT_NAME).map(str::to_owned);
    let name = existing.unwrap_or_else(|| {
        let name = format!("volsync-{}-dest-{}", key.name, world.now.strftime("%Y%m%d%H%M%S"));
        let pvc = Key::new(kind::PVCS, &key.namespace, temporary[2]);
        world.update(&pvc, |pvc| {
            set(pvc, &["metadata", "annotations", SNAPSHOT_NAME], name.clone())
        });
        name
    });
    let snapshot = ensure(world, key, kind::SNAPSHOTS, &name, || {
        super::backup::snapshot_of(destination, temporary[2])
    });
    if snapshot
        .is_none_or(|snapshot| text(&snapshot, "/status/boundVolumeSnapshotContentName").is_empty())
    {
        return;
    }
    let now = world.now;
    let took = time(destination, "/status/lastSyncStartTime")
        .map_or(Duration::ZERO, |started| world.elapsed_since(started));
    let manual = text(destination, "/spec/trigger/manual").to_owned();
    world.update(key, |destination| {
        unset(destination, &["status", "lastSyncStartTime"]);
        set(destination, &["status", "lastSyncTime"], seconds(now));
        set(destination, &["status", "lastSyncDuration"], format!("{:.3}s", took.as_secs_f64()));
        set(destination, &["status", "lastManualSync"], manual);
        let image =
            json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name});
        set(destination, &["status", "latestImage"], image);
    });
    set_synchronizing(world, key, "False", "WaitingForManual", "Waiting for manual trigger");
    let kinds = [kind::JOBS, kind::PVCS, kind::PVCS];
    for (kind, name) in kinds.into_iter().zip(temporary) {
        world.delete(&Key::new(kind, &key.namespace, name));
    }
}

/// Fills a PVC from a ReplicationDestination: creates a prime PVC and then moves its volume.
pub fn populate(world: &mut World, key: &Key) {
    let Some(pvc) = world.get(key) else { return };
    let waiting = text(&pvc, "/status/phase") == "Pending" && !is_terminating(&pvc);
    if !waiting || text(&pvc, "/spec/dataSourceRef/kind") != "ReplicationDestination" {
        return;
    }
    let prime =
        Key::new(kind::PVCS, &key.namespace, &format!("vs-prime-{}", text(&pvc, "/metadata/uid")));
    match world.get(&prime) {
        Some(object) if text(&object, "/status/phase") == "Bound" => {
            rebind(world, key, &prime, text(&object, "/spec/volumeName"))
        }
        Some(_) => {}
        None => create_prime(world, key, &pvc, &prime),
    }
}

fn create_prime(world: &mut World, key: &Key, pvc: &Value, prime: &Key) {
    let name = text(pvc, "/spec/dataSourceRef/name");
    let destination = world.get(&Key::new(kind::REPLICATION_DESTINATIONS, &key.namespace, name));
    let image = destination
        .as_ref()
        .map_or("", |destination| text(destination, "/status/latestImage/name"));
    if image.is_empty() {
        let reason = if destination.is_some() {
            "VolSyncPopulatorReplicationDestinationNoLatestImage"
        } else {
            "VolSyncPopulatorReplicationDestinationMissing"
        };
        record_waiting_event(world, pvc, reason);
        world.schedule_once(Duration::from_secs(300), Task::Populate(key.clone()));
        return;
    }
    let object = prime_pvc(pvc, &prime.name, image);
    world.create(kind::PVCS, object);
}

/// Records an Event that a PVC waits for an image. VolSync uses events.k8s.io, so the older time
/// fields stay empty.
fn record_waiting_event(world: &mut World, pvc: &Value, reason: &str) {
    let event = Event {
        event_type: "Warning",
        reason,
        message: String::new(),
        component: CONTROLLER.to_owned(),
    };
    let (key, mut built) = events::build(pvc, &event, world.now, world.now, 1);
    let now = micros(world.now);
    if world.get(&key).is_some() {
        world.update(&key, |event| {
            let count = number(event, "/series/count").max(1) + 1;
            set(event, &["series"], json!({"count": count, "lastObservedTime": now}));
        });
        return;
    }
    let message =
        "Unable to populate volume, waiting for replicationdestination to have latestImage";
    for (field, value) in [
        ("message", Value::from(message)),
        ("action", "Provision Volume".into()),
        ("eventTime", now.into()),
        ("firstTimestamp", Value::Null),
        ("lastTimestamp", Value::Null),
        ("reportingComponent", CONTROLLER.into()),
        ("reportingInstance", format!("{CONTROLLER}-volsync-7c9d5f6b84-h6v5n").into()),
        ("source", json!({})),
    ] {
        set(&mut built, &[field], value);
    }
    unset(&mut built, &["count"]);
    world.create(kind::EVENTS, built);
}

/// Returns the prime PVC for `pvc`: it is created from the image, and `pvc` takes over its volume.
pub fn prime_pvc(pvc: &Value, name: &str, image: &str) -> Value {
    let source =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": image});
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name, "namespace": text(pvc, "/metadata/namespace"),
            "labels": {
                "app.kubernetes.io/created-by": "volsync",
                "volsync.backube/populator-pvc-for": text(pvc, "/metadata/name"),
            },
            "ownerReferences": [owner_reference(pvc)],
        },
        "spec": {
            "accessModes": pvc["spec"]["accessModes"], "resources": pvc["spec"]["resources"],
            "storageClassName": pvc["spec"]["storageClassName"], "volumeMode": "Filesystem",
            "dataSource": source, "dataSourceRef": source,
        },
    })
}

fn rebind(world: &mut World, key: &Key, prime: &Key, volume: &str) {
    let Some(pvc) = world.get(key) else { return };
    world.update(&Key::new(kind::VOLUMES, "", volume), |volume| {
        set(volume, &["spec", "claimRef", "name"], text(&pvc, "/metadata/name"));
        set(volume, &["spec", "claimRef", "uid"], text(&pvc, "/metadata/uid"));
    });
    let destination = text(&pvc, "/spec/dataSourceRef/name").to_owned();
    let driver = world.csi.driver.clone();
    world.update(key, |pvc| {
        provision::bind(pvc, volume);
        set(pvc, &["metadata", "annotations", "volsync.backube/populated-from"], destination);
        set(pvc, &["metadata", "annotations", "volume.kubernetes.io/storage-provisioner"], driver);
    });
    world.delete(prime);
    let event = Event {
        event_type: "Normal",
        reason: "VolSyncPopulatorFinished",
        message: "Populator finished".to_owned(),
        component: CONTROLLER.to_owned(),
    };
    events::record(world, &pvc, &event);
}
