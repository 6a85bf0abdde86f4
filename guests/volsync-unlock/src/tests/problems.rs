use salve_sdk::query_pvcs::{Pvc, Waiting};

use super::*;
use crate::lock;
use crate::samples;

const REMEDIATION: &str = include_str!("../../remediation.yaml");

fn locked(driver: &str, waiting: Waiting) -> Pvc {
    Pvc {
        driver: Some(driver.to_owned()),
        waiting: Some(waiting),
        ..samples::pending("media/plex", 1)
    }
}

#[test]
fn the_log_and_the_pvcs_of_the_driver_are_reported() {
    let mut observation = samples::observation();
    (observation.log.entry, observation.pvcs_entry) = (7, 9);
    assert!(observed(&observation).is_empty(), "nothing was observed");
    observation.log.sightings.add("a", samples::NOW, &samples::pvc_lock_line(1));
    assert_eq!(observed(&observation), [("operation-locks", 7)]);
    observation.pvcs = vec![locked("smb.csi.k8s.io", Waiting::CsiSlow)];
    assert_eq!(observed(&observation).len(), 1, "another driver's PVC");
    observation.pvcs.push(locked(samples::DRIVER, Waiting::Populating));
    assert_eq!(observed(&observation).len(), 1, "it waits for something else");
    observation.pvcs.push(locked(samples::DRIVER, Waiting::CsiLocked));
    assert_eq!(observed(&observation), [("operation-locks", 7), ("locked-rbd-pvcs", 9)]);
}

#[test]
fn the_remediation_declares_what_is_reported() {
    let names = LOCKED_PVCS.iter().map(|(_, name)| *name).chain([OPERATION_LOCKS]);
    for name in names {
        assert!(REMEDIATION.contains(&format!("- name: {name}\n")), "{name}");
    }
    assert!(REMEDIATION.contains(&format!("pattern: '{}'\n", lock::PATTERN)), "{}", lock::PATTERN);
}
