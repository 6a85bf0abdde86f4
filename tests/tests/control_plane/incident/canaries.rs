//! Plants 200 canaries wherever a secret could be: in the Secrets and annotations of the fixture,
//! in environment variables, in the kubeconfig, and in the environment of its exec plugin. No
//! command prints or writes one.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use salve_tests::canary;
use salve_tests::control_plane::actors::CephCsiOptions;
use salve_tests::control_plane::{Cluster, PROXIES, User, fixture, kinds};
use salve_tests::salve::program;
use serde_json::{Value, json};
use tokio::process::Command;

use super::environment::{Environment, guest};

/// The canaries of the fixture, of the environment of the driver, of the kubeconfig, and the token.
const CANARIES: usize = 200;

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn no_output_and_no_file_contains_a_canary() -> Result<()> {
    let env = Environment::healthy(CephCsiOptions::default()).await?;
    let mut planted = fixture::PLANTED_CANARIES;
    plant_in_driver(&env.cluster, &mut planted).await?;
    // The new environment replaces the pods of the driver.
    let rollout_status = [
        "rollout",
        "status",
        "deployment",
        "csi-rbdplugin-provisioner",
        "--namespace=rook-ceph",
        "--timeout=90s",
    ];
    env.plane.kubectl(&rollout_status).await?;
    env.fixture.start_incident().await?;
    let (kubeconfig, token) = plant_in_kubeconfig(&env, &mut planted)?;
    ensure!(planted + 1 == CANARIES, "{planted} canaries and a token");
    let home = tempfile::tempdir()?;
    let mut outputs = vec![];
    for command in [
        &["check", "-vv"][..],
        &["plan", "-vv"],
        &["run", "--yes", "-vv", "--config", "mode=all"],
        &["check", "--output", "json"],
    ] {
        let (command, flags) = command.split_first().context("the command is empty")?;
        let arguments: Vec<&str> = guest(&[]).into_iter().chain(flags.iter().copied()).collect();
        outputs.push((*command, salve(home.path(), &kubeconfig, command, &arguments).await?));
    }
    ensure!(
        outputs.iter().any(|(_, output)| output.contains("FIXED")),
        "the incident was not fixed: {outputs:#?}"
    );
    outputs.push((
        "doctor",
        salve(home.path(), &env.plane.kubeconfig(User::Administrator), "doctor", &[]).await?,
    ));
    let runs: Vec<PathBuf> = files(home.path())?
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    ensure!(runs.len() >= 2, "expected a run file of the plan and of the run: {runs:?}");
    for (run, format) in runs.iter().flat_map(|run| {
        ["terminal", "json", "markdown", "html"].map(|format| (run.display().to_string(), format))
    }) {
        outputs.push(("report", execute(home.path(), &["report", &run, "--as", format]).await?));
    }
    for (command, output) in &outputs {
        canary::ensure_none_in(command, output)?;
        ensure!(!output.contains(&token), "{command} prints the token");
    }
    let files = files(home.path())?;
    ensure!(
        files.len() >= 3 && canary::ensure_none_in_dir(home.path())? == files.len(),
        "expected run files and state: {files:?}"
    );
    for file in &files {
        ensure!(
            !String::from_utf8_lossy(&std::fs::read(file)?).contains(&token),
            "{} contains the token",
            file.display()
        );
    }
    println!("{CANARIES} canaries, {} outputs, {} files", outputs.len(), files.len());
    Ok(())
}

/// Returns the next canary.
fn next(planted: &mut usize) -> String {
    *planted += 1;
    canary::nth(*planted - 1)
}

/// Plants canaries in the environment of the containers whose logs a run reads.
async fn plant_in_driver(cluster: &Cluster, planted: &mut usize) -> Result<()> {
    let environment: Vec<Value> =
        (0..10).map(|n| json!({"name": format!("TOKEN_{n}"), "value": next(planted)})).collect();
    let driver = cluster.get(&kinds::DEPLOYMENTS, "rook-ceph", "csi-rbdplugin-provisioner").await?;
    let mut containers = driver["spec"]["template"]["spec"]["containers"].clone();
    containers[0]["env"] = environment.into();
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    cluster.merge(&kinds::DEPLOYMENTS, "rook-ceph", "csi-rbdplugin-provisioner", &patch).await?;
    Ok(())
}

/// Writes a kubeconfig with an exec plugin that prints the token of the ServiceAccount, and with
/// canaries in the environment of the plugin and as the tokens of other users. Returns the path and
/// the token.
fn plant_in_kubeconfig(env: &Environment, planted: &mut usize) -> Result<(PathBuf, String)> {
    let mut kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(&env.kubeconfig)?)?;
    let token = kubeconfig
        .pointer("/users/0/user/token")
        .and_then(Value::as_str)
        .context("the kubeconfig has no token")?
        .to_owned();
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token},
    });
    let file = env.plane.folder().join("credential.json");
    std::fs::write(&file, credential.to_string())?;
    let environment: Vec<Value> = (0..4)
        .map(|n| json!({"name": format!("PLUGIN_SECRET_{n}"), "value": next(planted)}))
        .collect();
    kubeconfig["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "cat",
        "args": [file, "--", "/dev/null"],
        "env": environment,
        "interactiveMode": "Never",
    }});
    let users = kubeconfig["users"].as_array_mut().context("the kubeconfig has no users")?;
    for n in 0..3 {
        users.push(json!({"name": format!("other-{n}"), "user": {"token": next(planted)}}));
    }
    let path = env.plane.folder().join("canaries.kubeconfig");
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
    execute(home, &all).await
}

/// Runs the program and returns its stdout and stderr.
async fn execute(home: &Path, arguments: &[&str]) -> Result<String> {
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
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        output.status.code().is_some_and(|code| code < 2),
        "salve {} exited with {}: {text}",
        arguments.join(" "),
        output.status
    );
    Ok(text)
}

/// Returns all files below a directory.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}
