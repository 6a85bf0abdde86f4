//! Waiting for a condition, never longer than a bound, by the run's own clock.

use salve_sdk::Error;

use crate::host::run;

/// How long the whole run may still take.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(u64);

impl Deadline {
    /// Returns the deadline of this run.
    pub fn of_run() -> Self {
        Self(run::deadline())
    }

    /// Whether it has passed.
    pub fn is_over(self) -> bool {
        run::now() >= self.0
    }

    /// The end of a wait of at most `bound`.
    pub fn within(self, bound: u64) -> u64 {
        // mutant waits-exceed-deadline: self.0.min(run::now().saturating_add(bound)) ~>
        //     run::now().saturating_add(bound)
        self.0.min(run::now().saturating_add(bound))
    }

    /// Whole seconds left of a wait of at most `bound`.
    pub fn seconds(self, bound: u64) -> u32 {
        let left = self.within(bound).saturating_sub(run::now()) / 1_000;
        u32::try_from(left).unwrap_or(u32::MAX)
    }
}

/// Asks until `done` says yes, every `pause` milliseconds and at most `bound`. Says whether it did.
pub fn until(
    deadline: Deadline,
    bound: u64,
    pause: u64,
    mut done: impl FnMut() -> Result<bool, Error>,
) -> Result<bool, Error> {
    let end = deadline.within(bound);
    loop {
        if done()? {
            return Ok(true);
        }
        let now = run::now();
        if now >= end {
            return Ok(false);
        }
        run::sleep(pause.min(end - now));
    }
}
