//! An imitation of VolSync's manager: a ReplicationSource that never synchronized backs up at once,
//! through a snapshot that it owns.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::cluster::{Cluster, status_code, str_at};
use super::super::credentials::User;
use super::super::{ControlPlane, kinds};
use super::snapshots::ignore_conflict;
use super::{ReconcileLoop, Reconciler};

/// The running controller. Dropping it stops it.
pub struct VolSync {
    reconcile_loop: ReconcileLoop,
}

impl VolSync {
    /// Starts the controller.
    pub async fn start(plane: &ControlPlane) -> Result<VolSync> {
        let cluster = plane.cluster(User::VolSync).await?;
        Ok(VolSync { reconcile_loop: ReconcileLoop::spawn(Manager { cluster }) })
    }

    /// Stops the controller. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// Returns the error of the last reconciliation, if it failed.
    pub fn last_error(&self) -> Option<String> {
        self.reconcile_loop.last_error()
    }
}

struct Manager {
    cluster: Cluster,
}

impl Reconciler for Manager {
    async fn reconcile(&mut self) -> Result<()> {
        let snapshots = self.cluster.list(&kinds::SNAPSHOTS, "").await?;
        for source in self.cluster.list(&kinds::REPLICATION_SOURCES, "").await? {
            let status = &source["status"];
            // Schedules are ignored: they run once an hour at most, longer than any test takes.
            if source["metadata"]["deletionTimestamp"].is_null()
                && (status["lastSyncTime"].is_null() || !status["lastSyncStartTime"].is_null())
            {
                self.synchronize(&source, &snapshots).await?;
            }
        }
        Ok(())
    }
}

impl Manager {
    async fn synchronize(&self, source: &Value, snapshots: &[Value]) -> Result<()> {
        let (namespace, name) =
            (str_at(source, "/metadata/namespace"), str_at(source, "/metadata/name"));
        let pvc = str_at(source, "/spec/sourcePVC");
        let snapshot_name = format!("volsync-{name}-src");
        let snapshot = snapshots.iter().find(|snapshot| {
            snapshot["metadata"]["name"] == snapshot_name.as_str()
                && snapshot["metadata"]["namespace"] == namespace
        });
        if self.cluster.find(&kinds::PVCS, namespace, pvc).await?.is_none() {
            let message = format!("PersistentVolumeClaim \"{pvc}\" not found");
            return self
                .write_status(
                    source,
                    json!({"lastSyncStartTime": began(source)}),
                    ("False", "Error", &message),
                )
                .await;
        }
        let Some(snapshot) = snapshot else {
            let status = json!({"lastSyncStartTime": began(source)});
            self.write_status(
                source,
                status,
                ("True", "SyncInProgress", "Synchronization in-progress"),
            )
            .await?;
            return self.create_snapshot(source, &snapshot_name).await;
        };
        if snapshot["status"]["readyToUse"] == true {
            self.cluster.delete(&kinds::SNAPSHOTS, namespace, &snapshot_name).await?;
            let status = json!({
                "lastSyncStartTime": null,
                "lastSyncTime": now(),
                "lastSyncDuration": "41.2s",
                "latestMoverStatus": {"result": "Successful", "logs": "Restic completed in 41s"},
                "nextSyncTime": in_an_hour(),
            });
            let idle =
                ("False", "WaitingForSchedule", "Waiting for next scheduled synchronization");
            return self.write_status(source, status, idle).await;
        }
        Ok(())
    }

    /// Writes a status with the condition `Synchronizing`, unless it is unchanged.
    async fn write_status(
        &self,
        source: &Value,
        mut status: Value,
        condition: (&str, &str, &str),
    ) -> Result<()> {
        let (value, reason, message) = condition;
        let before = &source["status"]["conditions"][0];
        let same = before["reason"] == reason && before["message"] == message;
        if same && source["status"]["lastSyncStartTime"] == status["lastSyncStartTime"] {
            return Ok(());
        }
        let since = if same { before["lastTransitionTime"].clone() } else { json!(now()) };
        status["conditions"] = json!([{
            "type": "Synchronizing",
            "status": value,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
        }]);
        let (namespace, name) =
            (str_at(source, "/metadata/namespace"), str_at(source, "/metadata/name"));
        ignore_conflict(
            self.cluster.merge_status(&kinds::REPLICATION_SOURCES, namespace, name, &status).await,
        )
    }

    async fn create_snapshot(&self, source: &Value, name: &str) -> Result<()> {
        let uid = &source["metadata"]["uid"];
        let snapshot = json!({
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshot",
            "metadata": {
                "name": name,
                "namespace": source["metadata"]["namespace"],
                "labels": {
                    "app.kubernetes.io/created-by": "volsync",
                    "volsync.backube/cleanup": uid,
                },
                "ownerReferences": [{
                    "apiVersion": "volsync.backube/v1alpha1",
                    "kind": "ReplicationSource",
                    "name": source["metadata"]["name"],
                    "uid": uid,
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "source": {"persistentVolumeClaimName": source["spec"]["sourcePVC"]},
                "volumeSnapshotClassName": source["spec"]["restic"]["volumeSnapshotClassName"],
            },
        });
        match self.cluster.create(&snapshot).await {
            Err(error) if status_code(&error) != Some(409) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Returns the start time of the running synchronization, or now if there is none.
fn began(source: &Value) -> Value {
    let before = &source["status"]["lastSyncStartTime"];
    if before.is_null() { json!(now()) } else { before.clone() }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn in_an_hour() -> String {
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
