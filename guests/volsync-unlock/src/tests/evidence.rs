use super::*;
use crate::samples;

const NOW: u64 = samples::NOW;

#[test]
fn a_pending_pvc_with_its_key_in_the_log_is_sufficient_at_once() {
    let mut observation = samples::observation();
    observation.pvcs = vec![samples::pending("selfhosted/cache", 21)];
    observation.log.sightings.add("a", NOW - 1_000, &samples::pvc_lock_line(21));
    let evidence = assess(&observation, 180_000);
    assert_eq!(evidence.locked.len(), 1);
    assert!(evidence.confirmed.is_empty() && evidence.is_sufficient());
}

#[test]
fn the_key_of_a_populator_pvc_counts_for_the_pvc_that_it_populates() {
    let mut observation = samples::observation();
    let mut child = samples::pending("media/vs-prime-1", 41);
    child.populates = Some("plex".into());
    observation.pvcs =
        vec![samples::pending("media/plex", 40), child, samples::pending("ai/plex", 42)];
    observation.log.sightings.add("a", NOW, &samples::pvc_lock_line(41));
    let evidence = assess(&observation, 180_000);
    assert_eq!(evidence.locked.len(), 1);
    assert_eq!(
        evidence.dependent.iter().map(|pvc| pvc.object.to_string()).collect::<Vec<_>>(),
        ["media/plex"]
    );
}

#[test]
fn a_key_without_a_pvc_must_persist_by_the_timestamps_of_the_log() {
    for (first, last, interval, sufficient) in [
        (NOW - 200_000, NOW - 1_000, 180_000, true),
        (NOW - 100_000, NOW - 1_000, 180_000, false),
        (NOW, NOW, 0, false),
        (NOW - 100, NOW, 0, false),
        (NOW - 3_600_000, NOW - 3_000_000, 180_000, false),
        // It may have been released since.
        (NOW - 3_600_000, NOW - 360_000, 180_000, false),
        (NOW - 3_600_000, NOW - 300_000, 180_000, true),
    ] {
        let mut observation = samples::observation();
        observation.log.sightings.add("a", first, &samples::pvc_lock_line(99));
        observation.log.sightings.add("b", last, &samples::pvc_lock_line(99));
        assert_eq!(
            assess(&observation, interval).is_sufficient(),
            sufficient,
            "{first} {last} {interval}"
        );
    }
}

#[test]
fn a_key_that_is_logged_again_is_held_whatever_the_clocks_say() {
    let mut observation = samples::observation();
    for time in [NOW - 3_600_000, NOW - 600_000] {
        observation.log.sightings.add("a", time, &samples::pvc_lock_line(99));
    }
    assert!(!assess(&observation, 180_000).is_sufficient());
    let before = observation.log.sightings.clone();
    observation.log.sightings.add("a", NOW - 580_000, &samples::pvc_lock_line(99));
    observation.log.logged_again = observation.log.sightings.newer_than(&before);
    assert!(assess(&observation, 180_000).is_sufficient());
}

#[test]
fn the_key_of_a_bound_or_foreign_or_terminating_pvc_is_not_evidence() {
    let mut bound = samples::pending("media/a", 1);
    bound.phase = Phase::Bound;
    let mut foreign = samples::pending("media/b", 2);
    foreign.driver = Some("other.example.com".into());
    foreign.storage_class = Some("other".into());
    let mut terminating = samples::pending("media/c", 3);
    terminating.terminating_since = Some(NOW);
    let mut observation = samples::observation();
    observation.pvcs = vec![bound, foreign, terminating];
    for number in 1..=3 {
        observation.log.sightings.add("a", NOW, &samples::pvc_lock_line(number));
    }
    assert!(!assess(&observation, 180_000).is_sufficient());
}

#[test]
fn keys_that_match_no_object_are_found() {
    let mut observation = samples::observation();
    observation.pvcs = vec![samples::pending("media/a", 1)];
    observation.log.sightings.add("a", NOW, &samples::pvc_lock_line(1));
    observation.log.sightings.add("a", NOW, &samples::pvc_lock_line(666));
    assert_eq!(unmatched_keys(&observation), [&LockKey::Pvc(samples::uid(666))]);
}
