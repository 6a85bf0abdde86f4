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

/// Such as a slow or locked PVC of smb.csi.k8s.io, which the restart of Ceph's driver cannot help.
#[test]
fn a_pvc_of_another_driver_does_not_prevent_recovery_and_is_named() {
    let waiting = [None, Some(Waiting::CsiSlow), Some(Waiting::CsiLocked)];
    for waiting in waiting.into_iter().chain([Some(Waiting::Unknown), Some(Waiting::NoProvisioner)])
    {
        let pvcs = [Pvc {
            driver: Some("smb.csi.k8s.io".into()),
            storage_class: Some("smb".into()),
            waiting,
            ..samples::pending("media/share", 1)
        }];
        let driver = samples::driver();
        let recovery = recovery(&pvcs, &driver);
        assert!(recovery.is_complete(), "{waiting:?}");
        assert_eq!(recovery.explained.len(), 1, "{waiting:?}");
        let text = describe(recovery.explained[0], &[]);
        assert!(text.starts_with("media/share is Pending"), "{text}");
        if matches!(waiting, Some(Waiting::CsiSlow | Waiting::CsiLocked)) {
            assert!(text.contains("driver smb.csi.k8s.io"), "{text}");
        }
    }
}

#[test]
fn a_bound_pvc_has_recovered() {
    let pvcs = [Pvc { phase: Phase::Bound, ..samples::pending("media/a", 1) }];
    assert_eq!(recovery(&pvcs, &samples::driver()), Recovery::default());
}
