//! A media importer that gets stuck when its queue is full, until its pod is replaced.

use std::time::Duration;

use super::Task;
use super::pods::is_ready;
use crate::kind;
use crate::object::{is_terminating, label, text};
use crate::world::World;

pub const NAMESPACE: &str = "media";
/// The name of the Deployment and its container, and the value of the pods' `app` label.
pub const NAME: &str = "importer";
pub const LOG_INTERVAL: Duration = Duration::from_secs(15);

/// The log line of a working pod.
pub const IMPORTED: &str = "imported 12 files, 0 waiting";
/// The log line of a stuck pod.
pub const STUCK: &str = "stuck: queue full, 4096 files waiting, none processed";

/// The in-memory state of the importer's pods.
#[derive(Debug, Default, Clone)]
pub struct Importer {
    /// The UID of the stuck pod.
    pub stuck: Option<String>,
}

/// Starts the importer if the scenario has one.
pub fn start(world: &mut World) {
    if world.importer.stuck.is_some() {
        world.schedule(LOG_INTERVAL, Task::Import);
    }
}

/// Writes a log line for every ready pod.
pub fn write_logs(world: &mut World) {
    world.schedule(LOG_INTERVAL, Task::Import);
    let now = world.now;
    for (key, pod) in world.all(kind::PODS) {
        if key.namespace == NAMESPACE
            && label(&pod, "app") == Some(NAME)
            && is_ready(&pod)
            && !is_terminating(&pod)
        {
            let uid = text(&pod, "/metadata/uid");
            let line = if world.importer.stuck.as_deref() == Some(uid) { STUCK } else { IMPORTED };
            world.logs.write(uid, NAME, now, line);
        }
    }
}
