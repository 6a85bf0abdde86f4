use super::*;
use crate::samples::{self, NOW};
use crate::selection::{Reason, Recreation};
use salve_sdk::query_pvcs::ReclaimPolicy;
use salve_sdk::query_replicationsources::Health;

fn suspension(name: &str, role: Role) -> PlannedSuspension {
    PlannedSuspension { target: samples::flux(name), role }
}

fn selected(name: &str, number: u32) -> SelectedSource {
    SelectedSource {
        source: samples::source(name, number, Health::Orphan),
        reason: Reason::Orphan,
        owner: Some(samples::flux_object(name)),
        recreation: Recreation::ByOwner(samples::flux(name)),
    }
}

#[test]
fn the_source_is_resumed_first_then_owners_without_restores_then_others_then_parents() {
    let suspended = [
        suspension("flux-system/apps", Role::Parent),
        suspension("media/a", Role::Owner),
        suspension("ai/b", Role::Owner),
        suspension("media/c", Role::Owner),
        suspension("flux-system/git", Role::Source),
    ];
    let selection = Selection {
        selected: vec![selected("media/a", 1), selected("ai/b", 2), selected("media/c", 3)],
        skipped: Vec::new(),
    };
    assert_eq!(
        batches(&suspended, &selection, &BTreeSet::new(), 2),
        [vec![4], vec![3, 2], vec![1], vec![0]]
    );
    let restoring = BTreeSet::from(["media".to_owned()]);
    assert_eq!(
        batches(&suspended, &selection, &restoring, 2),
        [vec![4], vec![2, 3], vec![1], vec![0]]
    );
}

#[test]
fn every_suspended_object_is_resumed_exactly_once() {
    let suspended: Vec<PlannedSuspension> = (0..7)
        .map(|number| {
            suspension(
                &format!("media/k{number}"),
                if number < 2 { Role::Parent } else { Role::Owner },
            )
        })
        .collect();
    for batch_size in 0..9 {
        let mut all: Vec<usize> =
            batches(&suspended, &Selection::default(), &BTreeSet::new(), batch_size)
                .into_iter()
                .flatten()
                .collect();
        all.sort_unstable();
        assert_eq!(all, (0..7).collect::<Vec<_>>());
    }
}

#[test]
fn a_source_is_recreated_only_if_it_has_a_new_uid() {
    let old = selected("media/a", 1);
    let expected = [&old];
    let recreated = samples::source("media/a", 2, Health::Orphan);
    assert_eq!(missing(&expected, &[]).len(), 1);
    assert_eq!(missing(&expected, std::slice::from_ref(&old.source)).len(), 1);
    assert_eq!(missing(&expected, std::slice::from_ref(&recreated)).len(), 0);
    let orphan = Source { syncing_since: Some(NOW), last_sync: None, ..recreated };
    assert_eq!(not_synced(&expected, std::slice::from_ref(&orphan)).len(), 0);
    let syncing = Source { pvc_state: PvcState::Present, ..orphan };
    assert_eq!(not_synced(&expected, &[syncing]).len(), 1);
}

#[test]
fn a_snapshot_is_locked_if_the_log_or_its_error_reports_a_lock() {
    let mut sightings = Sightings::default();
    let line = format!(
        "an operation with the given Snapshot ID snapshot-{} already exists",
        samples::uid(5)
    );
    sightings.add("a", NOW, &line);
    let logged = samples::snapshot("media/s", 5, 1);
    let reported = Snapshot { problem: Some(line), ..samples::snapshot("media/t", 6, 1) };
    let unlocked = samples::snapshot("media/u", 7, 1);
    let ready = Snapshot { ready: true, ..logged.clone() };
    let other = samples::snapshot("media/v", 8, 2);
    for (snapshot, expected) in
        [(&logged, true), (&reported, true), (&unlocked, false), (&ready, false)]
    {
        assert_eq!(is_locked(snapshot, &sightings), expected, "{}", snapshot.object);
    }
    let snapshots = [logged, reported, unlocked, ready, other];
    assert_eq!(owned_snapshots(&snapshots, &[samples::uid(1)]).len(), 4);
}

#[test]
fn a_terminating_pvc_is_found_by_its_source() {
    let terminating = samples::terminating("media/a", 5, ReclaimPolicy::Retain);
    let recreated = samples::pending("media/a", 6);
    let elsewhere = samples::terminating("ai/a", 7, ReclaimPolicy::Retain);
    let pvcs = [terminating, recreated, elsewhere];
    let found = terminating_pvcs(&pvcs, &[selected("media/a", 1)]);
    assert_eq!(found.iter().map(|pvc| &pvc.uid).collect::<Vec<_>>(), [&samples::uid(5)]);
}

#[test]
fn restores_in_progress_are_found_by_namespace() {
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
    let populating = Pvc { waiting: Some(Waiting::Populating), ..samples::pending("ai/x", 1) };
    assert!(restoring(&[], &[populating]).contains("ai"));
}
