use super::*;

const UID: &str = "77777777-7777-4777-8777-000000000021";
const HANDLE: &str = "0001-0009-rook-ceph-0000000000000002-56565656-5656-4656-8656-565656565656";

/// The cluster ID of the Helm chart is usually the fsid.
const OF_CHART: &str = "0001-0024-77777777-7777-4777-8777-000000000099-0000000000000002-56565656-5656-4656-8656-565656565656";
const MIGRATED: &str = "mig_mons-b7f67366bb43f32e07d8a261a7840da9_image-56565656-5656-4656-8656-565656565656_7265706c6963617470";

#[test]
fn each_text_of_ceph_csi_yields_its_key() {
    for (line, key) in [
        (
            format!(
                "E0820 09:57:41.101102 1 controllerserver.go:362] ID: 9 Req-ID: pvc-{UID} an operation with the given Volume ID pvc-{UID} already exists"
            ),
            LockKey::Pvc(UID.into()),
        ),
        (
            format!(
                "GRPC error: rpc error: code = Aborted desc = an operation with the given Volume ID snapshot-{UID} already exists"
            ),
            LockKey::Snapshot(UID.into()),
        ),
        (
            format!("an operation with the given Snapshot ID snapshot-{UID} already exists"),
            LockKey::Snapshot(UID.into()),
        ),
        (
            format!("desc = a Restore operation with given id {HANDLE} already exists"),
            LockKey::Handle(HANDLE.into()),
        ),
        (
            format!("an Expand operation with given id {HANDLE} already exists"),
            LockKey::Handle(HANDLE.into()),
        ),
        (
            format!("an operation with the given Volume ID {HANDLE} already exists"),
            LockKey::Handle(HANDLE.into()),
        ),
        (
            format!(
                "GRPC error: rpc error: code = Aborted desc = cannot acquire lock for \"delete\", an \"restore\" operation with given id {HANDLE} already exists"
            ),
            LockKey::Handle(HANDLE.into()),
        ),
        (
            format!(
                "cannot acquire lock for \"expand\", an \"modify\" operation with given id {HANDLE} already exists"
            ),
            LockKey::Handle(HANDLE.into()),
        ),
        (
            format!("an operation with the given Volume ID groupsnapshot-{UID} already exists"),
            LockKey::GroupSnapshot(UID.into()),
        ),
        (
            format!("an operation with the given Volume ID {MIGRATED} already exists"),
            LockKey::Handle(MIGRATED.into()),
        ),
        (
            format!("an operation with the given Volume ID {OF_CHART} already exists"),
            LockKey::Handle(OF_CHART.into()),
        ),
    ] {
        assert_eq!(LockKey::parse(&line), Some(key), "{line}");
    }
}

#[test]
fn each_operation_is_recognized_in_the_text_of_its_version() {
    for operation in ["Create", "Clone", "Restore", "Delete", "Expand"] {
        let article = if operation == "Expand" { "an" } else { "a" };
        let line = format!("{article} {operation} operation with given id {HANDLE} already exists");
        assert_eq!(LockKey::parse(&line), Some(LockKey::Handle(HANDLE.into())), "{line}");
    }
    for operation in ["create", "clone", "restore", "delete", "expand", "modify"] {
        let line = format!(
            "cannot acquire lock for \"delete\", an \"{operation}\" operation with given id {HANDLE} already exists"
        );
        assert_eq!(LockKey::parse(&line), Some(LockKey::Handle(HANDLE.into())), "{line}");
    }
}

#[test]
fn similar_and_malformed_lines_are_not_locks() {
    for line in [
        "rpc error: code = Aborted desc = flatten in progress: flatten is in progress for image csi-vol-34343434",
        "code = NotFound desc = source Volume ID 0001-0009-rook-ceph-0000000000000002-deadbeef-0000-4000-8000-000000000000 not found",
        "volume pvc-77777777-7777-4777-8777-000000000021 already exists",
        "an operation with the given Volume ID pvc-77777777-7777-4777-8777-000000000021",
        "an operation with the given Volume ID pvc-77777777-7777-4777-8777-0000000000",
        "an operation with the given Volume ID pvc-7777777-7777-4777-8777-000000000021 already exists",
        "an operation with the given Volume ID  already exists",
        "an operation with the given Volume ID pvc-\u{1b}[31m77777777 already exists",
        "Xan operation with the given Volume ID pvc-77777777-7777-4777-8777-000000000021 already exists",
        "an \"mount\" operation with given id 0001-0009-rook-ceph-0000000000000002-56565656-5656-4656-8656-565656565656 already exists",
        "a \"restore\" operation with given id 0001-0009-rook-ceph-0000000000000002-56565656-5656-4656-8656-565656565656 already exists",
        "an operation with the given Volume ID groupsnapshot-7777 already exists",
        "an operation with the given Volume ID mig_mons-x_image-56565656-5656-4656-8656-565656565656_72 already exists",
        "a Mount operation with given id 0001-0009-rook-ceph-0000000000000002-56565656-5656-4656-8656-565656565656 already exists",
        "a Restore operation with given id 0001-ffff-rook-ceph-0000 already exists",
        "a Restore operation with given id 0001-0009-rook-cephX0000000000000002-56565656-5656-4656-8656-565656565656 already exists",
        "a Restore operation with given id 0001-\u{fffd}\u{fffd} already exists",
        "",
    ] {
        assert_eq!(LockKey::parse(line), None, "{line}");
    }
}

#[test]
fn a_very_long_line_is_parsed_to_its_end() {
    let line = format!(
        "{} an operation with the given Volume ID pvc-{UID} already exists",
        "x".repeat(65_536)
    );
    assert_eq!(LockKey::parse(&line), Some(LockKey::Pvc(UID.into())));
}

#[test]
fn two_lines_for_one_key_are_one_sighting() {
    let mut sightings = Sightings::default();
    let line = format!("an operation with the given Volume ID pvc-{UID} already exists");
    sightings.add("b", 9_000, &line);
    sightings.add("a", 5_000, &line);
    sightings.add("a", 7_000, "an unrelated line");
    let sighting = &sightings.0[&LockKey::Pvc(UID.into())];
    assert_eq!((sighting.first, sighting.last, sighting.pods.len()), (5_000, 9_000, 2));
    assert!(sightings.contains_pvc(UID) && !sightings.contains_snapshot(UID));
}
