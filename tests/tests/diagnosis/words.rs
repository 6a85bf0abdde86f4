//! What a diagnosis must say about each cause: the object, the cause, and what to do.

use crate::truth::{Cause, MoverCause};

/// Returns the texts that name a cause together with its remedy. `driver` is the one in question.
pub fn expected(cause: &Cause, driver: &str) -> Vec<String> {
    let words = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    match cause {
        Cause::ControllerLock => words(&["operation lock", driver]),
        Cause::NodeLock(node) => words(&[
            "node plugin",
            node,
            "delete the",
            "node plugin pod",
            "do not restart the controller",
        ]),
        Cause::CephDown => words(&["HEALTH_ERR", "repair Ceph"]),
        Cause::ControllerScaledDown => words(&["scaled to 0", "scale it up"]),
        Cause::NoSnapshotter => words(&["no csi-snapshotter", "enable the snapshot policy"]),
        Cause::NoSnapshotController => words(&["snapshot-controller", "is it installed"]),
        Cause::Mover(source, cause) => {
            let mut expected = words(match cause {
                MoverCause::RepositoryLocked => &["repository locked", "unlock"],
                MoverCause::StoreUnreachable | MoverCause::AccessDenied => {
                    &["object store", "check its address, credentials, and network"]
                }
                MoverCause::OtherFailure => &["mover fails", "logs"],
                MoverCause::Unscheduled => &["not scheduled", "make room"],
                MoverCause::MountFails => &["cannot mount", "check the node"],
                MoverCause::ContainerWaits => &["not started", "see its events"],
                MoverCause::Refused => &["VolSync reports an error", "correct"],
            });
            expected.push(source.clone());
            expected
        }
        Cause::Rejected(pvc) => vec![pvc.clone(), "correct".into()],
        Cause::OrphanSnapshot(snapshot) => {
            let mut expected = words(&["without an owner", "delete those"]);
            expected.push(snapshot.clone());
            expected
        }
        Cause::ClassMissing(pvc) => {
            let mut expected = words(&["StorageClass", "does not exist"]);
            expected.push(pvc.clone());
            expected
        }
        Cause::OtherDriver { driver: other, locked, pvc } => {
            let mut expected = vec![pvc.clone(), other.clone()];
            expected.extend(locked.then(|| "lock".to_owned()));
            expected.push(if *locked && other.ends_with(".csi.ceph.com") {
                format!("driver={other}")
            } else {
                "see the log of its controller".to_owned()
            });
            expected
        }
        Cause::Paused(source) => vec![source.clone(), "paused".into(), "spec.paused".into()],
        Cause::Slow(source) => vec![source.clone(), "longer than usual".into(), "logs".into()],
        Cause::Copying(pvc) => vec![pvc.clone(), "copying".into(), "wait".into()],
        Cause::WaitsForConsumer(pvc) => vec![pvc.clone(), "(expected)".into()],
        Cause::Orphan(source) => vec![source.clone(), "PVC".into()],
    }
}

/// Returns whether a text names a cause and its remedy.
pub fn names(text: &str, cause: &Cause, driver: &str) -> bool {
    let text = text.to_lowercase();
    let has = |word: &str| text.contains(&word.to_lowercase());
    // During the incident, the run itself is the remedy of an orphan.
    let is_remedied = !matches!(cause, Cause::Orphan(_))
        || has("backs up a PVC that no longer exists")
        || has("back up a PVC that no longer exists")
        || has("delete the ReplicationSource");
    is_remedied && expected(cause, driver).iter().all(|word| has(word))
}
