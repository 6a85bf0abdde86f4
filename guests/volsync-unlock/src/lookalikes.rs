//! Other troubles that look the same from outside, and what is no trouble at all.

use std::collections::BTreeMap;

use salve_sdk::query_pvcs::{Pvc, Waiting};
use salve_sdk::query_replicationsources::{Destination, Health};
use salve_sdk::report::Finding;
use salve_sdk::types::ObjectRef;
use salve_sdk::wording::{age, count, row};

use crate::evidence::{Evidence, Seen, is_pending};

/// A snapshot that is not ready for so long is a trouble, not a moment.
const SNAPSHOT_PATIENCE: u64 = 5 * 60 * 1_000;

/// Why this guest has no business here, whatever else is seen.
pub fn forbids(seen: &Seen) -> Option<Finding> {
    if seen.sources.is_none() {
        return Some(Finding::new("the cluster has no VolSync: it serves no ReplicationSources"));
    }
    if let Some(ceph) = seen.driver.ceph.as_ref().filter(|ceph| ceph.status == "HEALTH_ERR") {
        return Some(Finding::with(
            format!(
                "Ceph itself is in HEALTH_ERR (CephCluster {}): mend Ceph first, a restart would hang again",
                ceph.cluster
            ),
            &ceph.messages,
        ));
    }
    let Some(controller) = &seen.driver.controller else {
        return Some(Finding::new(format!(
            "no controller Deployment of driver {} was found: nothing provisions for it",
            seen.driver.name
        )));
    };
    if controller.replicas == 0 {
        return Some(Finding::new(format!(
            "Deployment {} is scaled to 0: nothing provisions",
            controller.deployment
        )));
    }
    None
}

/// Troubles of the driver that are no lock.
pub fn of_driver(seen: &Seen) -> Vec<Finding> {
    let Some(controller) = &seen.driver.controller else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if controller.ready == 0 && controller.replicas > 0 {
        found
            .push(Finding::new(format!("no pod of Deployment {} is ready", controller.deployment)));
    }
    let waiting = unready(seen);
    let wedged = seen.sources.iter().flatten().any(|source| source.health == Health::Stuck);
    if !controller.snapshotter && (!waiting.is_empty() || wedged) {
        found.push(Finding::with(
            format!(
                "Deployment {} has no csi-snapshotter: snapshots are never taken ({} not ready). Enable the \
                 driver's snapshot policy",
                controller.deployment,
                count(waiting.len(), "snapshot")
            ),
            waiting,
        ));
    } else if !waiting.is_empty() {
        found.push(Finding::with(
            format!("{} not ready for long", count(waiting.len(), "snapshot")),
            waiting,
        ));
    }
    found
}

fn unready(seen: &Seen) -> Vec<String> {
    seen.snapshots
        .iter()
        .filter(|snapshot| {
            !snapshot.ready && seen.now.saturating_sub(snapshot.created) > SNAPSHOT_PATIENCE
        })
        .map(|snapshot| {
            let problem = snapshot.problem.as_deref().unwrap_or("its content says nothing");
            format!("{} for {}: {problem}", snapshot.object, age(snapshot.created, seen.now))
        })
        .collect()
}

/// Why the other Pending claims wait, and what a person can do about it.
pub fn of_claims(seen: &Seen, evidence: &Evidence) -> Vec<Finding> {
    let mut classes: BTreeMap<Waiting, Vec<&Pvc>> = BTreeMap::new();
    for pvc in seen.pvcs.iter().filter(|pvc| is_pending(pvc)) {
        if !evidence.locked.contains(pvc) && !evidence.behind.contains(pvc) {
            classes.entry(pvc.waiting.unwrap_or(Waiting::Unknown)).or_default().push(pvc);
        }
    }
    let mut found = Vec::new();
    for (class, pvcs) in classes {
        match class {
            Waiting::ForDestination => {
                found.extend(
                    pvcs.iter().map(|pvc| Finding::new(of_destination(pvc, &seen.destinations))),
                );
            }
            Waiting::ForFirstConsumer
            | Waiting::CsiLocked
            | Waiting::CsiSlow
            | Waiting::Populating
            | Waiting::ForSnapshot
            | Waiting::NoProvisioner
            | Waiting::Misconfigured
            | Waiting::Terminating
            | Waiting::Unknown => found.push(Finding::with(
                format!("{} {}", few(&pvcs), why(class, &pvcs, seen)),
                pvcs.iter().map(|pvc| line(pvc)),
            )),
        }
    }
    found
}

/// One claim and what its class rests on.
pub fn line(pvc: &Pvc) -> String {
    match &pvc.evidence {
        Some(evidence) => format!("{}: {evidence}", pvc.object),
        None => pvc.object.to_string(),
    }
}

fn few(pvcs: &[&Pvc]) -> String {
    match pvcs {
        [one] => one.object.to_string(),
        many => format!(
            "{} ({})",
            count(many.len(), "claim"),
            row(many.iter().map(|pvc| &pvc.object), 3)
        ),
    }
}

fn why(class: Waiting, pvcs: &[&Pvc], seen: &Seen) -> String {
    let one = pvcs.len() == 1;
    let (verb, its) = if one { ("waits", "its") } else { ("wait", "their") };
    match class {
        Waiting::ForFirstConsumer => format!("{verb} for {its} first consumer: normal"),
        Waiting::CsiLocked => format!("had a lock in {its} events, but the driver logs none now"),
        Waiting::CsiSlow => {
            format!(
                "{verb} for a driver whose attempts time out: Ceph or the network is slow, and a lock may follow"
            )
        }
        Waiting::Populating => format!("{verb} while VolSync fills {its} volume: watch"),
        Waiting::ForSnapshot => format!("{verb} for a snapshot that is not ready: watch"),
        Waiting::NoProvisioner => {
            format!("{verb} for a provisioner that does not act: its pod is down, or none leads")
        }
        Waiting::Misconfigured => {
            format!("{verb} because of {its} class: {}", misconfigured(pvcs, seen))
        }
        Waiting::Terminating => "is being deleted".to_owned(),
        Waiting::ForDestination | Waiting::Unknown => format!("{verb}, and no event says why"),
    }
}

fn misconfigured(pvcs: &[&Pvc], seen: &Seen) -> String {
    let class = pvcs.iter().find_map(|pvc| pvc.storage_class.as_deref());
    let near = class.and_then(|class| nearest(class, &seen.driver.storage_classes));
    match (class, near) {
        (Some(class), Some(near)) => {
            format!("StorageClass {class} does not exist (did you mean {near}?)")
        }
        (Some(_) | None, _) => pvcs
            .iter()
            .find_map(|pvc| pvc.evidence.clone())
            .unwrap_or_else(|| "it is missing or refused".into()),
    }
}

/// A name at most two slips away, but not the same.
fn nearest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let slips = names.iter().map(|other| (distance(name, other), other.as_str()));
    let (slips, other) = slips.min()?;
    (1..=2).contains(&slips).then_some(other)
}

/// How many characters must be changed, added or taken away (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.chars().enumerate() {
        let mut left = row + 1;
        let mut current = vec![left];
        for (column, to) in b.iter().enumerate() {
            let changed = above[column] + usize::from(from != *to);
            left = changed.min(left + 1).min(above[column + 1] + 1);
            current.push(left);
        }
        above = current;
    }
    above[b.len()]
}

/// What a claim that waits for a ReplicationDestination needs.
pub fn of_destination(pvc: &Pvc, destinations: &[Destination]) -> String {
    let name = pvc
        .data_source
        .as_deref()
        .and_then(|source| source.strip_prefix("ReplicationDestination/"));
    let Some(name) = name else {
        return format!("{} waits for a ReplicationDestination", pvc.object);
    };
    let wanted = ObjectRef::new(&*pvc.object.namespace, name);
    match destinations.iter().find(|destination| destination.object == wanted) {
        None => {
            format!("{} waits for ReplicationDestination {name}, which does not exist", pvc.object)
        }
        Some(found) if found.latest_image.is_some() => format!(
            "{} waits though ReplicationDestination {name} has an image: VolSync's populator does not act (was the \
             VolumePopulator definition there when VolSync started?)",
            pvc.object
        ),
        Some(found) if found.syncing_since.is_some() => {
            format!(
                "{} waits for ReplicationDestination {name} to restore: it is at work",
                pvc.object
            )
        }
        Some(_) => format!(
            "{} waits for ReplicationDestination {name} to restore: will need it afterwards",
            pvc.object
        ),
    }
}

/// Whether a Pending claim of this class is a trouble, rather than normal.
pub fn is_trouble(pvc: &Pvc) -> bool {
    match pvc.waiting.unwrap_or(Waiting::Unknown) {
        Waiting::ForFirstConsumer | Waiting::Terminating => false,
        Waiting::CsiLocked
        | Waiting::CsiSlow
        | Waiting::ForDestination
        | Waiting::Populating
        | Waiting::ForSnapshot
        | Waiting::NoProvisioner
        | Waiting::Misconfigured
        | Waiting::Unknown => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn waiting(class: Waiting) -> Pvc {
        Pvc { waiting: Some(class), ..samples::pending("media/plex", 1) }
    }

    #[test]
    fn what_forbids_is_named() {
        type Spoil = fn(&mut Seen);
        let cases: [(Spoil, &str); 4] = [
            (|seen| seen.sources = None, "no VolSync"),
            (|seen| seen.driver.controller = None, "no controller Deployment"),
            (|seen| seen.driver.controller.as_mut().expect("there").replicas = 0, "scaled to 0"),
            (
                |seen| seen.driver.ceph.as_mut().expect("there").status = "HEALTH_ERR".into(),
                "HEALTH_ERR",
            ),
        ];
        assert_eq!(forbids(&samples::seen()), None);
        for (spoil, said) in cases {
            let mut seen = samples::seen();
            spoil(&mut seen);
            let finding = forbids(&seen).expect(said);
            assert!(finding.text.contains(said), "{}", finding.text);
        }
    }

    #[test]
    fn a_slow_ceph_does_not_forbid() {
        let mut seen = samples::seen();
        seen.driver.ceph.as_mut().expect("there").status = "HEALTH_WARN".into();
        assert_eq!(forbids(&seen), None);
    }

    #[test]
    fn a_missing_snapshotter_is_named_where_snapshots_wait() {
        let mut seen = samples::seen();
        seen.driver.controller.as_mut().expect("there").snapshotter = false;
        assert_eq!(of_driver(&seen), []);
        seen.snapshots = vec![samples::snapshot("media/s", 5, 6)];
        assert!(of_driver(&seen)[0].text.contains("no csi-snapshotter"));
    }

    #[test]
    fn each_class_of_claim_is_told_apart() {
        for (class, said) in [
            (Waiting::ForFirstConsumer, "first consumer: normal"),
            (Waiting::CsiLocked, "logs none now"),
            (Waiting::CsiSlow, "time out"),
            (Waiting::Populating, "VolSync fills"),
            (Waiting::ForSnapshot, "not ready"),
            (Waiting::NoProvisioner, "does not act"),
            (Waiting::Unknown, "no event says why"),
        ] {
            let mut seen = samples::seen();
            seen.pvcs = vec![waiting(class)];
            let found = of_claims(&seen, &Evidence::default());
            assert!(found[0].text.contains(said), "{}", found[0].text);
        }
    }

    #[test]
    fn a_misspelt_class_is_recognized() {
        let mut seen = samples::seen();
        seen.pvcs = vec![Pvc {
            storage_class: Some("ceph-blok".into()),
            ..waiting(Waiting::Misconfigured)
        }];
        let found = of_claims(&seen, &Evidence::default());
        assert_eq!(
            found[0].text,
            "media/plex waits because of its class: StorageClass ceph-blok does not exist (did you mean ceph-block?)"
        );
    }

    #[test]
    fn a_claim_for_a_destination_says_what_that_needs() {
        let pvc = Pvc {
            data_source: Some("ReplicationDestination/plex-dst".into()),
            ..waiting(Waiting::ForDestination)
        };
        let destination = |image: Option<&str>, since: Option<u64>| Destination {
            object: samples::object("media/plex-dst"),
            uid: samples::uid(9),
            trigger: None,
            done: image.is_some(),
            syncing_since: since,
            last_sync: None,
            latest_image: image.map(str::to_owned),
            condition: None,
        };
        assert!(of_destination(&pvc, &[]).contains("does not exist"));
        assert!(
            of_destination(&pvc, &[destination(None, Some(samples::NOW))])
                .contains("it is at work")
        );
        assert!(
            of_destination(&pvc, &[destination(None, None)]).contains("will need it afterwards")
        );
        assert!(
            of_destination(&pvc, &[destination(Some("s"), None)])
                .contains("populator does not act")
        );
    }

    #[test]
    fn distance_counts_slips() {
        for (a, b, slips) in
            [("", "", 0), ("ab", "ab", 0), ("ceph-blok", "ceph-block", 1), ("a", "xyz", 3)]
        {
            assert_eq!(distance(a, b), slips, "{a} {b}");
        }
    }
}
