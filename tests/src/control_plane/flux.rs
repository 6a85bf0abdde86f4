//! The real Flux: source-controller and kustomize-controller as processes, under users of their own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::cluster::{Cluster, text};
use super::credentials::User;
use super::process::Processes;
use super::start::{free_port, is_true};
use super::{ControlPlane, Kind, eventually, kinds};

/// The namespace of Flux.
pub const NAMESPACE: &str = "flux-system";

/// How long Flux may take to clone and apply a small repository.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Running Flux controllers. They end with this value.
pub struct Flux {
    cluster: Cluster,
    processes: Processes,
}

impl Flux {
    /// Starts both controllers. The namespace `flux-system` is made if it is not there.
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
        let mut processes = Processes::in_folder(&folder)?;
        let artifacts = format!("127.0.0.1:{}", free_port()?);
        let of_storage = [
            format!("--storage-path={}", storage.display()),
            format!("--storage-addr={artifacts}"),
            format!("--storage-adv-addr={artifacts}"),
        ];
        for (user, local) in
            [(User::SourceController, &of_storage[..]), (User::KustomizeController, &[])]
        {
            let mut arguments = vec![
                "--enable-leader-election=false".to_owned(),
                format!("--metrics-addr=127.0.0.1:{}", free_port()?),
                format!("--health-addr=127.0.0.1:{}", free_port()?),
            ];
            arguments.extend_from_slice(local);
            let variables = [
                ("KUBECONFIG", plane.kubeconfig(user).display().to_string()),
                ("RUNTIME_NAMESPACE", NAMESPACE.to_owned()),
            ];
            processes.start(&plane.paths.program(user.name()), &arguments, &variables)?;
        }
        Ok(Flux { cluster, processes })
    }

    /// Declares a GitRepository and waits until its commit is stored.
    pub async fn follow(&mut self, name: &str, url: &str, interval: &str) -> Result<Value> {
        let source = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "GitRepository",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"interval": interval, "url": url, "ref": {"branch": "main"}},
        });
        self.cluster.apply(&source).await?;
        self.ready(&kinds::GIT_REPOSITORIES, NAMESPACE, name).await
    }

    /// Waits until a Flux object is ready in its present generation, and gives it.
    pub async fn ready(&mut self, kind: &Kind, namespace: &str, name: &str) -> Result<Value> {
        let Flux { cluster, processes } = self;
        eventually(
            &format!("{} {namespace}/{name} becomes ready", kind.kind),
            TIMEOUT,
            async || {
                processes.all_alive()?;
                let object = cluster.get(kind, namespace, name).await?;
                let observed =
                    object["status"]["observedGeneration"] == object["metadata"]["generation"];
                ensure!(
                    observed && is_true(&object, "Ready"),
                    "{}",
                    object["status"]["conditions"]
                );
                Ok(object)
            },
        )
        .await
    }

    /// Asks for a reconciliation now and waits until it was handled.
    pub async fn reconcile(&mut self, kind: &Kind, namespace: &str, name: &str) -> Result<()> {
        let now = jiff::Timestamp::now().to_string();
        let patch = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": now}}});
        self.cluster.merge(kind, namespace, name, &patch).await?;
        let Flux { cluster, processes } = self;
        eventually(
            &format!("{} {namespace}/{name} is reconciled", kind.kind),
            TIMEOUT,
            async || {
                processes.all_alive()?;
                let object = cluster.get(kind, namespace, name).await?;
                ensure!(
                    text(&object, "/status/lastHandledReconcileAt") == now,
                    "it was not handled yet"
                );
                Ok(())
            },
        )
        .await
    }

    /// Waits until no reconciliation of this Kustomization runs any more: a suspension lets the running one finish.
    pub async fn drained(&mut self, namespace: &str, name: &str) -> Result<()> {
        let Flux { cluster, processes } = self;
        eventually(
            &format!("Kustomization {namespace}/{name} comes to rest"),
            TIMEOUT,
            async || {
                processes.all_alive()?;
                let object = cluster.get(&kinds::KUSTOMIZATIONS, namespace, name).await?;
                ensure!(!is_true(&object, "Reconciling"), "{}", object["status"]["conditions"]);
                Ok(())
            },
        )
        .await
    }

    /// Suspends or resumes an object as a person at the terminal would.
    pub async fn suspend(
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
            .context("the suspension was refused")?;
        Ok(())
    }
}
