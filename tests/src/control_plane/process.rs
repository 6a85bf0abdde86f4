//! The processes of a control plane: started with a log file each, ended by their ids in the reverse order of starting.
//!
//! Drop ends them when a story returns or panics. A test process that is killed runs no drop, so a guardian, a small
//! shell process, waits for its end on a pipe and then does the same.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// Learns ids, one a line; on `dismissed` it goes, at the end of its input it ends what it knows and removes the folder.
const GUARDIAN: &str = r#"
trap '' INT TERM HUP
while read -r line; do
  [ "$line" = dismissed ] && exit 0
  pids="$line $pids"
done
for pid in $pids; do kill -KILL "$pid"; done
rm -rf "$1"
"#;

/// The variables of the environment that would send loopback traffic elsewhere.
pub const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Processes in the order in which they were started.
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
    /// No process yet; their logs and whatever they leave go to this folder.
    pub fn in_folder(folder: &Path) -> Result<Processes> {
        let guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("sh did not start; it guards the control plane")?;
        Ok(Processes { running: Vec::new(), guardian, folder: folder.to_path_buf() })
    }

    /// Starts a program with these arguments and these variables.
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
            .with_context(|| format!("{name} did not start"))?;
        self.tell(&child.id().to_string());
        self.running.push(Process { name, child, log });
        Ok(())
    }

    /// An error with the last words of a process that has ended, if one has.
    pub fn all_alive(&mut self) -> Result<()> {
        for process in &mut self.running {
            if let Some(status) = process.child.try_wait()? {
                let log = std::fs::read_to_string(&process.log).unwrap_or_default();
                let start = log.lines().count().saturating_sub(5);
                let words: Vec<&str> = log.lines().skip(start).collect();
                bail!("{} ended by itself ({status}): {}", process.name, words.join("\n"));
            }
        }
        Ok(())
    }

    /// The ids of the running processes with their names, for a story that measures them.
    pub fn ids(&self) -> Vec<(String, u32)> {
        self.running.iter().map(|process| (process.name.clone(), process.child.id())).collect()
    }

    fn tell(&mut self, line: &str) {
        if let Some(pipe) = &mut self.guardian.stdin {
            // A guardian that is gone guards nothing; drop still does its part.
            let _ = writeln!(pipe, "{line}");
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // Killed, not asked: an API server that is asked lingers for its watches, and nobody reads this store again.
        while let Some(mut process) = self.running.pop() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        self.tell("dismissed");
        let _ = self.guardian.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_guardian_ends_what_a_test_process_leaves_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut processes = Processes::in_folder(folder.path()).unwrap();
        processes.start(Path::new("/bin/sleep"), &["600".to_owned()], &[]).unwrap();
        processes.all_alive().unwrap();
        // What the guardian sees when the test process is killed.
        drop(processes.guardian.stdin.take());
        let began = Instant::now();
        while processes.running[0].child.try_wait().unwrap().is_none() || folder.path().exists() {
            assert!(began.elapsed() < Duration::from_secs(10), "the guardian let it run");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_process_that_ends_by_itself_is_told_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut processes = Processes::in_folder(folder.path()).unwrap();
        let words = "echo no such store >&2; exit 3".to_owned();
        processes.start(Path::new("/bin/sh"), &["-c".to_owned(), words], &[]).unwrap();
        let began = Instant::now();
        let told = loop {
            match processes.all_alive() {
                Err(told) => break told.to_string(),
                Ok(()) => assert!(began.elapsed() < Duration::from_secs(10), "it was not noticed"),
            }
        };
        assert!(told.contains("no such store") && told.contains("sh ended by itself"), "{told}");
    }
}
