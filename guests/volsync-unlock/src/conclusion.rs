//! The last step: waits until the cluster stays healthy, and concludes.

use salve_sdk::Error;
use salve_sdk::format::{count, duration, join};
use salve_sdk::query_pvcs::Pvc;
use salve_sdk::query_replicationsources::{Health, Source};
use salve_sdk::report::{Conclusion, Diagnosis, Figure, Finding, Verdict};

use crate::consent;
use crate::evidence::{Evidence, Observation, unmatched_keys};
use crate::host::{query_pods, query_pvcs, run};
use crate::node_locks;
use crate::observe;
use crate::prevention;
use crate::resume_order;
use crate::steps::{self, Execution, Restart};
use crate::verify;

/// The shortest and the longest poll interval, in milliseconds.
const POLL_INTERVAL_MS: (u64, u64) = (2_000, 10_000);

/// The state when polling ended.
#[derive(Default)]
struct FinalState {
    pvcs: Vec<Pvc>,
    sources: Vec<Source>,
    /// Whether the cluster stayed healthy for the whole stabilization window.
    is_stable: bool,
}

/// Figures from before the first write.
pub struct Before {
    pub running_pods: usize,
}

/// Waits until the cluster has been healthy for the stabilization window, and concludes.
pub fn conclude(
    execution: &mut Execution,
    before: &Before,
    diagnosis: &Diagnosis,
    evidence: &Evidence,
) -> Result<Conclusion, Error> {
    let (config, observation) = (execution.config, execution.observation);
    execution.step = "verify";
    run::step(
        "verify",
        &format!(
            "no lock for {}, PVCs bound, ReplicationSources recreated",
            duration(config.stabilization_window_ms)
        ),
    );
    let Some(mut restart) = execution.restart.take() else {
        return Ok(Conclusion::new(Verdict::NotFixed, "the driver was not restarted"));
    };
    let end = wait_until_stable(execution, &mut restart)?;
    let pods = query_pods::list_pods(&observation.namespaces)?;
    let destinations = steps::list_destinations(observation)?;
    let recovery = verify::recovery(&end.pvcs, &observation.driver);
    let missing = missing_sources(execution, &end.sources);

    let mut conclusion =
        Conclusion::new(Verdict::NotFixed, summary(execution, &restart, &recovery, missing.len()));
    let node_locks = remaining_node_locks(execution)?;
    // mutant fixed-despite-node-locks: node_locks.first() ~> None::<&Finding>
    if let Some(lock) = node_locks.first().filter(|_| end.is_stable) {
        conclusion.summary = format!("the locks of the controller are gone, but {}", lock.text);
    } else if end.is_stable {
        conclusion.verdict = Verdict::Fixed;
    }
    conclusion.figures = vec![
        Figure::new(
            "locked PVCs",
            number(evidence.locked.len() + evidence.dependent.len()),
            number(recovery.stuck.len()),
        ),
        Figure::new(
            "lock keys",
            number(observation.log.sightings.0.len()),
            number(restart.log.sightings.0.len()),
        ),
        Figure::new(
            "orphans",
            orphans(observation.sources.as_deref().unwrap_or_default()),
            orphans(&end.sources),
        ),
        Figure::new("running pods", number(before.running_pods), number(verify::running(&pods))),
    ];
    let is_waived = config.evidence_waived && !evidence.is_sufficient();
    conclusion.evidence = self::evidence(diagnosis, is_waived);
    conclusion.remaining = node_locks;
    conclusion.remaining.append(&mut execution.remaining);
    let waiting = recovery.stuck.iter().chain(&recovery.unexplained).chain(&recovery.explained);
    conclusion
        .remaining
        .extend(waiting.map(|pvc| Finding::new(verify::describe(pvc, &destinations))));
    conclusion.remaining.extend(missing);
    conclusion.remaining.extend(execution.recreated_later());
    conclusion.remaining.extend(verify::unready_pods(&pods));
    conclusion.remaining.extend(leaked_images(execution));
    conclusion.remaining.extend(execution.plan.deletion_findings());
    conclusion.remaining.extend(consent::new_volume_finding(&execution.plan.new_volumes));
    conclusion.remaining.extend(execution.plan.suspensions.skipped.iter().map(Finding::new));
    if execution.suspensions.remaining() == 0 {
        conclusion
            .remaining
            .push(Finding::new("Flux: everything Salve suspended has been resumed"));
    }
    let is_ceph_slow =
        observation.driver.ceph.as_ref().is_some_and(|ceph| ceph.status == "HEALTH_WARN");
    conclusion.prevention =
        prevention::advise(&execution.plan.selection, &end.sources, is_ceph_slow);
    Ok(conclusion)
}

/// Returns the evidence of a conclusion. `is_waived` if the run was made without sufficient
/// evidence.
pub fn evidence(diagnosis: &Diagnosis, is_waived: bool) -> Vec<Finding> {
    let mut evidence = diagnosis.evidence_for.clone();
    if is_waived {
        evidence.insert(
            0,
            Finding::new(format!("evidence was waived; observed: {}", diagnosis.summary)),
        );
    }
    evidence.extend(diagnosis.evidence_against.iter().cloned());
    evidence
}

fn missing_sources(execution: &Execution, sources: &[Source]) -> Vec<Finding> {
    resume_order::missing(&execution.expected(), sources)
        .iter()
        .map(|selected| {
            let owner =
                selected.owner.as_ref().map(|owner| owner.target.to_string()).unwrap_or_default();
            Finding::new(format!("{} was not recreated: check {owner}", selected.source.object))
        })
        .collect()
}

fn wait_until_stable(execution: &Execution, restart: &mut Restart) -> Result<FinalState, Error> {
    let (config, observation) = (execution.config, execution.observation);
    let window = config.stabilization_window_ms;
    let expected = execution.expected();
    let end = execution.deadline.limit(config.recovery_timeout_ms + window);
    let interval = (window / 10).clamp(POLL_INTERVAL_MS.0, POLL_INTERVAL_MS.1);
    let mut healthy_since = None;
    loop {
        let reading = restart.watch.read(&mut restart.log)?;
        let mut state = read_state(execution)?;
        let now = run::now();
        let is_healthy = reading.is_complete
            && restart.is_clean()
            && verify::recovery(&state.pvcs, &observation.driver).is_complete()
            && resume_order::missing(&expected, &state.sources).is_empty();
        // After a new lock or an incomplete rollout, waiting longer does not help.
        if !restart.is_clean() {
            return Ok(state);
        }
        healthy_since = if is_healthy { healthy_since.or(Some(now)) } else { None };
        if healthy_since.is_some_and(|since| now.saturating_sub(since) >= window) {
            state.is_stable = true;
            return Ok(state);
        }
        if now >= end {
            return Ok(state);
        }
        run::sleep(interval.min(end - now));
    }
}

fn read_state(execution: &Execution) -> Result<FinalState, Error> {
    let namespaces = &execution.observation.namespaces;
    Ok(FinalState {
        pvcs: query_pvcs::list_pvcs(namespaces)?,
        sources: steps::list_sources(execution.observation)?.unwrap_or_default(),
        ..FinalState::default()
    })
}

fn summary(
    execution: &Execution,
    restart: &Restart,
    recovery: &verify::Recovery,
    missing: usize,
) -> String {
    let deployment = &restart.controller.deployment;
    if let Some(missing) = &restart.waiting_for {
        return format!(
            "Deployment {deployment} was restarted, but the rollout is not complete: waiting for \
             {missing}"
        );
    }
    let keys: Vec<String> = restart.log.sightings.0.keys().map(ToString::to_string).collect();
    if !keys.is_empty() {
        return format!(
            "locks came back after the restart ({}): the cause is Ceph or the network; do not \
             restart again",
            join(&keys, 2)
        );
    }
    if !recovery.stuck.is_empty() {
        return format!(
            "no lock has been logged since the restart, but the driver has not provisioned {} yet",
            count(recovery.stuck.len(), "PVC")
        );
    }
    if !recovery.unexplained.is_empty() {
        let waiting = recovery.unexplained.len();
        let verb = if waiting == 1 { "is" } else { "are" };
        return format!(
            "no lock has been logged since the restart, but {} {verb} still Pending, and no event \
             says why",
            count(waiting, "PVC")
        );
    }
    if missing > 0 {
        let verb = if missing == 1 { "was" } else { "were" };
        return format!(
            "the locks are gone, but {} {verb} not recreated",
            count(missing, "ReplicationSource")
        );
    }
    format!(
        "no lock logged for {} since {deployment} was restarted, no PVC is locked, {} deleted",
        duration(execution.config.stabilization_window_ms),
        count(execution.deleted.len(), "ReplicationSource")
    )
}

/// Reports the pods that a lock in a node plugin still keeps from starting, which a restart of the
/// controller does not change.
fn remaining_node_locks(execution: &Execution) -> Result<Vec<Finding>, Error> {
    let observation = execution.observation;
    let pending_pods = match query_pods::list_pending_pods(&observation.namespaces) {
        Ok(pods) => pods,
        // Reported before the first write.
        Err(Error::Denied(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let now = run::now();
    let since = now.saturating_sub(execution.config.log_window_ms);
    // What could not be read was reported before the first write.
    let (node_logs, _) = observe::read_node_logs(&observation.driver, &pending_pods, since)?;
    let after = Observation { now, pending_pods, node_logs, ..observation.clone() };
    Ok(node_locks::findings(&after))
}

fn leaked_images(execution: &Execution) -> Option<Finding> {
    let keys = unmatched_keys(execution.observation);
    let text = match keys.len() {
        0 => return None,
        1 => "1 lock key matches no PVC or snapshot in the searched namespaces: unless it belongs \
              to another namespace, the driver may have leaked an image"
            .to_owned(),
        many => format!(
            "{many} lock keys match no PVC or snapshot in the searched namespaces: unless they \
             belong to another namespace, the driver may have leaked images"
        ),
    };
    Some(Finding::with_details(text, keys.iter().map(ToString::to_string)))
}

fn orphans(sources: &[Source]) -> u64 {
    number(sources.iter().filter(|source| source.health == Health::Orphan).count())
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
