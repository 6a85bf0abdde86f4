//! `salve run`: does it.

use super::print_json;
use crate::arguments::{ClusterArguments, GuestOptions, Output, OutputArguments, RunsArguments};
use crate::cluster::ClusterSession;
use crate::guest::ResolvedGuest;
use crate::output::{self, Detail, Failed};
use crate::plans::Plan;
use crate::runs;
use crate::session::{PreparedRun, quiet_watcher, watcher};
use clap::Args;
use salve_core::effect::host::Lease;
use salve_core::report::Verdict;
use salve_core::sanitize::sanitized;
use salve_run::Mode;
use std::io::{self, IsTerminal};

/// Does it: shows the plan, asks for the context's name, then runs the guest.
///
/// Every change is shown with the kubectl or flux command that does the same. Ctrl-C once stops at the
/// next safe point and gives back what is suspended; twice stops at once.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  salve run volsync-unlock --context home --yes\n  salve run --plan 7c1d03fe      # what that plan says, and nothing else"
)]
pub struct RunGuest {
    /// A shipped guest (`volsync-unlock`), a component's path, or a Remediation document's path [default with --plan: the plan's].
    #[arg(required_unless_present = "plan")]
    guest: Option<String>,
    /// A plan that you approve: its id or the beginning of it, or its file. Component, documents, configuration, cluster and
    /// every object have to be as they were; any difference stops the run before it is sent. Asks nothing more.
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    #[command(flatten)]
    terms: GuestOptions,
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
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let plan = self.plan.as_deref().map(|named| Plan::open(&folder, named)).transpose()?;
        // mutant run-skips-confirmation: is_none() ~> is_none() && self.guest.is_none()
        let asks = !self.yes && plan.is_none();
        let then = plan.as_ref().map(|plan| plan.header().clone());
        let ready = self.ready(plan).await?;
        ready.refuse_ungranted()?;
        if asks && (!io::stdin().is_terminal() || self.output.output == Output::Json) {
            return Err(Failed::usage(
                "run shows its plan and asks for the context's name, which a program cannot answer: give --yes",
            ));
        }
        let open = match &then {
            Some(header) => ClusterSession::live(&self.cluster.or_context(&header.context)).await?,
            None => ClusterSession::live(&self.cluster).await?,
        };
        if let Some(header) = &then {
            open.is_that_of(header)?;
        }
        if let Some(holder) = open.ask(Lease {}).await? {
            return Err(Failed::cluster(format!(
                "nothing was begun: {}",
                sanitized(&holder.told(open.clock().now()))
            )));
        }
        if asks {
            let plan = ready.run(Mode::Plan, &open, None, quiet_watcher(true)).await?;
            match plan.closing.verdict {
                Verdict::Planned => output::plan(
                    &plan.report,
                    &ready.layers(),
                    Detail::of(verbose),
                    "type the name of the context below, or anything else to leave it",
                ),
                // Nothing to change, or nothing that could be: the answer is the plan's.
                Verdict::Fixed
                | Verdict::NothingToDo
                | Verdict::DifferentProblem
                | Verdict::NotFixed
                | Verdict::Denied
                | Verdict::Failed(_)
                | Verdict::ActionRequired
                | Verdict::Undone => {
                    output::report(&plan.report, None, Detail::of(verbose));
                    return Ok(plan.closing.exit_code());
                }
            }
            confirm(&open.context).await?;
        }
        let over = ready.run(Mode::Live, &open, Some(&folder), watcher(verbose, true)).await?;
        match self.output.output {
            Output::Human => {
                output::report(&over.report, over.file.as_deref(), Detail::of(verbose))
            }
            Output::Json => print_json(&over.report)?,
        }
        Ok(over.closing.exit_code())
    }

    /// The guest, bound to the plan where there is one: what is not given is the plan's.
    async fn ready(&self, plan: Option<Plan>) -> Result<PreparedRun, Failed> {
        let Some(plan) = plan else {
            let guest = self
                .guest
                .as_deref()
                .ok_or_else(|| Failed::usage("a guest is wanted, or a plan"))?;
            return PreparedRun::prepare(ResolvedGuest::find(guest, &self.terms)?, &self.terms)
                .await;
        };
        let mut chosen = match &self.guest {
            Some(guest) => ResolvedGuest::find(guest, &self.terms)?,
            None if self.terms.remediation.is_some() || self.terms.policy.is_some() => {
                return Err(Failed::usage(
                    "documents are given for a guest: name it, or leave both to the plan",
                ));
            }
            None => plan.chosen()?,
        };
        chosen.configuration = plan.header().configuration.clone();
        PreparedRun::prepare(chosen, &self.terms).await?.under(plan)
    }
}

/// The context's name, typed: a `y` is too quickly typed into the wrong window.
pub(super) async fn confirm(context: &str) -> Result<(), Failed> {
    anstream::eprint!("\ntype the context's name ({}) to do this: ", sanitized(context));
    let typed = tokio::select! {
        typed = output::typed_line() => typed,
        _ = tokio::signal::ctrl_c() => None,
    };
    match typed {
        Some(typed) if typed.trim() == context => Ok(()),
        Some(_) => Err(Failed::usage("that is not its name: nothing was changed")),
        None => Err(Failed::usage("nobody typed it: nothing was changed")),
    }
}
