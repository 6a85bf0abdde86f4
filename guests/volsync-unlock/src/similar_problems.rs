//! Problems with the same symptoms as the incident, and symptoms that are not a problem.

use std::collections::BTreeMap;

use salve_sdk::format::{age, count, duration, join};
use salve_sdk::query_pvcs::{Pvc, Waiting};
use salve_sdk::query_replicationsources::{Destination, Health};
use salve_sdk::report::Finding;
use salve_sdk::types::ObjectRef;

use crate::evidence::{Evidence, Observation, is_pending};

/// How long a snapshot may take to become ready before that is a problem.
const SNAPSHOT_TIMEOUT_MS: u64 = 5 * 60 * 1_000;

/// Returns a problem that this guest must not act on, whatever the evidence.
pub fn blocking_problem(observation: &Observation) -> Option<Finding> {
    if observation.sources.is_none() {
        return Some(Finding::new(
            "VolSync is not installed: the cluster does not serve ReplicationSources",
        ));
    }
    let ceph = observation.driver.ceph.as_ref();
    if let Some(ceph) = ceph.filter(|ceph| ceph.status == "HEALTH_ERR") {
        return Some(Finding::with_details(
            format!(
                "Ceph is in HEALTH_ERR (CephCluster {}): repair Ceph first; until then the driver \
                 would hang again after a restart",
                ceph.cluster
            ),
            &ceph.messages,
        ));
    }
    let Some(controller) = &observation.driver.controller else {
        return Some(Finding::new(format!(
            "no controller Deployment found for driver {}: no volumes are provisioned",
            observation.driver.name
        )));
    };
    if controller.replicas == 0 {
        return Some(Finding::new(format!(
            "Deployment {} is scaled to 0: no volumes are provisioned",
            controller.deployment
        )));
    }
    None
}

/// Returns problems of the driver other than locks.
pub fn driver_problems(observation: &Observation) -> Vec<Finding> {
    let Some(controller) = &observation.driver.controller else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    if controller.ready == 0 && controller.replicas > 0 {
        findings
            .push(Finding::new(format!("no pod of Deployment {} is ready", controller.deployment)));
    }
    let snapshots = overdue_snapshots(observation);
    let has_stuck_sync =
        observation.sources.iter().flatten().any(|source| source.health == Health::Stuck);
    if !controller.snapshotter && (!snapshots.is_empty() || has_stuck_sync) {
        findings.push(Finding::with_details(
            format!(
                "Deployment {} has no csi-snapshotter container: snapshots are never taken ({} \
                 not ready); enable the driver's snapshot policy",
                controller.deployment,
                count(snapshots.len(), "snapshot")
            ),
            snapshots,
        ));
    } else if !snapshots.is_empty() {
        findings.push(Finding::with_details(
            format!(
                "{} not ready after more than {}",
                count(snapshots.len(), "snapshot"),
                duration(SNAPSHOT_TIMEOUT_MS)
            ),
            snapshots,
        ));
    }
    findings
}

fn overdue_snapshots(observation: &Observation) -> Vec<String> {
    let now = observation.now;
    observation
        .snapshots
        .iter()
        .filter(|snapshot| {
            !snapshot.ready && now.saturating_sub(snapshot.created) > SNAPSHOT_TIMEOUT_MS
        })
        .map(|snapshot| {
            let problem = snapshot
                .problem
                .as_deref()
                .unwrap_or("its VolumeSnapshotContent has no status or error");
            format!("{}, created {} ago: {problem}", snapshot.object, age(snapshot.created, now))
        })
        .collect()
}

/// Returns why the other Pending PVCs wait, and what to do about it, one finding per reason.
pub fn pending_pvcs(observation: &Observation, evidence: &Evidence) -> Vec<Finding> {
    let mut by_reason: BTreeMap<Waiting, Vec<&Pvc>> = BTreeMap::new();
    for pvc in observation.pvcs.iter().filter(|pvc| is_pending(pvc)) {
        if !evidence.locked.contains(pvc) && !evidence.dependent.contains(pvc) {
            by_reason.entry(pvc.waiting.unwrap_or(Waiting::Unknown)).or_default().push(pvc);
        }
    }
    let mut findings = Vec::new();
    for (reason, pvcs) in by_reason {
        match reason {
            Waiting::ForDestination => {
                findings.extend(pvcs.iter().map(|pvc| {
                    Finding::new(waiting_for_destination(pvc, &observation.destinations))
                }))
            }
            Waiting::ForFirstConsumer
            | Waiting::CsiLocked
            | Waiting::CsiSlow
            | Waiting::Populating
            | Waiting::ForSnapshot
            | Waiting::NoProvisioner
            | Waiting::Misconfigured
            | Waiting::Terminating
            | Waiting::Unknown => findings.push(Finding::with_details(
                format!("{}: {}", names(&pvcs), describe(reason, &pvcs, observation)),
                pvcs.iter().map(|pvc| with_evidence(pvc)),
            )),
        }
    }
    findings
}

fn with_evidence(pvc: &Pvc) -> String {
    match &pvc.evidence {
        Some(evidence) => format!("{}: {evidence}", pvc.object),
        None => pvc.object.to_string(),
    }
}

fn names(pvcs: &[&Pvc]) -> String {
    match pvcs {
        [pvc] => pvc.object.to_string(),
        _ => {
            let objects = join(pvcs.iter().map(|pvc| &pvc.object), 3);
            format!("{} ({objects})", count(pvcs.len(), "PVC"))
        }
    }
}

fn describe(reason: Waiting, pvcs: &[&Pvc], observation: &Observation) -> String {
    let (its, volume) = if pvcs.len() == 1 { ("its", "volume") } else { ("their", "volumes") };
    match reason {
        Waiting::ForFirstConsumer => "WaitForFirstConsumer (expected)".to_owned(),
        Waiting::CsiLocked => format!("{its} events report a lock, but the driver logs none now"),
        Waiting::CsiSlow => {
            "the driver's calls time out: Ceph or the network is slow, and locks may follow"
                .to_owned()
        }
        Waiting::Populating => {
            format!("VolSync is populating {its} {volume}: keep an eye on it")
        }
        Waiting::ForSnapshot => {
            "waiting for a snapshot that is not ready: keep an eye on it".to_owned()
        }
        Waiting::NoProvisioner => {
            "no provisioner is acting: its pod is down, or no pod is the leader".to_owned()
        }
        Waiting::Misconfigured => misconfiguration(pvcs, observation),
        Waiting::Terminating => "being deleted".to_owned(),
        Waiting::ForDestination | Waiting::Unknown => "Pending, and no event says why".to_owned(),
    }
}

fn misconfiguration(pvcs: &[&Pvc], observation: &Observation) -> String {
    let class = pvcs.iter().find_map(|pvc| pvc.storage_class.as_deref());
    let similar = class.and_then(|class| similar_name(class, &observation.driver.storage_classes));
    match (class, similar) {
        (Some(class), Some(similar)) => {
            format!("StorageClass {class} does not exist (did you mean {similar}?)")
        }
        (Some(_) | None, _) => pvcs
            .iter()
            .find_map(|pvc| pvc.evidence.clone())
            .unwrap_or_else(|| "the StorageClass is missing or rejected".into()),
    }
}

/// Returns a name that differs by one or two characters.
fn similar_name<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let distances = names.iter().map(|other| (edit_distance(name, other), other.as_str()));
    let (distance, other) = distances.min()?;
    (1..=2).contains(&distance).then_some(other)
}

/// Returns the Levenshtein distance, in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.chars().enumerate() {
        let mut left = row + 1;
        let mut current = vec![left];
        for (column, to) in b.iter().enumerate() {
            let substituted = previous[column] + usize::from(from != *to);
            left = substituted.min(left + 1).min(previous[column + 1] + 1);
            current.push(left);
        }
        previous = current;
    }
    previous[b.len()]
}

/// Returns what a PVC that waits for a ReplicationDestination needs.
pub fn waiting_for_destination(pvc: &Pvc, destinations: &[Destination]) -> String {
    let name = pvc
        .data_source
        .as_deref()
        .and_then(|source| source.strip_prefix("ReplicationDestination/"));
    let Some(name) = name else {
        return format!("{} is waiting for a ReplicationDestination", pvc.object);
    };
    let object = ObjectRef::new(&*pvc.object.namespace, name);
    let waiting = format!("{} is waiting for ReplicationDestination {name}", pvc.object);
    match destinations.iter().find(|destination| destination.object == object) {
        None => format!("{waiting}, which does not exist"),
        Some(found) if found.latest_image.is_some() => format!(
            "{waiting}, although that has an image: VolSync's volume populator is not acting (was \
             the VolumePopulator CRD installed when VolSync started?)"
        ),
        Some(found) if found.syncing_since.is_some() => {
            format!("{waiting}: restore in progress, no action needed")
        }
        Some(_) => format!("{waiting}, whose restore has not started: it still has to run"),
    }
}

/// Returns whether the reason for which a Pending PVC waits is a problem, rather than expected.
pub fn is_problem(pvc: &Pvc) -> bool {
    match pvc.waiting.unwrap_or(Waiting::Unknown) {
        Waiting::ForFirstConsumer | Waiting::Terminating => false,
        Waiting::CsiLocked
        | Waiting::CsiSlow
        | Waiting::ForDestination
        | Waiting::Populating
        | Waiting::ForSnapshot
        | Waiting::NoProvisioner
        | Waiting::Misconfigured
        | Waiting::Unknown => true,
    }
}

#[cfg(test)]
#[path = "tests/similar_problems.rs"]
mod tests;
