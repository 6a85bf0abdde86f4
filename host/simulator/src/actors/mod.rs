//! The parties of the incident. Each is level-triggered as its real counterpart is: it is woken for an object, looks at
//! the cluster, does at most one step, and is woken again by what changes or by its own timer.
//!
//! `observe` says who is woken by a change; `happen` lets a party act.

mod backup;
mod ceph;
pub mod csi;
pub mod events;
mod garbage;
pub mod git;
mod helm;
pub mod importer;
mod kustomize;
mod lease;
pub mod lock;
mod operator;
mod pods;
mod provision;
mod pvcs;
mod restore;
mod snapshots;
mod source;
mod workloads;

use std::time::Duration;

use serde_json::Value;

// What the parties make, for a scene that begins with it made.
pub use backup::{owned_by, snapshot as volsync_snapshot, temporary_claim as volsync_claim};
pub use kustomize::{inventory_entry, kind_of as kustomize_kind};
pub use pods::{running as pod_status, wait as pod_waits};
pub use provision::{bind, is_ours as waits_for_driver, volume as volume_of};
pub use pvcs::AS_SOURCE;
pub use restore::prime_claim;
pub use snapshots::content_of;
pub use workloads::{pod as replica_pod, replica_set};

use crate::kind;
use crate::object::{is_terminating, list, text};
use crate::store::{Change, Key, What};
use crate::world::World;

/// Something that is to happen at a moment of virtual time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// source-controller looks at a source.
    Source(Key),
    /// kustomize-controller looks at a Kustomization.
    Kustomize(Key),
    /// kustomize-controller's interval for a Kustomization has passed.
    KustomizeInterval(Key),
    /// kustomize-controller has built a Kustomization, begun at this generation, and applies it.
    KustomizeApply(Key, i64),
    /// helm-controller looks at a HelmRelease.
    Helm(Key),
    /// helm-controller's interval for a HelmRelease has passed.
    HelmInterval(Key),
    /// VolSync looks at a ReplicationSource.
    Backup(Key),
    /// VolSync looks at a ReplicationDestination.
    Restore(Key),
    /// VolSync's populator looks at a claim.
    Populate(Key),
    /// The snapshot controller and its sidecar look at a VolumeSnapshot.
    Snapshot(Key),
    /// The claim protection and the provisioner look at a claim.
    Pvc(Key),
    /// CreateVolume has returned for a claim.
    Provisioned(Key),
    /// The volume controller looks at a PersistentVolume.
    Volume(Key),
    /// A call for this lock key is refused, or times out, once more.
    LockRefusal(String),
    /// A sidecar renews its lease or tries to get it.
    Lease(csi::Sidecar),
    /// The Deployment controller looks at a Deployment.
    Rollout(Key),
    /// The scheduler and the kubelet look at a pod.
    Pod(Key),
    /// A pod has started.
    PodStarted(Key),
    /// The operator looks at a Deployment that it owns.
    Operator(Key),
    /// The garbage collector looks for what the object of this uid owned.
    Garbage(String),
    /// The garbage collector looks at an object that waits for its dependents.
    Foreground(Key),
    /// Rook checks the health of Ceph.
    CephHealth,
    /// The importer does its work, or says that it cannot.
    Import,
}

/// Lets a party act.
pub fn happen(world: &mut World, wake: Wake) {
    match wake {
        Wake::Source(key) => source::reconcile(world, &key),
        Wake::Kustomize(key) => kustomize::reconcile(world, &key),
        Wake::KustomizeInterval(key) => kustomize::interval(world, &key),
        Wake::KustomizeApply(key, generation) => kustomize::apply(world, &key, generation),
        Wake::Helm(key) => helm::reconcile(world, &key, false),
        Wake::HelmInterval(key) => helm::reconcile(world, &key, true),
        Wake::Backup(key) => backup::reconcile(world, &key),
        Wake::Restore(key) => restore::reconcile(world, &key),
        Wake::Populate(key) => restore::populate(world, &key),
        Wake::Snapshot(key) => snapshots::reconcile(world, &key),
        Wake::Pvc(key) => {
            pvcs::protect(world, &key);
            provision::reconcile(world, &key);
        }
        Wake::Provisioned(key) => provision::provisioned(world, &key),
        Wake::Volume(key) => pvcs::reclaim(world, &key),
        Wake::LockRefusal(key) => lock::refuse(world, &key),
        Wake::Lease(sidecar) => lease::tick(world, sidecar),
        Wake::Rollout(key) => workloads::reconcile(world, &key),
        Wake::Pod(key) => pods::reconcile(world, &key),
        Wake::PodStarted(key) => pods::started(world, &key),
        Wake::Operator(key) => operator::reconcile(world, &key),
        Wake::Garbage(uid) => garbage::collect(world, &uid),
        Wake::Foreground(key) => garbage::foreground(world, &key),
        Wake::CephHealth => ceph::check(world),
        Wake::Import => importer::work(world),
    }
}

/// How long a controller takes to notice a change.
const NOTICE: Duration = Duration::from_millis(200);

/// Wakes those whom a change concerns.
pub fn observe(world: &mut World, change: &Change) {
    let (key, object) = (&change.key, &*change.object);
    garbage::observe(world, change);
    if key.kind == kind::CLAIMS {
        observe_claim(world, key, object);
    } else if key.kind == kind::SNAPSHOTS {
        world.wake_once(NOTICE, Wake::Snapshot(key.clone()));
        wake_owner(world, key, object);
        for pvc in claims_from(world, key) {
            world.wake_once(NOTICE, Wake::Pvc(pvc));
        }
    } else if key.kind == kind::CONTENTS {
        let (namespace, name) = (
            text(object, "/spec/volumeSnapshotRef/namespace"),
            text(object, "/spec/volumeSnapshotRef/name"),
        );
        world.wake_once(NOTICE, Wake::Snapshot(Key::new(kind::SNAPSHOTS, namespace, name)));
    } else if key.kind == kind::JOBS {
        wake_owner(world, key, object);
    } else if key.kind == kind::PODS {
        pods::observe(world, change);
    } else if key.kind == kind::DEPLOYMENTS {
        operator::observe(world, key, object);
        world.wake_once(workloads::NOTICE, Wake::Rollout(key.clone()));
    }
    if change.what == What::Deleted {
        return;
    }
    if key.kind == kind::SOURCES {
        world.wake_once(NOTICE, Wake::Backup(key.clone()));
    } else if key.kind == kind::DESTINATIONS {
        world.wake_once(NOTICE, Wake::Restore(key.clone()));
        for (pvc, object) in world.all(kind::CLAIMS) {
            if pvc.namespace == key.namespace
                && text(&object, "/spec/dataSourceRef/name") == key.name
            {
                world.wake_once(NOTICE, Wake::Populate(pvc));
            }
        }
    } else if key.kind == kind::KUSTOMIZATIONS {
        kustomize::observe(world, change);
    } else if key.kind == kind::HELM_RELEASES {
        world.wake_once(NOTICE, Wake::Helm(key.clone()));
    } else if [kind::GIT_REPOSITORIES, kind::OCI_REPOSITORIES, kind::BUCKETS].contains(&key.kind) {
        world.wake_once(NOTICE, Wake::Source(key.clone()));
    }
}

/// Sets every party going on a freshly built cluster.
pub fn start(world: &mut World) {
    let all: Vec<(Key, std::sync::Arc<Value>)> =
        world.store.all().map(|(key, object)| (key.clone(), object.clone())).collect();
    for (key, object) in all {
        if key.kind == kind::KUSTOMIZATIONS {
            kustomize::schedule(world, &key, &object);
        } else if key.kind == kind::HELM_RELEASES {
            world.wake(helm::interval(&object), Wake::HelmInterval(key));
        } else if key.kind == kind::SOURCES {
            world.wake_once(Duration::from_secs(1), Wake::Backup(key));
        } else if key.kind == kind::DESTINATIONS {
            world.wake_once(Duration::from_secs(1), Wake::Restore(key));
        } else if key.kind == kind::SNAPSHOTS {
            world.wake_once(Duration::from_secs(1), Wake::Snapshot(key));
        } else if key.kind == kind::CLAIMS {
            observe_claim(world, &key, &object);
        } else if key.kind == kind::PODS {
            world.wake_once(Duration::from_secs(1), Wake::Pod(key));
        }
    }
    lease::start(world);
    lock::start(world);
    importer::start(world);
    world.wake(ceph::INTERVAL, Wake::CephHealth);
}

fn observe_claim(world: &mut World, key: &Key, object: &Value) {
    world.wake_once(NOTICE, Wake::Pvc(key.clone()));
    wake_owner(world, key, object);
    if text(object, "/spec/dataSourceRef/kind") == "ReplicationDestination" {
        world.wake_once(NOTICE, Wake::Populate(key.clone()));
    }
    let volume = text(object, "/spec/volumeName");
    if !volume.is_empty() {
        world.wake_once(NOTICE, Wake::Volume(Key::new(kind::VOLUMES, "", volume)));
    }
    for (source, object) in world.all(kind::SOURCES) {
        if source.namespace == key.namespace && text(&object, "/spec/sourcePVC") == key.name {
            world.wake_once(NOTICE, Wake::Backup(source));
        }
    }
    for (snapshot, object) in world.all(kind::SNAPSHOTS) {
        if snapshot.namespace == key.namespace
            && text(&object, "/spec/source/persistentVolumeClaimName") == key.name
        {
            world.wake_once(NOTICE, Wake::Snapshot(snapshot));
        }
    }
    for (pod, object) in world.all(kind::PODS) {
        if pod.namespace == key.namespace
            && !is_terminating(&object)
            && pods::pvcs(&object).any(|one| one == key.name)
        {
            world.wake_once(NOTICE, Wake::Pod(pod));
        }
    }
}

/// Wakes the controller of what owns an object.
fn wake_owner(world: &mut World, key: &Key, object: &Value) {
    for owner in list(object, "/metadata/ownerReferences") {
        let (kind, name) = (text(owner, "/kind"), text(owner, "/name"));
        let owner = |kind| Key::new(kind, &key.namespace, name);
        match kind {
            "ReplicationSource" => world.wake_once(NOTICE, Wake::Backup(owner(kind::SOURCES))),
            "ReplicationDestination" => {
                world.wake_once(NOTICE, Wake::Restore(owner(kind::DESTINATIONS)))
            }
            "PersistentVolumeClaim" => world.wake_once(NOTICE, Wake::Populate(owner(kind::CLAIMS))),
            _ => {}
        }
    }
}

/// The claims that are to be made from a snapshot.
fn claims_from(world: &World, snapshot: &Key) -> Vec<Key> {
    world
        .store
        .list(kind::CLAIMS, Some(&snapshot.namespace))
        .filter(|(_, pvc)| {
            text(pvc, "/spec/dataSource/kind") == "VolumeSnapshot"
                && text(pvc, "/spec/dataSource/name") == snapshot.name
        })
        .map(|(key, _)| key.clone())
        .collect()
}
