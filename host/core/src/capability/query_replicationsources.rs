//! `query-replicationsources`: VolSync backups and restores, and the state of their PVCs.

use super::call::{Call, ReadCall};
use super::types::{Condition, FluxRef, ObjectRef, VOLSYNC, all_of, validate_namespaces};
use super::{GrantShape, Observations, PlannedChanges, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::problem::{Evaluation, Predicate, Problem, Subject};
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Lists the ReplicationSources of namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListSources {
    pub namespaces: Vec<String>,
}

/// Lists the ReplicationDestinations of namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListDestinations {
    pub namespaces: Vec<String>,
}

/// The state of the PVC that a source backs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PvcState {
    Present,
    Unbound,
    Terminating,
    Missing,
    None,
}

/// The health of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    Healthy,
    Orphan,
    /// Its PVC is being deleted.
    TerminatingSource,
    /// Its PVC has no volume yet.
    UnboundSource,
    /// The sync has been running much longer than any previous one.
    Stuck,
    /// Replicated by something other than VolSync.
    External,
}

impl Health {
    /// The states that a problem can name.
    const STATES: [&str; 5] = [
        Self::Orphan.as_str(),
        Self::TerminatingSource.as_str(),
        Self::UnboundSource.as_str(),
        Self::Stuck.as_str(),
        Self::External.as_str(),
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Orphan => "orphan",
            Self::TerminatingSource => "terminating-source",
            Self::UnboundSource => "unbound-source",
            Self::Stuck => "stuck",
            Self::External => "external",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub object: ObjectRef,
    pub uid: String,
    /// `metadata.generation`.
    pub generation: u64,
    /// SHA-256 of the canonical JSON of `spec`, in lowercase hex.
    pub digest: String,
    pub created: Millis,
    /// `spec.sourcePVC`.
    pub pvc: Option<String>,
    pub pvc_state: PvcState,
    pub health: Health,
    /// The key of the mover in `spec`.
    pub mover: String,
    /// Deleting it destroys keys that its peers trust.
    pub has_identity: bool,
    /// `spec.trigger.schedule`.
    pub schedule: Option<String>,
    /// `spec.paused`.
    pub paused: bool,
    /// `status.lastSyncStartTime`.
    pub syncing_since: Option<Millis>,
    /// `status.lastSyncTime`.
    pub last_sync: Option<Millis>,
    /// `status.latestMoverStatus.result`.
    pub last_result: Option<String>,
    /// The end of `status.latestMoverStatus.logs`.
    #[serde(default)]
    pub last_log: Option<String>,
    /// `copyMethod` of the mover's section.
    #[serde(default)]
    pub copy_method: Option<String>,
    pub condition: Option<Condition>,
    pub labelled_owner: Option<FluxRef>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    pub object: ObjectRef,
    pub uid: String,
    /// `spec.trigger.manual`.
    pub trigger: Option<String>,
    pub done: bool,
    /// `status.lastSyncStartTime`.
    pub syncing_since: Option<Millis>,
    /// `status.lastSyncTime`.
    pub last_sync: Option<Millis>,
    /// `status.latestImage.name`.
    pub latest_image: Option<String>,
    pub condition: Option<Condition>,
}

pub fn grant_shape() -> GrantShape {
    GrantShape { namespaced: true, ..GrantShape::default() }
}

impl Call for ListSources {
    type Answer = Vec<Source>;
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn validate(&self) -> Result<(), Error> {
        validate_namespaces(&self.namespaces)
    }
}

impl ReadCall for ListSources {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::List, VOLSYNC, "replicationsources", Scope::Effect),
            Rule::new(Verb::List, "", "persistentvolumeclaims", Scope::Effect),
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
    fn overlay(&self, planned: &PlannedChanges, mut answer: Vec<Source>) -> Vec<Source> {
        answer.retain(|source| !planned.deleted.contains(&source.uid));
        answer
    }
    fn evidence(&self, _: &Vec<Source>) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::States(&Health::STATES)
    }
    fn evaluate(&self, problem: &Problem, answer: &Vec<Source>, _: &[Evaluation]) -> Evaluation {
        let mut evaluation = Evaluation::default();
        for source in answer {
            let shows = if source.health == Health::Healthy {
                Subject::Healthy
            } else {
                Subject::State(source.health.as_str())
            };
            let object = ("ReplicationSource", &source.object);
            evaluation.add(problem, object, &source.uid, shows);
        }
        evaluation
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<Source>>) -> Option<Self> {
        Some(self.clone())
    }
    fn observe(&self, answer: &Vec<Source>, observations: &mut Observations) {
        observations.sources.extend(answer.iter().cloned());
    }
}

impl Call for ListDestinations {
    type Answer = Vec<Destination>;
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn validate(&self) -> Result<(), Error> {
        validate_namespaces(&self.namespaces)
    }
}

impl ReadCall for ListDestinations {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![Rule::new(Verb::List, VOLSYNC, "replicationdestinations", Scope::Effect)]
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
    fn overlay(&self, _: &PlannedChanges, answer: Vec<Destination>) -> Vec<Destination> {
        answer
    }
    fn evidence(&self, _: &Vec<Destination>) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Vec<Destination>, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<Destination>>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Vec<Destination>, _: &mut Observations) {}
}
