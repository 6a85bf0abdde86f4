//! Operation locks: what a call that hangs leaves behind, and what further calls are told.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Wake;
use super::csi::{self, CALL_TIMEOUT, DRIVER, Lock, PLUGIN, Sidecar, klog};
use super::events::{self, Event};
use crate::kind;
use crate::object::{is_terminating, seconds, set, text};
use crate::random::spread;
use crate::store::Key;
use crate::world::World;

/// How often a call for `key` is tried again.
pub fn period(key: &str) -> Duration {
    Duration::from_millis(20_000 + spread(key, 40_000))
}

/// Has the refusals of the locks that are there at the start go on.
pub fn start(world: &mut World) {
    for key in world.csi.keys() {
        let first = spread(&key, 20_000);
        world.wake(Duration::from_millis(first), Wake::LockRefusal(key));
    }
}

/// A call hangs in the plugin of the pod where `sidecar` leads.
pub fn hang(world: &mut World, sidecar: Sidecar, key: &str) {
    let Some((_, pod)) = csi::leader(world, sidecar) else { return };
    if world.csi.lock(key).is_none() {
        world.csi.locks.push(Lock { key: key.to_owned(), pod, refusing: false });
        world.wake(CALL_TIMEOUT, Wake::LockRefusal(key.to_owned()));
    }
}

/// What would jam a driver that has just come up: the snapshot that a ReplicationSource wants of a claim which is
/// being deleted. The uid of that snapshot, or of the claim where there is none.
pub fn cause(world: &World) -> Option<String> {
    if world.csi.ceph_down {
        return None;
    }
    world.all(kind::SOURCES).into_iter().find_map(|(key, source)| {
        let pvc =
            world.get(&Key::new(kind::CLAIMS, &key.namespace, text(&source, "/spec/sourcePVC")))?;
        if !is_terminating(&pvc) {
            return None;
        }
        let snapshot = world.get(&Key::new(
            kind::SNAPSHOTS,
            &key.namespace,
            &format!("volsync-{}-src", key.name),
        ));
        Some(text(snapshot.as_ref().unwrap_or(&pvc), "/metadata/uid").to_owned())
    })
}

/// A call for `key` times out, or is refused because the first one still holds the lock.
pub fn refuse(world: &mut World, key: &str) {
    let Some(lock) = world.csi.locks.iter_mut().find(|lock| lock.key == key) else { return };
    let first = !std::mem::replace(&mut lock.refusing, true);
    let pod = lock.pod.clone();
    let reason = if first {
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned()
    } else {
        write_lines(world, key, &pod, world.now);
        refusal(key)
    };
    tell(world, key, &pod, &reason);
    world.wake(period(key), Wake::LockRefusal(key.to_owned()));
}

/// The error that a caller gets while `key` is locked.
pub fn refusal(key: &str) -> String {
    if is_handle(key) {
        format!(
            "rpc error: code = Aborted desc = a Restore operation with given id {key} already exists"
        )
    } else {
        // RBD logs "Snapshot ID" for snapshots and returns "Volume ID" all the same.
        format!(
            "rpc error: code = Aborted desc = an operation with the given Volume ID {key} already exists"
        )
    }
}

/// The lines that one refused call leaves in the logs.
pub fn write_lines(world: &mut World, key: &str, pod: &str, time: Timestamp) {
    let call = world.csi.next_call();
    let later = |micros: i64| {
        time.saturating_add(jiff::SignedDuration::from_micros(micros)).unwrap_or(time)
    };
    if !is_handle(key) {
        let (place, word) = if key.starts_with("snapshot-") {
            ("controllerserver.go:1161", "Snapshot")
        } else {
            ("controllerserver.go:362", "Volume")
        };
        let line = format!(
            "ID: {call} Req-ID: {key} an operation with the given {word} ID {key} already exists"
        );
        world.logs.write(pod, PLUGIN, later(121), klog('E', time, place, &line));
    }
    let line = format!("ID: {call} Req-ID: {key} GRPC error: {}", refusal(key));
    world.logs.write(pod, PLUGIN, later(227), klog('E', time, "utils.go:271", &line));
    if let Some(uid) = key.strip_prefix("pvc-") {
        let sidecar = Sidecar::Provisioner.container();
        let line = format!(
            "error syncing claim \"{uid}\": failed to provision volume with StorageClass \"ceph-block\": {}",
            refusal(key)
        );
        world.logs.write(
            pod,
            sidecar,
            later(777),
            klog(
                'W',
                time,
                "controller.go:934",
                &format!("Retrying syncing claim \"{uid}\", failure {call}"),
            ),
        );
        world.logs.write(pod, sidecar, later(877), klog('E', time, "controller.go:957", &line));
    }
}

/// Tells those who wait for the call: an event on the claim, an error on the snapshot.
fn tell(world: &mut World, key: &str, pod: &str, reason: &str) {
    if let Some(uid) = key.strip_prefix("pvc-") {
        let pvc =
            world.store.list(kind::CLAIMS, None).find(|(_, pvc)| text(pvc, "/metadata/uid") == uid);
        if let Some(pvc) = pvc.map(|(_, pvc)| pvc.clone()) {
            events::record(world, &pvc, &failed(world, pod, reason));
        }
    } else if let Some(uid) = key.strip_prefix("snapshot-") {
        let content = Key::new(kind::CONTENTS, "", &format!("snapcontent-{uid}"));
        let Some(object) = world.get(&content) else { return };
        let handle = text(&object, "/spec/source/volumeHandle");
        let message = format!(
            "Failed to check and update snapshot content: failed to take snapshot of the volume {handle}: \"{reason}\""
        );
        let error = json!({"time": seconds(world.now), "message": message});
        world.amend(&content, |content| set(content, &["status", "error"], error.clone()));
        let reference = &object["spec"]["volumeSnapshotRef"];
        let snapshot =
            Key::new(kind::SNAPSHOTS, text(reference, "/namespace"), text(reference, "/name"));
        world.amend(&snapshot, |snapshot| set(snapshot, &["status", "error"], error));
    }
}

/// The event of a claim whose volume could not be made.
pub fn failed(world: &World, pod: &str, reason: &str) -> Event<'static> {
    Event {
        kind: "Warning",
        reason: "ProvisioningFailed",
        message: format!("failed to provision volume with StorageClass \"ceph-block\": {reason}"),
        component: component(world, pod),
    }
}

/// The provisioner's name in events: driver, pod and a number of its own.
pub fn component(world: &World, pod: &str) -> String {
    let name = world
        .store
        .list(kind::PODS, Some(csi::NAMESPACE))
        .find(|(_, object)| text(object, "/metadata/uid") == pod);
    let name = name.map_or("", |(key, _)| key.name.as_str());
    format!("{DRIVER}_{name}_0b0b0b0b-1111-4222-8333-444444444444")
}

fn is_handle(key: &str) -> bool {
    !key.starts_with("pvc-") && !key.starts_with("snapshot-")
}

/// The event as it stands after many refusals, for a scene that begins with them.
pub fn past_event(
    world: &World,
    pvc: &Value,
    pod: &str,
    reason: &str,
    first: Timestamp,
    last: Timestamp,
) -> (Key, Value) {
    let count = 2 + spread(text(pvc, "/metadata/uid"), 30);
    events::write(pvc, &failed(world, pod, reason), first, last, count)
}
