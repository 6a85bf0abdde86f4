//! `delete-replicationsources`: deletes ReplicationSources of a frozen set.

use super::{Call, Target, shared::ObjectRef};
use crate::outcome::Error;
use serde::{Deserialize, Serialize};

/// Deletes the set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delete {
    /// What was chosen, as it was when it was chosen.
    pub set: Vec<Frozen>,
    /// How fast.
    pub pace: Pace,
}

/// One object as it was when it was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// Its names.
    pub object: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// Of its `spec`.
    pub digest: String,
}

/// How fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// So many at once.
    pub at_once: u32,
    /// So many milliseconds between two groups.
    pub pause: u32,
}

/// How it ended for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Deleted by us.
    Deleted,
    /// Gone before we came.
    AlreadyGone,
    /// Another object bears its name. Left alone.
    Replaced,
    /// Its spec is another one. Left alone.
    Changed,
    /// The cluster refused or did not answer.
    Refused,
}

/// How it ended for one object, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deletion {
    /// Its names.
    pub object: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// How it ended.
    pub end: End,
    /// Why.
    pub message: Option<String>,
}

impl Call for Delete {
    fn targets(&self) -> Vec<Target> {
        self.set.iter().map(|f| f.object.target()).collect()
    }
    fn check(&self) -> Result<(), Error> {
        if self.set.is_empty() || self.set.len() > 10_000 {
            return Err(Error::Invalid(format!("a set of {}: 1 to 10000", self.set.len())));
        }
        if !(1..=64).contains(&self.pace.at_once) || self.pace.pause > 600_000 {
            return Err(Error::Invalid("a pace of 1 to 64 at once, with at most 10 minutes between".into()));
        }
        let mut seen = std::collections::HashSet::new();
        for frozen in &self.set {
            frozen.object.check()?;
            if frozen.uid.is_empty() || frozen.digest.is_empty() {
                return Err(Error::Invalid(format!("{} without uid or digest: nothing is deleted by name alone", frozen.object)));
            }
            if !seen.insert(&frozen.object) {
                return Err(Error::Invalid(format!("{} stands in the set twice", frozen.object)));
            }
        }
        Ok(())
    }
}
