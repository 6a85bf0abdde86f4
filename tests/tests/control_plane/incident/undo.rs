//! `salve undo` recreates what a run deleted, with the permissions that `salve rbac --undo` prints,
//! and fails with those of a run.

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::fixture;
use salve_tests::salve::CommandOutput;

use super::environment::Environment;
use super::run_audit::{describe, mutations};

const UNDOER: &str = "system:serviceaccount:salve:undoer";

/// Restores an orphan that a run deleted.
pub async fn an_orphan_is_restored(env: &Environment, output: &CommandOutput) -> Result<()> {
    let (namespace, name) = fixture::ORPHANS[1];
    let orphan = format!("{namespace}/{name}");
    let run = output.report["run"].as_str().context("the report has no run")?;
    let runs = env.salve.runs().display().to_string();
    let arguments = [run, "--yes", "--only", &orphan, "--runs", &runs];

    let denied = env.salve.run("undo", &arguments).await?;
    ensure!(denied.code != Some(0), "the Role of a run does not allow create: {denied}");
    ensure!(
        !env.sources().await?.contains_key(&orphan),
        "{orphan} was recreated without permission"
    );

    let role = env
        .salve
        .run("rbac", &["volsync-unlock", "--undo", "--name", "undoer", "--output", "human"])
        .await?;
    ensure!(role.code == Some(0), "{role}");
    let undoer = env.plane.service_account("salve", "undoer", &role.stdout).await?;
    let since = env.audit_position()?;
    let output = env.salve.with_kubeconfig(&undoer).run("undo", &arguments).await?;
    ensure!(output.code == Some(0), "{output}");
    ensure!(env.sources().await?.contains_key(&orphan), "{orphan} was not recreated: {output}");
    let requests = env.requests_by(UNDOER, since)?;
    ensure!(
        requests.iter().all(|entry| entry.code != 403 && entry.code != 401),
        "the printed Role is not sufficient"
    );
    let changes: Vec<String> =
        mutations(&requests).filter(|entry| entry.resource != "leases").map(describe).collect();
    ensure!(changes.len() == 1 && changes[0].starts_with("create "), "{changes:?}");
    Ok(())
}
