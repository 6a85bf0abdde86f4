//! Irreversible consequences of a run, reported before the first write.

use salve_sdk::query_drivers::Driver;
use salve_sdk::query_pvcs::{Pvc, PvcState, ReclaimPolicy, Volume, Waiting};
use salve_sdk::query_replicationsources::Source;
use salve_sdk::report::Finding;

use crate::evidence::{Observation, is_pending, unmatched_keys, uses_driver};
use crate::lock::{LockKey, Sightings};
use crate::selection::{Recreation, SelectedSource};

/// Returns the PVCs whose deletion completes, including their data, once the locks are cleared.
///
/// The temporary PVCs of VolSync are not included: they are copies that should be deleted.
pub fn completing_deletions<'a>(pvcs: &'a [Pvc], driver: &Driver) -> Vec<&'a Pvc> {
    let loses_data = |pvc: &&Pvc| {
        pvc.terminating_since.is_some()
            && pvc.volume.is_some()
            && uses_driver(pvc, driver)
            && !is_temporary(pvc)
            && match pvc.reclaim_policy {
                Some(ReclaimPolicy::Delete | ReclaimPolicy::Recycle) => true,
                Some(ReclaimPolicy::Retain) => false,
                // Unknown: assume that the data will be lost.
                None => true,
            }
    };
    pvcs.iter().filter(loses_data).collect()
}

fn is_temporary(pvc: &Pvc) -> bool {
    is_volsync(pvc.owner.as_deref()) || pvc.populates.is_some()
}

fn is_volsync(owner: Option<&str>) -> bool {
    owner.is_some_and(|owner| {
        owner.starts_with("ReplicationSource/") || owner.starts_with("ReplicationDestination/")
    })
}

/// What the restart completes outside of the PVCs that were listed: it releases the locks of all
/// namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherDeletions {
    /// PVCs whose volumes are deleted, or may be, with the reason.
    pub completing: Vec<String>,
    /// PVCs that could not be read. Their snapshots may be locked, and they may be being deleted.
    pub unseen: Vec<String>,
}

/// Returns the deletions that the restart may complete outside of the PVCs that were listed.
/// `volumes` are those of all other PVCs.
pub fn other_deletions(volumes: &[Volume], observation: &Observation) -> OtherDeletions {
    let has_unknown_snapshot_key =
        unmatched_keys(observation).into_iter().any(|key| matches!(key, LockKey::Snapshot(_)));
    let mut deletions = OtherDeletions::default();
    for volume in volumes.iter().filter(|volume| loses_data(volume)) {
        let pvc = &volume.pvc;
        match volume.pvc_state {
            PvcState::Terminating => {
                deletions.completing.push(format!("{pvc} (not in the searched namespaces)"))
            }
            PvcState::Missing => deletions
                .completing
                .push(format!("{pvc} (already deleted; its volume {} is next)", volume.name)),
            // mutant unreadable-pvc-without-consent: is_locked(volume, &observation.log.sightings)
            //     ~> false
            PvcState::Unreadable if is_locked(volume, &observation.log.sightings) => {
                deletions.completing.push(format!(
                    "{pvc} (its volume is locked, and whether it is being deleted could not be \
                     read)"
                ));
            }
            PvcState::Unreadable if has_unknown_snapshot_key => {
                deletions.unseen.push(pvc.to_string());
            }
            PvcState::Unreadable | PvcState::Bound => {}
        }
    }
    deletions
}

/// Returns whether a volume is deleted together with its PVC, and is not a copy that VolSync made.
fn loses_data(volume: &Volume) -> bool {
    let is_deleted = match volume.reclaim_policy {
        Some(ReclaimPolicy::Delete | ReclaimPolicy::Recycle) | None => true,
        Some(ReclaimPolicy::Retain) => false,
    };
    // The owner of a PVC that no longer exists is unknown.
    let has_name_of_copy = volume.pvc_state == PvcState::Missing
        && (volume.pvc.name.starts_with("volsync-") || volume.pvc.name.starts_with("vs-prime-"));
    is_deleted && !has_name_of_copy && !is_volsync(volume.pvc_owner.as_deref())
}

fn is_locked(volume: &Volume, sightings: &Sightings) -> bool {
    let key = LockKey::Handle(volume.handle.clone());
    sightings.0.contains_key(&key)
        || volume.pvc_uid.as_ref().is_some_and(|uid| sightings.contains_pvc(uid))
}

/// Returns a warning for each ReplicationSource whose PVC was created after its last backup. Its
/// next backup contains the new volume and becomes the latest one, and rotation removes the good
/// ones. Each warning starts with the object of the ReplicationSource.
pub fn new_volume_warnings(
    sources: &[Source],
    selected: &[SelectedSource],
    pvcs: &[Pvc],
) -> Vec<String> {
    sources.iter().filter_map(|source| new_volume_warning(source, selected, pvcs)).collect()
}

/// Summarizes these warnings as one finding.
pub fn new_volume_finding(warnings: &[String]) -> Option<Finding> {
    match warnings {
        [] => None,
        [warning] => Some(Finding::new(warning)),
        _ => {
            let names: Vec<_> =
                warnings.iter().filter_map(|warning| warning.split(' ').next()).collect();
            Some(Finding::with_details(
                format!(
                    "{} ReplicationSources will back up a brand-new (possibly empty) PVC: {}; \
                     check the restores first",
                    warnings.len(),
                    names.join(", ")
                ),
                warnings,
            ))
        }
    }
}

fn new_volume_warning(
    source: &Source,
    selected: &[SelectedSource],
    pvcs: &[Pvc],
) -> Option<String> {
    let name = source.pvc.as_ref()?;
    let object = &source.object;
    let pvc = pvcs
        .iter()
        .find(|pvc| pvc.object.namespace == object.namespace && pvc.object.name == *name)?;
    let recreation = selected
        .iter()
        .find(|selected| selected.source.uid == source.uid)
        .map(|selected| &selected.recreation);
    if pvc.terminating_since.is_some() {
        let is_recreated =
            matches!(recreation, Some(Recreation::ByOwner(_) | Recreation::Forced(_)));
        return is_recreated.then(|| {
            format!(
                "{object} will back up a brand-new (possibly empty) PVC as soon as it is \
                 recreated, if Git declares PVC {name}, which is being deleted; check the restore \
                 first"
            )
        });
    }
    let is_awaited = is_pending(pvc) && pvc.waiting != Some(Waiting::ForFirstConsumer);
    let is_newer = match source.last_sync {
        Some(last) => pvc.created > last,
        None => is_awaited || (recreation.is_some() && pvc.created > source.created),
    };
    let when = match (recreation, is_awaited) {
        (Some(_), _) => "as soon as it is recreated",
        (None, true) => "as soon as that is bound",
        (None, false) => "at its next sync",
    };
    let populated_from = pvc
        .data_source
        .as_ref()
        .map(|from| format!(", populated from {from},"))
        .unwrap_or_default();
    is_newer.then(|| {
        format!(
            "{object} will back up a brand-new (possibly empty) PVC{populated_from} {when}: PVC \
             {name} is newer than its last backup; check the restore first"
        )
    })
}

#[cfg(test)]
#[path = "tests/consent.rs"]
mod tests;
