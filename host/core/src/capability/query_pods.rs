//! `query-pods`: pods, and why some have not started.

use super::call::{Call, ReadCall};
use super::types::{ObjectRef, Pod, all_of, validate_namespaces};
use super::{GrantShape, Observations, PlannedChanges, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::proof::{Fact, Proof};
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
    fn proof(&self, answer: &Vec<Pod>, _: &[Fact]) -> Proof {
        // mutant no-pods-prove-health: !answer.is_empty() && answer ~> answer
        let healthy =
            !answer.is_empty() && answer.iter().all(|pod| pod.ready || pod.phase == "Succeeded");
        Proof { shows_absence: healthy, ..Proof::default() }
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
    fn proof(&self, _: &Vec<PendingPod>, _: &[Fact]) -> Proof {
        Proof::default()
    }
    fn observe(&self, _: &Vec<PendingPod>, _: &mut Observations) {}
}
