//! `salve run`: runs a remediation.

use super::print_json;
use crate::arguments::{ClusterArguments, GuestOptions, Output, OutputArguments, RunsArguments};
use crate::cluster::ClusterSession;
use crate::guest::ResolvedGuest;
use crate::output::{self, CommandError, Detail, Typed};
use crate::plans::Plan;
use crate::runs;
use crate::session::{FinishedRun, Frontend, PreparedRun};
use clap::Args;
use salve_core::capability::cluster_lock::GetHolder;
use salve_core::sanitize::sanitized;
use salve_run::Mode;
use std::io::{self, IsTerminal};
use std::time::SystemTime;

/// Show the plan, confirm it, and run the remediation.
///
/// Every change is printed with the equivalent kubectl or flux command. Ctrl-C stops at the next
/// safe point and takes back the run's temporary changes; a second Ctrl-C does not wait for a safe
/// point.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    salve run volsync-unlock --context home --yes\n  \
    salve run --plan 7c1d03fe      # applies exactly this plan")]
pub struct RunGuest {
    /// Shipped guest (`volsync-unlock`), or path of a component or a Remediation document [default
    /// with --plan: the plan's guest].
    #[arg(required_unless_present = "plan")]
    guest: Option<String>,
    /// Approve and apply this plan: its ID (or a unique prefix), or the path of its file. Does not
    /// prompt. The component, documents, configuration, cluster, and all objects must be unchanged;
    /// if any object has changed, nothing is sent.
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    #[command(flatten)]
    options: GuestOptions,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Skip the confirmation prompt. Does not satisfy policies that require approval.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl RunGuest {
    /// Runs the guest's `remediate` after confirmation, and prints the report.
    pub async fn execute(self, verbose: u8) -> Result<u8, CommandError> {
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let plan = self.plan.as_deref().map(|named| Plan::open(&folder, named)).transpose()?;
        // mutant run-skips-confirmation: is_none() ~> is_none() && self.guest.is_none()
        let prompts = !self.yes && plan.is_none();
        let plan_header = plan.as_ref().map(|plan| plan.header().clone());
        let mut prepared = self.prepare(plan).await?;
        prepared.require_grants()?;
        if prompts && (!io::stdin().is_terminal() || self.output.output == Output::Json) {
            return Err(CommandError::usage(CANNOT_PROMPT));
        }
        let cluster = match &plan_header {
            Some(header) => ClusterSession::live(&self.cluster.or_context(&header.context)).await?,
            None => ClusterSession::live(&self.cluster).await?,
        };
        if let Some(header) = &plan_header {
            cluster.check_same_cluster(header)?;
        }
        require_unlocked(&cluster).await?;
        let detail = Detail::from_verbosity(verbose);
        if prompts {
            let grants = prepared.grant_sources();
            let confirm = async |plan: &FinishedRun| {
                output::plan(
                    &plan.report,
                    &grants,
                    detail,
                    "type the context name below to apply this plan; anything else aborts",
                );
                confirm(&cluster.context).await
            };
            let frontend = Frontend::progress(true);
            prepared = match prepared.confirmed(&cluster, frontend, confirm).await? {
                Ok(bound) => bound,
                // The verdict of the plan is the verdict of the run.
                Err(plan) => {
                    output::report(&plan.report, None, detail);
                    return Ok(plan.result.exit_code());
                }
            };
        }
        let frontend = Frontend::terminal(verbose, true);
        let finished = prepared.run(Mode::Live, &cluster, Some(&folder), frontend).await?;
        match self.output.output {
            Output::Human => output::report(&finished.report, finished.file.as_deref(), detail),
            Output::Json => print_json(&finished.report)?,
        }
        Ok(finished.result.exit_code())
    }

    /// Loads the guest, and binds it to the plan if one is given. What the flags do not name is
    /// taken from the plan.
    async fn prepare(&self, plan: Option<Plan>) -> Result<PreparedRun, CommandError> {
        let Some(plan) = plan else {
            let guest = self
                .guest
                .as_deref()
                .ok_or_else(|| CommandError::usage("name a guest, or pass --plan"))?;
            return PreparedRun::prepare(
                ResolvedGuest::resolve(guest, &self.options)?,
                &self.options,
            )
            .await;
        };
        let mut guest = match &self.guest {
            Some(guest) => ResolvedGuest::resolve(guest, &self.options)?,
            None if self.options.remediation.is_some() || self.options.policy.is_some() => {
                return Err(CommandError::usage(
                    "--remediation and --policy require a guest: name it, or omit them to use \
                     those of the plan",
                ));
            }
            None => plan.resolve_guest()?,
        };
        guest.configuration = plan.header().configuration.clone();
        PreparedRun::prepare(guest, &self.options).await?.bound_to(plan)
    }
}

/// The error of a command that would have to prompt a program.
pub(super) const CANNOT_PROMPT: &str = "cannot prompt for confirmation: stdin is not a terminal, \
     or --output json is set; pass --yes to skip the prompt";

/// Fails if another run holds the cluster lock.
pub(super) async fn require_unlocked(cluster: &ClusterSession) -> Result<(), CommandError> {
    match cluster.read(GetHolder {}).await? {
        Some(holder) => Err(CommandError::cluster(format!(
            "not started: {}",
            sanitized(&holder.conflict_message(cluster.clock().now()))
        ))),
        None => Ok(()),
    }
}

/// Prompts for the context name. A plain `y` is too easily typed into the wrong terminal.
pub(super) async fn confirm(context: &str) -> Result<(), CommandError> {
    anstream::eprint!("\nType the context name ({}) to continue: ", sanitized(context));
    match output::confirmation(output::read_line(), SystemTime::now).await {
        Typed::Line(typed) if typed.trim() == context => Ok(()),
        Typed::Line(_) => {
            Err(CommandError::usage("context name does not match; aborted, nothing was changed"))
        }
        Typed::Expired => Err(CommandError::usage(
            "not confirmed within 5 min, so what is displayed may be outdated; aborted, nothing \
             was changed; run the command again",
        )),
        Typed::Nothing => Err(CommandError::usage("not confirmed; aborted, nothing was changed")),
    }
}
