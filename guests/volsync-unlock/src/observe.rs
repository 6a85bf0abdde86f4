//! One look at everything that the decision needs. Asks, judges nothing.

use salve_sdk::Error;
use salve_sdk::wording::span;
use serde_json::Value;

use crate::config::Config;
use crate::evidence::{Log, Seen, weigh};
use crate::host::query_objects::{self, Kind, Query};
use crate::host::run::{self, Level};
use crate::host::{query_drivers, query_pvcs, query_replicationsources};
use crate::lookalikes;
use crate::namespaces::{Meant, Namespace, expand, is_glob};
use crate::watch::Watch;

/// Pause between two looks at the log while a second sample is awaited.
const PAUSE: u64 = 15_000;

/// Looks, and looks again where a lone lock key needs a second sample.
///
/// # Errors
/// What the cluster refuses, and `not-found` where the configuration names what is not there.
pub fn look(config: &Config) -> Result<Seen, Error> {
    let meant = namespaces(&config.namespaces)?;
    for remark in &meant.remarks {
        run::note(Level::Warning, remark);
    }
    if meant.present.is_empty() {
        return Err(Error::NotFound(format!(
            "none of the configured namespaces is there ({}); set `namespaces`",
            config.namespaces.join(", ")
        )));
    }
    let driver = query_drivers::find(&config.driver, &config.driver_namespace).map_err(|error| {
        error.map(|text| format!("{text} (looked in {}; set `driver` or `storage-class`, and `driver-namespace`)", config.driver_namespace))
    })?;
    let sources = match query_replicationsources::list_sources(&meant.present) {
        Ok(sources) => Some(sources),
        Err(Error::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    let destinations = match &sources {
        Some(_) => query_replicationsources::list_destinations(&meant.present)?,
        None => Vec::new(),
    };
    let mut seen = Seen {
        pvcs: query_pvcs::list_pvcs(&meant.present)?,
        snapshots: query_pvcs::list_snapshots(&meant.present)?,
        now: run::now(),
        namespaces: meant.present,
        remarks: meant.remarks,
        driver,
        sources,
        destinations,
        log: Log::default(),
    };
    read_log(config, &mut seen)?;
    Ok(seen)
}

fn read_log(config: &Config, seen: &mut Seen) -> Result<(), Error> {
    let Some(controller) = &seen.driver.controller else {
        return Ok(());
    };
    let watch = Watch::open(controller, seen.now.saturating_sub(config.log_window))?;
    watch.read(&mut seen.log)?;
    if seen.log.pods.is_empty() && controller.ready > 0 {
        return Err(Error::Unavailable(format!(
            "no pod of Deployment {} let its log be read, so nothing is known of locks: {}",
            controller.deployment,
            seen.log.unreadable.iter().cloned().collect::<Vec<_>>().join("; ")
        )));
    }
    let end = seen.now.saturating_add(config.sample_gap + config.sample_gap.min(120_000));
    let mut said = false;
    while seen.now < end && needs_a_sample(config, seen) {
        if !said {
            let longest = span(end - seen.now);
            run::note(
                Level::Info,
                &format!(
                    "a lock is logged that no claim is seen to wait for: watching up to {longest} for it to last"
                ),
            );
            said = true;
        }
        run::sleep(PAUSE.min(end - seen.now));
        watch.read(&mut seen.log)?;
        seen.now = run::now();
    }
    Ok(())
}

fn needs_a_sample(config: &Config, seen: &Seen) -> bool {
    let evidence = weigh(seen, config.sample_gap);
    lookalikes::forbids(seen).is_none() && !evidence.suffices() && !evidence.passing.is_empty()
}

fn namespaces(listed: &[String]) -> Result<Meant, Error> {
    match all_namespaces() {
        Ok(existing) => Ok(expand(listed, &existing)),
        // Plain names need no list: what is not there then shows as empty.
        Err(Error::Denied(why)) if !listed.iter().any(|name| is_glob(name)) => Ok(Meant {
            present: listed.to_vec(),
            remarks: vec![format!("whether the listed namespaces exist is not known: {why}")],
        }),
        Err(error) => Err(error),
    }
}

fn all_namespaces() -> Result<Vec<Namespace>, Error> {
    let kind = Kind { group: String::new(), resource: "namespaces".into() };
    let (mut found, mut next) = (Vec::new(), None);
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
                Error::Unavailable(format!("a namespace came as broken JSON: {error}"))
            })?;
            if let Some(name) = object["metadata"]["name"].as_str() {
                found.push(Namespace {
                    name: name.to_owned(),
                    terminating: object["metadata"]["deletionTimestamp"].is_string(),
                });
            }
        }
        next = page.next;
        if next.is_none() {
            return Ok(found);
        }
    }
}
