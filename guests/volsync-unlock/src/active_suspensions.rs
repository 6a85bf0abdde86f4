//! The suspensions of this run, and how they are released.
//!
//! The host releases everything by itself if the guest fails. Releasing here allows batches, and
//! reports the result.

use salve_sdk::Error;
use salve_sdk::report::Finding;

use crate::host::reversals::Reversal;
use crate::host::run::{self, Level};
use crate::host::suspend_flux::{self, SuspendResult};
use crate::suspension::PlannedSuspension;

/// The suspensions of this run, in the order in which they were made.
#[derive(Default)]
pub struct ActiveSuspensions {
    entries: Vec<Entry>,
}

struct Entry {
    planned: PlannedSuspension,
    /// `None` once released.
    reversal: Option<Reversal>,
}

impl ActiveSuspensions {
    /// Suspends the objects in this order and waits until their reconciliations have finished.
    /// Objects that others have suspended in the meantime are skipped.
    pub fn suspend(
        &mut self,
        order: &[PlannedSuspension],
        drain_timeout_seconds: u32,
    ) -> Result<(), Error> {
        const REASON: &str = "volsync-unlock deletes ReplicationSources that lock the CSI driver";
        if order.is_empty() {
            return Ok(());
        }
        let targets: Vec<_> = order.iter().map(|planned| planned.target.clone()).collect();
        let results = suspend_flux::suspend(&targets, REASON, drain_timeout_seconds)?;
        for (planned, result) in order.iter().zip(results) {
            match result {
                SuspendResult::Suspended(reversal) => {
                    self.entries.push(Entry { planned: planned.clone(), reversal: Some(reversal) })
                }
                SuspendResult::AlreadySuspended(reason) => run::note(
                    Level::Warning,
                    &format!("{} was not suspended: {reason}", planned.target),
                ),
            }
        }
        Ok(())
    }

    /// Returns the objects that this run has suspended, including those resumed since, in the
    /// order in which they were suspended.
    pub fn order(&self) -> Vec<PlannedSuspension> {
        self.entries.iter().map(|entry| entry.planned.clone()).collect()
    }

    /// Resumes one object. A failure is a finding rather than an error, so that the others are
    /// resumed too.
    pub fn resume(&mut self, index: usize) -> Option<Finding> {
        let entry = self.entries.get_mut(index)?;
        let target = &entry.planned.target;
        let result = entry.reversal.as_ref()?.release();
        match result {
            Ok(taken_over) => {
                entry.reversal = None;
                taken_over.map(|change| {
                    Finding::new(format!(
                        "{target} was changed by another actor during the run and was left as it \
                         is: {change}"
                    ))
                })
            }
            // The host still has the reversal, and retries at the end of the run.
            Err(error) => Some(Finding::new(format!(
                "{target} is still suspended by this run: {}; the host will retry, and if that \
                 fails, `salve doctor` prints the commands to resume it",
                error.message()
            ))),
        }
    }

    /// Resumes everything, last suspended first.
    pub fn resume_all(&mut self) -> Vec<Finding> {
        (0..self.entries.len()).rev().filter_map(|index| self.resume(index)).collect()
    }

    /// Returns how many objects are still suspended.
    pub fn remaining(&self) -> usize {
        self.entries.iter().filter(|entry| entry.reversal.is_some()).count()
    }
}
