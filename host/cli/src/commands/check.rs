//! `salve check`: diagnoses the cluster without changing it.

use super::print_json;
use crate::arguments::{ClusterArguments, GuestArguments, Output, OutputArguments};
use crate::cluster::ClusterSession;
use crate::guest::ResolvedGuest;
use crate::output::{self, CommandError, Detail};
use crate::session::{Frontend, PreparedRun};
use clap::Args;
use salve_run::Mode;

/// Diagnose the cluster, read-only: does it have the incident that this guest repairs?
///
/// Prints the evidence for and against the incident, what was ruled out, and other problems found.
///
/// Exit code 0: healthy. 1: the incident is present. 7: inconclusive, because something could not
/// be read. 10: a different problem was found.
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
    /// Runs the guest's `diagnose`, prints the diagnosis, and returns the exit code.
    pub async fn execute(self, verbose: u8) -> Result<u8, CommandError> {
        let prepared = PreparedRun::prepare(
            ResolvedGuest::resolve(&self.guest.guest, &self.guest.options)?,
            &self.guest.options,
        )
        .await?;
        let cluster = ClusterSession::live(&self.cluster).await?;
        let finished =
            prepared.run(Mode::Diagnosis, &cluster, None, Frontend::progress(true)).await?;
        match self.output.output {
            Output::Human => output::diagnosis(
                &finished.report,
                &self.guest.guest,
                Detail::from_verbosity(verbose),
            ),
            Output::Json => print_json(&finished.report)?,
        }
        Ok(finished.result.exit_code())
    }
}
