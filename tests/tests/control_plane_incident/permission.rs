//! The Role and the admission policies against whoever holds the credential: kubectl in the place of Salve.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::actors::Manner;
use salve_tests::control_plane::{eventually, kind, scene};
use serde_json::{Value, json};

use crate::fixture::{Stage, TIMEOUT};
use crate::role;

/// Changes of a Kustomization that would be a way to more: none of them is a suspend.
const KUSTOMIZATION: [(&str, &str); 12] = [
    ("sourceRef", r#"{"spec": {"sourceRef": {"name": "elsewhere"}}}"#),
    ("path", r#"{"spec": {"path": "./elsewhere"}}"#),
    (
        "patches",
        r#"{"spec": {"patches": [{"patch": "- op: remove\n  path: /spec", "target": {"kind": "Deployment"}}]}}"#,
    ),
    ("prune", r#"{"spec": {"prune": false}}"#),
    ("serviceAccountName", r#"{"spec": {"serviceAccountName": "cluster-admin"}}"#),
    ("a field taken away", r#"{"spec": {"path": null}}"#),
    ("suspend, and something beside it", r#"{"spec": {"suspend": true, "force": true}}"#),
    ("a label", r#"{"metadata": {"labels": {"a": "b"}}}"#),
    (
        "an annotation of others",
        r#"{"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}}}"#,
    ),
    (
        "an owner reference",
        r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]}}"#,
    ),
    ("a finalizer", r#"{"metadata": {"finalizers": ["example.com/never"]}}"#),
    ("no finalizer", r#"{"metadata": {"finalizers": null}}"#),
];

/// The same of the GitRepository that all of it comes from.
const SOURCE: [(&str, &str); 8] = [
    ("url", r#"{"spec": {"url": "https://example.com/evil"}}"#),
    ("ref", r#"{"spec": {"ref": {"branch": "evil"}}}"#),
    ("secretRef", r#"{"spec": {"secretRef": {"name": "others"}}}"#),
    ("ignore", r#"{"spec": {"ignore": "/*"}}"#),
    ("suspend, and something beside it", r#"{"spec": {"suspend": true, "interval": "1s"}}"#),
    ("a label", r#"{"metadata": {"labels": {"a": "b"}}}"#),
    (
        "an owner reference",
        r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]}}"#,
    ),
    ("a finalizer", r#"{"metadata": {"finalizers": ["example.com/never"]}}"#),
];

/// The same of the driver's Deployment: none of them is a restart.
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
async fn with_the_same_credential_kubectl_can_do_no_more() -> Result<()> {
    let stage = Stage::healthy(Manner::default()).await?;
    let hand = Hand { stage: &stage, kubeconfig: &stage.kubeconfig };
    policies_hold(&hand).await?;

    stage
        .plane
        .kubectl(&[
            "create",
            "deployment",
            "bystander",
            "--namespace=rook-ceph",
            "--image=example.com/bystander",
        ])
        .await?;
    for (what, patch) in KUSTOMIZATION {
        for (namespace, name) in [("flux-system", scene::ROOT), ("media", scene::OWNER)] {
            hand.refused(
                &["patch", "kustomization", name, "-n", namespace, "--type=merge", "-p", patch],
                "ValidatingAdmissionPolicy",
            )
            .await
            .with_context(|| format!("{what} of a Kustomization"))?;
        }
    }
    for (what, patch) in DEPLOYMENT {
        hand.refused(
            &["patch", "deployment", DRIVER, "-n", "rook-ceph", "--type=strategic", "-p", patch],
            "ValidatingAdmissionPolicy",
        )
        .await
        .with_context(|| format!("{what} of a Deployment"))?;
    }
    for (what, patch) in SOURCE {
        hand.refused(
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
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "another", "namespace": "salve"}, "spec": {},
    });
    hand.refused_with(&["create", "-f", "-"], &manifest, "the only Lease to be made is salve")
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
        hand.refused_with(&["create", "-f", "-"], &lease, &format!("a new object has no {field}"))
            .await?;
    }
    for (arguments, words) in [
        // By name alone, as a person deletes; the run deletes by uid.
        (&["delete", "replicationsource", "plex", "-n", "media", "--wait=false"][..], "by its uid"),
        (&["delete", "replicationsource", "--all", "-n", "media", "--wait=false"], "by its uid"),
        (
            &["delete", "pods", "--all", "-n", "rook-ceph", "--wait=false"],
            "ValidatingAdmissionPolicy",
        ),
        (
            &["scale", "deployment", DRIVER, "-n", "rook-ceph", "--replicas=0"],
            "cannot patch resource \"deployments/scale\"",
        ),
        // Its field, and no Deployment of the driver.
        (
            &["rollout", "restart", "deployment", "bystander", "-n", "rook-ceph"],
            "of deployments only those called *-ctrlplugin, *-provisioner",
        ),
        (
            &["annotate", "kustomization", scene::ROOT, "-n", "flux-system", "a=b"],
            "ValidatingAdmissionPolicy",
        ),
        // What the Role never names.
        (&["get", "secrets", "-n", "flux-system"], "cannot list resource \"secrets\""),
        (&["get", "secrets", "-A"], "cannot list resource \"secrets\""),
        (&["get", "pods", "-n", "kube-system"], "cannot list resource \"pods\""),
        (
            &["delete", "pvc", "plex", "-n", "media", "--wait=false"],
            "cannot delete resource \"persistentvolumeclaims\"",
        ),
        (
            &["delete", "kustomization", scene::ROOT, "-n", "flux-system", "--wait=false"],
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
        hand.refused(arguments, words).await.with_context(|| arguments.join(" "))?;
    }
    pods_of_the_driver_alone(&hand).await?;
    // What a run does by these fields it may do.
    for suspend in ["true", "false"] {
        let patch = format!(
            r#"{{"metadata": {{"annotations": {{"salve.dev/run": "0badcafe"}}}}, "spec": {{"suspend": {suspend}}}}}"#
        );
        hand.kubectl(&[
            "patch",
            "kustomization",
            scene::OWNER,
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
    hand.kubectl(&[
        "patch",
        "kustomization",
        scene::OWNER,
        "-n",
        "media",
        "--type=merge",
        "-p",
        patch,
    ])
    .await?;
    hand.kubectl(&["rollout", "restart", "deployment", DRIVER, "-n", "rook-ceph"]).await?;
    Ok(())
}

/// By uid, as a run deletes: pods of the granted Deployments, and no others.
async fn pods_of_the_driver_alone(hand: &Hand<'_>) -> Result<()> {
    let pod = async |of: &str| {
        let pods = hand.stage.cluster.list(&kind::PODS, "rook-ceph").await?;
        let pod = pods
            .into_iter()
            .find(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(of)));
        pod.with_context(|| format!("no pod of {of} is there"))
    };
    eventually("the bystander has a pod", TIMEOUT, async || pod("bystander").await.map(drop))
        .await?;
    for (of, refused) in [
        ("bystander", Some("of pods only those of Deployments called *-ctrlplugin, *-provisioner")),
        (DRIVER, None),
    ] {
        let pod = pod(of).await?;
        let path = format!(
            "/api/v1/namespaces/rook-ceph/pods/{}",
            pod["metadata"]["name"].as_str().unwrap_or_default()
        );
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": pod["metadata"]["uid"]}});
        match refused {
            Some(words) => {
                hand.refused_with(&["delete", "--raw", &path, "-f", "-"], &options, words).await?
            }
            None => drop(
                hand.stage
                    .plane
                    .kubectl_as(
                        hand.kubeconfig,
                        &["delete", "--raw", &path, "-f", "-"],
                        &options.to_string(),
                    )
                    .await?,
            ),
        }
    }
    Ok(())
}

/// Each rule is asked about, and its absence is named before anything is touched.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn a_rule_that_is_missing_is_named() -> Result<()> {
    let stage = Stage::healthy(Manner::default()).await?;
    let since = stage.now()?;
    let told = stage.salve.tell("rbac", &["volsync-unlock", "--check"]).await?;
    ensure!(
        told.code == Some(0)
            && told.report["missing"] == json!([])
            && told.report["user"] == role::USER,
        "{told}"
    );
    let asked = stage.asked_since(since)?;
    ensure!(
        asked.iter().all(|one| one.verb == "get" || one.resource.starts_with("selfsubject")),
        "it asks, and touches nothing: {asked:#?}"
    );

    let mut rules = 0;
    for role in role::documents()?.iter().filter(|one| one["rules"].is_array()) {
        for n in 0..role["rules"].as_array().map_or(0, Vec::len) {
            let mut less = role.clone();
            let rule = less["rules"].as_array_mut().context("rules are a list")?.remove(n);
            stage.cluster.apply(&less).await?;
            let wanted = requests(role, &rule);
            eventually("what is missing is named", TIMEOUT, async || {
                let told = stage.salve.tell("rbac", &["volsync-unlock", "--check"]).await?;
                let missing: BTreeSet<String> =
                    told.report["missing"].as_array().into_iter().flatten().map(request).collect();
                ensure!(told.code == Some(4) && missing == wanted, "without {rule}: {told}");
                Ok(())
            })
            .await?;
            rules += 1;
        }
        stage.cluster.apply(role).await?;
    }
    println!("{rules} rules were taken away, one at a time, and each was missed");
    ensure!(rules > 20, "{rules}");
    eventually("nothing is missing any more", TIMEOUT, async || {
        let told =
            stage.salve.tell("rbac", &["volsync-unlock", "--check", "--output", "human"]).await?;
        ensure!(
            told.code == Some(0)
                && told.stdout.contains("ALLOWED")
                && told.stdout.contains(role::USER),
            "{told}"
        );
        Ok(())
    })
    .await
}

/// What `--check` has to name where this rule is gone.
fn requests(role: &Value, rule: &Value) -> BTreeSet<String> {
    let list = |field: &str| rule[field].as_array().cloned().unwrap_or_default();
    let names =
        if rule["resourceNames"].is_array() { list("resourceNames") } else { vec![Value::Null] };
    let mut requests = BTreeSet::new();
    for (resource, verb) in list("resources")
        .iter()
        .flat_map(|resource| list("verbs").into_iter().map(move |verb| (resource.clone(), verb)))
    {
        let word = resource.as_str().unwrap_or_default();
        let (plain, below) = word
            .split_once('/')
            .map_or((word, Value::Null), |(plain, below)| (plain, json!(below)));
        for name in &names {
            requests.insert(request(&json!({
                "verb": verb, "group": rule["apiGroups"][0], "resource": plain, "subresource": below,
                "namespace": role["metadata"]["namespace"], "name": name,
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

/// A person with the credential of a run and kubectl.
struct Hand<'a> {
    stage: &'a Stage,
    kubeconfig: &'a Path,
}

impl Hand<'_> {
    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.stage.plane.kubectl_as(self.kubeconfig, arguments, "").await
    }

    async fn refused(&self, arguments: &[&str], words: &str) -> Result<()> {
        self.refused_with(arguments, &Value::Null, words).await
    }

    async fn refused_with(&self, arguments: &[&str], input: &Value, words: &str) -> Result<()> {
        match self.stage.plane.kubectl_as(self.kubeconfig, arguments, &input.to_string()).await {
            Ok(said) => anyhow::bail!("kubectl {} was allowed: {said}", arguments.join(" ")),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(
                    said.contains(words),
                    "kubectl {} was refused, but not with {words:?}: {said}",
                    arguments.join(" ")
                );
                Ok(())
            }
        }
    }
}

/// A policy holds a moment after it is made: the API server hears of it like everybody else.
async fn policies_hold(hand: &Hand<'_>) -> Result<()> {
    let policies = role::documents()?
        .into_iter()
        .filter(|one| one["kind"] == "ValidatingAdmissionPolicyBinding")
        .count();
    ensure!(policies > 0, "no admission policy is shipped");
    eventually("the policies hold", TIMEOUT, async || {
        let patch = r#"{"metadata": {"labels": {"a": "b"}}}"#;
        hand.refused(
            &[
                "patch",
                "kustomization",
                scene::ROOT,
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
        hand.refused(
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
