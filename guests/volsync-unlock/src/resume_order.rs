//! The order in which Flux objects are resumed, and what has to be finished before.
//!
//! The source first, then owners in batches, those with restores in progress last, then the
//! parents. A recreated ReplicationSource syncs at once, so resuming all owners together would
//! overload the driver again.

use std::collections::BTreeSet;

use salve_sdk::query_pvcs::{Pvc, Snapshot, Waiting};
use salve_sdk::query_replicationsources::{Destination, PvcState, Source};

use crate::evidence::is_pending;
use crate::lock::{LockKey, Sightings};
use crate::selection::{SelectedSource, Selection};
use crate::suspension::{PlannedSuspension, Role};

/// Returns batches of indices into `suspended`, which is in the order of suspension. The batches
/// are to be resumed one after the other.
pub fn batches(
    suspended: &[PlannedSuspension],
    selection: &Selection,
    restoring: &BTreeSet<String>,
    batch_size: usize,
) -> Vec<Vec<usize>> {
    let with_role =
        |role: Role| (0..suspended.len()).rev().filter(move |index| suspended[*index].role == role);
    let has_restore = |index: &usize| {
        let sources = selection.recreated_by(&suspended[*index].target);
        sources.iter().any(|selected| restoring.contains(&selected.source.object.namespace))
    };
    let mut owners: Vec<usize> = with_role(Role::Owner).collect();
    owners.sort_by_key(has_restore);
    let mut batches: Vec<Vec<usize>> = with_role(Role::Source).map(|index| vec![index]).collect();
    batches.extend(owners.chunks(batch_size.max(1)).map(<[usize]>::to_vec));
    batches.extend(with_role(Role::Parent).map(|index| vec![index]));
    batches
}

/// Returns the namespaces in which a restore is in progress.
pub fn restoring(destinations: &[Destination], pvcs: &[Pvc]) -> BTreeSet<String> {
    let syncing = destinations
        .iter()
        .filter(|destination| !destination.done && destination.syncing_since.is_some())
        .map(|destination| destination.object.namespace.clone());
    let populating = pvcs
        .iter()
        .filter(|pvc| is_pending(pvc))
        .filter(|pvc| match pvc.waiting.unwrap_or(Waiting::Unknown) {
            Waiting::Populating | Waiting::ForSnapshot | Waiting::Copying => true,
            Waiting::ForFirstConsumer
            | Waiting::ForScheduling
            | Waiting::CsiLocked
            | Waiting::CsiSlow
            | Waiting::ForDestination
            | Waiting::NoProvisioner
            | Waiting::Misconfigured
            | Waiting::Terminating
            | Waiting::Unknown => pvc.populates.is_some(),
        })
        .map(|pvc| pvc.object.namespace.clone());
    syncing.chain(populating).collect()
}

/// Returns which of `expected` have not been recreated yet. An object with the same name and the
/// old UID is the deleted one.
pub fn missing<'a>(expected: &[&'a SelectedSource], sources: &[Source]) -> Vec<&'a SelectedSource> {
    let is_recreated = |selected: &SelectedSource| {
        sources.iter().any(|source| {
            source.object == selected.source.object && source.uid != selected.source.uid
        })
    };
    expected.iter().copied().filter(|selected| !is_recreated(selected)).collect()
}

/// Returns which of `expected` have not been recreated or have not finished their first sync. A
/// first sync without a PVC never finishes, so it is not waited for.
pub fn not_synced<'a>(
    expected: &[&'a SelectedSource],
    sources: &[Source],
) -> Vec<&'a SelectedSource> {
    let is_syncing = |selected: &SelectedSource| {
        sources.iter().any(|source| {
            source.object == selected.source.object
                && source.pvc_state == PvcState::Present
                && source.syncing_since.is_some()
                && source.last_sync.is_none()
        })
    };
    let missing = missing(expected, sources);
    let is_missing = |selected: &SelectedSource| {
        missing.iter().any(|other| other.source.uid == selected.source.uid)
    };
    expected
        .iter()
        .copied()
        .filter(|selected| is_syncing(selected) || is_missing(selected))
        .collect()
}

/// Returns the PVCs of the selected ReplicationSources that are still being deleted. A
/// ReplicationSource that is recreated before its PVC is gone locks the driver again.
pub fn terminating_pvcs<'a>(pvcs: &'a [Pvc], selected: &[SelectedSource]) -> Vec<&'a Pvc> {
    let is_backed_up = |pvc: &Pvc| {
        selected.iter().any(|selected| {
            selected.source.object.namespace == pvc.object.namespace
                && selected.source.pvc.as_ref() == Some(&pvc.object.name)
        })
    };
    pvcs.iter().filter(|pvc| pvc.terminating_since.is_some() && is_backed_up(pvc)).collect()
}

/// Returns the snapshots whose owners have these UIDs.
pub fn owned_snapshots<'a>(snapshots: &'a [Snapshot], owner_uids: &[String]) -> Vec<&'a Snapshot> {
    let is_owned = |snapshot: &&Snapshot| {
        snapshot.owner_uid.as_ref().is_some_and(|uid| owner_uids.contains(uid))
    };
    snapshots.iter().filter(is_owned).collect()
}

/// Returns whether the snapshot can be deleted only after the restart: the driver is still asked
/// to create it and rejects that with a lock.
pub fn is_locked(snapshot: &Snapshot, sightings: &Sightings) -> bool {
    let reports_lock =
        snapshot.problem.as_deref().is_some_and(|problem| LockKey::parse(problem).is_some());
    !snapshot.ready && (reports_lock || sightings.contains_snapshot(&snapshot.uid))
}

#[cfg(test)]
#[path = "tests/resume_order.rs"]
mod tests;
