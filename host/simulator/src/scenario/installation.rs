//! A cluster without apps, with a CSI driver as Rook, ceph-csi-operator, or the Helm chart installs
//! it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::base::{REVISION, crd, parse};
use super::builder::{Builder, Workload};
use super::cluster::Cluster;
use super::{controller, flux};
use crate::actors;
use crate::actors::csi::{NAMESPACE, Sidecar};
use crate::kind::{self, Kind};
use crate::object::{set, text};
use crate::store::{Key, owner_reference};
use crate::world::World;

/// An installed CSI driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The name of the driver, e.g. `rook-ceph.rbd.csi.ceph.com`.
    pub driver: String,
    /// The version of ceph-csi, as major and minor number.
    pub version: (u32, u32),
    /// The name of the controller's Deployment.
    pub deployment: String,
    /// The name of the plugin's container.
    pub plugin: String,
    /// Containers next to the plugin with its driver name, by name, with their `--type`. An empty
    /// type means that the container has no arguments.
    pub similar_containers: Vec<(String, String)>,
    pub replicas: usize,
    /// The strategy of the Deployment.
    pub strategy: String,
    /// Whether ceph-csi-operator owns the Deployment.
    pub by_operator: bool,
    pub has_snapshotter: bool,
    /// The name of the node plugin's DaemonSet.
    pub node_plugin: String,
}

impl Installation {
    /// Returns the name of the driver's StorageClass.
    pub fn storage_class(&self) -> &'static str {
        if self.driver.ends_with("cephfs.csi.ceph.com") {
            "ceph-filesystem"
        } else if self.driver.ends_with("nfs.csi.ceph.com") {
            "ceph-nfs"
        } else {
            "ceph-rbd"
        }
    }

    /// Returns the `--type` argument of the plugin.
    fn plugin_type(&self) -> &'static str {
        match self.storage_class() {
            "ceph-filesystem" => "cephfs",
            "ceph-nfs" => "nfs",
            _ => "rbd",
        }
    }
}

/// Builds a cluster with this driver and without apps.
pub fn build(installation: &Installation) -> World {
    let start: Timestamp = "2026-08-20T09:59:55Z".parse().expect("time is valid");
    let mut world = World::new(start);
    world.git.revision = REVISION.to_owned();
    let custom: Vec<&Kind> = world.kinds.iter().filter(|kind| kind.is_custom()).collect();
    let mut builder = Builder::new(&mut world, Cluster::default());
    for object in parse::<Vec<Value>>(include_str!("cluster.yaml")) {
        builder.place(object);
    }
    for kind in custom {
        builder.place(crd(kind));
    }
    for workload in parse::<Vec<Workload>>(include_str!("deployments.yaml")) {
        builder.workload(&workload);
    }
    place_classes(&mut builder, installation);
    place_controller(&mut builder, installation);
    place_node_plugin(&mut builder, installation);
    flux::add_roots(&mut builder);
    flux::place_kustomizations(&mut builder);
    actors::start(&mut world);
    world.advance(Duration::from_secs(5));
    world
}

fn place_classes(builder: &mut Builder, installation: &Installation) {
    let driver = &installation.driver;
    builder.place(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": installation.storage_class()},
        "provisioner": driver, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
    }));
    builder.place(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": driver},
        "spec": {"attachRequired": true, "podInfoOnMount": false, "fsGroupPolicy": "File"},
    }));
    builder.place(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass",
        "metadata": {"name": format!("{}-snapshots", installation.storage_class())},
        "driver": driver, "deletionPolicy": "Delete",
    }));
    for sidecar in Sidecar::ALL {
        if sidecar == Sidecar::Snapshotter && !installation.has_snapshotter {
            continue;
        }
        let lease = sidecar.lease(driver);
        builder.place(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": lease.name, "namespace": lease.namespace},
            "spec": {
                "holderIdentity": "", "leaseDurationSeconds": 137,
                "acquireTime": "2026-07-01T10:00:31.000000Z",
                "renewTime": "2026-08-20T09:59:51.223344Z", "leaseTransitions": 11,
            },
        }));
    }
}

fn place_controller(builder: &mut Builder, installation: &Installation) {
    let Installation { driver, plugin, deployment, .. } = installation;
    let csi = &mut builder.world.csi;
    csi.driver = driver.clone();
    csi.plugin = plugin.clone();
    csi.version = installation.version;
    csi.deployment = deployment.clone();
    let owner = installation.by_operator.then(|| {
        owner_reference(&builder.place(json!({
            "apiVersion": "csi.ceph.io/v1", "kind": "Driver",
            "metadata": {"name": driver, "namespace": NAMESPACE},
            "spec": {"controllerPlugin": {"replicas": installation.replicas}},
        })))
    });
    let arguments = |kind: &str| {
        vec![format!("--type={kind}"), format!("--drivername={driver}"), "--v=0".to_owned()]
    };
    let election: Vec<String> =
        controller::ELECTION.iter().map(|argument| (*argument).to_owned()).collect();
    let mut containers = vec!["csi-provisioner", "csi-resizer", "csi-attacher", "csi-snapshotter"];
    if !installation.has_snapshotter {
        containers.retain(|name| *name != "csi-snapshotter");
    }
    let mut args: Vec<(String, Vec<String>)> =
        containers.iter().map(|name| ((*name).to_owned(), election.clone())).collect();
    for (name, kind) in &installation.similar_containers {
        containers.push(name);
        if !kind.is_empty() {
            args.push((name.clone(), arguments(kind)));
        }
    }
    containers.push(plugin);
    args.push((plugin.clone(), arguments(installation.plugin_type())));
    let suffixes = ["kx2lq", "w9tzn", "b4m7d"];
    let pods = builder.workload(&Workload {
        namespace: NAMESPACE.to_owned(),
        name: deployment.clone(),
        containers: containers.iter().map(|name| (*name).to_owned()).collect(),
        hash: "6c8f9d7b5".to_owned(),
        pods: suffixes.iter().take(installation.replicas).map(|pod| (*pod).to_owned()).collect(),
        args,
        owner,
        ..Workload::default()
    });
    let key = Key::new(kind::DEPLOYMENTS, NAMESPACE, deployment);
    let strategy = installation.strategy.clone();
    builder.world.update(&key, |object| set(object, &["spec", "strategy", "type"], strategy));
    let uid = |index: usize| text(&pods[index.min(pods.len() - 1)], "/metadata/uid").to_owned();
    builder.world.csi.set_leader(Sidecar::Provisioner, &uid(0));
    if installation.has_snapshotter {
        builder.world.csi.set_leader(Sidecar::Snapshotter, &uid(1));
    }
}

fn place_node_plugin(builder: &mut Builder, installation: &Installation) {
    let (name, plugin) = (&installation.node_plugin, &installation.plugin);
    let container = json!({
        "name": plugin, "image": format!("{plugin}:v1"),
        "args": [
            format!("--type={}", installation.plugin_type()), "--nodeserver=true",
            format!("--drivername={}", installation.driver),
        ],
    });
    let labels = json!({"app": name});
    let set_object = builder.place(json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
        "status": {"desiredNumberScheduled": 3, "numberReady": 3, "currentNumberScheduled": 3},
    }));
    for (node, suffix) in [("node-1", "n4c8t"), ("node-2", "q7r2z"), ("node-3", "x2k9p")] {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{name}-{suffix}"), "namespace": NAMESPACE, "labels": labels,
                "ownerReferences": [owner_reference(&set_object)],
            },
            "spec": {"containers": [container], "nodeName": node},
        });
        let since = "2026-07-01T10:00:20Z".parse().expect("time is valid");
        let status = actors::running_status(&pod, since);
        set(&mut pod, &["status"], status);
        let pod = builder.place(pod);
        let uid = text(&pod, "/metadata/uid").to_owned();
        builder.world.csi.nodes.pods.insert(node.to_owned(), uid);
    }
}
