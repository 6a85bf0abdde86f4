//! Asks the user at a terminal.

use super::HEADING;
use futures::future::BoxFuture;
use indicatif::ProgressBar;
use salve_core::sanitize::sanitized;
use salve_run::Prompt;
use std::io::Write;

/// Asks the questions of a run on stderr.
pub struct TerminalPrompt {
    /// The progress line of the same terminal, hidden while a question is printed.
    bar: ProgressBar,
}

impl TerminalPrompt {
    pub(super) fn new(bar: ProgressBar) -> Self {
        Self { bar }
    }
}

impl Prompt for TerminalPrompt {
    fn ask(&mut self, question: &str) -> BoxFuture<'static, Option<bool>> {
        self.bar.suspend(|| {
            drop(write!(
                anstream::stderr(),
                "{:14}{HEADING}{}{HEADING:#} [y/N] ",
                "",
                sanitized(question)
            ))
        });
        Box::pin(async {
            let answer = read_line().await?;
            Some(matches!(answer.trim(), "y" | "Y" | "yes"))
        })
    }
}

/// Reads a line from stdin on a separate thread, so that signals are handled meanwhile. Returns
/// `None` at the end of input.
pub async fn read_line() -> Option<String> {
    let read = || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).ok().filter(|n| *n > 0).map(|_| line)
    };
    tokio::task::spawn_blocking(read).await.ok().flatten()
}
