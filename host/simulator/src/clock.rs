//! The public handle on a cluster's virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use crate::simulator::lock_world;
use crate::world::World;

/// The virtual clock of one simulated cluster.
#[derive(Debug, Clone)]
pub struct Clock(pub(crate) Arc<Mutex<World>>);

impl Clock {
    /// Returns the virtual time.
    pub fn now(&self) -> Timestamp {
        lock_world(&self.0).now
    }

    /// Sleeps in virtual time: runs all tasks that become due and returns without waiting.
    pub async fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }

    /// Advances virtual time and runs all tasks that become due, in order.
    pub fn advance(&self, duration: Duration) {
        lock_world(&self.0).advance(duration);
    }
}
