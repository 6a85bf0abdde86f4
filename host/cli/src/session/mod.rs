//! Runs a guest on a cluster.
//!
//! Reading order: [`prepare`] (a guest with its documents and configuration), [`run`] (a run from
//! its header to its verdict), [`recover`] (continues a run whose process died), [`mod@replay`]
//! (repeats a run offline).

pub mod planner;
pub mod prepare;
pub mod recover;
pub mod replay;
pub mod run;

pub use prepare::PreparedRun;
pub use recover::InterruptedRun;
pub use replay::{Divergence, Replayed, replay};
pub use run::{ActiveRun, FinishedRun, start_run};

use crate::output::{CommandError, Live, TerminalPrompt};
use crate::{compiler, runs};
use salve_core::document::Limits;
use salve_core::report::Description;
use salve_run::{NoPrompt, Observer, Prompt, Stop};
use salve_sandbox::{Guest, Sandbox};
use std::io::{self, IsTerminal};

/// Who observes a run, in addition to its report, and who answers its questions.
pub struct Frontend {
    pub observers: Vec<Box<dyn Observer>>,
    pub prompt: Box<dyn Prompt>,
    /// Stops the run. Signals do as well.
    pub stop: Stop,
}

impl Frontend {
    /// Creates a front end that shows nothing and answers no question.
    pub fn none() -> Self {
        Self { observers: vec![], prompt: Box::new(NoPrompt), stop: Stop::default() }
    }

    /// Creates a front end that prints each step as it happens. With `may_ask`, a user at a
    /// terminal is asked for approvals.
    pub fn terminal(verbose: u8, may_ask: bool) -> Self {
        Self::live(Live::new(verbose > 0), may_ask)
    }

    /// Creates a front end that only shows progress, for commands that print the complete result
    /// at the end. See [`Self::terminal`] for `may_ask`.
    pub fn progress(may_ask: bool) -> Self {
        Self::live(Live::new(false).quiet(), may_ask)
    }

    /// Creates a front end with one observer, which answers no question.
    pub fn observer(observer: impl Observer + 'static) -> Self {
        Self { observers: vec![Box::new(observer)], ..Self::none() }
    }

    fn live(live: Live, may_ask: bool) -> Self {
        let prompt: Box<dyn Prompt> = if may_ask && io::stdin().is_terminal() {
            Box::new(TerminalPrompt)
        } else {
            Box::new(NoPrompt)
        };
        Self { observers: vec![Box::new(live)], prompt, ..Self::none() }
    }
}

/// Loads and compiles a component and calls its `describe`, which has no access to capabilities.
pub async fn load(
    component: &[u8],
    origin: &str,
    limits: Limits,
) -> Result<(Guest, Description), CommandError> {
    let sandbox = Sandbox::new(runs::cache().as_deref())
        .map_err(|e| CommandError::host(e.to_string()))?
        .with_compiler(Box::new(compiler::compile));
    let guest =
        sandbox.load(component).map_err(|e| CommandError::document(format!("{origin}: {e}")))?;
    let description = guest
        .describe(limits)
        .await
        .map_err(|e| CommandError::guest(format!("{origin}: describe failed: {e}")))?;
    Ok((guest, description))
}

/// Returns the host name of this machine, which tells users where to find a run file.
pub fn machine() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Some(name).filter(|name| !name.is_empty())
}
