use super::*;
use crate::evidence::ControllerLog;
use crate::samples;

const LOCKED: &str = "MountVolume.MountDevice failed for volume \"pvc-1f0c2a34\" : rpc error: code = \
    Aborted desc = an operation with the given Volume ID \
    0001-0009-rook-ceph-0000000000000002-1f0c2a34-5b6c-4d7e-8f90-000000000001 already exists";

#[test]
fn the_node_and_its_pods_are_named() {
    let mut observation = samples::observation();
    observation.pending_pods = vec![
        samples::pending_pod("media/a", "ReplicaSet/a", PendingReason::MountFailed, LOCKED),
        samples::pending_pod("media/b", "ReplicaSet/b", PendingReason::MountFailed, LOCKED),
        samples::pending_pod(
            "media/c",
            "ReplicaSet/c",
            PendingReason::MountFailed,
            "no such device",
        ),
        samples::pending_pod("media/d", "ReplicaSet/d", PendingReason::ContainerWaiting, LOCKED),
    ];
    let found = findings(&observation);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].text.starts_with(
            "the node plugin of rook-ceph.rbd.csi.ceph.com on node node-b holds a lock, so 2 pods \
             (media/a, media/b) cannot start: delete the one node plugin pod on node-b (drain \
             the node first if"
        ),
        "{}",
        found[0].text
    );
    assert_eq!(found[0].details.len(), 2);
}

#[test]
fn the_log_of_the_node_plugin_shows_a_lock_that_the_event_does_not() {
    const TIMED_OUT: &str = "MountVolume.MountDevice failed: context deadline exceeded";
    let failed = |message: &str| {
        samples::pending_pod("media/a", "ReplicaSet/a", PendingReason::MountFailed, message)
    };
    for (message, logged, is_named) in [
        (TIMED_OUT, Some(60_000), true),
        (TIMED_OUT, Some(MAX_AGE_MS + 1), false),
        (TIMED_OUT, None, false),
        (LOCKED, None, true),
    ] {
        let mut observation = samples::observation();
        observation.pending_pods = vec![failed(message)];
        let mut log =
            NodeLog { pod: "rook-ceph/csi-rbdplugin-x7k2p".into(), log: ControllerLog::default() };
        if let Some(age) = logged {
            log.log.sightings.add("csi-rbdplugin-x7k2p", samples::NOW - age, LOCKED);
        }
        observation.node_logs.insert("node-b".into(), log);
        let found = findings(&observation);
        assert_eq!(found.len(), usize::from(is_named), "{message} {logged:?}");
        for finding in &found {
            assert!(
                finding.text.contains("delete the node plugin pod rook-ceph/csi-rbdplugin-x7k2p"),
                "{}",
                finding.text
            );
            assert_eq!(finding.details.len(), if logged.is_some() { 2 } else { 1 });
            assert_eq!(
                finding.text.contains("its log shows none: read the log before you delete"),
                logged.is_none(),
                "{}",
                finding.text
            );
        }
    }
    assert_eq!(nodes_to_read(&[failed(LOCKED), failed(TIMED_OUT)]).len(), 1);
}
