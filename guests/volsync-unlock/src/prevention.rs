//! How to prevent the incident from recurring.

use std::collections::BTreeMap;

use salve_sdk::format::{count, join};
use salve_sdk::query_replicationsources::{Health, PvcState, Source};
use salve_sdk::report::Finding;

use crate::selection::{Reason, Recreation, SelectedSource, Selection};

/// How many ReplicationSources with the same schedule overload the driver.
const MAX_SAME_SCHEDULE: usize = 8;

/// Returns what to change. `after` are the ReplicationSources at the end of the run.
pub fn advise(selection: &Selection, after: &[Source], is_ceph_slow: bool) -> Vec<Finding> {
    // Its PVC may have been created again, for example by a restore.
    let has_pvc = |selected: &&SelectedSource| {
        after.iter().any(|source| {
            source.object == selected.source.object
                && match source.pvc_state {
                    PvcState::Present | PvcState::Unbound => true,
                    PvcState::Terminating | PvcState::Missing | PvcState::None => false,
                }
        })
    };
    let gone = selection.selected.iter().filter(|selected| !has_pvc(selected));
    let mut advice: Vec<Finding> =
        gone.filter_map(declared_without_pvc).map(Finding::new).collect();
    let orphans: Vec<String> = after
        .iter()
        .filter(|source| source.health == Health::Orphan && !selection.contains(source))
        .map(|source| source.object.to_string())
        .collect();
    if !orphans.is_empty() {
        advice.push(Finding::with_details(
            match orphans.len() {
                1 => "1 ReplicationSource without a PVC remains: delete it, or restore its PVC"
                    .to_owned(),
                many => format!(
                    "{many} ReplicationSources without a PVC remain: delete them, or restore \
                     their PVCs"
                ),
            },
            orphans,
        ));
    }
    let skipped_orphans =
        selection.skipped.iter().filter(|skipped| skipped.source.health == Health::Orphan);
    advice.extend(skipped_orphans.map(|skipped| {
        Finding::new(format!(
            "{} still backs up a PVC that no longer exists: {}",
            skipped.source.object, skipped.reason
        ))
    }));
    advice.extend(same_schedule(after));
    if selection.selected.iter().any(|selected| selected.reason == Reason::Orphan) {
        advice.push(Finding::new(
            "to remove an app, remove it from Git, so that Flux prunes the ReplicationSource \
             together with the PVC; pausing a ReplicationSource is not enough",
        ));
    }
    if is_ceph_slow {
        advice.push(Finding::new(
            "Ceph is in HEALTH_WARN: slow Ceph causes these locks, fix that first",
        ));
    }
    advice
}

impl Selection {
    fn contains(&self, source: &Source) -> bool {
        self.selected.iter().any(|selected| selected.source.object == source.object)
            || self.skipped.iter().any(|skipped| skipped.source.object == source.object)
    }
}

fn declared_without_pvc(selected: &SelectedSource) -> Option<String> {
    let name = &selected.source.object.name;
    match (selected.reason, &selected.recreation) {
        (
            Reason::Orphan | Reason::TerminatingSource,
            Recreation::ByOwner(owner) | Recreation::Forced(owner),
        ) => Some(format!(
            "remove {name} from Git ({owner} declares it); otherwise its ReplicationSource comes \
             back without a PVC"
        )),
        (Reason::Orphan | Reason::TerminatingSource, Recreation::AtUpgrade(owner)) => {
            Some(format!(
                "remove {name} from the values of {owner}; otherwise its ReplicationSource comes \
                 back at the next upgrade"
            ))
        }
        (Reason::Orphan | Reason::TerminatingSource, Recreation::OwnerSuspended(owner)) => {
            Some(format!(
                "remove {name} from Git before {owner} is resumed; otherwise its \
                 ReplicationSource comes back without a PVC"
            ))
        }
        (Reason::Orphan | Reason::TerminatingSource, Recreation::Unknown) => Some(format!(
            "remove {name} where it is declared (Flux in another cluster, Argo CD, a ResourceSet); \
             otherwise its ReplicationSource comes back without a PVC"
        )),
        (Reason::Orphan | Reason::TerminatingSource, Recreation::Never)
        | (Reason::Stuck | Reason::ModeAll, _) => None,
    }
}

fn same_schedule(sources: &[Source]) -> Option<Finding> {
    let mut by_schedule: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for source in sources {
        if let Some(schedule) = &source.schedule {
            by_schedule.entry(schedule).or_default().push(source.object.to_string());
        }
    }
    let (schedule, names) = by_schedule.into_iter().max_by_key(|(_, names)| names.len())?;
    (names.len() >= MAX_SAME_SCHEDULE).then(|| {
        Finding::with_details(
            format!(
                "{} start at the same minute ({schedule}): spread out their schedules",
                count(names.len(), "ReplicationSource")
            ),
            [join(&names, names.len())],
        )
    })
}

#[cfg(test)]
#[path = "tests/prevention.rs"]
mod tests;
