//! Conditions of a grant on the objects themselves, on the real API server: labels and movers are
//! checked right before a change.

use anyhow::{Result, ensure};
use salve_tests::control_plane::{fixture, kinds};
use serde_json::json;

use super::environment::{Environment, guest};
use super::run_audit::mutations;

/// The grants of the shipped document, with a condition on what may be deleted.
const POLICY: &str = "
apiVersion: salve.dev/v1alpha1
kind: RemediationPolicy
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
  - capability: delete-replicationsources
    namespaces: [\"*\"]
    labelSelector: \"!keep\"
    movers: [restic]
";

/// Labels an orphan so that the policy excludes it: the run is denied before anything is deleted,
/// and resumes what it suspended.
pub async fn a_label_prevents_deletion(env: &Environment) -> Result<()> {
    let file = env.plane.folder().join("careful.yaml");
    std::fs::write(&file, POLICY)?;
    let (namespace, name) = fixture::ORPHANS[0];
    let label = |value: serde_json::Value| json!({"metadata": {"labels": {"keep": value}}});
    env.cluster.merge(&kinds::REPLICATION_SOURCES, namespace, name, &label("yes".into())).await?;
    let (flux, sources, since) =
        (env.suspend_states().await?, env.sources().await?, env.audit_position()?);
    let file = file.display().to_string();
    let output = env.salve.run("run", &[guest(&[]), vec!["--policy", &file]].concat()).await?;
    output.ensure_verdict(3, "denied")?;
    let summary = output.report["summary"].as_str().unwrap_or_default();
    ensure!(
        summary.contains(&format!("{namespace}/{name}"))
            && summary.contains("keep")
            && summary.contains("careful.yaml"),
        "{summary}"
    );
    let requests = env.requests_since(since)?;
    let deleted: Vec<&str> = mutations(&requests)
        .filter(|entry| entry.resource == "replicationsources")
        .map(|entry| entry.uri.as_str())
        .collect();
    ensure!(deleted.is_empty(), "deleted despite the policy: {deleted:?}");
    ensure!(env.sources().await? == sources, "a ReplicationSource was deleted");
    ensure!(
        env.suspend_states().await? == flux && env.marked_flux_objects().await?.is_empty(),
        "Flux was not resumed"
    );
    env.cluster
        .merge(&kinds::REPLICATION_SOURCES, namespace, name, &label(serde_json::Value::Null))
        .await?;
    Ok(())
}
