//! `salve demo`: the incident in the simulated cluster, start to end; and the process that runs the remediation is killed
//! in the middle of it.

mod process;

use super::recover;
use crate::arguments::GuestOptions;
use crate::cluster::ClusterSession;
use crate::guest::ResolvedGuest;
use crate::output::{self, Detail, ERROR, Failed, HEADING, MUTED, count};
use crate::runs;
use crate::session::{PreparedRun, quiet_watcher, watcher};
use clap::Args;
use salve_core::effect::host::FindLeftovers;
use salve_core::grants::Grants;
use salve_run::Mode;
use salve_simulator::{Incident, Simulator};
use std::path::{Path, PathBuf};

/// The incident in a simulated cluster: diagnosis, plan, remediation, a process killed in the middle of it, recovery,
/// proof. No cluster, no account, under a minute.
#[derive(Debug, Args)]
pub struct Demo {
    /// Keep the plan and the run file in this folder.
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    #[command(flatten)]
    doomed: process::Arguments,
}

impl Demo {
    /// Tells the story.
    pub async fn execute(self, verbose: u8) -> Result<u8, Failed> {
        let scratch = Scratch::new()?;
        let folder = self.runs.as_deref().unwrap_or(&scratch.0);
        match self.doomed.cluster() {
            Some(remote) => process::run(remote, folder, self.doomed.plan(), verbose).await,
            None => tell_all(folder, self.runs.is_some(), verbose).await,
        }
    }
}

async fn tell_all(folder: &Path, kept: bool, verbose: u8) -> Result<u8, Failed> {
    let terms = GuestOptions::default();
    let ready =
        PreparedRun::prepare(ResolvedGuest::find("volsync-unlock", &terms)?, &terms).await?;
    ready.refuse_ungranted()?;
    let detail = if verbose > 0 { Detail::All } else { Detail::Sentences };
    let simulator = Simulator::new(Incident::Playbook);
    let open = ClusterSession::simulated(simulator.clone()).await?;

    heading("It is 3 a.m.: restores hang, claims stay Pending");
    say(
        "VolSync backs up claims that are gone or going. Their snapshots never finish, and the storage driver",
    );
    say(
        "holds a lock for each of them in the memory of its pods: whoever waits for that lock waits for ever.",
    );
    say("A restart alone does not help: the sources that caused the locks cause them again.");
    say("Suspending the Git source alone does not help: Flux applies what it has already fetched.");

    heading("1. Is it this incident?                        salve check volsync-unlock");
    let check = ready.run(Mode::Diagnosis, &open, None, quiet_watcher(false)).await?;
    output::diagnosis(&check.report, "volsync-unlock", detail);

    heading("2. What would be done?                         salve plan volsync-unlock");
    let plan = ready.run(Mode::Plan, &open, Some(folder), quiet_watcher(false)).await?;
    let id = &plan.report.run;
    output::plan(
        &plan.report,
        &ready.layers(),
        detail,
        &format!("salve run --plan {id}        does this, and stops before anything that differs"),
    );

    heading(&format!("3. Do it                                       salve run --plan {id}"));
    let file = process::killed(&simulator, folder, id, verbose).await?;
    let suspended = open.ask(FindLeftovers {}).await?.iter().filter(|left| left.suspended).count();
    anstream::println!(
        "\n{ERROR}Killed{ERROR:#}  kill -9 while a deletion was on its way: it arrived, and nobody has heard the answer."
    );
    say(&format!(
        "No process is left that could clean up: {} stay suspended. This run's Lease keeps others off.",
        count(suspended, "Flux object")
    ));
    say("A wiki page ends here. What was done, and what was meant, stands in the run file.");

    let recovered = recover::open(&file)?;
    heading(&format!(
        "4. Finish it                                   salve recover {}",
        recovered.header.run
    ));
    let run =
        recovered.recover(ready.guest(), Grants::default(), &open, watcher(verbose, false)).await?;
    output::report(&run.report, run.file.as_deref().filter(|_| kept), detail);

    heading("That was a simulated cluster. Yours:");
    say("salve check volsync-unlock        read-only: is it this incident on your cluster?");
    say("salve inspect volsync-unlock      what this guest can ask for, and what it cannot");
    Ok(run.closing.exit_code())
}

fn heading(text: &str) {
    anstream::println!("\n{HEADING}{text}{HEADING:#}\n");
}

fn say(text: &str) {
    anstream::println!("{MUTED}{text}{MUTED:#}");
}

/// Where run files lie that nobody wants to keep.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failed> {
        Ok(Self(std::env::temp_dir().join(format!("salve-demo-{}", runs::id()?))))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where nothing was written, nothing is there.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
