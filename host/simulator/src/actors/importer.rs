//! An importer of media: a worker that stands still once its queue is full, until its pod is replaced.

use std::time::Duration;

use super::Wake;
use super::pods::is_ready;
use crate::kind;
use crate::object::{is_terminating, label, text};
use crate::world::World;

/// Its namespace.
pub const NAMESPACE: &str = "media";
/// The name of its Deployment, of its container, and the value of its pods' `app` label.
pub const NAME: &str = "importer";
/// How often it says what it does.
pub const PACE: Duration = Duration::from_secs(15);

/// What it says at work.
pub const WORKS: &str = "imported 12 files, 0 wait";
/// What it says when it stands still.
pub const STUCK: &str = "stuck: queue full, 4096 files wait and none is taken";

/// What its pods hold in their memory.
#[derive(Debug, Default, Clone)]
pub struct Importer {
    /// The uid of the pod that stands still.
    pub stuck: Option<String>,
}

/// Sets it going where there is one.
pub fn start(world: &mut World) {
    if world.importer.stuck.is_some() {
        world.wake(PACE, Wake::Import);
    }
}

/// Every pod that is up says how it fares.
pub fn work(world: &mut World) {
    world.wake(PACE, Wake::Import);
    let now = world.now;
    for (key, pod) in world.all(kind::PODS) {
        if key.namespace == NAMESPACE
            && label(&pod, "app") == Some(NAME)
            && is_ready(&pod)
            && !is_terminating(&pod)
        {
            let uid = text(&pod, "/metadata/uid");
            let line = if world.importer.stuck.as_deref() == Some(uid) { STUCK } else { WORKS };
            world.logs.write(uid, NAME, now, line);
        }
    }
}
