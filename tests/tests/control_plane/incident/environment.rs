//! The environment of the incident tests: a control plane with the fixture, and `salve` with a
//! ServiceAccount that has the shipped Role.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::actors::CephCsiOptions;
use salve_tests::control_plane::fixture::{self, Fixture};
use salve_tests::control_plane::{
    AuditEntry, Cluster, ControlPlane, Kind, User, eventually, kinds,
};
use salve_tests::salve::{CommandOutput, Salve};
use serde_json::Value;

use super::role::{ROLE, USER};
use super::run_audit::{RunAudit, describe, mutations};

/// The limit for a condition to become true.
pub const TIMEOUT: Duration = Duration::from_secs(90);

/// Configuration that only shortens waits: the imitated driver needs three seconds for its Leases,
/// not three minutes.
const WAITS: [&str; 4] = [
    "stabilizationWindowSeconds=4",
    "deletionIntervalMs=100",
    "snapshotTimeoutSeconds=30",
    "resumeTimeoutSeconds=30",
];

const FLUX: [Kind; 3] = [kinds::GIT_REPOSITORIES, kinds::KUSTOMIZATIONS, kinds::HELM_RELEASES];

pub struct Environment {
    pub fixture: Fixture,
    pub cluster: Cluster,
    pub salve: Salve,
    /// The kubeconfig of the ServiceAccount.
    pub kubeconfig: PathBuf,
    pub plane: ControlPlane,
}

impl Environment {
    /// Creates a healthy cluster.
    pub async fn healthy(options: CephCsiOptions) -> Result<Environment> {
        let plane = ControlPlane::start().await?;
        let fixture = Fixture::healthy(&plane, options).await?;
        let cluster = plane.cluster(User::Administrator).await?;
        let kubeconfig = plane.service_account("salve", "volsync-unlock", ROLE).await?;
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        let salve = Salve::new(&kubeconfig, plane.folder(), &cache)?;
        Ok(Environment { fixture, cluster, salve, kubeconfig, plane })
    }

    /// Returns `salve` with the credentials of the administrator.
    pub fn salve_as_administrator(&self) -> Salve {
        self.salve.with_kubeconfig(&self.plane.kubeconfig(User::Administrator))
    }

    /// Returns the requests of the ServiceAccount from a position in the audit log on.
    pub fn requests_since(&self, since: usize) -> Result<Vec<AuditEntry>> {
        self.requests_by(USER, since)
    }

    /// Returns the requests of a user from a position in the audit log on.
    pub fn requests_by(&self, user: &str, since: usize) -> Result<Vec<AuditEntry>> {
        let mut entries = self.plane.audit().entries()?.split_off(since);
        entries.retain(|entry| entry.user == user);
        Ok(entries)
    }

    /// Runs the guest with another kubeconfig. Returns the output and the requests of its user.
    pub async fn run_as(
        &self,
        user: &str,
        kubeconfig: &Path,
    ) -> Result<(CommandOutput, Vec<AuditEntry>)> {
        let since = self.audit_position()?;
        let output = self.salve.with_kubeconfig(kubeconfig).run("run", &guest(&[])).await?;
        Ok((output, self.requests_by(user, since)?))
    }

    /// Returns the position after the last entry of the audit log.
    pub fn audit_position(&self) -> Result<usize> {
        Ok(self.plane.audit().entries()?.len())
    }

    /// Runs a command and fails if it requested a change or was denied something.
    pub async fn run_without_writes(
        &self,
        command: &str,
        configuration: &[&str],
    ) -> Result<CommandOutput> {
        let since = self.audit_position()?;
        let output = self.salve.run(command, &guest(configuration)).await?;
        let requests = self.requests_since(since)?;
        ensure!(!requests.is_empty(), "{command} sent no request: {output}");
        ensure!(
            requests.iter().all(|entry| entry.code != 401 && entry.code != 403),
            "a request of {command} was denied: {output}"
        );
        let changes: Vec<String> = mutations(&requests).map(describe).collect();
        ensure!(changes.is_empty(), "{command} requested changes: {changes:#?}\n{output}");
        Ok(output)
    }

    /// Runs the guest.
    pub async fn run(&self, configuration: &[&str]) -> Result<(CommandOutput, RunAudit)> {
        let since = self.audit_position()?;
        let output = self.salve.run("run", &guest(configuration)).await?;
        let audit = self.audit_run(&output, since)?;
        Ok((output, audit))
    }

    /// Runs an approved plan.
    pub async fn run_plan(&self, plan: &CommandOutput) -> Result<(CommandOutput, RunAudit)> {
        let since = self.audit_position()?;
        let id = plan.report["run"].as_str().with_context(|| format!("no plan: {plan}"))?;
        let output = self.salve.run("run", &["--plan", id]).await?;
        let audit = self.audit_run(&output, since)?;
        Ok((output, audit))
    }

    /// Reads what a finished run requested and recorded.
    pub fn audit_run(&self, output: &CommandOutput, since: usize) -> Result<RunAudit> {
        RunAudit::new(self.requests_since(since)?, &run_file(&self.salve.runs(), output)?)
    }

    /// Returns `spec.suspend` of every Flux object; None if it is absent.
    pub async fn suspend_states(&self) -> Result<BTreeMap<String, Option<bool>>> {
        let all = self.flux().await?;
        Ok(all
            .into_iter()
            .map(|(name, object)| (name, object["spec"]["suspend"].as_bool()))
            .collect())
    }

    /// Returns the Flux objects with an annotation of a run.
    pub async fn marked_flux_objects(&self) -> Result<Vec<String>> {
        let mut all = self.flux().await?;
        all.retain(|(_, object)| {
            object["metadata"]["annotations"]
                .as_object()
                .is_some_and(|all| all.keys().any(|key| key.starts_with("salve.dev/")))
        });
        Ok(all.into_iter().map(|(name, _)| name).collect())
    }

    async fn flux(&self) -> Result<Vec<(String, Value)>> {
        let mut all = Vec::new();
        for kind in FLUX {
            let objects = self.cluster.list(&kind, "").await?;
            all.extend(
                objects
                    .into_iter()
                    .map(|object| (format!("{} {}", kind.kind, namespaced_name(&object)), object)),
            );
        }
        Ok(all)
    }

    /// Returns the UIDs of the ReplicationSources by `namespace/name`.
    pub async fn sources(&self) -> Result<BTreeMap<String, String>> {
        let all = self.cluster.list(&kinds::REPLICATION_SOURCES, "").await?;
        Ok(all
            .iter()
            .map(|source| {
                (
                    namespaced_name(source),
                    source["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                )
            })
            .collect())
    }

    /// Waits until the pods of the pending apps are running.
    pub async fn wait_until_apps_run(&self) -> Result<()> {
        eventually("the pods of the pending apps are running", TIMEOUT, async || {
            for (namespace, name) in fixture::PENDING_APPS {
                let pods = self.cluster.list(&kinds::PODS, namespace).await?;
                let is_running = pods.iter().any(|pod| {
                    pod["metadata"]["labels"]["app"] == name && pod["status"]["phase"] == "Running"
                });
                ensure!(is_running, "no pod of {namespace}/{name} is running");
            }
            Ok(())
        })
        .await
    }
}

/// Returns the arguments for the guest, with windows of one second, and its configuration.
pub fn guest<'a>(configuration: &[&'a str]) -> Vec<&'a str> {
    static REMEDIATION: LazyLock<String> = LazyLock::new(|| {
        let shipped = include_str!("../../../../guests/volsync-unlock/remediation.yaml");
        let text = shipped.replace("window: 5m", "window: 1s").replace("window: 1m", "window: 1s");
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/short-windows.yaml");
        std::fs::write(path, text).expect("the folder for tests is writable");
        path.to_owned()
    });
    let guest = ["volsync-unlock", "--remediation", REMEDIATION.as_str()];
    let keys = WAITS.iter().chain(configuration);
    guest.into_iter().chain(keys.flat_map(|key| ["--config", *key])).collect()
}

/// Returns `namespace/name`.
fn namespaced_name(object: &Value) -> String {
    let part = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or("-");
    format!("{}/{}", part("/metadata/namespace"), part("/metadata/name"))
}

/// Returns the path of the run file of a reported run.
fn run_file(runs: &Path, output: &CommandOutput) -> Result<PathBuf> {
    let run = output.report["run"].as_str().with_context(|| format!("no report: {output}"))?;
    let files = std::fs::read_dir(runs).context("there is no directory of run files")?;
    let files: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    let found =
        files.into_iter().find(|file| file.to_string_lossy().ends_with(&format!("-{run}.jsonl")));
    found.with_context(|| format!("run {run} left no run file"))
}
