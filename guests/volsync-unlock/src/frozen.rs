//! What this run holds suspended, and the way back.
//!
//! The host gives everything back by itself if the guest dies; this is for ending well, and for saying so.

use salve_sdk::Error;
use salve_sdk::report::Finding;

use crate::freeze::Freeze;
use crate::host::run::{self, Level};
use crate::host::suspend_flux::{self, SuspendResult, Suspension};

/// Suspensions in the order they were taken.
#[derive(Default)]
pub struct DeletionTarget {
    held: Vec<Held>,
}

struct Held {
    freeze: Freeze,
    suspension: Option<Suspension>,
}

impl DeletionTarget {
    /// Suspends them in this order and waits for their drains. What a person suspended meanwhile is left to them.
    pub fn take(&mut self, order: &[Freeze], drain_seconds: u32) -> Result<(), Error> {
        const REASON: &str = "volsync-unlock deletes ReplicationSources that jam the CSI driver";
        if order.is_empty() {
            return Ok(());
        }
        let targets: Vec<_> = order.iter().map(|freeze| freeze.target.clone()).collect();
        for (freeze, hold) in
            order.iter().zip(suspend_flux::suspend(&targets, REASON, drain_seconds)?)
        {
            match hold {
                SuspendResult::Suspended(suspension) => {
                    self.held.push(Held { freeze: freeze.clone(), suspension: Some(suspension) })
                }
                SuspendResult::AlreadySuspended(why) => {
                    run::note(Level::Warning, &format!("left alone: {}: {why}", freeze.target))
                }
            }
        }
        Ok(())
    }

    /// What is held or was, in the order it was taken.
    pub fn order(&self) -> Vec<Freeze> {
        self.held.iter().map(|held| held.freeze.clone()).collect()
    }

    /// Gives one back. What stands in the way is a finding, not an error: the others must come back too.
    pub fn resume(&mut self, index: usize) -> Option<Finding> {
        let held = self.held.get_mut(index)?;
        let answer = held.suspension.as_ref()?.resume();
        match answer {
            Ok(resumed) => {
                held.suspension = None;
                resumed.taken_over.map(|how| {
                    Finding::new(format!(
                        "{} was changed by somebody else meanwhile and left so: {how}",
                        held.freeze.target
                    ))
                })
            }
            // The host holds it still and tries again at the end of the run.
            Err(error) => Some(Finding::new(format!(
                "{} is still suspended by this run: {}; the host tries again, and salve doctor says what to type if it fails",
                held.freeze.target,
                error.message()
            ))),
        }
    }

    /// Gives everything back, last taken first.
    pub fn release(&mut self) -> Vec<Finding> {
        (0..self.held.len()).rev().filter_map(|index| self.resume(index)).collect()
    }

    /// How many are still suspended.
    pub fn open(&self) -> usize {
        self.held.iter().filter(|held| held.suspension.is_some()).count()
    }
}
