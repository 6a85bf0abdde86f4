//! What a run deleted comes back, under an account that `salve rbac --undo` describes, and under no lesser one.

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::fixture;
use salve_tests::salve::Told;

use crate::account::{mutations, words};
use crate::fixture::Stage;

const UNDOER: &str = "system:serviceaccount:salve:undoer";

/// Brings an orphan of this run back.
pub async fn an_orphan_comes_back(stage: &Stage, told: &Told) -> Result<()> {
    let (namespace, name) = scene::ORPHANS[1];
    let place = format!("{namespace}/{name}");
    let run = told.report["run"].as_str().context("a report has its run")?;
    let runs = stage.salve.runs().display().to_string();
    let arguments = [run, "--yes", "--only", &place, "--runs", &runs];

    let refused = stage.salve.tell("undo", &arguments).await?;
    ensure!(refused.code != Some(0), "the account of a run may not create: {refused}");
    ensure!(!stage.sources().await?.contains_key(&place), "it was made all the same");

    let role = stage
        .salve
        .tell("rbac", &["volsync-unlock", "--undo", "--name", "undoer", "--output", "human"])
        .await?;
    ensure!(role.code == Some(0), "{role}");
    let undoer = stage.plane.service_account("salve", "undoer", &role.stdout).await?;
    let since = stage.now()?;
    let undone = stage.salve.with(&undoer).tell("undo", &arguments).await?;
    ensure!(undone.code == Some(0), "{undone}");
    ensure!(stage.sources().await?.contains_key(&place), "{place} is not back: {undone}");
    let asked = stage.asked_by(UNDOER, since)?;
    ensure!(
        asked.iter().all(|entry| entry.code != 403 && entry.code != 401),
        "the Role does not suffice"
    );
    let changes: Vec<String> =
        mutations(&asked).filter(|entry| entry.resource != "leases").map(words).collect();
    ensure!(changes.len() == 1 && changes[0].starts_with("create "), "{changes:?}");
    Ok(())
}
