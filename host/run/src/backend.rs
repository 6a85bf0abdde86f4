//! Where calls are performed.

use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::capability::{Answer, Read, Released, Reversal, Write};
use salve_core::footprint::Footprint;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use std::time::Duration;

/// A cluster, live or simulated.
///
/// # Guarantees
/// - No request leaves that the [`Footprint`] does not cover.
/// - `read`, `read_current`, and `read_reversal` change nothing in the cluster.
/// - `apply` writes what `observed` was read for and nothing else. If its own response is lost, it
///   determines the outcome by reading before it returns. For a set, an error means that it is not
///   known how far it came.
/// - `resolve` determines by reading the outcome of an `apply` whose response was lost. What was
///   not applied can no longer be applied afterwards, unless the outcome says `in_doubt`.
/// - `release` may be repeated: a second one changes nothing.
///
/// # Assumptions
/// The call passed its validation and the grants. `apply` is only called once the entry that holds
/// `observed` is on disk.
pub trait Backend: Send + Sync {
    fn read<'a>(
        &'a self,
        read: &'a Read,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Answer, Error>>;

    /// Reads the objects of a write. `before` is what an earlier attempt was prepared against.
    fn read_current<'a>(
        &'a self,
        write: &'a Write,
        before: Option<&'a ObservedState>,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Current<Answer>, Error>>;

    fn apply<'a>(
        &'a self,
        write: &'a Write,
        observed: &'a ObservedState,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome>;

    /// Determines the outcome of a write in doubt. `Conflict`: it was not applied.
    fn resolve<'a>(
        &'a self,
        write: &'a Write,
        observed: &'a ObservedState,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome>;

    /// Reads the object of a reversal. `in_doubt` is what its write was prepared against, if that
    /// may still take effect.
    fn read_reversal<'a>(
        &'a self,
        reversal: &'a Reversal,
        in_doubt: Option<&'a ObservedState>,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Current<Released>, Error>>;

    fn release<'a>(
        &'a self,
        reversal: &'a Reversal,
        observed: &'a ObservedState,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, ReleaseOutcome>;
}

/// The state of the objects of a write or a reversal.
#[derive(Clone, Debug, PartialEq)]
pub enum Current<A> {
    /// It can be sent against this state.
    Ready(ObservedState),
    /// There is nothing to send.
    AlreadyDone(A),
}

/// The outcome of an attempt to write.
#[derive(Clone, Debug)]
pub enum ApplyOutcome {
    Done(Result<Answer, Error>),
    /// The objects changed since `observed` was read (409): nothing, or not all, was applied.
    Conflict {
        /// The answer for what was applied.
        completed: Option<Answer>,
        /// What has to be prepared again.
        remaining: Write,
        message: String,
        /// The attempt may still be applied.
        in_doubt: bool,
    },
}

/// The outcome of an attempt to release.
#[derive(Clone, Debug)]
pub enum ReleaseOutcome {
    Done(Result<Released, Error>),
    /// The object changed since `observed` was read, or the outcome is unknown: try again.
    Conflict(String),
}

/// The cluster's time.
pub trait Clock: Send + Sync {
    /// Returns milliseconds since the epoch.
    fn now(&self) -> Millis;
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}
