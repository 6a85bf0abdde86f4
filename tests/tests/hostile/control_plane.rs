//! The same attacks on a real API server. Each runs in its own `salve` process, with the
//! ServiceAccount that `salve rbac` generates for it and with resource limits of the operating
//! system. The audit log shows what the attack requested.

use super::malformed::{MalformedGuest, compiler_bomb, guests};
use super::{REMEDIATION, component};
use anyhow::{Context, Result, ensure};
use salve_tests::canary;
use salve_tests::control_plane::actors::CephCsiOptions;
use salve_tests::control_plane::fixture::{self, Fixture};
use salve_tests::control_plane::{ControlPlane, PROXIES, User, kinds};
use salve_tests::salve::program;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

const USER: &str = "system:serviceaccount:salve:hostile";

/// Limit of the data segment of each process, in KiB. Compiling a guest has its own process.
const MEMORY_LIMIT: u64 = 768 << 10;

/// Limit of the CPU time of each process, including the one that compiles, in seconds.
const CPU_LIMIT: u64 = 30;

/// Limit for an attack, on a slow machine with an unoptimized host.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Each attack with its exit code: 1 (not fixed) if it only makes denied calls, 6 (internal error)
/// if it breaks the guest.
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
async fn the_audit_log_of_a_real_api_server_shows_no_request_without_a_grant() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let _fixture = Fixture::healthy(&plane, CephCsiOptions::default()).await?;
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
    let before = cluster.get(&kinds::KUSTOMIZATIONS, "media", fixture::OWNER).await?;

    let mut attacks = vec![];
    for (how, code) in ATTACKS {
        let config = [format!("how={how}"), format!("victim=media/{}", fixture::OWNER)];
        attacks.push(Attack {
            how,
            document: document.clone(),
            config: config.to_vec(),
            code,
            suspends: true,
            expected: "",
        });
    }
    let compiler_bomb = MalformedGuest {
        name: "compiler bomb",
        component: compiler_bomb(),
        code: 2,
        expected: "cannot be compiled",
        suspends: false,
    };
    for guest in guests(fixture::OWNER).into_iter().chain([compiler_bomb]) {
        let guest_folder = folder.path().join(guest.name.replace(' ', "-"));
        std::fs::create_dir(&guest_folder)?;
        std::fs::write(guest_folder.join("guest.wasm"), &guest.component)?;
        let document = self::document(&guest_folder, &guest_folder.join("guest.wasm"))?;
        attacks.push(Attack {
            how: guest.name,
            document,
            config: vec![],
            code: guest.code,
            suspends: guest.suspends,
            expected: guest.expected,
        });
    }
    for attack in attacks {
        let Attack { how, code, .. } = attack;
        let since = plane.audit().entries()?.len();
        let began = Instant::now();
        let output = limited(folder.path(), &kubeconfig, &attack)
            .output()
            .await
            .context("failed to start salve")?;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(output.status.code() == Some(code), "{how} ended with {:?}: {text}", output.status);
        ensure!(began.elapsed() < TIMEOUT, "{how} took {:.0} s", began.elapsed().as_secs_f64());
        ensure!(!text.contains("GOT") && text.contains(attack.expected), "{how}: {text}");
        canary::ensure_none_in(how, &text)?;

        let mut requests = plane.audit().entries()?.split_off(since);
        requests.retain(|entry| entry.user == USER);
        ensure!(
            !attack.suspends || requests.iter().any(|entry| entry.is_mutation()),
            "{how} did not get to suspend its target"
        );
        for entry in &requests {
            // The Role equals the grants, so a request that RBAC denies was not granted.
            ensure!(
                entry.code != 403 && entry.code != 401,
                "{how}: RBAC denied {} {}",
                entry.verb,
                entry.uri
            );
            let forbidden = ["secrets", "exec", "kube-system/", "watch=", "limit=9999", "proxy"]
                .iter()
                .any(|part| entry.uri.contains(part));
            ensure!(!forbidden, "{how} reached {} {}", entry.verb, entry.uri);
            let allowed = entry.uri.contains(&format!("/media/kustomizations/{}", fixture::OWNER))
                || entry.resource == "leases"
                || entry.resource.starts_with("selfsubject");
            ensure!(!entry.is_mutation() || allowed, "{how} changed {} {}", entry.verb, entry.uri);
        }
        let after = cluster.get(&kinds::KUSTOMIZATIONS, "media", fixture::OWNER).await?;
        ensure!(
            after["spec"] == before["spec"]
                && !after["metadata"]["annotations"].to_string().contains("salve.dev"),
            "{how} left {after:#}"
        );
        println!("{how}: {} requests, {:.1} s", requests.len(), began.elapsed().as_secs_f64());
    }
    canary::ensure_none_in_dir(&folder.path().join("runs"))?;
    Ok(())
}

fn salve(home: &Path, arguments: &[&str]) -> Command {
    clean(Command::new(program().expect("salve was built with this test")), home, arguments)
}

/// Writes a Remediation for a component. The Kustomization has another name in this cluster.
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
    /// Whether it gets to suspend its target.
    suspends: bool,
    /// A part of the expected output.
    expected: &'static str,
}

/// Returns the command with resource limits.
fn limited(home: &Path, kubeconfig: &Path, attack: &Attack) -> Command {
    let program = program().expect("salve was built with this test").display().to_string();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"ulimit -d "$1" && ulimit -t "$2" && shift 2 && exec "$@""#,
        "sh",
        &MEMORY_LIMIT.to_string(),
        &CPU_LIMIT.to_string(),
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
