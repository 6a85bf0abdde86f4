//! `query-pvcs`: claims and snapshots, and why a claim waits.

use super::{
    Target, Validate,
    shared::{ObjectRef, all_of, check_namespaces},
};
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};

/// All claims of these namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListPvcs {
    /// The namespaces.
    pub namespaces: Vec<String>,
}

/// All VolumeSnapshots of these namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListSnapshots {
    /// The namespaces.
    pub namespaces: Vec<String>,
}

/// `status.phase` of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits for a volume.
    Pending,
    /// Has one.
    Bound,
    /// Had one.
    Lost,
}

/// Why a claim is Pending: domain.md section 4, one word a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waiting {
    /// Its class binds on first use. Normal.
    ForFirstConsumer,
    /// The driver refused it with an operation lock on this very claim.
    CsiLocked,
    /// The driver's first attempt timed out.
    CsiSlow,
    /// A ReplicationDestination has to restore first.
    ForDestination,
    /// VolSync fills a volume for it.
    Populating,
    /// The snapshot that it is made from is not ready.
    ForSnapshot,
    /// Nobody provisions for this driver.
    NoProvisioner,
    /// Its class is missing or its parameters are refused.
    Misconfigured,
    /// It is being deleted.
    Terminating,
    /// Nothing says why.
    Unknown,
}

/// What becomes of a volume when its claim is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReclaimPolicy {
    /// It is deleted.
    Delete,
    /// It stays.
    Retain,
    /// It is wiped (deprecated by Kubernetes).
    Recycle,
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pvc {
    /// Its names.
    pub object: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created: Millis,
    /// `status.phase`.
    pub phase: Phase,
    /// `metadata.deletionTimestamp`.
    pub terminating_since: Option<Millis>,
    /// Why it is Pending.
    pub waiting: Option<Waiting>,
    /// What that rests on.
    pub evidence: Option<String>,
    /// `spec.storageClassName`.
    pub storage_class: Option<String>,
    /// The driver that provisions it.
    pub driver: Option<String>,
    /// `spec.volumeName`.
    pub volume: Option<String>,
    /// Of its volume, or of its class while it has none.
    pub reclaim_policy: Option<ReclaimPolicy>,
    /// `Kind/name` of what it is filled from.
    pub data_source: Option<String>,
    /// VolSync made it to fill this claim of the same namespace.
    pub populates: Option<String>,
    /// `Kind/name` of its controller.
    pub owner: Option<String>,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
}

/// A VolumeSnapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its names.
    pub object: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created: Millis,
    /// `metadata.deletionTimestamp`.
    pub terminating_since: Option<Millis>,
    /// `status.readyToUse`.
    pub ready: bool,
    /// The claim that it is taken of.
    pub pvc: Option<String>,
    /// `status.boundVolumeSnapshotContentName`.
    pub content: Option<String>,
    /// `Kind/name` of its controller.
    pub owner: Option<String>,
    /// uid of its controller.
    pub owner_uid: Option<String>,
    /// `status.error.message`.
    pub problem: Option<String>,
}

impl Validate for ListPvcs {
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn check(&self) -> Result<(), Error> {
        check_namespaces(&self.namespaces)
    }
}
impl Validate for ListSnapshots {
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn check(&self) -> Result<(), Error> {
        check_namespaces(&self.namespaces)
    }
}
