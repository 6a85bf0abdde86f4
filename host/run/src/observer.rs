//! Observers of a run, and the user who answers its questions.

use futures::future::BoxFuture;
use salve_core::capability::Effect;
use salve_core::journal::Recorded;

/// Observes a run: its report, or a terminal.
pub trait Observer: Send {
    /// A call starts that may take a while. Its entry follows.
    fn on_start(&mut self, effect: &Effect);

    /// An entry was written to the journal. A write is sent after its [`Entry::Opened`].
    ///
    /// [`Entry::Opened`]: salve_core::journal::Entry::Opened
    fn on_entry(&mut self, recorded: Recorded<'_>);
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
