//! Irreversible consequences of a run, reported before the first write.

use salve_sdk::query_drivers::Driver;
use salve_sdk::query_pvcs::{Pvc, ReclaimPolicy, Waiting};
use salve_sdk::query_replicationsources::Source;
use salve_sdk::report::Finding;

use crate::evidence::{is_pending, uses_driver};
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
    let is_owned_by_volsync = pvc.owner.as_ref().is_some_and(|owner| {
        owner.starts_with("ReplicationSource/") || owner.starts_with("ReplicationDestination/")
    });
    is_owned_by_volsync || pvc.populates.is_some()
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
