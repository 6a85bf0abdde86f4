//! Tasks around the code: `cargo xtask TASK`.

mod browser;
mod control_plane;
mod fuzz;
mod go;
mod mutants;
mod soak;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask TASK

what the stories in tests/ need:
  control-plane   builds the Kubernetes control plane, Flux controllers and custom resource definitions into
                  target/control-plane. Needs Go; about 12 minutes the first time.
  browser         finds Chromium and its chromedriver, or installs them where there is apt-get, and notes them in
                  target/browser.

what looks for what nobody thought of:
  fuzz [SECONDS [SEED]]  lets libFuzzer feed documents, run files, logs and components to what reads them, each for so long [60].
                  What it finds lies in target/fuzz/found. A seed makes it look where it looked before: what lands need not be lucky.
                  Needs a C++ compiler.

what takes too long for every change, and leaves its report in docs/:
  killed [N]      kills a run on the real control plane at N random moments [500], its recoveries too: docs/killed.md.
                  500 take about an hour, on three control planes at once.
  survive [N]     crashes, faults and meddlers at every moment in the simulated cluster; of pairs of crashes, every Nth
                  of every Nth [1]: docs/survived.md. All pairs take hours.
  mutants [WORD...]  plants each bug of tests/mutants.yaml, or those with a WORD in their name, into a copy of the tree, and
                  has the test that is named with it catch it: docs/mutants.md. All of them take about an hour.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["control-plane"] => control_plane::build(),
        ["browser"] => browser::find(),
        ["fuzz"] => fuzz::fuzz("60", None),
        ["fuzz", seconds] => fuzz::fuzz(seconds, None),
        ["fuzz", seconds, seed] => fuzz::fuzz(seconds, Some(seed)),
        ["killed"] => soak::killed("500"),
        ["killed", number] => soak::killed(number),
        ["survive"] => soak::survive("1"),
        ["survive", stride] => soak::survive(stride),
        ["mutants", words @ ..] => mutants::run(words),
        ["--help" | "-h" | "help"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The repository.
fn repository() -> Result<&'static Path, String> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or_else(|| "the task runner lost its repository".into())
}
