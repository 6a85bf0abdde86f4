use super::*;
use crate::samples;
use salve_sdk::query_pvcs::Phase;

#[test]
fn recovery_is_complete_only_if_no_pvc_is_stuck_or_waits_without_a_known_reason() {
    for (waiting, complete) in [
        (Some(Waiting::CsiLocked), false),
        (Some(Waiting::CsiSlow), false),
        (Some(Waiting::NoProvisioner), false),
        (Some(Waiting::Unknown), false),
        (None, false),
        (Some(Waiting::ForDestination), true),
        (Some(Waiting::Populating), true),
        (Some(Waiting::ForSnapshot), true),
        (Some(Waiting::Misconfigured), true),
        (Some(Waiting::ForFirstConsumer), true),
        (Some(Waiting::Terminating), true),
    ] {
        let pvcs = [Pvc { waiting, ..samples::pending("media/a", 1) }];
        assert_eq!(recovery(&pvcs, &samples::driver()).is_complete(), complete, "{waiting:?}");
    }
}

#[test]
fn an_unexplained_pvc_of_another_driver_does_not_prevent_recovery() {
    let pvcs = [Pvc {
        driver: Some("other".into()),
        storage_class: Some("other".into()),
        ..samples::pending("media/a", 1)
    }];
    let driver = samples::driver();
    let recovery = recovery(&pvcs, &driver);
    assert!(recovery.is_complete());
    assert_eq!(recovery.explained.len(), 1);
}

#[test]
fn a_bound_pvc_has_recovered() {
    let pvcs = [Pvc { phase: Phase::Bound, ..samples::pending("media/a", 1) }];
    assert_eq!(recovery(&pvcs, &samples::driver()), Recovery::default());
}
