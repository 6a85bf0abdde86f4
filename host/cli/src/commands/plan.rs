//! `salve plan`: what would be done. Real reads, writes recorded and not sent.

use super::print_json;
use crate::arguments::{ClusterArguments, GuestArguments, Output, OutputArguments, RunsArguments};
use crate::cluster::ClusterSession;
use crate::guest::ResolvedGuest;
use crate::output::{self, Detail, Failed};
use crate::runs;
use crate::session::{PreparedRun, quiet_watcher};
use clap::Args;
use salve_core::report::Verdict;
use salve_run::Mode;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What would be done: the real guest against real reads, with every change recorded and none sent.
///
/// `exact` lines are what would be sent against what was read. The plan ends where the guest first
/// waits for what only a change could bring; what follows is `predicted`. It is kept: `salve run --plan`
/// does what it says, and stops before anything that differs.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve plan volsync-unlock --config namespaces=media,ai")]
pub struct Plan {
    #[command(flatten)]
    guest: GuestArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Write the plan to this file, too, for somebody else to approve.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Plan {
    /// Runs `remediate` without its writes.
    pub async fn execute(self, verbose: u8) -> Result<u8, Failed> {
        let ready = PreparedRun::prepare(
            ResolvedGuest::find(&self.guest.guest, &self.guest.terms)?,
            &self.guest.terms,
        )
        .await?;
        ready.refuse_ungranted()?;
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let open = ClusterSession::live(&self.cluster).await?;
        let over = ready.run(Mode::Plan, &open, Some(&folder), quiet_watcher(true)).await?;
        let planned = over.closing.verdict == Verdict::Planned;
        if let (Some(out), Some(file), true) = (&self.out, &over.file, planned) {
            copy(file, out).map_err(|e| Failed::host(format!("{}: {e}", out.display())))?;
        }
        match (self.output.output, over.closing.verdict) {
            (Output::Json, _) => print_json(&over.report)?,
            (
                Output::Human,
                Verdict::Planned | Verdict::NothingToDo | Verdict::DifferentProblem,
            ) => {
                let next = format!(
                    "salve run --plan {}        does this, and stops before anything that differs",
                    over.report.run
                );
                output::plan(&over.report, &ready.layers(), Detail::of(verbose), &next);
            }
            (
                Output::Human,
                Verdict::Fixed
                | Verdict::NotFixed
                | Verdict::Denied
                | Verdict::Failed(_)
                | Verdict::ActionRequired
                | Verdict::Undone,
            ) => output::report(&over.report, over.file.as_deref(), Detail::of(verbose)),
        }
        Ok(over.closing.exit_code())
    }
}

/// It holds what a run file holds: for its owner alone, until its owner hands it on. Nothing is overwritten.
fn copy(file: &Path, out: &Path) -> std::io::Result<()> {
    let bytes = std::fs::read(file)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(out)?.write_all(&bytes)
}
