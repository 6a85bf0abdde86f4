//! The columns that kubectl shows between an object's name and its age.

use serde_json::Value;

use crate::kind::{self, Kind};
use crate::object::{condition, is_terminating, list, number, text};

/// One column.
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// What it shows of an object.
    pub of: fn(&Value) -> String,
}

fn column(name: &'static str, of: fn(&Value) -> String) -> Column {
    Column { name, of }
}

/// The columns of a kind.
pub fn columns(kind: &Kind) -> Vec<Column> {
    if kind == kind::CLAIMS {
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
                let ready = statuses.iter().filter(|one| one["ready"] == true).count();
                format!("{ready}/{}", list(pod, "/spec/containers").len())
            }),
            column("Status", phase),
            column("Restarts", |pod| {
                list(pod, "/status/containerStatuses")
                    .iter()
                    .map(|one| number(one, "/restartCount"))
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
            column("Ready", |one| {
                format!(
                    "{}/{}",
                    number(one, "/status/readyReplicas"),
                    number(one, "/spec/replicas")
                )
            }),
            column("Up-to-date", |one| number(one, "/status/updatedReplicas").to_string()),
            column("Available", |one| number(one, "/status/availableReplicas").to_string()),
        ];
    }
    if kind == kind::SOURCES {
        return vec![
            column("Source", |one| text(one, "/spec/sourcePVC").to_owned()),
            column("Last sync", |one| text(one, "/status/lastSyncTime").to_owned()),
            column("Duration", |one| text(one, "/status/lastSyncDuration").to_owned()),
            column("Next sync", |one| text(one, "/status/nextSyncTime").to_owned()),
        ];
    }
    if kind == kind::DESTINATIONS {
        return vec![column("Last sync", |one| text(one, "/status/lastSyncTime").to_owned())];
    }
    if kind == kind::KUSTOMIZATIONS || kind == kind::HELM_RELEASES || kind == kind::GIT_REPOSITORIES
    {
        return vec![
            column("Suspended", |one| {
                (one.pointer("/spec/suspend") == Some(&Value::Bool(true))).to_string()
            }),
            column("Ready", |one| {
                condition(one, "Ready").map_or("", |ready| text(ready, "/status")).to_owned()
            }),
            column("Status", |one| {
                condition(one, "Ready").map_or("", |ready| text(ready, "/message")).to_owned()
            }),
        ];
    }
    if kind == kind::SNAPSHOTS {
        return vec![
            column("ReadyToUse", ready_to_use),
            column("SourcePVC", |one| {
                text(one, "/spec/source/persistentVolumeClaimName").to_owned()
            }),
            column("SnapshotContent", |one| {
                text(one, "/status/boundVolumeSnapshotContentName").to_owned()
            }),
        ];
    }
    if kind == kind::CONTENTS {
        return vec![column("ReadyToUse", ready_to_use)];
    }
    if kind == kind::LEASES {
        return vec![column("Holder", |one| text(one, "/spec/holderIdentity").to_owned())];
    }
    if kind == kind::STORAGE_CLASSES {
        return vec![column("Provisioner", |one| text(one, "/provisioner").to_owned())];
    }
    if kind == kind::CEPH_CLUSTERS {
        return vec![column("Health", |one| text(one, "/status/ceph/health").to_owned())];
    }
    if kind == kind::EVENTS {
        return vec![
            column("Last Seen", |one| text(one, "/lastTimestamp").to_owned()),
            column("Type", |one| text(one, "/type").to_owned()),
            column("Reason", |one| text(one, "/reason").to_owned()),
            column("Message", |one| text(one, "/message").to_owned()),
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
