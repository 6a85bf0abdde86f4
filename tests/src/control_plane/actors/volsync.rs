//! VolSync's manager: a source without a history backs up at once, through a snapshot that it owns.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::cluster::{Cluster, code, text};
use super::super::credentials::User;
use super::super::{ControlPlane, kinds};
use super::snapshots::gone_is_fine;
use super::{Party, Rounds};

/// The party at work. It stops with this value.
pub struct VolSync {
    rounds: Rounds,
}

impl VolSync {
    /// Begins to play.
    pub async fn start(plane: &ControlPlane) -> Result<VolSync> {
        let cluster = plane.cluster(User::VolSync).await?;
        Ok(VolSync { rounds: Rounds::play(Manager { cluster }) })
    }

    /// Stops playing. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// Why its latest round failed, if it did.
    pub fn trouble(&self) -> Option<String> {
        self.rounds.trouble()
    }
}

struct Manager {
    cluster: Cluster,
}

impl Party for Manager {
    async fn round(&mut self) -> Result<()> {
        let snapshots = self.cluster.list(&kinds::SNAPSHOTS, "").await?;
        for source in self.cluster.list(&kinds::REPLICATION_SOURCES, "").await? {
            let status = &source["status"];
            // A schedule comes round once an hour at most: longer than any story.
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
            (text(source, "/metadata/namespace"), text(source, "/metadata/name"));
        let pvc = text(source, "/spec/sourcePVC");
        let local = format!("volsync-{name}-src");
        let snapshot = snapshots.iter().find(|snapshot| {
            snapshot["metadata"]["name"] == local.as_str()
                && snapshot["metadata"]["namespace"] == namespace
        });
        if self.cluster.find(&kinds::CLAIMS, namespace, pvc).await?.is_none() {
            let message = format!("PersistentVolumeClaim \"{pvc}\" not found");
            return self
                .tell(
                    source,
                    json!({"lastSyncStartTime": began(source)}),
                    ("False", "Error", &message),
                )
                .await;
        }
        let Some(snapshot) = snapshot else {
            let status = json!({"lastSyncStartTime": began(source)});
            self.tell(source, status, ("True", "SyncInProgress", "Synchronization in-progress"))
                .await?;
            return self.create_snapshot(source, &local).await;
        };
        if snapshot["status"]["readyToUse"] == true {
            self.cluster.delete(&kinds::SNAPSHOTS, namespace, &local).await?;
            let status = json!({
                "lastSyncStartTime": null,
                "lastSyncTime": now(),
                "lastSyncDuration": "41.2s",
                "latestMoverStatus": {"result": "Successful", "logs": "Restic completed in 41s"},
                "nextSyncTime": in_an_hour(),
            });
            let idle =
                ("False", "WaitingForSchedule", "Waiting for next scheduled synchronization");
            return self.tell(source, status, idle).await;
        }
        Ok(())
    }

    /// Writes a status with the one condition that VolSync has, if it says anything new.
    async fn tell(
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
            "type": "Synchronizing", "status": value, "reason": reason, "message": message, "lastTransitionTime": since,
        }]);
        let (namespace, name) =
            (text(source, "/metadata/namespace"), text(source, "/metadata/name"));
        gone_is_fine(
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
                "labels": {"app.kubernetes.io/created-by": "volsync", "volsync.backube/cleanup": uid},
                "ownerReferences": [{
                    "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
                    "name": source["metadata"]["name"], "uid": uid, "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "source": {"persistentVolumeClaimName": source["spec"]["sourcePVC"]},
                "volumeSnapshotClassName": source["spec"]["restic"]["volumeSnapshotClassName"],
            },
        });
        match self.cluster.create(&snapshot).await {
            Err(error) if code(&error) != Some(409) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// When the synchronization under way began; now, if none was.
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
