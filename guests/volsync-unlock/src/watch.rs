//! Follows the log of a driver: only lines that report a lock.

use salve_sdk::query_drivers::{Controller, NodePlugin, NodePod};
use salve_sdk::{Error, ObjectRef};

use crate::evidence::ControllerLog;
use crate::host::run;
use crate::host::tail_logs::{self, Cursor, Query, Workload, WorkloadKind};
use crate::lock::PATTERN;

const PAGE_BYTES: u32 = 8 << 20;
/// A longer log is not read to its end, and is reported as unreadable.
const MAX_PAGES: usize = 64;

/// A position in the log.
pub struct LogWatch {
    cursor: Cursor,
}

/// The result of reading the log once.
#[derive(Debug, Default)]
pub struct Reading {
    /// Whether at least one pod was found and the logs of all pods were read to their ends.
    pub is_complete: bool,
}

impl LogWatch {
    /// Opens the log of this controller from `since`, in milliseconds since the epoch.
    pub fn open(controller: &Controller, since: u64) -> Result<Self, Error> {
        let object = controller.deployment.clone();
        let workload = Workload { kind: WorkloadKind::Deployment, object };
        Self::open_workload(workload, &controller.plugin_container, since)
    }

    /// Opens the log of the node plugin's pod on one node.
    pub fn open_node(plugin: &NodePlugin, pod: &NodePod, since: u64) -> Result<Self, Error> {
        let object = ObjectRef { namespace: pod.pod.namespace.clone(), name: pod.pod.name.clone() };
        let workload = Workload { kind: WorkloadKind::Pod, object };
        Self::open_workload(workload, &plugin.plugin_container, since)
    }

    fn open_workload(workload: Workload, container: &str, since: u64) -> Result<Self, Error> {
        let cursor = tail_logs::open(&Query {
            workload,
            container: container.to_owned(),
            since: Some(since),
            tail_lines: None,
            limit_bytes: PAGE_BYTES,
            pattern: Some(PATTERN.to_owned()),
        })?;
        Ok(Self { cursor })
    }

    /// Reads the lines since the last call, and adds them to `log`.
    pub fn read(&self, log: &mut ControllerLog) -> Result<Reading, Error> {
        let mut reading = Reading::default();
        for _ in 0..MAX_PAGES {
            let page = self.cursor.next()?;
            log.entry = run::last_entry();
            for line in &page.lines {
                log.sightings.add(&line.pod, line.time, &line.text);
            }
            reading.is_complete = !page.pods.is_empty() && page.unreadable.is_empty();
            log.pods.extend(page.pods);
            log.unreadable = page.unreadable.into_iter().collect();
            log.skipped = page.skipped.into_iter().collect();
            if !page.more {
                return Ok(reading);
            }
        }
        reading.is_complete = false;
        log.unreadable.insert(format!("the log is longer than {MAX_PAGES} pages"));
        Ok(reading)
    }
}
