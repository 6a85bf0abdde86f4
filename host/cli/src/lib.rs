//! The `salve` command as a library: what `main` calls, and what the stories in `tests/` run in process.
//!
//! Read in this order: [`commands`] (one file each), [`session`] (a guest, a cluster, one run of the one on
//! the other), [`guest`], [`configuration`], [`cluster`], then [`output`], which is all that a person sees.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod cluster;
pub mod commands;
pub mod compiler;
pub mod components;
pub mod configuration;
pub mod guest;
pub mod output;
pub mod plans;
pub mod runs;
pub mod session;

use clap::Parser;
use commands::Command;
use output::Failed;
use std::process::ExitCode;

/// Remediations you can let loose on production.
///
/// A remediation is a small WebAssembly component, the guest. It sees the cluster through a few typed
/// capabilities and nothing else. It shows its plan, cannot exceed it, and always cleans up.
///
/// New here? Type `salve demo`: no cluster and no account are needed.
#[derive(Debug, Parser)]
#[command(name = "salve", version, arg_required_else_help = true, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Salve {
    #[command(subcommand)]
    command: Command,
    /// Say more: every finding with its lines. Twice: what the host does, too.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXIT_CODES: &str = "\
Exit codes, the highest that applies:
  0  fixed, or nothing to do
  1  not fixed, not this incident, or (check) the incident is here
  2  usage, or a broken document or component
  3  denied by the grants
  4  the cluster refused or is silent
  5  something is left open that needs a person
  6  the guest or the host broke";

/// Parses, dispatches, and says the exit code.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(compiler::SUBCOMMAND) {
        return compiler::answer(&arguments.collect::<Vec<_>>())
            .map_or_else(|failed| output::failed(&failed), ExitCode::from);
    }
    compiler::is_this_program();
    let salve = Salve::parse();
    output::trace(salve.verbose);
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return output::failed(&Failed::host(format!("no threads to work with: {error}")));
            }
        };
    let ended = runtime.block_on(salve.command.execute(salve.verbose));
    // A thread may still wait for a terminal or a server: do not wait for it.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failed) => output::failed(&failed),
    }
}
