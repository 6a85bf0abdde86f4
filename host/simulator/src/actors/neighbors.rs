//! CSI drivers other than the one that is simulated in detail: they only report errors.

use std::time::Duration;

use super::Task;
use super::events::{self, Event};
use crate::kind;
use crate::object::{is_terminating, text};
use crate::store::Key;
use crate::world::World;

const RETRY_DELAY: Duration = Duration::from_secs(60);

/// What a driver answers to each request for a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbor {
    /// The volume is locked. csi-driver-smb writes `An operation`, ceph-csi `an operation`.
    Locked,
    /// The request times out.
    Slow,
}

/// Lets a neighbor reject a Pending PVC of its StorageClass.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(pvc) = world.get(key) else { return };
    let class = Key::new(kind::STORAGE_CLASSES, "", text(&pvc, "/spec/storageClassName"));
    let Some(class) = world.get(&class) else { return };
    let driver = text(&class, "/provisioner");
    let Some(neighbor) = world.neighbors.get(driver).copied() else { return };
    if text(&pvc, "/status/phase") != "Pending" || is_terminating(&pvc) {
        return;
    }
    let error = match neighbor {
        Neighbor::Slow => {
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned()
        }
        Neighbor::Locked => {
            let article = if driver.ends_with("csi.ceph.com") { "an" } else { "An" };
            format!(
                "rpc error: code = Aborted desc = {article} operation with the given Volume ID \
                 pvc-{} already exists",
                text(&pvc, "/metadata/uid")
            )
        }
    };
    let class = text(&class, "/metadata/name");
    let event = Event {
        event_type: "Warning",
        reason: "ProvisioningFailed",
        message: format!("failed to provision volume with StorageClass \"{class}\": {error}"),
        component: format!("{driver}_controller-0_0c0c0c0c-1111-4222-8333-444444444444"),
    };
    events::record(world, &pvc, &event);
    world.schedule_once(RETRY_DELAY, Task::Pvc(key.clone()));
}
