//! What the stories of the incident share: the scene, the person who runs Salve, and what both leave to be compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::actors::Manner;
use salve_tests::control_plane::fixture::{self, Scene};
use salve_tests::control_plane::{Cluster, ControlPlane, Entry, Kind, User, eventually, kind};
use salve_tests::salve::{Salve, Told};
use serde_json::Value;

use crate::account::{Account, mutations, words};
use crate::role::{ROLE, USER};

/// How long a condition may take to come about.
pub const TIMEOUT: Duration = Duration::from_secs(90);

/// Shorter waits, and nothing else. The pretended driver needs three seconds for its leases, not three minutes.
const WAITS: [&str; 4] = ["settle=4", "deletion-pause=100", "snapshot-wait=30", "resume-wait=30"];

const FLUX: [Kind; 3] = [kind::GIT_REPOSITORIES, kind::KUSTOMIZATIONS, kind::HELM_RELEASES];

/// A scene with a person beside it, whose account may do what the shipped Role says.
pub struct Stage {
    pub scene: Scene,
    pub cluster: Cluster,
    pub salve: Salve,
    /// With the credential of that account.
    pub kubeconfig: PathBuf,
    pub plane: ControlPlane,
}

impl Stage {
    /// A healthy cluster.
    pub async fn healthy(manner: Manner) -> Result<Stage> {
        let plane = ControlPlane::start().await?;
        let scene = Scene::healthy(&plane, manner).await?;
        let cluster = plane.cluster(User::Administrator).await?;
        let kubeconfig = plane.service_account("salve", "volsync-unlock", ROLE).await?;
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        let salve = Salve::at(&kubeconfig, plane.folder(), &cache)?;
        Ok(Stage { scene, cluster, salve, kubeconfig, plane })
    }

    /// The person with the rights of an administrator.
    pub fn administrator(&self) -> Salve {
        self.salve.with(&self.plane.kubeconfig(User::Administrator))
    }

    /// What the account asked from `since` on: a count of entries of the audit log.
    pub fn asked_since(&self, since: usize) -> Result<Vec<Entry>> {
        self.asked_by(USER, since)
    }

    /// What this user asked from `since` on.
    pub fn asked_by(&self, user: &str, since: usize) -> Result<Vec<Entry>> {
        let mut entries = self.plane.audit().entries()?.split_off(since);
        entries.retain(|entry| entry.user == user);
        Ok(entries)
    }

    /// A run to its end under another account, with what that account asked.
    pub async fn run_as(&self, user: &str, kubeconfig: &Path) -> Result<(Told, Vec<Entry>)> {
        let since = self.now()?;
        let told = self.salve.with(kubeconfig).tell("run", &guest(&[])).await?;
        Ok((told, self.asked_by(user, since)?))
    }

    /// How far the audit log is.
    pub fn now(&self) -> Result<usize> {
        Ok(self.plane.audit().entries()?.len())
    }

    /// A command that has to leave the cluster as it is.
    pub async fn looks(&self, command: &str, configuration: &[&str]) -> Result<Told> {
        let since = self.now()?;
        let told = self.salve.tell(command, &guest(configuration)).await?;
        let asked = self.asked_since(since)?;
        ensure!(!asked.is_empty(), "{command} asked nothing: {told}");
        ensure!(
            asked.iter().all(|entry| entry.code != 401 && entry.code != 403),
            "{command} was refused something: {told}"
        );
        let changes: Vec<String> = mutations(&asked).map(words).collect();
        ensure!(changes.is_empty(), "{command} changed something: {changes:#?}\n{told}");
        Ok(told)
    }

    /// A run to its end, with its account.
    pub async fn run(&self, configuration: &[&str]) -> Result<(Told, Account)> {
        let since = self.now()?;
        let told = self.salve.tell("run", &guest(configuration)).await?;
        let account = self.account(&told, since)?;
        Ok((told, account))
    }

    /// A run of a plan that somebody approved, with its account.
    pub async fn carry_out(&self, plan: &Told) -> Result<(Told, Account)> {
        let since = self.now()?;
        let id = plan.report["run"].as_str().with_context(|| format!("no plan: {plan}"))?;
        let told = self.salve.tell("run", &["--plan", id]).await?;
        let account = self.account(&told, since)?;
        Ok((told, account))
    }

    /// The account of a run that has ended.
    pub fn account(&self, told: &Told, since: usize) -> Result<Account> {
        Account::of(self.asked_since(since)?, &run_file(&self.salve.runs(), told)?)
    }

    /// Every Flux object with its `spec.suspend`, absent being none.
    pub async fn suspensions(&self) -> Result<BTreeMap<String, Option<bool>>> {
        let all = self.flux().await?;
        Ok(all
            .into_iter()
            .map(|(place, object)| (place, object["spec"]["suspend"].as_bool()))
            .collect())
    }

    /// The Flux objects that bear the mark of a run.
    pub async fn marked(&self) -> Result<Vec<String>> {
        let mut all = self.flux().await?;
        all.retain(|(_, object)| {
            object["metadata"]["annotations"]
                .as_object()
                .is_some_and(|all| all.keys().any(|key| key.starts_with("salve.dev/")))
        });
        Ok(all.into_iter().map(|(place, _)| place).collect())
    }

    async fn flux(&self) -> Result<Vec<(String, Value)>> {
        let mut all = Vec::new();
        for kind in FLUX {
            let objects = self.cluster.list(&kind, "").await?;
            all.extend(
                objects
                    .into_iter()
                    .map(|object| (format!("{} {}", kind.kind, place(&object)), object)),
            );
        }
        Ok(all)
    }

    /// The uids of the ReplicationSources by place.
    pub async fn sources(&self) -> Result<BTreeMap<String, String>> {
        let all = self.cluster.list(&kind::REPLICATION_SOURCES, "").await?;
        Ok(all
            .iter()
            .map(|source| {
                (place(source), source["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
            })
            .collect())
    }

    /// Waits until the pods of the apps that had to wait run.
    pub async fn until_apps_run(&self) -> Result<()> {
        eventually("the pods of the stuck apps run", TIMEOUT, async || {
            for (namespace, name) in scene::STUCK {
                let pods = self.cluster.list(&kind::PODS, namespace).await?;
                let runs = pods.iter().any(|pod| {
                    pod["metadata"]["labels"]["app"] == name && pod["status"]["phase"] == "Running"
                });
                ensure!(runs, "no pod of {namespace}/{name} runs");
            }
            Ok(())
        })
        .await
    }
}

/// The arguments that name the guest and its configuration.
pub fn guest<'a>(configuration: &[&'a str]) -> Vec<&'a str> {
    let keys = WAITS.iter().chain(configuration);
    ["volsync-unlock"].into_iter().chain(keys.flat_map(|key| ["--config", *key])).collect()
}

/// `namespace/name`.
fn place(object: &Value) -> String {
    let part = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or("-");
    format!("{}/{}", part("/metadata/namespace"), part("/metadata/name"))
}

/// The file of the run that this report is of.
fn run_file(runs: &Path, told: &Told) -> Result<PathBuf> {
    let run = told.report["run"].as_str().with_context(|| format!("no report: {told}"))?;
    let files = std::fs::read_dir(runs).context("there is no folder of runs")?;
    let files: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    let ours =
        files.into_iter().find(|file| file.to_string_lossy().ends_with(&format!("-{run}.jsonl")));
    ours.with_context(|| format!("run {run} left no file"))
}
