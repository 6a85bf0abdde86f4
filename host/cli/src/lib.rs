//! The `salve` command as a library: called by `main`, and in process by the scenario tests.
//!
//! Reading order: [`commands`] (one file per command), [`session`] (runs a guest on a cluster),
//! [`guest`], [`configuration`], [`cluster`], then [`output`] (everything that users see).

#![forbid(unsafe_code)]
// A new case must be considered wherever cases differ.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

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
use output::CommandError;
use std::process::ExitCode;

/// Run remediations on production safely: they show a plan, cannot exceed it, and clean up.
///
/// A remediation is a small WebAssembly component, the guest. It accesses the cluster only through
/// a few typed capabilities. Everything that it changes temporarily is restored, however the run
/// ends.
///
/// New here? Run `salve demo`: it needs no cluster and no account.
#[derive(Debug, Parser)]
#[command(
    name = "salve",
    version,
    arg_required_else_help = true,
    after_help = EXIT_CODES,
    max_term_width = 110
)]
pub struct Salve {
    #[command(subcommand)]
    command: Command,
    /// Increase verbosity: `-v` lists every finding with its log lines, `-vv` also logs host
    /// activity.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   healthy, fixed, nothing to do, resolved elsewhere, planned, or restored
  1   not fixed, or (check) the incident is present
  2   usage error, or an invalid document or component
  3   denied by the grants
  4   the cluster rejected a request or did not respond
  5   manual action required, whatever else applies: see \"Remaining\" in the report
  6   internal error in the guest or in salve
  7   inconclusive or unverified: something could not be read or verified; check again
  8   needs approval: a grant requires it, and no one gave it
  9   stale plan: it is not what the run would do now, so it was not applied
  10  a different problem was found";

/// Parses the command line, runs the command, and returns its exit code.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(compiler::SUBCOMMAND) {
        return compiler::run_subcommand(&arguments.collect::<Vec<_>>())
            .map_or_else(|error| output::print_error(&error), ExitCode::from);
    }
    compiler::use_separate_process();
    let salve = Salve::parse();
    output::init_tracing(salve.verbose);
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return output::print_error(&CommandError::host(format!(
                    "failed to start the async runtime: {error}"
                )));
            }
        };
    let result = runtime.block_on(salve.command.execute(salve.verbose));
    // A thread may still be blocked on the terminal or on a server: do not wait for it.
    runtime.shutdown_background();
    output::transcript::flush();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => output::print_error(&error),
    }
}
