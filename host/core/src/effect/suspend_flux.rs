//! `suspend-flux`: suspends Flux objects as one change, and gives each back exactly as it was.

use super::{Target, Validate, shared::FluxRef};
use crate::outcome::Error;
use serde::{Deserialize, Serialize};

/// Annotation: the run that suspended this object.
pub const RUN: &str = "salve.dev/run";
/// Annotation: why.
pub const REASON: &str = "salve.dev/reason";
/// Annotation: when the run means to be through, RFC 3339.
pub const DEADLINE: &str = "salve.dev/deadline";
/// Annotation: what `spec.suspend` was before (`absent` or `false`).
pub const PRIOR: &str = "salve.dev/prior";

/// So many objects at most stand in one set.
const MOST: usize = 1000;

/// Suspends a set, one object after the other, each once the one before it rests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspend {
    /// The objects, parents first.
    pub targets: Vec<FluxRef>,
    /// Why, for people who find it.
    pub reason: String,
    /// How long to wait for the drain of each.
    pub drain_seconds: u32,
}

/// Gives it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// The object.
    pub target: FluxRef,
    /// Its uid: a namesake is not ours.
    pub uid: String,
    /// What to restore.
    pub previous: PreviousSuspend,
}

/// `spec.suspend` before: three states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreviousSuspend {
    /// The field was not there.
    Absent,
    /// It said false.
    False,
    /// It said true. Never ours to suspend, so it only occurs in what doctor finds.
    True,
}

/// What was suspended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspended {
    /// uid of the object.
    pub uid: String,
    /// What to restore.
    pub previous: PreviousSuspend,
}

/// What became of one object of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuspendResult {
    /// The object.
    pub target: FluxRef,
    /// How it ended.
    pub outcome: SuspendOutcome,
}

/// How it ended for one object of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuspendOutcome {
    /// This run holds it suspended, and it rests.
    Suspended(Suspended),
    /// Somebody had suspended it already: it stays as they want it.
    AlreadySuspended(String),
    /// It came to nothing, and the objects after it were not tried.
    Failed {
        /// Why.
        error: Error,
        /// Whether the suspend may yet arrive.
        doubtful: bool,
    },
    /// One before it failed.
    NotTried,
}

/// Why a set as a whole came to nothing, if it did.
pub fn failure(holds: &[SuspendResult]) -> Option<&Error> {
    holds.iter().find_map(|hold| match &hold.outcome {
        SuspendOutcome::Failed { error, .. } => Some(error),
        SuspendOutcome::Suspended(_)
        | SuspendOutcome::AlreadySuspended(_)
        | SuspendOutcome::NotTried => None,
    })
}

/// What was given back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// The state it has again.
    pub restored: PreviousSuspend,
    /// Somebody else had changed it meanwhile, and it was left as they want it.
    pub taken_over: Option<String>,
}

impl Validate for Suspend {
    fn targets(&self) -> Vec<Target> {
        self.targets.iter().map(FluxRef::target).collect()
    }
    fn check(&self) -> Result<(), Error> {
        if self.targets.is_empty() || self.targets.len() > MOST {
            return Err(Error::Invalid(format!("a set of {}: 1 to {MOST}", self.targets.len())));
        }
        let mut seen = std::collections::HashSet::new();
        for target in &self.targets {
            target.check()?;
            if !seen.insert(target) {
                return Err(Error::Invalid(format!("{target} stands in the set twice")));
            }
        }
        if self.reason.len() > 1024 {
            return Err(Error::Invalid("a reason of more than 1024 bytes".into()));
        }
        if self.drain_seconds > 3600 {
            return Err(Error::Invalid("a drain of more than an hour".into()));
        }
        Ok(())
    }
}
impl Validate for Resume {
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn check(&self) -> Result<(), Error> {
        self.target.check()
    }
}
