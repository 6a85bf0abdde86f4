//! Grants with patterns, and different namespaces for each effect. A Role cannot express them; the
//! admission policies do.

use anyhow::{Result, ensure};
use salve_tests::control_plane::actors::CephCsiOptions;
use salve_tests::control_plane::{eventually, fixture, kinds};
use serde_json::json;

use super::environment::{Environment, TIMEOUT};

/// Allows to suspend Kustomizations in one namespace, to reconcile those in others, and to restart
/// Deployments in namespaces that match a pattern.
const REMEDIATION: &str = "
apiVersion: salve.dev/v1alpha1
kind: Remediation
metadata: {name: narrow}
spec:
  grants:
  - {capability: suspend-flux, kinds: [kustomizations.kustomize.toolkit.fluxcd.io], namespaces: [media]}
  - {capability: reconcile-flux, kinds: [kustomizations.kustomize.toolkit.fluxcd.io], namespaces: [\"flux-*\"]}
  - {capability: restart-deployment, namespaces: [\"rook-*\"]}
";

const SUSPEND: &str = r#"{"spec": {"suspend": true}}"#;
const RECONCILE: &str =
    r#"{"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "2026-11-27T10:00:00Z"}}}"#;

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn a_field_can_only_be_changed_where_its_effect_is_granted() -> Result<()> {
    let env = Environment::healthy(CephCsiOptions::default()).await?;
    let file = env.plane.folder().join("narrow.yaml");
    std::fs::write(&file, REMEDIATION)?;
    let role = env
        .salve
        .run(
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
        role.stdout.contains("the admission policies limit its changes to the pattern"),
        "{role}"
    );
    let kubeconfig = env.plane.service_account("salve", "narrow", &role.stdout).await?;
    let deployments = ["rook-ceph", "media"];
    for namespace in deployments {
        env.plane
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
        env.cluster.get(&kinds::KUSTOMIZATIONS, "media", fixture::OWNER).await?["spec"]["suspend"]
            .clone();

    let patch = async |kind: &str, namespace: &str, name: &str, patch: &str, dry: bool| {
        let dry = if dry { "--dry-run=server" } else { "--dry-run=none" };
        let patched = env
            .plane
            .kubectl_as(
                &kubeconfig,
                &["patch", kind, name, "-n", namespace, "--type=merge", dry, "-p", patch],
                "",
            )
            .await;
        patched.map_err(|error| format!("{error:#}"))
    };
    let annotations = json!({"kubectl.kubernetes.io/restartedAt": "2026-11-27T10:00:00Z"});
    let restart =
        json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}).to_string();
    let denied = [
        ("kustomization", "media", fixture::OWNER, RECONCILE, "may change in metadata.annotations"),
        ("kustomization", "flux-system", fixture::ROOT, SUSPEND, "only suspend may change in spec"),
        ("deployment", "media", "bystander", &restart, "only deployments named * in rook-*"),
    ];
    // A policy takes effect a moment after it is created.
    for (kind, namespace, name, change, message) in denied {
        eventually("the change is denied", TIMEOUT, async || {
            let result = patch(kind, namespace, name, change, true).await;
            ensure!(
                result.as_ref().is_err_and(|error| error.contains(message)),
                "{kind} {namespace}/{name}, {change}: {result:?}"
            );
            Ok(())
        })
        .await?;
    }
    let restore = json!({"spec": {"suspend": before}}).to_string();
    let allowed = [
        ("kustomization", "media", fixture::OWNER, SUSPEND),
        ("kustomization", "media", fixture::OWNER, &restore),
        ("kustomization", "flux-system", fixture::ROOT, RECONCILE),
        ("deployment", "rook-ceph", "bystander", &restart),
    ];
    for (kind, namespace, name, change) in allowed {
        let result = patch(kind, namespace, name, change, false).await;
        ensure!(result.is_ok(), "{kind} {namespace}/{name}, {change}: {result:?}");
    }
    for namespace in deployments {
        env.plane.kubectl(&["delete", "deployment", "bystander", "--namespace", namespace]).await?;
    }
    Ok(())
}
