//! The real Flux: source-controller and kustomize-controller as processes, each as its own user.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::cluster::{Cluster, str_at};
use super::credentials::User;
use super::process::Processes;
use super::start::{free_port, has_true_condition};
use super::{ControlPlane, Kind, eventually, kinds};

pub const NAMESPACE: &str = "flux-system";

/// The limit for cloning and applying a small repository.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Running Flux controllers. Dropping it ends them.
pub struct Flux {
    cluster: Cluster,
    processes: Processes,
}

impl Flux {
    /// Starts both controllers and creates the namespace `flux-system` if it does not exist.
    pub async fn start(plane: &ControlPlane) -> Result<Flux> {
        let cluster = plane.cluster(User::Administrator).await?;
        cluster
            .apply(
                &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
            )
            .await?;
        let folder = plane.folder().join("flux");
        let storage = folder.join("storage");
        std::fs::create_dir_all(&storage)?;
        let mut processes = Processes::new(&folder)?;
        let artifacts = format!("127.0.0.1:{}", free_port()?);
        let storage_arguments = [
            format!("--storage-path={}", storage.display()),
            format!("--storage-addr={artifacts}"),
            format!("--storage-adv-addr={artifacts}"),
        ];
        for (user, extra) in
            [(User::SourceController, &storage_arguments[..]), (User::KustomizeController, &[])]
        {
            let mut arguments = vec![
                "--enable-leader-election=false".to_owned(),
                format!("--metrics-addr=127.0.0.1:{}", free_port()?),
                format!("--health-addr=127.0.0.1:{}", free_port()?),
            ];
            arguments.extend_from_slice(extra);
            let variables = [
                ("KUBECONFIG", plane.kubeconfig(user).display().to_string()),
                ("RUNTIME_NAMESPACE", NAMESPACE.to_owned()),
            ];
            processes.start(&plane.paths.program(user.name()), &arguments, &variables)?;
        }
        Ok(Flux { cluster, processes })
    }

    /// Creates a GitRepository and waits until its commit is stored.
    pub async fn add_git_repository(
        &mut self,
        name: &str,
        url: &str,
        interval: &str,
    ) -> Result<Value> {
        let source = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "GitRepository",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"interval": interval, "url": url, "ref": {"branch": "main"}},
        });
        self.cluster.apply(&source).await?;
        self.wait_until_ready(&kinds::GIT_REPOSITORIES, NAMESPACE, name).await
    }

    /// Waits until a Flux object is ready in its current generation, and returns it.
    pub async fn wait_until_ready(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Value> {
        let Flux { cluster, processes } = self;
        eventually(
            &format!("{} {namespace}/{name} becomes ready", kind.kind),
            TIMEOUT,
            async || {
                processes.ensure_running()?;
                let object = cluster.get(kind, namespace, name).await?;
                let observed =
                    object["status"]["observedGeneration"] == object["metadata"]["generation"];
                ensure!(
                    observed && has_true_condition(&object, "Ready"),
                    "{}",
                    object["status"]["conditions"]
                );
                Ok(object)
            },
        )
        .await
    }

    /// Requests a reconciliation and waits until it was handled.
    pub async fn reconcile(&mut self, kind: &Kind, namespace: &str, name: &str) -> Result<()> {
        let now = jiff::Timestamp::now().to_string();
        let patch = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": now}}});
        self.cluster.merge(kind, namespace, name, &patch).await?;
        let Flux { cluster, processes } = self;
        eventually(
            &format!("{} {namespace}/{name} is reconciled", kind.kind),
            TIMEOUT,
            async || {
                processes.ensure_running()?;
                let object = cluster.get(kind, namespace, name).await?;
                ensure!(
                    str_at(&object, "/status/lastHandledReconcileAt") == now,
                    "the request was not handled yet"
                );
                Ok(())
            },
        )
        .await
    }

    /// Waits until no reconciliation of a Kustomization is running. Suspending it does not
    /// interrupt a running one.
    pub async fn wait_until_idle(&mut self, namespace: &str, name: &str) -> Result<()> {
        let Flux { cluster, processes } = self;
        eventually(&format!("Kustomization {namespace}/{name} is idle"), TIMEOUT, async || {
            processes.ensure_running()?;
            let object = cluster.get(&kinds::KUSTOMIZATIONS, namespace, name).await?;
            ensure!(
                !has_true_condition(&object, "Reconciling"),
                "{}",
                object["status"]["conditions"]
            );
            Ok(())
        })
        .await
    }

    /// Suspends or resumes an object as a user would.
    pub async fn set_suspend(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        suspend: bool,
    ) -> Result<()> {
        let value = if suspend { json!(true) } else { Value::Null };
        self.cluster
            .merge(kind, namespace, name, &json!({"spec": {"suspend": value}}))
            .await
            .with_context(|| {
                format!("failed to change suspend of {} {namespace}/{name}", kind.kind)
            })?;
        Ok(())
    }
}
