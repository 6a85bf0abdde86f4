//! `salve run`: does it.

use super::print_json;
use crate::arguments::{ClusterArguments, GuestArguments, Output, OutputArguments, RunsArguments};
use crate::cluster::Open;
use crate::guest::Chosen;
use crate::runs;
use crate::session::{Ready, quiet_watcher, watcher};
use crate::tell::{self, Detail, Failed};
use clap::Args;
use salve_core::effect::host::Lease;
use salve_core::report::Verdict;
use salve_core::text::inert;
use salve_run::Mode;
use std::io::{self, IsTerminal};

/// Does it: shows the plan, asks for the context's name, then runs the guest.
///
/// Every change is shown with the kubectl or flux command that does the same. Ctrl-C once stops at the
/// next safe point and gives back what is suspended; twice stops at once.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve run volsync-unlock --context home --yes")]
pub struct RunGuest {
    #[command(flatten)]
    guest: GuestArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Do not ask for the context's name.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl RunGuest {
    /// Runs `remediate`.
    pub async fn execute(self, verbose: u8) -> Result<u8, Failed> {
        let ready = Ready::prepare(Chosen::find(&self.guest)?, self.guest.config_file.as_deref(), &self.guest.config).await?;
        ready.refuse_ungranted()?;
        if !self.yes && (!io::stdin().is_terminal() || self.output.output == Output::Json) {
            return Err(Failed::usage("run shows its plan and asks for the context's name, which a program cannot answer: give --yes"));
        }
        let open = Open::live(&self.cluster).await?;
        if let Some(holder) = open.ask(Lease {}).await? {
            return Err(Failed::cluster(format!("nothing was begun: {}", inert(&holder.told(open.clock().now())))));
        }
        if !self.yes {
            let plan = ready.run(Mode::Plan, &open, None, quiet_watcher(true)).await?;
            match plan.closing.verdict {
                Verdict::Planned => tell::plan(&plan.report, &plan.releases, &self.guest.guest, &ready.layers(), Detail::of(verbose)),
                // Nothing to change, or nothing that could be: the answer is the plan's.
                Verdict::Fixed
                | Verdict::NothingToDo
                | Verdict::NotThisIncident
                | Verdict::NotFixed
                | Verdict::Denied
                | Verdict::Failed(_)
                | Verdict::LeftOpen
                | Verdict::Undone => {
                    tell::report(&plan.report, None, Detail::of(verbose));
                    return Ok(plan.closing.exit_code());
                }
            }
            confirm(&open.context).await?;
        }
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let over = ready.run(Mode::Live, &open, Some(&folder), watcher(verbose, true)).await?;
        match self.output.output {
            Output::Human => tell::report(&over.report, over.file.as_deref(), Detail::of(verbose)),
            Output::Json => print_json(&over.report)?,
        }
        Ok(over.closing.exit_code())
    }
}

/// The context's name, typed: a `y` is too quickly typed into the wrong window.
pub(super) async fn confirm(context: &str) -> Result<(), Failed> {
    anstream::eprint!("\ntype the context's name ({}) to do this: ", inert(context));
    let typed = tokio::select! {
        typed = tell::typed_line() => typed,
        _ = tokio::signal::ctrl_c() => None,
    };
    match typed {
        Some(typed) if typed.trim() == context => Ok(()),
        Some(_) => Err(Failed::usage("that is not its name: nothing was changed")),
        None => Err(Failed::usage("nobody typed it: nothing was changed")),
    }
}
