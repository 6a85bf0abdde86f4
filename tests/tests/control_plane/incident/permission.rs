//! The Role and the admission policies against a stolen credential: kubectl with the token of a
//! run.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::actors::CephCsiOptions;
use salve_tests::control_plane::{eventually, fixture, kinds};
use serde_json::{Value, json};

use super::environment::{Environment, TIMEOUT};
use super::role;

/// Changes of a Kustomization that would escalate privileges. None only changes `suspend`.
const KUSTOMIZATION: [(&str, &str); 12] = [
    ("sourceRef", r#"{"spec": {"sourceRef": {"name": "elsewhere"}}}"#),
    ("path", r#"{"spec": {"path": "./elsewhere"}}"#),
    (
        "patches",
        r#"{"spec": {"patches": [{"patch": "- op: remove\n  path: /spec", "target": {"kind": "Deployment"}}]}}"#,
    ),
    ("prune", r#"{"spec": {"prune": false}}"#),
    ("serviceAccountName", r#"{"spec": {"serviceAccountName": "cluster-admin"}}"#),
    ("a removed field", r#"{"spec": {"path": null}}"#),
    ("suspend and another field", r#"{"spec": {"suspend": true, "force": true}}"#),
    ("a label", r#"{"metadata": {"labels": {"a": "b"}}}"#),
    (
        "an annotation of Flux",
        r#"{"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}}}"#,
    ),
    (
        "an owner reference",
        r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]}}"#,
    ),
    ("a finalizer", r#"{"metadata": {"finalizers": ["example.com/never"]}}"#),
    ("no finalizer", r#"{"metadata": {"finalizers": null}}"#),
];

/// The same for the GitRepository of the Kustomizations.
const SOURCE: [(&str, &str); 8] = [
    ("url", r#"{"spec": {"url": "https://example.com/evil"}}"#),
    ("ref", r#"{"spec": {"ref": {"branch": "evil"}}}"#),
    ("secretRef", r#"{"spec": {"secretRef": {"name": "others"}}}"#),
    ("ignore", r#"{"spec": {"ignore": "/*"}}"#),
    ("suspend and another field", r#"{"spec": {"suspend": true, "interval": "1s"}}"#),
    ("a label", r#"{"metadata": {"labels": {"a": "b"}}}"#),
    (
        "an owner reference",
        r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]}}"#,
    ),
    ("a finalizer", r#"{"metadata": {"finalizers": ["example.com/never"]}}"#),
];

/// The same for the Deployment of the driver. None is a restart.
const DEPLOYMENT: [(&str, &str); 8] = [
    ("replicas", r#"{"spec": {"replicas": 0}}"#),
    (
        "an image",
        r#"{"spec": {"template": {"spec": {"containers": [{"name": "csi-provisioner", "image": "example.com/evil"}]}}}}"#,
    ),
    ("a service account", r#"{"spec": {"template": {"spec": {"serviceAccountName": "other"}}}}"#),
    (
        "a host path",
        r#"{"spec": {"template": {"spec": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}}}}"#,
    ),
    ("a label of the pods", r#"{"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}"#),
    (
        "an annotation of the pods",
        r#"{"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}"#,
    ),
    ("a label", r#"{"metadata": {"labels": {"a": "b"}}}"#),
    (
        "an owner reference",
        r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]}}"#,
    ),
];

const DRIVER: &str = "csi-rbdplugin-provisioner";

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn the_credential_of_a_run_allows_kubectl_nothing_more() -> Result<()> {
    let env = Environment::healthy(CephCsiOptions::default()).await?;
    let kubectl = Kubectl { env: &env, kubeconfig: &env.kubeconfig };
    wait_for_policies(&kubectl).await?;

    env.plane
        .kubectl(&[
            "create",
            "deployment",
            "bystander",
            "--namespace=rook-ceph",
            "--image=example.com/bystander",
        ])
        .await?;
    for (what, patch) in KUSTOMIZATION {
        for (namespace, name) in [("flux-system", fixture::ROOT), ("media", fixture::OWNER)] {
            kubectl
                .ensure_denied(
                    &["patch", "kustomization", name, "-n", namespace, "--type=merge", "-p", patch],
                    "ValidatingAdmissionPolicy",
                )
                .await
                .with_context(|| format!("{what} of a Kustomization"))?;
        }
    }
    for (what, patch) in DEPLOYMENT {
        kubectl
            .ensure_denied(
                &[
                    "patch",
                    "deployment",
                    DRIVER,
                    "-n",
                    "rook-ceph",
                    "--type=strategic",
                    "-p",
                    patch,
                ],
                "ValidatingAdmissionPolicy",
            )
            .await
            .with_context(|| format!("{what} of a Deployment"))?;
    }
    for (what, patch) in SOURCE {
        kubectl
            .ensure_denied(
                &[
                    "patch",
                    "gitrepository",
                    "flux-system",
                    "-n",
                    "flux-system",
                    "--type=merge",
                    "-p",
                    patch,
                ],
                "ValidatingAdmissionPolicy",
            )
            .await
            .with_context(|| format!("{what} of a GitRepository"))?;
    }
    let manifest = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "another", "namespace": "salve"},
        "spec": {},
    });
    kubectl
        .ensure_denied_with_input(
            &["create", "-f", "-"],
            &manifest,
            "only leases named salve in salve are allowed",
        )
        .await?;
    for (field, value) in [
        ("finalizers", json!(["example.com/never"])),
        (
            "ownerReferences",
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]),
        ),
    ] {
        let mut lease = manifest.clone();
        lease["metadata"]["name"] = "salve".into();
        lease["metadata"][field] = value;
        kubectl
            .ensure_denied_with_input(
                &["create", "-f", "-"],
                &lease,
                &format!("a new object must not have {field}"),
            )
            .await?;
    }
    for (arguments, message) in [
        // By name alone; a run deletes by UID.
        (
            &["delete", "replicationsource", "plex", "-n", "media", "--wait=false"][..],
            "UID as a precondition",
        ),
        (
            &["delete", "replicationsource", "--all", "-n", "media", "--wait=false"],
            "UID as a precondition",
        ),
        (
            &["delete", "pods", "--all", "-n", "rook-ceph", "--wait=false"],
            "ValidatingAdmissionPolicy",
        ),
        (
            &["scale", "deployment", DRIVER, "-n", "rook-ceph", "--replicas=0"],
            "cannot patch resource \"deployments/scale\"",
        ),
        // The granted field, but not the Deployment of the driver.
        (
            &["rollout", "restart", "deployment", "bystander", "-n", "rook-ceph"],
            "only deployments named *-ctrlplugin, *-provisioner",
        ),
        (
            &["annotate", "kustomization", fixture::ROOT, "-n", "flux-system", "a=b"],
            "ValidatingAdmissionPolicy",
        ),
        // Not in the Role.
        (&["get", "secrets", "-n", "flux-system"], "cannot list resource \"secrets\""),
        (&["get", "secrets", "-A"], "cannot list resource \"secrets\""),
        (&["get", "pods", "-n", "kube-system"], "cannot list resource \"pods\""),
        (
            &["delete", "pvc", "plex", "-n", "media", "--wait=false"],
            "cannot delete resource \"persistentvolumeclaims\"",
        ),
        (
            &["delete", "kustomization", fixture::ROOT, "-n", "flux-system", "--wait=false"],
            "cannot delete resource \"kustomizations\"",
        ),
        (
            &["create", "token", "volsync-unlock", "-n", "salve"],
            "cannot create resource \"serviceaccounts/token\"",
        ),
        (&["get", "pods", "-n", "media", "--as=system:admin"], "cannot impersonate"),
        (
            &["create", "clusterrolebinding", "x", "--clusterrole=cluster-admin", "--user=x"],
            "cannot create resource \"clusterrolebindings\"",
        ),
        (
            &["delete", "validatingadmissionpolicybinding", "--all"],
            "cannot list resource \"validatingadmissionpolicybindings\"",
        ),
    ] {
        kubectl.ensure_denied(arguments, message).await.with_context(|| arguments.join(" "))?;
    }
    only_pods_of_the_driver_can_be_deleted(&kubectl).await?;
    // The changes of a run are allowed.
    for suspend in ["true", "false"] {
        let patch = format!(
            r#"{{"metadata": {{"annotations": {{"salve.dev/run": "0badcafe"}}}}, "spec": {{"suspend": {suspend}}}}}"#
        );
        kubectl
            .run(&[
                "patch",
                "kustomization",
                fixture::OWNER,
                "-n",
                "media",
                "--type=merge",
                "-p",
                &patch,
            ])
            .await?;
    }
    let patch =
        r#"{"metadata": {"annotations": {"salve.dev/run": null}}, "spec": {"suspend": null}}"#;
    kubectl
        .run(&[
            "patch",
            "kustomization",
            fixture::OWNER,
            "-n",
            "media",
            "--type=merge",
            "-p",
            patch,
        ])
        .await?;
    kubectl.run(&["rollout", "restart", "deployment", DRIVER, "-n", "rook-ceph"]).await?;
    Ok(())
}

/// Deletes pods by UID, as a run does: it is only allowed for pods of the granted Deployments.
async fn only_pods_of_the_driver_can_be_deleted(kubectl: &Kubectl<'_>) -> Result<()> {
    let pod = async |prefix: &str| {
        let pods = kubectl.env.cluster.list(&kinds::PODS, "rook-ceph").await?;
        let pod = pods.into_iter().find(|pod| {
            pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(prefix))
        });
        pod.with_context(|| format!("no pod {prefix}* exists"))
    };
    eventually("the bystander has a pod", TIMEOUT, async || pod("bystander").await.map(drop))
        .await?;
    for (prefix, denied) in [
        ("bystander", Some("only pods of Deployments named *-ctrlplugin, *-provisioner")),
        (DRIVER, None),
    ] {
        let pod = pod(prefix).await?;
        let path = format!(
            "/api/v1/namespaces/rook-ceph/pods/{}",
            pod["metadata"]["name"].as_str().unwrap_or_default()
        );
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": pod["metadata"]["uid"]},
        });
        match denied {
            Some(message) => {
                kubectl
                    .ensure_denied_with_input(
                        &["delete", "--raw", &path, "-f", "-"],
                        &options,
                        message,
                    )
                    .await?
            }
            None => drop(
                kubectl
                    .env
                    .plane
                    .kubectl_as(
                        kubectl.kubeconfig,
                        &["delete", "--raw", &path, "-f", "-"],
                        &options.to_string(),
                    )
                    .await?,
            ),
        }
    }
    Ok(())
}

/// `salve rbac --check` detects each missing rule, and only reads.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn a_missing_rule_is_reported() -> Result<()> {
    let env = Environment::healthy(CephCsiOptions::default()).await?;
    let since = env.audit_position()?;
    let output = env.salve.run("rbac", &["volsync-unlock", "--check"]).await?;
    ensure!(
        output.code == Some(0)
            && output.report["missing"] == json!([])
            && output.report["user"] == role::USER,
        "{output}"
    );
    let sent = env.requests_since(since)?;
    ensure!(
        sent.iter().all(|entry| entry.verb == "get" || entry.resource.starts_with("selfsubject")),
        "--check must only read: {sent:#?}"
    );

    let mut rules = 0;
    for role in role::documents()?.iter().filter(|document| document["rules"].is_array()) {
        for n in 0..role["rules"].as_array().map_or(0, Vec::len) {
            let mut reduced = role.clone();
            let rule = reduced["rules"].as_array_mut().context("the Role has no rules")?.remove(n);
            env.cluster.apply(&reduced).await?;
            let expected = requests(role, &rule);
            eventually("the missing rule is reported", TIMEOUT, async || {
                let output = env.salve.run("rbac", &["volsync-unlock", "--check"]).await?;
                let missing: BTreeSet<String> = output.report["missing"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(request)
                    .collect();
                ensure!(output.code == Some(4) && missing == expected, "without {rule}: {output}");
                Ok(())
            })
            .await?;
            rules += 1;
        }
        env.cluster.apply(role).await?;
    }
    println!("{rules} rules were removed, one at a time, and each was reported");
    ensure!(rules > 20, "{rules}");
    eventually("no rule is missing", TIMEOUT, async || {
        let output =
            env.salve.run("rbac", &["volsync-unlock", "--check", "--output", "human"]).await?;
        ensure!(
            output.code == Some(0)
                && output.stdout.contains("ALLOWED")
                && output.stdout.contains(role::USER),
            "{output}"
        );
        Ok(())
    })
    .await
}

/// Returns the requests that `--check` has to report without this rule.
fn requests(role: &Value, rule: &Value) -> BTreeSet<String> {
    let list = |field: &str| rule[field].as_array().cloned().unwrap_or_default();
    let names =
        if rule["resourceNames"].is_array() { list("resourceNames") } else { vec![Value::Null] };
    let mut requests = BTreeSet::new();
    for (resource, verb) in list("resources")
        .iter()
        .flat_map(|resource| list("verbs").into_iter().map(move |verb| (resource.clone(), verb)))
    {
        let resource = resource.as_str().unwrap_or_default();
        let (resource, subresource) = resource
            .split_once('/')
            .map_or((resource, Value::Null), |(resource, below)| (resource, json!(below)));
        for name in &names {
            requests.insert(request(&json!({
                "verb": verb,
                "group": rule["apiGroups"][0],
                "resource": resource,
                "subresource": subresource,
                "namespace": role["metadata"]["namespace"],
                "name": name,
            })));
        }
    }
    requests
}

fn request(request: &Value) -> String {
    ["verb", "group", "resource", "subresource", "namespace", "name"]
        .map(|field| request[field].as_str().unwrap_or("-"))
        .join(" ")
}

/// kubectl with the credential of a run.
struct Kubectl<'a> {
    env: &'a Environment,
    kubeconfig: &'a Path,
}

impl Kubectl<'_> {
    async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.env.plane.kubectl_as(self.kubeconfig, arguments, "").await
    }

    async fn ensure_denied(&self, arguments: &[&str], message: &str) -> Result<()> {
        self.ensure_denied_with_input(arguments, &Value::Null, message).await
    }

    async fn ensure_denied_with_input(
        &self,
        arguments: &[&str],
        input: &Value,
        message: &str,
    ) -> Result<()> {
        match self.env.plane.kubectl_as(self.kubeconfig, arguments, &input.to_string()).await {
            Ok(output) => anyhow::bail!("kubectl {} was allowed: {output}", arguments.join(" ")),
            Err(error) => {
                let error = format!("{error:#}");
                ensure!(
                    error.contains(message),
                    "kubectl {} was denied, but not with {message:?}: {error}",
                    arguments.join(" ")
                );
                Ok(())
            }
        }
    }
}

/// Waits until the policies are in effect: the API server watches them like any other object.
async fn wait_for_policies(kubectl: &Kubectl<'_>) -> Result<()> {
    let policies = role::documents()?
        .into_iter()
        .filter(|document| document["kind"] == "ValidatingAdmissionPolicyBinding")
        .count();
    ensure!(policies > 0, "no admission policy is shipped");
    eventually("the policies are in effect", TIMEOUT, async || {
        let patch = r#"{"metadata": {"labels": {"a": "b"}}}"#;
        kubectl
            .ensure_denied(
                &[
                    "patch",
                    "kustomization",
                    fixture::ROOT,
                    "-n",
                    "flux-system",
                    "--type=merge",
                    "--dry-run=server",
                    "-p",
                    patch,
                ],
                "Admission",
            )
            .await?;
        kubectl
            .ensure_denied(
                &[
                    "patch",
                    "deployment",
                    DRIVER,
                    "-n",
                    "rook-ceph",
                    "--type=merge",
                    "--dry-run=server",
                    "-p",
                    patch,
                ],
                "Admission",
            )
            .await
    })
    .await
}
