//! What is wrong with a cluster, from the memory of its actors and from its objects.
//!
//! It shares no code with the guest, and knows nothing of the composition: an axis whose trouble
//! has no consequence in a cluster is no cause there.

use salve_simulator::{Failure, HeldLock, Installation, Mover, Neighbor, Refusal, Simulator};
use serde_json::Value;

/// Something that is wrong, or that looks as if it were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The incident.
    ControllerLock,
    /// Locks in the node plugin of this node.
    NodeLock(String),
    CephDown,
    ControllerScaledDown,
    NoSnapshotter,
    NoSnapshotController,
    /// The mover of this ReplicationSource does not finish.
    Mover(String, MoverCause),
    /// The driver rejects this PVC.
    Rejected(String),
    /// A snapshot of a PVC that does not exist.
    OrphanSnapshot(String),
    /// A PVC of a StorageClass that does not exist.
    ClassMissing(String),
    /// Another driver does not provision this PVC.
    OtherDriver {
        driver: String,
        locked: bool,
        pvc: String,
    },
    /// Nothing is wrong: a user paused this ReplicationSource while it has a sync.
    Paused(String),
    /// Nothing is wrong: the sync of this ReplicationSource takes long.
    Slow(String),
    /// Nothing is wrong: the storage is copying data for this PVC.
    Copying(String),
    /// Nothing is wrong: this PVC waits for a pod that uses it.
    WaitsForConsumer(String),
    /// Nothing is wrong yet: this ReplicationSource has no PVC.
    Orphan(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoverCause {
    RepositoryLocked,
    StoreUnreachable,
    AccessDenied,
    OtherFailure,
    Unscheduled,
    MountFails,
    ContainerWaits,
    Refused,
}

impl Cause {
    /// Returns whether someone has to do something about it.
    pub fn is_problem(&self) -> bool {
        !matches!(
            self,
            Self::Paused(_)
                | Self::Slow(_)
                | Self::Copying(_)
                | Self::WaitsForConsumer(_)
                | Self::Orphan(_)
        )
    }
}

/// The time after which everything that is not done is late, in seconds.
const LATE_AFTER: i64 = 2 * 3_600;

/// The state of a cluster that a diagnosis is compared with.
pub struct Truth<'a> {
    simulator: &'a Simulator,
    installation: &'a Installation,
    pub locks: Vec<HeldLock>,
    sources: Vec<Value>,
    pvcs: Vec<Value>,
    snapshots: Vec<Value>,
}

impl<'a> Truth<'a> {
    pub fn of(simulator: &'a Simulator, installation: &'a Installation) -> Self {
        let all = |group: &str, resource: &str| simulator.objects(group, resource, None);
        Self {
            simulator,
            installation,
            locks: simulator.held_locks(),
            sources: all("volsync.backube", "replicationsources"),
            pvcs: all("", "persistentvolumeclaims"),
            snapshots: all("snapshot.storage.k8s.io", "volumesnapshots"),
        }
    }

    /// Returns whether the controller holds a lock.
    pub fn is_controller_locked(&self) -> bool {
        self.locks.iter().any(|lock| lock.node.is_none())
    }

    /// Returns everything that is wrong, or looks as if it were.
    pub fn causes(&self) -> Vec<Cause> {
        let mut causes = Vec::new();
        let deployment = self.object("apps", "deployments", "rook-ceph", &self.deployment());
        if self.simulator.is_ceph_down() {
            causes.push(Cause::CephDown);
        }
        if deployment["spec"]["replicas"] == 0 {
            causes.push(Cause::ControllerScaledDown);
        }
        if self.is_controller_locked() {
            causes.push(Cause::ControllerLock);
        }
        let mut nodes: Vec<String> =
            self.locks.iter().filter_map(|lock| lock.node.clone()).collect();
        nodes.sort();
        nodes.dedup();
        causes.extend(nodes.into_iter().map(Cause::NodeLock));
        causes.extend(self.of_snapshots(&deployment));
        causes.extend(self.of_pvcs());
        causes.extend(self.sources.iter().filter_map(|source| self.of_source(source)));
        causes
    }

    fn of_snapshots(&self, deployment: &Value) -> Vec<Cause> {
        let mut causes = Vec::new();
        let containers = &deployment["spec"]["template"]["spec"]["containers"];
        let has_snapshotter = containers
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["name"] == "csi-snapshotter"));
        let waiting = || {
            self.snapshots.iter().filter(|snapshot| {
                snapshot["status"]["readyToUse"] != true && self.age(snapshot) > 600
            })
        };
        let controller = self.object("apps", "deployments", "kube-system", "snapshot-controller");
        let is_orphan = |snapshot: &&Value| {
            let pvc = text(&snapshot["spec"]["source"]["persistentVolumeClaimName"]);
            snapshot["metadata"]["ownerReferences"].is_null()
                && self.pvc(text(&snapshot["metadata"]["namespace"]), pvc).is_none()
        };
        let has_no_content =
            |one: &Value| one["status"]["boundVolumeSnapshotContentName"].is_null();
        if !has_snapshotter && waiting().any(|snapshot| !has_no_content(snapshot)) {
            causes.push(Cause::NoSnapshotter);
        }
        let is_controller_down = controller["spec"]["replicas"] == 0;
        if is_controller_down && waiting().any(|one| has_no_content(one) && !is_orphan(&one)) {
            causes.push(Cause::NoSnapshotController);
        }
        causes.extend(waiting().filter(is_orphan).map(|one| Cause::OrphanSnapshot(name(one))));
        causes
    }

    fn of_pvcs(&self) -> Vec<Cause> {
        let neighbors = self.simulator.neighbors();
        let pending = self.pvcs.iter().filter(|pvc| {
            pvc["status"]["phase"] == "Pending"
                && pvc["metadata"]["deletionTimestamp"].is_null()
                && self.age(pvc) > 600
        });
        pending
            .filter_map(|pvc| {
                let class = text(&pvc["spec"]["storageClassName"]);
                let object = self.object("storage.k8s.io", "storageclasses", "", class);
                if object.is_null() {
                    return Some(Cause::ClassMissing(name(pvc)));
                }
                if object["volumeBindingMode"] == "WaitForFirstConsumer" {
                    return Some(Cause::WaitsForConsumer(name(pvc)));
                }
                let driver = text(&object["provisioner"]);
                if driver == self.installation.driver {
                    return self.of_refused(pvc);
                }
                let (driver, neighbor) = neighbors.iter().find(|(other, _)| other == driver)?;
                let (driver, locked) = (driver.clone(), *neighbor == Neighbor::Locked);
                Some(Cause::OtherDriver { driver, locked, pvc: name(pvc) })
            })
            .collect()
    }

    /// Returns why the driver does not create the volume of a PVC, although it could.
    fn of_refused(&self, pvc: &Value) -> Option<Cause> {
        let from_snapshot = pvc["spec"]["dataSource"]["kind"] == "VolumeSnapshot";
        match self.simulator.refusal()? {
            Refusal::Rejects { pvcs, .. } => {
                text(&pvc["metadata"]["name"]).contains(&pvcs).then(|| Cause::Rejected(name(pvc)))
            }
            Refusal::Copying { .. } => from_snapshot.then(|| Cause::Copying(name(pvc))),
        }
    }

    /// Returns why the sync of a source does not finish, unless it waits for the driver.
    fn of_source(&self, source: &Value) -> Option<Cause> {
        let (namespace, own) =
            (text(&source["metadata"]["namespace"]), text(&source["metadata"]["name"]));
        if self.pvc(namespace, text(&source["spec"]["sourcePVC"])).is_none() {
            return Some(Cause::Orphan(name(source)));
        }
        let mover = self.simulator.mover(namespace, own);
        let refused = matches!(mover, Some(Mover::Refused { .. }));
        let syncing = self.seconds_since(&source["status"]["lastSyncStartTime"])?;
        if refused && source["status"]["conditions"][0]["reason"] == "Error" {
            return Some(Cause::Mover(name(source), MoverCause::Refused));
        }
        // The mover has not been started: the sync waits for something else.
        let job = self.object("batch", "jobs", namespace, &format!("volsync-src-{own}"));
        if job.is_null() || syncing < LATE_AFTER {
            return None;
        }
        if source["spec"]["paused"] == true {
            return Some(Cause::Paused(name(source)));
        }
        let cause = match mover? {
            Mover::Copies(_) => return self.of_copying_mover(source),
            Mover::Fails { failure, .. } => match failure {
                Failure::RepositoryLocked => MoverCause::RepositoryLocked,
                Failure::StoreUnreachable => MoverCause::StoreUnreachable,
                Failure::AccessDenied => MoverCause::AccessDenied,
                Failure::Other => MoverCause::OtherFailure,
            },
            Mover::Unscheduled { .. } => MoverCause::Unscheduled,
            Mover::MountFails { .. } => MoverCause::MountFails,
            Mover::ContainerWaits { .. } => MoverCause::ContainerWaits,
            Mover::Refused { .. } => return None,
        };
        Some(Cause::Mover(name(source), cause))
    }

    /// Returns the cause of a mover that would copy the data: none if its pod has not started.
    fn of_copying_mover(&self, source: &Value) -> Option<Cause> {
        let pods = self.simulator.objects("", "pods", source["metadata"]["namespace"].as_str());
        let job = format!("volsync-src-{}", text(&source["metadata"]["name"]));
        let is_waiting = pods.iter().any(|pod| {
            pod["metadata"]["ownerReferences"][0]["name"] == *job
                && pod["status"]["phase"] == "Pending"
        });
        (!is_waiting).then(|| Cause::Slow(name(source)))
    }

    /// Returns why deleting a ReplicationSource without consent is destructive. `None` if it takes
    /// part in the incident, and comes back or is of no use to anyone.
    pub fn reason_to_keep(&self, namespace: &str, own: &str) -> Option<String> {
        let source =
            self.sources.iter().find(|source| name(source) == format!("{namespace}/{own}"))?;
        let pvc = self.pvc(namespace, text(&source["spec"]["sourcePVC"]));
        let is_gone = pvc.is_none_or(|pvc| !pvc["metadata"]["deletionTimestamp"].is_null());
        if source["spec"]["paused"] == true {
            return Some("it is paused".into());
        }
        if !is_gone && !self.waits_for_lock(source) {
            return Some("nothing of it waits for a lock, and its PVC exists".into());
        }
        if !source["spec"]["syncthing"].is_null() {
            return Some("peers know its identity".into());
        }
        if self.simulator.is_applied_from_elsewhere(source) {
            return Some("a controller outside of the cluster applies it".into());
        }
        let Some(owner) = self.flux_owner(source) else {
            return Some("it was created by hand".into());
        };
        if owner["spec"]["suspend"] == true && self.simulator.is_declared(source) {
            return Some("a user suspended its owner".into());
        }
        let comes_back = self.simulator.is_declared(source);
        (!comes_back && !is_gone).then(|| "nothing re-creates it, and its PVC exists".into())
    }

    /// Returns whether the controller holds the lock of something that a source created.
    fn waits_for_lock(&self, source: &Value) -> bool {
        let uid = text(&source["metadata"]["uid"]);
        let is_own = |object: &&Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners.is_some_and(|all| all.iter().any(|owner| owner["uid"] == uid))
        };
        let is_held = |prefix: &str, object: &Value| {
            let key = format!("{prefix}-{}", text(&object["metadata"]["uid"]));
            self.locks.iter().any(|lock| lock.node.is_none() && lock.key == key)
        };
        self.snapshots.iter().filter(is_own).any(|one| is_held("snapshot", one))
            || self.pvcs.iter().filter(is_own).any(|one| is_held("pvc", one))
    }

    /// Returns the Flux object in this cluster that the labels of an object name.
    fn flux_owner(&self, object: &Value) -> Option<Value> {
        [("kustomize", "kustomizations"), ("helm", "helmreleases")].into_iter().find_map(
            |(prefix, resource)| {
                let group = format!("{prefix}.toolkit.fluxcd.io");
                let label = |field: &str| {
                    text(&object["metadata"]["labels"][format!("{group}/{field}")]).to_owned()
                };
                self.simulator.object(&group, resource, &label("namespace"), &label("name"))
            },
        )
    }

    fn deployment(&self) -> String {
        self.installation.deployment.clone()
    }

    fn object(&self, group: &str, resource: &str, namespace: &str, own: &str) -> Value {
        self.simulator.object(group, resource, namespace, own).unwrap_or_default()
    }

    fn pvc(&self, namespace: &str, own: &str) -> Option<&Value> {
        self.pvcs.iter().find(|pvc| name(pvc) == format!("{namespace}/{own}"))
    }

    fn age(&self, object: &Value) -> i64 {
        self.seconds_since(&object["metadata"]["creationTimestamp"]).unwrap_or_default()
    }

    fn seconds_since(&self, time: &Value) -> Option<i64> {
        let time: jiff::Timestamp = time.as_str()?.parse().ok()?;
        Some(self.simulator.clock().now().duration_since(time).as_secs())
    }
}

/// Returns a string, or an empty one.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the namespace and name of an object.
pub fn name(object: &Value) -> String {
    format!("{}/{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}
