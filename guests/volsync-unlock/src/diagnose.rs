//! The diagnosis, from an observation.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use salve_sdk::format::{age, count, join};
use salve_sdk::query_pvcs::Pvc;
use salve_sdk::query_replicationsources::{Health, Source};
use salve_sdk::report::{Diagnosis, Finding, State};

use crate::backups::{self, Obstacle};
use crate::evidence::{
    Evidence, Observation, assess, is_pending, populates, unmatched_keys, uses_driver,
};
use crate::lock::LockKey;
use crate::{attachments, driver_version, node_locks, similar_problems, snapshots};

/// Diagnoses the cluster. `sample_interval_ms` is how long a lock without a Pending PVC must
/// persist.
pub fn diagnose(observation: &Observation, sample_interval_ms: u64) -> (Diagnosis, Evidence) {
    let evidence = assess(observation, sample_interval_ms);
    let mut diagnosis = classify(observation, &evidence);
    diagnosis.evidence_for = evidence_for(observation, &evidence);
    diagnosis.evidence_against = evidence_against(observation, &evidence);
    let (problems, others) = other_findings(observation, &evidence);
    diagnosis.ruled_out.extend(problems.into_iter().chain(others));
    (diagnosis, evidence)
}

fn classify(observation: &Observation, evidence: &Evidence) -> Diagnosis {
    if let Some(problem) = similar_problems::blocking_problem(observation) {
        let mut diagnosis = Diagnosis::new(State::DifferentProblem, problem.text.clone());
        diagnosis.ruled_out.push(problem);
        return diagnosis;
    }
    if evidence.is_sufficient() {
        return Diagnosis::new(
            State::Incident,
            format!("CSI operation locks on {}", observation.driver.name),
        );
    }
    // mutant unread-log-is-healthy: unread_logs(observation) ~> None::<String>
    if let Some(summary) = unread_logs(observation) {
        return Diagnosis::new(State::Inconclusive, summary);
    }
    let (problems, others) = other_findings(observation, evidence);
    if let Some(summary) = summarize(&problems) {
        return Diagnosis::new(State::DifferentProblem, summary);
    }
    let mut orphans = sources_with(observation, Health::Orphan);
    orphans.extend(sources_with(observation, Health::TerminatingSource));
    let mut summary = "no PVC is stuck, and no operation lock is logged".to_owned();
    if !orphans.is_empty() {
        let names = join(orphans.iter().map(|source| &source.object), 3);
        let _ = write!(
            summary,
            "; {} whose PVC is gone or being deleted could cause locks ({names}): restore the PVC, \
             or delete the ReplicationSource",
            count(orphans.len(), "ReplicationSource")
        );
    } else if let Some(other) = others.first() {
        let _ = write!(summary, "; {}", other.text);
    }
    Diagnosis::new(State::Healthy, summary)
}

/// Returns why locks may have been missed. `None` if the log of every pod was read.
fn unread_logs(observation: &Observation) -> Option<String> {
    let log = &observation.log;
    let first = log.unreadable.first()?;
    Some(format!(
        "failed to read the log of {} ({first}), so locks may have been missed: check again when \
         the pods can be read",
        match (log.unreadable.len(), log.pods.len()) {
            (unread, 0) => format!("any of {}", count(unread, "CSI controller pod")),
            (unread, read) => format!("{unread} of {}", count(unread + read, "CSI controller pod")),
        },
    ))
}

/// Returns what is not the incident: problems, the most specific first, and what is in order.
fn other_findings(observation: &Observation, evidence: &Evidence) -> (Vec<Finding>, Vec<Finding>) {
    // mutant node-locks-not-reported: node_locks::findings(observation) ~> Vec::new()
    let mut problems = node_locks::findings(observation);
    problems.extend(attachments::findings(observation));
    problems.extend(similar_problems::driver_problems(observation));
    problems.extend(similar_problems::lost_pvcs(observation));
    problems.extend(snapshots::findings(observation, evidence));
    problems.extend(snapshots::held_pvc_findings(observation, evidence));
    let mut others = Vec::new();
    let backups = backups::findings(observation);
    for (finding, is_problem) in
        similar_problems::pending_pvcs(observation, evidence).into_iter().chain(backups)
    {
        if is_problem { &mut problems } else { &mut others }.push(finding);
    }
    (problems, others)
}

/// Returns the first problem, with the number of the others. `None` if there is none.
fn summarize(problems: &[Finding]) -> Option<String> {
    let (first, others) = problems.split_first()?;
    Some(match others.len() {
        0 => format!("the controller logs no operation lock; {}", first.text),
        1 => format!("the controller logs no operation lock; {} (and 1 other problem)", first.text),
        many => {
            format!(
                "the controller logs no operation lock; {} (and {many} other problems)",
                first.text
            )
        }
    })
}

fn evidence_for(observation: &Observation, evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(waiting_pvcs(observation, evidence));
    findings.extend(logged_locks(observation));
    if !findings.is_empty() {
        findings.extend(driver_version::finding(observation));
    }
    for (health, one, many) in [
        (
            Health::Orphan,
            "backs up a PVC that no longer exists",
            "back up a PVC that no longer exists",
        ),
        (
            Health::TerminatingSource,
            "backs up a PVC that is being deleted",
            "back up a PVC that is being deleted",
        ),
        (
            Health::Stuck,
            "has a sync that waits for the driver",
            "have a sync that waits for the driver",
        ),
    ] {
        let mut sources = sources_with(observation, health);
        sources.retain(|source| match backups::obstacle(source, observation) {
            Some(Obstacle::Driver(_)) => true,
            Some(_) => false,
            None => health != Health::Stuck,
        });
        if !sources.is_empty() {
            let predicate = if sources.len() == 1 { one } else { many };
            findings.push(source_finding(&sources, predicate, observation.now));
        }
    }
    findings
}

fn waiting_pvcs(observation: &Observation, evidence: &Evidence) -> Option<Finding> {
    let waiting = evidence.locked.len() + evidence.dependent.len();
    if waiting == 0 {
        return None;
    }
    let pending = observation.pvcs.iter().filter(|pvc| is_pending(pvc)).count();
    let locked = evidence.locked.iter().map(|pvc| format!("{}: pvc-{}", pvc.object, pvc.uid));
    let dependent = evidence.dependent.iter().map(|pvc| {
        format!("{}: waits for its VolSync populator PVC{}", pvc.object, populator(pvc, evidence))
    });
    let verb = if waiting == 1 { "waits" } else { "wait" };
    Some(Finding::with_details(
        format!(
            "{waiting} of {} {verb} for a lock that the driver is logging now",
            count(pending, "Pending PVC")
        ),
        locked.chain(dependent),
    ))
}

fn populator(pvc: &Pvc, evidence: &Evidence) -> String {
    let child = evidence.locked.iter().find(|child| populates(child, pvc));
    child.map(|child| format!(" ({})", child.object.name)).unwrap_or_default()
}

fn logged_locks(observation: &Observation) -> Option<Finding> {
    let sightings = &observation.log.sightings.0;
    let now = observation.now;
    let oldest = sightings.values().map(|sighting| sighting.first).min()?;
    let newest = sightings.values().map(|sighting| sighting.last).max()?;
    let pods: BTreeSet<&String> = sightings.values().flat_map(|sighting| &sighting.pods).collect();
    let locked = match sightings.len() {
        1 => "1 volume/snapshot".to_owned(),
        many => format!("{many} volumes/snapshots"),
    };
    Some(Finding::with_details(
        format!(
            "{locked} locked ({} of {}), first logged {} ago, last logged {} ago",
            pods.len(),
            count(observation.log.pods.len(), "CSI controller pod"),
            age(oldest, now),
            age(newest, now),
        ),
        sightings.iter().map(|(key, sighting)| {
            format!(
                "{key}: {}, last logged {} ago",
                locked_object(key, observation),
                age(sighting.last, now)
            )
        }),
    ))
}

/// Describes the object to which a key belongs.
fn locked_object(key: &LockKey, observation: &Observation) -> String {
    let object = match key {
        LockKey::Pvc(uid) => {
            let pvc = observation.pvcs.iter().find(|pvc| pvc.uid == *uid);
            pvc.map(|pvc| format!("PVC {}", pvc.object))
        }
        LockKey::Snapshot(uid) => {
            let snapshot = observation.snapshots.iter().find(|snapshot| snapshot.uid == *uid);
            snapshot.map(|snapshot| format!("VolumeSnapshot {}", snapshot.object))
        }
        LockKey::GroupSnapshot(_) => return "group of snapshots being created".into(),
        LockKey::Handle(_) => return "existing volume or snapshot, by CSI handle".into(),
    };
    object.unwrap_or_else(|| "not found in the searched namespaces".into())
}

fn source_finding(sources: &[&Source], predicate: &str, now: u64) -> Finding {
    let last_backup = |source: &Source| match source.last_sync {
        Some(last) => format!("{}, last backup {} ago", source.object, age(last, now)),
        None => format!("{}, never backed up", source.object),
    };
    let oldest = sources
        .iter()
        .min_by_key(|source| source.last_sync.unwrap_or(0))
        .expect("the caller checks that there is one");
    Finding::with_details(
        format!(
            "{} {predicate} (oldest: {})",
            count(sources.len(), "ReplicationSource"),
            last_backup(oldest)
        ),
        sources.iter().map(|source| last_backup(source)),
    )
}

fn sources_with(observation: &Observation, health: Health) -> Vec<&Source> {
    observation.sources.iter().flatten().filter(|source| source.health == health).collect()
}

fn evidence_against(observation: &Observation, evidence: &Evidence) -> Vec<Finding> {
    let mut findings: Vec<Finding> = observation.warnings.iter().map(Finding::new).collect();
    let unreadable = &observation.log.unreadable;
    if !unreadable.is_empty() {
        findings.push(Finding::with_details(
            format!("failed to read the log of {}", count(unreadable.len(), "CSI controller pod")),
            unreadable,
        ));
    }
    let skipped = &observation.log.skipped;
    if !skipped.is_empty() {
        findings.push(Finding::with_details(
            format!(
                "skipped the log of {}: not started, or terminating on a node that is down",
                count(skipped.len(), "CSI controller pod")
            ),
            skipped,
        ));
    }
    if observation.sources.is_none() {
        findings.push(Finding::new(
            "the cluster does not serve ReplicationSources (VolSync is not installed): a run would \
             only restart the driver",
        ));
    }
    let ceph = observation.driver.ceph.as_ref();
    if let Some(ceph) = ceph.filter(|ceph| ceph.status == "HEALTH_WARN") {
        findings.push(Finding::with_details(
            "Ceph is in HEALTH_WARN: slow Ceph causes these locks; they may come back until it is \
             healthy",
            &ceph.messages,
        ));
    }
    if !evidence.is_sufficient() && !evidence.unconfirmed.is_empty() {
        findings.push(Finding::with_details(
            format!(
                "{} logged, but not for long enough, or not recently enough",
                count(evidence.unconfirmed.len(), "lock key")
            ),
            evidence.unconfirmed.iter().map(ToString::to_string),
        ));
    }
    let has_pending_pvc =
        observation.pvcs.iter().any(|pvc| is_pending(pvc) && uses_driver(pvc, &observation.driver));
    if evidence.is_sufficient() && !has_pending_pvc {
        findings.push(Finding::new("no PVC in the searched namespaces waits for this driver"));
    }
    let unmatched = unmatched_keys(observation);
    if !unmatched.is_empty() {
        findings.push(Finding::with_details(
            match unmatched.len() {
                1 => {
                    "1 lock key matches no PVC or snapshot in the searched namespaces: it belongs \
                      to another namespace, or is a leftover"
                        .to_owned()
                }
                many => format!(
                    "{many} lock keys match no PVC or snapshot in the searched namespaces: they \
                     belong to another namespace, or are leftovers"
                ),
            },
            unmatched.iter().map(ToString::to_string),
        ));
    }
    findings
}

#[cfg(test)]
#[path = "tests/diagnose.rs"]
mod tests;
