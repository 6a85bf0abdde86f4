//! One file a command: its arguments, its help, and what it does.

pub mod check;
pub mod completions;
pub mod demo;
pub mod doctor;
pub mod inspect;
pub mod plan;
pub mod rbac;
pub mod recover;
pub mod replay;
pub mod report;
pub mod run;
pub mod runs;
pub mod sim;
pub mod undo;
pub mod wit;

use crate::output::Failed;
use clap::Subcommand;

/// Everything that can be typed after `salve`.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "what a command is stands on its own struct, which clap shows")]
pub enum Command {
    Demo(demo::Demo),
    Check(check::Check),
    Plan(plan::Plan),
    Run(run::RunGuest),
    Recover(recover::Recover),
    Inspect(inspect::Inspect),
    Rbac(rbac::Rbac),
    Runs(runs::Runs),
    Report(report::Report),
    Replay(replay::Replay),
    Undo(undo::Undo),
    Doctor(doctor::Doctor),
    Sim(sim::Sim),
    Wit(wit::Wit),
    Completions(completions::Completions),
}

impl Command {
    /// Does it, and says the exit code.
    pub async fn execute(self, verbose: u8) -> Result<u8, Failed> {
        match self {
            Self::Demo(demo) => demo.execute(verbose).await,
            Self::Check(check) => check.execute(verbose).await,
            Self::Plan(plan) => plan.execute(verbose).await,
            Self::Run(run) => run.execute(verbose).await,
            Self::Recover(recover) => recover.execute(verbose).await,
            Self::Inspect(inspect) => inspect.execute().await,
            Self::Rbac(rbac) => rbac.execute().await,
            Self::Runs(runs) => runs.execute(),
            Self::Report(report) => report.execute(verbose),
            Self::Replay(replay) => replay.execute().await,
            Self::Undo(undo) => undo.execute(verbose).await,
            Self::Doctor(doctor) => doctor.execute().await,
            Self::Sim(sim) => sim.execute().await,
            Self::Wit(wit) => wit.execute(),
            Self::Completions(completions) => completions.execute(),
        }
    }
}

/// Prints the one JSON document of a command.
pub fn print_json(document: &impl serde::Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|e| Failed::host(format!("the result is no JSON: {e}")))?;
    anstream::println!("{text}");
    Ok(())
}
