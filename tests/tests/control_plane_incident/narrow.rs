//! Documents that grant by patterns and grant each effect elsewhere: no Role can say so, and the admission policies do.

use anyhow::{Result, ensure};
use salve_tests::control_plane::actors::Manner;
use salve_tests::control_plane::{eventually, kind, scene};
use serde_json::json;

use crate::fixture::{Stage, TIMEOUT};

/// Kustomizations are suspended in one namespace and asked to reconcile in others; Deployments are restarted where a pattern says so.
const REMEDIATION: &str = "
apiVersion: salve.dev/v1alpha1
kind: Remediation
metadata: {name: narrow}
spec:
  grants:
  - {capability: suspend-flux, kinds: [kustomization], namespaces: [media]}
  - {capability: reconcile-flux, kinds: [kustomization], namespaces: [\"flux-*\"]}
  - {capability: restart-deployment, namespaces: [\"rook-*\"]}
";

const SUSPEND: &str = r#"{"spec": {"suspend": true}}"#;
const RECONCILE: &str =
    r#"{"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "2026-11-27T10:00:00Z"}}}"#;

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn each_field_changes_only_where_its_effect_is_granted() -> Result<()> {
    let stage = Stage::healthy(Manner::default()).await?;
    let file = stage.plane.folder().join("narrow.yaml");
    std::fs::write(&file, REMEDIATION)?;
    let role = stage
        .salve
        .tell(
            "rbac",
            &[
                "volsync-unlock",
                "--remediation",
                &file.display().to_string(),
                "--name",
                "narrow",
                "--output",
                "human",
            ],
        )
        .await?;
    ensure!(role.code == Some(0), "{role}");
    ensure!(
        role.stdout.contains("the admission policies hold its changes to the pattern"),
        "{role}"
    );
    let kubeconfig = stage.plane.service_account("salve", "narrow", &role.stdout).await?;
    let deployments = ["rook-ceph", "media"];
    for namespace in deployments {
        stage
            .plane
            .kubectl(&[
                "create",
                "deployment",
                "bystander",
                "--namespace",
                namespace,
                "--image=example.com/bystander",
                "--replicas=0",
            ])
            .await?;
    }
    let before =
        stage.cluster.get(&kind::KUSTOMIZATIONS, "media", scene::OWNER).await?["spec"]["suspend"]
            .clone();

    let patch = async |kind: &str, namespace: &str, name: &str, patch: &str, dry: bool| {
        let dry = if dry { "--dry-run=server" } else { "--dry-run=none" };
        let patched = stage
            .plane
            .kubectl_as(
                &kubeconfig,
                &["patch", kind, name, "-n", namespace, "--type=merge", dry, "-p", patch],
                "",
            )
            .await;
        patched.map_err(|error| format!("{error:#}"))
    };
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-11-27T10:00:00Z"}}}}}).to_string();
    let refused = [
        ("kustomization", "media", scene::OWNER, RECONCILE, "of metadata.annotations only"),
        ("kustomization", "flux-system", scene::ROOT, SUSPEND, "of spec only suspend may change"),
        (
            "deployment",
            "media",
            "bystander",
            &restart,
            "of deployments only those called *, in rook-*",
        ),
    ];
    // A policy holds a moment after it is made.
    for (kind, namespace, name, change, words) in refused {
        eventually("it is refused", TIMEOUT, async || {
            let said = patch(kind, namespace, name, change, true).await;
            ensure!(
                said.as_ref().is_err_and(|said| said.contains(words)),
                "{kind} {namespace}/{name}, {change}: {said:?}"
            );
            Ok(())
        })
        .await?;
    }
    let back = json!({"spec": {"suspend": before}}).to_string();
    let allowed = [
        ("kustomization", "media", scene::OWNER, SUSPEND),
        ("kustomization", "media", scene::OWNER, &back),
        ("kustomization", "flux-system", scene::ROOT, RECONCILE),
        ("deployment", "rook-ceph", "bystander", &restart),
    ];
    for (kind, namespace, name, change) in allowed {
        let said = patch(kind, namespace, name, change, false).await;
        ensure!(said.is_ok(), "{kind} {namespace}/{name}, {change}: {said:?}");
    }
    for namespace in deployments {
        stage
            .plane
            .kubectl(&["delete", "deployment", "bystander", "--namespace", namespace])
            .await?;
    }
    Ok(())
}
