//! `salve demo`: the incident in the simulated cluster, start to end.

use crate::arguments::Terms;
use crate::cluster::Open;
use crate::guest::Chosen;
use crate::session::{Ready, quiet_watcher, watcher};
use crate::tell::{self, DIM, Detail, Failed, HEAD};
use clap::Args;
use salve_run::Mode;
use salve_simulator::{Incident, Simulator};
use std::path::PathBuf;

/// The incident in a simulated cluster: diagnosis, plan, remediation, report. No cluster, no account,
/// under a minute.
#[derive(Debug, Args)]
pub struct Demo {
    /// Keep the run file in this folder.
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
}

impl Demo {
    /// Tells the story.
    pub async fn execute(self, verbose: u8) -> Result<u8, Failed> {
        let terms = Terms::default();
        let ready = Ready::prepare(Chosen::find("volsync-unlock", &terms)?, &terms).await?;
        ready.refuse_ungranted()?;
        let detail = if verbose > 0 { Detail::All } else { Detail::Sentences };
        let simulator = Simulator::new(Incident::Playbook);
        let open = Open::simulated(simulator).await?;

        heading("It is 3 a.m.: restores hang, claims stay Pending");
        say("VolSync backs up claims that are gone or going. Their snapshots never finish, and the storage driver");
        say("holds a lock for each of them in the memory of its pods: whoever waits for that lock waits for ever.");
        say("A restart alone does not help: the sources that caused the locks cause them again.");
        say("Suspending the Git source alone does not help: Flux applies what it has already fetched.");

        heading("1. Is it this incident?                        salve check volsync-unlock");
        let check = ready.run(Mode::Diagnosis, &open, None, quiet_watcher(false)).await?;
        tell::diagnosis(&check.report, "volsync-unlock", detail);

        heading("2. What would be done?                         salve plan volsync-unlock");
        let plan = ready.run(Mode::Plan, &open, None, quiet_watcher(false)).await?;
        tell::plan(&plan.report, &ready.layers(), detail, "salve run volsync-unlock        asks before it changes anything");

        heading("3. Do it                                       salve run volsync-unlock");
        let run = ready.run(Mode::Live, &open, self.runs.as_deref(), watcher(verbose, false)).await?;
        tell::report(&run.report, run.file.as_deref(), detail);

        heading("That was a simulated cluster. Yours:");
        say("salve check volsync-unlock        read-only: is it this incident on your cluster?");
        say("salve inspect volsync-unlock      what this guest can ask for, and what it cannot");
        Ok(run.closing.exit_code())
    }
}

fn heading(text: &str) {
    anstream::println!("\n{HEAD}{text}{HEAD:#}\n");
}

fn say(text: &str) {
    anstream::println!("{DIM}{text}{DIM:#}");
}
