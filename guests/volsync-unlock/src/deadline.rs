//! Waiting for a condition until a timeout or the run's deadline, by the run's clock.

use salve_sdk::Error;

use crate::host::run;

/// When the run has to be finished, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(u64);

impl Deadline {
    /// Returns the deadline of this run.
    pub fn of_run() -> Self {
        Self(run::deadline())
    }

    pub fn has_passed(self) -> bool {
        run::now() >= self.0
    }

    /// Returns when a wait that starts now and takes at most `timeout_ms` has to end, in
    /// milliseconds since the epoch.
    pub fn limit(self, timeout_ms: u64) -> u64 {
        // mutant waits-exceed-deadline: self.0.min(run::now().saturating_add(timeout_ms)) ~>
        //     run::now().saturating_add(timeout_ms)
        self.0.min(run::now().saturating_add(timeout_ms))
    }

    /// Returns how long a wait of at most `timeout_ms` may take, in whole seconds.
    pub fn limit_seconds(self, timeout_ms: u64) -> u32 {
        let remaining = self.limit(timeout_ms).saturating_sub(run::now()) / 1_000;
        u32::try_from(remaining).unwrap_or(u32::MAX)
    }
}

/// Polls `condition` every `interval_ms` for at most `timeout_ms`. Returns whether it became true.
pub fn wait_until(
    deadline: Deadline,
    timeout_ms: u64,
    interval_ms: u64,
    mut condition: impl FnMut() -> Result<bool, Error>,
) -> Result<bool, Error> {
    let end = deadline.limit(timeout_ms);
    loop {
        if condition()? {
            return Ok(true);
        }
        let now = run::now();
        if now >= end {
            return Ok(false);
        }
        run::sleep(interval_ms.min(end - now));
    }
}
