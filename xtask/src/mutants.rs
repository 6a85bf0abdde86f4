//! Plants each bug of `tests/mutants.yaml` into a copy of the tree, one at a time, and has the test that is named with it
//! catch it. The tree itself is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::{repository, soak};

const LIST: &str = "tests/mutants.yaml";
const REPORT: &str = "docs/mutants.md";

/// How long a test may take without any bug, with building.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long it may take with one, at least.
const HANGS: Duration = Duration::from_secs(300);

/// A bug, and who catches it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    file: PathBuf,
    find: String,
    replace: String,
    /// The target that holds the test; `lib` for a test of the library itself.
    test: String,
    package: String,
    caught_by: String,
}

/// Package, target and name of a test.
type Catcher = (String, String, String);

impl Mutant {
    fn catcher(&self) -> Catcher {
        (self.package.clone(), self.test.clone(), self.caught_by.clone())
    }
}

/// What became of a bug.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Caught,
    Survived,
    /// The test did not come to its end.
    Unbuilt(String),
}

/// Has every bug caught whose name holds one of `words`; without any, every bug. What the report says of the others stays.
pub fn catch(words: &[&str]) -> Result<(), String> {
    let list = repository()?.join(LIST);
    let text = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let all: Vec<Mutant> = serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", list.display()))?;
    let chosen: Vec<&Mutant> = all.iter().filter(|mutant| words.is_empty() || words.iter().any(|word| mutant.name.contains(word))).collect();
    let copy = Copy::new()?;
    let sound = copy.is_sound(&chosen)?;
    // Before the report itself is a change.
    let commit = soak::commit();
    let (mut told, mut missed) = (BTreeMap::new(), vec![]);
    for (n, mutant) in chosen.iter().enumerate() {
        let began = Instant::now();
        let end = copy.with(mutant, sound.get(&mutant.catcher()).copied().unwrap_or_default())?;
        println!("{:>3}/{} {:>4.0} s  {}: {end:?} ({})", n + 1, chosen.len(), began.elapsed().as_secs_f64(), mutant.name, mutant.caught_by);
        let by = format!("by `{}` in `{}`", mutant.caught_by, mutant.test);
        let what = match &end {
            End::Caught => format!("caught {by}"),
            End::Survived => format!("**NOT CAUGHT** {by}"),
            End::Unbuilt(why) => format!("**NOT TOLD**, {why}"),
        };
        told.insert(mutant.name.as_str(), format!("{what}, {commit}"));
        // At once: whoever stops this keeps what was told.
        report(&all, &told)?;
        if end != End::Caught {
            missed.push(mutant.name.as_str());
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("not caught: {}", missed.join("; "))) }
}

/// Writes what is known of each bug: as it was told now, or when it was told last.
fn report(all: &[Mutant], told: &BTreeMap<&str, String>) -> Result<(), String> {
    let before = fs::read_to_string(repository()?.join(REPORT)).unwrap_or_default();
    let line = |mutant: &Mutant| {
        let name = mutant.name.as_str();
        let last = || before.lines().find_map(|line| line.strip_prefix("- ")?.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        told.get(name).cloned().or_else(last).unwrap_or_else(|| "**NOT TOLD** yet".into())
    };
    let mut lines: Vec<String> = all.iter().map(|mutant| format!("{}: {}", mutant.name, line(mutant))).collect();
    let caught = all.iter().filter(|mutant| line(mutant).starts_with("caught")).count();
    lines.insert(0, format!("{caught} of {} planted bugs were caught by the test that is named with them, {} of them told now", all.len(), told.len()));
    let what = "Each bug of `tests/mutants.yaml` is planted alone into a copy of the tree, and the test that is named with it has to fail.\n\
                All of those tests hold without a bug; that is looked at first. `cargo test` sees that each bug can still be planted. Each line\n\
                ends with the commit that it was told on.";
    soak::write(REPORT, "Planted bugs", what, "mutants", &lines)
}

/// A copy of the tree, with its own folder of builds.
struct Copy {
    tree: PathBuf,
    builds: PathBuf,
}

impl Copy {
    /// Copies what git knows and what it would add.
    fn new() -> Result<Self, String> {
        let from = repository()?;
        let (tree, builds) = (from.join("target/mutants/tree"), from.join("target/mutants/build"));
        let output = Command::new("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(from).output();
        let output = output.map_err(|error| format!("git: {error}"))?;
        let files = String::from_utf8(output.stdout).map_err(|error| format!("git ls-files: {error}"))?;
        let files: BTreeSet<&str> = files.split('\0').filter(|file| !file.is_empty() && from.join(file).is_file()).collect();
        forget_others(&tree, &tree, &files)?;
        for file in files {
            let (from, to) = (from.join(file), tree.join(file));
            let bytes = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
            // What is as it was is not built anew.
            if fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))
                .and_then(|()| fs::write(&to, bytes))
                .map_err(|error| format!("{}: {error}", to.display()))?;
        }
        Ok(Self { tree, builds })
    }

    /// Whether every test that is named holds where no bug is planted, and how long that takes.
    fn is_sound(&self, mutants: &[&Mutant]) -> Result<BTreeMap<Catcher, Duration>, String> {
        let tests: BTreeSet<Catcher> = mutants.iter().map(|mutant| mutant.catcher()).collect();
        let mut took = BTreeMap::new();
        for catcher in tests {
            let (package, test, caught_by) = &catcher;
            let began = Instant::now();
            let output = self.test(package, test, caught_by, LONGEST)?;
            if !(output.status.success() && ran(&output)) {
                return Err(format!("`{caught_by}` in `{test}` does not hold without any bug:\n{}", tail(&output)));
            }
            println!("holds  {test}: {caught_by}");
            took.insert(catcher, began.elapsed());
        }
        Ok(took)
    }

    /// Plants the bug, has it caught, and takes it out. A test that takes far longer than it did without the bug hangs.
    fn with(&self, mutant: &Mutant, usual: Duration) -> Result<End, String> {
        let path = self.tree.join(&mutant.file);
        let sound = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if sound.matches(&mutant.find).count() != 1 {
            return Err(format!("{}: what {:?} finds is not there exactly once", mutant.file.display(), mutant.name));
        }
        let write = |text: &str| fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
        write(&sound.replacen(&mutant.find, &mutant.replace, 1))?;
        let output = self.test(&mutant.package, &mutant.test, &mutant.caught_by, HANGS.max(usual * 4));
        write(&sound)?;
        let output = output?;
        Ok(match output.status.success() {
            true => End::Survived,
            // Killed: it hangs, which is to be caught, too.
            false if ran(&output) || output.status.code().is_none_or(|code| code == 137) => End::Caught,
            false => End::Unbuilt(tail(&output)),
        })
    }

    /// Tells one test, for so long.
    fn test(&self, package: &str, test: &str, caught_by: &str, longest: Duration) -> Result<Output, String> {
        let cargo = |arguments: &[&str]| {
            let mut command = Command::new("timeout");
            // KILL: a test may take a politer signal for one of its own.
            command.args(["--signal=KILL", &longest.as_secs().to_string(), "cargo"]).args(arguments);
            command.env("CARGO_TARGET_DIR", &self.builds).env_remove("RUST_BACKTRACE").current_dir(&self.tree);
            command
        };
        if package == "salve-tests" {
            let built = cargo(&soak::PROGRAM).output().map_err(|error| format!("cargo: {error}"))?;
            if !built.status.success() {
                return Ok(built);
            }
        }
        let target: &[&str] = if test == "lib" { &["--lib"] } else { &["--test", test] };
        let mut command = cargo(&[&["test", "--locked", "--workspace", "--exclude", "xtask"], target].concat());
        command.args(["--", "--exact", caught_by]).output().map_err(|error| format!("cargo: {error}"))
    }
}

/// Takes away what was copied before and is no part of the tree any more.
fn forget_others(tree: &Path, folder: &Path, files: &BTreeSet<&str>) -> Result<(), String> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let known = path.strip_prefix(tree).ok().and_then(Path::to_str).is_some_and(|file| files.contains(file));
        if path.is_dir() {
            forget_others(tree, &path, files)?;
        } else if !known {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether a test came to its end, well or not.
fn ran(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stdout);
    text.contains("1 passed") || text.contains("1 failed")
}

fn tail(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("error") || line.contains("panicked")).take(3).collect();
    lines.join("; ")
}
