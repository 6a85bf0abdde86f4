//! Starting a control plane: which program with which arguments, and what is waited for.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use tokio::sync::Mutex;

use super::cluster::Cluster;
use super::credentials::{Credentials, User};
use super::process::Processes;
use super::{ControlPlane, built, eventually, kinds};

/// How long any step of the start may take on a machine that is busy with something else.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The pretended nodes.
const NODES: [&str; 2] = ["node-1", "node-2"];

/// Set to anything, it keeps the folder with the logs when a story is over.
const KEEP: &str = "SALVE_KEEP_CONTROL_PLANE";

/// Whose turn it is to have a control plane.
static TURN: Mutex<()> = Mutex::const_new(());

/// A port of the loopback that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Starts everything and waits until it is of use.
pub async fn start() -> Result<ControlPlane> {
    let paths = built().map_err(|reason| anyhow!(reason))?;
    let turn = TURN.lock().await;
    let mut folder = tempfile::Builder::new().prefix("salve-control-plane-").tempdir()?;
    if std::env::var_os(KEEP).is_some() {
        folder.disable_cleanup(true);
        eprintln!("the logs of this control plane stay in {}", folder.path().display());
    }
    let (server_port, kwok_port) = (free_port()?, free_port()?);
    let credentials = Credentials::write(folder.path(), server_port)?;
    let processes = Processes::in_folder(folder.path())?;
    let mut plane = ControlPlane { processes, paths, credentials, folder, _turn: turn };

    plane.start_store_and_server(server_port)?;
    let credentials = &plane.credentials;
    eventually("the API server makes its certificate", TIMEOUT, async || {
        plane.processes.all_alive()?;
        ensure!(credentials.certificate().is_file(), "no certificate yet");
        Ok(())
    })
    .await?;
    let cluster = plane.cluster(User::Administrator).await?;
    eventually("the API server is ready", TIMEOUT, async || {
        plane.processes.all_alive()?;
        cluster.text("/readyz").await
    })
    .await?;
    plane.start_controllers()?;
    plane.install_kinds().await?;
    plane.start_nodes(kwok_port)?;
    plane.wait_until_of_use(&cluster).await?;
    Ok(plane)
}

impl ControlPlane {
    fn start_store_and_server(&mut self, server_port: u16) -> Result<()> {
        let (store, peer) = (local(free_port()?), local(free_port()?));
        let data = self.folder.path().join("etcd");
        self.run(
            "etcd",
            &[
                ("data-dir", path(&data)),
                ("listen-client-urls", store.clone()),
                ("advertise-client-urls", store.clone()),
                ("listen-peer-urls", peer.clone()),
                ("initial-advertise-peer-urls", peer.clone()),
                ("initial-cluster", format!("default={peer}")),
                // Nothing here outlives the story.
                ("unsafe-no-fsync", "true".into()),
            ],
        )?;
        let credentials = &self.credentials;
        let arguments = [
            ("etcd-servers", store),
            ("bind-address", "127.0.0.1".into()),
            ("advertise-address", "127.0.0.1".into()),
            ("secure-port", server_port.to_string()),
            ("cert-dir", path(&credentials.certificates())),
            ("service-cluster-ip-range", "10.96.0.0/16".into()),
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            ("service-account-key-file", path(&credentials.verifying_key())),
            ("service-account-signing-key-file", path(&credentials.signing_key())),
            ("token-auth-file", path(&credentials.token_file())),
            ("authorization-mode", "Node,RBAC".into()),
            ("audit-policy-file", path(&self.paths.configuration("audit.yaml"))),
            ("audit-log-path", path(&self.folder.path().join("audit.log"))),
        ];
        self.run("kube-apiserver", &arguments)
    }

    fn start_controllers(&mut self) -> Result<()> {
        let kubeconfig = path(&self.kubeconfig(User::ControlPlane));
        let arguments = [
            ("kubeconfig", kubeconfig.clone()),
            ("leader-elect", "false".into()),
            ("use-service-account-credentials", "true".into()),
            ("service-account-private-key-file", path(&self.credentials.signing_key())),
            ("root-ca-file", path(&self.credentials.certificate())),
            ("secure-port", "0".into()),
            // The pretended nodes send no heartbeats.
            ("node-monitor-grace-period", "24h".into()),
        ];
        self.run("kube-controller-manager", &arguments)?;
        self.run(
            "kube-scheduler",
            &[
                ("kubeconfig", kubeconfig),
                ("leader-elect", "false".into()),
                ("secure-port", "0".into()),
            ],
        )
    }

    async fn install_kinds(&self) -> Result<()> {
        let (generated, written) =
            (path(&self.paths.generated_crds()), path(&self.paths.written_crds()));
        // Too big for the annotation of a client-side apply.
        self.kubectl(&["apply", "--server-side", "-f", &generated, "-f", &written])
            .await
            .context("the custom resource definitions are refused")?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"])
            .await?;
        Ok(())
    }

    fn start_nodes(&mut self, port: u16) -> Result<()> {
        let arguments = [
            ("kubeconfig", path(&self.kubeconfig(User::Kwok))),
            ("config", path(&self.paths.configuration("kwok.yaml"))),
            ("enable-crds", "Logs".into()),
            ("manage-all-nodes", "true".into()),
            ("node-ip", "127.0.0.1".into()),
            ("node-port", port.to_string()),
            ("server-address", format!("127.0.0.1:{port}")),
            ("tls-cert-file", path(&self.credentials.certificate())),
            ("tls-private-key-file", path(&self.credentials.certificate_key())),
        ];
        self.run("kwok", &arguments)
    }

    async fn wait_until_of_use(&mut self, cluster: &Cluster) -> Result<()> {
        for name in NODES {
            let labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"});
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
            cluster.apply(&node).await?;
        }
        for name in NODES {
            eventually("a node becomes ready", TIMEOUT, async || {
                self.processes.all_alive()?;
                let node = cluster.get(&kinds::NODES, "", name).await?;
                ensure!(is_true(&node, "Ready"), "{name}: {}", node["status"]["conditions"]);
                Ok(())
            })
            .await?;
        }
        eventually("the controllers work", TIMEOUT, async || {
            self.processes.all_alive()?;
            cluster.get(&kinds::SERVICE_ACCOUNTS, "default", "default").await
        })
        .await?;
        Ok(())
    }

    fn run(&mut self, name: &str, arguments: &[(&str, String)]) -> Result<()> {
        let arguments: Vec<String> =
            arguments.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        self.processes.start(&self.paths.program(name), &arguments, &[])
    }
}

/// Whether the condition of this type is true.
pub fn is_true(object: &serde_json::Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == condition && one["status"] == "True")
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
