//! Everything that a command prints, one file per command in `output/`: a reviewer reads what users
//! see in one sitting.
//!
//! Update: `SALVE_UPDATE_OUTPUT=1 cargo test --test output`

use regex::{Captures, Regex};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

/// Configuration that shortens waits.
const SHORT: [&str; 4] =
    ["--config", "stabilizationWindowSeconds=10", "--config", "restoreTimeoutSeconds=10"];

/// A directory for run files, with a simulated cluster if an incident is given. Dropping it ends
/// the simulator.
struct Session {
    folder: tempfile::TempDir,
    simulator: Option<Child>,
}

impl Session {
    fn without_cluster() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), simulator: None }
    }

    fn new(incident: &str) -> Self {
        Self::at_speed(incident, "20")
    }

    /// Simulates a minute per second: a run waits for the cluster.
    fn fast(incident: &str) -> Self {
        Self::at_speed(incident, "60")
    }

    fn at_speed(incident: &str, speed: &str) -> Self {
        let mut session = Self::without_cluster();
        let mut simulator = session
            .salve(&["sim", "--incident", incident, "--speed", speed])
            .args(["--kubeconfig-out", "cluster.yaml"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The first line is printed once it serves.
        let mut line = String::new();
        BufReader::new(simulator.stdout.take().unwrap()).read_line(&mut line).unwrap();
        session.simulator = Some(simulator);
        session
    }

    fn salve(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(salve_tests::salve::program().unwrap());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/output-cache"))
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .env("NO_COLOR", "1")
            .env("COLUMNS", "100")
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null());
        if self.simulator.is_some() {
            command.env("KUBECONFIG", "cluster.yaml");
        }
        command
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Returns the ID and the file of the newest run.
    fn newest_run(&self) -> (String, PathBuf) {
        let folder = self.folder.path().join("state/salve/runs");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let modified = |file: &PathBuf| fs::metadata(file).unwrap().modified().unwrap();
        let file = files.max_by_key(modified).unwrap();
        let stem = file.file_stem().unwrap().to_str().unwrap();
        (stem.rsplit('-').next().unwrap().to_owned(), file)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(simulator) = &mut self.simulator {
            drop(simulator.kill());
            drop(simulator.wait());
        }
    }
}

/// What one command prints in each situation.
struct Transcript {
    command: &'static str,
    text: String,
}

impl Transcript {
    fn new(command: &'static str) -> Self {
        let mut transcript = Self { command, text: String::new() };
        transcript.add("Help", &Session::without_cluster(), &["--help"]);
        transcript
    }

    /// Runs the command and adds what it prints.
    fn add(&mut self, situation: &str, session: &Session, arguments: &[&str]) {
        let arguments: Vec<&str> = match self.command {
            "salve" => arguments.to_vec(),
            command => [command].into_iter().chain(arguments.iter().copied()).collect(),
        };
        let output = session.salve(&arguments).output().unwrap();
        let text = |bytes: &[u8]| normalized(&String::from_utf8_lossy(bytes), session);
        self.text += &format!(
            "# {situation}\n$ salve {}\n{}",
            normalized(&arguments.join(" "), session).trim_end(),
            text(&output.stdout)
        );
        let errors = text(&output.stderr);
        if !errors.is_empty() {
            self.text += &format!("--- stderr\n{errors}");
        }
        let code = output.status.code().expect("salve was not killed");
        self.text += &format!("--- exit code {code}\n\n");
    }

    /// Compares it with its file.
    fn check(self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/output")
            .join(self.command)
            .with_extension("txt");
        if std::env::var_os("SALVE_UPDATE_OUTPUT").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &self.text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        let differing = expected
            .lines()
            .zip(self.text.lines())
            .position(|(expected, printed)| expected != printed)
            .unwrap_or_else(|| expected.lines().count().min(self.text.lines().count()));
        let line = |text: &str| text.lines().nth(differing).unwrap_or("(end)").to_owned();
        assert!(
            expected == self.text,
            "{}:{}: salve {} prints something else; run `SALVE_UPDATE_OUTPUT=1 cargo test --test \
             output` and review the difference\nexpected: {}\nprinted:  {}",
            file.display(),
            differing + 1,
            self.command,
            line(&expected),
            line(&self.text)
        );
    }
}

/// Replaces what differs between two runs.
fn normalized(text: &str, session: &Session) -> String {
    static VARYING: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let patterns = [
            (r"\d{4}-\d\d-\d\dT\d\d:?\d\d:?\d\d(\.\d+)?Z", "TIME"),
            (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "TIME"),
            (r"\b\d\d:\d\d:\d\d\b", "TIME"),
            (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UID"),
            (r"\b[0-9a-f]{64}\b", "DIGEST"),
            (r"\b[0-9a-f]{12}\b", "DIGEST"),
            (r"\b[0-9a-f]{8}\b", "RUN"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
            (r"process died, on \S+ as", "process died, on MACHINE as"),
            (r"\b1[78]\d{11}\b", "MILLISECONDS"),
            (r#""n": \d+"#, r#""n": NUMBER"#),
            (r" *\b\d+(\.\d+)? ?(ms|s|min|h|d)( \d+ (s|min|h))?\b", " DURATION"),
            // How often a run polls depends on the machine.
            (r"\b\d+ recorded lines\b", "LINES recorded lines"),
        ];
        patterns.map(|(pattern, name)| (Regex::new(pattern).unwrap(), name)).into()
    });
    let folder = session.folder.path().display().to_string();
    let mut text = text.replace(&folder, "DIR");
    for (pattern, name) in VARYING.iter() {
        text = pattern.replace_all(&text, |_: &Captures<'_>| *name).into_owned();
    }
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

const POLICY: &str = "\
apiVersion: salve.dev/v1alpha1
kind: RemediationPolicy
metadata: {name: only-reads}
spec:
  grants:
  - {capability: query-pvcs, namespaces: [media]}
";

fn with_short<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().copied().chain(SHORT).collect()
}

#[test]
fn salve() {
    let mut transcript = Transcript::new("salve");
    let session = Session::without_cluster();
    transcript.add("Without arguments", &session, &[]);
    transcript.add("Version", &session, &["--version"]);
    transcript.add("A misspelled command", &session, &["chekc"]);
    transcript.check();
}

#[test]
fn check() {
    let mut transcript = Transcript::new("check");
    for incident in ["playbook", "healthy", "ceph-error", "missing-snapshotter"] {
        let session = Session::new(incident);
        transcript.add(&format!("Incident: {incident}"), &session, &["volsync-unlock"]);
    }
    let session = Session::new("playbook");
    transcript.add("Verbose", &session, &["volsync-unlock", "-v"]);
    transcript.add("JSON", &session, &["volsync-unlock", "--output", "json"]);
    session.write("policy.yaml", POLICY);
    transcript.add(
        "A policy without the necessary grants",
        &session,
        &["volsync-unlock", "--policy", "policy.yaml"],
    );
    transcript.add("An unknown guest", &session, &["volsink"]);
    transcript.add(
        "An unknown configuration key",
        &session,
        &["volsync-unlock", "--config", "stabilisationWindowSeconds=3"],
    );
    let without = Session::without_cluster();
    transcript.add("Without a kubeconfig", &without, &["volsync-unlock"]);
    transcript.check();
}

#[test]
fn plan() {
    let mut transcript = Transcript::new("plan");
    let session = Session::new("playbook");
    transcript.add("Incident: playbook", &session, &["volsync-unlock"]);
    transcript.add("JSON", &session, &["volsync-unlock", "--output", "json"]);
    transcript.add("Incident: healthy", &Session::new("healthy"), &["volsync-unlock"]);
    transcript.add(
        "A volume that would be destroyed",
        &Session::new("terminating-delete"),
        &["volsync-unlock"],
    );
    transcript.check();
}

#[test]
fn run() {
    let mut transcript = Transcript::new("run");
    let session = Session::fast("playbook");
    transcript.add("Without a terminal", &session, &["volsync-unlock"]);
    transcript.add("Incident: playbook", &session, &with_short(&["volsync-unlock", "--yes"]));
    transcript.add("Again", &session, &with_short(&["volsync-unlock", "--yes"]));
    let healthy = Session::fast("healthy");
    transcript.add("JSON", &healthy, &["volsync-unlock", "--yes", "--output", "json"]);
    let session = Session::fast("playbook");
    drop(session.salve(&with_short(&["plan", "volsync-unlock"])).output().unwrap());
    let plan = session.newest_run().0;
    transcript.add("An approved plan", &session, &["--plan", &plan]);
    transcript.add("The same plan again", &session, &["--plan", &plan]);
    transcript.add("An unknown plan", &session, &["--plan", "00000000"]);
    transcript.check();
}

#[test]
fn recover() {
    let mut transcript = Transcript::new("recover");
    let session = Session::fast("playbook");
    transcript.add("Without runs", &session, &[]);
    let run = session.salve(&with_short(&["run", "volsync-unlock", "--yes"])).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    let (id, file) = session.newest_run();
    transcript.add("A finished run", &session, &[&id]);
    // As if the process had been killed after its last entry.
    let text = fs::read_to_string(&file).unwrap();
    let exited = text.find(r#""guest-exited""#).expect("the guest exited");
    let end = text[..exited].rfind('\n').expect("the header comes first") + 1;
    fs::write(&file, &text[..end]).unwrap();
    transcript.add("A run without its end", &session, &[&id]);
    transcript.add("An unknown run", &session, &["00000000"]);
    transcript.check();
}

/// The commands that show a finished run.
#[test]
fn finished_runs() {
    let mut transcripts = ["report", "replay", "runs", "undo"].map(Transcript::new);
    let [report, replay, runs, undo] = &mut transcripts;
    let session = Session::fast("playbook");
    runs.add("Without runs", &session, &[]);
    let run = session.salve(&with_short(&["run", "volsync-unlock", "--yes"])).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    let (id, file) = session.newest_run();
    report.add("A run that fixed the incident", &session, &[&id]);
    report.add("Verbose", &session, &[&id, "-v"]);
    report.add("An unknown run", &session, &["00000000"]);
    replay.add("The same guest", &session, &[&id]);
    runs.add("One run", &session, &[]);
    runs.add("JSON", &session, &["--output", "json"]);
    let text = fs::read_to_string(&file).unwrap();
    let changed = text.replacen(r#""namespace":"media""#, r#""namespace":"ai""#, 1);
    assert_ne!(changed, text);
    fs::write(&file, changed).unwrap();
    report.add("A changed run file", &session, &[&id]);
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    replay.add("A run file without its end", &session, &[&id]);
    fs::write(&file, text.replacen("{\"", "{", 5)).unwrap();
    runs.add("A broken run file", &session, &[]);
    fs::write(&file, text).unwrap();
    undo.add("Without a terminal", &session, &[&id]);
    undo.add("Everything", &session, &[&id, "--yes"]);
    transcripts.into_iter().for_each(Transcript::check);
}

#[test]
fn inspect() {
    let mut transcript = Transcript::new("inspect");
    let session = Session::without_cluster();
    transcript.add("The shipped guest", &session, &["volsync-unlock"]);
    session.write("policy.yaml", POLICY);
    let arguments = ["volsync-unlock", "--policy", "policy.yaml"];
    transcript.add("A policy without the necessary grants", &session, &arguments);
    session.write("not-a-guest.wasm", "hello");
    transcript.add("A file that is not a component", &session, &["not-a-guest.wasm"]);
    transcript.check();
}

#[test]
fn rbac() {
    let mut transcript = Transcript::new("rbac");
    let session = Session::new("playbook");
    session.write("policy.yaml", POLICY);
    let arguments = ["volsync-unlock", "--policy", "policy.yaml"];
    transcript.add("Under a policy", &session, &arguments);
    transcript.add("Check of a credential", &session, &["volsync-unlock", "--check"]);
    transcript.check();
}

#[test]
fn doctor() {
    let mut transcript = Transcript::new("doctor");
    transcript.add("Nothing was left behind", &Session::new("healthy"), &[]);
    let session = Session::new("playbook");
    transcript.add("Backups are about to hang", &session, &[]);
    transcript.add("JSON", &session, &["--output", "json"]);
    transcript.add("A kind that is not served", &session, &["--kind", "widgets.example.com"]);
    transcript.add("An invalid kind", &session, &["--kind", "secrets"]);
    transcript.check();
}

#[test]
fn demo() {
    let mut transcript = Transcript::new("demo");
    transcript.add("The whole demo", &Session::without_cluster(), &[]);
    transcript.check();
}

const SCENARIO: &str = "\
apiVersion: salve.dev/v1alpha1
kind: Scenario
metadata: {name: mine}
spec:
  base: playbook
  object: []
  expect: {check: {result: incident, headlines: []}}
";

const DUMP: &str = "\
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: restic, namespace: media}}
";

#[test]
fn other_commands() {
    let session = Session::without_cluster();
    let mut sim = Transcript::new("sim");
    session.write("mine.yaml", "current-context: production\n");
    sim.add("Another kubeconfig", &session, &["--kubeconfig-out", "mine.yaml"]);
    sim.add("The built-in scenarios", &session, &["--list"]);
    sim.add("An unknown scenario", &session, &["--incident", "flood"]);
    sim.add("A misspelled scenario", &session, &["--incident", "playbok"]);
    session.write("scenario.yaml", SCENARIO);
    sim.add("A scenario with mistakes", &session, &["--from", "scenario.yaml"]);
    session.write("dump.yaml", DUMP);
    sim.add("A Secret", &session, &["--from", "dump.yaml"]);
    sim.add("A missing file", &session, &["--from", "missing.yaml"]);
    sim.check();
    for command in ["wit", "completions"] {
        Transcript::new(command).check();
    }
}
