//! The processes of a control plane: each starts with its own log file, and they end by their ids
//! in reverse order of their start.
//!
//! Dropping [`Processes`] ends them when a test returns or panics. Nothing is dropped when the test
//! process is killed, so a guardian, a small shell process, notices that on a pipe and ends them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// Reads process ids, one per line. `dismissed` ends the guardian; at the end of its input it kills
/// the processes and removes the directory.
const GUARDIAN: &str = r#"
trap '' INT TERM HUP
while read -r line; do
  [ "$line" = dismissed ] && exit 0
  pids="$line $pids"
done
for pid in $pids; do kill -KILL "$pid"; done
rm -rf "$1"
"#;

/// The environment variables that would send loopback traffic to a proxy.
pub const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Processes in order of their start.
pub struct Processes {
    running: Vec<Process>,
    guardian: Child,
    folder: PathBuf,
}

struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Processes {
    /// Starts with no process. Their logs and other files go to `folder`.
    pub fn new(folder: &Path) -> Result<Processes> {
        let guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start sh as the guardian of the control plane")?;
        Ok(Processes { running: Vec::new(), guardian, folder: folder.to_path_buf() })
    }

    /// Starts a program with arguments and environment variables.
    pub fn start(
        &mut self,
        program: &Path,
        arguments: &[String],
        variables: &[(&str, String)],
    ) -> Result<()> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = self.folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(program);
        for proxy in PROXIES {
            command.env_remove(proxy);
        }
        let child = command
            .args(arguments)
            .env("HOME", &self.folder)
            .env("TMPDIR", &self.folder)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        self.notify_guardian(&child.id().to_string());
        self.running.push(Process { name, child, log });
        Ok(())
    }

    /// Returns an error with the last log lines of a process that has exited, if one has.
    pub fn ensure_running(&mut self) -> Result<()> {
        for process in &mut self.running {
            if let Some(status) = process.child.try_wait()? {
                let log = std::fs::read_to_string(&process.log).unwrap_or_default();
                let start = log.lines().count().saturating_sub(5);
                let last: Vec<&str> = log.lines().skip(start).collect();
                bail!("{} exited ({status}): {}", process.name, last.join("\n"));
            }
        }
        Ok(())
    }

    /// Returns the names and ids of the processes.
    pub fn ids(&self) -> Vec<(String, u32)> {
        self.running.iter().map(|process| (process.name.clone(), process.child.id())).collect()
    }

    fn notify_guardian(&mut self, line: &str) {
        if let Some(pipe) = &mut self.guardian.stdin {
            // Without a guardian, dropping still ends the processes.
            let _ = writeln!(pipe, "{line}");
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // SIGKILL: with SIGTERM, the API server waits for its watches, and the data is not needed.
        while let Some(mut process) = self.running.pop() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        self.notify_guardian("dismissed");
        let _ = self.guardian.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_guardian_kills_the_processes_of_a_killed_test() {
        let folder = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(folder.path()).unwrap();
        processes.start(Path::new("/bin/sleep"), &["600".to_owned()], &[]).unwrap();
        processes.ensure_running().unwrap();
        // The guardian sees the same when the test process is killed.
        drop(processes.guardian.stdin.take());
        let began = Instant::now();
        while processes.running[0].child.try_wait().unwrap().is_none() || folder.path().exists() {
            assert!(began.elapsed() < Duration::from_secs(10), "the guardian did not kill it");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_process_that_exits_is_reported_with_its_last_log_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(folder.path()).unwrap();
        let script = "echo no such store >&2; exit 3".to_owned();
        processes.start(Path::new("/bin/sh"), &["-c".to_owned(), script], &[]).unwrap();
        let began = Instant::now();
        let error = loop {
            match processes.ensure_running() {
                Err(error) => break error.to_string(),
                Ok(()) => {
                    assert!(began.elapsed() < Duration::from_secs(10), "the exit was not noticed")
                }
            }
        };
        assert!(error.contains("no such store") && error.contains("sh exited"), "{error}");
    }
}
