//! The answer to "is it this incident?", from what was seen.

use salve_sdk::query_replicationsources::{Health, Source};
use salve_sdk::report::{Diagnosis, Finding, State};
use salve_sdk::wording::{age, count};

use crate::evidence::{Evidence, Seen, is_of, is_pending, ownerless, weigh};
use crate::lock::Key;
use crate::lookalikes;

/// Judges what was seen. `gap` is how far apart two samples of a key must be.
pub fn judge(seen: &Seen, gap: u64) -> (Diagnosis, Evidence) {
    let evidence = weigh(seen, gap);
    let mut diagnosis = answer(seen, &evidence);
    diagnosis.evidence_for = evidence_for(seen, &evidence);
    diagnosis.evidence_against = evidence_against(seen, &evidence);
    diagnosis.ruled_out.extend(lookalikes::of_driver(seen));
    diagnosis.ruled_out.extend(lookalikes::of_claims(seen, &evidence));
    (diagnosis, evidence)
}

fn answer(seen: &Seen, evidence: &Evidence) -> Diagnosis {
    if let Some(obstacle) = lookalikes::forbids(seen) {
        let mut diagnosis = Diagnosis::new(State::DifferentProblem, obstacle.text.clone());
        diagnosis.ruled_out.push(obstacle);
        return diagnosis;
    }
    if evidence.suffices() {
        return Diagnosis::new(
            State::Incident,
            format!("CSI operation locks on {}", seen.driver.name),
        );
    }
    let waiting = seen.pvcs.iter().any(|pvc| is_pending(pvc) && lookalikes::is_trouble(pvc));
    if waiting {
        return Diagnosis::new(
            State::DifferentProblem,
            "claims are Pending, but no operation lock is logged",
        );
    }
    if !lookalikes::of_driver(seen).is_empty() {
        return Diagnosis::new(
            State::DifferentProblem,
            "the driver has a trouble, but no operation lock is logged",
        );
    }
    let orphans = of_health(seen, Health::Orphan).len();
    Diagnosis::new(
        State::Healthy,
        match orphans {
            0 => "no claim waits, and no operation lock is logged".to_owned(),
            some => format!(
                "no claim waits, and no operation lock is logged; {} without a claim could bring it about",
                count(some, "ReplicationSource")
            ),
        },
    )
}

fn evidence_for(seen: &Seen, evidence: &Evidence) -> Vec<Finding> {
    let mut found = Vec::new();
    let pending = seen.pvcs.iter().filter(|pvc| is_pending(pvc)).count();
    let waiting = evidence.locked.len() + evidence.behind.len();
    if waiting > 0 {
        let local = evidence.locked.iter().map(|pvc| format!("{}: pvc-{}", pvc.object, pvc.uid));
        let behind = evidence
            .behind
            .iter()
            .map(|pvc| format!("{}: waits for a claim that stands for it", pvc.object));
        let verb = if waiting == 1 { "waits" } else { "wait" };
        found.push(Finding::with(
            format!(
                "{waiting} of {} {verb} on a lock that their driver logs now",
                count(pending, "Pending claim")
            ),
            local.chain(behind),
        ));
    }
    found.extend(keys(seen));
    for (health, [one, many], what) in [
        (Health::Orphan, ["backs up", "back up"], "a claim that no longer exists"),
        (Health::TerminatingSource, ["backs up", "back up"], "a claim that is being deleted"),
        (Health::Stuck, ["has been", "have been"], "synchronizing for far longer than ever"),
    ] {
        let sources = of_health(seen, health);
        if !sources.is_empty() {
            let verb = if sources.len() == 1 { one } else { many };
            found.push(of_sources(&sources, &format!("{verb} {what}"), seen.now));
        }
    }
    found
}

fn keys(seen: &Seen) -> Option<Finding> {
    let sightings = &seen.log.sightings.0;
    let oldest = sightings.values().map(|sighting| sighting.first).min()?;
    let newest = sightings.values().map(|sighting| sighting.last).max()?;
    let pods = sightings
        .values()
        .flat_map(|sighting| &sighting.pods)
        .collect::<std::collections::BTreeSet<_>>();
    Some(Finding::with(
        format!(
            "{} in {} of {}, oldest {}, newest {} ago",
            count(sightings.len(), "lock key"),
            pods.len(),
            count(seen.log.pods.len(), "controller pod"),
            age(oldest, seen.now),
            age(newest, seen.now),
        ),
        sightings.iter().map(|(key, sighting)| {
            format!("{key}: {}, newest {} ago", bearer(key, seen), age(sighting.last, seen.now))
        }),
    ))
}

/// Whose key it is.
pub fn bearer(key: &Key, seen: &Seen) -> String {
    let found = match key {
        Key::Pvc(uid) => {
            seen.pvcs.iter().find(|pvc| pvc.uid == *uid).map(|pvc| format!("claim {}", pvc.object))
        }
        Key::Snapshot(uid) => {
            let snapshot = seen.snapshots.iter().find(|snapshot| snapshot.uid == *uid);
            snapshot.map(|snapshot| format!("VolumeSnapshot {}", snapshot.object))
        }
        Key::Handle(_) => return "a volume or snapshot by its handle".into(),
    };
    found.unwrap_or_else(|| "nothing of the listed namespaces".into())
}

fn of_sources(sources: &[&Source], what: &str, now: u64) -> Finding {
    let told = |source: &Source| match source.last_sync {
        Some(last) => format!("{}, last backup {} ago", source.object, age(last, now)),
        None => format!("{}, never backed up", source.object),
    };
    let oldest =
        sources.iter().min_by_key(|source| source.last_sync.unwrap_or(0)).expect("there is one");
    Finding::with(
        format!("{} {what} (oldest: {})", count(sources.len(), "ReplicationSource"), told(oldest)),
        sources.iter().map(|source| told(source)),
    )
}

fn of_health(seen: &Seen, health: Health) -> Vec<&Source> {
    seen.sources.iter().flatten().filter(|source| source.health == health).collect()
}

fn evidence_against(seen: &Seen, evidence: &Evidence) -> Vec<Finding> {
    let mut found: Vec<Finding> = seen.remarks.iter().map(Finding::new).collect();
    if !seen.log.unreadable.is_empty() {
        found.push(Finding::with(
            format!(
                "the log of {} could not be read",
                count(seen.log.unreadable.len(), "controller pod")
            ),
            &seen.log.unreadable,
        ));
    }
    if let Some(ceph) = seen.driver.ceph.as_ref().filter(|ceph| ceph.status == "HEALTH_WARN") {
        found.push(Finding::with(
            "Ceph is in HEALTH_WARN: where it is slow, locks are its symptom and may return",
            &ceph.messages,
        ));
    }
    if !evidence.suffices() && !evidence.passing.is_empty() {
        found.push(Finding::with(
            format!("{} seen, but not for long enough", count(evidence.passing.len(), "lock key")),
            evidence.passing.iter().map(ToString::to_string),
        ));
    }
    let pending_of_driver =
        seen.pvcs.iter().filter(|pvc| is_pending(pvc) && is_of(pvc, &seen.driver)).count();
    if evidence.suffices() && pending_of_driver == 0 {
        found.push(Finding::new("no claim of the listed namespaces waits for this driver"));
    }
    let strangers = ownerless(seen);
    if !strangers.is_empty() {
        found.push(Finding::with(
            format!("{} named after nothing in the listed namespaces: it belongs to another namespace, or to nobody", count(strangers.len(), "lock key")),
            strangers.iter().map(ToString::to_string),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, NOW};
    use salve_sdk::query_pvcs::Waiting;

    fn locked() -> Seen {
        let mut seen = samples::seen();
        seen.pvcs = vec![samples::pending("media/plex", 1), samples::pending("media/other", 2)];
        seen.pvcs[1].waiting = Some(Waiting::ForFirstConsumer);
        seen.sources = Some(vec![samples::source("media/sonarr", 3, Health::Orphan)]);
        seen.log.sightings.add("a", NOW - 11_520_000, &samples::claim_line(1));
        seen.log.sightings.add("b", NOW - 8_000, &samples::claim_line(1));
        seen
    }

    #[test]
    fn the_incident_is_told_with_its_evidence() {
        let (diagnosis, _) = judge(&locked(), 180_000);
        assert_eq!(diagnosis.state, State::Incident);
        assert_eq!(diagnosis.summary, "CSI operation locks on rook-ceph.rbd.csi.ceph.com");
        let texts: Vec<&str> =
            diagnosis.evidence_for.iter().map(|finding| finding.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "1 of 2 Pending claims waits on a lock that their driver logs now",
                "1 lock key in 2 of 2 controller pods, oldest 3 h 12 min, newest 8 s ago",
                "1 ReplicationSource backs up a claim that no longer exists (oldest: media/sonarr, last backup 24 h ago)",
            ]
        );
        assert_eq!(diagnosis.ruled_out[0].text, "media/other waits for its first consumer: normal");
    }

    #[test]
    fn ceph_in_error_is_not_this_incident_though_locks_are_logged() {
        let mut seen = locked();
        seen.driver.ceph.as_mut().expect("there").status = "HEALTH_ERR".into();
        let (diagnosis, evidence) = judge(&seen, 180_000);
        assert!(evidence.suffices());
        assert_eq!(diagnosis.state, State::DifferentProblem);
        assert!(diagnosis.ruled_out[0].text.contains("HEALTH_ERR"));
    }

    #[test]
    fn pending_claims_without_a_lock_are_something_else() {
        let mut seen = samples::seen();
        seen.pvcs = vec![samples::pending("media/plex", 1)];
        let (diagnosis, _) = judge(&seen, 180_000);
        assert_eq!(diagnosis.state, State::DifferentProblem);
        assert_eq!(diagnosis.summary, "claims are Pending, but no operation lock is logged");
        assert!(!diagnosis.ruled_out.is_empty());
    }

    #[test]
    fn a_cluster_where_nothing_waits_is_healthy() {
        let mut seen = samples::seen();
        seen.pvcs = vec![samples::pending("security/authelia", 1)];
        seen.pvcs[0].waiting = Some(Waiting::ForFirstConsumer);
        assert_eq!(judge(&seen, 180_000).0.state, State::Healthy);
    }

    #[test]
    fn an_idle_orphan_is_mentioned_on_a_healthy_cluster() {
        let mut seen = samples::seen();
        seen.sources = Some(vec![samples::source("media/sonarr", 3, Health::Orphan)]);
        let (diagnosis, _) = judge(&seen, 180_000);
        assert_eq!(diagnosis.state, State::Healthy);
        assert!(diagnosis.summary.contains("1 ReplicationSource without a claim"));
    }

    #[test]
    fn a_missing_snapshotter_is_what_it_is_instead() {
        let mut seen = samples::seen();
        seen.driver.controller.as_mut().expect("there").snapshotter = false;
        seen.snapshots = vec![samples::snapshot("media/s", 5, 6)];
        let (diagnosis, _) = judge(&seen, 180_000);
        assert_eq!(diagnosis.state, State::DifferentProblem);
        assert!(diagnosis.ruled_out[0].text.contains("no csi-snapshotter"));
    }
}
