use super::*;
use crate::samples::{self, NOW};
use salve_sdk::query_pvcs::ReclaimPolicy;

fn terminating(finalizers: &[&str]) -> Snapshot {
    Snapshot {
        ready: true,
        terminating_since: Some(NOW - 3_600_000),
        finalizers: finalizers.iter().map(|name| (*name).to_owned()).collect(),
        ..samples::snapshot("media/s", 1, 2)
    }
}

#[test]
fn each_reason_is_recognized() {
    let bound = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
    let stuck = samples::snapshot("media/s", 1, 2);
    let of = |pvc: &str| Snapshot { pvc: Some(pvc.into()), ..stuck.clone() };
    for (name, snapshot, expected) in [
        ("ready", Snapshot { ready: true, ..stuck.clone() }, None),
        ("young", Snapshot { created: NOW - 60_000, ..stuck.clone() }, None),
        (
            "deleted lately",
            Snapshot { terminating_since: Some(NOW - 60_000), ..stuck.clone() },
            None,
        ),
        ("ready, but terminating", terminating(&[bound]), Some(Problem::Terminating)),
        (
            "held by the provisioner",
            terminating(&[PROVISIONER_FINALIZER]),
            Some(Problem::ProvisionerFinalizer),
        ),
        ("no content", of("bound"), Some(Problem::NoContent)),
        (
            "error without content",
            Snapshot { problem: Some("no class".into()), ..of("bound") },
            Some(Problem::NotReady),
        ),
        (
            "not taken",
            Snapshot { content: Some("c".into()), ..of("bound") },
            Some(Problem::NotReady),
        ),
        ("PVC not bound", of("pending"), None),
        ("PVC gone, owned", of("gone"), Some(Problem::NoContent)),
        ("PVC gone, no owner", Snapshot { owner: None, ..of("gone") }, Some(Problem::Orphan)),
    ] {
        let mut observation = samples::observation();
        observation.pvcs = vec![
            samples::pending("media/pending", 3),
            Pvc {
                phase: salve_sdk::query_pvcs::Phase::Bound,
                ..samples::pending("media/bound", 4)
            },
        ];
        assert_eq!(problem(&snapshot, &observation), expected, "{name}");
    }
}

#[test]
fn a_snapshot_that_is_being_restored_from_keeps_its_finalizer() {
    let mut observation = samples::observation();
    observation.pvcs = vec![Pvc {
        data_source: Some("VolumeSnapshot/s".into()),
        ..samples::pending("media/restored", 3)
    }];
    observation.snapshots = vec![terminating(&[PROVISIONER_FINALIZER])];
    let found = findings(&observation, &Evidence::default());
    assert!(found[0].text.contains("do not remove finalizers"), "{}", found[0].text);
    assert!(found[0].details[0].contains("PVC restored is created from it"));
}

#[test]
fn consequences_of_the_locks_are_not_another_problem() {
    let mut observation = samples::observation();
    let locked = samples::pending("media/plex", 1);
    let text = "rpc error: code = Aborted desc = an operation with the given Volume ID \
                snapshot-77777777-7777-4777-8777-000000000008 already exists";
    observation.snapshots = vec![
        Snapshot { problem: Some(text.into()), ..samples::snapshot("media/a", 8, 2) },
        Snapshot { pvc: Some("plex".into()), ..samples::snapshot("media/b", 9, 2) },
        Snapshot { content: Some("c".into()), ..samples::snapshot("media/c", 10, 2) },
    ];
    let evidence = Evidence { locked: vec![locked], ..Evidence::default() };
    let found = findings(&observation, &evidence);
    assert_eq!(found.len(), 1);
    assert!(found[0].details[0].starts_with("media/c"), "{:?}", found[0].details);
    let without_evidence = findings(&observation, &Evidence::default());
    let all: usize = without_evidence.iter().map(|finding| finding.details.len()).sum();
    assert_eq!(all, 3, "{without_evidence:?}");
}

#[test]
fn the_snapshots_that_hold_a_pvc_are_named() {
    let mut observation = samples::observation();
    let mut pvc = samples::terminating("media/atlas", 1, ReclaimPolicy::Retain);
    pvc.finalizers = vec![PVC_FINALIZER.into()];
    observation.pvcs = vec![pvc];
    observation.snapshots = vec![
        Snapshot {
            pvc: Some("atlas".into()),
            ..samples::snapshot("media/volsync-atlas-src", 2, 3)
        },
        Snapshot { pvc: Some("atlas".into()), ready: true, ..samples::snapshot("media/old", 4, 3) },
    ];
    assert_eq!(
        held_pvc_findings(&observation, &Evidence::default())[0].text,
        "PVC media/atlas is being deleted, held by 1 snapshot not ready (volsync-atlas-src)"
    );
    let lock = "an operation with the given Volume ID \
                snapshot-77777777-7777-4777-8777-000000000002 already exists";
    observation.snapshots[0].problem = Some(lock.into());
    let confirmed = LockKey::parse(lock).into_iter().collect();
    let evidence = Evidence { confirmed, ..Evidence::default() };
    assert_eq!(held_pvc_findings(&observation, &evidence), []);
}
