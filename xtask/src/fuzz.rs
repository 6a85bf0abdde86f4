//! Fuzzes the parsers of untrusted input in `tests/fuzz` with libFuzzer. Works on stable Rust:
//! `tests/fuzz/instrument` passes the coverage flags to LLVM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::repository;

/// The fuzz targets. Their corpora have the same names.
const TARGETS: [&str; 4] = ["documents", "run-file", "logs", "component"];

/// Time limit for one input, in seconds.
const INPUT_TIMEOUT: u32 = 10;

/// Memory limit for a fuzzer, in MiB.
const MEMORY_LIMIT: u32 = 2048;

/// Fuzzes each target for `seconds`. Without a seed, continues from the inputs that earlier runs
/// found; with one, starts from the corpus alone.
pub fn fuzz(seconds: &str, seed: Option<&str>) -> Result<(), String> {
    let seconds: u32 =
        seconds.parse().map_err(|_| format!("invalid number of seconds: {seconds:?}"))?;
    let seed: Option<u32> =
        seed.map(|seed| seed.parse().map_err(|_| format!("invalid seed: {seed:?}"))).transpose()?;
    let root = repository()?;
    let output_folder = root.join("target/fuzz");
    let found = output_folder.join("found");
    fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let fuzzers = build(root)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failed = vec![];
    for targets in TARGETS.chunks(cores) {
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = targets
                .iter()
                .map(|target| scope.spawn(|| fuzz_target(root, &fuzzers, target, seconds, seed)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| Err("a thread of xtask panicked".into()))
                })
                .collect()
        });
        for (target, passed) in targets.iter().zip(results) {
            if !passed? {
                failed.push(*target);
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let found = found.display();
    Err(format!(
        "{} failed: copy the input from {found} to the target's folder in tests/fuzz/corpus; \
         `cargo test` then shows the failure",
        failed.join(" and ")
    ))
}

/// Runs the fuzzer of a target and prints its result. Returns whether every input passed.
fn fuzz_target(
    root: &Path,
    fuzzers: &[(String, PathBuf)],
    target: &str,
    seconds: u32,
    seed: Option<u32>,
) -> Result<bool, String> {
    let output_folder = root.join("target/fuzz");
    let fuzzer = fuzzers
        .iter()
        .find(|(name, _)| name.strip_prefix("fuzz-") == Some(target))
        .ok_or_else(|| format!("cargo did not build fuzz-{target}"))?;
    let inputs = output_folder
        .join(seed.map_or_else(|| "corpus".into(), |seed| format!("seed-{seed}")))
        .join(target);
    if seed.is_some() && inputs.exists() {
        fs::remove_dir_all(&inputs).map_err(|error| format!("{}: {error}", inputs.display()))?;
    }
    fs::create_dir_all(&inputs).map_err(|error| format!("{}: {error}", inputs.display()))?;
    let found = output_folder.join("found").join(format!("{target}-"));
    let output = Command::new(&fuzzer.1)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_TIMEOUT}"))
        .arg(format!("-rss_limit_mb={MEMORY_LIMIT}"))
        .arg(format!("-artifact_prefix={}", found.display()))
        .arg("-print_final_stats=1")
        .args(seed.map(|seed| format!("-seed={seed}")))
        // New inputs are written to the first folder.
        .args([inputs, root.join("tests/fuzz/corpus").join(target)])
        .env_remove("RUST_BACKTRACE")
        .output();
    let output = output.map_err(|error| format!("failed to run fuzz-{target}: {error}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!(
            "{target}: ok, {} inputs; {}",
            stat(&log, "number_of_executed_units"),
            coverage(&log)
        );
    } else {
        println!("{log}\n{target}: FAILED");
    }
    Ok(output.status.success())
}

/// Returns a number of libFuzzer's final statistics.
fn stat<'a>(log: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| {
        line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':').map(str::trim)
    };
    log.lines().find_map(value).unwrap_or("?")
}

/// Describes how many branches were covered by the initial inputs and at the end.
fn coverage(log: &str) -> String {
    let branches = |event: &str| {
        log.lines().find(|line| line.contains(event))?.split("cov: ").nth(1)?.split(' ').next()
    };
    format!(
        "branches covered: {} initially, {} finally",
        branches("INITED").unwrap_or("?"),
        branches("DONE").unwrap_or("?")
    )
}

#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds the fuzzers with the same package selection as other builds, so that dependencies are
/// not rebuilt. Returns the name and path of each.
fn build(root: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let mut command = Command::new("cargo");
    command.args([
        "test",
        "--locked",
        "--no-run",
        "--workspace",
        "--exclude",
        "xtask",
        "--features",
        "salve-fuzz/libfuzzer",
    ]);
    for target in TARGETS {
        command.args(["--test", &format!("fuzz-{target}")]);
    }
    command
        .args(["--message-format", "json-render-diagnostics"])
        .env("RUSTC_WORKSPACE_WRAPPER", root.join("tests/fuzz/instrument"));
    let output = command
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("failed to run cargo: {error}"))?;
    if !output.status.success() {
        return Err("failed to build the fuzzers; they need a C++ compiler".into());
    }
    let messages = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    Ok(messages.filter_map(|message| Some((message.target?.name, message.executable?))).collect())
}
