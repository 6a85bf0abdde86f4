//! `salve plan`: shows what a run would do. Reads are real; writes are recorded and not sent.

use super::print_json;
use crate::arguments::{ClusterArguments, GuestArguments, Output, OutputArguments, RunsArguments};
use crate::cluster::ClusterSession;
use crate::guest::ResolvedGuest;
use crate::output::{self, CommandError, Detail};
use crate::runs;
use crate::session::{Frontend, PreparedRun};
use clap::Args;
use salve_core::report::Verdict;
use salve_run::Mode;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Show what a run would change, without changing anything.
///
/// Runs the guest against the cluster: reads are real, every write is recorded and none is sent.
/// `will do` lines are requests that would be sent as shown. The plan ends where the guest waits
/// for the effect of a write; the lines after that are `expected afterwards`. In JSON, `certainty`
/// is `exact` or `predicted`.
///
/// The plan is saved. `salve run --plan ID` applies exactly this plan, and sends nothing if any of
/// its objects has changed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve plan volsync-unlock --config namespaces=media,ai")]
pub struct Plan {
    #[command(flatten)]
    guest: GuestArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Also write the plan to this file, for someone else to approve. Never overwrites a file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Plan {
    /// Runs the guest's `remediate` without sending writes, and prints the plan.
    pub async fn execute(self, verbose: u8) -> Result<u8, CommandError> {
        let prepared = PreparedRun::prepare(
            ResolvedGuest::resolve(&self.guest.guest, &self.guest.options)?,
            &self.guest.options,
        )
        .await?;
        prepared.require_grants()?;
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let cluster = ClusterSession::live(&self.cluster).await?;
        let finished =
            prepared.run(Mode::Plan, &cluster, Some(&folder), Frontend::progress(true)).await?;
        let planned = finished.result.verdict == Verdict::Planned;
        if let (Some(out), Some(file), true) = (&self.out, &finished.file, planned) {
            copy(file, out).map_err(|e| {
                CommandError::host(format!("failed to write the plan to {}: {e}", out.display()))
            })?;
        }
        let detail = Detail::from_verbosity(verbose);
        match (self.output.output, finished.result.verdict) {
            (Output::Json, _) => print_json(&finished.report)?,
            (
                Output::Human,
                Verdict::Planned | Verdict::NothingToDo | Verdict::DifferentProblem,
            ) => {
                let next = next_step(&finished.report.run);
                output::plan(&finished.report, &prepared.grant_sources(), detail, &next);
            }
            (
                Output::Human,
                Verdict::Fixed
                | Verdict::ResolvedElsewhere
                | Verdict::NotFixed
                | Verdict::Unverified
                | Verdict::Inconclusive
                | Verdict::Denied
                | Verdict::NeedsApproval
                | Verdict::StalePlan
                | Verdict::Failed(_)
                | Verdict::ActionRequired
                | Verdict::Restored,
            ) => output::report(&finished.report, finished.file.as_deref(), detail),
        }
        Ok(finished.result.exit_code())
    }
}

/// Returns the hint below a plan: the command that applies it.
pub(super) fn next_step(run: &str) -> String {
    format!(
        "salve run --plan {run}        applies exactly this plan; aborts if anything has changed"
    )
}

/// Copies a plan, readable by the owner only like every run file. Fails if `out` exists.
fn copy(file: &Path, out: &Path) -> std::io::Result<()> {
    let bytes = std::fs::read(file)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(out)?.write_all(&bytes)
}
