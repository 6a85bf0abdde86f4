//! VolSync's ReplicationSources: a new one starts to sync at once, whatever its schedule says.
//! A sync takes a snapshot, clones it, makes a cache, copies, and clears up.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::Wake;
use crate::kind::{self, Kind};
use crate::object::{is_terminating, seconds, set, set_condition, text, time, unset};
use crate::store::{Key, owner_reference};
use crate::world::World;

const TRANSFER: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_secs(60);

/// Takes one step for a ReplicationSource.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(source) = world.get(key) else { return };
    if is_terminating(&source) || source.pointer("/spec/external").is_some() {
        return;
    }
    if source.pointer("/status/lastSyncStartTime").is_some() {
        synchronize(world, key, &source);
    } else if source.pointer("/status/lastSyncTime").is_none() || is_due(world, key, &source) {
        let now = seconds(world.now);
        world.amend(key, |source| set(source, &["status", "lastSyncStartTime"], now));
        phase(world, key, "True", "SyncInProgress", "Synchronization in-progress");
    }
}

/// Whether an idle source is to sync again; if later, it is looked at then.
fn is_due(world: &mut World, key: &Key, source: &Value) -> bool {
    let manual = text(source, "/spec/trigger/manual");
    if !manual.is_empty() {
        return manual != text(source, "/status/lastManualSync");
    }
    let Some(next) = time(source, "/status/nextSyncTime") else { return false };
    if let Ok(wait) = Duration::try_from(next.duration_since(world.now))
        && !wait.is_zero()
    {
        world.wake_once(wait, Wake::Backup(key.clone()));
        return false;
    }
    true
}

fn synchronize(world: &mut World, key: &Key, source: &Value) {
    let claim_name = text(source, "/spec/sourcePVC");
    let Some(pvc) = world.get(&Key::new(kind::CLAIMS, &key.namespace, claim_name)) else {
        phase(
            world,
            key,
            "False",
            "Error",
            &format!("PersistentVolumeClaim \"{claim_name}\" not found"),
        );
        world.wake_once(RETRY, Wake::Backup(key.clone()));
        return;
    };
    phase(world, key, "True", "SyncInProgress", "Synchronization in-progress");
    let data = format!("volsync-{}-src", key.name);
    let Some(snapshot) =
        ensure(world, key, kind::SNAPSHOTS, &data, || snapshot(source, claim_name))
    else {
        return;
    };
    if snapshot.pointer("/status/readyToUse") != Some(&Value::Bool(true)) {
        return;
    }
    let size = text(&pvc, "/spec/resources/requests/storage");
    let clone =
        ensure(world, key, kind::CLAIMS, &data, || temporary_claim(source, size, Some(&data)));
    let cache_name = format!("volsync-src-{}-cache", key.name);
    let cache_size =
        source.pointer("/spec/restic/cacheCapacity").and_then(Value::as_str).unwrap_or("2Gi");
    let cache =
        ensure(world, key, kind::CLAIMS, &cache_name, || temporary_claim(source, cache_size, None));
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
    let elapsed = started.map_or(Duration::ZERO, |started| world.since(started));
    if elapsed < TRANSFER {
        world.wake_once(TRANSFER.saturating_sub(elapsed), Wake::Backup(key.clone()));
        return;
    }
    finish(world, key, source);
    for (kind, name) in [(kind::JOBS, &mover), (kind::CLAIMS, &data), (kind::SNAPSHOTS, &data)] {
        world.delete(&Key::new(kind, &key.namespace, name));
    }
}

fn finish(world: &mut World, key: &Key, source: &Value) {
    let now = world.now;
    let took = time(source, "/status/lastSyncStartTime")
        .map_or(Duration::ZERO, |started| world.since(started));
    let next = next_run(text(source, "/spec/trigger/schedule"), now);
    let manual = text(source, "/spec/trigger/manual").to_owned();
    world.amend(key, |source| {
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
        phase(
            world,
            key,
            "False",
            "WaitingForSchedule",
            "Waiting for next scheduled synchronization",
        );
    } else {
        phase(world, key, "False", "WaitingForManual", "Waiting for manual trigger");
    }
}

/// Sets the one condition that VolSync has.
pub fn phase(world: &mut World, key: &Key, status: &str, reason: &str, message: &str) {
    let now = world.now;
    let condition =
        json!({"type": "Synchronizing", "status": status, "reason": reason, "message": message});
    world.amend(key, |object| set_condition(object, condition, now));
}

/// The object that `owner` needs, made if it is not there; `None` while it is on its way or being deleted.
pub fn ensure(
    world: &mut World,
    owner: &Key,
    kind: &'static Kind,
    name: &str,
    make: impl FnOnce() -> Value,
) -> Option<std::sync::Arc<Value>> {
    let key = Key::new(kind, &owner.namespace, name);
    if let Some(object) = world.get(&key) {
        return Some(object).filter(|object| !is_terminating(object));
    }
    let owner = world.get(owner)?;
    let mut object = make();
    owned_by(&mut object, &owner, name);
    world.create(kind, object);
    world.get(&key)
}

/// Names an object, and marks it as made by VolSync for `owner`. A cache outlives a sync, all else is cleaned up.
pub fn owned_by(object: &mut Value, owner: &Value, name: &str) {
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

/// The snapshot that a sync takes.
pub fn snapshot(source: &Value, pvc: &str) -> Value {
    json!({"spec": {
        "source": {"persistentVolumeClaimName": pvc},
        "volumeSnapshotClassName": text(source, "/spec/restic/volumeSnapshotClassName"),
    }})
}

/// A claim that a mover works on.
pub fn temporary_claim(replication: &Value, size: &str, snapshot: Option<&str>) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}},
        "storageClassName": text(replication, "/spec/restic/storageClassName"), "volumeMode": "Filesystem",
    });
    if let Some(snapshot) = snapshot {
        let source = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot});
        spec["dataSource"] = source.clone();
        spec["dataSourceRef"] = source;
    }
    json!({"spec": spec})
}

/// The next time of a cron schedule that fixes the minute, and perhaps the hour.
fn next_run(schedule: &str, now: Timestamp) -> Option<Timestamp> {
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
    fn schedules_name_the_next_full_minute() {
        let now: Timestamp = "2026-08-20T10:00:00Z".parse().expect("a time");
        let next = |schedule| next_run(schedule, now).map(seconds);
        assert_eq!(next("0 * * * *").as_deref(), Some("2026-08-20T11:00:00Z"));
        assert_eq!(next("15 3 * * *").as_deref(), Some("2026-08-21T03:15:00Z"));
        assert_eq!(next("30 11 * * *").as_deref(), Some("2026-08-20T11:30:00Z"));
        assert_eq!(next("").as_deref(), None);
    }
}
