//! The mover of a sync: the pod of a Job that copies the data to the repository, and what can keep
//! it from that.

use std::time::Duration;

use serde_json::{Value, json};

use super::backup::set_owner;
use super::events::{self, Event};
use super::pods::set_not_scheduled;
use super::{Task, node_plugin};
use crate::kind;
use crate::object::{list, set, text};
use crate::random::hash_below;
use crate::store::Key;
use crate::world::World;

const TRANSFER_TIME: Duration = Duration::from_secs(20);
/// The time until VolSync starts a failed mover again.
const RETRY_DELAY: Duration = Duration::from_secs(300);

/// Why a mover ends with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Another process holds a lock on the repository, or left it behind.
    RepositoryLocked,
    /// The object store cannot be reached.
    StoreUnreachable,
    /// The object store rejects the credentials.
    AccessDenied,
    /// Something else.
    Other,
}

/// What the repository, the scheduler, or the kubelet does to the mover of a ReplicationSource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mover {
    /// Copying the data takes this long.
    Copies(Duration),
    /// It ends with this log, however often VolSync starts it.
    Fails { failure: Failure, log: String },
    /// No node is suitable for its pod.
    Unscheduled { message: String },
    /// The kubelet cannot mount a volume of its pod, without any lock.
    MountFails { message: String },
    /// Its container waits for this reason.
    ContainerWaits { reason: String },
    /// VolSync does not start it because of this error.
    Refused { message: String },
}

/// Runs the mover of a sync whose Job has existed for `elapsed`. Returns whether it has finished.
pub fn run(world: &mut World, key: &Key, source: &Value, elapsed: Duration) -> bool {
    // Mover Jobs of a paused source have no pods.
    if source.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        return false;
    }
    let mover = world.movers.get(key).cloned().unwrap_or(Mover::Copies(TRANSFER_TIME));
    let transfer_time = match mover {
        Mover::Copies(time) => time,
        Mover::Fails { log, .. } => {
            world.update(key, |source| {
                let status = json!({"result": "Failed", "logs": log});
                set(source, &["status", "latestMoverStatus"], status);
            });
            world.schedule_once(RETRY_DELAY, Task::Backup(key.clone()));
            return false;
        }
        Mover::Unscheduled { .. } | Mover::MountFails { .. } | Mover::ContainerWaits { .. } => {
            create_pod(world, key);
            return false;
        }
        Mover::Refused { .. } => return false,
    };
    if world.csi.nodes.hanging.contains(&node_of(key)) {
        create_pod(world, key);
        return false;
    }
    if elapsed < transfer_time {
        world.schedule_once(transfer_time.saturating_sub(elapsed), Task::Backup(key.clone()));
    }
    elapsed >= transfer_time
}

/// Returns the node of a source's mover.
pub fn node_of(source: &Key) -> String {
    format!("node-{}", 1 + hash_below(&source.name, 3))
}

/// Creates the pod of a source's mover Job. A mover that nothing keeps from running is simulated
/// without one.
fn create_pod(world: &mut World, key: &Key) {
    let name = format!("volsync-src-{}", key.name);
    let Some(job) = world.get(&Key::new(kind::JOBS, &key.namespace, &name)) else { return };
    let pod_name = format!("{name}-{:05x}", hash_below(&name, 0xf_ffff));
    let volume = |name: &str, pvc: String| {
        let claim = json!({"claimName": pvc});
        json!({"name": name, "persistentVolumeClaim": claim})
    };
    let mut pod = json!({"spec": {
        "containers": [{"name": "restic", "image": "quay.io/backube/volsync:0.13.0"}],
        "volumes": [
            volume("data", format!("volsync-{}-src", key.name)),
            volume("cache", format!("volsync-src-{}-cache", key.name)),
        ],
    }});
    set_owner(&mut pod, &job, &pod_name);
    let unscheduled = matches!(world.movers.get(key), Some(Mover::Unscheduled { .. }));
    if !unscheduled {
        set(&mut pod, &["spec", "nodeName"], node_of(key));
    }
    world.create(kind::PODS, pod);
}

/// Keeps the pod of a mover from starting, if something does. Returns whether that is the case.
pub fn hold_back(world: &mut World, key: &Key, pod: &Value) -> bool {
    let job = list(pod, "/metadata/ownerReferences")
        .iter()
        .find(|owner| text(owner, "/kind") == "Job")
        .and_then(|owner| text(owner, "/name").strip_prefix("volsync-src-"));
    let Some(source) = job.map(|name| Key::new(kind::REPLICATION_SOURCES, &key.namespace, name))
    else {
        return false;
    };
    let now = world.now;
    match world.movers.get(&source).cloned() {
        Some(Mover::Unscheduled { message }) => {
            world.update(key, |pod| set_not_scheduled(pod, &message, now));
        }
        Some(Mover::MountFails { message }) => {
            let event = Event {
                event_type: "Warning",
                reason: "FailedMount",
                message,
                component: "kubelet".to_owned(),
            };
            events::record(world, pod, &event);
            world.update(key, node_plugin::set_creating);
            world.schedule_once(RETRY_DELAY, Task::Pod(key.clone()));
        }
        Some(Mover::ContainerWaits { reason }) => world.update(key, |pod| {
            node_plugin::set_creating(pod);
            set(&mut pod["status"]["containerStatuses"][0]["state"]["waiting"], &["reason"], reason)
        }),
        Some(Mover::Copies(_) | Mover::Fails { .. } | Mover::Refused { .. }) | None => {
            return false;
        }
    }
    true
}
