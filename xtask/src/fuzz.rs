//! Lets libFuzzer look for bytes that break a promise of `tests/fuzz`. Stable Rust: `tests/fuzz/instrument` has LLVM count the branches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::repository;

/// The fuzzers, as their corpora are called.
const TARGETS: [&str; 4] = ["documents", "run-file", "logs", "component"];

/// One input may take so many seconds, and the fuzzer so many MiB.
const LONGEST: u32 = 10;
const LARGEST: u32 = 2048;

/// Fuzzes each target for so many seconds. Without a seed, what was found before is gone on from; with one, the corpus alone is.
pub fn fuzz(seconds: &str, seed: Option<&str>) -> Result<(), String> {
    let seconds: u32 =
        seconds.parse().map_err(|_| format!("{seconds:?} is no number of seconds"))?;
    let seed: Option<u32> =
        seed.map(|seed| seed.parse().map_err(|_| format!("{seed:?} is no seed"))).transpose()?;
    let root = repository()?;
    let kept = root.join("target/fuzz");
    let found = kept.join("found");
    fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let fuzzers = build(root)?;
    let mut broken = vec![];
    for target in TARGETS {
        let fuzzer = fuzzers
            .iter()
            .find(|(name, _)| name.strip_prefix("fuzz-") == Some(target))
            .ok_or_else(|| format!("cargo built no fuzz-{target}"))?;
        let grown = kept
            .join(seed.map_or_else(|| "corpus".into(), |seed| format!("seed-{seed}")))
            .join(target);
        if seed.is_some() && grown.exists() {
            fs::remove_dir_all(&grown).map_err(|error| format!("{}: {error}", grown.display()))?;
        }
        fs::create_dir_all(&grown).map_err(|error| format!("{}: {error}", grown.display()))?;
        let output = Command::new(&fuzzer.1)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={LONGEST}"))
            .arg(format!("-rss_limit_mb={LARGEST}"))
            .arg(format!("-artifact_prefix={}/{target}-", found.display()))
            .arg("-print_final_stats=1")
            .args(seed.map(|seed| format!("-seed={seed}")))
            // The first folder takes what is new.
            .args([grown, root.join("tests/fuzz/corpus").join(target)])
            .env_remove("RUST_BACKTRACE")
            .output();
        let output = output.map_err(|error| format!("fuzz-{target}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            println!(
                "{target}: holds for {} inputs; {}",
                stat(&said, "number_of_executed_units"),
                covered(&said)
            );
        } else {
            println!("{said}\n{target}: BROKEN");
            broken.push(target);
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    let found = found.display();
    Err(format!(
        "{} broke a promise: put the file from {found} into its folder of tests/fuzz/corpus, and `cargo test` tells why",
        broken.join(" and ")
    ))
}

/// A number of libFuzzer's last words.
fn stat<'a>(said: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| {
        line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':').map(str::trim)
    };
    said.lines().find_map(value).unwrap_or("?")
}

/// How many branches were seen at the beginning, by the corpus alone, and at the end.
fn covered(said: &str) -> String {
    let of = |word: &str| {
        said.lines().find(|line| line.contains(word))?.split("cov: ").nth(1)?.split(' ').next()
    };
    format!(
        "branches {} at first, {} at last",
        of("INITED").unwrap_or("?"),
        of("DONE").unwrap_or("?")
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

/// Builds the fuzzers, in the selection of every other build: what they stand on is built already.
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
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err("the fuzzers do not build; they need a C++ compiler".into());
    }
    let messages = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    Ok(messages.filter_map(|message| Some((message.target?.name, message.executable?))).collect())
}
