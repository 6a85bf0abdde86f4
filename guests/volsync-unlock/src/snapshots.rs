//! VolumeSnapshots that do not become ready, or that do not go away.

use std::collections::BTreeMap;

use salve_sdk::ObjectRef;
use salve_sdk::format::{age, count, duration, join};
use salve_sdk::query_pvcs::{Pvc, Snapshot};
use salve_sdk::report::Finding;

use crate::evidence::{Evidence, Observation, is_pending};
use crate::lock::LockKey;

/// How long a snapshot may take to become ready or to be deleted before that is a problem.
pub const SNAPSHOT_TIMEOUT_MS: u64 = 5 * 60 * 1_000;

/// csi-provisioner 6.2 holds a snapshot with it while it restores from it, and remembers that only
/// in memory (kubernetes-csi/external-provisioner#1507).
const PROVISIONER_FINALIZER: &str =
    "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection";
const PVC_FINALIZER: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";

/// Why a snapshot is stuck. The order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The finalizer of csi-provisioner was left behind by its restart.
    ProvisionerFinalizer,
    /// Its deletion does not complete.
    Terminating,
    /// Nothing created a VolumeSnapshotContent for it.
    NoContent,
    /// Nothing owns it, and its PVC does not exist: it is retried forever.
    Orphan,
    /// The driver has not taken it.
    NotReady,
}

/// Returns why a snapshot is stuck. `None` if it is not, or still in its usual time.
pub fn problem(snapshot: &Snapshot, observation: &Observation) -> Option<Problem> {
    let is_overdue = |since: u64| observation.now.saturating_sub(since) > SNAPSHOT_TIMEOUT_MS;
    // mutant ready-snapshot-never-stuck: if let Some(since) = snapshot.terminating_since { ~> if
    //     let Some(since) = snapshot.terminating_since.filter(|_| !snapshot.ready) {
    if let Some(since) = snapshot.terminating_since {
        let is_held = snapshot.finalizers.iter().any(|name| name == PROVISIONER_FINALIZER)
            && restores(snapshot, &observation.pvcs).is_none();
        // mutant leftover-finalizer-not-named: then_some(if is_held { ~> then_some(if false {
        return is_overdue(since).then_some(if is_held {
            Problem::ProvisionerFinalizer
        } else {
            Problem::Terminating
        });
    }
    if snapshot.ready || !is_overdue(snapshot.created) {
        return None;
    }
    let pvc = snapshot.pvc.as_ref().map(|pvc| {
        observation.pvcs.iter().find(|other| {
            other.object.namespace == snapshot.object.namespace && other.object.name == *pvc
        })
    });
    Some(match pvc {
        // mutant orphaned-snapshot-not-named: Some(None) if snapshot.owner.is_none() =>
        //     Problem::Orphan, ~>
        Some(None) if snapshot.owner.is_none() => Problem::Orphan,
        // The snapshot-controller waits for the PVC to be bound.
        Some(Some(pvc)) if is_pending(pvc) => return None,
        // It refuses one being deleted.
        Some(Some(pvc)) if pvc.terminating_since.is_some() => Problem::NotReady,
        // mutant snapshot-controller-not-missed: _ if snapshot.content.is_none() &&
        //     snapshot.problem.is_none() => Problem::NoContent, ~>
        _ if snapshot.content.is_none() && snapshot.problem.is_none() => Problem::NoContent,
        _ => Problem::NotReady,
    })
}

/// Returns the Pending PVC that is created from this snapshot.
fn restores<'a>(snapshot: &Snapshot, pvcs: &'a [Pvc]) -> Option<&'a Pvc> {
    let source = format!("VolumeSnapshot/{}", snapshot.object.name);
    pvcs.iter().find(|pvc| {
        is_pending(pvc)
            && pvc.object.namespace == snapshot.object.namespace
            && pvc.data_source.as_ref() == Some(&source)
    })
}

/// Returns whether a snapshot is stuck because of the locks that the evidence names.
fn is_consequence(snapshot: &Snapshot, observation: &Observation, evidence: &Evidence) -> bool {
    let is_locked = observation.log.sightings.contains_snapshot(&snapshot.uid)
        || snapshot.problem.as_deref().and_then(LockKey::parse).is_some();
    let waits_for_pvc = evidence.locked.iter().chain(&evidence.dependent).any(|pvc| {
        pvc.object.namespace == snapshot.object.namespace
            && snapshot.pvc.as_ref() == Some(&pvc.object.name)
    });
    evidence.is_sufficient() && (is_locked || waits_for_pvc)
}

/// Returns the stuck snapshots, one finding per reason, without the consequences of the locks.
pub fn findings(observation: &Observation, evidence: &Evidence) -> Vec<Finding> {
    let mut groups: BTreeMap<Problem, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in &observation.snapshots {
        if is_consequence(snapshot, observation, evidence) {
            continue;
        }
        if let Some(problem) = problem(snapshot, observation) {
            groups.entry(problem).or_default().push(snapshot);
        }
    }
    groups
        .into_iter()
        .map(|(problem, snapshots)| {
            Finding::with_details(
                describe(problem, &snapshots),
                snapshots.iter().map(|snapshot| details(snapshot, observation)),
            )
        })
        .collect()
}

fn describe(problem: Problem, snapshots: &[&Snapshot]) -> String {
    let names = join(snapshots.iter().map(|snapshot| &snapshot.object), 2);
    let snapshots = format!("{} ({names})", count(snapshots.len(), "VolumeSnapshot"));
    let timeout = duration(SNAPSHOT_TIMEOUT_MS);
    match problem {
        Problem::ProvisionerFinalizer => format!(
            "{snapshots} not deleted because of a finalizer that a restart of csi-provisioner \
             left behind: remove only {PROVISIONER_FINALIZER}, after no PVC restores from it"
        ),
        Problem::Terminating => format!(
            "{snapshots} not deleted after more than {timeout}: wait for PVCs that are created \
             from them, and see the logs of csi-snapshotter; do not remove finalizers, because \
             that leaks images"
        ),
        Problem::NoContent => format!(
            "{snapshots} without a VolumeSnapshotContent after more than {timeout}: the \
             snapshot-controller is not acting; is it installed, and may it create one?"
        ),
        Problem::Orphan => format!(
            "{snapshots} not ready, without an owner, of PVCs that do not exist: the driver keeps \
             retrying; delete those whose VolumeSnapshotContent has no snapshotHandle, and check \
             the others first: such a snapshot may be the last copy of the data"
        ),
        Problem::NotReady => format!("{snapshots} not ready after more than {timeout}"),
    }
}

fn details(snapshot: &Snapshot, observation: &Observation) -> String {
    let now = observation.now;
    let error = snapshot.problem.as_deref().unwrap_or("its content reports no error");
    match snapshot.terminating_since {
        Some(since) => {
            let restored = restores(snapshot, &observation.pvcs)
                .map(|pvc| format!("; PVC {} is created from it", pvc.object.name))
                .unwrap_or_default();
            format!(
                "{}, being deleted for {}, finalizers: {}{restored}",
                snapshot.object,
                age(since, now),
                join(&snapshot.finalizers, 5)
            )
        }
        None => format!("{}, created {} ago: {error}", snapshot.object, age(snapshot.created, now)),
    }
}

/// Returns the PVCs whose deletion waits for snapshots of them, with these snapshots.
pub fn held_pvcs(observation: &Observation) -> Vec<(&ObjectRef, Vec<&Snapshot>)> {
    let is_of = |snapshot: &&Snapshot, pvc: &Pvc| {
        snapshot.object.namespace == pvc.object.namespace
            && snapshot.pvc.as_ref() == Some(&pvc.object.name)
            // mutant holding-snapshots-not-named: && !snapshot.ready ~> && snapshot.ready
            && !snapshot.ready
    };
    observation
        .pvcs
        .iter()
        .filter(|pvc| pvc.terminating_since.is_some())
        .filter(|pvc| pvc.finalizers.iter().any(|name| name == PVC_FINALIZER))
        .map(|pvc| {
            let holders =
                observation.snapshots.iter().filter(|snapshot| is_of(snapshot, pvc)).collect();
            (&pvc.object, holders)
        })
        .collect()
}

/// Reports the PVCs whose deletion waits for snapshots of them, unless the locks are the reason.
pub fn held_pvc_findings(observation: &Observation, evidence: &Evidence) -> Vec<Finding> {
    held_pvcs(observation)
        .into_iter()
        .filter(|(_, snapshots)| {
            snapshots.is_empty()
                || !snapshots.iter().all(|one| is_consequence(one, observation, evidence))
        })
        .map(|(pvc, snapshots)| {
            let names = join(snapshots.iter().map(|snapshot| &snapshot.object.name), 3);
            let holders = if snapshots.is_empty() {
                "no unfinished snapshot of it is left: check that the snapshot-controller, which \
                 removes the finalizer, is running"
                    .to_owned()
            } else {
                format!("held by {} not ready ({names})", count(snapshots.len(), "snapshot"))
            };
            Finding::new(format!("PVC {pvc} is being deleted, {holders}"))
        })
        .collect()
}

#[cfg(test)]
#[path = "tests/snapshots.rs"]
mod tests;
