//! Smoke tests of the control plane harness: the real programs work, and the imitated controllers
//! behave like the real ones.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use salve_tests::control_plane::actors::CephCsiOptions;
use salve_tests::control_plane::fixture::{self, Fixture};
use salve_tests::control_plane::{Cluster, ControlPlane, User, eventually, flux, kinds};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);

const CSI: (&str, &str) = ("rook-ceph", "csi-rbdplugin-provisioner");

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn a_service_account_has_the_permissions_of_its_role_and_the_audit_log_lists_its_requests()
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
    reader.get(&kinds::SERVICE_ACCOUNTS, "default", "default").await?;
    let denied = reader.delete(&kinds::SERVICE_ACCOUNTS, "default", "default").await;
    ensure!(
        denied.is_err_and(|error| format!("{error:#}").contains("forbidden")),
        "the role grants no delete"
    );
    plane
        .kubectl_as(&kubeconfig, &["get", "serviceaccount", "default", "--namespace=default"], "")
        .await?;

    let user = "system:serviceaccount:salve:reader";
    let changes = plane.audit().mutations_by(user)?;
    let requested: Vec<_> = changes
        .iter()
        .map(|entry| (entry.verb.as_str(), entry.name.as_str(), entry.code))
        .collect();
    assert_eq!(requested, [("delete", "default", 403)]);
    assert!(!changes[0].is_success());
    let entries = plane.audit().entries()?;
    assert!(
        entries.iter().any(|entry| entry.user == user && entry.user_agent.starts_with("kubectl"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn flux_recreates_deleted_sources_unless_their_owner_is_suspended() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let mut fixture = Fixture::healthy(&plane, CephCsiOptions::default()).await?;
    let cluster = plane.cluster(User::Administrator).await?;
    let declared = fixture.sources().await?;
    assert_eq!(declared.len(), fixture::APPS.len());

    // Suspending only the GitRepository has no effect: the owners apply the revision that they
    // have.
    fixture
        .flux
        .set_suspend(&kinds::GIT_REPOSITORIES, flux::NAMESPACE, "flux-system", true)
        .await?;
    let before = plane.audit().entries()?.len();
    delete_all_sources(&cluster).await?;
    let began = Instant::now();
    wait_until_recreated(&fixture, &declared).await?;
    println!(
        "with only the GitRepository suspended, all were recreated after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let created = plane.audit().entries()?.split_off(before);
    let created = created.iter().filter(|entry| {
        entry.resource == "replicationsources"
            && entry.user == "kustomize-controller"
            && entry.is_mutation()
            && entry.code == 201
    });
    assert_eq!(created.count(), declared.len(), "kustomize-controller recreated each of them");

    let root = (flux::NAMESPACE, fixture::ROOT);
    let owners: Vec<_> = [root]
        .into_iter()
        .chain(fixture::NAMESPACES.map(|namespace| (namespace, fixture::OWNER)))
        .collect();
    for (namespace, name) in &owners {
        fixture.flux.set_suspend(&kinds::KUSTOMIZATIONS, namespace, name, true).await?;
    }
    for (namespace, name) in &owners {
        fixture.flux.wait_until_idle(namespace, name).await?;
    }
    delete_all_sources(&cluster).await?;
    fixture.ensure_stay_deleted(&fixture::APPS, fixture::INTERVAL + Duration::from_secs(5)).await?;

    for (namespace, name) in &owners {
        fixture.flux.set_suspend(&kinds::KUSTOMIZATIONS, namespace, name, false).await?;
    }
    let began = Instant::now();
    wait_until_recreated(&fixture, &declared).await?;
    println!(
        "with the owners resumed, all were recreated after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn the_incident_lasts_until_every_pod_of_the_csi_controller_is_replaced() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let cluster = plane.cluster(User::Administrator).await?;
    let fixture = Fixture::healthy(&plane, CephCsiOptions::default()).await?;
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
    assert_eq!(
        lock_lines(&cluster).await?,
        [0, 0],
        "the logs of a healthy cluster have no lock lines"
    );

    fixture.start_incident().await?;
    let locked = csi_pods(&cluster).await?;
    let lines = lock_lines(&cluster).await?;
    assert!(lines.iter().sum::<usize>() > 0, "no pod has a lock line");
    for (namespace, name) in fixture::PENDING_APPS {
        let pvc = cluster.get(&kinds::PVCS, namespace, name).await?;
        assert_eq!(pvc["status"]["phase"], "Pending", "{namespace}/{name}");
    }
    for (namespace, name) in fixture::ORPHANS {
        assert!(cluster.find(&kinds::REPLICATION_SOURCES, namespace, name).await?.is_some());
        assert!(cluster.find(&kinds::PVCS, namespace, name).await?.is_none());
    }

    let (stuck_namespace, stuck) = fixture::STUCK_BACKUPS[0];
    fixture.delete_pvc(stuck_namespace, stuck).await?;
    let deleted_uid =
        cluster.get(&kinds::PVCS, stuck_namespace, stuck).await?["metadata"]["uid"].clone();

    // Replaces one of two pods: the other keeps its locks.
    let first = locked[0]["metadata"]["name"].as_str().unwrap_or_default();
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
    let holder = &locked[1]["metadata"]["uid"];
    let before = lock_lines_of(&cluster, holder).await?;
    eventually("the other pod still rejects calls", TIMEOUT, async || {
        ensure!(lock_lines_of(&cluster, holder).await? > before, "still {before} lines");
        Ok(())
    })
    .await?;
    assert!(fixture.csi.is_locked().await);
    let pvc = cluster.get(&kinds::PVCS, stuck_namespace, stuck).await?;
    assert_eq!(
        pvc["metadata"]["uid"], deleted_uid,
        "a PVC with a stuck snapshot must not be deleted"
    );

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
    let new_pods = csi_pods(&cluster).await?;
    assert!(
        new_pods
            .iter()
            .all(|pod| locked.iter().all(|old| old["metadata"]["uid"] != pod["metadata"]["uid"]))
    );
    let began = Instant::now();
    fixture.wait_until_bound(&fixture::PENDING_APPS).await?;
    fixture.wait_until_idle(&fixture::STUCK_BACKUPS).await?;
    println!("PVCs and backups were done {:.1} s after the rollout", began.elapsed().as_secs_f64());
    assert_eq!(lock_lines(&cluster).await?, [0, 0], "the new pods have no lock");
    assert!(!fixture.csi.is_locked().await);
    eventually("the deletion completes, and Flux recreates the PVC", TIMEOUT, async || {
        let pvc = cluster.get(&kinds::PVCS, stuck_namespace, stuck).await?;
        ensure!(pvc["metadata"]["uid"] != deleted_uid, "the old PVC still exists");
        Ok(())
    })
    .await?;
    let lease = cluster.get(&kinds::LEASES, namespace, "rook-ceph-rbd-csi-ceph-com").await?;
    let holder = &lease["spec"]["holderIdentity"];
    assert!(
        new_pods.iter().any(|pod| pod["metadata"]["name"] == *holder),
        "{holder} is not one of the new pods"
    );
    eventually("the pods of the pending apps are running", TIMEOUT, async || {
        for (namespace, name) in fixture::PENDING_APPS {
            let pods = cluster.list(&kinds::PODS, namespace).await?;
            let is_running = pods.iter().any(|pod| {
                pod["metadata"]["labels"]["app"] == name && pod["status"]["phase"] == "Running"
            });
            ensure!(is_running, "no pod of {namespace}/{name} is running");
        }
        Ok(())
    })
    .await
}

async fn delete_all_sources(cluster: &Cluster) -> Result<()> {
    for (namespace, name) in fixture::APPS {
        cluster.delete(&kinds::REPLICATION_SOURCES, namespace, name).await?;
    }
    Ok(())
}

async fn wait_until_recreated(fixture: &Fixture, declared: &[(String, String)]) -> Result<()> {
    eventually("the deleted sources are recreated", TIMEOUT, async || {
        let existing = fixture.sources().await?;
        ensure!(existing == declared, "{} of {} exist", existing.len(), declared.len());
        Ok(())
    })
    .await
}

async fn csi_pods(cluster: &Cluster) -> Result<Vec<Value>> {
    let mut pods = cluster.list(&kinds::PODS, CSI.0).await?;
    pods.retain(|pod| pod["metadata"]["labels"]["app"] == CSI.1);
    Ok(pods)
}

/// Returns the number of lock lines in the log of each of the two pods.
async fn lock_lines(cluster: &Cluster) -> Result<[usize; 2]> {
    let pods = csi_pods(cluster).await?;
    let mut counts = [0, 0];
    ensure!(pods.len() == counts.len(), "expected two pods, found {}", pods.len());
    for (count, pod) in counts.iter_mut().zip(&pods) {
        *count = lock_lines_of(cluster, &pod["metadata"]["uid"]).await?;
    }
    Ok(counts)
}

async fn lock_lines_of(cluster: &Cluster, uid: &Value) -> Result<usize> {
    let pods = csi_pods(cluster).await?;
    let pod = pods.iter().find(|pod| pod["metadata"]["uid"] == *uid);
    let name =
        pod.and_then(|pod| pod["metadata"]["name"].as_str()).context("the pod was deleted")?;
    // A pod that has just started has no log for a moment.
    let log = eventually("the log is served", TIMEOUT, async || {
        cluster.log(CSI.0, name, "csi-rbdplugin").await
    })
    .await?;
    Ok(log.lines().filter(|line| line.contains("an operation with the given")).count())
}
