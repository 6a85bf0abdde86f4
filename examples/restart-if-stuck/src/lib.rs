//! `restart-if-stuck`: if the log of a Deployment contains a pattern, and its backend is healthy,
//! restarts the Deployment once and verifies that the pattern does not come back.
//!
//! This file is the whole guest. Read it from top to bottom.

use salve_sdk::format::{count, duration};
use salve_sdk::query_objects::{self, Kind};
use salve_sdk::report::{Conclusion, Description, Diagnosis, Finding, State, Verdict};
use salve_sdk::restart_deployment::{self, Strategy};
use salve_sdk::schema::{Schema, Values};
use salve_sdk::tail_logs::{self, Cursor, Query, Workload, WorkloadKind};
use salve_sdk::{Error, ObjectRef, Remediation, run};
use serde_json::Value;

struct RestartIfStuck;

salve_sdk::remediation!(RestartIfStuck);

/// The configuration. `salve inspect` lists it, and the host rejects invalid values.
fn schema() -> Schema {
    Schema::new()
        .text("deployment", "media/importer", "Deployment to restart, as namespace/name.")
        .text("container", "importer", "Container whose log is read.")
        .text(
            "pattern",
            "^stuck: queue full",
            "Regular expression. A log line that matches means that the Deployment is stuck.",
        )
        .text("backend", "media/library", "StatefulSet that it depends on, as namespace/name.")
        .number("window", 600, "seconds", 1..=86_400, "How far back to read the log.")
        .number("rollout-wait", 300, "seconds", 1..=3_600, "How long to wait for the new pods.")
        .number(
            "quiet",
            120,
            "seconds",
            1..=3_600,
            "How long the pattern must be absent after the restart.",
        )
}

impl Remediation for RestartIfStuck {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            fixes: "Restarts a Deployment whose log reports that it is stuck.".into(),
            configuration: schema().to_json(),
        }
    }

    fn diagnose(config: &str) -> Result<Diagnosis, Error> {
        let config = schema().read(config)?;
        let since = run::now().saturating_sub(config.number("window") * 1_000);
        let (lines, entry) = read_log(&open_log(&config, since)?)?;
        if lines.is_empty() {
            return Ok(Diagnosis::new(State::Healthy, "the pattern does not appear in the log"));
        }
        let matches = count(lines.len(), "matching log line");
        let found = Finding::with_details(matches, lines);
        if let Some(down) = backend_down(&config)? {
            let mut diagnosis = Diagnosis::new(
                State::DifferentProblem,
                "the backend is not ready: a restart would not help",
            );
            diagnosis.evidence_against.push(found);
            diagnosis.ruled_out.push(Finding::new(down));
            return Ok(diagnosis);
        }
        let mut diagnosis = Diagnosis::new(
            State::Incident,
            format!("{} reports that it is stuck", config.text("deployment")),
        );
        diagnosis.evidence_for.push(found);
        // The host accepts `fixed` only for a problem that the guest reported before its first
        // write: it reads the same log again at the end, with the pattern of the Remediation. If it
        // does not accept the report, it says why, and the run ends as `unverified`.
        drop(run::observed("stuck", entry));
        Ok(diagnosis)
    }

    fn remediate(text: &str) -> Result<Conclusion, Error> {
        run::step("diagnose", "check whether it is stuck");
        let diagnosis = Self::diagnose(text)?;
        match diagnosis.state {
            State::Incident => {}
            State::Healthy => return Ok(Conclusion::new(Verdict::NothingToDo, diagnosis.summary)),
            State::DifferentProblem => {
                return Ok(Conclusion::new(Verdict::DifferentProblem, diagnosis.summary));
            }
            State::Inconclusive => {
                return Ok(Conclusion::new(Verdict::Inconclusive, diagnosis.summary));
            }
        }
        let config = schema().read(text)?;
        let deployment = object_ref(&config, "deployment")?;

        run::step("restart", &format!("restart {deployment}"));
        let uid = get_object("apps", "deployments", &deployment)?["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let restarted = restart_deployment::restart(&deployment, &uid, Strategy::Annotate)?;
        let wait = u32::try_from(config.number("rollout-wait")).unwrap_or(u32::MAX);
        let rollout = restart_deployment::await_rollout(&deployment, &restarted, &[], wait)?;
        if !rollout.done {
            let what = rollout.waiting_for.unwrap_or_default();
            return Ok(Conclusion::new(
                Verdict::NotFixed,
                format!("{deployment} was restarted but is not ready: waiting for {what}"),
            ));
        }

        let quiet = config.number("quiet") * 1_000;
        run::step("verify", &format!("watch the log for {}", duration(quiet)));
        let (cursor, start) = (open_log(&config, restarted.at)?, run::now());
        loop {
            let (lines, _) = read_log(&cursor)?;
            if !lines.is_empty() {
                let mut conclusion = Conclusion::new(
                    Verdict::NotFixed,
                    "the pattern came back, so the cause is elsewhere: do not restart it again",
                );
                conclusion.remaining.push(Finding::with_details(
                    format!("{} since the restart", count(lines.len(), "log line")),
                    lines,
                ));
                return Ok(conclusion);
            }
            if run::now() - start >= quiet {
                let mut conclusion = Conclusion::new(
                    Verdict::Fixed,
                    format!("the pattern has not appeared for {}", duration(quiet)),
                );
                conclusion.evidence = diagnosis.evidence_for;
                return Ok(conclusion);
            }
            run::sleep(5_000);
        }
    }
}

fn open_log(config: &Values, since: u64) -> Result<Cursor, Error> {
    tail_logs::open(&Query {
        workload: Workload {
            kind: WorkloadKind::Deployment,
            object: object_ref(config, "deployment")?,
        },
        container: config.text("container").to_owned(),
        since: Some(since),
        tail_lines: None,
        limit_bytes: 1 << 20,
        pattern: Some(config.text("pattern").to_owned()),
    })
}

/// Returns the matching lines since the last read, and the number of the journal entry of the last
/// page.
fn read_log(cursor: &Cursor) -> Result<(Vec<String>, u64), Error> {
    let mut lines = Vec::new();
    loop {
        let page = cursor.next()?;
        let last_entry = run::last_entry();
        if page.pods.is_empty() || !page.unreadable.is_empty() {
            return Err(Error::Unavailable(format!(
                "failed to read some pod logs: {}",
                page.unreadable.join("; ")
            )));
        }
        lines.extend(page.lines.into_iter().map(|line| format!("{}: {}", line.pod, line.text)));
        if !page.more {
            return Ok((lines, last_entry));
        }
    }
}

/// Returns why the backend is down, or None if it is ready.
fn backend_down(config: &Values) -> Result<Option<String>, Error> {
    let name = object_ref(config, "backend")?;
    let backend = get_object("apps", "statefulsets", &name)?;
    let (wanted, ready) = (
        backend["spec"]["replicas"].as_u64().unwrap_or(1),
        backend["status"]["readyReplicas"].as_u64().unwrap_or(0),
    );
    Ok((ready < wanted)
        .then(|| format!("StatefulSet {name} has {ready} of {wanted} replicas ready")))
}

fn get_object(group: &str, resource: &str, name: &ObjectRef) -> Result<Value, Error> {
    let kind = Kind { group: group.into(), resource: resource.into() };
    let text = query_objects::get(&kind, Some(&name.namespace), &name.name)?;
    serde_json::from_str(&text).map_err(|error| {
        Error::Unavailable(format!("{resource} {name} is not valid JSON: {error}"))
    })
}

fn object_ref(config: &Values, key: &str) -> Result<ObjectRef, Error> {
    ObjectRef::parse(config.text(key))
        .ok_or_else(|| Error::Invalid(format!("configuration: `{key}` must be namespace/name")))
}
