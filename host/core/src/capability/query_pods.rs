//! `query-pods`: pods, and why some have not started.

use super::call::{Call, ReadCall};
use super::types::{ObjectRef, Pod, all_of, validate_namespaces};
use super::{GrantShape, Observations, PlannedChanges, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::problem::{Evaluation, Predicate, Problem, Subject};
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Lists all pods of these namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListPods {
    pub namespaces: Vec<String>,
}

/// Lists the pods of these namespaces that have not started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListPendingPods {
    pub namespaces: Vec<String>,
}

/// What keeps a pod from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PendingReason {
    Unscheduled,
    /// The kubelet failed to mount or attach a volume, according to an event.
    MountFailed,
    ContainerWaiting,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingPod {
    pub object: ObjectRef,
    pub uid: String,
    pub created: Millis,
    /// `Kind/name` of its controller.
    pub owner: Option<String>,
    /// `spec.nodeName`.
    pub node: Option<String>,
    pub reason: PendingReason,
    /// Of the condition, of the newest event, or of a container.
    pub message: String,
    /// Names of the PVCs that it mounts.
    pub pvcs: Vec<String>,
}

/// The state of a pod that is not ready.
const NOT_READY: &str = "not-ready";

/// Identifies the workload of a pod across its replacements, or a pod without one.
fn workload(pod: &Pod) -> String {
    let Some(owner) = &pod.owner else { return pod.uid.clone() };
    // A Deployment's ReplicaSets are named after it and a hash of their template.
    let deployment = owner
        .strip_prefix("ReplicaSet/")
        .and_then(|name| name.rsplit_once('-'))
        .map(|(name, _)| format!("Deployment/{name}"));
    format!("{}/{}", pod.namespace, deployment.as_ref().unwrap_or(owner))
}

pub fn grant_shape() -> GrantShape {
    GrantShape { namespaced: true, ..GrantShape::default() }
}

impl Call for ListPods {
    type Answer = Vec<Pod>;
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn validate(&self) -> Result<(), Error> {
        validate_namespaces(&self.namespaces)
    }
}

impl ReadCall for ListPods {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![Rule::new(Verb::List, "", "pods", Scope::Effect)]
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
    fn overlay(&self, _: &PlannedChanges, answer: Vec<Pod>) -> Vec<Pod> {
        answer
    }
    fn evidence(&self, _: &Vec<Pod>) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::States(&[NOT_READY])
    }
    fn evaluate(&self, problem: &Problem, answer: &Vec<Pod>, _: &[Evaluation]) -> Evaluation {
        let mut evaluation = Evaluation::default();
        // A pod that has finished or is being deleted says nothing about its workload.
        let is_current =
            |pod: &&Pod| !pod.terminating && !matches!(pod.phase.as_str(), "Succeeded" | "Failed");
        for pod in answer.iter().filter(is_current) {
            let shows = if pod.ready { Subject::Healthy } else { Subject::State(NOT_READY) };
            let object = ObjectRef::new(&pod.namespace, &pod.name);
            evaluation.add(problem, ("pod", &object), &workload(pod), shows);
        }
        evaluation
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<Pod>>) -> Option<Self> {
        Some(self.clone())
    }
    fn observe(&self, _: &Vec<Pod>, _: &mut Observations) {}
}

impl Call for ListPendingPods {
    type Answer = Vec<PendingPod>;
    fn targets(&self) -> Vec<Target> {
        all_of(&self.namespaces)
    }
    fn validate(&self) -> Result<(), Error> {
        validate_namespaces(&self.namespaces)
    }
}

impl ReadCall for ListPendingPods {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::List, "", "pods", Scope::Effect),
            Rule::new(Verb::List, "", "events", Scope::Effect),
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
    fn overlay(&self, _: &PlannedChanges, answer: Vec<PendingPod>) -> Vec<PendingPod> {
        answer
    }
    fn evidence(&self, _: &Vec<PendingPod>) -> Vec<EvidenceItem> {
        vec![]
    }
    // Events expire, so their absence proves nothing.
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Vec<PendingPod>, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<PendingPod>>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Vec<PendingPod>, _: &mut Observations) {}
}
