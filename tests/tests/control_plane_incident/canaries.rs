//! Two hundred canaries where secrets are kept: in Secrets, environments, annotations, the kubeconfig and what its plugin is given. None of them
//! sings in anything that the program says or writes.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::party::Manner;
use salve_tests::control_plane::{Cluster, Kind, PROXIES, User, kind};
use salve_tests::salve::program;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::stage::{Stage, guest};

/// How many are planted.
const CANARIES: usize = 200;

/// Where they are, and what they are.
#[derive(Default)]
struct Planted(Vec<String>);

impl Planted {
    /// The next one. Its parts are such that nothing else contains them.
    fn next(&mut self) -> String {
        let canary = format!("canary-{:03}-{:016x}", self.0.len(), (self.0.len() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.0.push(canary.clone());
        canary
    }

    /// Those that are found in a text: plain, as hexadecimal digits, or as base64 in any of its three alignments.
    fn sung(&self, text: &str) -> Vec<&str> {
        let found = |canary: &&String| {
            let hexadecimal: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
            text.contains(canary.as_str()) || text.contains(&hexadecimal) || (0..3).any(|shift| text.contains(&middle_of_base64(canary, shift)))
        };
        self.0.iter().filter(found).map(String::as_str).collect()
    }
}

/// What of a text's base64 does not depend on what stands before and behind it.
fn middle_of_base64(text: &str, shift: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = text.as_bytes();
    let whole = &bytes[shift..bytes.len() - (bytes.len() - shift) % 3];
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let encode = |three: &[u8]| {
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        [letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), letter(bits)]
    };
    whole.chunks_exact(3).flat_map(encode).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn no_canary_sings_in_anything_that_is_said_or_written() -> Result<()> {
    let stage = Stage::healthy(Manner::default()).await?;
    let mut planted = Planted::default();
    in_the_cluster(&stage.cluster, &mut planted).await?;
    // The driver's pods were replaced, for its environment is another one.
    let rolled_out = ["rollout", "status", "deployment", "csi-rbdplugin-provisioner", "--namespace=rook-ceph", "--timeout=90s"];
    stage.plane.kubectl(&rolled_out).await?;
    stage.scene.strike().await?;
    let kubeconfig = in_the_kubeconfig(&stage, &mut planted)?;
    ensure!(planted.0.len() == CANARIES, "{} canaries", planted.0.len());
    // The net catches what it is for.
    for form in ["canary-000-9e3779b97f4a7c15", "Y2FuYXJ5LTAwMC05ZTM3NzliOTdmNGE3YzE1", "63616e6172792d3030302d39653337373962393766346137633135"] {
        ensure!(planted.sung(form).len() == 1, "{form} would not be heard");
    }

    let home = tempfile::tempdir()?;
    let mut said = vec![];
    for command in [&["check", "-vv"][..], &["plan", "-vv"], &["run", "--yes", "-vv", "--config", "mode=all"], &["check", "--output", "json"]] {
        let (command, flags) = command.split_first().context("a command has a name")?;
        let arguments: Vec<&str> = guest(&[]).into_iter().chain(flags.iter().copied()).collect();
        said.push((*command, salve(home.path(), &kubeconfig, command, &arguments).await?));
    }
    ensure!(said.iter().any(|(_, said)| said.contains("FIXED")), "the run was not fixed: {said:#?}");
    said.push(("doctor", salve(home.path(), &stage.plane.kubeconfig(User::Administrator), "doctor", &[]).await?));
    let runs: Vec<PathBuf> = files(home.path())?.into_iter().filter(|file| file.extension().is_some_and(|end| end == "jsonl")).collect();
    ensure!(runs.len() >= 2, "a plan and a run leave a file each: {runs:?}");
    for (run, form) in runs.iter().flat_map(|run| ["terminal", "json", "markdown", "html"].map(|form| (run.display().to_string(), form))) {
        said.push(("report", clean(home.path(), &["report", &run, "--as", form]).await?));
    }
    for (command, said) in &said {
        let sung = planted.sung(said);
        ensure!(sung.is_empty(), "{command} says {sung:?}");
    }
    let files = files(home.path())?;
    ensure!(files.len() >= 3, "it keeps files: {files:?}");
    for file in &files {
        let text = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
        let sung = planted.sung(&text);
        ensure!(sung.is_empty(), "{} holds {sung:?}", file.display());
    }
    println!("{} canaries, {} outputs, {} files", planted.0.len(), said.len(), files.len());
    Ok(())
}

/// In Secrets, in annotations of everything that a run looks at, and in the environment of its containers.
async fn in_the_cluster(cluster: &Cluster, planted: &mut Planted) -> Result<()> {
    for namespace in ["media", "flux-system", "rook-ceph", "ai", "selfhosted"] {
        let data: serde_json::Map<String, Value> = (0..16).map(|n| (format!("key-{n}"), planted.next().into())).collect();
        cluster.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "canaries", "namespace": namespace}, "stringData": data})).await?;
    }
    let mut places: Vec<(Kind, String, String)> = vec![];
    for (of, most) in [
        (kind::REPLICATION_SOURCES, 18),
        (kind::KUSTOMIZATIONS, 7),
        (kind::GIT_REPOSITORIES, 1),
        (kind::CLAIMS, 16),
        (kind::DEPLOYMENTS, 1),
        (kind::NAMESPACES, 8),
    ] {
        let objects = cluster.list(&of, "").await?;
        ensure!(objects.len() >= most, "only {} of {}", objects.len(), of.kind);
        let part = |object: &Value, at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        places.extend(objects.iter().take(most).map(|object| (of, part(object, "/metadata/namespace"), part(object, "/metadata/name"))));
    }
    for (of, namespace, name) in places {
        let annotations = json!({
            "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"spec\": {{\"password\": \"{}\"}}}}", planted.next()),
            "example.com/token": planted.next(),
        });
        cluster.merge(&of, &namespace, &name, &json!({"metadata": {"annotations": annotations}})).await?;
    }
    let environment: Vec<Value> = (0..10).map(|n| json!({"name": format!("TOKEN_{n}"), "value": planted.next()})).collect();
    let driver = cluster.get(&kind::DEPLOYMENTS, "rook-ceph", "csi-rbdplugin-provisioner").await?;
    let mut containers = driver["spec"]["template"]["spec"]["containers"].clone();
    containers[0]["env"] = environment.into();
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    cluster.merge(&kind::DEPLOYMENTS, "rook-ceph", "csi-rbdplugin-provisioner", &patch).await?;
    Ok(())
}

/// The account's token, given by a plugin that has canaries around it; a second user with a password.
fn in_the_kubeconfig(stage: &Stage, planted: &mut Planted) -> Result<PathBuf> {
    let mut kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(&stage.kubeconfig)?)?;
    let token = kubeconfig.pointer("/users/0/user/token").and_then(Value::as_str).context("the kubeconfig has no token")?.to_owned();
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}});
    let file = stage.plane.folder().join("credential.json");
    std::fs::write(&file, credential.to_string())?;
    let environment: Vec<Value> = (0..4).map(|n| json!({"name": format!("PLUGIN_SECRET_{n}"), "value": planted.next()})).collect();
    kubeconfig["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [file, "--", "/dev/null"], "env": environment, "interactiveMode": "Never",
    }});
    let users = kubeconfig["users"].as_array_mut().context("users are a list")?;
    for n in 0..3 {
        users.push(json!({"name": format!("other-{n}"), "user": {"token": planted.next()}}));
    }
    // The token itself is one more secret.
    planted.0.push(token);
    let path = stage.plane.folder().join("canaries.kubeconfig");
    std::fs::write(&path, kubeconfig.to_string())?;
    Ok(path)
}

async fn salve(home: &Path, kubeconfig: &Path, command: &str, arguments: &[&str]) -> Result<String> {
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
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code().is_some_and(|code| code < 2), "salve {} ended with {}: {said}", arguments.join(" "), output.status);
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
