//! `suspend-flux`: suspends one Flux object, and gives it back exactly as it was.

use super::{Call, Target, shared::FluxRef};
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

/// Suspends an object and waits for the reconciliation in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspend {
    /// The object.
    pub target: FluxRef,
    /// Why, for people who find it.
    pub reason: String,
    /// How long to wait for the drain.
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
    pub prior: Prior,
}

/// `spec.suspend` before: three states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prior {
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
    pub prior: Prior,
}

/// What was given back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// The state it has again.
    pub restored: Prior,
    /// Somebody else had changed it meanwhile, and it was left as they want it.
    pub taken_over: Option<String>,
}

impl Call for Suspend {
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn check(&self) -> Result<(), Error> {
        self.target.check()?;
        if self.reason.len() > 1024 {
            return Err(Error::Invalid("a reason of more than 1024 bytes".into()));
        }
        if self.drain_seconds > 3600 {
            return Err(Error::Invalid("a drain of more than an hour".into()));
        }
        Ok(())
    }
}
impl Call for Resume {
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn check(&self) -> Result<(), Error> {
        self.target.check()
    }
}
