//! The objects of an app, as each owner applies them.

use crate::axes::{APPS, Backup, BackupState, Owner};
use salve_simulator::{Installation, Simulator};
use serde_json::{Value, json};

/// Creates the PVC and the ReplicationSource of an app, and their owner.
pub fn place(simulator: &Simulator, installation: &Installation, backup: &Backup) {
    let (namespace, name) = APPS[backup.app];
    let class = installation.storage_class();
    let pvc = pvc(namespace, name, class);
    let source = owned_source(backup, class);
    // What a user deletes or suspends is not re-created by its owner.
    let is_orphan = backup.state == BackupState::Orphaned;
    let declares_pvc = !is_orphan && backup.state != BackupState::Terminating;
    match backup.owner {
        Owner::Kustomization | Owner::SuspendedKustomization => {
            let owner = kustomization(namespace, name);
            if declares_pvc {
                simulator.declare(&owner, pvc);
            } else {
                insert(simulator, pvc);
            }
            if is_orphan {
                insert(simulator, source);
            } else {
                simulator.declare(&owner, source);
            }
            insert(simulator, owner);
        }
        Owner::HelmRelease => {
            let owner = helm_release(namespace, name);
            simulator.declare(&owner, source.clone());
            insert(simulator, owner);
            insert(simulator, pvc);
            insert(simulator, source);
        }
        Owner::ResourceSet | Owner::ArgoAnnotation | Owner::ArgoLabel | Owner::Hub => {
            insert(simulator, pvc);
            simulator.apply_from_elsewhere(source);
        }
        Owner::Manual => {
            insert(simulator, pvc);
            insert(simulator, source);
        }
    }
}

/// Creates an object of a kind that the simulated cluster serves.
pub fn insert(simulator: &Simulator, object: Value) {
    let created = simulator.insert(object.clone());
    assert!(created.is_ok_and(|created| created), "the name is already taken: {object}");
}

/// Returns a PVC.
pub fn pvc(namespace: &str, name: &str, class: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}},
            "storageClassName": class, "volumeMode": "Filesystem",
        },
    })
}

/// Returns the ReplicationSource of an app with the labels or annotations of its owner.
fn owned_source(backup: &Backup, class: &str) -> Value {
    let (namespace, name) = APPS[backup.app];
    let mut source = source(backup, class);
    let flux = |group: &str, owner: &str| {
        json!({
            format!("{group}.toolkit.fluxcd.io/name"): owner,
            format!("{group}.toolkit.fluxcd.io/namespace"): namespace,
        })
    };
    let (field, value) = match backup.owner {
        Owner::Kustomization | Owner::SuspendedKustomization => ("labels", flux("kustomize", name)),
        Owner::HelmRelease => ("labels", flux("helm", name)),
        Owner::Hub => ("labels", flux("kustomize", &format!("{name}-of-hub"))),
        Owner::ResourceSet => (
            "labels",
            json!({
                "resourceset.fluxcd.controlplane.io/name": name,
                "resourceset.fluxcd.controlplane.io/namespace": namespace,
            }),
        ),
        Owner::ArgoAnnotation => (
            "annotations",
            json!({"argocd.argoproj.io/tracking-id":
                format!("{name}:volsync.backube/ReplicationSource:{namespace}/{name}")}),
        ),
        Owner::ArgoLabel => ("labels", json!({"argocd.argoproj.io/instance": name})),
        Owner::Manual => ("labels", json!({})),
    };
    source["metadata"][field] = value;
    source
}

fn source(backup: &Backup, class: &str) -> Value {
    let (namespace, name) = APPS[backup.app];
    let minute = 10 + backup.app;
    let schedule =
        if backup.hourly { format!("{minute} * * * *") } else { format!("{minute} 3 * * *") };
    let mut spec = json!({"sourcePVC": name, "trigger": {"schedule": schedule}});
    if backup.state == BackupState::Syncthing {
        spec["syncthing"] = json!({"configCapacity": "1Gi", "serviceType": "ClusterIP"});
    } else {
        let copy_method = if backup.state == BackupState::Direct { "Direct" } else { "Snapshot" };
        spec["restic"] = json!({
            "accessModes": ["ReadWriteOnce"], "cacheCapacity": "2Gi",
            "cacheStorageClassName": class, "copyMethod": copy_method,
            "repository": format!("{name}-volsync-secret"), "storageClassName": class,
            "volumeSnapshotClassName": format!("{class}-snapshots"), "pruneIntervalDays": 14,
        });
    }
    json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

fn kustomization(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {
            "name": name, "namespace": namespace, "finalizers": ["finalizers.fluxcd.io"],
        },
        "spec": {
            "interval": "1h", "path": format!("./kubernetes/apps/{namespace}/{name}"),
            "prune": true, "retryInterval": "2m", "timeout": "5m", "wait": false,
            "targetNamespace": namespace,
            "sourceRef": {
                "kind": "GitRepository", "name": "flux-system", "namespace": "flux-system",
            },
        },
    })
}

fn helm_release(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {
            "name": name, "namespace": namespace, "finalizers": ["finalizers.fluxcd.io"],
        },
        "spec": {"chartRef": {"kind": "OCIRepository", "name": "app-template"}, "interval": "1h"},
    })
}
