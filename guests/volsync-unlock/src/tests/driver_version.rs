use super::*;
use crate::samples::{self, NOW};

#[test]
fn the_version_and_what_it_implies_are_read_from_the_tag() {
    for (image, expected) in [
        ("quay.io/cephcsi/cephcsi:v3.13.0", Some("locks its snapshot until")),
        ("registry.local:5000/cephcsi:v3.8.1@sha256:00", Some("locks its snapshot until")),
        ("quay.io/cephcsi/cephcsi:v3.7.2", Some("may not be recognized")),
        ("quay.io/cephcsi/cephcsi:v3.18.0", Some("newer than")),
        ("quay.io/cephcsi/cephcsi:4.0.0", Some("newer than")),
        ("quay.io/cephcsi/cephcsi:canary", Some("development build")),
        ("quay.io/cephcsi/cephcsi@sha256:00", None),
        ("registry.local:5000/cephcsi", None),
        ("registry.k8s.io/sig-storage/nfsplugin:v4.9.0", None),
        ("", None),
    ] {
        let found = describe(image);
        match expected {
            Some(expected) => {
                assert!(found.as_ref().is_some_and(|text| text.contains(expected)), "{found:?}");
            }
            None => assert_eq!(found, None, "{image}"),
        }
    }
}

#[test]
fn the_version_is_part_of_the_evidence_if_locks_are_logged() {
    let mut observation = samples::observation();
    let controller = observation.driver.controller.as_mut().expect("a controller");
    controller.image = "quay.io/cephcsi/cephcsi:v3.13.0".into();
    let has_version = |observation: &Observation| {
        let (diagnosis, _) = crate::diagnose::diagnose(observation, 180_000);
        diagnosis.evidence_for.iter().any(|finding| finding.text.contains("ceph-csi v3.13.0"))
    };
    assert!(!has_version(&observation));
    observation.log.sightings.add("a", NOW - 1_000, &samples::pvc_lock_line(1));
    assert!(has_version(&observation));
}
