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
mod tests {
    use super::*;
    use crate::samples;

    fn waiting(reason: Waiting) -> Pvc {
        Pvc { waiting: Some(reason), ..samples::pending("media/plex", 1) }
    }

    #[test]
    fn blocking_problems_are_named() {
        type Change = fn(&mut Observation);
        let cases: [(Change, &str); 4] = [
            (|observation| observation.sources = None, "VolSync is not installed"),
            (|observation| observation.driver.controller = None, "no controller Deployment"),
            (
                |observation| {
                    observation.driver.controller.as_mut().expect("a controller").replicas = 0;
                },
                "scaled to 0",
            ),
            (
                |observation| {
                    observation.driver.ceph.as_mut().expect("a CephCluster").status =
                        "HEALTH_ERR".into();
                },
                "HEALTH_ERR",
            ),
        ];
        assert_eq!(blocking_problem(&samples::observation()), None);
        for (change, expected) in cases {
            let mut observation = samples::observation();
            change(&mut observation);
            let finding = blocking_problem(&observation).expect(expected);
            assert!(finding.text.contains(expected), "{}", finding.text);
        }
    }

    #[test]
    fn slow_ceph_is_not_a_blocking_problem() {
        let mut observation = samples::observation();
        observation.driver.ceph.as_mut().expect("a CephCluster").status = "HEALTH_WARN".into();
        assert_eq!(blocking_problem(&observation), None);
    }

    #[test]
    fn a_missing_snapshotter_is_reported_if_snapshots_are_not_ready() {
        let mut observation = samples::observation();
        observation.driver.controller.as_mut().expect("a controller").snapshotter = false;
        assert_eq!(driver_problems(&observation), []);
        observation.snapshots = vec![samples::snapshot("media/s", 5, 6)];
        assert!(driver_problems(&observation)[0].text.contains("no csi-snapshotter"));
    }

    #[test]
    fn overdue_snapshots_are_counted() {
        let mut observation = samples::observation();
        for (number, text) in
            [(1, "1 snapshot not ready after more than 5 min"), (2, "2 snapshots not ready")]
        {
            observation.snapshots.push(samples::snapshot("media/s", number, 6));
            let found = driver_problems(&observation);
            assert!(found[0].text.starts_with(text), "{}", found[0].text);
        }
    }

    #[test]
    fn each_reason_for_waiting_is_described() {
        for (reason, expected) in [
            (Waiting::ForFirstConsumer, "media/plex: WaitForFirstConsumer (expected)"),
            (Waiting::CsiLocked, "logs none now"),
            (Waiting::CsiSlow, "time out"),
            (Waiting::Populating, "VolSync is populating its volume"),
            (Waiting::ForSnapshot, "not ready"),
            (Waiting::NoProvisioner, "no provisioner is acting"),
            (Waiting::Unknown, "no event says why"),
        ] {
            let mut observation = samples::observation();
            observation.pvcs = vec![waiting(reason)];
            let found = pending_pvcs(&observation, &Evidence::default());
            assert!(found[0].text.contains(expected), "{}", found[0].text);
        }
    }

    #[test]
    fn several_pvcs_that_wait_for_the_same_reason_are_one_finding() {
        let mut observation = samples::observation();
        observation.pvcs = vec![waiting(Waiting::Populating); 2];
        let found = pending_pvcs(&observation, &Evidence::default());
        assert_eq!(
            found[0].text,
            "2 PVCs (media/plex, media/plex): VolSync is populating their volumes: keep an eye on \
             it"
        );
    }

    #[test]
    fn a_misspelled_storage_class_is_recognized() {
        let mut observation = samples::observation();
        observation.pvcs = vec![Pvc {
            storage_class: Some("ceph-blok".into()),
            ..waiting(Waiting::Misconfigured)
        }];
        let found = pending_pvcs(&observation, &Evidence::default());
        assert_eq!(
            found[0].text,
            "media/plex: StorageClass ceph-blok does not exist (did you mean ceph-block?)"
        );
    }

    #[test]
    fn a_pvc_that_waits_for_a_destination_reports_what_it_needs() {
        let pvc = Pvc {
            data_source: Some("ReplicationDestination/plex-dst".into()),
            ..waiting(Waiting::ForDestination)
        };
        let destination = |image: Option<&str>, since: Option<u64>| Destination {
            object: samples::object("media/plex-dst"),
            uid: samples::uid(9),
            trigger: None,
            done: image.is_some(),
            syncing_since: since,
            last_sync: None,
            latest_image: image.map(str::to_owned),
            condition: None,
        };
        for (destinations, expected) in [
            (vec![], "does not exist"),
            (vec![destination(None, Some(samples::NOW))], "restore in progress"),
            (vec![destination(None, None)], "has not started"),
            (vec![destination(Some("s"), None)], "populator is not acting"),
        ] {
            let text = waiting_for_destination(&pvc, &destinations);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_edit_distance_counts_changed_characters() {
        for (a, b, distance) in
            [("", "", 0), ("ab", "ab", 0), ("ceph-blok", "ceph-block", 1), ("a", "xyz", 3)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }
}
