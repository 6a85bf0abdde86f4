//! Development tasks: `cargo xtask TASK`.

mod browser;
mod control_plane;
mod fuzz;
mod go;
mod long_tests;
mod mutants;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask <TASK>

`cargo test` runs every test that is fast enough for every change. These tasks build what some of
those tests need, and run the tests that take longer.

Prerequisites of tests (without them, cargo test reports the tests that need them as ignored):
  control-plane
      Build the Kubernetes control plane, the Flux controllers, and the custom resource definitions
      into target/control-plane. Needs Go. Takes about 8 minutes the first time.
  browser
      Find Chromium and chromedriver, or install them with apt-get, and write their paths to
      target/browser.

Fuzzing:
  fuzz [SECONDS [SEED]]
      Fuzz each parser of untrusted input (documents, run files, logs, components) with libFuzzer
      for SECONDS [default: 60]. An input that breaks a promise is saved to target/fuzz/found; copy
      it to the target's folder in tests/fuzz/corpus to turn it into a test. Without SEED, fuzzing
      continues from what earlier runs found; with SEED, it starts from the corpus and is
      repeatable. Needs a C++ compiler.

Long tests (each replaces its report in docs/):
  killed [N]
      Kill runs and their recoveries on the real control plane at N random moments [default: 500].
      Needs control-plane. 500 kills take about an hour on three control planes. Report:
      docs/killed.md.
  survive [N]
      Run volsync-unlock in the simulated cluster with a crash, an API server fault, or a change by
      another user at every Nth point [default: 1, which takes hours]. Report: docs/survived.md.
  diagnose [CLUSTERS]
      Compose CLUSTERS simulated clusters of each family [default: 2000] from independent axes,
      diagnose each with volsync-unlock, run it on the first tenth, and compare the results with
      what the simulated actors hold. Report: docs/diagnosis.md.
  mutants [NAME...]
      Plant each bug of tests/mutants.yaml, or those whose name contains a NAME, into a copy of the
      repository, and check that its test fails. All bugs take about an hour. Report:
      docs/mutants.md.

Options:
  -h, --help  Print help
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["control-plane"] => control_plane::build(),
        ["browser"] => browser::find(),
        ["fuzz"] => fuzz::fuzz("60", None),
        ["fuzz", seconds] => fuzz::fuzz(seconds, None),
        ["fuzz", seconds, seed] => fuzz::fuzz(seconds, Some(seed)),
        ["killed"] => long_tests::killed("500"),
        ["killed", number] => long_tests::killed(number),
        ["survive"] => long_tests::survive("1"),
        ["survive", stride] => long_tests::survive(stride),
        ["diagnose"] => long_tests::diagnose("2000"),
        ["diagnose", clusters] => long_tests::diagnose(clusters),
        ["mutants", names @ ..] => mutants::run(names),
        ["--help" | "-h" | "help"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the root of the repository.
fn repository() -> Result<&'static Path, String> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or_else(|| "xtask is not in a repository".into())
}
