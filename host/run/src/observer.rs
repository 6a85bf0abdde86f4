//! Observers of a run, and the user who answers its questions.

use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::capability::{Effect, Pending, Reversal};
use salve_core::journal::Recorded;
use salve_core::outcome::Error;
use std::time::Duration;

/// Observes a run: its report, or a terminal.
pub trait Observer: Send {
    /// A call starts that may take a while. Its entry follows.
    fn on_start(&mut self, effect: &Effect);

    /// An entry was written to the journal. A write is sent after its [`Entry::Opened`].
    ///
    /// [`Entry::Opened`]: salve_core::journal::Entry::Opened
    fn on_entry(&mut self, recorded: Recorded<'_>);

    /// The run has ended, but could not release everything so far.
    fn on_unreleased(&mut self, _: &Unreleased<'_>) {}
}

/// What a run could not release so far.
#[derive(Debug)]
pub struct Unreleased<'a> {
    /// What is still in effect, or may be, newest first.
    pub open: &'a [Pending<Reversal>],
    /// For how long it was tried, in milliseconds.
    pub tried_for: Millis,
    /// Why the latest try failed.
    pub error: &'a Error,
    /// When it is tried again. None if it is not: the API server kept rejecting it.
    pub next: Option<Duration>,
    /// How often the user has asked to stop.
    pub interrupts: u8,
}

/// Asks the user.
pub trait Prompt: Send {
    /// Returns whether there may be a user to ask.
    fn is_available(&self) -> bool;

    /// Asks a yes-or-no question. None if there is no user to ask.
    fn ask(&mut self, question: &str) -> BoxFuture<'static, Option<bool>>;
}

/// No one is available to answer.
#[derive(Debug, Default)]
pub struct NoPrompt;

impl Prompt for NoPrompt {
    fn is_available(&self) -> bool {
        false
    }

    fn ask(&mut self, _: &str) -> BoxFuture<'static, Option<bool>> {
        Box::pin(async { None })
    }
}
