//! Polling with a deadline, the only way in which the harness and its tests wait.

use std::time::{Duration, Instant};

use anyhow::Result;

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Calls `check` until it succeeds and returns its result.
///
/// # Errors
/// The last error of `check`, once `timeout` has passed.
pub async fn eventually<T>(
    what: &str,
    timeout: Duration,
    mut check: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        match check().await {
            Ok(result) => return Ok(result),
            Err(reason) if began.elapsed() >= timeout => {
                return Err(reason.context(format!("{what}: not within {} s", timeout.as_secs())));
            }
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}
