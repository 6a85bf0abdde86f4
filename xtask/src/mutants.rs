//! Plants each bug of `tests/mutants.yaml` into a copy of the repository, one at a time, and checks
//! that its test fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use xtask::planted::{self, PlantedBug};

use crate::{long_tests, repository};

const REPORT: &str = "docs/mutants.md";

/// Limit for a test without a planted bug, including the build.
const BASELINE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Minimum limit for a test with a planted bug.
const PLANTED_TIMEOUT: Duration = Duration::from_secs(300);

/// Package, target, and name of a test.
type Test<'a> = (&'a str, &'a str, &'a str);

fn test(bug: &PlantedBug) -> Test<'_> {
    (&bug.package, &bug.target, &bug.caught_by)
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Caught,
    Survived,
    /// The test did not finish.
    NotRun(String),
}

/// Tests every bug whose name contains one of `names`, or all bugs if `names` is empty. The report
/// keeps earlier results of the others.
pub fn run(names: &[&str]) -> Result<(), String> {
    let all = planted::load(repository()?)?;
    let mut chosen: Vec<&PlantedBug> = all
        .iter()
        .filter(|bug| names.is_empty() || names.iter().any(|name| bug.name.contains(name)))
        .collect();
    // Bugs of the same file and target need the fewest builds in a row.
    chosen.sort_by_key(|bug| (bug.file(), &bug.target));
    let copy = Copy::new()?;
    let durations = copy.check_without_bugs(&chosen)?;
    // Read before the report itself becomes a change.
    let commit = long_tests::commit();
    let (mut results, mut missed) = (BTreeMap::new(), vec![]);
    for (n, bug) in chosen.iter().enumerate() {
        let began = Instant::now();
        let outcome =
            copy.run_planted(bug, durations.get(&test(bug)).copied().unwrap_or_default())?;
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{:>3}/{} {seconds:>4.0} s  {}: {outcome:?} ({})",
            n + 1,
            chosen.len(),
            bug.name,
            bug.caught_by
        );
        let by = format!("by `{}` in `{}`", bug.caught_by, bug.target);
        let result = match &outcome {
            Outcome::Caught => format!("caught {by}"),
            Outcome::Survived => format!("**NOT CAUGHT** {by}"),
            Outcome::NotRun(why) => format!("**NOT RUN**, {why}"),
        };
        results.insert(bug.name.as_str(), format!("{result}, {commit}"));
        // Written after each bug, so that an interrupted run keeps its results.
        write_report(&all, &results)?;
        if outcome != Outcome::Caught {
            missed.push(bug.name.as_str());
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("not caught: {}", missed.join(", "))) }
}

/// Writes the latest result of each bug.
fn write_report(all: &[PlantedBug], results: &BTreeMap<&str, String>) -> Result<(), String> {
    let before = fs::read_to_string(repository()?.join(REPORT)).unwrap_or_default();
    let result = |bug: &PlantedBug| {
        let earlier = || {
            before.lines().find_map(|line| {
                Some(
                    line.strip_prefix(&format!("- `{}`: ", bug.name))?
                        .split_once(" | ")?
                        .1
                        .to_owned(),
                )
            })
        };
        results
            .get(bug.name.as_str())
            .cloned()
            .or_else(earlier)
            .unwrap_or_else(|| "**NOT RUN** yet".into())
    };
    let mut lines: Vec<String> =
        all.iter().map(|bug| format!("`{}`: {} | {}", bug.name, bug.bug, result(bug))).collect();
    let caught = all.iter().filter(|bug| result(bug).starts_with("caught")).count();
    lines.insert(
        0,
        format!(
            "{caught} of {} planted bugs were caught by their test, {} of them in this run",
            all.len(),
            results.len()
        ),
    );
    let what = "\
Each bug is planted alone into a copy of the repository, and the test named with it has to fail. The
same tests pass without any bug; that is checked first. `cargo test` checks that every bug still
applies. Each line ends with the commit that was tested.";
    long_tests::write_report(REPORT, "Planted bugs", what, "mutants", &lines)
}

/// A copy of the repository with its own build folder.
struct Copy {
    tree: PathBuf,
    builds: PathBuf,
}

impl Copy {
    /// Copies all files that Git tracks or would add.
    fn new() -> Result<Self, String> {
        let from = repository()?;
        let (tree, builds) = (from.join("target/mutants/tree"), from.join("target/mutants/build"));
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(from)
            .output();
        let output = output.map_err(|error| format!("failed to run git: {error}"))?;
        let files =
            String::from_utf8(output.stdout).map_err(|error| format!("git ls-files: {error}"))?;
        let files: BTreeSet<&str> = files
            .split('\0')
            .filter(|file| !file.is_empty() && from.join(file).is_file())
            .collect();
        remove_others(&tree, &tree, &files)?;
        for built in ["control-plane", "browser"] {
            link(&from.join("target").join(built), &tree.join("target").join(built))?;
        }
        for file in files {
            let (from, to) = (from.join(file), tree.join(file));
            let bytes = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
            // Rewriting an unchanged file would rebuild it.
            if fs::read(&to).is_ok_and(|existing| existing == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))
                .and_then(|()| fs::write(&to, bytes))
                .map_err(|error| format!("{}: {error}", to.display()))?;
        }
        Ok(Self { tree, builds })
    }

    /// Runs every named test without a bug. Returns how long each takes.
    fn check_without_bugs<'a>(
        &self,
        bugs: &[&'a PlantedBug],
    ) -> Result<BTreeMap<Test<'a>, Duration>, String> {
        let tests: BTreeSet<Test> = bugs.iter().map(|bug| test(bug)).collect();
        let mut durations = BTreeMap::new();
        for test in tests {
            let (_, target, name) = test;
            let began = Instant::now();
            let output = self.run_test(test, BASELINE_TIMEOUT)?;
            if !(output.status.success() && finished(&output)) {
                return Err(format!(
                    "`{name}` in `{target}` does not pass without any bug:\n{}",
                    errors(&output)
                ));
            }
            println!("passes  {target}: {name}");
            durations.insert(test, began.elapsed());
        }
        Ok(durations)
    }

    /// Plants the bug, runs its test, and removes the bug. A test that takes much longer than
    /// without the bug is killed and counts as failed.
    fn run_planted(&self, bug: &PlantedBug, baseline: Duration) -> Result<Outcome, String> {
        let path = self.tree.join(bug.file());
        let original =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let write = |text: &str| {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        write(&bug.plant(&original)?)?;
        let output = self.run_test(test(bug), PLANTED_TIMEOUT.max(baseline * 4));
        write(&original)?;
        let output = output?;
        Ok(match output.status.success() {
            true => Outcome::Survived,
            // Killed: a hanging test has caught the bug as well.
            false if finished(&output) || output.status.code().is_none_or(|code| code == 137) => {
                Outcome::Caught
            }
            false => Outcome::NotRun(errors(&output)),
        })
    }

    fn run_test(&self, (package, target, name): Test, timeout: Duration) -> Result<Output, String> {
        let cargo = |arguments: &[&str]| {
            let mut command = Command::new("timeout");
            // KILL: a test may handle SIGTERM as part of what it tests.
            command
                .args(["--signal=KILL", &timeout.as_secs().to_string(), "cargo"])
                .args(arguments);
            command
                .env("CARGO_TARGET_DIR", &self.builds)
                // Each build differs from the one before in two lines.
                .env("CARGO_INCREMENTAL", "1")
                .env_remove("RUST_BACKTRACE")
                .current_dir(&self.tree);
            command
        };
        if package == "salve-tests" {
            let built = cargo(&long_tests::BUILD_SALVE)
                .output()
                .map_err(|error| format!("failed to run cargo: {error}"))?;
            if !built.status.success() {
                return Ok(built);
            }
        }
        let target: &[&str] = if target == "lib" { &["--lib"] } else { &["--test", target] };
        let mut command = cargo(&[&["test", "--locked", "--package", package], target].concat());
        command
            .args(["--", "--exact", name])
            .output()
            .map_err(|error| format!("failed to run cargo: {error}"))
    }
}

/// Lets the tests of the copy use what the repository has built.
fn link(built: &Path, link: &Path) -> Result<(), String> {
    if link.is_symlink() || !built.is_dir() {
        return Ok(());
    }
    // The build script of the tests creates an empty folder where there is nothing.
    let made = match fs::remove_dir(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => fs::create_dir_all(link.parent().unwrap_or(link))
            .and_then(|()| std::os::unix::fs::symlink(built, link)),
    };
    made.map_err(|error| format!("{}: {error}", link.display()))
}

/// Removes files of an earlier copy that are no longer part of the repository. Does not follow
/// links.
fn remove_others(tree: &Path, folder: &Path, files: &BTreeSet<&str>) -> Result<(), String> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let known = path
            .strip_prefix(tree)
            .ok()
            .and_then(Path::to_str)
            .is_some_and(|file| files.contains(file));
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            remove_others(tree, &path, files)?;
        } else if !known {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// Returns whether the test passed or failed, as opposed to not having run.
fn finished(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stdout);
    text.contains("1 passed") || text.contains("1 failed")
}

fn errors(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| ["error", "panicked", "... ignored"].iter().any(|mark| line.contains(mark)))
        .take(3)
        .collect();
    lines.join("; ")
}
