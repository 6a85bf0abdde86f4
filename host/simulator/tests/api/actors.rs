//! The behavior of the simulated controllers in virtual time.

use serde_json::json;

use crate::caller::{Caller, KUSTOMIZATIONS, MERGE, VOLSYNC};
use salve_simulator::Incident;

#[tokio::test]
async fn while_the_driver_is_locked_nothing_is_provisioned_and_calls_are_rejected() {
    let caller = Caller::new(Incident::Playbook);
    let (pending, locks) = (caller.pending(), caller.cluster.locks());
    assert!(locks.iter().filter(|key| key.starts_with("pvc-")).count() >= 10, "{locks:?}");
    caller.advance(15 * 60);
    assert_eq!(caller.pending(), pending);
    let pods = caller.cluster.objects("", "pods", Some("rook-ceph"));
    let leader = pods
        .iter()
        .find_map(|pod| pod["metadata"]["name"].as_str().filter(|name| name.ends_with("kx2lq")));
    let path = format!(
        "/api/v1/namespaces/rook-ceph/pods/{}/log\
         ?container=csi-rbdplugin&sinceSeconds=120&timestamps=true",
        leader.expect("provisioner pod")
    );
    let (_, log) = caller.get(&path).await;
    let log = log.as_str().expect("log");
    for key in locks.iter().filter(|key| key.starts_with("pvc-")) {
        let lines = log
            .lines()
            .filter(|line| line.contains(key.as_str()) && line.contains("already exists"))
            .count();
        assert!(lines >= 2, "{key} is rejected in at least two lines: {log}");
    }
}

#[tokio::test]
async fn deleting_the_cause_and_restarting_binds_every_pvc_except_the_one_without_consumer() {
    let caller = Caller::new(Incident::Playbook);
    let kustomization =
        format!("{KUSTOMIZATIONS}/namespaces/home-automation/kustomizations/zigbee2mqtt");
    assert_eq!(
        caller.patch(&kustomization, MERGE, &json!({"spec": {"suspend": true}})).await.0,
        200
    );
    let source = format!("{VOLSYNC}/namespaces/home-automation/replicationsources/zigbee2mqtt");
    assert_eq!(caller.delete(&source, "").await.0, 200);
    caller.advance(20);
    let snapshot = caller.cluster.object(
        "snapshot.storage.k8s.io",
        "VolumeSnapshot",
        "home-automation",
        "volsync-zigbee2mqtt-src",
    );
    assert!(
        snapshot.is_some_and(|snapshot| snapshot["metadata"]["deletionTimestamp"].is_string()),
        "the snapshot is stuck in deletion"
    );

    let before = caller.controller_pods();
    caller.restart_controller().await;
    caller.advance(25);
    let after = caller.controller_pods();
    assert!(after.len() == 2 && after.iter().all(|uid| !before.contains(uid)));
    assert_eq!(caller.cluster.locks(), [""; 0]);
    assert_eq!(
        caller.phase("media", "jellyfin"),
        "Pending",
        "the Lease of the previous leader has not expired"
    );
    caller.advance(170);
    assert_eq!(caller.phase("media", "jellyfin"), "Bound");
    caller.advance(10 * 60);
    assert_eq!(caller.pending(), ["security/authelia"]);
    assert_eq!(caller.cluster.locks(), [""; 0]);
    assert_eq!(caller.phase("home-automation", "zigbee2mqtt"), "gone");
    let volumes = caller.cluster.objects("", "persistentvolumes", None);
    let volume = volumes.iter().find(|volume| volume["spec"]["claimRef"]["name"] == "zigbee2mqtt");
    assert!(
        volume.is_some_and(|volume| volume["status"]["phase"] == "Released"),
        "the volume is retained"
    );
    let waiting = caller
        .cluster
        .objects("", "pods", None)
        .into_iter()
        .filter(|pod| pod["status"]["phase"] != "Running");
    assert_eq!(waiting.count(), 0);
    let plex = caller.source("media", "plex").expect("plex still exists");
    assert_eq!(plex["status"]["conditions"][0]["reason"], "WaitingForSchedule");

    let resume = json!({
        "metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}},
        "spec": {"suspend": null},
    });
    assert_eq!(caller.patch(&kustomization, MERGE, &resume).await.0, 200);
    caller.advance(5 * 60);
    assert_eq!(caller.phase("home-automation", "zigbee2mqtt"), "Bound", "restored from its backup");
    let synced = caller.source("home-automation", "zigbee2mqtt").expect("recreated");
    assert_eq!(synced["status"]["conditions"][0]["reason"], "WaitingForSchedule");
    assert_eq!(
        (caller.pending(), caller.cluster.locks()),
        (vec!["security/authelia".to_owned()], Vec::new())
    );
}

#[tokio::test]
async fn a_restart_that_leaves_the_cause_in_place_brings_the_locks_back() {
    let caller = Caller::new(Incident::Playbook);
    caller.restart_controller().await;
    caller.advance(60);
    assert_eq!(caller.cluster.locks(), [""; 0]);
    caller.advance(10 * 60);
    assert!(caller.cluster.locks().len() >= 5, "{:?}", caller.cluster.locks());
    assert!(caller.pending().len() >= 5);
}

#[tokio::test]
async fn a_cause_that_flux_recreates_before_the_restart_brings_the_locks_back() {
    let caller = Caller::new(Incident::Playbook);
    caller
        .delete(&format!("{VOLSYNC}/namespaces/home-automation/replicationsources/zigbee2mqtt"), "")
        .await;
    let owner = format!("{KUSTOMIZATIONS}/namespaces/home-automation/kustomizations/zigbee2mqtt");
    caller
        .patch(
            &owner,
            MERGE,
            &json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}}),
        )
        .await;
    caller.advance(10);
    caller.restart_controller().await;
    caller.advance(10 * 60);
    assert!(caller.cluster.locks().len() >= 5, "{:?}", caller.cluster.locks());
}

#[tokio::test]
async fn deleting_sources_without_a_restart_releases_nothing() {
    let caller = Caller::new(Incident::Playbook);
    let source = format!("{VOLSYNC}/namespaces/home-automation/replicationsources/zigbee2mqtt");
    caller.delete(&source, "").await;
    caller.advance(300);
    assert_eq!(caller.phase("home-automation", "zigbee2mqtt"), "Bound", "still terminating");
    assert_eq!(caller.phase("media", "jellyfin"), "Pending");
}

#[tokio::test]
async fn suspending_only_the_git_repository_does_not_prevent_recreation() {
    let caller = Caller::new(Incident::Playbook);
    let source =
        "/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/gitrepositories/flux-system";
    assert_eq!(caller.patch(source, MERGE, &json!({"spec": {"suspend": true}})).await.0, 200);
    let before = caller.source("media", "radarr").expect("radarr")["metadata"]["uid"].clone();
    caller.delete(&format!("{VOLSYNC}/namespaces/media/replicationsources/radarr"), "").await;
    assert_eq!(caller.source("media", "radarr"), None);
    caller.advance(11 * 60);
    let after = caller.source("media", "radarr").expect("recreated within the interval");
    assert_ne!(after["metadata"]["uid"], before);
    assert_eq!(
        after["status"]["conditions"][0]["reason"], "SyncInProgress",
        "a new source syncs immediately"
    );
    let snapshot = caller.cluster.object(
        "snapshot.storage.k8s.io",
        "VolumeSnapshot",
        "media",
        "volsync-radarr-src",
    );
    assert!(snapshot.is_some());
}

#[tokio::test]
async fn a_suspended_owner_recreates_nothing_until_it_is_resumed_and_reconciled() {
    let caller = Caller::new(Incident::Playbook);
    let owner =
        format!("{KUSTOMIZATIONS}/namespaces/media/kustomizations/radarr?fieldManager=salve");
    caller.patch(&owner, MERGE, &json!({"spec": {"suspend": true}})).await;
    caller.delete(&format!("{VOLSYNC}/namespaces/media/replicationsources/radarr"), "").await;
    let request =
        |at: &str| json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": at}}});
    caller.patch(&owner, MERGE, &request("first")).await;
    caller.advance(2 * 3_600);
    let (_, kustomization) = caller.get(&owner).await;
    assert_eq!(caller.source("media", "radarr"), None);
    assert_eq!(
        kustomization["spec"]["suspend"], true,
        "the parent keeps fields that it does not declare"
    );
    assert_eq!(
        kustomization["status"]["lastHandledReconcileAt"], "first",
        "handled without applying anything"
    );

    caller.patch(&owner, MERGE, &json!({"spec": {"suspend": null}})).await;
    caller.patch(&owner, MERGE, &request("second")).await;
    caller.advance(1);
    let (_, kustomization) = caller.get(&owner).await;
    assert_eq!(
        kustomization["status"]["conditions"].as_array().map(Vec::len),
        Some(2),
        "it is reconciling"
    );
    caller.advance(5);
    assert!(caller.source("media", "radarr").is_some());
    let (_, kustomization) = caller.get(&owner).await;
    assert_eq!(
        kustomization["status"]["observedGeneration"],
        kustomization["metadata"]["generation"]
    );
    assert_eq!(kustomization["status"]["lastHandledReconcileAt"], "second");
}

#[tokio::test]
async fn a_parent_reverts_a_suspension_by_kubectl() {
    let caller = Caller::new(Incident::Playbook);
    let child = format!("{KUSTOMIZATIONS}/namespaces/media/kustomizations/plex");
    caller
        .patch(
            &format!("{child}?fieldManager=kubectl-patch"),
            MERGE,
            &json!({"spec": {"suspend": true}}),
        )
        .await;
    caller.advance(3_700);
    assert_eq!(caller.get(&child).await.1["spec"].get("suspend"), None);
    let (_, lidarr) =
        caller.get(&format!("{KUSTOMIZATIONS}/namespaces/media/kustomizations/lidarr")).await;
    assert_eq!(lidarr["spec"]["suspend"], true, "a suspension by the flux CLI is kept");
}

#[tokio::test]
async fn a_helm_release_recreates_objects_only_if_forced() {
    let caller = Caller::new(Incident::Playbook);
    caller.delete(&format!("{VOLSYNC}/namespaces/selfhosted/replicationsources/n8n"), "").await;
    let release = "/apis/helm.toolkit.fluxcd.io/v2/namespaces/selfhosted/helmreleases/n8n";
    let annotate =
        |annotations: serde_json::Value| json!({"metadata": {"annotations": annotations}});
    caller.patch(release, MERGE, &annotate(json!({"reconcile.fluxcd.io/requestedAt": "a"}))).await;
    caller.advance(3_700);
    assert_eq!(caller.source("selfhosted", "n8n"), None);
    let forced =
        json!({"reconcile.fluxcd.io/requestedAt": "b", "reconcile.fluxcd.io/forceAt": "b"});
    caller.patch(release, MERGE, &annotate(forced)).await;
    caller.advance(2);
    assert!(caller.source("selfhosted", "n8n").is_some());
}

#[tokio::test]
async fn a_source_without_its_pvc_reports_an_error_and_creates_no_snapshot() {
    let caller = Caller::new(Incident::Healthy);
    let source = json!({"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
    "metadata": {"name": "lost", "namespace": "media"},
    "spec": {
        "sourcePVC": "lost", "trigger": {"schedule": "0 * * * *"},
        "restic": {"copyMethod": "Snapshot"},
    }});
    assert_eq!(
        caller.post(&format!("{VOLSYNC}/namespaces/media/replicationsources"), &source).await.0,
        201
    );
    caller.advance(5);
    let lost = caller.source("media", "lost").expect("created");
    assert_eq!(
        lost["status"]["conditions"][0]["message"],
        "PersistentVolumeClaim \"lost\" not found"
    );
    assert_eq!(
        caller.cluster.object(
            "snapshot.storage.k8s.io",
            "VolumeSnapshot",
            "media",
            "volsync-lost-src"
        ),
        None
    );
}

#[tokio::test]
async fn on_a_healthy_cluster_a_new_backup_completes_and_cleans_up() {
    let caller = Caller::new(Incident::Healthy);
    caller.cluster.edit("volsync.backube", "ReplicationSource", "media", "plex", |source| {
        source["status"] = json!({});
    });
    caller.advance(90);
    let plex = caller.source("media", "plex").expect("plex");
    assert_eq!(plex["status"]["conditions"][0]["reason"], "WaitingForSchedule");
    assert_eq!(plex["status"]["latestMoverStatus"]["result"], "Successful");
    assert_eq!(
        plex["status"]["nextSyncTime"].as_str().map(|next| &next[..13]),
        Some("2026-08-21T03")
    );
    assert_eq!(caller.phase("media", "volsync-plex-src"), "gone");
    assert!(caller.cluster.objects("snapshot.storage.k8s.io", "volumesnapshots", None).is_empty());
}

#[tokio::test]
async fn an_idle_cluster_does_not_change() {
    for incident in [Incident::Healthy, Incident::MissingSnapshotter] {
        let caller = Caller::new(incident);
        let objects = || {
            let mut objects = caller.cluster.objects("volsync.backube", "replicationsources", None);
            for kind in ["persistentvolumeclaims", "persistentvolumes", "pods"] {
                objects.extend(caller.cluster.objects("", kind, None));
            }
            objects
        };
        let before = objects();
        caller.advance(2 * 3_600);
        for (before, after) in before.iter().zip(&objects()) {
            assert_eq!(before.to_string(), after.to_string(), "{incident}");
        }
        assert_eq!(objects().len(), before.len(), "{incident}");
        assert_eq!(caller.cluster.locks(), [""; 0]);
    }
}

#[tokio::test]
async fn the_incident_starts_with_its_evidence() {
    let caller = Caller::new(Incident::Playbook);
    assert_eq!(caller.cluster.clock().now().to_string(), "2026-08-20T10:00:00Z");
    assert_eq!(caller.cluster.exchanges(), []);
    let events = caller.cluster.objects("", "events", None);
    let event_of = |name: &str| {
        events.iter().find(|event| {
            event["involvedObject"]["name"].as_str().is_some_and(|object| object.starts_with(name))
        })
    };
    let message = |name: &str| {
        event_of(name)
            .map(|event| event["message"].as_str().unwrap_or("").to_owned())
            .unwrap_or_default()
    };
    assert!(
        message("jellyfin")
            .contains("code = Aborted desc = an operation with the given Volume ID pvc-")
    );
    assert!(message("authelia").contains("waiting for first consumer"));
    let paperless = event_of("paperless").expect("VolSync reports what it waits for");
    assert_eq!(
        (&paperless["firstTimestamp"], paperless["eventTime"].is_string()),
        (&json!(null), true)
    );
    assert!(
        events.iter().any(|event| event["message"]
            .as_str()
            .is_some_and(|text| text.ends_with("is not Ready")))
    );
    let snapshot = caller.cluster.object(
        "snapshot.storage.k8s.io",
        "VolumeSnapshot",
        "home-automation",
        "volsync-zigbee2mqtt-src",
    );
    assert!(snapshot.is_some_and(|snapshot| {
        snapshot["status"]["error"]["message"].to_string().contains("given Volume ID snapshot-")
    }));
    let volume = caller
        .cluster
        .object("", "PersistentVolumeClaim", "home-automation", "zigbee2mqtt")
        .expect("PVC");
    let volume = caller.cluster.object(
        "",
        "PersistentVolume",
        "",
        volume["spec"]["volumeName"].as_str().unwrap_or(""),
    );
    assert_eq!(volume.expect("volume")["spec"]["persistentVolumeReclaimPolicy"], "Retain");
}

#[tokio::test]
async fn incidents_with_similar_symptoms_have_no_locks_and_a_restart_fixes_nothing() {
    for incident in [Incident::MissingSnapshotter, Incident::CephError] {
        let caller = Caller::new(incident);
        let pending = caller.pending();
        assert!(
            pending.iter().any(|pvc| pvc.starts_with("ai/vs-prime-")),
            "{incident}: {pending:?}"
        );
        caller.restart_controller().await;
        caller.advance(20 * 60);
        assert_eq!((caller.cluster.locks(), caller.pending()), (Vec::new(), pending), "{incident}");
        let pods = caller.cluster.objects("", "pods", Some("rook-ceph"));
        for pod in pods
            .iter()
            .filter_map(|pod| pod["metadata"]["name"].as_str())
            .filter(|name| name.contains("provisioner"))
        {
            let path =
                format!("/api/v1/namespaces/rook-ceph/pods/{pod}/log?container=csi-rbdplugin");
            assert!(
                !caller.get(&path).await.1.to_string().contains("already exists"),
                "{incident}"
            );
        }
    }
}

#[tokio::test]
async fn an_operator_reverts_the_annotation_and_deleted_pods_are_replaced() {
    let caller = Caller::new(Incident::OperatorManaged);
    let before = caller.controller_pods();
    let path =
        "/apis/apps/v1/namespaces/rook-ceph/deployments/rook-ceph.rbd.csi.ceph.com-ctrlplugin";
    let restart = json!({"spec": {"template": {"metadata": {"annotations":
        {"kubectl.kubernetes.io/restartedAt": "now"}}}}});
    assert_eq!(caller.patch(path, crate::caller::STRATEGIC, &restart).await.0, 200);
    caller.advance(60);
    assert_eq!(caller.controller_pods(), before);
    assert_eq!(caller.get(path).await.1["spec"]["template"]["metadata"].get("annotations"), None);
    for pod in caller.cluster.objects("", "pods", Some("rook-ceph")) {
        let name = pod["metadata"]["name"].as_str().expect("name");
        if name.contains("ctrlplugin") {
            assert_eq!(
                caller.delete(&format!("/api/v1/namespaces/rook-ceph/pods/{name}"), "").await.0,
                200
            );
            caller.advance(20);
        }
    }
    let after = caller.controller_pods();
    assert!(after.len() == 2 && after.iter().all(|uid| !before.contains(uid)));
    assert_eq!(caller.cluster.locks(), [""; 0]);
}

#[tokio::test]
async fn a_volume_with_reclaim_policy_delete_is_deleted_with_its_pvc() {
    let caller = Caller::new(Incident::TerminatingDelete);
    let owner = format!("{KUSTOMIZATIONS}/namespaces/home-automation/kustomizations/zigbee2mqtt");
    caller.patch(&owner, MERGE, &json!({"spec": {"suspend": true}})).await;
    caller
        .delete(&format!("{VOLSYNC}/namespaces/home-automation/replicationsources/zigbee2mqtt"), "")
        .await;
    caller.restart_controller().await;
    caller.advance(10 * 60);
    let volumes = caller.cluster.objects("", "persistentvolumes", None);
    assert!(!volumes.iter().any(|volume| volume["spec"]["claimRef"]["name"] == "zigbee2mqtt"));
}

#[tokio::test]
async fn the_importer_is_stuck_until_its_pod_is_replaced() {
    let caller = Caller::new(Incident::StuckImporter);
    assert!(caller.pending().is_empty() && caller.cluster.locks().is_empty(), "storage is healthy");
    let log = async || {
        let pods = caller.cluster.objects("", "pods", Some("media"));
        let pod = pods
            .iter()
            .find(|pod| pod["metadata"]["labels"]["app"] == "importer")
            .expect("importer pod");
        let path = format!(
            "/api/v1/namespaces/media/pods/{}/log?sinceSeconds=60",
            pod["metadata"]["name"].as_str().expect("name")
        );
        caller.get(&path).await.1.as_str().unwrap_or_default().to_owned()
    };
    caller.advance(600);
    assert!(
        log().await.lines().count() >= 3
            && log().await.lines().all(|line| line.starts_with("stuck: queue full"))
    );
    let restart = json!({"spec": {"template": {"metadata": {"annotations":
        {"kubectl.kubernetes.io/restartedAt": "2026-08-20T10:00:00Z"}}}}});
    caller
        .patch(
            "/apis/apps/v1/namespaces/media/deployments/importer",
            crate::caller::STRATEGIC,
            &restart,
        )
        .await;
    caller.advance(120);
    assert!(
        log().await.lines().count() >= 3
            && log().await.lines().all(|line| line.starts_with("imported"))
    );
}

#[tokio::test]
async fn the_pods_of_an_unreachable_node_are_evicted_but_stay() {
    let caller = Caller::new(Incident::Healthy);
    let pods = || caller.cluster.objects("", "pods", Some("rook-ceph"));
    let before = pods().len();
    let lost = pods()
        .iter()
        .find(|pod| pod["spec"]["nodeName"] == "node-1")
        .map(|pod| pod["metadata"]["name"].as_str().expect("name").to_owned())
        .expect("a pod of the controller is on node-1");
    let set_ready = |status: &str| {
        caller.cluster.edit("", "nodes", "", "node-1", |node| {
            node["status"]["conditions"][0]["status"] = status.into();
        })
    };
    let pod = || caller.cluster.object("", "pods", "rook-ceph", &lost);
    assert!(set_ready("Unknown"));
    caller.advance(60);
    let path = format!("/api/v1/namespaces/rook-ceph/pods/{lost}/log?container=csi-rbdplugin");
    assert_eq!(caller.get(&path).await.0, 500);
    let ready = |pod: &serde_json::Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    assert!(
        pod().is_some_and(|pod| !ready(&pod) && pod["metadata"]["deletionTimestamp"].is_null())
    );
    caller.advance(600);
    assert!(pod().is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_string()));
    assert_eq!(pods().iter().filter(|pod| ready(pod)).count(), before, "it is replaced");
    assert!(set_ready("True"));
    caller.advance(10);
    assert!(pod().is_none());
}

#[tokio::test]
async fn a_finished_pod_is_replaced_and_has_no_log() {
    let caller = Caller::new(Incident::Healthy);
    let pods = caller.cluster.objects("", "pods", Some("rook-ceph"));
    let name = pods.iter().find_map(|pod| {
        pod["metadata"]["name"].as_str().filter(|name| name.contains("provisioner"))
    });
    let name = name.expect("a controller pod").to_owned();
    caller.cluster.edit("", "pods", "rook-ceph", &name, |pod| {
        pod["status"] = json!({"phase": "Failed", "reason": "Evicted"});
    });
    caller.advance(30);
    assert_eq!(caller.controller_pods().len(), 3);
    let path = format!("/api/v1/namespaces/rook-ceph/pods/{name}/log?container=csi-rbdplugin");
    assert_eq!(caller.get(&path).await.0, 400);
}
