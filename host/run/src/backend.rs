//! Where effects are performed. The one thing that the door needs from outside.

use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::effect::{Answer, Read, Write};
use salve_core::footprint::Footprint;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use std::time::Duration;

/// A cluster, live or simulated.
///
/// # Guarantees
/// - No request leaves that the [`Footprint`] does not cover.
/// - `look` and `prepare` change nothing in the cluster.
/// - `act` writes what `observed` was read for and nothing else; where its own answer got lost, it has
///   settled what happened by reading before it returns. Of a set, an error means that it is not known how far it came.
/// - `settle` finds out by reading what became of an `act` that nobody waited for. What was not applied cannot
///   be applied late, or does then what a second sending would do.
///
/// # Assumptions
/// The effect passed [`salve_core::effect::Effect::check`] and the grants; `act` is only called after the
/// entry that holds `observed` is on the disk.
pub trait Backend: Send + Sync {
    /// Reads.
    fn look<'a>(
        &'a self,
        look: &'a Read,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Answer, Error>>;

    /// Reads what a write has to know: prior state, uid, resourceVersion. `before` is what an attempt before it was
    /// prepared against; of a release, what the suspend was, if that may yet arrive.
    fn prepare<'a>(
        &'a self,
        write: &'a Write,
        before: Option<&'a ObservedState>,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Prepared, Error>>;

    /// Writes.
    fn act<'a>(
        &'a self,
        write: &'a Write,
        observed: &'a ObservedState,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome>;

    /// Finds out what became of a write whose sender died or gave up: `Done` where it was applied, else `Conflict`.
    fn settle<'a>(
        &'a self,
        write: &'a Write,
        observed: &'a ObservedState,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome>;
}

/// What a write would meet.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one a touch, moved once")]
pub enum Prepared {
    /// It can be sent against this state.
    Ready(ObservedState),
    /// There is nothing to send: the answer is known already.
    AlreadyDone(Answer),
}

/// What became of a write.
#[derive(Clone, Debug)]
pub enum ApplyOutcome {
    /// It came to this.
    Done(Result<Answer, Error>),
    /// The object had changed since `observed` was read (409): nothing, or not all, was applied. What was
    /// applied is in `completed`; `rest` has to be prepared anew.
    Conflict {
        /// The answer for what was applied.
        completed: Option<Answer>,
        /// What is left to do.
        rest: Write,
        /// What the cluster said.
        message: String,
    },
}

/// Time as the cluster counts it.
pub trait Clock: Send + Sync {
    /// Milliseconds since the epoch.
    fn now(&self) -> Millis;
    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}
