//! Diagnoses a cluster, or runs on it, and compares the result with the truth.

use crate::compose::Cluster;
use crate::truth::{Cause, Truth, name};
use crate::words;
use futures::future::BoxFuture;
use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::session::{FinishedRun, Frontend, PreparedRun};
use salve_core::Millis;
use salve_core::report::{Diagnosis, Finding, Report, State, Verdict};
use salve_kubernetes::Cluster as Connection;
use salve_run::{Clock, Mode};
use salve_simulator::Simulator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The guest, prepared once for each driver.
#[derive(Default)]
pub struct Guests(BTreeMap<String, PreparedRun>);

impl Guests {
    /// Returns the guest for a driver.
    async fn for_driver(&mut self, driver: &str) -> &PreparedRun {
        if !self.0.contains_key(driver) {
            let config = vec![format!("driver={driver}")];
            let options = GuestOptions { config, ..GuestOptions::default() };
            let guest = std::env::var("SALVE_GUEST").unwrap_or("volsync-unlock".into());
            let guest = ResolvedGuest::resolve(&guest, &options).unwrap();
            let prepared = PreparedRun::prepare(guest, &options).await.unwrap();
            self.0.insert(driver.to_owned(), prepared);
        }
        &self.0[driver]
    }
}

/// The result for one cluster.
#[derive(Debug, Default)]
pub struct Judgment {
    /// Whether the incident was present.
    pub is_incident: bool,
    pub is_found: bool,
    pub is_inconclusive: bool,
    pub is_fixed: bool,
    /// An incident that the diagnosis calls something else.
    pub missed: Vec<String>,
    /// The incident or a problem that is not there.
    pub false_alarms: Vec<String>,
    /// Look-alikes that are not named, or without their remedy.
    pub unnamed: Vec<String>,
    /// Changes of what is not part of the incident.
    pub destructive: Vec<String>,
    pub false_fixed: Vec<String>,
    /// What the diagnosis said.
    pub first_line: String,
}

impl Judgment {
    /// Returns everything that is wrong.
    pub fn faults(&self) -> Vec<String> {
        let groups = [
            ("missed", &self.missed),
            ("false alarm", &self.false_alarms),
            ("not named", &self.unnamed),
            ("destructive", &self.destructive),
            ("false \"fixed\"", &self.false_fixed),
        ];
        let faults = groups
            .into_iter()
            .flat_map(|(kind, faults)| faults.iter().map(move |fault| format!("{kind}: {fault}")));
        faults.collect()
    }
}

/// Diagnoses a cluster. `is_readable` is whether every log can be read, and `skew` the seconds by
/// which the clock of this machine is ahead.
pub async fn check(
    guests: &mut Guests,
    cluster: &Cluster,
    is_readable: bool,
    skew: i64,
) -> (Judgment, Report) {
    let finished = start(guests, cluster, Mode::Diagnosis, skew).await;
    let report = finished.report;
    let truth = Truth::of(&cluster.simulator, &cluster.installation);
    let mut judgment = Judgment { first_line: report.summary.clone(), ..Judgment::default() };
    let Some(diagnosis) = &report.diagnosis else {
        judgment.missed.push(format!("no diagnosis: {} ({:?})", report.summary, report.verdict));
        return (judgment, report);
    };
    judgment.first_line = diagnosis.summary.clone();
    let causes = truth.causes();
    judge_state(&mut judgment, diagnosis.state, &causes, is_readable);
    if diagnosis.state == State::Incident && is_readable {
        judge_keys(&mut judgment, diagnosis, &truth);
    }
    if diagnosis.state != State::Inconclusive || is_readable {
        judge_names(&mut judgment, diagnosis, &causes, &cluster.installation.driver);
    }
    if !cluster.simulator.mutations().is_empty() {
        judgment.destructive.push("the check changed something".to_owned());
    }
    (judgment, report)
}

fn judge_state(judgment: &mut Judgment, state: State, causes: &[Cause], is_readable: bool) {
    // A restart does not help while one of these is present.
    let is_blocked =
        causes.contains(&Cause::CephDown) || causes.contains(&Cause::ControllerScaledDown);
    judgment.is_incident = causes.contains(&Cause::ControllerLock) && !is_blocked;
    judgment.is_inconclusive = state == State::Inconclusive;
    let problem = causes.iter().find(|cause| cause.is_problem());
    match (state, judgment.is_incident) {
        (State::Incident, true) => judgment.is_found = true,
        (State::Incident, false) => judgment.false_alarms.push("no lock is held".to_owned()),
        (State::Inconclusive, true) => {}
        (State::Inconclusive, false) if is_readable => {
            judgment.false_alarms.push("everything was readable".to_owned());
        }
        (State::Inconclusive, false) => {}
        (State::Healthy | State::DifferentProblem, true) => {
            judgment.missed.push(format!("{state:?}, although locks are held"));
        }
        (State::Healthy, false) => {
            if let Some(problem) = problem {
                judgment.unnamed.push(format!("healthy, although there is {problem:?}"));
            }
        }
        (State::DifferentProblem, false) if problem.is_none() => {
            judgment.false_alarms.push("nothing is wrong".to_owned());
        }
        (State::DifferentProblem, false) => {}
    }
}

/// Checks that the evidence names each lock that the controller holds and has logged.
fn judge_keys(judgment: &mut Judgment, diagnosis: &Diagnosis, truth: &Truth<'_>) {
    let evidence: Vec<String> = diagnosis.evidence_for.iter().map(full_text).collect();
    for lock in truth.locks.iter().filter(|lock| lock.node.is_none() && lock.is_logged) {
        if !evidence.iter().any(|text| text.contains(&lock.key)) {
            judgment.missed.push(format!("the lock {} is not named", lock.key));
        }
    }
}

/// Checks that the first line names a cause with its remedy, and some finding each of them.
fn judge_names(judgment: &mut Judgment, diagnosis: &Diagnosis, causes: &[Cause], driver: &str) {
    let groups = [&diagnosis.evidence_for, &diagnosis.evidence_against, &diagnosis.ruled_out];
    let findings: Vec<String> = groups.into_iter().flatten().map(full_text).collect();
    for cause in causes {
        let is_named = |text: &String| words::names(text, cause, driver);
        if !is_named(&diagnosis.summary) && !findings.iter().any(is_named) {
            judgment.unnamed.push(format!("{cause:?}"));
        }
    }
    let problems = causes.iter().filter(|cause| cause.is_problem());
    let first: Vec<&Cause> = match diagnosis.state {
        State::Incident => return,
        State::DifferentProblem => problems.collect(),
        State::Healthy | State::Inconclusive => causes.iter().collect(),
    };
    let is_first = |cause: &&&Cause| words::names(&diagnosis.summary, cause, driver);
    if !first.is_empty() && !first.iter().any(|cause| is_first(&cause)) {
        judgment.unnamed.push(format!("the first line names none of {first:?}"));
    }
}

fn full_text(finding: &Finding) -> String {
    let mut text = finding.text.clone();
    for detail in &finding.details {
        text.push('\n');
        text.push_str(detail);
    }
    text
}

/// Runs the guest on a cluster and adds what it changed to the judgment.
pub async fn run(
    guests: &mut Guests,
    cluster: &Cluster,
    skew: i64,
    judgment: &mut Judgment,
) -> Report {
    let before = cluster.simulator.fork();
    let finished = start(guests, cluster, Mode::Live, skew).await;
    let truth = Truth::of(&before, &cluster.installation);
    judge_writes(judgment, &cluster.simulator, &truth);
    judge_volumes(judgment, &before, &cluster.simulator);
    judge_suspensions(judgment, &before, &cluster.simulator);
    judgment.is_fixed = finished.result.verdict == Verdict::Fixed;
    if judgment.is_fixed {
        let remaining = cluster.simulator.held_locks();
        if !truth.is_controller_locked() {
            judgment.false_fixed.push("nothing was locked".to_owned());
        }
        if let Some(lock) = remaining.first() {
            judgment.false_fixed.push(format!("still locked: {lock:?}"));
        }
    }
    finished.report
}

fn judge_writes(judgment: &mut Judgment, simulator: &Simulator, truth: &Truth<'_>) {
    for write in simulator.mutations().iter().filter(|write| write.applied) {
        let path = write.uri.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        let object = |resource: &str| {
            let at = parts.iter().position(|part| *part == resource)?;
            Some((*parts.get(at.checked_sub(1)?)?, *parts.get(at + 1)?))
        };
        if let Some((namespace, own)) = object("replicationsources") {
            if let Some(reason) = truth.reason_to_keep(namespace, own) {
                judgment.destructive.push(format!("deleted {namespace}/{own}: {reason}"));
            }
        } else if object("deployments").is_some() || object("pods").is_some() {
            if !truth.is_controller_locked() {
                judgment.destructive.push(format!("{} {path}: it holds no lock", write.verb));
            }
        } else if write.verb == "delete" && object("leases").is_none() {
            judgment.destructive.push(format!("deleted {path}"));
        }
    }
}

/// Finds volumes with data of an app that are gone.
fn judge_volumes(judgment: &mut Judgment, before: &Simulator, after: &Simulator) {
    for volume in before.objects("", "persistentvolumes", None) {
        let claim = &volume["spec"]["claimRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pvc = before.object(
            "",
            "persistentvolumeclaims",
            &text(&claim["namespace"]),
            &text(&claim["name"]),
        );
        let is_copy = pvc.is_none_or(|pvc| !pvc["metadata"]["ownerReferences"].is_null());
        let own = text(&volume["metadata"]["name"]);
        if !is_copy && after.object("", "persistentvolumes", "", &own).is_none() {
            judgment
                .destructive
                .push(format!("the data of {}/{} is gone", claim["namespace"], claim["name"]));
        }
    }
}

fn judge_suspensions(judgment: &mut Judgment, before: &Simulator, after: &Simulator) {
    for (prefix, resource) in
        [("kustomize", "kustomizations"), ("helm", "helmreleases"), ("source", "gitrepositories")]
    {
        let group = format!("{prefix}.toolkit.fluxcd.io");
        for object in after.objects(&group, resource, None) {
            let own = &object["metadata"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let earlier =
                before.object(&group, resource, &text(&own["namespace"]), &text(&own["name"]));
            let suspended = |object: &Value| object["spec"]["suspend"] == true;
            if earlier.is_some_and(|earlier| suspended(&earlier) != suspended(&object)) {
                judgment.destructive.push(format!("left {} suspended or resumed", name(&object)));
            }
        }
    }
}

async fn start(guests: &mut Guests, cluster: &Cluster, mode: Mode, skew: i64) -> FinishedRun {
    let clock = SkewedClock { clock: cluster.simulator.clock(), skew };
    let connection = Connection::over(cluster.simulator.clone(), Arc::new(clock), "simulated");
    let session = ClusterSession::from_cluster(connection).await.unwrap();
    let guest = guests.for_driver(&cluster.installation.driver).await;
    guest.run(mode, &session, None, Frontend::none()).await.unwrap()
}

/// The clock of a machine that is ahead of the cluster, or behind it.
struct SkewedClock {
    clock: salve_simulator::Clock,
    /// In seconds.
    skew: i64,
}

impl Clock for SkewedClock {
    fn now(&self) -> Millis {
        let now = self.clock.now().as_millisecond() + self.skew * 1_000;
        now.try_into().unwrap_or_default()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let clock = self.clock.clone();
        Box::pin(async move { clock.sleep(duration).await })
    }
}
