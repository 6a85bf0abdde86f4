//! What was seen, and whether it is enough. Knows nothing of how it was looked for.

use std::collections::BTreeSet;

use salve_sdk::query_drivers::Driver;
use salve_sdk::query_pvcs::{Phase, Pvc, Snapshot};
use salve_sdk::query_replicationsources::{Destination, Source};

use crate::lock::{Key, Sightings};

/// A key that was last seen longer ago than this has been let go: the sidecars ask again at least every 5 min.
const FRESH: u64 = 15 * 60 * 1_000;

/// All that one look at the cluster brought.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When, by the cluster's clock.
    pub now: u64,
    /// The namespaces looked at.
    pub namespaces: Vec<String>,
    /// What is listed but not there.
    pub remarks: Vec<String>,
    /// The driver and its controller.
    pub driver: Driver,
    /// Claims of the namespaces.
    pub pvcs: Vec<Pvc>,
    /// Snapshots of the namespaces.
    pub snapshots: Vec<Snapshot>,
    /// Sources of the namespaces. None: the cluster has no VolSync.
    pub sources: Option<Vec<Source>>,
    /// Destinations of the namespaces.
    pub destinations: Vec<Destination>,
    /// What the controller's log says.
    pub log: Log,
}

/// What the controller's log says.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Lock keys.
    pub sightings: Sightings,
    /// The pods that were read.
    pub pods: BTreeSet<String>,
    /// Pods that could not be read, with the reason.
    pub unreadable: BTreeSet<String>,
}

/// What speaks for the incident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Pending claims whose own key is in the log. One is enough at once.
    pub locked: Vec<Pvc>,
    /// Pending claims that wait for one of those.
    pub behind: Vec<Pvc>,
    /// Keys seen long enough apart, and lately.
    pub lasting: Vec<Key>,
    /// Keys seen once, or too close together so far.
    pub passing: Vec<Key>,
}

impl Evidence {
    /// Whether it is enough.
    pub fn suffices(&self) -> bool {
        !self.locked.is_empty() || !self.lasting.is_empty()
    }
}

/// Whether this claim is the driver's.
pub fn is_of(pvc: &Pvc, driver: &Driver) -> bool {
    pvc.driver.as_deref() == Some(&driver.name)
        || pvc.storage_class.as_ref().is_some_and(|class| driver.storage_classes.contains(class))
}

/// Whether this claim waits for a volume.
pub fn is_pending(pvc: &Pvc) -> bool {
    match pvc.phase {
        Phase::Pending => pvc.terminating_since.is_none(),
        Phase::Bound | Phase::Lost => false,
    }
}

/// Weighs what the log says of the claims. `gap` is how far apart two samples must be.
pub fn weigh(seen: &Seen, gap: u64) -> Evidence {
    let pending: Vec<&Pvc> =
        seen.pvcs.iter().filter(|pvc| is_pending(pvc) && is_of(pvc, &seen.driver)).collect();
    let locked: Vec<Pvc> = pending
        .iter()
        .filter(|pvc| seen.log.sightings.locks_claim(&pvc.uid))
        .map(|pvc| (*pvc).clone())
        .collect();
    let stood_for = |pvc: &Pvc| {
        locked.iter().any(|child| {
            child.object.namespace == pvc.object.namespace
                && child.populates.as_deref() == Some(&pvc.object.name)
        })
    };
    let behind = seen
        .pvcs
        .iter()
        .filter(|pvc| is_pending(pvc) && !locked.contains(pvc) && stood_for(pvc))
        .cloned()
        .collect();
    let (mut lasting, mut passing) = (Vec::new(), Vec::new());
    for (key, sighting) in &seen.log.sightings.0 {
        let apart = sighting.last.saturating_sub(sighting.first);
        let lately = seen.now.saturating_sub(sighting.last) <= FRESH;
        // Two lines of one rejection are a moment apart: they are one sample even where no gap is asked for.
        if lately && apart >= gap.max(1_000) {
            lasting.push(key.clone());
        } else if lately {
            passing.push(key.clone());
        }
    }
    Evidence { locked, behind, lasting, passing }
}

/// Keys that belong to no claim and no snapshot that we see, though they are named after one: they belong to
/// another namespace, or to nobody, and then what the driver made for them is leaked.
pub fn ownerless(seen: &Seen) -> Vec<&Key> {
    let known = |key: &Key| match key {
        Key::Pvc(uid) => seen.pvcs.iter().any(|pvc| pvc.uid == *uid),
        Key::Snapshot(uid) => seen.snapshots.iter().any(|snapshot| snapshot.uid == *uid),
        Key::Handle(_) => true,
    };
    seen.log.sightings.0.keys().filter(|key| !known(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    const NOW: u64 = samples::NOW;

    #[test]
    fn a_pending_claim_with_its_key_in_the_log_is_enough_at_once() {
        let mut seen = samples::seen();
        seen.pvcs = vec![samples::pending("selfhosted/cache", 21)];
        seen.log.sightings.add("a", NOW - 1_000, &samples::claim_line(21));
        let evidence = weigh(&seen, 180_000);
        assert_eq!(evidence.locked.len(), 1);
        assert!(evidence.lasting.is_empty() && evidence.suffices());
    }

    #[test]
    fn the_key_of_a_child_claim_speaks_for_the_claim_it_stands_for() {
        let mut seen = samples::seen();
        let mut child = samples::pending("media/vs-prime-1", 41);
        child.populates = Some("plex".into());
        seen.pvcs =
            vec![samples::pending("media/plex", 40), child, samples::pending("ai/plex", 42)];
        seen.log.sightings.add("a", NOW, &samples::claim_line(41));
        let evidence = weigh(&seen, 180_000);
        assert_eq!(evidence.locked.len(), 1);
        assert_eq!(
            evidence.behind.iter().map(|pvc| pvc.object.to_string()).collect::<Vec<_>>(),
            ["media/plex"]
        );
    }

    #[test]
    fn a_key_alone_must_last_by_the_logs_own_times() {
        for (first, last, gap, lasting) in [
            (NOW - 200_000, NOW - 1_000, 180_000, true),
            (NOW - 100_000, NOW - 1_000, 180_000, false),
            (NOW, NOW, 0, false),
            (NOW - 100, NOW, 0, false),
            (NOW - 3_600_000, NOW - 3_000_000, 180_000, false),
        ] {
            let mut seen = samples::seen();
            seen.log.sightings.add("a", first, &samples::claim_line(99));
            seen.log.sightings.add("b", last, &samples::claim_line(99));
            assert_eq!(weigh(&seen, gap).suffices(), lasting, "{first} {last} {gap}");
        }
    }

    #[test]
    fn a_bound_or_foreign_or_vanishing_claim_is_no_evidence_by_its_key() {
        let mut bound = samples::pending("media/a", 1);
        bound.phase = Phase::Bound;
        let mut foreign = samples::pending("media/b", 2);
        foreign.driver = Some("other.example.com".into());
        foreign.storage_class = Some("other".into());
        let mut vanishing = samples::pending("media/c", 3);
        vanishing.terminating_since = Some(NOW);
        let mut seen = samples::seen();
        seen.pvcs = vec![bound, foreign, vanishing];
        for number in 1..=3 {
            seen.log.sightings.add("a", NOW, &samples::claim_line(number));
        }
        assert!(!weigh(&seen, 180_000).suffices());
    }

    #[test]
    fn keys_of_nobody_are_found() {
        let mut seen = samples::seen();
        seen.pvcs = vec![samples::pending("media/a", 1)];
        seen.log.sightings.add("a", NOW, &samples::claim_line(1));
        seen.log.sightings.add("a", NOW, &samples::claim_line(666));
        assert_eq!(ownerless(&seen), [&Key::Pvc(samples::uid(666))]);
    }
}
