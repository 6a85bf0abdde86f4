//! Stories about the harness itself: what it pretends is pretended well enough, and what is real is the real thing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::actors::Manner;
use salve_tests::control_plane::fixture::{self, Scene};
use salve_tests::control_plane::{Cluster, ControlPlane, User, eventually, flux, kind};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);

const CSI: (&str, &str) = ("rook-ceph", "csi-rbdplugin-provisioner");

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn a_service_account_may_do_what_its_role_says_and_the_audit_log_tells_what_it_did()
-> Result<()> {
    let plane = ControlPlane::start().await?;
    let role = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: default}
rules: [{apiGroups: [""], resources: [serviceaccounts], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: salve}]
"#;
    let kubeconfig = plane.service_account("salve", "reader", role).await?;
    let reader = Cluster::connect(&kubeconfig).await?;
    reader.get(&kind::SERVICE_ACCOUNTS, "default", "default").await?;
    let refused = reader.delete(&kind::SERVICE_ACCOUNTS, "default", "default").await;
    ensure!(
        refused.is_err_and(|error| format!("{error:#}").contains("forbidden")),
        "the role grants no delete"
    );
    plane
        .kubectl_as(&kubeconfig, &["get", "serviceaccount", "default", "--namespace=default"], "")
        .await?;

    let user = "system:serviceaccount:salve:reader";
    let changes = plane.audit().mutations_by(user)?;
    let told: Vec<_> = changes
        .iter()
        .map(|entry| (entry.verb.as_str(), entry.name.as_str(), entry.code))
        .collect();
    assert_eq!(told, [("delete", "default", 403)]);
    assert!(!changes[0].is_granted());
    let entries = plane.audit().entries()?;
    assert!(
        entries.iter().any(|entry| entry.user == user && entry.user_agent.starts_with("kubectl"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn flux_brings_deleted_sources_back_unless_their_owner_is_suspended() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let mut scene = Scene::healthy(&plane, Manner::default()).await?;
    let cluster = plane.cluster(User::Administrator).await?;
    let declared = scene.sources().await?;
    assert_eq!(declared.len(), scene::APPS.len());

    // The source alone freezes nothing: the owners apply again what they have.
    scene.flux.suspend(&kind::GIT_REPOSITORIES, flux::NAMESPACE, "flux-system", true).await?;
    let before = plane.audit().entries()?.len();
    delete_all_sources(&cluster).await?;
    let began = Instant::now();
    all_are_back(&scene, &declared).await?;
    println!(
        "with only the source suspended all were back after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let created = plane.audit().entries()?.split_off(before);
    let created = created.iter().filter(|entry| {
        entry.resource == "replicationsources"
            && entry.user == "kustomize-controller"
            && entry.is_mutation()
            && entry.code == 201
    });
    assert_eq!(created.count(), declared.len(), "kustomize-controller made each of them anew");

    let root = (flux::NAMESPACE, scene::ROOT);
    let owners: Vec<_> = [root]
        .into_iter()
        .chain(scene::NAMESPACES.map(|namespace| (namespace, scene::OWNER)))
        .collect();
    for (namespace, name) in &owners {
        scene.flux.suspend(&kind::KUSTOMIZATIONS, namespace, name, true).await?;
    }
    for (namespace, name) in &owners {
        scene.flux.drained(namespace, name).await?;
    }
    delete_all_sources(&cluster).await?;
    scene.stay_away(&scene::APPS, scene::INTERVAL + Duration::from_secs(5)).await?;

    for (namespace, name) in &owners {
        scene.flux.suspend(&kind::KUSTOMIZATIONS, namespace, name, false).await?;
    }
    let began = Instant::now();
    all_are_back(&scene, &declared).await?;
    println!("with the owners resumed all were back after {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn the_incident_lasts_until_every_pod_of_the_csi_controller_was_replaced() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let cluster = plane.cluster(User::Administrator).await?;
    let scene = Scene::healthy(&plane, Manner::default()).await?;
    let (namespace, deployment) = CSI;
    plane
        .kubectl(&[
            "rollout",
            "status",
            "deployment",
            deployment,
            "--namespace",
            namespace,
            "--timeout=60s",
        ])
        .await?;
    assert_eq!(lock_lines(&cluster).await?, [0, 0], "the healthy cluster has no lock line");

    scene.strike().await?;
    let jammed = csi_pods(&cluster).await?;
    let lines = lock_lines(&cluster).await?;
    assert!(lines.iter().sum::<usize>() > 0, "no pod has a lock line");
    for (namespace, name) in scene::STUCK {
        let pvc = cluster.get(&kind::CLAIMS, namespace, name).await?;
        assert_eq!(pvc["status"]["phase"], "Pending", "{namespace}/{name}");
    }
    for (namespace, name) in scene::ORPHANS {
        assert!(cluster.find(&kind::REPLICATION_SOURCES, namespace, name).await?.is_some());
        assert!(cluster.find(&kind::CLAIMS, namespace, name).await?.is_none());
    }

    let (wedged_in, wedged) = scene::WEDGED[0];
    scene.delete_claim(wedged_in, wedged).await?;
    let doomed = cluster.get(&kind::CLAIMS, wedged_in, wedged).await?["metadata"]["uid"].clone();

    // One pod of two: the other holds its locks on.
    let first = jammed[0]["metadata"]["name"].as_str().unwrap_or_default();
    plane.kubectl(&["delete", "pod", first, "--namespace", namespace]).await?;
    plane
        .kubectl(&[
            "rollout",
            "status",
            "deployment",
            deployment,
            "--namespace",
            namespace,
            "--timeout=60s",
        ])
        .await?;
    let holder = &jammed[1]["metadata"]["uid"];
    let before = lock_lines_of(&cluster, holder).await?;
    eventually("the other pod goes on rejecting", TIMEOUT, async || {
        ensure!(lock_lines_of(&cluster, holder).await? > before, "{before} lines still");
        Ok(())
    })
    .await?;
    assert!(scene.csi.is_jammed());
    let pvc = cluster.get(&kind::CLAIMS, wedged_in, wedged).await?;
    assert_eq!(pvc["metadata"]["uid"], doomed, "a claim with a wedged snapshot cannot go");

    plane
        .kubectl(&["rollout", "restart", "deployment", deployment, "--namespace", namespace])
        .await?;
    plane
        .kubectl(&[
            "rollout",
            "status",
            "deployment",
            deployment,
            "--namespace",
            namespace,
            "--timeout=60s",
        ])
        .await?;
    let fresh = csi_pods(&cluster).await?;
    assert!(
        fresh
            .iter()
            .all(|pod| jammed.iter().all(|old| old["metadata"]["uid"] != pod["metadata"]["uid"]))
    );
    let began = Instant::now();
    scene.until_bound(&scene::STUCK).await?;
    scene.until_idle(&scene::WEDGED).await?;
    println!(
        "claims and backups were done {:.1} s after the rollout",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(lock_lines(&cluster).await?, [0, 0], "the fresh pods hold no lock");
    assert!(!scene.csi.is_jammed());
    eventually("the deletion is completed, and Flux makes the claim anew", TIMEOUT, async || {
        let pvc = cluster.get(&kind::CLAIMS, wedged_in, wedged).await?;
        ensure!(pvc["metadata"]["uid"] != doomed, "the old claim is still there");
        Ok(())
    })
    .await?;
    let lease = cluster.get(&kind::LEASES, namespace, "rook-ceph-rbd-csi-ceph-com").await?;
    let holder = &lease["spec"]["holderIdentity"];
    assert!(
        fresh.iter().any(|pod| pod["metadata"]["name"] == *holder),
        "{holder} is none of the fresh pods"
    );
    eventually("the pods of the stuck apps run", TIMEOUT, async || {
        for (namespace, name) in scene::STUCK {
            let pods = cluster.list(&kind::PODS, namespace).await?;
            let runs = pods.iter().any(|pod| {
                pod["metadata"]["labels"]["app"] == name && pod["status"]["phase"] == "Running"
            });
            ensure!(runs, "no pod of {namespace}/{name} runs");
        }
        Ok(())
    })
    .await
}

async fn delete_all_sources(cluster: &Cluster) -> Result<()> {
    for (namespace, name) in scene::APPS {
        cluster.delete(&kind::REPLICATION_SOURCES, namespace, name).await?;
    }
    Ok(())
}

async fn all_are_back(scene: &Scene, declared: &[(String, String)]) -> Result<()> {
    eventually("the deleted sources are back", TIMEOUT, async || {
        let there = scene.sources().await?;
        ensure!(there == declared, "{} of {} are back", there.len(), declared.len());
        Ok(())
    })
    .await
}

async fn csi_pods(cluster: &Cluster) -> Result<Vec<Value>> {
    let mut pods = cluster.list(&kind::PODS, CSI.0).await?;
    pods.retain(|pod| pod["metadata"]["labels"]["app"] == CSI.1);
    Ok(pods)
}

/// How many lock lines the log of each of the two pods holds, as the API server serves it.
async fn lock_lines(cluster: &Cluster) -> Result<[usize; 2]> {
    let pods = csi_pods(cluster).await?;
    let mut counts = [0, 0];
    ensure!(pods.len() == counts.len(), "{} pods", pods.len());
    for (count, pod) in counts.iter_mut().zip(&pods) {
        *count = lock_lines_of(cluster, &pod["metadata"]["uid"]).await?;
    }
    Ok(counts)
}

async fn lock_lines_of(cluster: &Cluster, uid: &Value) -> Result<usize> {
    let pods = csi_pods(cluster).await?;
    let pod = pods.iter().find(|pod| pod["metadata"]["uid"] == *uid);
    let name = pod.and_then(|pod| pod["metadata"]["name"].as_str()).context("the pod is gone")?;
    // A pod that has just begun has no log for a moment.
    let log = eventually("the log is served", TIMEOUT, async || {
        cluster.log(CSI.0, name, "csi-rbdplugin").await
    })
    .await?;
    Ok(log.lines().filter(|line| line.contains("an operation with the given")).count())
}
