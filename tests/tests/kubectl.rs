//! The real kubectl with the simulated cluster that `salve sim` serves.

use salve_tests::control_plane::{PROXIES, Paths, eventually};
use salve_tests::salve::program;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const TIMEOUT: Duration = Duration::from_secs(60);

async fn kubectl(home: &Path, arguments: &str) -> anyhow::Result<String> {
    let mut command = Command::new(Paths::find().map_err(anyhow::Error::msg)?.program("kubectl"));
    for proxy in PROXIES {
        command.env_remove(proxy);
    }
    let output = command
        .args(arguments.split(' '))
        .env("KUBECONFIG", home.join("sim.kubeconfig"))
        .env("HOME", home)
        .output()
        .await?;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "kubectl {arguments}: {err}");
    Ok(format!("{out}{err}"))
}

#[tokio::test]
#[cfg_attr(
    not(control_plane),
    ignore = "needs kubectl, which is built with the control plane: cargo xtask control-plane"
)]
async fn kubectl_reads_and_changes_the_simulated_cluster() {
    let home = tempfile::tempdir().unwrap();
    let arguments = [
        "sim",
        "--incident",
        "stuck-importer",
        "--speed",
        "20",
        "--kubeconfig-out",
        "sim.kubeconfig",
    ];
    let mut sim = Command::new(program().unwrap())
        .args(arguments)
        .current_dir(home.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pvcs = eventually("the cluster responds", TIMEOUT, async || {
        kubectl(home.path(), "get pvc -A").await
    })
    .await
    .unwrap();
    assert!(
        pvcs.lines().any(|line| line.contains("plex")
            && line.contains("Bound")
            && line.contains("ceph-block")),
        "{pvcs}"
    );

    for (arguments, expected) in [
        ("describe pvc plex -n media", "Status:        Bound"),
        ("get kustomizations -n media plex -o jsonpath={.spec.interval}", "1h"),
        ("api-resources --api-group=volsync.backube", "ReplicationSource"),
        ("get deployment importer -n media", "1/1"),
        ("logs deployment/importer -n media --tail=2", "stuck: queue full"),
        ("rollout restart deployment/importer -n media", "restarted"),
        // Watches until the new pod is ready.
        ("rollout status deployment/importer -n media --timeout=60s", "successfully rolled out"),
        ("annotate deployment importer -n media who=me", "annotated"),
        ("delete replicationsource plex -n media", "deleted"),
    ] {
        let output = kubectl(home.path(), arguments).await.unwrap();
        assert!(output.contains(expected), "kubectl {arguments}: {output}");
    }
    eventually("the new pod works", TIMEOUT, async || {
        let log = kubectl(home.path(), "logs deployment/importer -n media").await?;
        anyhow::ensure!(log.starts_with("imported") && !log.contains("stuck"), "{log}");
        Ok(())
    })
    .await
    .unwrap();
    sim.kill().await.unwrap();
}
