//! `query-pvcs`: PVCs and VolumeSnapshots, and why a PVC is Pending.

use super::call::{Call, ReadCall};
use super::types::{ObjectRef, SNAPSHOT, all_of, validate_namespaces};
use super::{GrantShape, Observations, PlannedChanges, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::problem::{Evaluation, Predicate, Problem, Subject};
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Lists the PVCs of namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListPvcs {
    pub namespaces: Vec<String>,
}

/// Lists the VolumeSnapshots of namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListSnapshots {
    pub namespaces: Vec<String>,
}

/// Lists the volumes of a driver whose PVCs are not in these namespaces, or no longer exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListOtherVolumes {
    pub namespaces: Vec<String>,
    pub driver: String,
}

/// `status.phase` of a PVC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Pending,
    Bound,
    Lost,
}

/// Why a PVC is Pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waiting {
    /// Its StorageClass binds on first use, as expected.
    ForFirstConsumer,
    /// The pod that uses it has not been scheduled for more than 5 min.
    ForScheduling,
    /// The driver rejected it because of an operation lock on this PVC.
    CsiLocked,
    /// The driver's first request timed out.
    CsiSlow,
    /// A ReplicationDestination must restore first.
    ForDestination,
    /// VolSync populates a volume for it.
    Populating,
    /// The VolumeSnapshot that it is created from is not ready.
    ForSnapshot,
    /// The storage is copying or flattening its source.
    Copying,
    /// The driver has no provisioner.
    NoProvisioner,
    /// Its StorageClass or source snapshot is missing, or its size or parameters are rejected.
    Misconfigured,
    Terminating,
    Unknown,
}

/// What happens to a volume once its PVC is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReclaimPolicy {
    Delete,
    Retain,
    /// Deprecated in Kubernetes.
    Recycle,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pvc {
    pub object: ObjectRef,
    pub uid: String,
    pub created: Millis,
    /// `status.phase`.
    pub phase: Phase,
    /// `metadata.deletionTimestamp`.
    pub terminating_since: Option<Millis>,
    pub waiting: Option<Waiting>,
    pub evidence: Option<String>,
    /// `spec.storageClassName`.
    pub storage_class: Option<String>,
    /// The driver that provisions it.
    pub driver: Option<String>,
    /// `spec.volumeName`.
    pub volume: Option<String>,
    /// Of its volume, or of its StorageClass if it has no volume yet.
    pub reclaim_policy: Option<ReclaimPolicy>,
    /// `Kind/name` of its data source.
    pub data_source: Option<String>,
    /// The PVC of the same namespace that VolSync populates with it.
    pub populates: Option<String>,
    /// `Kind/name` of its controller.
    pub owner: Option<String>,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub object: ObjectRef,
    pub uid: String,
    pub created: Millis,
    /// `metadata.deletionTimestamp`.
    pub terminating_since: Option<Millis>,
    /// `status.readyToUse`.
    pub ready: bool,
    /// The PVC that it is a snapshot of.
    pub pvc: Option<String>,
    /// `status.boundVolumeSnapshotContentName`.
    pub content: Option<String>,
    /// `Kind/name` of its controller.
    pub owner: Option<String>,
    pub owner_uid: Option<String>,
    /// `status.error.message`.
    pub problem: Option<String>,
    /// `metadata.finalizers`.
    #[serde(default)]
    pub finalizers: Vec<String>,
}

/// Whether the PVC of a volume still exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PvcState {
    Bound,
    Terminating,
    Missing,
    /// Its namespace is not granted, or it may not be read.
    Unreadable,
}

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    /// `metadata.deletionTimestamp`.
    pub terminating_since: Option<Millis>,
    pub reclaim_policy: Option<ReclaimPolicy>,
    /// `spec.csi.volumeHandle`.
    pub handle: String,
    /// `spec.claimRef`.
    pub pvc: ObjectRef,
    pub pvc_uid: Option<String>,
    pub pvc_state: PvcState,
    /// `Kind/name` of the PVC's controller.
    pub pvc_owner: Option<String>,
}

impl Waiting {
    /// The states that a problem can name. An unknown one shows nothing.
    const STATES: [&str; 11] = [
        Self::ForFirstConsumer.as_str(),
        Self::ForScheduling.as_str(),
        Self::CsiLocked.as_str(),
        Self::CsiSlow.as_str(),
        Self::ForDestination.as_str(),
        Self::Populating.as_str(),
        Self::ForSnapshot.as_str(),
        Self::Copying.as_str(),
        Self::NoProvisioner.as_str(),
        Self::Misconfigured.as_str(),
        Self::Terminating.as_str(),
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ForFirstConsumer => "for-first-consumer",
            Self::ForScheduling => "for-scheduling",
            Self::CsiLocked => "csi-locked",
            Self::CsiSlow => "csi-slow",
            Self::ForDestination => "for-destination",
            Self::Populating => "populating",
            Self::ForSnapshot => "for-snapshot",
            Self::Copying => "copying",
            Self::NoProvisioner => "no-provisioner",
            Self::Misconfigured => "misconfigured",
            Self::Terminating => "terminating",
            Self::Unknown => "unknown",
        }
    }
}

impl Pvc {
    /// Returns whether the CSI driver keeps it from being provisioned.
    fn is_stuck(&self) -> bool {
        matches!(self.waiting, Some(Waiting::CsiLocked | Waiting::CsiSlow))
    }
}

pub fn grant_shape() -> GrantShape {
    GrantShape { namespaced: true, ..GrantShape::default() }
}

impl Call for ListPvcs {
    type Answer = Vec<Pvc>;
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn validate(&self) -> Result<(), Error> {
        validate_namespaces(&self.namespaces)
    }
}

impl ReadCall for ListPvcs {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::List, "", "persistentvolumeclaims", Scope::Effect),
            Rule::new(Verb::List, "", "events", Scope::Effect),
            Rule::new(Verb::List, "", "persistentvolumes", Scope::Cluster),
            Rule::new(Verb::List, "storage.k8s.io", "storageclasses", Scope::Cluster),
        ]
    }
    fn waits(&self) -> Duration {
        Duration::ZERO
    }
    fn observes_time(&self) -> bool {
        false
    }
    fn ends_plan(&self) -> Option<&'static str> {
        None
    }
    fn overlay(&self, _: &PlannedChanges, answer: Vec<Pvc>) -> Vec<Pvc> {
        answer
    }
    fn evidence(&self, answer: &Vec<Pvc>) -> Vec<EvidenceItem> {
        let waits_for_driver = |pvc: &&Pvc| pvc.phase == Phase::Pending && pvc.is_stuck();
        answer
            .iter()
            .filter(waits_for_driver)
            .map(|pvc| EvidenceItem::new(EvidenceItem::PENDING_PVC, pvc.uid.clone(), ""))
            .collect()
    }
    fn predicate() -> Predicate {
        Predicate::States(&Waiting::STATES)
    }
    fn evaluate(&self, problem: &Problem, answer: &Vec<Pvc>, _: &[Evaluation]) -> Evaluation {
        let mut evaluation = Evaluation::default();
        for pvc in answer {
            let shows = match (problem.read.covers_driver(pvc.driver.as_deref()), pvc.waiting) {
                (Some(false), _) => continue,
                (None, _) => Subject::Unknown("has no known driver".into()),
                // The event that said so may have expired.
                (Some(true), Some(Waiting::Unknown)) => {
                    Subject::Unknown("is Pending, and no event says why".into())
                }
                (Some(true), Some(waiting)) => Subject::State(waiting.as_str()),
                (Some(true), None) if pvc.phase == Phase::Bound => Subject::Healthy,
                (Some(true), None) => Subject::Unknown("is not bound".into()),
            };
            // mutant uid-ignored: &pvc.uid, ~> &pvc.object.to_string(),
            evaluation.add(problem, ("PVC", &pvc.object), &pvc.uid, shows);
        }
        evaluation
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<Pvc>>) -> Option<Self> {
        Some(self.clone())
    }
    fn observe(&self, _: &Vec<Pvc>, _: &mut Observations) {}
}

impl Call for ListSnapshots {
    type Answer = Vec<Snapshot>;
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn validate(&self) -> Result<(), Error> {
        validate_namespaces(&self.namespaces)
    }
}

impl ReadCall for ListSnapshots {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![Rule::new(Verb::List, SNAPSHOT, "volumesnapshots", Scope::Effect)]
    }
    fn waits(&self) -> Duration {
        Duration::ZERO
    }
    fn observes_time(&self) -> bool {
        false
    }
    fn ends_plan(&self) -> Option<&'static str> {
        None
    }
    fn overlay(&self, planned: &PlannedChanges, mut answer: Vec<Snapshot>) -> Vec<Snapshot> {
        answer.retain(|snapshot| {
            !snapshot.owner_uid.as_ref().is_some_and(|uid| planned.deleted.contains(uid))
        });
        answer
    }
    fn evidence(&self, _: &Vec<Snapshot>) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Vec<Snapshot>, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<Snapshot>>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Vec<Snapshot>, _: &mut Observations) {}
}

impl Call for ListOtherVolumes {
    type Answer = Vec<Volume>;
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn validate(&self) -> Result<(), Error> {
        name::object(&self.driver)?;
        validate_namespaces(&self.namespaces)
    }
}

impl ReadCall for ListOtherVolumes {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::List, "", "persistentvolumes", Scope::Cluster),
            Rule::new(Verb::List, "", "persistentvolumeclaims", Scope::GrantedNamespaces),
        ]
    }
    fn waits(&self) -> Duration {
        Duration::ZERO
    }
    fn observes_time(&self) -> bool {
        false
    }
    fn ends_plan(&self) -> Option<&'static str> {
        None
    }
    fn overlay(&self, _: &PlannedChanges, answer: Vec<Volume>) -> Vec<Volume> {
        answer
    }
    fn evidence(&self, _: &Vec<Volume>) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Vec<Volume>, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<Volume>>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Vec<Volume>, _: &mut Observations) {}
}
