//! PVC protection and volume reclaim: a PVC in use is not removed, and a volume is reclaimed when
//! its PVC is gone.

use super::csi::{self, Sidecar};
use super::pods;
use crate::kind;
use crate::object::{is_terminating, remove_finalizers, set, text};
use crate::store::Key;
use crate::world::World;

const PVC_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// The finalizer of a PVC while a snapshot of it is taken.
pub const AS_SOURCE_PROTECTION: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";

/// Removes the protection finalizers of a PVC that is no longer in use.
pub fn remove_protection(world: &mut World, key: &Key) {
    let Some(pvc) = world.get(key) else { return };
    let being_snapshotted =
        world.store.list(kind::SNAPSHOTS, Some(&key.namespace)).any(|(_, snapshot)| {
            text(snapshot, "/spec/source/persistentVolumeClaimName") == key.name
                && snapshot.pointer("/status/readyToUse") != Some(&true.into())
        });
    let in_use = world
        .store
        .list(kind::PODS, Some(&key.namespace))
        .any(|(_, pod)| pods::pvcs(pod).any(|name| name == key.name));
    world.update(key, |object| {
        remove_finalizers(object, |finalizer| {
            (finalizer == AS_SOURCE_PROTECTION && !being_snapshotted)
                || (finalizer == PVC_PROTECTION && !in_use && is_terminating(&pvc))
        });
    });
    if world.get(key).is_none() {
        let volume = text(&pvc, "/spec/volumeName");
        reclaim(world, &Key::new(kind::VOLUMES, "", volume));
    }
}

/// Releases a volume whose PVC is gone, and deletes it if its reclaim policy is Delete.
pub fn reclaim(world: &mut World, key: &Key) {
    let Some(volume) = world.get(key) else { return };
    let (namespace, name) =
        (text(&volume, "/spec/claimRef/namespace"), text(&volume, "/spec/claimRef/name"));
    let pvc = world.get(&Key::new(kind::PVCS, namespace, name));
    let claimed =
        pvc.is_some_and(|pvc| text(&pvc, "/metadata/uid") == text(&volume, "/spec/claimRef/uid"));
    if claimed {
        return;
    }
    world.update(key, |volume| set(volume, &["status", "phase"], "Released"));
    let deletes = text(&volume, "/spec/persistentVolumeReclaimPolicy") == "Delete";
    let can_delete = csi::leader(world, Sidecar::Provisioner)
        .is_some_and(|(_, pod)| !world.csi.is_blocked(&pod));
    if deletes && can_delete && !world.csi.ceph_down {
        world.update(key, |volume| remove_finalizers(volume, |_| true));
        world.delete(key);
    } else if deletes {
        world.schedule_once(std::time::Duration::from_secs(30), super::Task::Volume(key.clone()));
    }
}
