//! The table columns of each kind, between Name and Age.

use serde_json::Value;

use crate::kind::{self, Kind};
use crate::object::{condition, is_terminating, list, number, text};

/// A table column.
pub struct Column {
    pub name: &'static str,
    /// Returns the cell of an object.
    pub value: fn(&Value) -> String,
}

fn column(name: &'static str, value: fn(&Value) -> String) -> Column {
    Column { name, value }
}

pub fn columns(kind: &Kind) -> Vec<Column> {
    if kind == kind::PVCS {
        return vec![
            column("Status", phase),
            column("Volume", |pvc| text(pvc, "/spec/volumeName").to_owned()),
            column("Capacity", |pvc| text(pvc, "/status/capacity/storage").to_owned()),
            column("StorageClass", |pvc| text(pvc, "/spec/storageClassName").to_owned()),
        ];
    }
    if kind == kind::VOLUMES {
        return vec![
            column("Capacity", |volume| text(volume, "/spec/capacity/storage").to_owned()),
            column("Reclaim Policy", |volume| {
                text(volume, "/spec/persistentVolumeReclaimPolicy").to_owned()
            }),
            column("Status", phase),
            column("Claim", |volume| {
                format!(
                    "{}/{}",
                    text(volume, "/spec/claimRef/namespace"),
                    text(volume, "/spec/claimRef/name")
                )
            }),
        ];
    }
    if kind == kind::PODS {
        return vec![
            column("Ready", |pod| {
                let statuses = list(pod, "/status/containerStatuses");
                let ready = statuses.iter().filter(|object| object["ready"] == true).count();
                format!("{ready}/{}", list(pod, "/spec/containers").len())
            }),
            column("Status", phase),
            column("Restarts", |pod| {
                list(pod, "/status/containerStatuses")
                    .iter()
                    .map(|object| number(object, "/restartCount"))
                    .sum::<i64>()
                    .to_string()
            }),
        ];
    }
    if kind == kind::NAMESPACES {
        return vec![column("Status", phase)];
    }
    if kind == kind::DEPLOYMENTS {
        return vec![
            column("Ready", |object| {
                format!(
                    "{}/{}",
                    number(object, "/status/readyReplicas"),
                    number(object, "/spec/replicas")
                )
            }),
            column("Up-to-date", |object| number(object, "/status/updatedReplicas").to_string()),
            column("Available", |object| number(object, "/status/availableReplicas").to_string()),
        ];
    }
    if kind == kind::REPLICATION_SOURCES {
        return vec![
            column("Source", |object| text(object, "/spec/sourcePVC").to_owned()),
            column("Last sync", |object| text(object, "/status/lastSyncTime").to_owned()),
            column("Duration", |object| text(object, "/status/lastSyncDuration").to_owned()),
            column("Next sync", |object| text(object, "/status/nextSyncTime").to_owned()),
        ];
    }
    if kind == kind::REPLICATION_DESTINATIONS {
        return vec![column("Last sync", |object| text(object, "/status/lastSyncTime").to_owned())];
    }
    if kind == kind::KUSTOMIZATIONS || kind == kind::HELM_RELEASES || kind == kind::GIT_REPOSITORIES
    {
        return vec![
            column("Suspended", |object| {
                (object.pointer("/spec/suspend") == Some(&Value::Bool(true))).to_string()
            }),
            column("Ready", |object| {
                condition(object, "Ready").map_or("", |ready| text(ready, "/status")).to_owned()
            }),
            column("Status", |object| {
                condition(object, "Ready").map_or("", |ready| text(ready, "/message")).to_owned()
            }),
        ];
    }
    if kind == kind::SNAPSHOTS {
        return vec![
            column("ReadyToUse", ready_to_use),
            column("SourcePVC", |object| {
                text(object, "/spec/source/persistentVolumeClaimName").to_owned()
            }),
            column("SnapshotContent", |object| {
                text(object, "/status/boundVolumeSnapshotContentName").to_owned()
            }),
        ];
    }
    if kind == kind::SNAPSHOT_CONTENTS {
        return vec![column("ReadyToUse", ready_to_use)];
    }
    if kind == kind::LEASES {
        return vec![column("Holder", |object| text(object, "/spec/holderIdentity").to_owned())];
    }
    if kind == kind::STORAGE_CLASSES {
        return vec![column("Provisioner", |object| text(object, "/provisioner").to_owned())];
    }
    if kind == kind::CEPH_CLUSTERS {
        return vec![column("Health", |object| text(object, "/status/ceph/health").to_owned())];
    }
    if kind == kind::EVENTS {
        return vec![
            column("Last Seen", |object| text(object, "/lastTimestamp").to_owned()),
            column("Type", |object| text(object, "/type").to_owned()),
            column("Reason", |object| text(object, "/reason").to_owned()),
            column("Message", |object| text(object, "/message").to_owned()),
        ];
    }
    Vec::new()
}

fn phase(object: &Value) -> String {
    if is_terminating(object) {
        "Terminating".to_owned()
    } else {
        text(object, "/status/phase").to_owned()
    }
}

fn ready_to_use(object: &Value) -> String {
    object
        .pointer("/status/readyToUse")
        .and_then(Value::as_bool)
        .map_or_else(String::new, |ready| ready.to_string())
}
