//! Reads everything that the decisions need.

use std::collections::BTreeMap;

use salve_sdk::Error;
use salve_sdk::format::duration;
use salve_sdk::query_drivers::Driver;
use salve_sdk::query_pods::PendingPod;
use serde_json::Value;

use crate::attachments::{self, Attachment};
use crate::config::Config;
use crate::evidence::{self, ControllerLog, MAX_LOG_INTERVAL_MS, NodeLog, Observation, assess};
use crate::host::query_objects::{self, Kind, Query};
use crate::host::run::{self, Level};
use crate::host::{query_drivers, query_pods, query_pvcs, query_replicationsources};
use crate::mover_jobs::{self, MoverJob};
use crate::namespaces::{Namespace, ResolvedNamespaces, is_glob, resolve};
use crate::node_locks;
use crate::similar_problems;
use crate::watch::LogWatch;

/// Interval between two reads of the log, while it is not known whether a lock persists.
const POLL_INTERVAL_MS: u64 = 15_000;

/// On how many nodes the log of the node plugin is read. After a failure of the whole storage,
/// volumes hang on all of them.
const MAX_NODES: usize = 10;

/// The label of what VolSync creates.
const VOLSYNC_LABEL: &str = "app.kubernetes.io/created-by=volsync";

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
        // mutant volsync-required: Err(Error::NotFound(_)) => None, ~> Err(Error::NotFound(text))
        //     => return Err(Error::NotFound(text)),
        Err(Error::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    let destinations = match &sources {
        Some(_) => query_replicationsources::list_destinations(&namespaces.existing)?,
        None => Vec::new(),
    };
    let pvcs = query_pvcs::list_pvcs(&namespaces.existing)?;
    let pvcs_entry = run::last_entry();
    let mut observation = Observation {
        pvcs,
        pvcs_entry,
        snapshots: query_pvcs::list_snapshots(&namespaces.existing)?,
        now: run::now(),
        namespaces: namespaces.existing,
        warnings: namespaces.warnings,
        driver,
        sources,
        destinations,
        pending_pods: Vec::new(),
        jobs: Vec::new(),
        attachments: Vec::new(),
        node_logs: BTreeMap::new(),
        log: ControllerLog::default(),
    };
    read_nodes(config, &mut observation)?;
    read_log(config, &mut observation)?;
    Ok(observation)
}

/// Reads what keeps pods on their nodes from starting. What is not granted is only a warning.
fn read_nodes(config: &Config, observation: &mut Observation) -> Result<(), Error> {
    match query_pods::list_pending_pods(&observation.namespaces) {
        Ok(pods) => observation.pending_pods = pods,
        Err(Error::Denied(reason)) => observation
            .warnings
            .push(format!("could not check for locks in node plugins: {reason}")),
        Err(error) => return Err(error),
    }
    let since = observation.now.saturating_sub(config.log_window_ms);
    let (node_logs, unread) =
        read_node_logs(&observation.driver, &observation.pending_pods, since)?;
    observation.node_logs = node_logs;
    observation.warnings.extend(unread);
    match read_jobs(&observation.namespaces) {
        Ok(jobs) => observation.jobs = jobs,
        Err(Error::Denied(reason)) => {
            observation.warnings.push(format!("could not check the Jobs of VolSync: {reason}"));
        }
        Err(error) => return Err(error),
    }
    match read_attachments(&observation.driver.name) {
        Ok(attachments) => observation.attachments = attachments,
        Err(Error::Denied(reason)) => observation
            .warnings
            .push(format!("could not check for volumes attached to dead nodes: {reason}")),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Reads the log of the node plugin on each node where a volume cannot be mounted. Also returns the
/// logs that could not be read, one sentence each.
pub fn read_node_logs(
    driver: &Driver,
    pending_pods: &[PendingPod],
    since: u64,
) -> Result<(BTreeMap<String, NodeLog>, Vec<String>), Error> {
    let (mut logs, mut unread) = (BTreeMap::new(), Vec::new());
    let Some(plugin) = &driver.node_plugin else { return Ok((logs, unread)) };
    for node in node_locks::nodes_to_read(pending_pods).into_iter().take(MAX_NODES) {
        let Some(pod) = plugin.pods.iter().find(|pod| pod.node == node) else { continue };
        let name = format!("{}/{}", pod.pod.namespace, pod.pod.name);
        let mut log = ControllerLog::default();
        let read = LogWatch::open_node(plugin, pod, since).and_then(|watch| watch.read(&mut log));
        match read {
            Ok(_) => {
                logs.insert(node.to_owned(), NodeLog { pod: name, log });
            }
            // The pod may be gone in the meantime.
            Err(Error::Denied(reason) | Error::NotFound(reason)) => {
                unread.push(format!("could not read the log of the node plugin {name}: {reason}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((logs, unread))
}

fn read_log(config: &Config, observation: &mut Observation) -> Result<(), Error> {
    let Some(controller) = &observation.driver.controller else {
        return Ok(());
    };
    let since = observation.now.saturating_sub(config.log_window_ms);
    let watch = LogWatch::open(controller, since)?;
    watch.read(&mut observation.log)?;
    let before = observation.log.sightings.clone();
    let may_be_released = before
        .0
        .iter()
        .any(|(key, sighting)| evidence::may_be_released(key, sighting, observation));
    let interval = config.sample_interval_ms;
    let limit = if may_be_released { MAX_LOG_INTERVAL_MS } else { 0 };
    let end = observation.now.saturating_add(limit.max(interval + interval.min(120_000)));
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
        observation.log.logged_again = observation.log.sightings.newer_than(&before);
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

fn read_jobs(namespaces: &[String]) -> Result<Vec<MoverJob>, Error> {
    let mut jobs = Vec::new();
    for namespace in namespaces {
        // Other Jobs are not read: their environment may contain passwords.
        let found = list_objects("batch", "jobs", Some(namespace), Some(VOLSYNC_LABEL))?;
        jobs.extend(found.iter().filter_map(mover_jobs::parse));
    }
    Ok(jobs)
}

fn read_attachments(driver: &str) -> Result<Vec<Attachment>, Error> {
    let attachments = list_objects("storage.k8s.io", "volumeattachments", None, None)?;
    if attachments.is_empty() {
        return Ok(Vec::new());
    }
    let nodes = list_objects("", "nodes", None, None)?;
    Ok(attachments::parse(&attachments, &nodes, driver))
}

fn list_namespaces() -> Result<Vec<Namespace>, Error> {
    let parse = |object: &Value| {
        Some(Namespace {
            name: object["metadata"]["name"].as_str()?.to_owned(),
            is_terminating: object["metadata"]["deletionTimestamp"].is_string(),
        })
    };
    Ok(list_objects("", "namespaces", None, None)?.iter().filter_map(parse).collect())
}

/// Lists all objects of a kind, in a namespace or cluster-scoped. Empty if the cluster does not
/// serve it.
fn list_objects(
    group: &str,
    resource: &str,
    namespace: Option<&str>,
    labels: Option<&str>,
) -> Result<Vec<Value>, Error> {
    let kind = Kind { group: group.into(), resource: resource.into() };
    let (mut objects, mut next) = (Vec::new(), None);
    loop {
        let page = match query_objects::list_objects(&Query {
            kind: kind.clone(),
            namespace: namespace.map(str::to_owned),
            label_selector: labels.map(str::to_owned),
            limit: 500,
            next,
        }) {
            Ok(page) => page,
            Err(Error::NotFound(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        for text in &page.objects {
            objects.push(serde_json::from_str(text).map_err(|error| {
                Error::Unavailable(format!("an object of {resource} is not valid JSON: {error}"))
            })?);
        }
        next = page.next;
        if next.is_none() {
            return Ok(objects);
        }
    }
}
