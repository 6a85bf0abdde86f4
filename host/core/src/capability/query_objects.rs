//! `query-objects`: reads objects of any granted kind as JSON, except Secrets.

use super::call::{Call, ReadCall};
use super::types::Kind;
use super::{GrantKinds, GrantShape, Observations, PlannedChanges, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::problem::{Evaluation, Predicate, Problem};
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Lists one page of objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListObjects {
    pub kind: Kind,
    /// None for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// In the syntax of `kubectl -l`.
    pub label_selector: Option<String>,
    pub limit: u32,
    /// `next` of the previous page.
    pub next: Option<String>,
}

/// Reads one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetObject {
    pub kind: Kind,
    /// None for cluster-scoped kinds.
    pub namespace: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// One JSON text per object.
    pub objects: Vec<String>,
    /// Continues with the next page, if there is one.
    pub next: Option<String>,
}

pub fn grant_shape() -> GrantShape {
    GrantShape { kinds: GrantKinds::Any, ..GrantShape::default() }
}

impl Call for ListObjects {
    type Answer = Page;
    fn targets(&self) -> Vec<Target> {
        vec![self.kind.target(self.namespace.clone(), None)]
    }
    fn validate(&self) -> Result<(), Error> {
        self.kind.validate()?;
        if let Some(ns) = &self.namespace {
            name::namespace(ns)?;
        }
        if !(1..=500).contains(&self.limit) {
            return Err(Error::Invalid(format!("limit {}: must be 1 to 500", self.limit)));
        }
        Ok(())
    }
}

impl ReadCall for ListObjects {
    fn requests(grant: Option<&Grant>) -> Vec<Rule> {
        Kind::rules(Verb::List, Scope::Effect, grant)
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
    fn overlay(&self, _: &PlannedChanges, answer: Page) -> Page {
        answer
    }
    fn evidence(&self, _: &Page) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Page, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Page>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Page, _: &mut Observations) {}
}

impl Call for GetObject {
    type Answer = String;
    fn targets(&self) -> Vec<Target> {
        vec![self.kind.target(self.namespace.clone(), Some(self.name.clone()))]
    }
    fn validate(&self) -> Result<(), Error> {
        self.kind.validate()?;
        if let Some(ns) = &self.namespace {
            name::namespace(ns)?;
        }
        name::object(&self.name)
    }
}

impl ReadCall for GetObject {
    fn requests(grant: Option<&Grant>) -> Vec<Rule> {
        Kind::rules(Verb::Get, Scope::Target, grant)
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
    fn overlay(&self, _: &PlannedChanges, answer: String) -> String {
        answer
    }
    fn evidence(&self, _: &String) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &String, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&String>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &String, _: &mut Observations) {}
}
