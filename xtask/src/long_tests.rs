//! Tests that take too long for every change. Each is one task and writes its report to `docs/`.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::repository;

/// Tests print their results after this marker. It is not always at the start of a line: with one
/// test thread, the name of the test precedes it.
const REPORT_MARKER: &str = "report: ";

/// Arguments of `cargo` that build the `salve` binary for tests that start it, because cargo builds
/// it only for the tests of its own package.
pub const BUILD_SALVE: [&str; 4] = ["build", "--locked", "--package", "salve"];

/// Number of control planes that run at the same time: a run mostly waits.
const CONTROL_PLANES: usize = 3;

/// Kills runs on the real control plane `number` times.
pub fn killed(number: &str) -> Result<(), String> {
    let number: usize =
        number.parse().map_err(|_| format!("invalid number of kills: {number:?}"))?;
    let shares = (0..CONTROL_PLANES)
        .map(|n| number / CONTROL_PLANES + usize::from(n < number % CONTROL_PLANES))
        .filter(|share| *share > 0);
    let test = LongTest {
        task: format!("killed {number}"),
        file: "docs/killed.md",
        title: "Killed on the real control plane",
        what: "\
A process of `salve run volsync-unlock` on a real kube-apiserver with real Flux gets SIGKILL at a
random moment, and so does each `salve recover` of the run, until one completes. After each run,
every change in the API server's audit log has its entry in the run file, nothing was applied twice,
Flux is in its initial state, no annotation of the run and no Lease is left, and the sources in Git
exist again. A run that was killed before it wrote its header has no outcome: the test checks that
it sent nothing. The test is `tests/tests/control_plane/incident/killed.rs`; `cargo test` runs it
with 12 kills. Three control planes share the kills.",
        arguments: &["--test", "control_plane", "--", "incident::killed", "--nocapture"],
        needs_salve: true,
        processes: shares.map(|share| vec![("SALVE_KILLS", share.to_string())]).collect(),
    };
    test.run()
}

/// Disturbs runs in the simulated cluster at every `stride`th operation.
pub fn survive(stride: &str) -> Result<(), String> {
    let stride: usize = stride
        .parse()
        .ok()
        .filter(|stride| *stride > 0)
        .ok_or_else(|| format!("invalid stride: {stride:?} (expected a positive number)"))?;
    let test = LongTest {
        task: format!("survive {stride}"),
        file: "docs/survived.md",
        title: "Disturbed in the simulated cluster",
        what: "\
The process or the machine of a `volsync-unlock` run crashes before each append to the run file,
each sync, and each request, and the run is recovered; the recovery crashes in the same way. Each
API server fault occurs at each request, and outages, rejected credentials, interrupts, and clock
jumps begin at each request. Another user re-creates, edits, suspends, and resumes
objects between any two requests. After each, nothing was written without a grant, nothing was
applied twice, only deletion targets were deleted, Flux is in its initial state or the report says
what is not, the replay agrees, the report matches the run file, and \"fixed\" is reported only with
proof. The tests are in `tests/tests/crash_recovery/`. `cargo xtask survive` tries everything,
`cargo xtask survive N` every Nth crash point, fault, and change, and `cargo test` fewer.",
        arguments: &[
            "--release",
            "--test",
            "crash_recovery",
            "--",
            "--nocapture",
            "--test-threads=1",
        ],
        needs_salve: false,
        processes: vec![vec![("SALVE_STRIDE", stride.to_string())]],
    };
    test.run()
}

/// Diagnoses `clusters` simulated clusters of each family.
pub fn diagnose(clusters: &str) -> Result<(), String> {
    let clusters: usize =
        clusters.parse().ok().filter(|clusters| *clusters >= 10).ok_or_else(|| {
            format!("invalid number of clusters: {clusters:?} (expected 10 or more)")
        })?;
    let test = LongTest {
        task: format!("diagnose {clusters}"),
        file: "docs/diagnosis.md",
        title: "Diagnosed in simulated clusters",
        what: DIAGNOSIS,
        arguments: &["--test", "diagnosis", "--", "--nocapture", "--test-threads=2"],
        needs_salve: false,
        processes: vec![vec![("SALVE_CLUSTERS", clusters.to_string())]],
    };
    test.run()
}

const DIAGNOSIS: &str = "\
A generator composes clusters from independent axes: driver (RBD, CephFS, NFS), version of
ceph-csi (3.8 to 3.17) and with it the texts of its locks, installation (Rook, Rook with the omap
generator, ceph-csi-operator with and without Rook, Helm chart), place and kind of the locks,
owner of each backup (Kustomization, suspended Kustomization, HelmRelease, ResourceSet, Argo CD
by annotation and by label, Flux on a hub, none), state of each backup, problems of the storage,
other drivers, released locks, unreadable logs, clock skew, and unrelated log lines. A cluster is
not placed in its state: the simulated controllers get there in three to six hours of virtual
time, after the generator caused the trouble (a call that hangs, a full quota, a repository that
is locked).

The expected answer is computed from the memory of the simulated actors (which pod holds which
lock, what happens to which mover) and from the objects, and shares no code with the guest:
`tests/tests/diagnosis/truth.rs`. `words.rs` has what a diagnosis must say about each cause.
`volsync-unlock` diagnoses each cluster, and runs on the first tenth of each family.

Columns: *incident* is the number of clusters in which the controller holds a lock and a restart
can help. *found*, *missed*, and *inconclusive* are those of the check; an incident is also
missed if a lock that the controller has logged is not named. A *false alarm* is an incident or a
problem that is not there. *unnamed* is the number of clusters with a cause that no finding names
with its remedy, or whose first line names none. *destructive* counts what runs changed although
it was not part of the incident: ReplicationSources whose PVC exists and that wait for no lock,
or that nothing in the cluster re-creates; volumes of apps; restarts of a controller without
locks; Flux objects left suspended. *false fixed* counts runs that ended as fixed although a pod
of the driver still held a lock, or none did before.

Not measured: drivers in another namespace than `rook-ceph`; locks of node plugins on more than
one node; what the log of a node plugin says; volumes attached to nodes that are down; clocks of
nodes that differ from that of the API server; runs with a consent; and whether a run on an
incident ends as fixed, which depends on what it may delete. The simulated mover has a pod only
if something keeps it from running.

Gate, which `cargo xtask diagnose` enforces: no destructive change, no false \"fixed\", no missed
incident, no false alarm, no unnamed cause, and, in all families except *unreadable*, at least 99 % of the incidents
found with at most 2 % of the clusters inconclusive. The same seed always draws the same
clusters. `SALVE_CLUSTER=N cargo test -p salve-tests --test diagnosis TEST -- --nocapture` repeats
cluster N of a family with all output; `TEST` is the test of the family, such as
`unfinished_backups_are_named`.";

/// The head of the table that the lines starting with `|` belong to.
const TABLE_HEAD: &str = "\
| family | clusters | incident | found | missed | false alarms | inconclusive | unnamed | runs | \
fixed | destructive | false fixed |
|---|---|---|---|---|---|---|---|---|---|---|---|";

struct LongTest {
    /// The task with its arguments, as in `cargo xtask TASK`.
    task: String,
    /// The report, relative to the repository.
    file: &'static str,
    title: &'static str,
    /// What is tested, as Markdown.
    what: &'static str,
    arguments: &'static [&'static str],
    /// Whether the test starts the `salve` binary.
    needs_salve: bool,
    /// The environment variables of each test process. The processes run at the same time.
    processes: Vec<Vec<(&'static str, String)>>,
}

impl LongTest {
    /// Runs all processes and writes the report, whether they pass or fail.
    fn run(&self) -> Result<(), String> {
        let began = Instant::now();
        if self.needs_salve {
            let built = Command::new("cargo").args(BUILD_SALVE).current_dir(repository()?).status();
            if !built.map_err(|error| format!("failed to run cargo: {error}"))?.success() {
                return Err("failed to build salve".into());
            }
        }
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .processes
                .iter()
                .map(|variables| scope.spawn(|| self.run_process(variables)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| Err("a thread of xtask panicked".into()))
                })
                .collect()
        });
        let (mut lines, mut failed) = (vec![], false);
        for result in results {
            let (reported, passed) = result?;
            lines.extend(reported);
            failed |= !passed;
        }
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        lines.push(format!(
            "{} in {minutes:.0} min, including the build",
            if failed { "A TEST FAILED" } else { "all tests passed" }
        ));
        write_report(self.file, self.title, self.what, &self.task, &lines)?;
        if failed { Err(format!("a test failed; see {}", self.file)) } else { Ok(()) }
    }

    /// Runs one process. Returns its report lines and whether it passed.
    fn run_process(
        &self,
        variables: &[(&'static str, String)],
    ) -> Result<(Vec<String>, bool), String> {
        let mut command = Command::new("cargo");
        command
            .args(["test", "--locked", "--package", "salve-tests"])
            .args(self.arguments)
            .current_dir(repository()?);
        let mut child = command
            .envs(variables.iter().cloned())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("failed to run cargo: {error}"))?;
        let stdout = child.stdout.take().ok_or("stdout of the test is not a pipe")?;
        let mut reported = vec![];
        for line in BufReader::new(stdout).lines() {
            let line =
                line.map_err(|error| format!("failed to read the output of the test: {error}"))?;
            println!("{line}");
            reported.extend(line.split_once(REPORT_MARKER).map(|(_, report)| report.to_owned()));
        }
        let status = child.wait().map_err(|error| format!("failed to wait for cargo: {error}"))?;
        Ok((reported, status.success()))
    }
}

/// Writes a report: what was tested, by which task, when, on which commit and machine, and the
/// results.
pub fn write_report(
    file: &str,
    title: &str,
    what: &str,
    task: &str,
    results: &[String],
) -> Result<(), String> {
    let path = repository()?.join(file);
    let mut text =
        format!("# {title}\n\n{what}\n\nLatest report, written by `cargo xtask {task}`:\n\n");
    let (mut rows, lines): (Vec<&String>, Vec<&String>) =
        results.iter().partition(|line| line.starts_with('|'));
    rows.sort();
    for line in environment().iter().chain(lines) {
        let _ = writeln!(text, "- {line}");
    }
    if !rows.is_empty() {
        let _ = writeln!(text, "\n{TABLE_HEAD}");
    }
    for row in rows {
        let _ = writeln!(text, "{row}");
    }
    fs::create_dir_all(path.parent().ok_or("the report has no folder")?)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Returns the trimmed stdout of a program, or `None` if it fails.
fn stdout_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the commit of the tree, and whether the tree has uncommitted changes.
pub fn commit() -> String {
    let changed = stdout_of("git", &["status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|changes| !changes.is_empty());
    let commit =
        stdout_of("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".into());
    format!("commit {commit}{}", if changed { " with changes" } else { "" })
}

/// Returns the date, the commit, the compiler, and the machine.
fn environment() -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        format!(
            "{}, on top of {}",
            stdout_of("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default(),
            commit()
        ),
        format!(
            "{} on {}, {cores} cores",
            stdout_of("rustc", &["--version"]).unwrap_or_default(),
            std::env::consts::ARCH
        ),
    ]
}
