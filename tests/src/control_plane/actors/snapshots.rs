//! The snapshot controller, which gives snapshots a content and guards their sources, and the snapshotter beside the
//! driver, which takes and releases them.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::cluster::{Cluster, code, text};
use super::super::kinds;
use super::ceph_csi::DRIVER;

const ON_SNAPSHOT: [&str; 2] = [
    "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection",
    "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection",
];
const ON_CONTENT: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
const ON_SOURCE: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
const BEING_CREATED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-created";

/// Gives every new snapshot its finalizers and its content, guards the sources of those that are not ready, and gives
/// the ones that wait. Where the driver is jammed, they say so.
pub async fn bind(cluster: &Cluster, jammed: bool) -> Result<Vec<Value>> {
    let mut waiting = Vec::new();
    for snapshot in cluster.list(&kinds::SNAPSHOTS, "").await? {
        if snapshot["status"]["readyToUse"] == true {
            continue;
        }
        let (namespace, name) = place(&snapshot);
        if snapshot["metadata"]["deletionTimestamp"].is_null() && snapshot["status"].is_null() {
            let finalizers = json!({"metadata": {"finalizers": ON_SNAPSHOT}});
            gone_is_fine(cluster.merge(&kinds::SNAPSHOTS, namespace, name, &finalizers).await)?;
            create_content(cluster, &snapshot).await?;
            let status = json!({"boundVolumeSnapshotContentName": content_of(&snapshot), "readyToUse": false});
            gone_is_fine(cluster.merge_status(&kinds::SNAPSHOTS, namespace, name, &status).await)?;
        } else if jammed && snapshot["status"]["error"].is_null() {
            let uid = text(&snapshot, "/metadata/uid");
            let message = format!(
                "Failed to check and update snapshot content: failed to take snapshot of the volume: \"rpc error: \
                 code = Aborted desc = an operation with the given Volume ID snapshot-{uid} already exists\""
            );
            let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let status = json!({"error": {"time": time, "message": message}});
            gone_is_fine(cluster.merge_status(&kinds::SNAPSHOTS, namespace, name, &status).await)?;
        }
        waiting.push(snapshot);
    }
    guard_sources(cluster, &waiting).await?;
    Ok(waiting)
}

/// Makes snapshots of bound claims ready and, if asked to, lets go of those that are being deleted.
pub async fn take(cluster: &Cluster, release: bool) -> Result<()> {
    for snapshot in cluster.list(&kinds::SNAPSHOTS, "").await? {
        let (namespace, name) = place(&snapshot);
        let content = content_of(&snapshot);
        if !snapshot["metadata"]["deletionTimestamp"].is_null() {
            if release {
                let none = json!({"metadata": {"finalizers": null}});
                gone_is_fine(cluster.merge(&kinds::SNAPSHOT_CONTENTS, "", &content, &none).await)?;
                cluster.delete(&kinds::SNAPSHOT_CONTENTS, "", &content).await?;
                gone_is_fine(cluster.merge(&kinds::SNAPSHOTS, namespace, name, &none).await)?;
            }
        } else if snapshot["status"]["readyToUse"] == false {
            let source = text(&snapshot, "/spec/source/persistentVolumeClaimName");
            let pvc = cluster.find(&kinds::CLAIMS, namespace, source).await?;
            if pvc.is_some_and(|pvc| pvc["status"]["phase"] == "Bound") {
                let created = json!({"metadata": {"annotations": {BEING_CREATED: null}}});
                gone_is_fine(
                    cluster.merge(&kinds::SNAPSHOT_CONTENTS, "", &content, &created).await,
                )?;
                let ready = json!({"readyToUse": true, "error": null});
                gone_is_fine(
                    cluster.merge_status(&kinds::SNAPSHOT_CONTENTS, "", &content, &ready).await,
                )?;
                gone_is_fine(
                    cluster.merge_status(&kinds::SNAPSHOTS, namespace, name, &ready).await,
                )?;
            }
        }
    }
    Ok(())
}

/// The source of a snapshot that is not ready cannot go; other claims can.
async fn guard_sources(cluster: &Cluster, waiting: &[Value]) -> Result<()> {
    for pvc in cluster.list(&kinds::CLAIMS, "").await? {
        let (namespace, name) = place(&pvc);
        let wanted = waiting.iter().any(|snapshot| {
            snapshot["metadata"]["namespace"] == pvc["metadata"]["namespace"]
                && snapshot["spec"]["source"]["persistentVolumeClaimName"]
                    == pvc["metadata"]["name"]
        });
        let held = pvc["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        // A claim that is being deleted takes no new finalizer.
        if held.contains(&json!(ON_SOURCE)) == wanted
            || (wanted && !pvc["metadata"]["deletionTimestamp"].is_null())
        {
            continue;
        }
        let mut finalizers: Vec<Value> = held.into_iter().filter(|one| one != ON_SOURCE).collect();
        if wanted {
            finalizers.push(json!(ON_SOURCE));
        }
        // Somebody else may be at the finalizers too; on a conflict the next round looks again.
        let version = &pvc["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
        gone_is_fine(cluster.merge(&kinds::CLAIMS, namespace, name, &patch).await)?;
    }
    Ok(())
}

async fn create_content(cluster: &Cluster, snapshot: &Value) -> Result<()> {
    let (namespace, name) = place(snapshot);
    let source = text(snapshot, "/spec/source/persistentVolumeClaimName");
    let pvc = cluster.find(&kinds::CLAIMS, namespace, source).await?.unwrap_or_default();
    let content = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {
            "name": content_of(snapshot),
            "annotations": {BEING_CREATED: "yes"},
            "finalizers": [ON_CONTENT],
        },
        "spec": {
            "deletionPolicy": "Delete",
            "driver": DRIVER,
            "source": {"volumeHandle": format!("0001-0009-rook-ceph-0000000000000002-{}", text(&pvc, "/metadata/uid"))},
            "volumeSnapshotClassName": snapshot["spec"]["volumeSnapshotClassName"],
            "volumeSnapshotRef": {
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                "name": name, "namespace": namespace, "uid": snapshot["metadata"]["uid"],
            },
        },
    });
    match cluster.create(&content).await {
        Err(error) if code(&error) != Some(409) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn content_of(snapshot: &Value) -> String {
    format!("snapcontent-{}", text(snapshot, "/metadata/uid"))
}

fn place(object: &Value) -> (&str, &str) {
    (text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

/// What was changed while the party looked elsewhere is seen in the next round.
pub(super) fn gone_is_fine(outcome: Result<Value>) -> Result<()> {
    match outcome {
        Err(error) if !matches!(code(&error), Some(404 | 409)) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
