//! `volsync-unlock`: diagnoses and clears the VolSync / CSI operation-lock incident.
//!
//! A run has seven steps, those of the manual playbook with its gaps closed: evidence, suspend,
//! delete, restart, wait, resume, verify. Decisions are plain functions over plain values, with
//! native unit tests. Calls to the host are made only in `observe`, `prepare`, `problems`,
//! `active_suspensions`, `steps`, `watch`, and `conclusion`.

// A new case must be considered wherever cases differ.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

// Calls to the host.
mod active_suspensions;
mod conclusion;
mod deadline;
mod host;
mod observe;
mod prepare;
mod problems;
mod remediate;
mod steps;
mod watch;

// Decisions.
mod attachments;
mod backups;
mod config;
mod consent;
mod diagnose;
mod driver_version;
mod evidence;
mod lock;
mod mover_jobs;
mod namespaces;
mod node_locks;
mod prevention;
mod resume_order;
mod selection;
mod similar_problems;
mod snapshots;
mod suspension;
mod verify;

#[cfg(test)]
#[path = "tests/fake_cluster.rs"]
mod fake_cluster;
#[cfg(test)]
#[path = "tests/samples.rs"]
mod samples;
#[cfg(test)]
#[path = "tests/scenarios.rs"]
mod scenarios;

use salve_sdk::report::{Conclusion, Description, Diagnosis};
use salve_sdk::{Error, Remediation};

use crate::config::Config;
use crate::host::run;

/// The title of the first step, in diagnoses and runs alike.
const EVIDENCE_TITLE: &str = "check for CSI operation locks";

/// The guest.
pub struct VolsyncUnlock;

impl Remediation for VolsyncUnlock {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            fixes: "Clears CSI operation locks caused by orphaned or stuck VolSync \
                    ReplicationSources."
                .into(),
            configuration: config::schema().to_json(),
        }
    }

    fn diagnose(config: &str) -> Result<Diagnosis, Error> {
        let config = Config::read(config)?;
        run::step("evidence", EVIDENCE_TITLE);
        let observation = observe::observe(&config)?;
        Ok(diagnose::diagnose(&observation, config.sample_interval_ms).0)
    }

    fn remediate(config: &str) -> Result<Conclusion, Error> {
        remediate::remediate(&Config::read(config)?)
    }
}

salve_sdk::remediation!(VolsyncUnlock);
