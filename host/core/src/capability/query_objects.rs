//! `query-objects`: reads objects of any granted kind as JSON, except Secrets.

use super::GrantKinds;
use super::call::{Call, ReadCall};
use super::{GrantShape, Observations, PlannedChanges, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::proof::{Fact, Proof};
use crate::{name, outcome::Error};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A kind by its group and plural.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    /// Empty for the core group.
    pub group: String,
    /// The plural, lowercase.
    pub resource: String,
}

impl Kind {
    /// Returns `resource.group`, as grants write it.
    pub fn resource_group(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
    /// Parses `resource.group`.
    ///
    /// # Errors
    /// It is not a kind, or it is Secrets. A slash would address a subresource.
    pub fn parse(kind: &str) -> Result<Self, Error> {
        let (resource, group) = kind.split_once('.').unwrap_or((kind, ""));
        let kind = Self { group: group.into(), resource: resource.into() };
        kind.check()?;
        Ok(kind)
    }
    fn target(&self, namespace: Option<String>, name: Option<String>) -> Target {
        let kind = self.resource_group();
        Target { kind: None, namespace, name }.with_kind(kind.clone(), kind)
    }

    fn check(&self) -> Result<(), Error> {
        name::group(&self.group)?;
        name::resource(&self.resource)?;
        if self.group.is_empty() && self.resource == "secrets" {
            return Err(Error::Invalid("Secrets can never be read, whatever is granted".into()));
        }
        Ok(())
    }
}

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

/// Returns the rule for each kind that the grant names. A pattern names none: a Role has to.
fn rules(verb: Verb, scope: Scope, grant: Option<&Grant>) -> Vec<Rule> {
    let Some(grant) = grant else { return vec![Rule::new(verb, "*", "*", scope)] };
    let kinds = grant.kinds.iter().flatten().filter(|kind| kind.is_plain());
    kinds
        .filter_map(|kind| Kind::parse(kind.as_str()).ok())
        .map(|kind| Rule::new(verb, kind.group, kind.resource, scope))
        .collect()
}

impl Call for ListObjects {
    type Answer = Page;
    fn targets(&self) -> Vec<Target> {
        vec![self.kind.target(self.namespace.clone(), None)]
    }
    fn validate(&self) -> Result<(), Error> {
        self.kind.check()?;
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
        rules(Verb::List, Scope::Effect, grant)
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
    fn proof(&self, _: &Page, _: &[Fact]) -> Proof {
        Proof::default()
    }
    fn observe(&self, _: &Page, _: &mut Observations) {}
}

impl Call for GetObject {
    type Answer = String;
    fn targets(&self) -> Vec<Target> {
        vec![self.kind.target(self.namespace.clone(), Some(self.name.clone()))]
    }
    fn validate(&self) -> Result<(), Error> {
        self.kind.check()?;
        if let Some(ns) = &self.namespace {
            name::namespace(ns)?;
        }
        name::object(&self.name)
    }
}

impl ReadCall for GetObject {
    fn requests(grant: Option<&Grant>) -> Vec<Rule> {
        rules(Verb::Get, Scope::Target, grant)
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
    fn proof(&self, _: &String, _: &[Fact]) -> Proof {
        Proof::default()
    }
    fn observe(&self, _: &String, _: &mut Observations) {}
}
