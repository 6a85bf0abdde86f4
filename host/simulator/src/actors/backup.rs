//! VolSync's ReplicationSource controller. A new ReplicationSource syncs immediately, regardless of
//! its schedule. A sync takes a snapshot, clones it, creates a cache, copies the data, and cleans
//! up.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::Task;
use super::mover::{self, Mover};
use crate::kind::{self, Kind};
use crate::object::{is_terminating, seconds, set, set_condition, text, time, unset};
use crate::store::{Key, owner_reference};
use crate::world::World;

const RETRY_DELAY: Duration = Duration::from_secs(60);

/// Reconciles a ReplicationSource.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(source) = world.get(key) else { return };
    let has_no_syncs =
        ["/spec/external", "/spec/syncthing"].iter().any(|at| source.pointer(at).is_some());
    if is_terminating(&source) || has_no_syncs {
        return;
    }
    if source.pointer("/status/lastSyncStartTime").is_some() {
        synchronize(world, key, &source);
    } else if source.pointer("/status/lastSyncTime").is_none() || is_due(world, key, &source) {
        let now = seconds(world.now);
        world.update(key, |source| set(source, &["status", "lastSyncStartTime"], now));
        set_synchronizing(world, key, "True", "SyncInProgress", "Synchronization in-progress");
    }
}

/// Returns whether an idle source is due. If it is due later, schedules that sync.
fn is_due(world: &mut World, key: &Key, source: &Value) -> bool {
    let manual = text(source, "/spec/trigger/manual");
    if !manual.is_empty() {
        return manual != text(source, "/status/lastManualSync");
    }
    let Some(next) = time(source, "/status/nextSyncTime") else { return false };
    if let Ok(wait) = Duration::try_from(next.duration_since(world.now))
        && !wait.is_zero()
    {
        world.schedule_once(wait, Task::Backup(key.clone()));
        return false;
    }
    true
}

fn synchronize(world: &mut World, key: &Key, source: &Value) {
    let pvc_name = text(source, "/spec/sourcePVC");
    let Some(pvc) = world.get(&Key::new(kind::PVCS, &key.namespace, pvc_name)) else {
        set_synchronizing(
            world,
            key,
            "False",
            "Error",
            &format!("PersistentVolumeClaim \"{pvc_name}\" not found"),
        );
        world.schedule_once(RETRY_DELAY, Task::Backup(key.clone()));
        return;
    };
    if let Some(Mover::Refused { message }) = world.movers.get(key).cloned() {
        set_synchronizing(world, key, "False", "Error", &message);
        world.schedule_once(RETRY_DELAY, Task::Backup(key.clone()));
        return;
    }
    set_synchronizing(world, key, "True", "SyncInProgress", "Synchronization in-progress");
    let data = format!("volsync-{}-src", key.name);
    let is_direct = text(source, "/spec/restic/copyMethod") == "Direct";
    let clone = if is_direct {
        Some(pvc)
    } else {
        let Some(snapshot) =
            ensure(world, key, kind::SNAPSHOTS, &data, || snapshot_of(source, pvc_name))
        else {
            return;
        };
        if snapshot.pointer("/status/readyToUse") != Some(&Value::Bool(true)) {
            return;
        }
        let size = text(&pvc, "/spec/resources/requests/storage");
        ensure(world, key, kind::PVCS, &data, || mover_pvc(source, size, Some(&data)))
    };
    let cache_name = format!("volsync-src-{}-cache", key.name);
    let cache_size =
        source.pointer("/spec/restic/cacheCapacity").and_then(Value::as_str).unwrap_or("2Gi");
    let cache = ensure(world, key, kind::PVCS, &cache_name, || mover_pvc(source, cache_size, None));
    let bound = |pvc: &Option<std::sync::Arc<Value>>| {
        pvc.as_ref().is_some_and(|pvc| text(pvc, "/status/phase") == "Bound")
    };
    if !bound(&clone) || !bound(&cache) {
        return;
    }
    let mover = format!("volsync-src-{}", key.name);
    let job = ensure(
        world,
        key,
        kind::JOBS,
        &mover,
        || json!({"spec": {"backoffLimit": 2, "parallelism": 1}}),
    );
    let started = job.and_then(|job| time(&job, "/metadata/creationTimestamp"));
    let elapsed = started.map_or(Duration::ZERO, |started| world.elapsed_since(started));
    if !mover::run(world, key, source, elapsed) {
        return;
    }
    finish(world, key, source);
    for (kind, name) in [(kind::JOBS, &mover), (kind::PVCS, &data), (kind::SNAPSHOTS, &data)] {
        world.delete(&Key::new(kind, &key.namespace, name));
    }
}

fn finish(world: &mut World, key: &Key, source: &Value) {
    let now = world.now;
    let took = time(source, "/status/lastSyncStartTime")
        .map_or(Duration::ZERO, |started| world.elapsed_since(started));
    let next = next_sync(text(source, "/spec/trigger/schedule"), now);
    let manual = text(source, "/spec/trigger/manual").to_owned();
    world.update(key, |source| {
        unset(source, &["status", "lastSyncStartTime"]);
        set(source, &["status", "lastSyncTime"], seconds(now));
        set(source, &["status", "lastSyncDuration"], format!("{:.3}s", took.as_secs_f64()));
        set(
            source,
            &["status", "latestMoverStatus"],
            json!({"result": "Successful", "logs": "snapshot saved\nRestic completed in 12s"}),
        );
        if let Some(next) = next {
            set(source, &["status", "nextSyncTime"], seconds(next));
        }
        if !manual.is_empty() {
            set(source, &["status", "lastManualSync"], manual.clone());
        }
    });
    if manual.is_empty() {
        set_synchronizing(
            world,
            key,
            "False",
            "WaitingForSchedule",
            "Waiting for next scheduled synchronization",
        );
    } else {
        set_synchronizing(world, key, "False", "WaitingForManual", "Waiting for manual trigger");
    }
}

/// Sets the Synchronizing condition.
pub fn set_synchronizing(world: &mut World, key: &Key, status: &str, reason: &str, message: &str) {
    let now = world.now;
    let condition =
        json!({"type": "Synchronizing", "status": status, "reason": reason, "message": message});
    world.update(key, |object| set_condition(object, condition, now));
}

/// Returns an object of `owner`, creating it if it does not exist. Returns `None` while an existing
/// one is terminating.
pub fn ensure(
    world: &mut World,
    owner: &Key,
    kind: &'static Kind,
    name: &str,
    build: impl FnOnce() -> Value,
) -> Option<std::sync::Arc<Value>> {
    let key = Key::new(kind, &owner.namespace, name);
    if let Some(object) = world.get(&key) {
        return Some(object).filter(|object| !is_terminating(object));
    }
    let owner = world.get(owner)?;
    let mut object = build();
    set_owner(&mut object, &owner, name);
    world.create(kind, object);
    world.get(&key)
}

/// Sets the name, labels, and owner reference of an object that VolSync creates for `owner`. All
/// objects except caches get the cleanup label.
pub fn set_owner(object: &mut Value, owner: &Value, name: &str) {
    set(object, &["metadata", "name"], name);
    set(object, &["metadata", "namespace"], text(owner, "/metadata/namespace"));
    set(object, &["metadata", "labels", "app.kubernetes.io/created-by"], "volsync");
    if !name.ends_with("-cache") {
        set(
            object,
            &["metadata", "labels", "volsync.backube/cleanup"],
            text(owner, "/metadata/uid"),
        );
    }
    set(object, &["metadata", "ownerReferences"], vec![owner_reference(owner)]);
}

/// Returns the VolumeSnapshot that a sync creates.
pub fn snapshot_of(source: &Value, pvc: &str) -> Value {
    json!({"spec": {
        "source": {"persistentVolumeClaimName": pvc},
        "volumeSnapshotClassName": text(source, "/spec/restic/volumeSnapshotClassName"),
    }})
}

/// Returns a PVC for a mover, empty or cloned from a snapshot.
pub fn mover_pvc(replication: &Value, size: &str, snapshot: Option<&str>) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}},
        "storageClassName": text(replication, "/spec/restic/storageClassName"),
        "volumeMode": "Filesystem",
    });
    if let Some(snapshot) = snapshot {
        let source = json!({
            "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot,
        });
        spec["dataSource"] = source.clone();
        spec["dataSourceRef"] = source;
    }
    json!({"spec": spec})
}

/// Returns the next time of a cron schedule with a fixed minute and an optional hour.
fn next_sync(schedule: &str, now: Timestamp) -> Option<Timestamp> {
    let mut fields = schedule.split_whitespace();
    let minute: i8 = fields.next()?.parse().ok()?;
    let hour: Option<i8> = fields.next()?.parse().ok();
    let local = now.to_zoned(TimeZone::UTC);
    let mut next = local.with().minute(minute).second(0).subsec_nanosecond(0);
    let step = if let Some(hour) = hour {
        next = next.hour(hour);
        Duration::from_secs(86_400)
    } else {
        Duration::from_secs(3_600)
    };
    let next = next.build().ok()?.timestamp();
    if next > now { Some(next) } else { next.saturating_add(crate::world::signed(step)).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_sync_is_the_next_scheduled_minute() {
        let now: Timestamp = "2026-08-20T10:00:00Z".parse().expect("time is valid");
        let next = |schedule| next_sync(schedule, now).map(seconds);
        assert_eq!(next("0 * * * *").as_deref(), Some("2026-08-20T11:00:00Z"));
        assert_eq!(next("15 3 * * *").as_deref(), Some("2026-08-21T03:15:00Z"));
        assert_eq!(next("30 11 * * *").as_deref(), Some("2026-08-20T11:30:00Z"));
        assert_eq!(next("").as_deref(), None);
    }
}
