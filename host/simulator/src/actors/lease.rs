//! Leader election of the sidecars: a lease is not released on exit, so that after a restart its successor waits it out.

use std::time::Duration;

use super::Wake;
use super::csi::{self, Sidecar, klog};
use crate::object::{micros, number, set, text, time};
use crate::world::World;

/// How long a lease holds without being renewed.
pub const DURATION: Duration = Duration::from_secs(137);
/// How often it is renewed, and tried for.
const RETRY: Duration = Duration::from_secs(26);

/// Begins the ticking of both leases.
pub fn start(world: &mut World) {
    world.wake(Duration::from_secs(17), Wake::Lease(Sidecar::Provisioner));
    world.wake(Duration::from_secs(10), Wake::Lease(Sidecar::Snapshotter));
}

/// The leader renews the lease; where there is none, a pod that is up takes it once it has run out.
pub fn tick(world: &mut World, sidecar: Sidecar) {
    world.wake(RETRY, Wake::Lease(sidecar));
    let key = sidecar.lease();
    let Some(lease) = world.get(&key) else { return };
    let now = micros(world.now);
    if csi::leader(world, sidecar).is_some() {
        world.amend(&key, |lease| set(lease, &["spec", "renewTime"], now));
        return;
    }
    let expired =
        time(&lease, "/spec/renewTime").is_none_or(|renewed| world.since(renewed) > DURATION);
    let candidates = csi::pods_with(world, sidecar.container());
    let successor = match sidecar {
        Sidecar::Provisioner => candidates.first(),
        Sidecar::Snapshotter => candidates.last(),
    };
    let Some((pod, uid)) = successor.filter(|_| expired) else { return };
    world.csi.lead(sidecar, uid);
    let identity = match sidecar {
        // csi-provisioner up to version 5 does not name its pod.
        Sidecar::Provisioner => {
            format!("{}-8081-rook-ceph-rbd-csi-ceph-com", world.now.as_millisecond())
        }
        Sidecar::Snapshotter => pod.name.clone(),
    };
    let transitions = number(&lease, "/spec/leaseTransitions") + 1;
    world.amend(&key, |lease| {
        set(lease, &["spec", "holderIdentity"], identity);
        set(lease, &["spec", "acquireTime"], now.clone());
        set(lease, &["spec", "renewTime"], now);
        set(lease, &["spec", "leaseTransitions"], transitions);
    });
    let line = format!(
        "successfully acquired lease {}/{}",
        csi::NAMESPACE,
        text(&lease, "/metadata/name")
    );
    let line = klog('I', world.now, "leaderelection.go:271", &line);
    world.logs.write(uid, sidecar.container(), world.now, line);
    csi::came_up(world, sidecar);
}
