//! Runs the `salve` binary as a user would, and collects its exit code, output, and report.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::control_plane::PROXIES;
use crate::{canary, freshness};

/// The limit for a command.
const TIMEOUT: Duration = Duration::from_secs(240);

/// The binary with a kubeconfig and a home directory.
#[derive(Clone, Debug)]
pub struct Salve {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
    cache: PathBuf,
}

/// The result of a command.
#[derive(Debug)]
pub struct CommandOutput {
    /// None if a signal ended the process.
    pub code: Option<i32>,
    /// The JSON document on stdout, or null.
    pub report: Value,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

/// A command that is running. Dropping it kills the process.
pub struct RunningCommand {
    child: Child,
    began: Instant,
    home: PathBuf,
}

/// Returns the path of the `salve` binary that cargo built next to this test.
///
/// # Errors
/// The binary does not exist, or one of its sources is newer.
pub fn program() -> Result<PathBuf> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.clone().map_err(|error| anyhow!(error))
}

fn find() -> Result<PathBuf> {
    let test = std::env::current_exe().context("the path of the test is unknown")?;
    let profile =
        test.parent().and_then(Path::parent).context("the test is not in a directory `deps`")?;
    let program = profile.join("salve");
    ensure!(
        program.is_file(),
        "{} is not built; run `cargo build`, or `cargo test` for the whole workspace",
        program.display()
    );
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    freshness::ensure_current(&program, profile, package.parent().unwrap_or(package))?;
    Ok(program)
}

impl Salve {
    /// Uses the binary that was built with the tests. `cache` keeps compiled guests across tests.
    pub fn new(kubeconfig: &Path, home: &Path, cache: &Path) -> Result<Salve> {
        Ok(Salve {
            program: program()?,
            kubeconfig: kubeconfig.to_path_buf(),
            home: home.to_path_buf(),
            cache: cache.to_path_buf(),
        })
    }

    /// Returns the same setup with another kubeconfig.
    pub fn with_kubeconfig(&self, kubeconfig: &Path) -> Salve {
        Salve { kubeconfig: kubeconfig.to_path_buf(), ..self.clone() }
    }

    /// Returns the directory of the run files.
    pub fn runs(&self) -> PathBuf {
        self.home.join("runs")
    }

    /// Runs a command and waits until it exits.
    pub async fn run(&self, command: &str, arguments: &[&str]) -> Result<CommandOutput> {
        self.start(command, arguments)?.wait().await
    }

    /// Starts a command with `--output json`, unless the arguments choose another output. `run`
    /// gets `--yes`; the commands that write run files get a directory for them.
    pub fn start(&self, command: &str, arguments: &[&str]) -> Result<RunningCommand> {
        let mut process = Command::new(&self.program);
        for proxy in PROXIES {
            process.env_remove(proxy);
        }
        process
            .arg(command)
            .args(arguments)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--context", "control-plane"]);
        if !arguments.contains(&"--output") {
            process.args(["--output", "json"]);
        }
        if command == "run" {
            process.arg("--yes");
        }
        if ["plan", "run", "recover"].contains(&command) {
            process.arg("--runs").arg(self.runs());
        }
        let child = process
            .env("HOME", &self.home)
            .env("XDG_CACHE_HOME", &self.cache)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("failed to start salve")?;
        Ok(RunningCommand { child, began: Instant::now(), home: self.home.clone() })
    }
}

impl RunningCommand {
    /// Sends a signal: `INT` or `TERM`.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.child.id().context("the process has already exited")?.to_string();
        let status =
            Command::new("sh").args(["-c", r#"kill -"$0" "$1""#, signal, &id]).status().await?;
        ensure!(status.success(), "failed to send SIG{signal} to process {id}");
        Ok(())
    }

    /// Waits until the command exits.
    pub async fn wait(mut self) -> Result<CommandOutput> {
        self.output().await
    }

    /// Kills the process with SIGKILL after `time`. Returns its output if it exited before.
    pub async fn kill_after(self, time: Duration) -> Result<Option<CommandOutput>> {
        self.kill_on(tokio::time::sleep(time)).await
    }

    /// Kills the process with SIGKILL at an event. Returns its output if it exited before.
    pub async fn kill_on(
        mut self,
        event: impl Future<Output = ()>,
    ) -> Result<Option<CommandOutput>> {
        tokio::select! {
            output = self.output() => return output.map(Some),
            () = event => {}
        }
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(None)
    }

    async fn output(&mut self) -> Result<CommandOutput> {
        let mut out = self.child.stdout.take().context("stdout is not a pipe")?;
        let mut err = self.child.stderr.take().context("stderr is not a pipe")?;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let both = async {
            tokio::try_join!(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr))
        };
        let read = tokio::time::timeout(TIMEOUT, both).await;
        if read.is_err() {
            self.child.start_kill()?;
        }
        let status = self.child.wait().await?;
        let Ok(read) = read else {
            anyhow::bail!("salve did not exit within {} s: {stderr}", TIMEOUT.as_secs());
        };
        read?;
        canary::ensure_none_in("stdout of salve", &stdout)?;
        canary::ensure_none_in("stderr of salve", &stderr)?;
        // Only the files of salve: the control plane keeps its own in the same home directory.
        for folder in ["runs", ".local", ".config", ".cache"]
            .map(|name| self.home.join(name))
            .iter()
            .filter(|folder| folder.is_dir())
        {
            canary::ensure_none_in_dir(folder)?;
        }
        let report = serde_json::from_str(&stdout).unwrap_or_default();
        let elapsed = self.began.elapsed();
        Ok(CommandOutput { code: status.code(), report, stdout, stderr, elapsed })
    }
}

impl CommandOutput {
    /// Fails with the whole output unless the command ended with this exit code and verdict.
    pub fn ensure_verdict(&self, code: i32, verdict: &str) -> Result<&CommandOutput> {
        ensure!(
            self.code == Some(code) && self.report["verdict"] == verdict,
            "expected {verdict} with exit code {code}: {self}"
        );
        Ok(self)
    }

    /// Fails with the whole output unless a check ended with this exit code and state.
    pub fn ensure_state(&self, code: i32, state: &str) -> Result<&CommandOutput> {
        ensure!(
            self.code == Some(code) && self.report["diagnosis"]["state"] == state,
            "expected {state} with exit code {code}: {self}"
        );
        Ok(self)
    }
}

impl std::fmt::Display for CommandOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let CommandOutput { code, stdout, stderr, elapsed, report: _ } = self;
        write!(f, "exit code {code:?} after {:.1} s\n{stderr}\n{stdout}", elapsed.as_secs_f64())
    }
}
