//! A real control plane on loopback: etcd, kube-apiserver, controller-manager, scheduler and pretended nodes, in a
//! folder of its own, with an audit log that says who did what. What runs on it is told by the modules below: Flux by
//! [`flux`], the cluster of the incident by [`scene`], what Kubernetes itself does not bring by [`party`].

mod audit;
mod built;
mod cluster;
mod condition;
mod credentials;
mod git;
mod kinds;
mod process;
mod service_account;
mod start;

pub mod actors;
pub mod fixture;
pub mod flux;

pub use audit::{AuditLog, Entry};
pub use built::{Paths, built};
pub use cluster::Cluster;
pub use condition::eventually;
pub use credentials::User;
pub use git::GitServer;
pub use kinds::Kind;
pub use process::PROXIES;

/// The kinds that the stories look at, by the names of their plurals.
pub mod kind {
    pub use super::kinds::*;
}

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::sync::MutexGuard;

use credentials::Credentials;
use process::Processes;

/// A running control plane. It ends with this value; if the test process dies without a word, its guardian ends it.
pub struct ControlPlane {
    // Dropped in this order: the processes before the folder that they write to, the turn last.
    processes: Processes,
    paths: Paths,
    credentials: Credentials,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl ControlPlane {
    /// Starts a control plane and waits until it answers, has its kinds installed and two nodes ready.
    ///
    /// One stands at a time in a test process: the next story waits for its turn (a start costs about five seconds,
    /// a control plane 0.7 GB).
    pub async fn start() -> Result<ControlPlane> {
        start::start().await
    }

    /// The cluster as this user sees it, on connections that belong to the calling runtime.
    pub async fn cluster(&self, user: User) -> Result<Cluster> {
        Cluster::connect(&self.kubeconfig(user)).await
    }

    /// A client of this user, for what [`Cluster`] does not say.
    pub async fn client(&self, user: User) -> Result<kube::Client> {
        cluster::client(&self.kubeconfig(user)).await
    }

    /// The kubeconfig file of this user.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.credentials.kubeconfig(user)
    }

    /// The folder of this control plane: its logs, its keys, whatever a story wants to put beside them.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What was asked of the API server, by whom, and what it answered.
    pub fn audit(&self) -> AuditLog {
        AuditLog::at(self.folder().join("audit.log"))
    }

    /// Runs the kubectl that was built with the control plane, as the administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_as(&self.kubeconfig(User::Administrator), arguments, "").await
    }

    /// Applies YAML documents server-side, as the administrator.
    pub async fn apply_yaml(&self, documents: &str) -> Result<String> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.kubectl_as(&self.kubeconfig(User::Administrator), &arguments, documents).await
    }

    /// Runs kubectl with this kubeconfig and this standard input; an exit code other than 0 is an error with its words.
    pub async fn kubectl_as(
        &self,
        kubeconfig: &Path,
        arguments: &[&str],
        input: &str,
    ) -> Result<String> {
        let mut child = tokio::process::Command::new(self.paths.program("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .env("HOME", self.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("kubectl did not start")?;
        let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
        // A kubectl that reads nothing may be gone already; its exit code tells.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        ensure!(
            output.status.success(),
            "kubectl {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The processes by name and id, for a story that measures or disturbs them.
    pub fn processes(&self) -> Vec<(String, u32)> {
        self.processes.ids()
    }

    /// The address of the API server.
    pub fn server(&self) -> &str {
        self.credentials.server()
    }

    /// Ends everything, in the reverse order of starting. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }
}
