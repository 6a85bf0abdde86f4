//! Starts a control plane: its programs with their arguments, and the conditions to wait for.

use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use tokio::sync::Semaphore;

use super::cluster::Cluster;
use super::credentials::{Credentials, User};
use super::process::Processes;
use super::{ControlPlane, Paths, eventually, kinds};

/// The limit for each step of the start, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The simulated nodes.
const NODES: [&str; 2] = ["node-1", "node-2"];

/// The environment variable that keeps the directory with the logs after a test.
const KEEP: &str = "SALVE_KEEP_CONTROL_PLANE";

/// One permit per control plane that may run in this process.
static PERMITS: Semaphore = Semaphore::const_new(2);

/// The ports that [`free_port`] chooses from. They are below the ports that operating systems give
/// to outgoing connections, so that a connection cannot take one before its program listens.
const PORTS: Range<u16> = 20_000..32_000;

/// Returns a port on loopback that is unused and was not returned before by this process.
pub fn free_port() -> Result<u16> {
    static RETURNED: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.len() as u32;
    // Processes begin at different ports, because tests of several run at the same time.
    let first = std::process::id().wrapping_mul(101) % count;
    for _ in 0..count {
        let offset = (first + RETURNED.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + offset as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(anyhow!("all ports from {} to {} are in use", PORTS.start, PORTS.end - 1))
}

/// Starts all processes and waits until the control plane is usable.
pub async fn start() -> Result<ControlPlane> {
    let paths = Paths::find().map_err(|reason| anyhow!(reason))?;
    let permit = PERMITS.acquire().await?;
    let mut folder = tempfile::Builder::new().prefix("salve-control-plane-").tempdir()?;
    if std::env::var_os(KEEP).is_some() {
        folder.disable_cleanup(true);
        eprintln!("keeping the logs of this control plane in {}", folder.path().display());
    }
    let (server_port, kwok_port) = (free_port()?, free_port()?);
    let credentials = Credentials::write(folder.path(), server_port)?;
    let processes = Processes::new(folder.path())?;
    let mut plane = ControlPlane { processes, paths, credentials, folder, _permit: permit };

    plane.start_etcd_and_api_server(server_port)?;
    let cluster = eventually("the API server is ready", TIMEOUT, async || {
        plane.processes.ensure_running()?;
        // The API server writes its certificate while it starts: a client that was created before
        // may have read an incomplete file.
        let cluster = plane.cluster(User::Administrator).await?;
        cluster.get_text("/readyz").await?;
        Ok(cluster)
    })
    .await?;
    plane.start_controllers()?;
    plane.install_crds().await?;
    plane.start_nodes(kwok_port)?;
    plane.wait_until_usable(&cluster).await?;
    Ok(plane)
}

impl ControlPlane {
    fn start_etcd_and_api_server(&mut self, server_port: u16) -> Result<()> {
        let (store, peer) = (loopback_url(free_port()?), loopback_url(free_port()?));
        let data = self.folder.path().join("etcd");
        self.start_process(
            "etcd",
            &[
                ("data-dir", path(&data)),
                ("listen-client-urls", store.clone()),
                ("advertise-client-urls", store.clone()),
                ("listen-peer-urls", peer.clone()),
                ("initial-advertise-peer-urls", peer.clone()),
                ("initial-cluster", format!("default={peer}")),
                // The data is not needed after the test.
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
        self.start_process("kube-apiserver", &arguments)
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
            // The simulated nodes send no heartbeats.
            ("node-monitor-grace-period", "24h".into()),
        ];
        self.start_process("kube-controller-manager", &arguments)?;
        self.start_process(
            "kube-scheduler",
            &[
                ("kubeconfig", kubeconfig),
                ("leader-elect", "false".into()),
                ("secure-port", "0".into()),
            ],
        )
    }

    async fn install_crds(&self) -> Result<()> {
        let (generated, handwritten) =
            (path(&self.paths.generated_crds()), path(&self.paths.handwritten_crds()));
        // Server-side: they are too big for the annotation of a client-side apply.
        self.kubectl(&["apply", "--server-side", "-f", &generated, "-f", &handwritten])
            .await
            .context("failed to install the CRDs")?;
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
        self.start_process("kwok", &arguments)
    }

    async fn wait_until_usable(&mut self, cluster: &Cluster) -> Result<()> {
        for name in NODES {
            let labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"});
            let metadata = json!({"name": name, "labels": labels});
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
            cluster.apply(&node).await?;
        }
        for name in NODES {
            eventually("a node becomes ready", TIMEOUT, async || {
                self.processes.ensure_running()?;
                let node = cluster.get(&kinds::NODES, "", name).await?;
                ensure!(
                    has_true_condition(&node, "Ready"),
                    "{name}: {}",
                    node["status"]["conditions"]
                );
                Ok(())
            })
            .await?;
        }
        eventually("the controllers are running", TIMEOUT, async || {
            self.processes.ensure_running()?;
            cluster.get(&kinds::SERVICE_ACCOUNTS, "default", "default").await
        })
        .await?;
        Ok(())
    }

    fn start_process(&mut self, name: &str, arguments: &[(&str, String)]) -> Result<()> {
        let arguments: Vec<String> =
            arguments.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        self.processes.start(&self.paths.program(name), &arguments, &[])
    }
}

/// Returns whether the condition of this type has status `True`.
pub fn has_true_condition(object: &serde_json::Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|found| found["type"] == condition && found["status"] == "True")
}

fn loopback_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
