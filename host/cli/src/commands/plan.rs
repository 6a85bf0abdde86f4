//! `salve plan`: what would be done. Real reads, writes recorded and not sent.

use super::print_json;
use crate::arguments::{ClusterArguments, GuestArguments, Output, OutputArguments};
use crate::cluster::Open;
use crate::guest::Chosen;
use crate::session::{Ready, quiet_watcher};
use crate::tell::{self, Detail, Failed};
use clap::Args;
use salve_core::report::Verdict;
use salve_run::Mode;

/// What would be done: the real guest against real reads, with every change recorded and none sent.
///
/// `exact` lines are what would be sent against what was read. The plan ends where the guest first
/// waits for what only a change could bring; what follows is `predicted`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve plan volsync-unlock --config namespaces=media,ai")]
pub struct Plan {
    #[command(flatten)]
    guest: GuestArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Plan {
    /// Runs `remediate` without its writes.
    pub async fn execute(self, verbose: u8) -> Result<u8, Failed> {
        let ready = Ready::prepare(Chosen::find(&self.guest)?, self.guest.config_file.as_deref(), &self.guest.config).await?;
        ready.refuse_ungranted()?;
        let open = Open::live(&self.cluster).await?;
        let over = ready.run(Mode::Plan, &open, None, quiet_watcher(true)).await?;
        match (self.output.output, over.closing.verdict) {
            (Output::Json, _) => print_json(&over.report)?,
            (Output::Human, Verdict::Planned | Verdict::NothingToDo | Verdict::NotThisIncident) => {
                tell::plan(&over.report, &over.releases, &self.guest.guest, &ready.layers(), Detail::of(verbose))
            }
            (Output::Human, Verdict::Fixed | Verdict::NotFixed | Verdict::Denied | Verdict::Failed(_) | Verdict::LeftOpen | Verdict::Undone) => {
                tell::report(&over.report, None, Detail::of(verbose))
            }
        }
        Ok(over.closing.exit_code())
    }
}
