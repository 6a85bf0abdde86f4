//! The order of the way back: the source, then owners a few at a time, those with restores under way last,
//! then the parents. A re-created source synchronizes at once, so all together would be the next storm.

use std::collections::BTreeSet;

use salve_sdk::query_pvcs::{Pvc, Snapshot, Waiting};
use salve_sdk::query_replicationsources::{Destination, PvcState, Source};

use crate::evidence::is_pending;
use crate::freeze::{Freeze, Role};
use crate::lock::Sightings;
use crate::selection::{ResolvedGuest, Selection};

/// Groups of indices into `frozen` (which is in the order of freezing), to be resumed one group after the other.
pub fn groups(
    frozen: &[Freeze],
    selection: &Selection,
    restoring: &BTreeSet<String>,
    batch_size: usize,
) -> Vec<Vec<usize>> {
    let backwards = || (0..frozen.len()).rev();
    let of_role = |role: Role| backwards().filter(move |index| frozen[*index].role == role);
    let waits = |index: &usize| {
        let sources = selection.returning_with(&frozen[*index].target);
        sources.iter().any(|chosen| restoring.contains(&chosen.source.object.namespace))
    };
    let mut owners: Vec<usize> = of_role(Role::Owner).collect();
    owners.sort_by_key(waits);
    let mut groups: Vec<Vec<usize>> = of_role(Role::Source).map(|index| vec![index]).collect();
    groups.extend(owners.chunks(batch_size.max(1)).map(<[usize]>::to_vec));
    groups.extend(of_role(Role::Parent).map(|index| vec![index]));
    groups
}

/// Namespaces where a restore is still under way.
pub fn restoring(destinations: &[Destination], pvcs: &[Pvc]) -> BTreeSet<String> {
    let syncing = destinations
        .iter()
        .filter(|destination| !destination.done && destination.syncing_since.is_some())
        .map(|destination| destination.object.namespace.clone());
    let filling = pvcs
        .iter()
        .filter(|pvc| is_pending(pvc))
        .filter(|pvc| match pvc.waiting.unwrap_or(Waiting::Unknown) {
            Waiting::Populating | Waiting::ForSnapshot => true,
            Waiting::ForFirstConsumer
            | Waiting::CsiLocked
            | Waiting::CsiSlow
            | Waiting::ForDestination
            | Waiting::NoProvisioner
            | Waiting::Misconfigured
            | Waiting::Terminating
            | Waiting::Unknown => pvc.populates.is_some(),
        })
        .map(|pvc| pvc.object.namespace.clone());
    syncing.chain(filling).collect()
}

/// Which of `expected` are not back yet. A namesake with the old uid is the old one.
pub fn missing<'a>(expected: &[&'a ResolvedGuest], sources: &[Source]) -> Vec<&'a ResolvedGuest> {
    let is_back = |chosen: &ResolvedGuest| {
        sources
            .iter()
            .any(|source| source.object == chosen.source.object && source.uid != chosen.source.uid)
    };
    expected.iter().copied().filter(|chosen| !is_back(chosen)).collect()
}

/// Which of `expected` are not back, or are back and still in their first synchronization. One without a claim
/// never ends its first, so it is not waited for.
pub fn unsettled<'a>(expected: &[&'a ResolvedGuest], sources: &[Source]) -> Vec<&'a ResolvedGuest> {
    let is_busy = |chosen: &ResolvedGuest| {
        sources.iter().any(|source| {
            source.object == chosen.source.object
                && source.pvc_state == PvcState::Present
                && source.syncing_since.is_some()
                && source.last_sync.is_none()
        })
    };
    let gone = missing(expected, sources);
    expected
        .iter()
        .copied()
        .filter(|chosen| {
            is_busy(chosen) || gone.iter().any(|other| other.source.uid == chosen.source.uid)
        })
        .collect()
}

/// Claims that are still being deleted, of sources that were deleted for it. A source that returns to one jams the
/// driver again.
pub fn vanishing<'a>(pvcs: &'a [Pvc], chosen: &[ResolvedGuest]) -> Vec<&'a Pvc> {
    let of_one = |pvc: &&Pvc| {
        pvc.terminating_since.is_some()
            && chosen.iter().any(|chosen| {
                chosen.source.object.namespace == pvc.object.namespace
                    && chosen.source.pvc.as_ref() == Some(&pvc.object.name)
            })
    };
    pvcs.iter().filter(of_one).collect()
}

/// Snapshots of these owners that are still there.
pub fn cascading<'a>(snapshots: &'a [Snapshot], owners: &[String]) -> Vec<&'a Snapshot> {
    let owned =
        |snapshot: &&Snapshot| snapshot.owner_uid.as_ref().is_some_and(|uid| owners.contains(uid));
    snapshots.iter().filter(owned).collect()
}

/// Whether this snapshot goes only after the restart: the driver is still asked to make it, and answers with a lock.
pub fn is_wedged(snapshot: &Snapshot, sightings: &Sightings) -> bool {
    let refused =
        snapshot.problem.as_deref().is_some_and(|problem| crate::lock::Key::of(problem).is_some());
    !snapshot.ready && (refused || sightings.locks_snapshot(&snapshot.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, NOW};
    use crate::selection::{Reason, Return};
    use salve_sdk::query_pvcs::ReclaimPolicy;
    use salve_sdk::query_replicationsources::Health;

    fn freeze(name: &str, role: Role) -> Freeze {
        Freeze { target: samples::flux(name), role }
    }

    fn chosen(name: &str, number: u32) -> ResolvedGuest {
        ResolvedGuest {
            source: samples::source(name, number, Health::Orphan),
            reason: Reason::Orphan,
            owner: Some(samples::flux_object(name)),
            back: Return::WithOwner(samples::flux(name)),
        }
    }

    #[test]
    fn the_way_back_is_source_owners_parents_and_restores_before_backups() {
        let frozen = [
            freeze("flux-system/apps", Role::Parent),
            freeze("media/a", Role::Owner),
            freeze("ai/b", Role::Owner),
            freeze("media/c", Role::Owner),
            freeze("flux-system/git", Role::Source),
        ];
        let selection = Selection {
            chosen: vec![chosen("media/a", 1), chosen("ai/b", 2), chosen("media/c", 3)],
            spared: Vec::new(),
        };
        assert_eq!(
            groups(&frozen, &selection, &BTreeSet::new(), 2),
            [vec![4], vec![3, 2], vec![1], vec![0]]
        );
        let restoring = BTreeSet::from(["media".to_owned()]);
        assert_eq!(
            groups(&frozen, &selection, &restoring, 2),
            [vec![4], vec![2, 3], vec![1], vec![0]]
        );
    }

    #[test]
    fn every_frozen_object_is_resumed_exactly_once() {
        let frozen: Vec<Freeze> = (0..7)
            .map(|number| {
                freeze(
                    &format!("media/k{number}"),
                    if number < 2 { Role::Parent } else { Role::Owner },
                )
            })
            .collect();
        for batch_size in 0..9 {
            let mut all: Vec<usize> =
                groups(&frozen, &Selection::default(), &BTreeSet::new(), batch_size)
                    .into_iter()
                    .flatten()
                    .collect();
            all.sort_unstable();
            assert_eq!(all, (0..7).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_source_is_back_only_under_a_new_uid() {
        let one = chosen("media/a", 1);
        let expected = [&one];
        let reborn = samples::source("media/a", 2, Health::Orphan);
        assert_eq!(missing(&expected, &[]).len(), 1);
        assert_eq!(missing(&expected, std::slice::from_ref(&one.source)).len(), 1);
        assert_eq!(missing(&expected, std::slice::from_ref(&reborn)).len(), 0);
        let orphan = Source { syncing_since: Some(NOW), last_sync: None, ..reborn };
        assert_eq!(unsettled(&expected, std::slice::from_ref(&orphan)).len(), 0);
        let reconciling = Source { pvc_state: PvcState::Present, ..orphan };
        assert_eq!(unsettled(&expected, &[reconciling]).len(), 1);
    }

    #[test]
    fn a_locked_snapshot_waits_for_the_restart_and_a_ready_one_does_not() {
        let mut sightings = Sightings::default();
        let line = format!(
            "an operation with the given Snapshot ID snapshot-{} already exists",
            samples::uid(5)
        );
        sightings.add("a", NOW, &line);
        let locked = samples::snapshot("media/s", 5, 1);
        let told = Snapshot { problem: Some(line), ..samples::snapshot("media/t", 6, 1) };
        let quiet = samples::snapshot("media/u", 7, 1);
        let ready = Snapshot { ready: true, ..locked.clone() };
        let stranger = samples::snapshot("media/v", 8, 2);
        for (snapshot, wedged) in [(&locked, true), (&told, true), (&quiet, false), (&ready, false)]
        {
            assert_eq!(is_wedged(snapshot, &sightings), wedged, "{}", snapshot.object);
        }
        assert_eq!(cascading(&[locked, told, quiet, ready, stranger], &[samples::uid(1)]).len(), 4);
    }

    #[test]
    fn a_claim_still_vanishing_is_found_by_its_source() {
        let vanishing_claim = samples::terminating("media/a", 5, ReclaimPolicy::Retain);
        let reborn = samples::pending("media/a", 6);
        let elsewhere = samples::terminating("ai/a", 7, ReclaimPolicy::Retain);
        let pvcs = [vanishing_claim, reborn, elsewhere];
        let found = vanishing(&pvcs, &[chosen("media/a", 1)]);
        assert_eq!(found.iter().map(|pvc| &pvc.uid).collect::<Vec<_>>(), [&samples::uid(5)]);
    }

    #[test]
    fn restores_under_way_are_found_by_namespace() {
        let destination = |syncing: bool, done: bool| Destination {
            object: samples::object("media/plex-dst"),
            uid: samples::uid(9),
            trigger: None,
            done,
            syncing_since: syncing.then_some(NOW),
            last_sync: None,
            latest_image: None,
            condition: None,
        };
        assert_eq!(restoring(&[destination(true, false)], &[]).len(), 1);
        assert_eq!(restoring(&[destination(false, true)], &[]).len(), 0);
        let filling = Pvc { waiting: Some(Waiting::Populating), ..samples::pending("ai/x", 1) };
        assert!(restoring(&[], &[filling]).contains("ai"));
    }
}
