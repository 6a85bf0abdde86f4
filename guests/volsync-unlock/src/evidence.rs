//! What was observed, and whether it is sufficient evidence. Makes no calls.

use std::collections::{BTreeMap, BTreeSet};

use salve_sdk::query_drivers::Driver;
use salve_sdk::query_pods::PendingPod;
use salve_sdk::query_pvcs::{Phase, Pvc, Snapshot};
use salve_sdk::query_replicationsources::{Destination, Source};

use crate::attachments::Attachment;
use crate::lock::{LockKey, Sighting, Sightings};
use crate::mover_jobs::MoverJob;

/// A lock that was not logged for this long has been released, even if the clocks of this machine
/// and of the nodes differ by several minutes.
pub const MAX_AGE_MS: u64 = 15 * 60 * 1_000;

/// How often a lock that is held is logged at least: the sidecars retry every 5 min
/// (`--retry-interval-max`), and their requests take a moment.
pub const MAX_LOG_INTERVAL_MS: u64 = 5 * 60 * 1_000 + 30_000;

/// The state of the cluster, read once.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When it was read, in milliseconds since the epoch.
    pub now: u64,
    /// The namespaces that were searched.
    pub namespaces: Vec<String>,
    /// What could not be searched, one sentence each.
    pub warnings: Vec<String>,
    pub driver: Driver,
    pub pvcs: Vec<Pvc>,
    /// The number of the journal entry with the PVCs.
    pub pvcs_entry: u64,
    pub snapshots: Vec<Snapshot>,
    /// `None` if the cluster does not serve ReplicationSources.
    pub sources: Option<Vec<Source>>,
    pub destinations: Vec<Destination>,
    /// Pods that have not started.
    pub pending_pods: Vec<PendingPod>,
    /// The Jobs that move data for VolSync.
    pub jobs: Vec<MoverJob>,
    /// The driver's volumes that are attached to nodes.
    pub attachments: Vec<Attachment>,
    /// The logs of the node plugin, on the nodes where a volume cannot be mounted.
    pub node_logs: BTreeMap<String, NodeLog>,
    pub log: ControllerLog,
}

/// What the pods of the driver logged.
#[derive(Clone, Debug, Default)]
pub struct ControllerLog {
    pub sightings: Sightings,
    /// The pods whose logs were read.
    pub pods: BTreeSet<String>,
    /// Pods whose logs could not be read, with the reason.
    pub unreadable: BTreeSet<String>,
    /// Pods that cannot hold a lock, because they have not started or their node is down, with the
    /// reason.
    pub skipped: BTreeSet<String>,
    /// Keys that were logged again while the log was watched, so their locks are held, whatever the
    /// clocks say.
    pub logged_again: BTreeSet<LockKey>,
    /// The number of the journal entry with the last page.
    pub entry: u64,
}

/// What the node plugin logged on one node.
#[derive(Clone, Debug)]
pub struct NodeLog {
    /// `namespace/name` of its pod there.
    pub pod: String,
    pub log: ControllerLog,
}

/// What indicates the incident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Pending PVCs whose own key is in the log. One is sufficient.
    pub locked: Vec<Pvc>,
    /// Pending PVCs that wait for one of those.
    pub dependent: Vec<Pvc>,
    /// Keys that were logged over a sufficient time, and recently.
    pub confirmed: Vec<LockKey>,
    /// Keys that were logged recently, but not over a sufficient time yet, or whose locks may have
    /// been released.
    pub unconfirmed: Vec<LockKey>,
}

impl Evidence {
    pub fn is_sufficient(&self) -> bool {
        !self.locked.is_empty() || !self.confirmed.is_empty()
    }
}

/// Returns whether the driver provisions this PVC.
pub fn uses_driver(pvc: &Pvc, driver: &Driver) -> bool {
    pvc.driver.as_deref() == Some(&driver.name)
        || pvc.storage_class.as_ref().is_some_and(|class| driver.storage_classes.contains(class))
}

/// Returns whether the PVC waits for a volume. A PVC that is being deleted does not.
pub fn is_pending(pvc: &Pvc) -> bool {
    match pvc.phase {
        Phase::Pending => pvc.terminating_since.is_none(),
        Phase::Bound | Phase::Lost => false,
    }
}

/// Returns whether the lock of a key may have been released since it was logged last.
pub fn may_be_released(key: &LockKey, sighting: &Sighting, observation: &Observation) -> bool {
    // mutant released-lock-confirmed: > MAX_LOG_INTERVAL_MS ~> > MAX_LOG_INTERVAL_MS * 100
    observation.now.saturating_sub(sighting.last) > MAX_LOG_INTERVAL_MS
        && !observation.log.logged_again.contains(key)
}

/// Matches the logged keys with the PVCs. A key without a Pending PVC is confirmed if its oldest
/// and its newest log line are at least `sample_interval_ms` apart, and its lock is still held.
pub fn assess(observation: &Observation, sample_interval_ms: u64) -> Evidence {
    let locked: Vec<Pvc> = observation
        .pvcs
        .iter()
        .filter(|pvc| is_pending(pvc) && uses_driver(pvc, &observation.driver))
        .filter(|pvc| observation.log.sightings.contains_pvc(&pvc.uid))
        .cloned()
        .collect();
    let waits_for_locked = |pvc: &Pvc| locked.iter().any(|child| populates(child, pvc));
    let dependent = observation
        .pvcs
        .iter()
        .filter(|pvc| is_pending(pvc) && !locked.contains(pvc) && waits_for_locked(pvc))
        .cloned()
        .collect();
    let (mut confirmed, mut unconfirmed) = (Vec::new(), Vec::new());
    for (key, sighting) in &observation.log.sightings.0 {
        let span_ms = sighting.last.saturating_sub(sighting.first);
        // mutant clock-skew-not-allowed: <= MAX_AGE_MS ~> <= MAX_AGE_MS / 3
        let is_recent = observation.now.saturating_sub(sighting.last) <= MAX_AGE_MS;
        // One rejection can be logged twice within a moment. That is one sample, even if no
        // interval is required.
        let is_held = !may_be_released(key, sighting, observation);
        // mutant released-lock-is-evidence: is_recent && is_held && ~>
        if is_recent && is_held && span_ms >= sample_interval_ms.max(1_000) {
            confirmed.push(key.clone());
        } else if is_recent {
            unconfirmed.push(key.clone());
        }
    }
    Evidence { locked, dependent, confirmed, unconfirmed }
}

/// Returns whether `child` is the temporary PVC from which VolSync populates `pvc`.
pub fn populates(child: &Pvc, pvc: &Pvc) -> bool {
    child.object.namespace == pvc.object.namespace
        && child.populates.as_deref() == Some(&pvc.object.name)
}

/// Returns keys whose name refers to a PVC or VolumeSnapshot that was not observed. It is in
/// another namespace, or it no longer exists and what the driver created for it is leaked.
pub fn unmatched_keys(observation: &Observation) -> Vec<&LockKey> {
    let is_known = |key: &LockKey| match key {
        LockKey::Pvc(uid) => observation.pvcs.iter().any(|pvc| pvc.uid == *uid),
        LockKey::Snapshot(uid) => observation.snapshots.iter().any(|snapshot| snapshot.uid == *uid),
        // VolumeGroupSnapshots are not listed, and a handle is not the name of an object.
        LockKey::GroupSnapshot(_) | LockKey::Handle(_) => true,
    };
    observation.log.sightings.0.keys().filter(|key| !is_known(key)).collect()
}

#[cfg(test)]
#[path = "tests/evidence.rs"]
mod tests;
