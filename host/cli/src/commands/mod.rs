//! One file per command: its arguments, its help, and its implementation.

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

use crate::output::CommandError;
use clap::Subcommand;

/// The subcommands of `salve`. Each is documented on its own struct, which clap shows as help.
#[derive(Debug, Subcommand)]
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
    /// Executes the command and returns its exit code.
    pub async fn execute(self, verbose: u8) -> Result<u8, CommandError> {
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

/// Prints the JSON document that a command returns with `--output json`.
pub fn print_json(document: &impl serde::Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|e| CommandError::host(format!("failed to serialize the result: {e}")))?;
    anstream::println!("{text}");
    Ok(())
}
