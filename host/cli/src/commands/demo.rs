//! `salve demo`: the incident in a simulated cluster, from diagnosis to recovery. The process of
//! the remediation is killed halfway through.

mod process;

use super::{plan, recover};
use crate::arguments::GuestOptions;
use crate::cluster::ClusterSession;
use crate::guest::ResolvedGuest;
use crate::output::{self, CommandError, Detail, ERROR, HEADING, MUTED, plural};
use crate::runs;
use crate::session::{Frontend, PreparedRun};
use clap::Args;
use salve_core::capability::host::FindLeftovers;
use salve_core::grants::Grants;
use salve_run::Mode;
use salve_simulator::{Incident, Simulator};
use std::path::{Path, PathBuf};

/// Watch Salve repair a simulated cluster. Needs no cluster and no account.
///
/// Runs check, plan, run, and recover against a simulated cluster with the incident that
/// `volsync-unlock` repairs, and kills the run in the middle of its deletions. Takes less than a
/// minute.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve demo --runs demo      # then: salve runs --runs demo")]
pub struct Demo {
    /// Keep the plan and the run file in this folder.
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    #[command(flatten)]
    child: process::Arguments,
}

impl Demo {
    /// Plays the demo; in the child process, only the run that is going to be killed.
    pub async fn execute(self, verbose: u8) -> Result<u8, CommandError> {
        let scratch = Scratch::new()?;
        let folder = self.runs.as_deref().unwrap_or(&scratch.0);
        match self.child.cluster() {
            Some(remote) => process::run(remote, folder, self.child.plan(), verbose).await,
            None => play(folder, self.runs.is_some(), verbose).await,
        }
    }
}

async fn play(folder: &Path, keeps_runs: bool, verbose: u8) -> Result<u8, CommandError> {
    let options = GuestOptions::default();
    let prepared =
        PreparedRun::prepare(ResolvedGuest::resolve("volsync-unlock", &options)?, &options).await?;
    prepared.require_grants()?;
    let detail = if verbose > 0 { Detail::All } else { Detail::SummaryOnly };
    let simulator = Simulator::new(Incident::Playbook);
    let cluster = ClusterSession::simulated(simulator.clone()).await?;

    heading("3 a.m.: restores hang and PVCs stay Pending");
    explain("VolSync backs up PVCs that are deleted or terminating. Their snapshots never finish,");
    explain("and the CSI driver's pods hold an operation lock in memory for each of them. Every");
    explain("other operation on the same volume waits for that lock indefinitely.");
    explain("Restarting the driver is not enough: the same ReplicationSources lock it again.");
    explain(
        "Suspending the Git source is not enough: Flux keeps applying what it already fetched.",
    );

    step("1. Is it this incident?", "salve check volsync-unlock");
    let check = prepared.run(Mode::Diagnosis, &cluster, None, Frontend::progress(false)).await?;
    output::diagnosis(&check.report, "volsync-unlock", detail);

    step("2. What would Salve do?", "salve plan volsync-unlock");
    let plan = prepared.run(Mode::Plan, &cluster, Some(folder), Frontend::progress(false)).await?;
    let id = &plan.report.run;
    output::plan(&plan.report, &prepared.grant_sources(), detail, &plan::next_step(id));

    step("3. Apply the plan", &format!("salve run --plan {id}"));
    let file = process::run_and_kill(&simulator, folder, id, verbose).await?;
    let leftovers = cluster.read(FindLeftovers { kinds: vec![] }).await?;
    let active = leftovers.iter().filter(|leftover| leftover.active).count();
    anstream::println!(
        "\n{ERROR}Killed (SIGKILL){ERROR:#} mid-deletion: the request reached the API server, the \
         response was never read."
    );
    explain(&format!(
        "No process is left to clean up: {} stay suspended. The run's Lease blocks other runs.",
        plural(active, "Flux object")
    ));
    explain("With a runbook you would be on your own now. The run file records every change that");
    explain("was made or about to be made.");

    let interrupted = recover::open(&file)?;
    step("4. Finish the run", &format!("salve recover {}", interrupted.header.run));
    let run = interrupted
        .recover(prepared.guest(), Grants::default(), &cluster, Frontend::terminal(verbose, false))
        .await?;
    output::report(&run.report, run.file.as_deref().filter(|_| keeps_runs), detail);

    heading("That was a simulated cluster. Next, on your own:");
    explain("salve check volsync-unlock        read-only: does your cluster have this incident?");
    explain("salve inspect volsync-unlock      what this guest can and cannot do");
    Ok(run.result.exit_code())
}

fn heading(text: &str) {
    anstream::println!("\n{HEADING}{text}{HEADING:#}\n");
}

/// Prints a heading and the command that does the same outside the demo.
fn step(title: &str, command: &str) {
    heading(&format!("{title:<46} {command}"));
}

fn explain(text: &str) {
    anstream::println!("{MUTED}{text}{MUTED:#}");
}

/// A temporary folder for run files, deleted on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, CommandError> {
        Ok(Self(std::env::temp_dir().join(format!("salve-demo-{}", runs::new_id()?))))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The folder is missing if nothing was written to it.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
