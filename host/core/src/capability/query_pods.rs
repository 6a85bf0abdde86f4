//! `query-pods`: lists pods.

use super::call::{Call, ReadCall};
use super::types::{Pod, all_of, validate_namespaces};
use super::{GrantShape, Observations, PlannedChanges, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::outcome::Error;
use crate::proof::{Fact, Proof};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Lists all pods of these namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListPods {
    pub namespaces: Vec<String>,
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
