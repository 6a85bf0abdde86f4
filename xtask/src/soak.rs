//! Stories that take too long for every change: told by one command, which leaves its report in `docs/`.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::repository;

/// What follows this in a line of a story stands in its report. One test at a time leaves its name before it.
const TOLD: &str = "report: ";

/// Builds the program that the stories start: cargo does so for the tests of its own package only. Without `--tests` it would be built
/// with other features, and so would all that it stands on.
pub const PROGRAM: [&str; 8] =
    ["test", "--locked", "--workspace", "--exclude", "xtask", "--no-run", "--test", "bad_input"];

/// Control planes at once: a run mostly waits.
const AT_ONCE: usize = 3;

/// Kills a run on the real control plane so many times.
pub fn killed(number: &str) -> Result<(), String> {
    let number: usize = number.parse().map_err(|_| format!("{number:?} is no number of kills"))?;
    let shares = (0..AT_ONCE)
        .map(|n| number / AT_ONCE + usize::from(n < number % AT_ONCE))
        .filter(|share| *share > 0);
    let soak = Soak {
        task: format!("killed {number}"),
        file: "docs/killed.md",
        title: "Killed on the real control plane",
        what: "A process of `salve run volsync-unlock` on a real kube-apiserver with real Flux gets SIGKILL at a random moment, and so does each\n\
               `salve recover` that takes its run up, until one comes to its end. After each run: every change in the API server's audit log has its entry\n\
               in the run file, nothing was done twice, Flux is as it was, no mark and no Lease is left, and Git's sources are back.\n\
               A run that was killed before its header stood has no outcome: that nothing was sent is looked at.\n\
               `tests/tests/control_plane_incident/killed.rs` tells it; 40 kills of it are part of `cargo test`. Three control planes share the kills.",
        arguments: &["--test", "control_plane_incident", "--", "killed", "--nocapture"],
        starts_the_program: true,
        processes: shares.map(|share| vec![("SALVE_KILLS", share.to_string())]).collect(),
    };
    soak.tell()
}

/// Disturbs a run in the simulated cluster at every moment.
pub fn survive(stride: &str) -> Result<(), String> {
    let stride: usize = stride
        .parse()
        .ok()
        .filter(|stride| *stride > 0)
        .ok_or_else(|| format!("{stride:?} is no stride"))?;
    let soak = Soak {
        task: format!("survive {stride}"),
        file: "docs/survived.md",
        title: "Disturbed in the simulated cluster",
        what: "A run of `volsync-unlock` dies before each line that it writes, each sync and each request, of its process or of its machine, and is taken\n\
               up; so does the recovery. Each fault of an API server strikes at each request. Meddlers re-create, edit, suspend and resume between any two\n\
               requests. After each: nothing ungranted, nothing twice, nothing outside the frozen set, Flux as before or said loudly, the replay agrees,\n\
               the report equals the file, and never \"fixed\" without proof. `tests/tests/crash_recovery/` tells it; a part is told in `cargo test`.",
        arguments: &[
            "--release",
            "--test",
            "crash_recovery",
            "--",
            "--nocapture",
            "--test-threads=1",
        ],
        starts_the_program: false,
        processes: vec![vec![
            ("SALVE_PAIRS", stride.to_string()),
            ("SALVE_FAULTS", "1".into()),
            ("SALVE_DEEDS", "1".into()),
        ]],
    };
    soak.tell()
}

struct Soak {
    task: String,
    file: &'static str,
    title: &'static str,
    what: &'static str,
    arguments: &'static [&'static str],
    starts_the_program: bool,
    /// What each process that tells it has in its environment; they run at once.
    processes: Vec<Vec<(&'static str, String)>>,
}

impl Soak {
    /// Tells the story, and writes its report however it ends.
    fn tell(&self) -> Result<(), String> {
        let began = Instant::now();
        if self.starts_the_program {
            let built = Command::new("cargo").args(PROGRAM).current_dir(repository()?).status();
            if !built.map_err(|error| format!("cargo: {error}"))?.success() {
                return Err("the program does not build".into());
            }
        }
        let told: Vec<_> = std::thread::scope(|scope| {
            let tellers: Vec<_> = self
                .processes
                .iter()
                .map(|variables| scope.spawn(|| self.process(variables)))
                .collect();
            tellers
                .into_iter()
                .map(|teller| {
                    teller
                        .join()
                        .unwrap_or_else(|_| Err("a thread of the task runner broke".into()))
                })
                .collect()
        });
        let (mut lines, mut failed) = (vec![], false);
        for process in told {
            let (said, held) = process?;
            lines.extend(said);
            failed |= !held;
        }
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        lines.push(format!(
            "{}, after {minutes:.0} min with building",
            if failed { "A STORY FAILED" } else { "every story held" }
        ));
        write(self.file, self.title, self.what, &self.task, &lines)?;
        if failed { Err(format!("a story failed; {} says so", self.file)) } else { Ok(()) }
    }

    /// One process: what it reports, and whether its story held.
    fn process(&self, variables: &[(&'static str, String)]) -> Result<(Vec<String>, bool), String> {
        let mut command = Command::new("cargo");
        command
            .args(["test", "--locked", "--workspace", "--exclude", "xtask"])
            .args(self.arguments)
            .current_dir(repository()?);
        let mut child = command
            .envs(variables.iter().cloned())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cargo: {error}"))?;
        let mut told = vec![];
        for line in
            BufReader::new(child.stdout.take().ok_or("stdout was asked to be a pipe")?).lines()
        {
            let line = line.map_err(|error| format!("reading what the story says: {error}"))?;
            println!("{line}");
            told.extend(line.split_once(TOLD).map(|(_, told)| told.to_owned()));
        }
        let ended = child.wait().map_err(|error| format!("cargo: {error}"))?;
        Ok((told, ended.success()))
    }
}

/// Writes a report: what was done, by which command, on what, and what came of it.
pub fn write(
    file: &str,
    title: &str,
    what: &str,
    task: &str,
    told: &[String],
) -> Result<(), String> {
    let path = repository()?.join(file);
    let mut text =
        format!("# {title}\n\n{what}\n\nThe last report, as `cargo xtask {task}` wrote it:\n\n");
    for line in facts().iter().chain(told) {
        let _ = writeln!(text, "- {line}");
    }
    fs::create_dir_all(path.parent().ok_or("a report has a folder")?)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{} is written", path.display());
    Ok(())
}

/// What a program says.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What the tree stands on.
pub fn commit() -> String {
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|changes| !changes.is_empty());
    let commit = said("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".into());
    format!("commit {commit}{}", if changed { " with changes" } else { "" })
}

/// When, which commit, and on what machine.
fn facts() -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        format!(
            "{}, on top of {}",
            said("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default(),
            commit()
        ),
        format!(
            "{} on {}, {cores} cores",
            said("rustc", &["--version"]).unwrap_or_default(),
            std::env::consts::ARCH
        ),
    ]
}
