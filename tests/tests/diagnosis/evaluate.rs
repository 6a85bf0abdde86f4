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
pub struct Evaluation {
    /// Whether the incident was present.
    pub is_incident: bool,
    pub is_found: bool,
    pub is_inconclusive: bool,
    pub is_fixed: bool,
    /// An incident that the diagnosis calls something else.
    pub missed: Vec<String>,
    /// The incident or a problem that is not there.
    pub false_alarms: Vec<String>,
    /// Similar problems that are not named, or without their remedy.
    pub unnamed: Vec<String>,
    /// Changes of what is not part of the incident.
    pub destructive: Vec<String>,
    pub false_fixed: Vec<String>,
    /// What the diagnosis said.
    pub first_line: String,
}

impl Evaluation {
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
) -> (Evaluation, Report) {
    let finished = start(guests, cluster, Mode::Diagnosis, skew).await;
    let report = finished.report;
    let truth = Truth::of(&cluster.simulator, &cluster.installation);
    let mut evaluation = Evaluation { first_line: report.summary.clone(), ..Evaluation::default() };
    let Some(diagnosis) = &report.diagnosis else {
        evaluation.missed.push(format!("no diagnosis: {} ({:?})", report.summary, report.verdict));
        return (evaluation, report);
    };
    evaluation.first_line = diagnosis.summary.clone();
    let causes = truth.causes();
    check_state(&mut evaluation, diagnosis.state, &causes, is_readable);
    if diagnosis.state == State::Incident && is_readable {
        check_keys(&mut evaluation, diagnosis, &truth);
    }
    if diagnosis.state != State::Inconclusive || is_readable {
        check_names(&mut evaluation, diagnosis, &causes, &cluster.installation.driver);
    }
    if !cluster.simulator.mutations().is_empty() {
        evaluation.destructive.push("the check changed something".to_owned());
    }
    (evaluation, report)
}

fn check_state(evaluation: &mut Evaluation, state: State, causes: &[Cause], is_readable: bool) {
    // A restart does not help while one of these is present.
    let is_blocked =
        causes.contains(&Cause::CephDown) || causes.contains(&Cause::ControllerScaledDown);
    evaluation.is_incident = causes.contains(&Cause::ControllerLock) && !is_blocked;
    evaluation.is_inconclusive = state == State::Inconclusive;
    let problem = causes.iter().find(|cause| cause.is_problem());
    match (state, evaluation.is_incident) {
        (State::Incident, true) => evaluation.is_found = true,
        (State::Incident, false) => evaluation.false_alarms.push("no lock is held".to_owned()),
        (State::Inconclusive, true) => {}
        (State::Inconclusive, false) if is_readable => {
            evaluation.false_alarms.push("everything was readable".to_owned());
        }
        (State::Inconclusive, false) => {}
        (State::Healthy | State::DifferentProblem, true) => {
            evaluation.missed.push(format!("{state:?}, although locks are held"));
        }
        (State::Healthy, false) => {
            if let Some(problem) = problem {
                evaluation.unnamed.push(format!("healthy, although there is {problem:?}"));
            }
        }
        (State::DifferentProblem, false) if problem.is_none() => {
            evaluation.false_alarms.push("nothing is wrong".to_owned());
        }
        (State::DifferentProblem, false) => {}
    }
}

/// Checks that the evidence names each lock that the controller holds and has logged.
fn check_keys(evaluation: &mut Evaluation, diagnosis: &Diagnosis, truth: &Truth<'_>) {
    let evidence: Vec<String> = diagnosis.evidence_for.iter().map(full_text).collect();
    for lock in truth.locks.iter().filter(|lock| lock.node.is_none() && lock.is_logged) {
        if !evidence.iter().any(|text| text.contains(&lock.key)) {
            evaluation.missed.push(format!("the lock {} is not named", lock.key));
        }
    }
}

/// Checks that the first line names a cause with its remedy, and some finding each of them.
fn check_names(evaluation: &mut Evaluation, diagnosis: &Diagnosis, causes: &[Cause], driver: &str) {
    let groups = [&diagnosis.evidence_for, &diagnosis.evidence_against, &diagnosis.ruled_out];
    let findings: Vec<String> = groups.into_iter().flatten().map(full_text).collect();
    for cause in causes {
        let is_named = |text: &String| words::names(text, cause, driver);
        if !is_named(&diagnosis.summary) && !findings.iter().any(is_named) {
            evaluation.unnamed.push(format!("{cause:?}"));
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
        evaluation.unnamed.push(format!("the first line names none of {first:?}"));
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

/// Runs the guest on a cluster and adds what it changed to the evaluation.
pub async fn run(
    guests: &mut Guests,
    cluster: &Cluster,
    skew: i64,
    evaluation: &mut Evaluation,
) -> Report {
    let before = cluster.simulator.fork();
    let finished = start(guests, cluster, Mode::Live, skew).await;
    let truth = Truth::of(&before, &cluster.installation);
    check_writes(evaluation, &cluster.simulator, &truth);
    check_volumes(evaluation, &before, &cluster.simulator);
    check_suspensions(evaluation, &before, &cluster.simulator);
    evaluation.is_fixed = finished.result.verdict == Verdict::Fixed;
    if evaluation.is_fixed {
        let remaining = cluster.simulator.held_locks();
        if !truth.is_controller_locked() {
            evaluation.false_fixed.push("nothing was locked".to_owned());
        }
        if let Some(lock) = remaining.first() {
            evaluation.false_fixed.push(format!("still locked: {lock:?}"));
        }
    }
    finished.report
}

fn check_writes(evaluation: &mut Evaluation, simulator: &Simulator, truth: &Truth<'_>) {
    for write in simulator.mutations().iter().filter(|write| write.applied) {
        let path = write.uri.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        let object = |resource: &str| {
            let at = parts.iter().position(|part| *part == resource)?;
            Some((*parts.get(at.checked_sub(1)?)?, *parts.get(at + 1)?))
        };
        if let Some((namespace, own)) = object("replicationsources") {
            if let Some(reason) = truth.reason_to_keep(namespace, own) {
                evaluation.destructive.push(format!("deleted {namespace}/{own}: {reason}"));
            }
        } else if object("deployments").is_some() || object("pods").is_some() {
            if !truth.is_controller_locked() {
                evaluation.destructive.push(format!("{} {path}: it holds no lock", write.verb));
            }
        } else if write.verb == "delete" && object("leases").is_none() {
            evaluation.destructive.push(format!("deleted {path}"));
        }
    }
}

/// Finds volumes with data of an app that are gone.
fn check_volumes(evaluation: &mut Evaluation, before: &Simulator, after: &Simulator) {
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
            evaluation
                .destructive
                .push(format!("the data of {}/{} is gone", claim["namespace"], claim["name"]));
        }
    }
}

fn check_suspensions(evaluation: &mut Evaluation, before: &Simulator, after: &Simulator) {
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
                evaluation.destructive.push(format!("left {} suspended or resumed", name(&object)));
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
