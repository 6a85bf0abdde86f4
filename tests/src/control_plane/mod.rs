//! A real control plane on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
//! and simulated nodes (kwok), in a temporary directory and with an audit log. [`flux`] runs the
//! real Flux on it, [`fixture`] creates the cluster of the incident, and [`actors`] imitate the
//! controllers that cannot run here.

mod audit;
mod cluster;
mod condition;
mod credentials;
mod git;
mod paths;
mod process;
mod service_account;
mod start;

pub mod actors;
pub mod fixture;
pub mod flux;
pub mod kinds;

pub use audit::{AuditEntry, AuditLog};
pub use cluster::{Cluster, client};
pub use condition::eventually;
pub use credentials::User;
pub use git::GitServer;
pub use kinds::Kind;
pub use paths::Paths;
pub use process::PROXIES;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::sync::SemaphorePermit;

use credentials::Credentials;
use process::Processes;

/// A running control plane. Dropping it ends all processes; if the test process is killed, a
/// guardian process ends them.
pub struct ControlPlane {
    // Dropped in this order: the processes before the directory that they write to, the permit last.
    processes: Processes,
    paths: Paths,
    credentials: Credentials,
    folder: tempfile::TempDir,
    _permit: SemaphorePermit<'static>,
}

impl ControlPlane {
    /// Starts a control plane and waits until it answers, its CRDs are installed, and two nodes are
    /// ready.
    ///
    /// A test process runs at most two at a time, because each takes 0.7 GB of memory and most of a
    /// core; other tests wait. A start takes about five seconds.
    pub async fn start() -> Result<ControlPlane> {
        start::start().await
    }

    /// Connects to the cluster as a user. The connections belong to the calling runtime.
    pub async fn cluster(&self, user: User) -> Result<Cluster> {
        Cluster::connect(&self.kubeconfig(user)).await
    }

    /// Returns a plain client of a user, for requests that [`Cluster`] does not support.
    pub async fn client(&self, user: User) -> Result<kube::Client> {
        cluster::client(&self.kubeconfig(user)).await
    }

    /// Returns the path of the kubeconfig of a user.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.credentials.kubeconfig(user)
    }

    /// Returns the directory of this control plane: logs, keys, and files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the audit log of the API server.
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.folder().join("audit.log"))
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

    /// Runs kubectl with a kubeconfig and standard input. Returns its output; an exit code other
    /// than 0 is an error with what it wrote to stderr.
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
            .context("failed to start kubectl")?;
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        // A kubectl that reads no input may have exited already; its exit code decides.
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

    /// Returns the names and ids of the processes.
    pub fn processes(&self) -> Vec<(String, u32)> {
        self.processes.ids()
    }

    /// Returns the URL of the API server.
    pub fn server(&self) -> &str {
        self.credentials.server()
    }

    /// Ends all processes, in reverse order of their start. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }
}
