//! `query-flux`: the owner of an object, and the state of Flux objects.

use super::call::{Call, ReadCall};
use super::types::{Condition, FluxRef, ObjectRef, VOLSYNC, flux_owner_rules, flux_rules};
use super::{GrantKinds, GrantShape, Observations, PlannedChanges, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::problem::{Evaluation, Predicate, Problem};
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Finds the owners of objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindOwners {
    pub subjects: Vec<Subject>,
}

/// Reads a Flux object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetFluxObject {
    pub target: FluxRef,
}

/// A kind whose owner can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    ReplicationSource,
    PersistentVolumeClaim,
    Deployment,
}

impl SubjectKind {
    pub const ALL: [Self; 3] =
        [Self::ReplicationSource, Self::PersistentVolumeClaim, Self::Deployment];
    /// Returns the kind, as in manifests.
    pub fn label(self) -> &'static str {
        match self {
            Self::ReplicationSource => "ReplicationSource",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Deployment => "Deployment",
        }
    }
    /// Returns `resource.group`, as grants write it.
    pub fn resource(self) -> String {
        match self.group() {
            "" => self.plural().into(),
            group => format!("{}.{group}", self.plural()),
        }
    }
    /// Returns the API group; empty for core.
    pub fn group(self) -> &'static str {
        match self {
            Self::ReplicationSource => VOLSYNC,
            Self::PersistentVolumeClaim => "",
            Self::Deployment => "apps",
        }
    }
    /// Returns the plural.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ReplicationSource => "replicationsources",
            Self::PersistentVolumeClaim => "persistentvolumeclaims",
            Self::Deployment => "deployments",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    pub kind: SubjectKind,
    pub object: ObjectRef,
}

/// Who would recreate an object that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// Its owner names it in its inventory.
    Managed,
    /// It has the labels of an owner that applied everything and no longer lists it.
    Abandoned,
    /// It has the labels of an owner that is not in this cluster.
    UnknownOwner,
    Foreign,
    Unmanaged,
}

/// The owner of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnerInfo {
    pub subject: Subject,
    pub ownership: Ownership,
    /// The Kustomization or HelmRelease, if it exists.
    pub owner: Option<FluxObject>,
    /// Why it has this ownership.
    pub evidence: String,
}

/// Why an object is suspended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuspendedBy {
    /// The field manager that owns `spec.suspend`.
    pub manager: Option<String>,
    pub since: Option<Millis>,
    /// The Salve run that suspended it.
    pub run: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FluxObject {
    pub target: FluxRef,
    pub uid: String,
    /// `metadata.generation`.
    pub generation: u64,
    /// `spec.suspend` is true.
    pub suspended: Option<SuspendedBy>,
    pub ready: Option<Condition>,
    /// A reconciliation is in progress.
    pub reconciling: bool,
    /// The source of its manifests.
    pub source: Option<FluxRef>,
    /// `spec.interval`.
    pub interval_seconds: u64,
    /// The object that applies this one.
    pub parent: Option<FluxRef>,
    /// The parent would revert a suspension.
    pub parent_reverts: bool,
    /// The parent would report failed health checks during a suspension.
    #[serde(default)]
    pub parent_waits: bool,
    pub corrects_drift: bool,
}

pub fn grant_shape() -> GrantShape {
    let subjects = SubjectKind::ALL.into_iter().map(SubjectKind::resource);
    let kinds = subjects.chain(super::types::FluxKind::ALL.into_iter().map(|kind| kind.resource()));
    GrantShape {
        kinds: GrantKinds::Known(kinds.collect()),
        namespaced: true,
        ..GrantShape::default()
    }
}

impl Call for FindOwners {
    type Answer = Vec<OwnerInfo>;
    fn targets(&self) -> Vec<Target> {
        let target = |subject: &Subject| {
            subject.object.target().with_kind(subject.kind.resource(), subject.kind.label())
        };
        self.subjects.iter().map(target).collect()
    }
    fn validate(&self) -> Result<(), Error> {
        if self.subjects.len() > 1000 {
            return Err(Error::Invalid(format!(
                "{} subjects: the maximum is 1000",
                self.subjects.len()
            )));
        }
        self.subjects.iter().try_for_each(|subject| subject.object.validate())
    }
}

impl ReadCall for FindOwners {
    fn requests(grant: Option<&Grant>) -> Vec<Rule> {
        let kinds = grant.and_then(|grant| grant.kinds.as_deref());
        let subjects = SubjectKind::ALL
            .into_iter()
            .filter(|kind| GrantKinds::covers(kinds, &kind.resource()))
            .map(|kind| Rule::new(Verb::Get, kind.group(), kind.plural(), Scope::Target));
        subjects.chain(flux_owner_rules()).collect()
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
    fn overlay(&self, _: &PlannedChanges, answer: Vec<OwnerInfo>) -> Vec<OwnerInfo> {
        answer
    }
    fn evidence(&self, _: &Vec<OwnerInfo>) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Vec<OwnerInfo>, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<OwnerInfo>>) -> Option<Self> {
        None
    }
    fn observe(&self, answer: &Vec<OwnerInfo>, observations: &mut Observations) {
        observations.owners.extend(answer.iter().cloned());
    }
}

impl Call for GetFluxObject {
    type Answer = FluxObject;
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn validate(&self) -> Result<(), Error> {
        self.target.validate()
    }
}

impl ReadCall for GetFluxObject {
    fn requests(grant: Option<&Grant>) -> Vec<Rule> {
        let mut rules = flux_rules(Verb::Get, Scope::Target, grant);
        rules.extend(flux_owner_rules());
        rules
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
    fn overlay(&self, _: &PlannedChanges, answer: FluxObject) -> FluxObject {
        answer
    }
    fn evidence(&self, _: &FluxObject) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &FluxObject, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&FluxObject>) -> Option<Self> {
        None
    }
    fn observe(&self, answer: &FluxObject, observations: &mut Observations) {
        observations.flux.push(answer.clone());
    }
}
