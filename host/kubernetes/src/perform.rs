//! What the modules in `capability` implement: how each call is performed on an API server.

use crate::send::Session;
use salve_core::capability::call::{ReadCall, ReversalCall, WriteCall};
use salve_core::capability::host::Leftover;
use salve_core::capability::types::Kind;
use salve_core::capability::{Answer, Released, TypedCall, Write};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{ApplyOutcome, Current, ReleaseOutcome};

/// A read, performed.
pub(crate) trait PerformRead: ReadCall {
    async fn read(&self, session: &Session) -> Result<Self::Answer, Error>;
}

/// A write, performed. See [`Backend`](salve_run::Backend) for what each method guarantees.
pub(crate) trait PerformWrite: WriteCall {
    /// Reads its objects. `before` is what an earlier attempt was prepared against.
    async fn read_current(
        &self,
        session: &Session,
        before: Option<&ObservedState>,
    ) -> Result<Current<Self::Answer>, Error>;

    async fn apply(&self, session: &Session, observed: &ObservedState) -> Applied<Self>;

    /// Determines whether it was applied.
    async fn resolve(&self, session: &Session, observed: &ObservedState) -> Applied<Self>;
}

/// A reversal, performed.
pub(crate) trait PerformReversal: ReversalCall {
    /// Reads its object. `in_doubt` is what its write was prepared against, if that may still take
    /// effect.
    async fn read_current(
        &self,
        session: &Session,
        in_doubt: Option<&ObservedState>,
    ) -> Result<Current<Released>, Error>;

    async fn release(&self, session: &Session, observed: &ObservedState) -> ReleaseOutcome;

    /// Finds what runs of any machine left behind. `kinds` is where to look for changes of kinds
    /// that only grants name.
    async fn leftovers(session: &Session, kinds: &[Kind]) -> Result<Vec<Leftover>, Error>;
}

/// The outcome of an attempt to write, in the call's own types.
pub(crate) enum Applied<C: WriteCall> {
    Done(Result<C::Answer, Error>),
    /// The objects changed: nothing, or not all, was applied.
    Conflict {
        completed: Option<C::Answer>,
        remaining: C,
        message: String,
    },
    /// It may still be applied, and may be tried again.
    InDoubt {
        remaining: C,
        message: String,
    },
}

impl<C: WriteCall + TypedCall> Applied<C>
where
    Write: From<C>,
{
    /// Erases the call's types. The call itself only names them.
    pub(crate) fn into_outcome(self, _: &C) -> ApplyOutcome {
        match self {
            Self::Done(answer) => ApplyOutcome::Done(answer.map(C::wrap)),
            Self::Conflict { completed, remaining, message } => ApplyOutcome::Conflict {
                completed: completed.map(C::wrap),
                remaining: remaining.into(),
                message,
                in_doubt: false,
            },
            Self::InDoubt { remaining, message } => ApplyOutcome::Conflict {
                completed: None,
                remaining: remaining.into(),
                message,
                in_doubt: true,
            },
        }
    }
}

/// Erases the type of an answer. The call itself only names it.
pub(crate) fn wrap_current<C: TypedCall>(_: &C, current: Current<C::Answer>) -> Current<Answer> {
    match current {
        Current::Ready(observed) => Current::Ready(observed),
        Current::AlreadyDone(answer) => Current::AlreadyDone(C::wrap(answer)),
    }
}

/// See [`wrap_current`].
pub(crate) fn wrap_answer<C: TypedCall>(_: &C, answer: C::Answer) -> Answer {
    C::wrap(answer)
}
