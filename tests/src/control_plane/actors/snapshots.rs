//! Imitations of the snapshot controller, which creates contents and protects the sources of
//! snapshots, and of the csi-snapshotter sidecar, which takes and releases snapshots.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::cluster::{Cluster, status_code, str_at};
use super::super::kinds;
use super::ceph_csi::{DRIVER, volume_handle};

const SNAPSHOT_FINALIZERS: [&str; 2] = [
    "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection",
    "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection",
];
const CONTENT_FINALIZER: &str =
    "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
const SOURCE_FINALIZER: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
const BEING_CREATED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-created";

/// Adds finalizers and a content to every new snapshot, and protects the sources of those that are
/// not ready. Reports an error on those if the driver is locked. Returns the snapshots that are not
/// ready.
pub async fn bind(cluster: &Cluster, locked: bool) -> Result<Vec<Value>> {
    let mut waiting = Vec::new();
    for snapshot in cluster.list(&kinds::SNAPSHOTS, "").await? {
        if snapshot["status"]["readyToUse"] == true {
            continue;
        }
        let (namespace, name) = namespaced_name(&snapshot);
        if snapshot["metadata"]["deletionTimestamp"].is_null() && snapshot["status"].is_null() {
            let finalizers = json!({"metadata": {"finalizers": SNAPSHOT_FINALIZERS}});
            ignore_conflict(cluster.merge(&kinds::SNAPSHOTS, namespace, name, &finalizers).await)?;
            create_content(cluster, &snapshot).await?;
            let content = content_name(&snapshot);
            let status = json!({"boundVolumeSnapshotContentName": content, "readyToUse": false});
            ignore_conflict(
                cluster.merge_status(&kinds::SNAPSHOTS, namespace, name, &status).await,
            )?;
        } else if locked && snapshot["status"]["error"].is_null() {
            let uid = str_at(&snapshot, "/metadata/uid");
            let message = format!(
                "Failed to check and update snapshot content: failed to take snapshot of the \
                 volume: \"rpc error: code = Aborted desc = an operation with the given Volume ID \
                 snapshot-{uid} already exists\""
            );
            let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let status = json!({"error": {"time": time, "message": message}});
            ignore_conflict(
                cluster.merge_status(&kinds::SNAPSHOTS, namespace, name, &status).await,
            )?;
        }
        waiting.push(snapshot);
    }
    protect_sources(cluster, &waiting).await?;
    Ok(waiting)
}

/// Makes snapshots of bound PVCs ready. If `release` is set, removes the finalizers of those that
/// are being deleted.
pub async fn take(cluster: &Cluster, release: bool) -> Result<()> {
    for snapshot in cluster.list(&kinds::SNAPSHOTS, "").await? {
        let (namespace, name) = namespaced_name(&snapshot);
        let content = content_name(&snapshot);
        if !snapshot["metadata"]["deletionTimestamp"].is_null() {
            if release {
                let no_finalizers = json!({"metadata": {"finalizers": null}});
                ignore_conflict(
                    cluster.merge(&kinds::SNAPSHOT_CONTENTS, "", &content, &no_finalizers).await,
                )?;
                cluster.delete(&kinds::SNAPSHOT_CONTENTS, "", &content).await?;
                ignore_conflict(
                    cluster.merge(&kinds::SNAPSHOTS, namespace, name, &no_finalizers).await,
                )?;
            }
        } else if snapshot["status"]["readyToUse"] == false {
            let source = str_at(&snapshot, "/spec/source/persistentVolumeClaimName");
            let pvc = cluster.find(&kinds::PVCS, namespace, source).await?;
            if pvc.is_some_and(|pvc| pvc["status"]["phase"] == "Bound") {
                let created = json!({"metadata": {"annotations": {BEING_CREATED: null}}});
                ignore_conflict(
                    cluster.merge(&kinds::SNAPSHOT_CONTENTS, "", &content, &created).await,
                )?;
                let ready = json!({"readyToUse": true, "error": null});
                ignore_conflict(
                    cluster.merge_status(&kinds::SNAPSHOT_CONTENTS, "", &content, &ready).await,
                )?;
                ignore_conflict(
                    cluster.merge_status(&kinds::SNAPSHOTS, namespace, name, &ready).await,
                )?;
            }
        }
    }
    Ok(())
}

/// Keeps the finalizer on the sources of snapshots that are not ready, and removes it from others.
async fn protect_sources(cluster: &Cluster, waiting: &[Value]) -> Result<()> {
    for pvc in cluster.list(&kinds::PVCS, "").await? {
        let (namespace, name) = namespaced_name(&pvc);
        let wanted = waiting.iter().any(|snapshot| {
            snapshot["metadata"]["namespace"] == pvc["metadata"]["namespace"]
                && snapshot["spec"]["source"]["persistentVolumeClaimName"]
                    == pvc["metadata"]["name"]
        });
        let present = pvc["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        // The API server accepts no new finalizer on an object that is being deleted.
        if present.contains(&json!(SOURCE_FINALIZER)) == wanted
            || (wanted && !pvc["metadata"]["deletionTimestamp"].is_null())
        {
            continue;
        }
        let mut finalizers: Vec<Value> =
            present.into_iter().filter(|name| name != SOURCE_FINALIZER).collect();
        if wanted {
            finalizers.push(json!(SOURCE_FINALIZER));
        }
        // Another controller may edit the finalizers too; a conflict is retried later.
        let version = &pvc["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
        ignore_conflict(cluster.merge(&kinds::PVCS, namespace, name, &patch).await)?;
    }
    Ok(())
}

async fn create_content(cluster: &Cluster, snapshot: &Value) -> Result<()> {
    let (namespace, name) = namespaced_name(snapshot);
    let source = str_at(snapshot, "/spec/source/persistentVolumeClaimName");
    let pvc = cluster.find(&kinds::PVCS, namespace, source).await?.unwrap_or_default();
    let content = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {
            "name": content_name(snapshot),
            "annotations": {BEING_CREATED: "yes"},
            "finalizers": [CONTENT_FINALIZER],
        },
        "spec": {
            "deletionPolicy": "Delete",
            "driver": DRIVER,
            "source": {"volumeHandle": volume_handle(str_at(&pvc, "/metadata/uid"))},
            "volumeSnapshotClassName": snapshot["spec"]["volumeSnapshotClassName"],
            "volumeSnapshotRef": {
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                "name": name, "namespace": namespace, "uid": snapshot["metadata"]["uid"],
            },
        },
    });
    match cluster.create(&content).await {
        Err(error) if status_code(&error) != Some(409) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn content_name(snapshot: &Value) -> String {
    format!("snapcontent-{}", str_at(snapshot, "/metadata/uid"))
}

fn namespaced_name(object: &Value) -> (&str, &str) {
    (str_at(object, "/metadata/namespace"), str_at(object, "/metadata/name"))
}

/// Ignores that an object was deleted or changed in the meantime: the next reconciliation sees it.
pub(super) fn ignore_conflict(outcome: Result<Value>) -> Result<()> {
    match outcome {
        Err(error) if !matches!(status_code(&error), Some(404 | 409)) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
