//! `restart-if-stuck`: a pattern in the log of a Deployment, a look at what stands behind it, one restart, and
//! a watch whether the pattern stays away. Read it top to bottom; it is all there is.

use salve_sdk::query_objects::{self, Kind};
use salve_sdk::report::{Conclusion, Description, Diagnosis, Finding, State, Verdict};
use salve_sdk::restart_deployment::{self, Strategy};
use salve_sdk::schema::{Schema, Values};
use salve_sdk::tail_logs::{self, Cursor, Query};
use salve_sdk::wording::{count, span};
use salve_sdk::{Error, ObjectRef, Remediation, run};
use serde_json::Value;

struct RestartIfStuck;

salve_sdk::remediation!(RestartIfStuck);

/// What may be configured. `salve inspect` shows it, and refuses what does not fit.
fn schema() -> Schema {
    Schema::new()
        .text("deployment", "media/importer", "What to restart, as namespace/name.")
        .text("container", "importer", "The container whose log is read.")
        .text(
            "pattern",
            "^stuck: queue full",
            "A regular expression: a line that fits says that it is stuck.",
        )
        .text("backend", "media/library", "The StatefulSet that it writes to, as namespace/name.")
        .number("window", 600, "seconds", 1..=86_400, "How far back the log is read.")
        .number("rollout-wait", 300, "seconds", 1..=3_600, "How long the new pods may take.")
        .number(
            "quiet",
            120,
            "seconds",
            1..=3_600,
            "How long the pattern must stay away to call it fixed.",
        )
}

impl Remediation for RestartIfStuck {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            fixes: "Restarts a Deployment whose log says that it is stuck.".into(),
            configuration: schema().to_json(),
        }
    }

    fn diagnose(config: &str) -> Result<Diagnosis, Error> {
        let config = schema().read(config)?;
        let since = run::now().saturating_sub(config.number("window") * 1_000);
        let (lines, _) = read(&open(&config, since)?)?;
        if lines.is_empty() {
            return Ok(Diagnosis::new(State::Healthy, "the pattern is not in the log"));
        }
        let found =
            Finding::with(format!("{} with the pattern", count(lines.len(), "log line")), lines);
        if let Some(down) = backend_down(&config)? {
            let mut answer = Diagnosis::new(
                State::DifferentProblem,
                "what stands behind it is down: a restart would not help",
            );
            answer.evidence_against.push(found);
            answer.ruled_out.push(Finding::new(down));
            return Ok(answer);
        }
        let mut answer = Diagnosis::new(
            State::Incident,
            format!("{} says that it is stuck", config.text("deployment")),
        );
        answer.evidence_for.push(found);
        Ok(answer)
    }

    fn remediate(text: &str) -> Result<Conclusion, Error> {
        run::step("evidence", "is it stuck?");
        let diagnosis = Self::diagnose(text)?;
        match diagnosis.state {
            State::Incident => {}
            State::Healthy => return Ok(Conclusion::new(Verdict::NothingToDo, diagnosis.summary)),
            State::DifferentProblem => {
                return Ok(Conclusion::new(Verdict::DifferentProblem, diagnosis.summary));
            }
        }
        let config = schema().read(text)?;
        let deployment = reference(&config, "deployment")?;

        run::step("restart", &format!("restart {deployment}"));
        let uid = object("apps", "deployments", &deployment)?["metadata"]["uid"]
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
                format!("{deployment} was restarted, but waits for {what}"),
            ));
        }

        let quiet = config.number("quiet") * 1_000;
        run::step("verify", &format!("the pattern stays away for {}", span(quiet)));
        let (cursor, from) = (open(&config, restarted.at)?, run::now());
        loop {
            let (lines, proof) = read(&cursor)?;
            if !lines.is_empty() {
                let mut end = Conclusion::new(
                    Verdict::NotFixed,
                    "the pattern came back: the cause lies elsewhere, do not restart again",
                );
                end.remaining.push(Finding::with(
                    format!("{} since the restart", count(lines.len(), "log line")),
                    lines,
                ));
                return Ok(end);
            }
            if run::now() - from >= quiet {
                // The host believes "fixed" only of its own record: here is the page that shows nothing.
                let mut end = Conclusion::new(
                    Verdict::Fixed,
                    format!("the pattern has stayed away for {}", span(quiet)),
                );
                end.evidence = diagnosis.evidence_for;
                end.proof = vec![proof];
                return Ok(end);
            }
            run::sleep(5_000);
        }
    }
}

fn open(config: &Values, since: u64) -> Result<Cursor, Error> {
    tail_logs::open(&Query {
        deployment: reference(config, "deployment")?,
        container: config.text("container").to_owned(),
        since: Some(since),
        tail_lines: None,
        limit_bytes: 1 << 20,
        pattern: Some(config.text("pattern").to_owned()),
    })
}

/// The lines that came since, and the number under which the last page is recorded.
fn read(cursor: &Cursor) -> Result<(Vec<String>, u64), Error> {
    let mut lines = Vec::new();
    loop {
        let page = cursor.next()?;
        let last_entry = run::last_entry();
        if page.pods.is_empty() || !page.unreadable.is_empty() {
            return Err(Error::Unavailable(format!(
                "not every pod's log could be read: {}",
                page.unreadable.join("; ")
            )));
        }
        lines.extend(page.lines.into_iter().map(|line| format!("{}: {}", line.pod, line.text)));
        if !page.more {
            return Ok((lines, last_entry));
        }
    }
}

/// What is wrong with what the Deployment writes to, if anything is.
fn backend_down(config: &Values) -> Result<Option<String>, Error> {
    let name = reference(config, "backend")?;
    let backend = object("apps", "statefulsets", &name)?;
    let (wanted, ready) = (
        backend["spec"]["replicas"].as_u64().unwrap_or(1),
        backend["status"]["readyReplicas"].as_u64().unwrap_or(0),
    );
    Ok((ready < wanted)
        .then(|| format!("StatefulSet {name} has {ready} of {wanted} replicas ready")))
}

fn object(group: &str, resource: &str, name: &ObjectRef) -> Result<Value, Error> {
    let kind = Kind { group: group.into(), resource: resource.into() };
    let text = query_objects::get(&kind, Some(&name.namespace), &name.name)?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Unavailable(format!("{resource} {name} is no JSON: {error}")))
}

fn reference(config: &Values, key: &str) -> Result<ObjectRef, Error> {
    ObjectRef::parse(config.text(key))
        .ok_or_else(|| Error::Invalid(format!("configuration: `{key}` must be namespace/name")))
}
