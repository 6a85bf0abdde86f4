//! Two hundred canaries where secrets are kept: in Secrets and annotations as in every scene, in environments, the kubeconfig and what its plugin
//! is given. None of them sings in anything that the program says or writes, however it is asked.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use salve_tests::canary;
use salve_tests::control_plane::actors::Manner;
use salve_tests::control_plane::{Cluster, PROXIES, User, kind, scene};
use salve_tests::salve::program;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::fixture::{Stage, guest};

/// How many there are: those of every scene, those in the driver's environment and in the kubeconfig, and the token.
const CANARIES: usize = 200;

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn no_canary_sings_in_anything_that_is_said_or_written() -> Result<()> {
    let stage = Stage::healthy(Manner::default()).await?;
    let mut planted = scene::PLANTED;
    in_the_driver(&stage.cluster, &mut planted).await?;
    // The driver's pods were replaced, for its environment is another one.
    let rolled_out = [
        "rollout",
        "status",
        "deployment",
        "csi-rbdplugin-provisioner",
        "--namespace=rook-ceph",
        "--timeout=90s",
    ];
    stage.plane.kubectl(&rolled_out).await?;
    stage.scene.strike().await?;
    let (kubeconfig, token) = in_the_kubeconfig(&stage, &mut planted)?;
    ensure!(planted + 1 == CANARIES, "{planted} canaries and a token");
    let home = tempfile::tempdir()?;
    let mut said = vec![];
    for command in [
        &["check", "-vv"][..],
        &["plan", "-vv"],
        &["run", "--yes", "-vv", "--config", "mode=all"],
        &["check", "--output", "json"],
    ] {
        let (command, flags) = command.split_first().context("a command has a name")?;
        let arguments: Vec<&str> = guest(&[]).into_iter().chain(flags.iter().copied()).collect();
        said.push((*command, salve(home.path(), &kubeconfig, command, &arguments).await?));
    }
    ensure!(
        said.iter().any(|(_, said)| said.contains("FIXED")),
        "the run was not fixed: {said:#?}"
    );
    said.push((
        "doctor",
        salve(home.path(), &stage.plane.kubeconfig(User::Administrator), "doctor", &[]).await?,
    ));
    let runs: Vec<PathBuf> = files(home.path())?
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    ensure!(runs.len() >= 2, "a plan and a run leave a file each: {runs:?}");
    for (run, form) in runs.iter().flat_map(|run| {
        ["terminal", "json", "markdown", "html"].map(|form| (run.display().to_string(), form))
    }) {
        said.push(("report", clean(home.path(), &["report", &run, "--as", form]).await?));
    }
    for (command, said) in &said {
        canary::listen(command, said)?;
        ensure!(!said.contains(&token), "{command} says the token");
    }
    let files = files(home.path())?;
    ensure!(
        files.len() >= 3 && canary::listen_below(home.path())? == files.len(),
        "it keeps files: {files:?}"
    );
    for file in &files {
        ensure!(
            !String::from_utf8_lossy(&std::fs::read(file)?).contains(&token),
            "{} holds the token",
            file.display()
        );
    }
    println!("{CANARIES} canaries, {} outputs, {} files", said.len(), files.len());
    Ok(())
}

/// The next canary.
fn next(planted: &mut usize) -> String {
    *planted += 1;
    canary::word(*planted - 1)
}

/// In the environment of the containers whose logs a run reads.
async fn in_the_driver(cluster: &Cluster, planted: &mut usize) -> Result<()> {
    let environment: Vec<Value> =
        (0..10).map(|n| json!({"name": format!("TOKEN_{n}"), "value": next(planted)})).collect();
    let driver = cluster.get(&kind::DEPLOYMENTS, "rook-ceph", "csi-rbdplugin-provisioner").await?;
    let mut containers = driver["spec"]["template"]["spec"]["containers"].clone();
    containers[0]["env"] = environment.into();
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    cluster.merge(&kind::DEPLOYMENTS, "rook-ceph", "csi-rbdplugin-provisioner", &patch).await?;
    Ok(())
}

/// The account's token, given by a plugin that has canaries around it; other users with tokens of theirs. The file, and the token.
fn in_the_kubeconfig(stage: &Stage, planted: &mut usize) -> Result<(PathBuf, String)> {
    let mut kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(&stage.kubeconfig)?)?;
    let token = kubeconfig
        .pointer("/users/0/user/token")
        .and_then(Value::as_str)
        .context("the kubeconfig has no token")?
        .to_owned();
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}});
    let file = stage.plane.folder().join("credential.json");
    std::fs::write(&file, credential.to_string())?;
    let environment: Vec<Value> = (0..4)
        .map(|n| json!({"name": format!("PLUGIN_SECRET_{n}"), "value": next(planted)}))
        .collect();
    kubeconfig["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [file, "--", "/dev/null"], "env": environment, "interactiveMode": "Never",
    }});
    let users = kubeconfig["users"].as_array_mut().context("users are a list")?;
    for n in 0..3 {
        users.push(json!({"name": format!("other-{n}"), "user": {"token": next(planted)}}));
    }
    let path = stage.plane.folder().join("canaries.kubeconfig");
    std::fs::write(&path, kubeconfig.to_string())?;
    Ok((path, token))
}

async fn salve(
    home: &Path,
    kubeconfig: &Path,
    command: &str,
    arguments: &[&str],
) -> Result<String> {
    let kubeconfig = kubeconfig.display().to_string();
    let mut all = vec![command];
    all.extend(arguments);
    all.extend(["--kubeconfig", &kubeconfig, "--context", "control-plane"]);
    clean(home, &all).await
}

/// Runs the program, and gives back all that it says.
async fn clean(home: &Path, arguments: &[&str]) -> Result<String> {
    let mut process = Command::new(program()?);
    for proxy in PROXIES {
        process.env_remove(proxy);
    }
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compiled");
    process
        .args(arguments)
        .env("HOME", home)
        .env("XDG_STATE_HOME", home.join("state"))
        .env("XDG_CACHE_HOME", cache)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null());
    let output = process.output().await?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        output.status.code().is_some_and(|code| code < 2),
        "salve {} ended with {}: {said}",
        arguments.join(" "),
        output.status
    );
    Ok(said)
}

/// Every file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}
