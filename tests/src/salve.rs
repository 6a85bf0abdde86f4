//! The `salve` program as a person has it: arguments in, an exit code, words and a report out.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::canary;
use crate::control_plane::PROXIES;

/// How long a command may take before a story ends it.
const TIMEOUT: Duration = Duration::from_secs(240);

/// A person at a terminal: a kubeconfig, and a home folder.
#[derive(Clone, Debug)]
pub struct Salve {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
    cache: PathBuf,
}

/// What a command came to.
#[derive(Debug)]
pub struct Told {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The document on stdout; null where there was none.
    pub report: Value,
    /// What stood on stdout.
    pub stdout: String,
    /// What stood on stderr.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

/// A command that is under way. Dropping ends it.
pub struct Running {
    child: Child,
    began: Instant,
    home: PathBuf,
}

/// The `salve` that cargo built beside this test.
pub fn program() -> Result<PathBuf> {
    let story = std::env::current_exe().context("a test has a program of its own")?;
    let profile =
        story.parent().and_then(Path::parent).context("cargo puts tests into a folder `deps`")?;
    let program = profile.join("salve");
    ensure!(
        program.is_file(),
        "{} is not built; `cargo build` builds it, and so does `cargo test` of the whole workspace",
        program.display()
    );
    Ok(program)
}

impl Salve {
    /// The program that `cargo test` built beside the stories. `cache` keeps compiled guests from one story to the next.
    pub fn at(kubeconfig: &Path, home: &Path, cache: &Path) -> Result<Salve> {
        Ok(Salve {
            program: program()?,
            kubeconfig: kubeconfig.to_path_buf(),
            home: home.to_path_buf(),
            cache: cache.to_path_buf(),
        })
    }

    /// The same person with another kubeconfig.
    pub fn with(&self, kubeconfig: &Path) -> Salve {
        Salve { kubeconfig: kubeconfig.to_path_buf(), ..self.clone() }
    }

    /// Where the run files are.
    pub fn runs(&self) -> PathBuf {
        self.home.join("runs")
    }

    /// Runs a command to its end.
    pub async fn tell(&self, command: &str, arguments: &[&str]) -> Result<Told> {
        self.start(command, arguments)?.end().await
    }

    /// Starts a command, for a report unless `--output` says otherwise: `run` as a script would, with `--yes` and a folder for its run file.
    pub fn start(&self, command: &str, arguments: &[&str]) -> Result<Running> {
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
            .context("salve did not start")?;
        Ok(Running { child, began: Instant::now(), home: self.home.clone() })
    }
}

impl Running {
    /// Sends it a signal: `INT`, `TERM`.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.child.id().context("it has ended already")?.to_string();
        let sent =
            Command::new("sh").args(["-c", r#"kill -"$0" "$1""#, signal, &id]).status().await?;
        ensure!(sent.success(), "SIG{signal} could not be sent to {id}");
        Ok(())
    }

    /// Waits for its end.
    pub async fn end(mut self) -> Result<Told> {
        self.told().await
    }

    /// Kills it once it has lived so long, as `kill -9` does. None if that ended it.
    pub async fn live(mut self, time: Duration) -> Result<Option<Told>> {
        if let Ok(told) = tokio::time::timeout(time, self.told()).await {
            return told.map(Some);
        }
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(None)
    }

    async fn told(&mut self) -> Result<Told> {
        let mut out = self.child.stdout.take().context("stdout was asked to be a pipe")?;
        let mut err = self.child.stderr.take().context("stderr was asked to be a pipe")?;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let whole = async {
            tokio::try_join!(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr))
        };
        let read = tokio::time::timeout(TIMEOUT, whole).await;
        if read.is_err() {
            self.child.start_kill()?;
        }
        let status = self.child.wait().await?;
        ensure!(
            read.is_ok(),
            "salve had not ended after {} s; it said: {stderr}",
            TIMEOUT.as_secs()
        );
        read.expect("it was looked at in the line above")?;
        canary::listen("salve says", &stdout)?;
        canary::listen("salve says", &stderr)?;
        // What it keeps in a home folder; the control plane keeps its own beside that.
        for folder in ["runs", ".local", ".config", ".cache"]
            .map(|name| self.home.join(name))
            .iter()
            .filter(|folder| folder.is_dir())
        {
            canary::listen_below(folder)?;
        }
        let report = serde_json::from_str(&stdout).unwrap_or_default();
        Ok(Told { code: status.code(), report, stdout, stderr, took: self.began.elapsed() })
    }
}

impl Told {
    /// An error with all that was said, unless it ended with this code and this verdict.
    pub fn is(&self, code: i32, verdict: &str) -> Result<&Told> {
        ensure!(
            self.code == Some(code) && self.report["verdict"] == verdict,
            "not {verdict} with exit code {code}: {self}"
        );
        Ok(self)
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Told { code, stdout, stderr, took, report: _ } = self;
        write!(f, "exit code {code:?} after {:.1} s\n{stderr}\n{stdout}", took.as_secs_f64())
    }
}
