//! Reaching a cluster over the wire, and every way in which that fails.

use salve_core::effect::{Effect, Read, query_pods};
use salve_core::footprint::Footprint;
use salve_kubernetes::{Cluster, ClusterBackend, ConnectError, Connection};
use salve_run::Backend;
use salve_simulator::{Fault, Incident, Simulator, kubeconfig, serve};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A served cluster, and the kubeconfig that leads to it.
async fn served() -> (Simulator, TempDir, PathBuf) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = kubeconfig(listener.local_addr().unwrap());
    let simulator = Simulator::new(Incident::Playbook);
    // Ends with the test's runtime.
    tokio::spawn(serve(simulator.clone(), listener, 1.0));
    let (folder, path) = written(&text);
    (simulator, folder, path)
}

fn written(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn by(path: &std::path::Path) -> Connection {
    Connection { kubeconfig: Some(path.to_owned()), ..Connection::default() }
}

async fn refusal(connection: Connection) -> ConnectError {
    Cluster::connect(connection).await.expect_err("this cannot be reached")
}

#[tokio::test]
async fn a_cluster_is_reached_and_knows_who_we_are() {
    let (simulator, _folder, path) = served().await;
    let cluster =
        Cluster::connect(Connection { as_user: Some("jane".into()), ..by(&path) }).await.unwrap();
    assert_eq!(cluster.context(), "salve-simulator");
    assert!(cluster.server().starts_with("http://127.0.0.1:"));
    assert!(cluster.version().await.unwrap().starts_with('v'));
    let look = Read::ListPods(query_pods::ListPods { namespaces: vec!["rook-ceph".into()] });
    let footprint = Footprint::new(&Effect::Read(look.clone()), vec![]);
    ClusterBackend::new(cluster, "run-1", 0).look(&look, &footprint).await.unwrap();
    let exchanges = simulator.exchanges();
    assert!(exchanges.iter().all(|exchange| {
        exchange.user_agent.as_deref().is_some_and(|agent| agent.starts_with("salve/"))
            && exchange.impersonated.as_deref() == Some("jane")
    }));
}

#[tokio::test]
async fn an_unknown_context_is_answered_with_those_that_exist() {
    let (_simulator, _folder, path) = served().await;
    let error = refusal(Connection { context: Some("prod".into()), ..by(&path) }).await;
    assert!(
        matches!(&error, ConnectError::UnknownContext { known, .. } if known == &["salve-simulator"]),
        "{error}"
    );
    let (_folder, path) =
        written("apiVersion: v1\nkind: Config\ncontexts:\n- name: a\n  context: {cluster: c}\n");
    assert!(
        matches!(refusal(by(&path)).await, ConnectError::NoContext { known } if known == ["a"])
    );
    assert!(matches!(
        refusal(Connection { as_groups: vec!["g".into()], ..by(&path) }).await,
        ConnectError::GroupsWithoutUser
    ));
}

#[tokio::test]
async fn what_is_no_kubeconfig_is_not_quoted() {
    let error = refusal(by(&PathBuf::from("/nowhere/config"))).await;
    assert!(error.to_string().contains("/nowhere/config"), "{error}");
    let (_folder, path) = written("users: [{name: x, user: {token: [hunter2}}]");
    let error = refusal(by(&path)).await;
    assert!(
        matches!(&error, ConnectError::Kubeconfig(text) if !text.contains("hunter2")),
        "{error}"
    );
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_folder, path) = written(&kubeconfig(address));
    let error = refusal(by(&path)).await;
    assert!(
        matches!(&error, ConnectError::Unreachable { server, .. } if server.ends_with(&address.port().to_string())),
        "{error}"
    );
}

#[tokio::test]
async fn plain_http_behind_https_is_a_matter_of_tls() {
    let (_simulator, _folder, path) = served().await;
    let text = std::fs::read_to_string(path).unwrap().replace("http://", "https://");
    let (_folder, path) = written(&text);
    let error = refusal(by(&path)).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn refused_credentials_are_told_as_such() {
    let (simulator, _folder, path) = served().await;
    simulator.fault(Fault::status(401));
    assert!(matches!(refusal(by(&path)).await, ConnectError::Refused { .. }));
}

#[tokio::test]
async fn a_plugin_that_fails_is_named_without_its_output_or_environment() {
    let (_simulator, _folder, path) = served().await;
    let plugin = "user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, 'echo hunter2 >&2; exit 3'], interactiveMode: Never, env: [{name: KEY, value: hunter3}]}}";
    let (_folder, path) =
        written(&std::fs::read_to_string(path).unwrap().replace("user: {}", plugin));
    let error = refusal(by(&path)).await;
    assert!(
        matches!(&error, ConnectError::Credentials(text) if text.contains("exec plugin failed") && !text.contains("hunter")),
        "{error}"
    );
}

#[tokio::test]
async fn a_plugin_that_works_gives_the_credentials() {
    let (_simulator, folder, path) = served().await;
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
        written(&std::fs::read_to_string(path).unwrap().replace("user: {}", &plugin));
    Cluster::connect(by(&path)).await.unwrap();
    assert_eq!(std::fs::read_to_string(asked).unwrap().trim(), "given");
}
