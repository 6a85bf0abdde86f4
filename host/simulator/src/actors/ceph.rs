//! Rook's health check of Ceph, every minute. The health itself never changes.

use std::time::Duration;

use super::Task;
use crate::kind;
use crate::object::{seconds, set};
use crate::world::World;

pub const INTERVAL: Duration = Duration::from_secs(60);

/// Updates the time of the last check.
pub fn check(world: &mut World) {
    let now = seconds(world.now);
    for (key, _) in world.all(kind::CEPH_CLUSTERS) {
        world.update(&key, |cluster| set(cluster, &["status", "ceph", "lastChecked"], now.clone()));
    }
    world.schedule(INTERVAL, Task::CephHealth);
}
