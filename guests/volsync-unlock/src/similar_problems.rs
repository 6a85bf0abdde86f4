//! Problems with the same symptoms as the incident, and symptoms that are not a problem.

use std::collections::BTreeMap;

use salve_sdk::format::{count, join};
use salve_sdk::query_pvcs::{Phase, Pvc, Waiting};
use salve_sdk::query_replicationsources::Destination;
use salve_sdk::report::Finding;
use salve_sdk::types::ObjectRef;

use crate::backups;
use crate::evidence::{Evidence, Observation, is_pending, uses_driver};
use crate::snapshots::{self, Problem};

/// Returns a problem that this guest must not act on, whatever the evidence.
pub fn blocking_problem(observation: &Observation) -> Option<Finding> {
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
            "Deployment {} is scaled to 0, so no volumes are provisioned: scale it up",
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
    let waiting = observation
        .snapshots
        .iter()
        .filter(|snapshot| snapshots::problem(snapshot, observation) == Some(Problem::NotReady))
        .count();
    if !controller.snapshotter && waiting > 0 {
        findings.push(Finding::new(format!(
            "Deployment {} has no csi-snapshotter container: snapshots are never taken ({} not \
             ready); enable the snapshot policy of the driver ({})",
            controller.deployment,
            count(waiting, "snapshot"),
            if controller.operator_managed {
                "`spec.snapshotPolicy` of the Driver object"
            } else {
                "`CSI_ENABLE_SNAPSHOTTER`, or the driver's chart values"
            },
        )));
    }
    findings
}

/// Returns why the other Pending PVCs wait, and what to do about it, one finding per reason. The
/// second value says whether it is a problem, rather than expected.
pub fn pending_pvcs(observation: &Observation, evidence: &Evidence) -> Vec<(Finding, bool)> {
    let mut by_reason: BTreeMap<Waiting, Vec<&Pvc>> = BTreeMap::new();
    let mut findings = Vec::new();
    for pvc in observation.pvcs.iter().filter(|pvc| is_pending(pvc)) {
        // mutant other-driver-not-named: of_other_driver(pvc, observation) ~> None::<Finding>
        if let Some(finding) = of_other_driver(pvc, observation) {
            findings.push((finding, true));
        } else if !evidence.locked.contains(pvc) && !evidence.dependent.contains(pvc) {
            by_reason.entry(pvc.waiting.unwrap_or(Waiting::Unknown)).or_default().push(pvc);
        }
    }
    for (reason, pvcs) in by_reason {
        match reason {
            Waiting::ForDestination => findings.extend(pvcs.iter().map(|pvc| {
                let text = waiting_for_destination(pvc, &observation.destinations);
                (Finding::new(text), is_problem(reason))
            })),
            Waiting::ForFirstConsumer
            | Waiting::ForScheduling
            | Waiting::CsiLocked
            | Waiting::CsiSlow
            | Waiting::Populating
            | Waiting::ForSnapshot
            | Waiting::Copying
            | Waiting::NoProvisioner
            | Waiting::Misconfigured
            | Waiting::Terminating
            | Waiting::Unknown => {
                let text = format!("{}: {}", names(&pvcs), describe(reason, &pvcs, observation));
                let details = pvcs.iter().map(|pvc| with_evidence(pvc));
                findings.push((Finding::with_details(text, details), is_problem(reason)));
            }
        }
    }
    findings
}

/// Reports a PVC that another driver rejects or does not answer.
fn of_other_driver(pvc: &Pvc, observation: &Observation) -> Option<Finding> {
    let driver = pvc.driver.as_deref().filter(|_| !uses_driver(pvc, &observation.driver))?;
    let is_locked = pvc.waiting == Some(Waiting::CsiLocked);
    if !is_locked && pvc.waiting != Some(Waiting::CsiSlow) {
        return None;
    }
    let problem = if is_locked { "reports a lock" } else { "times out" };
    let remedy = if is_locked && driver.ends_with(".csi.ceph.com") {
        format!("check again with driver={driver}, and with driverNamespace")
    } else {
        "see the log of its controller".to_owned()
    };
    let text = format!(
        "{}: its driver, {driver}, {problem}, which {} has nothing to do with: {remedy}",
        pvc.object, observation.driver.name
    );
    Some(Finding::with_details(text, [with_evidence(pvc)]))
}

/// Reports the PVCs whose volume is gone.
pub fn lost_pvcs(observation: &Observation) -> Vec<Finding> {
    let lost: Vec<&Pvc> = observation
        .pvcs
        .iter()
        .filter(|pvc| match pvc.phase {
            Phase::Lost => true,
            Phase::Pending | Phase::Bound => false,
        })
        .collect();
    if lost.is_empty() {
        return Vec::new();
    }
    let text = format!(
        "{}: Lost, because the PersistentVolume no longer exists: restore the data into a new PVC",
        names(&lost)
    );
    vec![Finding::with_details(text, lost.iter().map(|pvc| pvc.object.to_string()))]
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
        Waiting::ForScheduling => {
            format!("{its} pod is not scheduled: make room, or correct its node constraints")
        }
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
        Waiting::Copying => {
            format!(
                "Ceph is still copying the data for {its} {volume}: wait; a restart of the \
                     driver does not help"
            )
        }
        Waiting::NoProvisioner => {
            "no provisioner is acting: its pod is down, or no pod is the leader".to_owned()
        }
        Waiting::Misconfigured => misconfiguration(pvcs, observation),
        Waiting::Terminating => "being deleted".to_owned(),
        Waiting::Unknown if pvcs.iter().any(|pvc| backups::is_rejected(pvc)) => {
            let evidence = pvcs.iter().find_map(|pvc| pvc.evidence.as_deref()).unwrap_or_default();
            format!("{evidence}: correct what the message names")
        }
        Waiting::ForDestination | Waiting::Unknown => "Pending, and no event says why".to_owned(),
    }
}

fn misconfiguration(pvcs: &[&Pvc], observation: &Observation) -> String {
    let evidence = pvcs.iter().find_map(|pvc| pvc.evidence.as_deref());
    let names_class = evidence.is_none_or(|text| text.to_lowercase().contains("storageclass"));
    let class = pvcs.iter().find_map(|pvc| pvc.storage_class.as_deref()).filter(|_| names_class);
    match class
        .and_then(|class| Some((class, similar_name(class, &observation.driver.storage_classes)?)))
    {
        Some((class, similar)) => {
            format!("StorageClass {class} does not exist (did you mean {similar}?)")
        }
        None => format!(
            "{}: correct what the message names",
            evidence.unwrap_or("the StorageClass is missing or rejected")
        ),
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

fn is_problem(reason: Waiting) -> bool {
    match reason {
        // mutant copying-is-a-problem: | Waiting::Copying | Waiting::Terminating => false, ~>
        //     | Waiting::Terminating => false, Waiting::Copying => true,
        Waiting::ForFirstConsumer | Waiting::Copying | Waiting::Terminating => false,
        Waiting::ForScheduling
        | Waiting::CsiLocked
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
