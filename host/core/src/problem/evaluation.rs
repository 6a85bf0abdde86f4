//! What one answer shows about a problem.

use super::Problem;
use crate::capability::tail_logs::LogPosition;
use crate::capability::types::ObjectRef;
use std::collections::{BTreeMap, BTreeSet};

/// What an answer shows about a problem. Subjects are identified by UID, those of logs and pods by
/// their workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Why it proves nothing.
    pub incomplete: Option<String>,
    /// More pages follow.
    pub more: bool,
    /// The subjects that show the problem.
    pub affected: BTreeMap<String, Affected>,
    /// The subjects that do not.
    pub healthy: BTreeSet<String>,
    /// The subjects of which the answer does not say whether they show it, described.
    pub unknown: BTreeMap<String, String>,
    /// Where the next page of a log starts.
    pub log: Option<LogPosition>,
}

/// A subject that shows the problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Affected {
    /// Its kind and name.
    pub subject: String,
    /// What it shows.
    pub shows: String,
}

impl Affected {
    pub fn new(kind: &str, object: &ObjectRef, shows: String) -> Self {
        Self { subject: format!("{kind} {object}"), shows }
    }
}

/// What an object shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// It is in this state.
    State(&'static str),
    /// It is in none of the states.
    Healthy,
    /// Why that is not known.
    Unknown(String),
}

impl Evaluation {
    /// Returns an evaluation that proves nothing.
    pub fn incomplete(why: impl Into<String>) -> Self {
        Self { incomplete: Some(why.into()), ..Self::default() }
    }

    /// Adds an object, if it is in the scope of the problem. A second object with the same `id` can
    /// only make it worse.
    pub fn add(
        &mut self,
        problem: &Problem,
        (kind, object): (&str, &ObjectRef),
        id: &str,
        shows: Subject,
    ) {
        if !problem.read.covers(&object.namespace, &object.name) {
            return;
        }
        match shows {
            Subject::State(state) if problem.has_state(state) => {
                self.healthy.remove(id);
                let shows = format!("is {state}");
                self.affected.insert(id.to_owned(), Affected::new(kind, object, shows));
            }
            Subject::State(_) | Subject::Healthy => {
                if !self.affected.contains_key(id) && !self.unknown.contains_key(id) {
                    self.healthy.insert(id.to_owned());
                }
            }
            Subject::Unknown(why) => {
                self.healthy.remove(id);
                self.unknown.insert(id.to_owned(), format!("{kind} {object} {why}"));
            }
        }
    }
}
