//! `query-flux`: who owns an object, who suspended what, and whether a suspend would last.

use super::{
    Target, Validate,
    shared::{Condition, FluxRef, ObjectRef},
};
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};

/// Who owns these objects?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindOwners {
    /// The objects.
    pub subjects: Vec<Subject>,
}

/// How is this Flux object?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Get {
    /// The object.
    pub target: FluxRef,
}

/// A kind that can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    /// Of VolSync.
    ReplicationSource,
    /// A claim.
    PersistentVolumeClaim,
    /// A workload.
    Deployment,
}

impl SubjectKind {
    /// All of them.
    pub const ALL: [Self; 3] =
        [Self::ReplicationSource, Self::PersistentVolumeClaim, Self::Deployment];
    /// As grants spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::ReplicationSource => "replication-source",
            Self::PersistentVolumeClaim => "persistent-volume-claim",
            Self::Deployment => "deployment",
        }
    }
    /// The API group; empty for core.
    pub fn group(self) -> &'static str {
        match self {
            Self::ReplicationSource => "volsync.backube",
            Self::PersistentVolumeClaim => "",
            Self::Deployment => "apps",
        }
    }
    /// The plural in lower case.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ReplicationSource => "replicationsources",
            Self::PersistentVolumeClaim => "persistentvolumeclaims",
            Self::Deployment => "deployments",
        }
    }
}

/// An object that may have an owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Its kind.
    pub kind: SubjectKind,
    /// Its names.
    pub object: ObjectRef,
}

/// Whether somebody would bring it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// Its owner names it in its inventory.
    Managed,
    /// It bears the labels of an owner that is gone or no longer names it.
    Abandoned,
    /// Another tool owns it.
    Foreign,
    /// Nobody owns it.
    Unmanaged,
}

/// Who owns an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnerInfo {
    /// The object.
    pub subject: Subject,
    /// Whether somebody would bring it back.
    pub ownership: Ownership,
    /// The Kustomization or HelmRelease, where it exists.
    pub owner: Option<FluxObject>,
    /// What the standing rests on.
    pub evidence: String,
}

/// Why an object is suspended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuspendedBy {
    /// The field manager that owns `spec.suspend`.
    pub manager: Option<String>,
    /// When.
    pub since: Option<Millis>,
    /// The Salve run that did it.
    pub run: Option<String>,
}

/// A Flux object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FluxObject {
    /// Its names.
    pub target: FluxRef,
    /// Its uid.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: u64,
    /// `spec.suspend` is true.
    pub suspended: Option<SuspendedBy>,
    /// Condition Ready.
    pub ready: Option<Condition>,
    /// A reconciliation is going on.
    pub reconciling: bool,
    /// Where its manifests come from.
    pub source: Option<FluxRef>,
    /// `spec.interval`.
    pub interval_seconds: u64,
    /// Who applies this object itself.
    pub parent: Option<FluxRef>,
    /// The parent would undo a suspend.
    pub parent_reverts: bool,
    /// Re-creates what was deleted.
    pub corrects_drift: bool,
}

impl Validate for FindOwners {
    fn targets(&self) -> Vec<Target> {
        self.subjects.iter().map(|s| s.object.target().kind(s.kind.word())).collect()
    }
    fn check(&self) -> Result<(), Error> {
        if self.subjects.len() > 1000 {
            return Err(Error::Invalid(format!(
                "{} objects: at most 1000 in one call",
                self.subjects.len()
            )));
        }
        self.subjects.iter().try_for_each(|s| s.object.check())
    }
}
impl Validate for Get {
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn check(&self) -> Result<(), Error> {
        self.target.check()
    }
}
