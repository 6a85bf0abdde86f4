//! `volsync-unlock`: finds and clears the VolSync / CSI operation-lock incident.
//!
//! Its seven steps are those of the playbook, mended: evidence, freeze, delete, restart, wait, resume,
//! verify. What it decides it decides in plain functions over plain values, tested natively; what it does it
//! asks of the host, in `observe`, `prepare`, `frozen`, `work` and `ending`.

// The outline, and what asks the host.
mod deadline;
mod ending;
mod frozen;
mod host;
mod observe;
mod prepare;
mod remediate;
mod watch;
mod work;

// The decisions.
mod config;
mod consent;
mod diagnose;
mod evidence;
mod freeze;
mod lock;
mod lookalikes;
mod namespaces;
mod prevention;
mod selection;
mod staging;
mod verify;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod scripted;

use salve_sdk::report::{Conclusion, Description, Diagnosis};
use salve_sdk::{Error, Remediation};

use crate::config::Config;
use crate::host::run;

/// The remediation.
pub struct VolsyncUnlock;

impl Remediation for VolsyncUnlock {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            fixes: "Clears CSI operation locks that orphaned or wedged VolSync ReplicationSources bring about.".into(),
            configuration: config::schema().to_json(),
        }
    }

    fn diagnose(config: &str) -> Result<Diagnosis, Error> {
        let config = Config::read(config)?;
        run::step("evidence", "is it this incident?");
        let seen = observe::look(&config)?;
        Ok(diagnose::judge(&seen, config.sample_gap).0)
    }

    fn remediate(config: &str) -> Result<Conclusion, Error> {
        remediate::remediate(&Config::read(config)?)
    }
}

salve_sdk::remediation!(VolsyncUnlock);
