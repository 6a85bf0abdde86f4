//! Virtual time, as seen from outside.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use crate::simulator::locked;
use crate::world::World;

/// The clock of one simulated cluster.
#[derive(Debug, Clone)]
pub struct Clock(pub(crate) Arc<Mutex<World>>);

impl Clock {
    /// The virtual time.
    pub fn now(&self) -> Timestamp {
        locked(&self.0).now
    }

    /// Sleeps in virtual time: all that falls due until then happens, and the call returns at once.
    pub async fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }

    /// Moves virtual time, letting all that falls due happen in order.
    pub fn advance(&self, duration: Duration) {
        locked(&self.0).advance(duration);
    }
}
