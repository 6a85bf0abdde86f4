//! `tail-logs`: the logs of all pods of a Deployment, one container, in bounded pages.
//!
//! A cursor is its query and its position. Both stand in the effect, so a page can be asked for again
//! by anybody who has the journal, and the host keeps no other state.

use super::{Target, Validate, shared::ObjectRef};
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};

/// What a cursor reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// Whose pods.
    pub deployment: ObjectRef,
    /// Which container.
    pub container: String,
    /// Only later lines.
    pub since: Option<Millis>,
    /// At most so many lines of the end of each log at the first page.
    pub tail_lines: Option<u32>,
    /// At most so many bytes a pod and a page.
    pub limit_bytes: u32,
    /// A regular expression; none for every line.
    pub pattern: Option<String>,
}

impl Query {
    /// Names and limits. Whether the pattern is one, the performer says.
    pub fn check(&self) -> Result<(), Error> {
        self.deployment.check()?;
        name::namespace(&self.container)?;
        if !(1..=16 << 20).contains(&self.limit_bytes) {
            return Err(Error::Invalid(format!("limit-bytes {}: 1 to 16777216", self.limit_bytes)));
        }
        if self.pattern.as_ref().is_some_and(|p| p.len() > 4096) {
            return Err(Error::Invalid("a pattern of more than 4096 bytes".into()));
        }
        Ok(())
    }
}

/// How far one pod's log has been read. The API server keeps whole seconds in `sinceTime`, so lines are
/// counted from the latest instant on; some that follow may bear an earlier time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// uid of the pod.
    pub pod: String,
    /// The latest timestamp read, as the API server wrote it (RFC 3339 with nanoseconds).
    pub timestamp: String,
    /// How many lines were read from the first of that timestamp on, that one included; of its second and later ones.
    pub ordinal: u32,
}

/// The next page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextPage {
    /// What is read.
    pub query: Query,
    /// Where the page before ended; empty at first.
    pub after: Vec<Position>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The pod's name.
    pub pod: String,
    /// By the node's clock.
    pub time: Millis,
    /// Without the timestamp.
    pub text: String,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// What matched.
    pub lines: Vec<Line>,
    /// The pods that were read.
    pub pods: Vec<String>,
    /// Pods that could not be, each with the reason.
    pub unreadable: Vec<String>,
    /// Lines read, matching or not.
    pub lines_read: u64,
    /// There is more at once.
    pub more: bool,
    /// The newest line read, matching or not.
    pub newest: Option<Millis>,
    /// Where the next page begins.
    pub position: Vec<Position>,
}

impl Validate for NextPage {
    fn targets(&self) -> Vec<Target> {
        vec![self.query.deployment.target()]
    }
    fn check(&self) -> Result<(), Error> {
        self.query.check()
    }
}
