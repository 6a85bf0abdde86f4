//! `salve check`: is it this incident here? Looks, and changes nothing.

use super::print_json;
use crate::arguments::{ClusterArguments, GuestArguments, Output, OutputArguments};
use crate::cluster::ClusterSession;
use crate::guest::ResolvedGuest;
use crate::output::{self, Detail, Failed};
use crate::session::{PreparedRun, quiet_watcher};
use clap::Args;
use salve_run::Mode;

/// Is it this incident here? Read-only: evidence for and against, and what it is instead.
///
/// Exit code 0: healthy. 1: the incident is here, or another trouble is.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve check volsync-unlock --context home")]
pub struct Check {
    #[command(flatten)]
    guest: GuestArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Check {
    /// Runs `diagnose`.
    pub async fn execute(self, verbose: u8) -> Result<u8, Failed> {
        let ready = PreparedRun::prepare(
            ResolvedGuest::find(&self.guest.guest, &self.guest.terms)?,
            &self.guest.terms,
        )
        .await?;
        let open = ClusterSession::live(&self.cluster).await?;
        let over = ready.run(Mode::Diagnosis, &open, None, quiet_watcher(true)).await?;
        match self.output.output {
            Output::Human => {
                output::diagnosis(&over.report, &self.guest.guest, Detail::of(verbose))
            }
            Output::Json => print_json(&over.report)?,
        }
        Ok(over.closing.exit_code())
    }
}
