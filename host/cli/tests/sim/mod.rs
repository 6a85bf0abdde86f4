//! The simulated cluster on loopback, and the program that uses it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub fn salve(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_salve"));
    command
        .env_remove("KUBECONFIG")
        .env("HOME", home)
        .env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"))
        .env("NO_COLOR", "1");
    command
}

/// A running `salve sim`. Dropping it stops the process.
pub struct Sim {
    pub child: Child,
    pub home: tempfile::TempDir,
    pub kubeconfig: PathBuf,
}

impl Sim {
    pub fn start(speed: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let kubeconfig = home.path().join("kubeconfig");
        let mut child = salve(home.path())
            .args(["sim", "--speed", speed, "--kubeconfig-out"])
            .arg(&kubeconfig)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The first line is printed once it serves.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        Self { child, home, kubeconfig }
    }

    pub fn salve(&self, arguments: &[&str]) -> Command {
        let mut command = salve(self.home.path());
        command.args(arguments).arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    pub fn run(&self) -> Command {
        let runs = self.runs().display().to_string();
        self.salve(&["run", "volsync-unlock", "--yes", "--runs", &runs])
    }

    /// Returns the folder of run files.
    pub fn runs(&self) -> PathBuf {
        self.home.path().join("runs")
    }

    /// Runs `salve doctor`. Its exit code is 5 while an object is marked by a run or the cluster
    /// lock is held.
    pub fn doctor(&self) -> Output {
        self.salve(&["doctor"]).output().unwrap()
    }

    pub fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        while !condition(self) {
            assert!(started.elapsed() < Duration::from_secs(60), "timed out waiting for {what}");
        }
    }

    pub fn wait_until_suspended(&self, run: &mut Child) {
        self.wait_until("a suspension", |sim| {
            assert!(run.try_wait().unwrap().is_none(), "the run has ended without one");
            let found: serde_json::Value = serde_json::from_slice(
                &sim.salve(&["doctor", "--output", "json"]).output().unwrap().stdout,
            )
            .unwrap();
            found["items"].as_array().is_some_and(|items| !items.is_empty())
        });
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
