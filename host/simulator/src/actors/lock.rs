//! Operation locks: hanging calls, and the errors, logs, and events of further calls.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Task;
use super::csi::{self, CALL_TIMEOUT, Csi, Lock, Sidecar, klog};
use super::events::{self, Event};
use crate::kind;
use crate::object::{is_terminating, seconds, set, text};
use crate::random::hash_below;
use crate::store::Key;
use crate::world::World;

/// Returns the interval at which a call with a locked key is retried.
pub fn retry_interval(key: &str) -> Duration {
    Duration::from_millis(20_000 + hash_below(key, 40_000))
}

/// Schedules the rejections of the initial locks.
pub fn start(world: &mut World) {
    for key in world.csi.keys() {
        let first = hash_below(&key, 20_000);
        world.schedule(Duration::from_millis(first), Task::RejectCall(key));
    }
}

/// Adds the lock of a call that hangs in the leader pod of `sidecar`.
pub fn hang_call(world: &mut World, sidecar: Sidecar, key: &str) {
    let Some((_, pod)) = csi::leader(world, sidecar) else { return };
    if world.csi.lock(key).is_none() {
        world.csi.locks.push(Lock { key: key.to_owned(), pod, failures: 0 });
        world.schedule(CALL_TIMEOUT, Task::RejectCall(key.to_owned()));
    }
}

/// Returns the UID of the snapshot that would block a restarted driver: the one that a
/// ReplicationSource takes of a terminating PVC. Returns the PVC's UID if it has no snapshot.
pub fn blocking_snapshot(world: &World) -> Option<String> {
    if world.csi.ceph_down {
        return None;
    }
    world.all(kind::REPLICATION_SOURCES).into_iter().find_map(|(key, source)| {
        let pvc =
            world.get(&Key::new(kind::PVCS, &key.namespace, text(&source, "/spec/sourcePVC")))?;
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

/// Lets a call with `key` time out, or rejects it because the first call still has the lock.
pub fn reject(world: &mut World, key: &str) {
    let Some(lock) = world.csi.locks.iter_mut().find(|lock| lock.key == key) else { return };
    let first = lock.failures == 0;
    lock.failures += 1;
    let pod = lock.pod.clone();
    let reason = if first {
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned()
    } else {
        log_rejection(world, key, &pod, world.now);
        aborted_error(&world.csi, key)
    };
    report_error(world, key, &pod, &reason);
    world.schedule(retry_interval(key), Task::RejectCall(key.to_owned()));
}

/// What the call that holds the lock of an existing volume or snapshot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Clone,
    Restore,
    Delete,
    Expand,
    /// Since ceph-csi 3.17.
    Modify,
    /// The lock of one volume, whatever the operation.
    Any,
}

impl Operation {
    /// Returns the gRPC error of a call that this operation excludes. Source:
    /// `internal/util/idlocker.go` of ceph-csi, up to 3.16 and since 3.17.
    fn error(self, version: (u32, u32), handle: &str) -> String {
        let (article, noun) = match self {
            Operation::Create => ("a", "Create"),
            Operation::Clone => ("a", "Clone"),
            Operation::Restore => ("a", "Restore"),
            Operation::Delete => ("a", "Delete"),
            Operation::Expand => ("an", "Expand"),
            Operation::Modify => ("a", "Modify"),
            Operation::Any => {
                return format!("an operation with the given Volume ID {handle} already exists");
            }
        };
        if version < (3, 17) {
            return format!("{article} {noun} operation with given id {handle} already exists");
        }
        // A deletion and the operations that exclude it.
        let refused = if self == Operation::Delete { "restore" } else { "delete" };
        let noun = noun.to_lowercase();
        format!(
            "cannot acquire lock for \"{refused}\", an \"{noun}\" operation with given id {handle} \
             already exists"
        )
    }
}

/// Returns the gRPC error of a call whose key is locked.
pub fn aborted_error(csi: &Csi, key: &str) -> String {
    let text = if is_handle(key) {
        let operation = csi.operations.get(key).copied().unwrap_or(Operation::Restore);
        operation.error(csi.version, key)
    } else {
        // For snapshots, the RBD driver logs "Snapshot ID" but returns "Volume ID".
        let noun = if is_snapshot(key) && !is_rbd(csi) { "Snapshot" } else { "Volume" };
        format!("an operation with the given {noun} ID {key} already exists")
    };
    format!("rpc error: code = Aborted desc = {text}")
}

/// Writes the log lines of a rejected call.
pub fn log_rejection(world: &mut World, key: &str, pod: &str, time: Timestamp) {
    let call = world.csi.next_call();
    let later = |micros: i64| {
        time.saturating_add(jiff::SignedDuration::from_micros(micros)).unwrap_or(time)
    };
    let (plugin, error) = (world.csi.plugin.clone(), aborted_error(&world.csi, key));
    if !is_handle(key) {
        let (location, noun) = if is_snapshot(key) {
            ("controllerserver.go:1161", "Snapshot")
        } else {
            ("controllerserver.go:362", "Volume")
        };
        let line = format!(
            "ID: {call} Req-ID: {key} an operation with the given {noun} ID {key} already exists"
        );
        world.logs.write(pod, &plugin, later(121), klog('E', time, location, &line));
    }
    let line = format!("ID: {call} Req-ID: {key} GRPC error: {error}");
    world.logs.write(pod, &plugin, later(227), klog('E', time, "utils.go:271", &line));
    if let Some(uid) = key.strip_prefix("pvc-") {
        let sidecar = Sidecar::Provisioner.container();
        let line = format!(
            "error syncing claim \"{uid}\": failed to provision volume with StorageClass \
             \"ceph-block\": {error}"
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

/// Reports a failed call: as an Event of the PVC, or in the status of the snapshot.
fn report_error(world: &mut World, key: &str, pod: &str, reason: &str) {
    if let Some(uid) = key.strip_prefix("pvc-") {
        let pvc =
            world.store.list(kind::PVCS, None).find(|(_, pvc)| text(pvc, "/metadata/uid") == uid);
        if let Some(pvc) = pvc.map(|(_, pvc)| pvc.clone()) {
            events::record(world, &pvc, &provisioning_failed(world, pod, reason));
        }
    } else if let Some(uid) = key.strip_prefix("snapshot-") {
        let content = Key::new(kind::SNAPSHOT_CONTENTS, "", &format!("snapcontent-{uid}"));
        let Some(object) = world.get(&content) else { return };
        let handle = text(&object, "/spec/source/volumeHandle");
        let message = format!(
            "Failed to check and update snapshot content: failed to take snapshot of the volume \
             {handle}: \"{reason}\""
        );
        let error = json!({"time": seconds(world.now), "message": message});
        world.update(&content, |content| set(content, &["status", "error"], error.clone()));
        let reference = &object["spec"]["volumeSnapshotRef"];
        let snapshot =
            Key::new(kind::SNAPSHOTS, text(reference, "/namespace"), text(reference, "/name"));
        world.update(&snapshot, |snapshot| set(snapshot, &["status", "error"], error));
    }
}

/// Returns the Event of a PVC whose volume could not be provisioned.
pub fn provisioning_failed(world: &World, pod: &str, reason: &str) -> Event<'static> {
    Event {
        event_type: "Warning",
        reason: "ProvisioningFailed",
        message: format!("failed to provision volume with StorageClass \"ceph-block\": {reason}"),
        component: provisioner_component(world, pod),
    }
}

/// Returns the provisioner's component name in Events: driver, pod, and an instance ID.
pub fn provisioner_component(world: &World, pod: &str) -> String {
    let name = world
        .store
        .list(kind::PODS, Some(csi::NAMESPACE))
        .find(|(_, object)| text(object, "/metadata/uid") == pod);
    let name = name.map_or("", |(key, _)| key.name.as_str());
    let driver = &world.csi.driver;
    format!("{driver}_{name}_0b0b0b0b-1111-4222-8333-444444444444")
}

fn is_snapshot(key: &str) -> bool {
    key.starts_with("snapshot-") || key.starts_with("groupsnapshot-")
}

fn is_handle(key: &str) -> bool {
    !key.starts_with("pvc-") && !is_snapshot(key)
}

fn is_rbd(csi: &Csi) -> bool {
    csi.driver.ends_with("rbd.csi.ceph.com")
}

/// Returns the key and Event of a PVC after many rejections, for the initial state of a scenario.
pub fn repeated_event(
    world: &World,
    pvc: &Value,
    pod: &str,
    reason: &str,
    first: Timestamp,
    last: Timestamp,
) -> (Key, Value) {
    let count = 2 + hash_below(text(pvc, "/metadata/uid"), 30);
    events::build(pvc, &provisioning_failed(world, pod, reason), first, last, count)
}
