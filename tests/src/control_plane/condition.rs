//! Waiting for a condition with a deadline, the only way in which the harness and its stories wait.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How often a condition is looked at.
const PACE: Duration = Duration::from_millis(100);

/// Looks until it succeeds and gives what it saw. An error means "not yet"; the last one is told when time is up.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(seen) => return Ok(seen),
            Err(reason) if began.elapsed() >= within => {
                return Err(reason.context(format!("{what}: not within {} s", within.as_secs())));
            }
            Err(_) => tokio::time::sleep(PACE).await,
        }
    }
}
