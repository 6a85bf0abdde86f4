//! Leader election of the sidecars. A Lease is not released on exit, so after a restart the next
//! leader has to wait until it expires.

use std::time::Duration;

use super::Task;
use super::csi::{self, Sidecar, klog};
use crate::object::{micros, number, set, text, time};
use crate::world::World;

/// The time until a Lease that is not renewed expires.
pub const DURATION: Duration = Duration::from_secs(137);
/// The interval between attempts to renew or acquire a Lease.
const RETRY_PERIOD: Duration = Duration::from_secs(26);

/// Starts leader election for both sidecars.
pub fn start(world: &mut World) {
    world.schedule(Duration::from_secs(17), Task::Lease(Sidecar::Provisioner));
    world.schedule(Duration::from_secs(10), Task::Lease(Sidecar::Snapshotter));
}

/// Renews the Lease of the leader. If there is no leader and the Lease has expired, a ready pod
/// acquires it.
pub fn renew_or_acquire(world: &mut World, sidecar: Sidecar) {
    world.schedule(RETRY_PERIOD, Task::Lease(sidecar));
    let key = sidecar.lease(&world.csi.driver);
    let Some(lease) = world.get(&key) else { return };
    let now = micros(world.now);
    if csi::leader(world, sidecar).is_some() {
        world.update(&key, |lease| set(lease, &["spec", "renewTime"], now));
        return;
    }
    let expired = time(&lease, "/spec/renewTime")
        .is_none_or(|renewed| world.elapsed_since(renewed) > DURATION);
    let candidates = csi::ready_pods_with(world, sidecar.container());
    let successor = match sidecar {
        Sidecar::Provisioner => candidates.first(),
        Sidecar::Snapshotter => candidates.last(),
    };
    let Some((pod, uid)) = successor.filter(|_| expired) else { return };
    world.csi.set_leader(sidecar, uid);
    let identity = match sidecar {
        // csi-provisioner up to version 5 does not include its pod name.
        Sidecar::Provisioner => {
            let driver = world.csi.driver.replace('.', "-");
            format!("{}-8081-{driver}", world.now.as_millisecond())
        }
        Sidecar::Snapshotter => pod.name.clone(),
    };
    let transitions = number(&lease, "/spec/leaseTransitions") + 1;
    world.update(&key, |lease| {
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
    csi::on_leader_elected(world, sidecar);
}
