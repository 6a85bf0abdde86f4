//! The same attacks on a real API server, each by a process of the program under the ServiceAccount that `salve rbac` makes for it. The oracle is
//! the audit log, and what the operating system lets the process have.

use super::shapes::{Shape, bomb, shapes};
use super::{REMEDIATION, component};
use anyhow::{Context, Result, ensure};
use salve_tests::canary;
use salve_tests::control_plane::actors::Manner;
use salve_tests::control_plane::fixture::{self, Scene};
use salve_tests::control_plane::{ControlPlane, PROXIES, User, kind};
use salve_tests::salve::program;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

const USER: &str = "system:serviceaccount:salve:hostile";

/// So much memory the process may write to, KiB: more, and the operating system ends it. Compiling a guest has a process of its own.
const MEMORY: u64 = 768 << 10;

/// So many seconds of a processor each of its processes may have, the one that compiles too.
const PROCESSOR: u64 = 30;

/// So long an attack may take in all, on a slow machine with an unoptimised host.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Each attack, and the exit codes that its end may have: denied or not fixed for those that only ask, broken for those that break.
const ATTACKS: [(&str, i32); 21] = [
    ("forget", 0),
    ("panic", 6),
    ("loop", 6),
    ("recurse", 6),
    ("copy", 6),
    ("calls", 6),
    ("flood", 6),
    ("pattern", 1),
    ("hoard", 6),
    ("handles", 1),
    ("shout", 6),
    ("list", 6),
    ("beyond", 6),
    ("lines", 6),
    ("forge", 1),
    ("secrets", 1),
    ("names", 1),
    ("selectors", 1),
    ("others", 1),
    ("marks", 1),
    ("everything", 6),
];

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn the_audit_log_of_a_real_api_server_shows_nothing_ungranted() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let _scene = Scene::healthy(&plane, Manner::default()).await?;
    let folder = tempfile::tempdir()?;
    let document = document(folder.path(), component())?;
    let role =
        salve(folder.path(), &["rbac", &document.display().to_string(), "--name", "hostile"])
            .output()
            .await?;
    ensure!(role.status.success(), "{}", String::from_utf8_lossy(&role.stderr));
    let kubeconfig =
        plane.service_account("salve", "hostile", &String::from_utf8(role.stdout)?).await?;
    let cluster = plane.cluster(User::Administrator).await?;
    let before = cluster.get(&kind::KUSTOMIZATIONS, "media", fixture::OWNER).await?;

    let mut attacks = vec![];
    for (how, code) in ATTACKS {
        let config = [format!("how={how}"), format!("victim=media/{}", fixture::OWNER)];
        attacks.push(Attack {
            how,
            document: document.clone(),
            config: config.to_vec(),
            code,
            suspends: true,
            words: "",
        });
    }
    let bomb = Shape {
        name: "a bomb for the compiler",
        component: bomb(),
        code: 2,
        words: "cannot be compiled",
        suspends: false,
    };
    for shape in shapes(fixture::OWNER).into_iter().chain([bomb]) {
        let local = folder.path().join(shape.name.replace(' ', "-"));
        std::fs::create_dir(&local)?;
        std::fs::write(local.join("guest.wasm"), &shape.component)?;
        let document = self::document(&local, &local.join("guest.wasm"))?;
        attacks.push(Attack {
            how: shape.name,
            document,
            config: vec![],
            code: shape.code,
            suspends: shape.suspends,
            words: shape.words,
        });
    }
    for attack in attacks {
        let Attack { how, code, .. } = attack;
        let since = plane.audit().entries()?.len();
        let began = Instant::now();
        let output = limited(folder.path(), &kubeconfig, &attack)
            .output()
            .await
            .context("salve did not start")?;
        let told = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(output.status.code() == Some(code), "{how} ended with {:?}: {told}", output.status);
        ensure!(began.elapsed() < TIMEOUT, "{how} took {:.0} s", began.elapsed().as_secs_f64());
        ensure!(!told.contains("GOT") && told.contains(attack.words), "{how}: {told}");
        canary::listen(how, &told)?;

        let mut asked = plane.audit().entries()?.split_off(since);
        asked.retain(|entry| entry.user == USER);
        ensure!(
            !attack.suspends || asked.iter().any(|entry| entry.is_mutation()),
            "{how} did not come so far that it suspends"
        );
        for entry in &asked {
            // Its Role is its grants: what RBAC had to refuse had left its grants.
            ensure!(
                entry.code != 403 && entry.code != 401,
                "{how}: RBAC had to refuse {} {}",
                entry.verb,
                entry.uri
            );
            let strange = ["secrets", "exec", "kube-system/", "watch=", "limit=9999", "proxy"]
                .iter()
                .any(|word| entry.uri.contains(word));
            ensure!(!strange, "{how} reached {} {}", entry.verb, entry.uri);
            let local = entry.uri.contains(&format!("/media/kustomizations/{}", fixture::OWNER))
                || entry.resource == "leases"
                || entry.resource.starts_with("selfsubject");
            ensure!(!entry.is_mutation() || local, "{how} changed {} {}", entry.verb, entry.uri);
        }
        let after = cluster.get(&kind::KUSTOMIZATIONS, "media", fixture::OWNER).await?;
        ensure!(
            after["spec"] == before["spec"]
                && !after["metadata"]["annotations"].to_string().contains("salve.dev"),
            "{how} left {after:#}"
        );
        println!("{how}: {} requests, {:.1} s", asked.len(), began.elapsed().as_secs_f64());
    }
    canary::listen_below(&folder.path().join("runs"))?;
    Ok(())
}

fn salve(home: &Path, arguments: &[&str]) -> Command {
    clean(Command::new(program().expect("it is built beside this test")), home, arguments)
}

/// A Remediation for a component. In this cluster the app's Kustomization has another name.
fn document(folder: &Path, component: &Path) -> Result<PathBuf> {
    let document = folder.join("remediation.yaml");
    let text = REMEDIATION
        .replace("COMPONENT", &component.display().to_string())
        .replace("names: [plex]", &format!("names: [{}]", fixture::OWNER));
    std::fs::write(&document, text)?;
    Ok(document)
}

struct Attack {
    how: &'static str,
    document: PathBuf,
    config: Vec<String>,
    code: i32,
    /// Whether it comes so far that it suspends its victim.
    suspends: bool,
    /// Something that is said of its end.
    words: &'static str,
}

/// The program with no more memory and time than it may have.
fn limited(home: &Path, kubeconfig: &Path, attack: &Attack) -> Command {
    let program = program().expect("it is built beside this test").display().to_string();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"ulimit -d "$1" && ulimit -t "$2" && shift 2 && exec "$@""#,
        "sh",
        &MEMORY.to_string(),
        &PROCESSOR.to_string(),
        &program,
    ]);
    let (document, kubeconfig, runs) = (
        attack.document.display().to_string(),
        kubeconfig.display().to_string(),
        home.join("runs").display().to_string(),
    );
    let mut arguments = vec![
        "run",
        &document,
        "--yes",
        "--kubeconfig",
        &kubeconfig,
        "--context",
        "control-plane",
        "--runs",
        &runs,
    ];
    arguments.extend(attack.config.iter().flat_map(|pair| ["--config", pair]));
    clean(command, home, &arguments)
}

fn clean(mut command: Command, home: &Path, arguments: &[&str]) -> Command {
    for proxy in PROXIES {
        command.env_remove(proxy);
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
    command
        .args(arguments)
        .env("HOME", home)
        .env("XDG_CACHE_HOME", cache)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}
