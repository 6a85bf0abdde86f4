//! What guards claims and volumes: a claim in use is not deleted, and a volume whose claim is gone is reclaimed.

use super::csi::{self, Sidecar};
use super::pods;
use crate::kind;
use crate::object::{is_terminating, remove_finalizers, set, text};
use crate::store::Key;
use crate::world::World;

const IN_USE: &str = "kubernetes.io/pvc-protection";
/// The finalizer of a claim while a snapshot of it is being taken.
pub const AS_SOURCE: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";

/// Lets a claim go that is to be deleted, once nothing uses it.
pub fn protect(world: &mut World, key: &Key) {
    let Some(pvc) = world.get(key) else { return };
    let snapped = world.store.list(kind::SNAPSHOTS, Some(&key.namespace)).any(|(_, snapshot)| {
        text(snapshot, "/spec/source/persistentVolumeClaimName") == key.name
            && snapshot.pointer("/status/readyToUse") != Some(&true.into())
    });
    let used = world
        .store
        .list(kind::PODS, Some(&key.namespace))
        .any(|(_, pod)| pods::pvcs(pod).any(|name| name == key.name));
    world.amend(key, |object| {
        remove_finalizers(object, |one| {
            (one == AS_SOURCE && !snapped) || (one == IN_USE && !used && is_terminating(&pvc))
        });
    });
    if world.get(key).is_none() {
        let volume = text(&pvc, "/spec/volumeName");
        reclaim(world, &Key::new(kind::VOLUMES, "", volume));
    }
}

/// Releases a volume whose claim is gone, and deletes it where its policy says so.
pub fn reclaim(world: &mut World, key: &Key) {
    let Some(volume) = world.get(key) else { return };
    let (namespace, name) =
        (text(&volume, "/spec/claimRef/namespace"), text(&volume, "/spec/claimRef/name"));
    let pvc = world.get(&Key::new(kind::CLAIMS, namespace, name));
    let claimed =
        pvc.is_some_and(|pvc| text(&pvc, "/metadata/uid") == text(&volume, "/spec/claimRef/uid"));
    if claimed {
        return;
    }
    world.amend(key, |volume| set(volume, &["status", "phase"], "Released"));
    let deletes = text(&volume, "/spec/persistentVolumeReclaimPolicy") == "Delete";
    let working =
        csi::leader(world, Sidecar::Provisioner).is_some_and(|(_, pod)| !world.csi.is_jammed(&pod));
    if deletes && working && !world.csi.ceph_down {
        world.amend(key, |volume| remove_finalizers(volume, |_| true));
        world.delete(key);
    } else if deletes {
        world.wake_once(std::time::Duration::from_secs(30), super::Wake::Volume(key.clone()));
    }
}
