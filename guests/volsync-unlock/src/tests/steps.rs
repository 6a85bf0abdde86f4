use super::*;
use crate::samples::{self, NOW};
use salve_sdk::types::Lease;

#[test]
fn only_leases_with_an_active_holder_are_awaited() {
    let lease = |name: &str, renewed: Option<u64>| Lease {
        namespace: "rook-ceph".into(),
        name: name.into(),
        holder: None,
        acquired: None,
        renewed,
        duration_seconds: 137,
    };
    let mut driver = samples::driver();
    driver.leases = vec![
        lease("fresh", Some(NOW - 9_000)),
        lease("expired", Some(NOW - 86_400_000)),
        lease("never-renewed", None),
        lease("in-the-future", Some(NOW + 5_000)),
    ];
    assert_eq!(active_leases(&driver, NOW), ["fresh", "in-the-future"]);
}

#[test]
fn remaining_snapshots_are_reported_with_their_state() {
    let stuck =
        Snapshot { terminating_since: Some(NOW - 120_000), ..samples::snapshot("media/s", 1, 2) };
    let finding = remaining_snapshots(&[&stuck], NOW);
    assert!(
        finding.text.starts_with("1 VolumeSnapshot of deleted ReplicationSources still exists")
    );
    assert_eq!(finding.details, ["media/s: being deleted for 2 min; no error reported"]);
    let finding = remaining_snapshots(&[&stuck, &stuck], NOW);
    assert!(
        finding.text.starts_with("2 VolumeSnapshots of deleted ReplicationSources still exist:")
    );
}
