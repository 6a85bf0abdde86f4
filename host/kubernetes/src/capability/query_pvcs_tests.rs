//! Parsing PVCs with their events as clusters return them.

use super::*;
use crate::time::millis;
use salve_core::capability::query_pvcs::Waiting;
use serde_json::json;

const UID: &str = "77777777-7777-4777-8777-000000000021";

fn pvc(name: &str, uid: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "selfhosted", "uid": uid,
        "creationTimestamp": "2026-08-20T08:40:00Z",
        "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {"storageClassName": "ceph-block"}, "status": {"phase": "Pending"}})
}

fn event(reason: &str, message: &str, last: &str) -> Value {
    json!({"involvedObject": {"uid": UID}, "reason": reason, "message": message,
        "firstTimestamp": "2026-08-20T08:40:00Z", "lastTimestamp": last})
}

fn locked() -> String {
    format!(
        "rpc error: code = Aborted desc = an operation with the given Volume ID pvc-{UID} already exists"
    )
}

fn parse(pvc: &Value, siblings: &[Value], events: &[Value]) -> Pvc {
    let classes = [
        json!({"metadata": {"name": "ceph-block"}, "provisioner": "rook-ceph.rbd.csi.ceph.com",
            "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
        json!({"metadata": {"name": "openebs-hostpath"}, "provisioner": "openebs.io/local",
            "volumeBindingMode": "WaitForFirstConsumer"}),
    ];
    let volumes = [json!({"metadata": {"name": "pvc-1"},
            "spec": {"persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": "d"}}})];
    let context = Context {
        volumes: by_name(&volumes),
        classes: by_name(&classes),
        now: millis("2026-08-20T10:00:00Z").unwrap(),
    };
    parse_pvc(pvc, siblings, events, &context)
}

fn class(events: &[Value]) -> Option<Waiting> {
    let pvc = pvc("cache", UID);
    parse(&pvc, std::slice::from_ref(&pvc), events).waiting
}

#[test]
fn a_lock_is_recognized_in_both_forms_of_the_message() {
    let old = format!("failed to provision volume with StorageClass \"ceph-block\": {}", locked());
    for text in [old, locked()] {
        assert_eq!(
            class(&[event("ProvisioningFailed", &text, "2026-08-20T09:57:41Z")]),
            Some(Waiting::CsiLocked),
            "{text}"
        );
    }
}

#[test]
fn a_lock_on_another_volume_is_not_a_lock_on_this_pvc() {
    let other = locked().replace(UID, "0dead000-0000-4000-8000-00000000beef");
    assert_eq!(
        class(&[event("ProvisioningFailed", &other, "2026-08-20T09:57:41Z")]),
        Some(Waiting::Unknown)
    );
}

#[test]
fn events_of_an_earlier_pvc_of_the_same_name_are_ignored() {
    let mut foreign = event("ProvisioningFailed", &locked(), "2026-08-20T09:57:41Z");
    foreign["involvedObject"]["uid"] = "other".into();
    assert_eq!(class(&[foreign]), Some(Waiting::Unknown));
}

#[test]
fn the_newest_event_decides() {
    let slow = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
    let events = |first: &str, second: &str| {
        [event("ProvisioningFailed", slow, first), event("ProvisioningFailed", &locked(), second)]
    };
    assert_eq!(
        class(&events("2026-08-20T09:00:00Z", "2026-08-20T09:57:41Z")),
        Some(Waiting::CsiLocked)
    );
    assert_eq!(
        class(&events("2026-08-20T09:58:00Z", "2026-08-20T09:57:41Z")),
        Some(Waiting::CsiSlow)
    );
}

#[test]
fn each_kind_of_failure_event_is_classified() {
    for (reason, message, waiting) in [
        (
            "ProvisioningFailed",
            "error getting handle for DataSource Type VolumeSnapshot by Name s: snapshot s is not Ready",
            Waiting::ForSnapshot,
        ),
        (
            "ProvisioningFailed",
            "failed to provision volume with StorageClass \"ceph-block\": error getting handle for DataSource Type VolumeSnapshot by Name s: requested volume size 107374183 is less than the size 113246208 for the source snapshot s",
            Waiting::Misconfigured,
        ),
        (
            "ProvisioningFailed",
            "error getting handle for DataSource Type VolumeSnapshot by Name s: error getting snapshot s from api server: volumesnapshots.snapshot.storage.k8s.io \"s\" not found",
            Waiting::Misconfigured,
        ),
        (
            "ProvisioningFailed",
            "error getting handle for DataSource Type VolumeSnapshot by Name s: snapshot s is being deleted",
            Waiting::Misconfigured,
        ),
        (
            "ProvisioningFailed",
            "failed to provision volume with StorageClass \"ceph-filesystem\": rpc error: code = Aborted desc = clone from snapshot is already in progress",
            Waiting::Copying,
        ),
        (
            "ProvisioningFailed",
            "rpc error: code = Aborted desc = clone from snapshot is pending",
            Waiting::Copying,
        ),
        ("ProvisioningFailed", "rpc error: code = Aborted desc = in progress", Waiting::Copying),
        ("ProvisioningFailed", "rpc error: code = Aborted desc = pending", Waiting::Copying),
        (
            "ProvisioningFailed",
            "rpc error: code = Aborted desc = flatten in progress: flatten is in progress for image csi-vol-1",
            Waiting::Copying,
        ),
        (
            "ProvisioningFailed",
            "rpc error: code = Aborted desc = a Delete operation with given id 0001-0009-rook-ceph-0000000000000002-56565656-5656-4656-8656-565656565656 already exists",
            Waiting::CsiLocked,
        ),
        (
            "ProvisioningFailed",
            "rpc error: code = Aborted desc = cannot acquire lock for \"restore\", an \"delete\" operation with given id 0001-0009-rook-ceph-0000000000000002-56565656-5656-4656-8656-565656565656 already exists",
            Waiting::CsiLocked,
        ),
        ("ProvisioningFailed", "rpc error: code = Aborted desc = retry", Waiting::Unknown),
        (
            "ProvisioningFailed",
            "storageclass.storage.k8s.io \"x\" not found",
            Waiting::Misconfigured,
        ),
        (
            "ProvisioningFailed",
            "rpc error: code = InvalidArgument desc = pool",
            Waiting::Misconfigured,
        ),
        (
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
            Waiting::Misconfigured,
        ),
        (
            "ExternalProvisioning",
            "Waiting for a volume to be created either by the external provisioner 'd' or manually by the system administrator.",
            Waiting::NoProvisioner,
        ),
        ("Surprise", "?", Waiting::Unknown),
    ] {
        assert_eq!(
            class(&[event(reason, message, "2026-08-20T09:57:41Z")]),
            Some(waiting),
            "{reason}: {message}"
        );
    }
    let tried = [
        event("ExternalProvisioning", "Waiting", "2026-08-20T09:57:41Z"),
        event("Provisioning", "External provisioner is provisioning", "2026-08-20T09:57:40Z"),
    ];
    assert_eq!(class(&tried), Some(Waiting::Unknown));
    assert_eq!(class(&[]), Some(Waiting::Unknown));
}

#[test]
fn a_new_pvc_is_not_reported_as_having_no_provisioner() {
    let mut young = pvc("cache", UID);
    young["metadata"]["creationTimestamp"] = "2026-08-20T09:59:55Z".into();
    let seen =
        parse(&young, &[], &[event("ExternalProvisioning", "Waiting", "2026-08-20T09:59:55Z")]);
    assert_eq!(
        (seen.waiting, seen.evidence.as_deref()),
        (Some(Waiting::Unknown), Some("created 5 s ago, not provisioned yet"))
    );
}

#[test]
fn a_pvc_that_binds_on_first_use_waits_for_its_consumer() {
    let mut authelia = pvc("authelia", UID);
    authelia["spec"]["storageClassName"] = "openebs-hostpath".into();
    let waits = event(
        "WaitForFirstConsumer",
        "waiting for first consumer to be created before binding",
        "2026-08-20T09:59:45Z",
    );
    assert_eq!(
        parse(&authelia, &[], std::slice::from_ref(&waits)).waiting,
        Some(Waiting::ForFirstConsumer)
    );
    authelia["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": "node-1"});
    assert_eq!(
        parse(&authelia, &[], &[event("ProvisioningFailed", &locked(), "2026-08-20T09:59:45Z")])
            .waiting,
        Some(Waiting::CsiLocked)
    );
}

#[test]
fn an_unscheduled_pod_is_not_a_missing_consumer() {
    let mut cache = pvc("volsync-src-atlas-cache", UID);
    cache["spec"]["storageClassName"] = "openebs-hostpath".into();
    let waits = event(
        "WaitForPodScheduled",
        "waiting for pod volsync-src-atlas-x7k2p to be scheduled",
        "2026-08-20T09:59:00Z",
    );
    let class = |pvc: &Value| parse(pvc, &[], std::slice::from_ref(&waits));
    assert_eq!(class(&cache).waiting, Some(Waiting::ForScheduling));
    assert!(class(&cache).evidence.unwrap().contains("volsync-src-atlas-x7k2p"));
    cache["metadata"]["creationTimestamp"] = "2026-08-20T09:58:00Z".into();
    assert_eq!(class(&cache).waiting, Some(Waiting::ForFirstConsumer));
}

#[test]
fn a_restored_pvc_waits_for_its_destination_and_then_for_its_populator() {
    let mut paperless = pvc("paperless", UID);
    paperless["spec"]["dataSourceRef"] = json!({"apiGroup": "volsync.backube",
        "kind": "ReplicationDestination", "name": "paperless-dst"});
    // As VolSync 0.16 writes it: the old fields are null.
    let none = json!({"involvedObject": {"uid": UID},
        "reason": "VolSyncPopulatorReplicationDestinationNoLatestImage",
        "message": "waiting for replicationdestination to have latestImage",
        "eventTime": "2026-08-20T08:40:01.204411Z", "firstTimestamp": null, "lastTimestamp": null,
        "series": {"count": 9, "lastObservedTime": "2026-08-20T09:50:02.100000Z"}, "source": {}});
    let assumed = event(
        "Provisioning",
        "Assuming an external populator will provision the volume",
        "2026-08-20T08:40:00Z",
    );
    let seen = parse(&paperless, std::slice::from_ref(&paperless), &[none.clone(), assumed]);
    assert_eq!(seen.waiting, Some(Waiting::ForDestination));
    assert_eq!(seen.data_source.as_deref(), Some("ReplicationDestination/paperless-dst"));
    assert!(seen.evidence.unwrap().ends_with("(2026-08-20T09:50:02Z)"));
    let mut prime = pvc(&format!("vs-prime-{UID}"), "p");
    assert_eq!(parse(&prime, &[paperless.clone()], &[]).populates.as_deref(), Some("paperless"));
    prime["metadata"]["labels"] = json!({"volsync.backube/populator-pvc-for": "paperless"});
    let seen = parse(&paperless, &[paperless.clone(), prime], &[none]);
    assert_eq!(seen.waiting, Some(Waiting::Populating));
    assert!(seen.evidence.unwrap().contains("vs-prime-"));
}

#[test]
fn a_terminating_pvc_names_its_finalizers() {
    let mut terminating = pvc("old", UID);
    terminating["metadata"]["deletionTimestamp"] = "2026-08-20T09:00:00Z".into();
    let seen = parse(&terminating, &[], &[]);
    assert_eq!(
        (seen.waiting, seen.terminating_since.is_some()),
        (Some(Waiting::Terminating), true)
    );
    assert!(seen.evidence.unwrap().contains("kubernetes.io/pvc-protection"));
}

#[test]
fn driver_and_reclaim_policy_come_from_the_volume_before_the_class() {
    let mut bound = pvc("a", UID);
    bound["status"]["phase"] = "Bound".into();
    bound["spec"]["volumeName"] = "pvc-1".into();
    let seen = parse(&bound, &[], &[]);
    assert_eq!(
        (seen.phase, seen.waiting, seen.reclaim_policy, seen.driver.as_deref()),
        (Phase::Bound, None, Some(ReclaimPolicy::Retain), Some("d"))
    );
    let seen = parse(&pvc("a", UID), &[], &[]);
    assert_eq!(
        (seen.reclaim_policy, seen.driver.as_deref()),
        (Some(ReclaimPolicy::Delete), Some("rook-ceph.rbd.csi.ceph.com"))
    );
    let mut old = pvc("a", UID);
    old["metadata"]["annotations"] =
        json!({"volume.beta.kubernetes.io/storage-provisioner": "older"});
    assert_eq!(parse(&old, &[], &[]).driver.as_deref(), Some("older"));
}

#[test]
fn a_failed_snapshot_is_parsed() {
    let snapshot = json!({
        "metadata": {"name": "volsync-zigbee2mqtt-src", "namespace": "home-automation", "uid": "u",
            "creationTimestamp": "2026-08-20T06:00:00Z",
            "deletionTimestamp": "2026-08-20T09:55:02Z",
            "ownerReferences": [{"kind": "ReplicationSource", "name": "zigbee2mqtt", "uid": "r",
                "controller": true}]},
        "spec": {"source": {"persistentVolumeClaimName": "zigbee2mqtt"}},
        "status": {"boundVolumeSnapshotContentName": "c", "readyToUse": false,
            "error": {"message": "Failed"}},
    });
    let seen = parse_snapshot(&snapshot);
    assert!(!seen.ready && seen.terminating_since.is_some());
    assert_eq!(
        (
            seen.pvc.as_deref(),
            seen.owner.as_deref(),
            seen.owner_uid.as_deref(),
            seen.problem.as_deref()
        ),
        (Some("zigbee2mqtt"), Some("ReplicationSource/zigbee2mqtt"), Some("r"), Some("Failed"))
    );
}
