//! Reads everything that the decisions need.

use salve_sdk::Error;
use salve_sdk::format::duration;
use serde_json::Value;

use crate::config::Config;
use crate::evidence::{ControllerLog, Observation, assess};
use crate::host::query_objects::{self, Kind, Query};
use crate::host::run::{self, Level};
use crate::host::{query_drivers, query_pods, query_pvcs, query_replicationsources};
use crate::namespaces::{Namespace, ResolvedNamespaces, is_glob, resolve};
use crate::similar_problems;
use crate::watch::LogWatch;

/// Interval between two reads of the log, while it is not known whether a lock persists.
const POLL_INTERVAL_MS: u64 = 15_000;

/// Reads the state of the cluster. Keeps reading the log if the only lock needs a second sample.
///
/// # Errors
/// Those of the calls, and `not-found` if the configuration names something that does not exist.
pub fn observe(config: &Config) -> Result<Observation, Error> {
    let namespaces = namespaces(&config.namespaces)?;
    for warning in &namespaces.warnings {
        run::note(Level::Warning, warning);
    }
    if namespaces.existing.is_empty() {
        return Err(Error::NotFound(format!(
            "none of the configured namespaces exists ({}); set `namespaces`",
            config.namespaces.join(", ")
        )));
    }
    let driver = query_drivers::find(&config.driver, &config.driver_namespace).map_err(
        |error| match error {
            Error::NotFound(text) => Error::NotFound(format!(
                "{text} (searched namespace {}; set `driver` or `storageClass`, and \
                 `driverNamespace`)",
                config.driver_namespace
            )),
            Error::Denied(_) | Error::Conflict(_) | Error::Invalid(_) | Error::Unavailable(_) => {
                error
            }
        },
    )?;
    let sources = match query_replicationsources::list_sources(&namespaces.existing) {
        Ok(sources) => Some(sources),
        Err(Error::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    let destinations = match &sources {
        Some(_) => query_replicationsources::list_destinations(&namespaces.existing)?,
        None => Vec::new(),
    };
    let mut warnings = namespaces.warnings;
    let pending_pods = match query_pods::list_pending_pods(&namespaces.existing) {
        Ok(pods) => pods,
        Err(Error::Denied(reason)) => {
            warnings.push(format!("could not check for locks in node plugins: {reason}"));
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let mut observation = Observation {
        pvcs: query_pvcs::list_pvcs(&namespaces.existing)?,
        snapshots: query_pvcs::list_snapshots(&namespaces.existing)?,
        now: run::now(),
        namespaces: namespaces.existing,
        warnings,
        driver,
        sources,
        destinations,
        pending_pods,
        log: ControllerLog::default(),
    };
    read_log(config, &mut observation)?;
    Ok(observation)
}

fn read_log(config: &Config, observation: &mut Observation) -> Result<(), Error> {
    let Some(controller) = &observation.driver.controller else {
        return Ok(());
    };
    let since = observation.now.saturating_sub(config.log_window_ms);
    let watch = LogWatch::open(controller, since)?;
    watch.read(&mut observation.log)?;
    let interval = config.sample_interval_ms;
    let end = observation.now.saturating_add(interval + interval.min(120_000));
    let mut is_reported = false;
    while observation.now < end && needs_sample(config, observation) {
        if !is_reported {
            run::note(
                Level::Info,
                &format!(
                    "a lock is logged that no Pending PVC is known to wait for: watching for up \
                     to {} whether it persists",
                    duration(end - observation.now)
                ),
            );
            is_reported = true;
        }
        run::sleep(POLL_INTERVAL_MS.min(end - observation.now));
        watch.read(&mut observation.log)?;
        observation.now = run::now();
    }
    Ok(())
}

fn needs_sample(config: &Config, observation: &Observation) -> bool {
    let evidence = assess(observation, config.sample_interval_ms);
    similar_problems::blocking_problem(observation).is_none()
        && !evidence.is_sufficient()
        && !evidence.unconfirmed.is_empty()
}

fn namespaces(configured: &[String]) -> Result<ResolvedNamespaces, Error> {
    match list_namespaces() {
        Ok(existing) => Ok(resolve(configured, &existing)),
        // Plain names need no list: a namespace that does not exist is merely empty.
        Err(Error::Denied(reason)) if !configured.iter().any(|name| is_glob(name)) => {
            Ok(ResolvedNamespaces {
                existing: configured.to_vec(),
                warnings: vec![format!(
                    "could not check whether the configured namespaces exist: {reason}"
                )],
            })
        }
        Err(error) => Err(error),
    }
}

fn list_namespaces() -> Result<Vec<Namespace>, Error> {
    let kind = Kind { group: String::new(), resource: "namespaces".into() };
    let (mut namespaces, mut next) = (Vec::new(), None);
    loop {
        let page = query_objects::list_objects(&Query {
            kind: kind.clone(),
            namespace: None,
            label_selector: None,
            limit: 500,
            next,
        })?;
        for text in &page.objects {
            let object: Value = serde_json::from_str(text).map_err(|error| {
                Error::Unavailable(format!("a Namespace is not valid JSON: {error}"))
            })?;
            if let Some(name) = object["metadata"]["name"].as_str() {
                namespaces.push(Namespace {
                    name: name.to_owned(),
                    is_terminating: object["metadata"]["deletionTimestamp"].is_string(),
                });
            }
        }
        next = page.next;
        if next.is_none() {
            return Ok(namespaces);
        }
    }
}
