//! Rook's view of Ceph: the health stays what it was at the start, and is checked every minute.

use std::time::Duration;

use super::Wake;
use crate::kind;
use crate::object::{seconds, set};
use crate::world::World;

/// How often the health is checked.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Checks the health.
pub fn check(world: &mut World) {
    let now = seconds(world.now);
    for (key, _) in world.all(kind::CEPH_CLUSTERS) {
        world.amend(&key, |cluster| set(cluster, &["status", "ceph", "lastChecked"], now.clone()));
    }
    world.wake(INTERVAL, Wake::CephHealth);
}
