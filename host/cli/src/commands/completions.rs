//! `salve completions`: for the shell.

use crate::Salve;
use crate::output::Failed;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Prints completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  source <(salve completions bash)")]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    /// Prints them.
    pub fn execute(self) -> Result<u8, Failed> {
        clap_complete::generate(self.shell, &mut Salve::command(), "salve", &mut std::io::stdout());
        Ok(0)
    }
}
