use super::*;
use crate::samples::{self, NOW};
use salve_sdk::types::Condition;

fn stuck() -> Source {
    Source {
        syncing_since: Some(NOW - 4 * 3_600_000),
        ..samples::source("media/atlas", 1, Health::Stuck)
    }
}

fn failed(log: &str) -> Source {
    Source { last_result: Some("Failed".into()), last_log: Some(log.into()), ..stuck() }
}

fn error(message: &str) -> Source {
    Source {
        condition: Some(Condition {
            kind: "Synchronizing".into(),
            status: "False".into(),
            reason: "Error".into(),
            message: message.into(),
            since: None,
        }),
        ..samples::source("media/atlas", 1, Health::Healthy)
    }
}

fn with_pod(reason: PendingReason, message: &str) -> Observation {
    let mut observation = samples::observation();
    observation.pending_pods = vec![samples::pending_pod(
        "media/volsync-src-atlas-x7k2p",
        "Job/volsync-src-atlas",
        reason,
        message,
    )];
    observation
}

/// A clone that the driver rejects for another reason than a lock.
fn rejected(evidence: &str) -> Observation {
    let mut pvc = samples::locked_clone(&stuck(), 2);
    let is_rejected_by_driver = evidence.starts_with("rpc error");
    pvc.waiting =
        Some(if is_rejected_by_driver { Waiting::Unknown } else { Waiting::Misconfigured });
    pvc.evidence = Some(evidence.into());
    Observation { pvcs: vec![pvc], ..samples::observation() }
}

/// A clone that CephFS is still copying.
fn copying() -> Observation {
    let mut observation =
        rejected("rpc error: code = Aborted desc = clone from snapshot is already in progress");
    observation.pvcs[0].waiting = Some(Waiting::Copying);
    observation
}

/// One row per public report of a backup that only looks stuck.
#[test]
fn only_what_waits_for_the_driver_is_an_obstacle_of_the_driver() {
    let plain = samples::observation;
    let locked = "unable to create lock in backend: repository is already locked exclusively by \
                  PID 48 on volsync-src-atlas-q2m8d by root";
    let unreachable = "Fatal: unable to open config file: Stat: dial tcp 10.0.0.9:9000: connect: \
                       connection refused";
    let affinity = "Unschedulable: 0/3 nodes are available: 1 node(s) had volume node affinity \
                    conflict";
    let device = "MountVolume.SetUp failed: verifyMount: device already mounted";
    let cases: [(&str, Source, Observation, Option<&str>); 17] = [
        ("first backup", stuck(), plain(), Some("longer than usual")),
        ("paused", Source { paused: true, ..stuck() }, plain(), Some("paused")),
        ("restic lock", failed(locked), plain(), Some("spec.restic.unlock")),
        ("object store down", failed(unreachable), plain(), Some("object store not reachable")),
        (
            "restic lock, several lines",
            failed(&format!(
                "{locked}\nlock was created at 2026-09-15\nthe `unlock` command can be used"
            )),
            plain(),
            Some("repository is already locked exclusively by PID"),
        ),
        (
            "clone too small",
            stuck(),
            rejected("requested volume size 1 is less than the size 2 for the source snapshot s"),
            Some("is less than the size"),
        ),
        ("copying", stuck(), copying(), Some("a restart of the driver does not help")),
        (
            "quota",
            stuck(),
            rejected("rpc error: code = Internal desc = rbd: ret=-122, Disk quota exceeded"),
            Some("Disk quota exceeded"),
        ),
        ("other failure", failed("Fatal: wrong password"), plain(), Some("wrong password")),
        ("webhook", error("admission webhook denied the request"), plain(), Some("webhook")),
        (
            "unschedulable",
            stuck(),
            with_pod(PendingReason::Unscheduled, affinity),
            Some("not scheduled"),
        ),
        ("mount", stuck(), with_pod(PendingReason::MountFailed, device), Some("cannot mount")),
        (
            "image pull",
            stuck(),
            with_pod(PendingReason::ContainerWaiting, "ImagePullBackOff"),
            Some("ImagePullBackOff"),
        ),
        (
            "starting",
            stuck(),
            with_pod(PendingReason::ContainerWaiting, "ContainerCreating"),
            Some("longer than usual"),
        ),
        (
            "pod of another source",
            Source { object: samples::object("media/other-atlas"), ..stuck() },
            with_pod(PendingReason::Unscheduled, affinity),
            Some("longer than usual"),
        ),
        ("healthy", samples::source("media/atlas", 1, Health::Healthy), plain(), None),
        ("orphan", samples::source("media/atlas", 1, Health::Orphan), plain(), None),
    ];
    for (name, source, observation, expected) in cases {
        let found = obstacle(&source, &observation);
        assert!(!matches!(found, Some(Obstacle::Driver(_))), "{name}: {found:?}");
        let text = found.map(|obstacle| obstacle.reason_to_keep());
        match (&text, expected) {
            (Some(text), Some(expected)) => assert!(text.contains(expected), "{name}: {text}"),
            (text, expected) => assert_eq!(text.as_deref(), expected, "{name}"),
        }
    }
}

#[test]
fn a_pvc_or_snapshot_that_waits_for_the_driver_is_the_obstacle() {
    let source = stuck();
    let clone = |change: fn(&mut Pvc)| {
        let mut pvc = samples::locked_clone(&stuck(), 2);
        change(&mut pvc);
        Observation { pvcs: vec![pvc], ..samples::observation() }
    };
    let snapshot = |change: fn(&mut Snapshot)| {
        let mut snapshot = samples::snapshot("media/volsync-atlas-src", 3, 1);
        change(&mut snapshot);
        Observation { snapshots: vec![snapshot], ..samples::observation() }
    };
    for (name, observation, is_obstacle) in [
        ("locked clone", clone(|_| {}), true),
        ("slow clone", clone(|pvc| pvc.waiting = Some(Waiting::CsiSlow)), true),
        ("unexplained clone", clone(|pvc| pvc.waiting = None), true),
        ("clone being copied", clone(|pvc| pvc.waiting = Some(Waiting::Copying)), false),
        ("cache unscheduled", clone(|pvc| pvc.waiting = Some(Waiting::ForScheduling)), false),
        ("bound clone", clone(|pvc| pvc.phase = salve_sdk::query_pvcs::Phase::Bound), false),
        (
            "cache of another driver",
            clone(|pvc| {
                pvc.driver = Some("openebs.io/local".into());
                pvc.storage_class = Some("openebs-hostpath".into());
            }),
            false,
        ),
        (
            "PVC of another source",
            clone(|pvc| pvc.owner = Some("ReplicationSource/x".into())),
            false,
        ),
        (
            "PVC of the same name elsewhere",
            clone(|pvc| pvc.object = samples::object("other/volsync-atlas-src")),
            false,
        ),
        ("snapshot not ready", snapshot(|_| {}), true),
        ("young snapshot", snapshot(|snapshot| snapshot.created = NOW - 60_000), false),
        ("ready snapshot", snapshot(|snapshot| snapshot.ready = true), false),
        (
            "ready snapshot whose deletion hangs",
            snapshot(|snapshot| {
                (snapshot.ready, snapshot.terminating_since) = (true, Some(NOW - 3_600_000));
            }),
            true,
        ),
        (
            "snapshot of another source",
            snapshot(|snapshot| snapshot.owner_uid = Some(samples::uid(9))),
            false,
        ),
    ] {
        let found = obstacle(&source, &observation);
        assert_eq!(matches!(found, Some(Obstacle::Driver(_))), is_obstacle, "{name}: {found:?}");
    }
}

#[test]
fn a_snapshot_whose_lock_is_logged_is_an_obstacle_at_once() {
    let mut observation = samples::observation();
    let young =
        Snapshot { created: NOW - 10_000, ..samples::snapshot("media/volsync-atlas-src", 3, 1) };
    observation.snapshots = vec![young];
    assert_eq!(obstacle(&stuck(), &observation), Some(Obstacle::Unknown));
    let line = format!(
        "an operation with the given Snapshot ID snapshot-{} already exists",
        samples::uid(3)
    );
    let mut reported = observation.clone();
    reported.snapshots[0].problem = Some(line.clone());
    assert!(matches!(obstacle(&stuck(), &reported), Some(Obstacle::Driver(_))));
    observation.log.sightings.add("a", NOW - 1_000, &line);
    assert!(matches!(obstacle(&stuck(), &observation), Some(Obstacle::Driver(_))));
}

#[test]
fn a_snapshot_of_another_driver_is_no_obstacle() {
    let mut observation = samples::observation();
    observation.snapshots = vec![Snapshot {
        pvc: Some("atlas".into()),
        ..samples::snapshot("media/volsync-atlas-src", 3, 1)
    }];
    observation.pvcs = vec![Pvc {
        driver: Some("ebs.csi.aws.com".into()),
        storage_class: Some("gp3".into()),
        phase: salve_sdk::query_pvcs::Phase::Bound,
        ..samples::pending("media/atlas", 4)
    }];
    assert_eq!(obstacle(&stuck(), &observation), Some(Obstacle::Unknown));
}

#[test]
fn sources_with_the_same_obstacle_are_one_finding_and_problems_come_first() {
    let mut observation = samples::observation();
    let named = |name: &str, source: Source| Source { object: samples::object(name), ..source };
    observation.sources = Some(vec![
        named("media/photos", stuck()),
        named("media/a", failed("already locked")),
        named("media/b", failed("already locked")),
    ]);
    let found = findings(&observation);
    assert_eq!(
        found
            .iter()
            .map(|(finding, is_problem)| (finding.text.as_str(), *is_problem))
            .collect::<Vec<_>>(),
        [
            (
                "2 ReplicationSources (media/a, media/b): repository locked: if no other process \
                 (backup, restore, or prune, from any cluster) uses it, remove the lock; for \
                 restic, set spec.restic.unlock to a new value",
                true
            ),
            (
                "ReplicationSource media/photos, syncing for 4 h: sync takes longer than usual, for no known \
                 reason: it may be the first one, or a large one: see the logs of its Job; \
                 deleting the ReplicationSource would start the sync again",
                false
            ),
        ]
    );
    assert_eq!(found[0].0.details[0], "media/a, syncing for 4 h: already locked");
}
