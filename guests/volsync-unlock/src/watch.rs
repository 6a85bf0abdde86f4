//! Follows the controller's log: all pods, only lines that tell of a lock.

use salve_sdk::Error;
use salve_sdk::query_drivers::Controller;

use crate::evidence::Log;
use crate::host::run;
use crate::host::tail_logs::{self, Cursor, Query};
use crate::lock::PATTERN;

const PAGE_BYTES: u32 = 8 << 20;
/// A log that is longer than so many pages is not read to its end, and that is said.
const MOST_PAGES: usize = 64;

/// A place in the log.
pub struct Watch {
    cursor: Cursor,
}

/// What one reading came to.
#[derive(Debug, Default)]
pub struct Reading {
    /// Lines that tell of a lock.
    pub lines: usize,
    /// All pods were read to the end of their logs, and there was one at least.
    pub whole: bool,
    /// Numbers of the recorded pages.
    pub last_entry: Vec<u64>,
}

impl Watch {
    /// Opens the log of this controller, later than `since`.
    pub fn open(controller: &Controller, since: u64) -> Result<Self, Error> {
        let cursor = tail_logs::open(&Query {
            deployment: controller.deployment.clone(),
            container: controller.plugin_container.clone(),
            since: Some(since),
            tail_lines: None,
            limit_bytes: PAGE_BYTES,
            pattern: Some(PATTERN.to_owned()),
        })?;
        Ok(Self { cursor })
    }

    /// Reads what came since, into `log`.
    pub fn read(&self, log: &mut Log) -> Result<Reading, Error> {
        let mut reading = Reading::default();
        for _ in 0..MOST_PAGES {
            let page = self.cursor.next()?;
            reading.last_entry.push(run::last_entry());
            for line in &page.lines {
                log.sightings.add(&line.pod, line.time, &line.text);
            }
            reading.lines += page.lines.len();
            reading.whole = !page.pods.is_empty() && page.unreadable.is_empty();
            log.pods.extend(page.pods);
            log.unreadable = page.unreadable.into_iter().collect();
            if !page.more {
                return Ok(reading);
            }
        }
        reading.whole = false;
        log.unreadable.insert(format!("the log is longer than {MOST_PAGES} pages"));
        Ok(reading)
    }
}
