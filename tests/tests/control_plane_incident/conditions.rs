//! What a document says of the objects themselves, on the real API server: labels and movers as they are right before a change.

use anyhow::{Result, ensure};
use salve_tests::control_plane::{kind, scene};
use serde_json::json;

use crate::account::mutations;
use crate::fixture::{Stage, guest};

/// As the shipped document grants, but for what may be deleted.
const POLICY: &str = "
apiVersion: salve.dev/v1alpha1
kind: Policy
metadata: {name: careful}
spec:
  grants:
  - {capability: query-objects, kinds: [namespaces]}
  - {capability: query-flux, namespaces: [\"*\"]}
  - {capability: query-replicationsources, namespaces: [\"*\"]}
  - {capability: query-pvcs, namespaces: [\"*\"]}
  - {capability: query-pods, namespaces: [\"*\"]}
  - {capability: query-drivers, namespaces: [rook-ceph]}
  - {capability: tail-logs, namespaces: [rook-ceph]}
  - {capability: suspend-flux, namespaces: [\"*\"]}
  - {capability: reconcile-flux, namespaces: [\"*\"]}
  - {capability: restart-deployment, namespaces: [rook-ceph]}
  - {capability: delete-replicationsources, namespaces: [\"*\"], labelSelector: \"!keep\", movers: [restic]}
";

/// A label that somebody has put on an orphan keeps it: a run under such a policy is denied before anything is deleted, and gives back what it held.
pub async fn a_label_keeps_its_object(stage: &Stage) -> Result<()> {
    let file = stage.plane.folder().join("careful.yaml");
    std::fs::write(&file, POLICY)?;
    let (namespace, name) = scene::ORPHANS[0];
    let label = |value: serde_json::Value| json!({"metadata": {"labels": {"keep": value}}});
    stage.cluster.merge(&kind::REPLICATION_SOURCES, namespace, name, &label("yes".into())).await?;
    let (flux, sources, since) = (stage.suspensions().await?, stage.sources().await?, stage.now()?);
    let file = file.display().to_string();
    let told = stage.salve.tell("run", &[guest(&[]), vec!["--policy", &file]].concat()).await?;
    told.is(3, "denied")?;
    let words = told.report["sentence"].as_str().unwrap_or_default();
    ensure!(
        words.contains(&format!("{namespace}/{name}"))
            && words.contains("keep")
            && words.contains("careful.yaml"),
        "{words}"
    );
    let asked = stage.asked_since(since)?;
    let deleted: Vec<&str> = mutations(&asked)
        .filter(|entry| entry.resource == "replicationsources")
        .map(|entry| entry.uri.as_str())
        .collect();
    ensure!(deleted.is_empty(), "deleted all the same: {deleted:?}");
    ensure!(stage.sources().await? == sources, "a source is gone");
    ensure!(
        stage.suspensions().await? == flux && stage.marked().await?.is_empty(),
        "Flux is not as it was"
    );
    stage
        .cluster
        .merge(&kind::REPLICATION_SOURCES, namespace, name, &label(serde_json::Value::Null))
        .await?;
    Ok(())
}
