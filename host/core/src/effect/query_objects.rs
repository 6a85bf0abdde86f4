//! `query-objects`: any other kind, as JSON. Never Secrets.

use super::{Target, Validate};
use crate::{name, outcome::Error};
use serde::{Deserialize, Serialize};

/// A kind by its group and plural.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    /// Empty for the core group.
    pub group: String,
    /// The plural in lower case.
    pub resource: String,
}

impl Kind {
    /// `resource.group`, as grants spell it.
    pub fn word(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
    /// What a word like [`Self::word`]'s means.
    ///
    /// # Errors
    /// Where it can be no kind, or means Secrets: a slash would reach a subresource.
    pub fn spelt(word: &str) -> Result<Self, Error> {
        let (resource, group) = word.split_once('.').unwrap_or((word, ""));
        let kind = Self { group: group.into(), resource: resource.into() };
        kind.check()?;
        Ok(kind)
    }
    fn check(&self) -> Result<(), Error> {
        name::group(&self.group)?;
        name::resource(&self.resource)?;
        if self.group.is_empty() && self.resource == "secrets" {
            return Err(Error::Invalid(
                "Secrets cannot be read through Salve, whatever is granted".into(),
            ));
        }
        Ok(())
    }
}

/// One page of a kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListObjects {
    /// The kind.
    pub kind: Kind,
    /// None for kinds without a namespace.
    pub namespace: Option<String>,
    /// As kubectl's `-l`.
    pub label_selector: Option<String>,
    /// 1 to 500.
    pub limit: u32,
    /// Where the page before ended.
    pub next: Option<String>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetObject {
    /// The kind.
    pub kind: Kind,
    /// None for kinds without a namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// One JSON text an object.
    pub objects: Vec<String>,
    /// Where the next page begins.
    pub next: Option<String>,
}

impl Validate for ListObjects {
    fn targets(&self) -> Vec<Target> {
        vec![Target { kind: Some(self.kind.word()), namespace: self.namespace.clone(), name: None }]
    }
    fn check(&self) -> Result<(), Error> {
        self.kind.check()?;
        if let Some(ns) = &self.namespace {
            name::namespace(ns)?;
        }
        if !(1..=500).contains(&self.limit) {
            return Err(Error::Invalid(format!("a page of {}: 1 to 500", self.limit)));
        }
        Ok(())
    }
}
impl Validate for GetObject {
    fn targets(&self) -> Vec<Target> {
        vec![Target {
            kind: Some(self.kind.word()),
            namespace: self.namespace.clone(),
            name: Some(self.name.clone()),
        }]
    }
    fn check(&self) -> Result<(), Error> {
        self.kind.check()?;
        if let Some(ns) = &self.namespace {
            name::namespace(ns)?;
        }
        name::object(&self.name)
    }
}
