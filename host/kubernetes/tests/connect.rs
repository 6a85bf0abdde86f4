//! Connecting to a cluster over the network, and the ways in which that fails.

use salve_core::capability::{Effect, Read, query_pods};
use salve_core::footprint::Footprint;
use salve_kubernetes::{Cluster, ClusterBackend, ConnectError, Connection};
use salve_run::Backend;
use salve_simulator::{Fault, Incident, Simulator, kubeconfig, serve};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Serves a simulated cluster. Returns the simulator, and a folder with its kubeconfig.
async fn serve_cluster() -> (Simulator, TempDir, PathBuf) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = kubeconfig(listener.local_addr().unwrap());
    let simulator = Simulator::new(Incident::Playbook);
    // Ends with the test's runtime.
    tokio::spawn(serve(simulator.clone(), listener, 1.0));
    let (folder, path) = write_kubeconfig(&text);
    (simulator, folder, path)
}

fn write_kubeconfig(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn connection(path: &std::path::Path) -> Connection {
    Connection { kubeconfig: Some(path.to_owned()), ..Connection::default() }
}

async fn connect_error(connection: Connection) -> ConnectError {
    Cluster::connect(connection).await.expect_err("connecting fails")
}

#[tokio::test]
async fn a_connection_sends_the_user_agent_and_the_impersonated_user() {
    let (simulator, _folder, path) = serve_cluster().await;
    let cluster =
        Cluster::connect(Connection { as_user: Some("jane".into()), ..connection(&path) })
            .await
            .unwrap();
    assert_eq!(cluster.context(), "salve-simulator");
    assert!(cluster.server().starts_with("http://127.0.0.1:"));
    assert!(cluster.version().await.unwrap().starts_with('v'));
    let read = Read::ListPods(query_pods::ListPods { namespaces: vec!["rook-ceph".into()] });
    let footprint = Footprint::new(&Effect::Read(read.clone()), vec![]);
    ClusterBackend::new(cluster, "run-1", 0).read(&read, &footprint).await.unwrap();
    let exchanges = simulator.exchanges();
    assert!(exchanges.iter().all(|exchange| {
        exchange.user_agent.as_deref().is_some_and(|agent| agent.starts_with("salve/"))
            && exchange.impersonated.as_deref() == Some("jane")
    }));
}

#[tokio::test]
async fn the_error_for_an_unknown_context_lists_the_known_ones() {
    let (_simulator, _folder, path) = serve_cluster().await;
    let error =
        connect_error(Connection { context: Some("prod".into()), ..connection(&path) }).await;
    assert!(
        matches!(&error, ConnectError::UnknownContext { known,
            .. } if known == &["salve-simulator"]),
        "{error}"
    );
    let (_folder, path) = write_kubeconfig(
        "apiVersion: v1\nkind: Config\ncontexts:\n- name: a\n  context: {cluster: c}\n",
    );
    assert!(matches!(connect_error(connection(&path)).await,
            ConnectError::NoContext { known } if known == ["a"]));
}

#[tokio::test]
async fn an_invalid_kubeconfig_is_not_quoted() {
    let error = connect_error(connection(&PathBuf::from("/nowhere/config"))).await;
    assert!(error.to_string().contains("/nowhere/config"), "{error}");
    let (_folder, path) = write_kubeconfig("users: [{name: x, user: {token: [hunter2}}]");
    let error = connect_error(connection(&path)).await;
    assert!(
        matches!(&error, ConnectError::Kubeconfig(text) if !text.contains("hunter2")),
        "{error}"
    );
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_folder, path) = write_kubeconfig(&kubeconfig(address));
    let error = connect_error(connection(&path)).await;
    assert!(
        matches!(&error, ConnectError::Unreachable { server,
            .. } if server.ends_with(&address.port().to_string())),
        "{error}"
    );
}

#[tokio::test]
async fn plain_http_behind_an_https_url_is_a_tls_error() {
    let (_simulator, _folder, path) = serve_cluster().await;
    let text = std::fs::read_to_string(path).unwrap().replace("http://", "https://");
    let (_folder, path) = write_kubeconfig(&text);
    let error = connect_error(connection(&path)).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn rejected_credentials_are_reported() {
    let (simulator, _folder, path) = serve_cluster().await;
    simulator.fault(Fault::status(401));
    assert!(matches!(connect_error(connection(&path)).await, ConnectError::Unauthorized { .. }));
}

#[tokio::test]
async fn a_failed_exec_plugin_is_reported_without_its_output_or_environment() {
    let (_simulator, _folder, path) = serve_cluster().await;
    let plugin = "user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, 'echo hunter2 >&2; exit 3'], interactiveMode: Never, env: [{name: KEY, value: hunter3}]}}";
    let (_folder, path) =
        write_kubeconfig(&std::fs::read_to_string(path).unwrap().replace("user: {}", plugin));
    let error = connect_error(connection(&path)).await;
    assert!(
        matches!(
            &error,
            ConnectError::Credentials(text)
                if text.contains("exec plugin failed") && !text.contains("hunter")
        ),
        "{error}"
    );
}

#[tokio::test]
async fn an_exec_plugin_provides_the_credentials() {
    let (_simulator, folder, path) = serve_cluster().await;
    let asked = folder.path().join("asked");
    let credential = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"hunter2"}}"#;
    let script = folder.path().join("plugin.sh");
    std::fs::write(&script, format!("echo \"$KEY\" > {}\necho '{credential}'\n", asked.display()))
        .unwrap();
    let plugin = format!(
        "user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, args: ['{}'], interactiveMode: Never, env: [{{name: KEY, value: given}}]}}}}",
        script.display()
    );
    let (_folder, path) =
        write_kubeconfig(&std::fs::read_to_string(path).unwrap().replace("user: {}", &plugin));
    Cluster::connect(connection(&path)).await.unwrap();
    assert_eq!(std::fs::read_to_string(asked).unwrap().trim(), "given");
}
