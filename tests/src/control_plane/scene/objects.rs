//! The objects of the scene as documents.

use serde_json::{Value, json};

use super::super::party::DRIVER;
use super::NAMESPACES;

const CLASS: &str = "ceph-block";
const SNAPSHOT_CLASS: &str = "csi-ceph-blockpool";

/// What stands before Flux applies anything: namespaces, the classes and the health of Ceph, the controllers.
pub fn before_flux(controller: &str) -> Vec<Value> {
    let spaces = NAMESPACES.into_iter().chain(["flux-system", "rook-ceph", "volsync-system"]);
    let mut documents: Vec<Value> = spaces
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .collect();
    documents.extend(storage());
    documents.extend([
        csi_controller(controller),
        workload("volsync-system", "volsync", &["manager"], json!({})),
    ]);
    documents
}

/// A claim of the Ceph class.
pub fn pvc(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "5Gi"}},
            "storageClassName": CLASS,
        },
    })
}

/// A ReplicationSource that backs up the claim of its name.
pub fn source(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationSource",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "sourcePVC": name,
            "trigger": {"schedule": "0 * * * *"},
            "restic": {
                "accessModes": ["ReadWriteOnce"],
                "cacheCapacity": "2Gi",
                "copyMethod": "Snapshot",
                "pruneIntervalDays": 14,
                "repository": format!("{name}-volsync-secret"),
                "retain": {"daily": 7, "hourly": 24},
                "storageClassName": CLASS,
                "volumeSnapshotClassName": SNAPSHOT_CLASS,
            },
        },
    })
}

/// The same with the labels of a Kustomization that is gone.
pub fn orphan(namespace: &str, name: &str) -> Value {
    let mut document = source(namespace, name);
    document["metadata"]["labels"] = json!({
        "kustomize.toolkit.fluxcd.io/name": name, "kustomize.toolkit.fluxcd.io/namespace": namespace,
    });
    document
}

/// A ReplicationSource that a HelmRelease of this name made.
pub fn of_release(namespace: &str, name: &str) -> Value {
    let mut document = source(namespace, name);
    document["metadata"]["labels"] =
        json!({"helm.toolkit.fluxcd.io/name": name, "helm.toolkit.fluxcd.io/namespace": namespace});
    document
}

/// That HelmRelease. No controller acts on it here.
pub fn release(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"interval": "1h", "chartRef": {"kind": "OCIRepository", "name": "app-template", "namespace": "flux-system"}},
    })
}

/// A Deployment whose pod mounts the claim of its name.
pub fn app(namespace: &str, name: &str) -> Value {
    let volumes =
        json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]});
    workload(namespace, name, &["app"], volumes)
}

/// What Rook says of its cluster.
pub fn ceph_health(health: &str) -> Value {
    json!({
        "phase": "Ready",
        "state": "Created",
        "message": "Cluster created successfully",
        "ceph": {
            "health": health,
            "lastChecked": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "fsid": "0a0a0a0a-0b0b-4c0c-8d0d-0e0e0e0e0e0e",
        },
    })
}

fn storage() -> Vec<Value> {
    let secret = |of: &str| format!("csi.storage.k8s.io/{of}-secret-name");
    vec![
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": DRIVER,
            "parameters": {
                "clusterID": "rook-ceph", "pool": "ceph-blockpool", secret("provisioner"): "rook-csi-rbd-provisioner",
            },
            "reclaimPolicy": "Delete",
            "allowVolumeExpansion": true,
            "volumeBindingMode": "Immediate",
        }),
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": DRIVER},
            "spec": {"attachRequired": true, "podInfoOnMount": false, "fsGroupPolicy": "File"},
        }),
        json!({
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": SNAPSHOT_CLASS},
            "driver": DRIVER,
            "deletionPolicy": "Delete",
            "parameters": {"clusterID": "rook-ceph", secret("snapshotter"): "rook-csi-rbd-provisioner"},
        }),
        json!({
            "apiVersion": "ceph.rook.io/v1",
            "kind": "CephCluster",
            "metadata": {"name": "rook-ceph", "namespace": "rook-ceph"},
            "spec": {"dataDirHostPath": "/var/lib/rook"},
        }),
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "rook-csi-rbd-provisioner-sa", "namespace": "rook-ceph"},
        }),
    ]
}

/// The controller of the driver as Rook makes it, under this name.
fn csi_controller(name: &str) -> Value {
    let containers =
        ["csi-provisioner", "csi-resizer", "csi-attacher", "csi-snapshotter", "csi-rbdplugin"];
    let pod = json!({"serviceAccountName": "rook-csi-rbd-provisioner-sa"});
    let mut document = workload("rook-ceph", "csi-rbdplugin-provisioner", &containers, pod);
    document["metadata"]["name"] = json!(name);
    document["spec"]["replicas"] = json!(2);
    document["spec"]["strategy"] = json!({"type": "Recreate"});
    document["spec"]["template"]["spec"]["containers"][4]["args"] =
        json!(["--type=rbd", "--controllerserver=true", format!("--drivername={DRIVER}")]);
    document
}

fn workload(namespace: &str, name: &str, containers: &[&str], mut pod: Value) -> Value {
    let images = containers
        .iter()
        .map(|name| json!({"name": name, "image": format!("example.org/{name}:v1")}));
    pod["containers"] = images.collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    })
}
