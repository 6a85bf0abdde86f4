use super::*;
use crate::samples;
use salve_sdk::query_pvcs::Snapshot;

fn waiting(reason: Waiting) -> Pvc {
    Pvc { waiting: Some(reason), ..samples::pending("media/plex", 1) }
}

#[test]
fn blocking_problems_are_named() {
    type Change = fn(&mut Observation);
    let cases: [(Change, &str); 3] = [
        (|observation| observation.driver.controller = None, "no controller Deployment"),
        (
            |observation| {
                observation.driver.controller.as_mut().expect("a controller").replicas = 0;
            },
            "scaled to 0, so no volumes are provisioned: scale it up",
        ),
        (
            |observation| {
                observation.driver.ceph.as_mut().expect("a CephCluster").status =
                    "HEALTH_ERR".into();
            },
            "HEALTH_ERR",
        ),
    ];
    assert_eq!(blocking_problem(&samples::observation()), None);
    for (change, expected) in cases {
        let mut observation = samples::observation();
        change(&mut observation);
        let finding = blocking_problem(&observation).expect(expected);
        assert!(finding.text.contains(expected), "{}", finding.text);
    }
}

#[test]
fn slow_ceph_is_not_a_blocking_problem() {
    let mut observation = samples::observation();
    observation.driver.ceph.as_mut().expect("a CephCluster").status = "HEALTH_WARN".into();
    assert_eq!(blocking_problem(&observation), None);
}

#[test]
fn a_missing_snapshotter_is_reported_if_snapshots_are_not_ready() {
    let mut observation = samples::observation();
    let controller = observation.driver.controller.as_mut().expect("a controller");
    controller.snapshotter = false;
    assert_eq!(driver_problems(&observation), []);
    let snapshot = samples::snapshot("media/s", 5, 6);
    observation.snapshots = vec![Snapshot { content: Some("c".into()), ..snapshot }];
    let found = driver_problems(&observation);
    assert!(found[0].text.contains("no csi-snapshotter"), "{}", found[0].text);
    assert!(found[0].text.contains("CSI_ENABLE_SNAPSHOTTER"), "{}", found[0].text);
    observation.driver.controller.as_mut().expect("a controller").operator_managed = true;
    assert!(driver_problems(&observation)[0].text.contains("spec.snapshotPolicy"));
}

#[test]
fn each_reason_for_waiting_is_described() {
    for (reason, expected) in [
        (Waiting::ForFirstConsumer, "media/plex: WaitForFirstConsumer (expected)"),
        (Waiting::ForScheduling, "not scheduled"),
        (Waiting::Copying, "Ceph is still copying the data for its volume: wait"),
        (Waiting::CsiLocked, "logs none now"),
        (Waiting::CsiSlow, "time out"),
        (Waiting::Populating, "VolSync is populating its volume"),
        (Waiting::ForSnapshot, "not ready"),
        (Waiting::NoProvisioner, "no provisioner is acting"),
        (Waiting::Unknown, "no event says why"),
    ] {
        let mut observation = samples::observation();
        observation.pvcs = vec![waiting(reason)];
        let found = pending_pvcs(&observation, &Evidence::default());
        assert!(found[0].0.text.contains(expected), "{}", found[0].0.text);
    }
}

#[test]
fn a_pvc_of_another_driver_names_that_driver() {
    for (driver, reason, expected) in [
        ("smb.csi.k8s.io", Waiting::CsiLocked, "smb.csi.k8s.io, reports a lock"),
        ("smb.csi.k8s.io", Waiting::CsiSlow, "see the log of its controller"),
        ("x.rbd.csi.ceph.com", Waiting::CsiLocked, "check again with driver=x.rbd.csi.ceph.com"),
    ] {
        let mut observation = samples::observation();
        observation.pvcs = vec![Pvc {
            driver: Some(driver.into()),
            storage_class: Some("other".into()),
            ..waiting(reason)
        }];
        let found = pending_pvcs(&observation, &Evidence::default());
        assert!(found[0].0.text.contains(expected), "{}", found[0].0.text);
        assert!(found[0].1, "it is a problem");
    }
}

#[test]
fn several_pvcs_that_wait_for_the_same_reason_are_one_finding() {
    let mut observation = samples::observation();
    observation.pvcs = vec![waiting(Waiting::Populating); 2];
    let found = pending_pvcs(&observation, &Evidence::default());
    assert_eq!(
        found[0].0.text,
        "2 PVCs (media/plex, media/plex): VolSync is populating their volumes: keep an eye on \
         it"
    );
}

#[test]
fn a_misspelled_storage_class_is_recognized() {
    let mut observation = samples::observation();
    observation.pvcs =
        vec![Pvc { storage_class: Some("ceph-blok".into()), ..waiting(Waiting::Misconfigured) }];
    let found = pending_pvcs(&observation, &Evidence::default());
    assert_eq!(
        found[0].0.text,
        "media/plex: StorageClass ceph-blok does not exist (did you mean ceph-block?)"
    );
}

#[test]
fn a_misconfiguration_other_than_the_class_is_quoted() {
    let message = "requested volume size 107374183 is less than the size 113246208 for the source \
                   snapshot s";
    let mut observation = samples::observation();
    observation.pvcs = vec![Pvc {
        storage_class: Some("ceph-blok".into()),
        evidence: Some(message.into()),
        ..waiting(Waiting::Misconfigured)
    }];
    let found = pending_pvcs(&observation, &Evidence::default());
    assert_eq!(found[0].0.text, format!("media/plex: {message}: correct what the message names"));
}

#[test]
fn a_rejection_and_a_lost_pvc_are_reported() {
    let quota = "ProvisioningFailed: rpc error: code = Internal desc = Disk quota exceeded";
    let mut observation = samples::observation();
    observation.pvcs = vec![
        Pvc { evidence: Some(quota.into()), ..waiting(Waiting::Unknown) },
        Pvc { phase: Phase::Lost, ..samples::pending("media/lost", 2) },
    ];
    let found = pending_pvcs(&observation, &Evidence::default());
    assert_eq!(found[0].0.text, format!("media/plex: {quota}: correct what the message names"));
    let lost = lost_pvcs(&observation);
    assert!(lost[0].text.starts_with("media/lost: Lost, because"), "{}", lost[0].text);
}

#[test]
fn a_pvc_that_waits_for_a_destination_reports_what_it_needs() {
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
    for (destinations, expected) in [
        (vec![], "does not exist"),
        (vec![destination(None, Some(samples::NOW))], "restore in progress"),
        (vec![destination(None, None)], "has not started"),
        (vec![destination(Some("s"), None)], "populator is not acting"),
    ] {
        let text = waiting_for_destination(&pvc, &destinations);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn the_edit_distance_counts_changed_characters() {
    for (a, b, distance) in
        [("", "", 0), ("ab", "ab", 0), ("ceph-blok", "ceph-block", 1), ("a", "xyz", 3)]
    {
        assert_eq!(edit_distance(a, b), distance, "{a} {b}");
    }
}
