//! The simulated controllers. Like real controllers they are level-triggered: a task names an
//! object, the controller reads the cluster and takes at most one step. Changes and timers schedule
//! further tasks.
//!
//! `on_change` schedules the tasks that follow a change; `dispatch` runs a task.

mod backup;
mod ceph;
pub mod csi;
pub mod definitions;
pub mod events;
mod garbage;
pub mod git;
mod helm;
pub mod importer;
mod kustomize;
mod lease;
pub mod lock;
pub mod mover;
pub mod neighbors;
pub mod node_plugin;
pub mod nodes;
mod operator;
mod pods;
pub mod provision;
mod pvcs;
mod restore;
mod snapshots;
mod source;
mod workloads;

use std::time::Duration;

use serde_json::Value;

// Constructors of the controllers' objects, for scenarios that start with existing objects.
pub use backup::{mover_pvc, set_owner, snapshot_of};
pub use kustomize::{inventory_entry, kind_of};
pub use pods::{running_status, set_unschedulable};
pub use provision::{bind, is_waiting_for_driver, volume_for};
pub use pvcs::AS_SOURCE_PROTECTION;
pub use restore::prime_pvc;
pub use snapshots::content_for;
pub use workloads::{replica_pod, replica_set};

use crate::kind;
use crate::object::{is_terminating, list, text};
use crate::script::{self, Cause};
use crate::store::{Change, ChangeType, Key};
use crate::world::World;

/// A unit of work of a controller, scheduled for a point in virtual time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// source-controller reconciles a source.
    Source(Key),
    /// kustomize-controller reconciles a Kustomization.
    Kustomize(Key),
    /// The interval of a Kustomization has elapsed.
    KustomizeInterval(Key),
    /// kustomize-controller applies a Kustomization that it began to build at this generation.
    KustomizeApply(Key, i64),
    /// helm-controller reconciles a HelmRelease.
    Helm(Key),
    /// The interval of a HelmRelease has elapsed.
    HelmInterval(Key),
    /// VolSync reconciles a ReplicationSource.
    Backup(Key),
    /// VolSync reconciles a ReplicationDestination.
    Restore(Key),
    /// VolSync's volume populator reconciles a PVC.
    Populate(Key),
    /// The snapshot controller and csi-snapshotter reconcile a VolumeSnapshot.
    Snapshot(Key),
    /// The PVC protection controller and csi-provisioner reconcile a PVC.
    Pvc(Key),
    /// CreateVolume returns for a PVC.
    Provisioned(Key),
    /// The volume controller reconciles a PersistentVolume.
    Volume(Key),
    /// A call with this lock key is rejected or times out.
    RejectCall(String),
    /// A sidecar renews its Lease or tries to acquire it.
    Lease(csi::Sidecar),
    /// The Deployment controller reconciles a Deployment.
    Rollout(Key),
    /// The scheduler and the kubelet reconcile a pod.
    Pod(Key),
    /// The containers of a pod start.
    PodStarted(Key),
    /// The node lifecycle controller reconciles a node.
    Node(Key),
    /// The node lifecycle controller deletes the pods of a node that is unreachable.
    Evict(Key),
    /// ceph-csi-operator reconciles a Deployment that it owns.
    Operator(Key),
    /// The garbage collector processes the dependents of the deleted object with this UID.
    Garbage(String),
    /// The garbage collector processes an object in foreground deletion.
    Foreground(Key),
    /// Rook updates the health of Ceph.
    CephHealth,
    /// A controller outside of the cluster applies this object again.
    ApplyElsewhere(Key),
    /// The importer writes its next log lines.
    Import,
    /// The scenario's reaction with this index happens.
    React(usize, Option<Box<Cause>>),
    /// The scenario's repeated log line with this index is due.
    WriteLine(usize),
}

impl Task {
    /// Returns the object that a controller reconciles.
    fn object(&self) -> Option<&Key> {
        match self {
            Task::Source(key)
            | Task::Kustomize(key)
            | Task::KustomizeInterval(key)
            | Task::KustomizeApply(key, _)
            | Task::Helm(key)
            | Task::HelmInterval(key)
            | Task::Backup(key)
            | Task::Restore(key)
            | Task::Populate(key)
            | Task::Snapshot(key)
            | Task::Pvc(key)
            | Task::Provisioned(key)
            | Task::Volume(key)
            | Task::Rollout(key)
            | Task::Pod(key)
            | Task::PodStarted(key)
            | Task::Node(key)
            | Task::Evict(key)
            | Task::Operator(key)
            | Task::Foreground(key)
            | Task::ApplyElsewhere(key) => Some(key),
            Task::RejectCall(_)
            | Task::Lease(_)
            | Task::Garbage(_)
            | Task::CephHealth
            | Task::Import
            | Task::React(..)
            | Task::WriteLine(_) => None,
        }
    }
}

/// Runs a task, unless the scenario excludes its object.
pub fn dispatch(world: &mut World, task: Task) {
    if task.object().is_some_and(|key| world.script.pinned.contains(key)) {
        return;
    }
    match task {
        Task::Source(key) => source::reconcile(world, &key),
        Task::Kustomize(key) => kustomize::reconcile(world, &key),
        Task::KustomizeInterval(key) => kustomize::on_interval(world, &key),
        Task::KustomizeApply(key, generation) => kustomize::apply(world, &key, generation),
        Task::Helm(key) => helm::reconcile(world, &key, false),
        Task::HelmInterval(key) => helm::reconcile(world, &key, true),
        Task::Backup(key) => backup::reconcile(world, &key),
        Task::Restore(key) => restore::reconcile(world, &key),
        Task::Populate(key) => restore::populate(world, &key),
        Task::Snapshot(key) => snapshots::reconcile(world, &key),
        Task::Pvc(key) => {
            pvcs::remove_protection(world, &key);
            provision::reconcile(world, &key);
            neighbors::reconcile(world, &key);
        }
        Task::Provisioned(key) => provision::finish(world, &key),
        Task::Volume(key) => pvcs::reclaim(world, &key),
        Task::RejectCall(key) => lock::reject(world, &key),
        Task::Lease(sidecar) => lease::renew_or_acquire(world, sidecar),
        Task::Rollout(key) => workloads::reconcile(world, &key),
        Task::Pod(key) => pods::reconcile(world, &key),
        Task::PodStarted(key) => pods::start_containers(world, &key),
        Task::Node(key) => nodes::reconcile(world, &key),
        Task::Evict(key) => nodes::evict(world, &key),
        Task::Operator(key) => operator::reconcile(world, &key),
        Task::Garbage(uid) => garbage::collect(world, &uid),
        Task::Foreground(key) => garbage::foreground(world, &key),
        Task::CephHealth => ceph::check(world),
        Task::ApplyElsewhere(key) => git::apply_elsewhere(world, &key),
        Task::Import => importer::write_logs(world),
        Task::React(reaction, cause) => script::react(world, reaction, cause.as_deref()),
        Task::WriteLine(line) => script::write_line(world, line),
    }
}

/// The time until a controller receives a change.
const WATCH_LATENCY: Duration = Duration::from_millis(200);

/// Schedules the tasks of the controllers that watch a changed object.
pub fn on_change(world: &mut World, change: &Change) {
    let (key, object) = (&change.key, &*change.object);
    garbage::on_change(world, change);
    if is_terminating(object) && change.previous.as_ref().is_some_and(|old| !is_terminating(old)) {
        world.script.pinned.remove(key);
    }
    if key.kind == kind::CRDS {
        definitions::on_change(world, change);
    } else if key.kind == kind::PVCS {
        on_pvc_change(world, key, object);
    } else if key.kind == kind::SNAPSHOTS {
        world.schedule_once(WATCH_LATENCY, Task::Snapshot(key.clone()));
        schedule_owner(world, key, object);
        for pvc in pvcs_from(world, key) {
            world.schedule_once(WATCH_LATENCY, Task::Pvc(pvc));
        }
    } else if key.kind == kind::SNAPSHOT_CONTENTS {
        let (namespace, name) = (
            text(object, "/spec/volumeSnapshotRef/namespace"),
            text(object, "/spec/volumeSnapshotRef/name"),
        );
        world.schedule_once(
            WATCH_LATENCY,
            Task::Snapshot(Key::new(kind::SNAPSHOTS, namespace, name)),
        );
    } else if key.kind == kind::JOBS {
        schedule_owner(world, key, object);
    } else if key.kind == kind::PODS {
        pods::on_change(world, change);
    } else if key.kind == kind::NODES {
        world.schedule_once(WATCH_LATENCY, Task::Node(key.clone()));
    } else if key.kind == kind::DEPLOYMENTS {
        operator::on_change(world, key, object);
        world.schedule_once(workloads::WATCH_LATENCY, Task::Rollout(key.clone()));
    }
    if change.change_type == ChangeType::Deleted {
        git::on_deleted(world, key);
        return;
    }
    if key.kind == kind::REPLICATION_SOURCES {
        world.schedule_once(WATCH_LATENCY, Task::Backup(key.clone()));
    } else if key.kind == kind::REPLICATION_DESTINATIONS {
        world.schedule_once(WATCH_LATENCY, Task::Restore(key.clone()));
        for (pvc, object) in world.all(kind::PVCS) {
            if pvc.namespace == key.namespace
                && text(&object, "/spec/dataSourceRef/name") == key.name
            {
                world.schedule_once(WATCH_LATENCY, Task::Populate(pvc));
            }
        }
    } else if key.kind == kind::KUSTOMIZATIONS {
        kustomize::on_change(world, change);
    } else if key.kind == kind::HELM_RELEASES {
        world.schedule_once(WATCH_LATENCY, Task::Helm(key.clone()));
    } else if [kind::GIT_REPOSITORIES, kind::OCI_REPOSITORIES, kind::BUCKETS].contains(&key.kind) {
        world.schedule_once(WATCH_LATENCY, Task::Source(key.clone()));
    }
}

/// Starts all controllers on a newly built cluster.
pub fn start(world: &mut World) {
    let all: Vec<(Key, std::sync::Arc<Value>)> =
        world.store.all().map(|(key, object)| (key.clone(), object.clone())).collect();
    for (key, object) in all {
        if key.kind == kind::KUSTOMIZATIONS {
            kustomize::schedule_interval(world, &key, &object);
        } else if key.kind == kind::HELM_RELEASES {
            world.schedule(helm::interval(&object), Task::HelmInterval(key));
        } else if key.kind == kind::REPLICATION_SOURCES {
            world.schedule_once(Duration::from_secs(1), Task::Backup(key));
        } else if key.kind == kind::REPLICATION_DESTINATIONS {
            world.schedule_once(Duration::from_secs(1), Task::Restore(key));
        } else if key.kind == kind::SNAPSHOTS {
            world.schedule_once(Duration::from_secs(1), Task::Snapshot(key));
        } else if key.kind == kind::PVCS {
            on_pvc_change(world, &key, &object);
        } else if key.kind == kind::PODS {
            world.schedule_once(Duration::from_secs(1), Task::Pod(key));
        }
    }
    lease::start(world);
    lock::start(world);
    importer::start(world);
    script::start(world);
    world.schedule(ceph::INTERVAL, Task::CephHealth);
}

fn on_pvc_change(world: &mut World, key: &Key, object: &Value) {
    world.schedule_once(WATCH_LATENCY, Task::Pvc(key.clone()));
    schedule_owner(world, key, object);
    if text(object, "/spec/dataSourceRef/kind") == "ReplicationDestination" {
        world.schedule_once(WATCH_LATENCY, Task::Populate(key.clone()));
    }
    let volume = text(object, "/spec/volumeName");
    if !volume.is_empty() {
        world.schedule_once(WATCH_LATENCY, Task::Volume(Key::new(kind::VOLUMES, "", volume)));
    }
    for (source, object) in world.all(kind::REPLICATION_SOURCES) {
        if source.namespace == key.namespace && text(&object, "/spec/sourcePVC") == key.name {
            world.schedule_once(WATCH_LATENCY, Task::Backup(source));
        }
    }
    for (snapshot, object) in world.all(kind::SNAPSHOTS) {
        if snapshot.namespace == key.namespace
            && text(&object, "/spec/source/persistentVolumeClaimName") == key.name
        {
            world.schedule_once(WATCH_LATENCY, Task::Snapshot(snapshot));
        }
    }
    for (pod, object) in world.all(kind::PODS) {
        if pod.namespace == key.namespace
            && !is_terminating(&object)
            && pods::pvcs(&object).any(|name| name == key.name)
        {
            world.schedule_once(WATCH_LATENCY, Task::Pod(pod));
        }
    }
}

/// Schedules the controllers of an object's owners.
fn schedule_owner(world: &mut World, key: &Key, object: &Value) {
    for owner in list(object, "/metadata/ownerReferences") {
        let (kind, name) = (text(owner, "/kind"), text(owner, "/name"));
        let owner = |kind| Key::new(kind, &key.namespace, name);
        match kind {
            "ReplicationSource" => {
                world.schedule_once(WATCH_LATENCY, Task::Backup(owner(kind::REPLICATION_SOURCES)))
            }
            "ReplicationDestination" => world
                .schedule_once(WATCH_LATENCY, Task::Restore(owner(kind::REPLICATION_DESTINATIONS))),
            "PersistentVolumeClaim" => {
                world.schedule_once(WATCH_LATENCY, Task::Populate(owner(kind::PVCS)))
            }
            _ => {}
        }
    }
}

/// Returns the PVCs whose data source is a snapshot.
fn pvcs_from(world: &World, snapshot: &Key) -> Vec<Key> {
    world
        .store
        .list(kind::PVCS, Some(&snapshot.namespace))
        .filter(|(_, pvc)| {
            text(pvc, "/spec/dataSource/kind") == "VolumeSnapshot"
                && text(pvc, "/spec/dataSource/name") == snapshot.name
        })
        .map(|(key, _)| key.clone())
        .collect()
}
