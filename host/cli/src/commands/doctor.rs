//! `salve doctor`: what earlier runs left behind, from whatever machine.

use super::print_json;
use crate::arguments::{ClusterArguments, Output, OutputArguments};
use crate::cluster::Open;
use crate::tell::{BAD, DIM, Failed, GOOD, moment};
use clap::Args;
use salve_core::effect::Touch;
use salve_core::effect::host::{Leftover, Leftovers};
use salve_core::effect::suspend_flux::Resume;
use salve_core::equivalent;
use salve_core::text::inert;

/// What earlier runs left suspended, found by the annotation that they set. Read-only.
///
/// Exit code 0: nothing is left. 5: something is, and what to type stands beside it.
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Doctor {
    /// Looks for leftovers.
    pub async fn execute(self) -> Result<u8, Failed> {
        let open = Open::live(&self.cluster).await?;
        let leftovers = open.ask(Leftovers {}).await?;
        let now = open.clock().now();
        let code = if leftovers.is_empty() { 0 } else { 5 };
        if self.output.output == Output::Json {
            let items: Vec<_> = leftovers.iter().map(|left| serde_json::json!({"leftover": left, "commands": commands(left)})).collect();
            print_json(&serde_json::json!({"apiVersion": "salve.dev/v1alpha1", "kind": "Leftovers", "items": items}))?;
            return Ok(code);
        }
        if leftovers.is_empty() {
            anstream::println!("{GOOD}NOTHING LEFT{GOOD:#}  no Flux object bears the mark of a run");
            return Ok(code);
        }
        anstream::println!("{BAD}LEFT OPEN{BAD:#}  {} with the mark of a run\n", crate::tell::count(leftovers.len(), "Flux object"));
        for left in leftovers {
            let state = if left.suspended { "suspended" } else { "no longer suspended, but still marked" };
            anstream::println!("{}  {state} by run {}: {}", left.target, inert(&left.run), inert(&left.reason));
            match left.deadline {
                Some(deadline) if deadline < now => {
                    anstream::println!("{DIM}  the run meant to be through by {}: it has died or hangs{DIM:#}", moment(deadline))
                }
                Some(deadline) => anstream::println!("{DIM}  the run may still be at work, until {}{DIM:#}", moment(deadline)),
                None => {}
            }
            for command in commands(&left) {
                anstream::println!("  type    {}", inert(&command));
            }
        }
        Ok(code)
    }
}

/// What a person types to give it back, and to take the mark off.
fn commands(left: &Leftover) -> Vec<String> {
    let release = Touch::Resume(Resume { target: left.target.clone(), uid: String::new(), prior: left.prior });
    let resume = if left.suspended { equivalent::commands(&release) } else { vec![] };
    resume.into_iter().chain([equivalent::unmark(&left.target)]).collect()
}
