//! `salve completions`: prints shell completions.

use crate::Salve;
use crate::output::CommandError;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  source <(salve completions bash)")]
pub struct Completions {
    /// Shell to print completions for.
    shell: Shell,
}

impl Completions {
    /// Prints the completions to stdout.
    pub fn execute(self) -> Result<u8, CommandError> {
        clap_complete::generate(self.shell, &mut Salve::command(), "salve", &mut std::io::stdout());
        Ok(0)
    }
}
