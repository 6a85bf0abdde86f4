//! Places objects as they would be after months of operation: with UIDs, times, owners, and field
//! managers.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::base::LONG_AGO;
use super::cluster::Cluster;
use crate::actors::csi::Sidecar;
use crate::actors::{replica_pod, replica_set, running_status, set_unschedulable};
use crate::fields;
use crate::kind;
use crate::object::{set, text};
use crate::store::Key;
use crate::world::World;

/// A Deployment of the scenario.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Workload {
    pub namespace: String,
    /// The name, and the value of the pods' `app` label.
    pub name: String,
    /// The names of the containers.
    pub containers: Vec<String>,
    /// The hash of the pod template, part of the ReplicaSet's name.
    pub hash: String,
    /// The name suffixes of the pods.
    pub pods: Vec<String>,
    /// The PVC that the pods mount.
    #[serde(default)]
    pub pvc: Option<String>,
    /// Whether the pods wait for the PVC.
    #[serde(default)]
    pub pending: bool,
    /// The arguments of some containers, by container name.
    #[serde(default)]
    pub args: Vec<(String, Vec<String>)>,
    /// The owner reference to an operator's object.
    #[serde(default)]
    pub owner: Option<Value>,
}

/// A scenario under construction.
pub struct Builder<'a> {
    pub world: &'a mut World,
    /// In which state the base cluster is.
    pub cluster: Cluster,
    /// The keys of the operation locks, with the sidecar that calls.
    pub locked: Vec<(String, Sidecar)>,
    /// The Kustomizations to place when all objects that they declare are known.
    pub kustomizations: Vec<super::flux::PendingKustomization>,
}

impl<'a> Builder<'a> {
    pub fn new(world: &'a mut World, cluster: Cluster) -> Self {
        Builder { world, cluster, locked: Vec::new(), kustomizations: Vec::new() }
    }

    /// Places an object. Sets UID, creation time, and generation if they are missing.
    pub fn place(&mut self, mut object: Value) -> Value {
        let kind = self.world.kinds.of(&object).expect("kind is served");
        if object.pointer("/metadata/uid").is_none() {
            let uid = self.world.random.uid();
            set(&mut object, &["metadata", "uid"], uid);
        }
        if object.pointer("/metadata/creationTimestamp").is_none() {
            set(&mut object, &["metadata", "creationTimestamp"], LONG_AGO);
        }
        if object.pointer("/metadata/generation").is_none() && kind.has_generation() {
            set(&mut object, &["metadata", "generation"], 1);
        }
        let key = Key::of(kind, &object);
        self.world.store.seed(key.clone(), object);
        self.world.get(&key).map(|object| (*object).clone()).expect("object was seeded")
    }

    /// Declares an object of `owner` in Git, and places it as applied by Flux and then changed by
    /// `finish`.
    pub fn declare(
        &mut self,
        owner: &Key,
        declared: Value,
        finish: impl FnOnce(&mut Value),
    ) -> Value {
        let mut declared = declared;
        let prefix = if owner.kind == kind::HELM_RELEASES { "helm" } else { "kustomize" };
        let label_key = |field: &str| format!("{prefix}.toolkit.fluxcd.io/{field}");
        set(&mut declared, &["metadata", "labels", &label_key("name")], owner.name.clone());
        set(
            &mut declared,
            &["metadata", "labels", &label_key("namespace")],
            owner.namespace.clone(),
        );
        self.world.git.declare(owner, declared.clone());
        self.apply(&declared, &format!("{prefix}-controller"), finish)
    }

    /// Places an object as applied by `manager` and then changed by `finish`.
    pub fn apply(
        &mut self,
        declared: &Value,
        manager: &str,
        finish: impl FnOnce(&mut Value),
    ) -> Value {
        let mut object = fields::apply(None, declared, manager, true, true, time(LONG_AGO))
            .unwrap_or_else(|conflict| {
                unreachable!("a forced apply has no conflict: {conflict:?}")
            });
        finish(&mut object);
        self.place(object)
    }

    /// Places a Deployment with its ReplicaSet and pods, and returns the pods.
    pub fn workload(&mut self, workload: &Workload) -> Vec<Value> {
        let deployment = self.deployment(workload);
        let mut replica_set_object = replica_set(&deployment, &workload.hash);
        let replicas = workload.pods.len();
        set(&mut replica_set_object, &["status"], json!({"replicas": replicas}));
        let ready = if workload.pending { 0 } else { replicas };
        if ready > 0 {
            set(
                &mut replica_set_object,
                &["status"],
                json!({"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready}),
            );
        }
        let replica_set_object = self.place(replica_set_object);
        let since = time("2026-07-01T10:00:20Z");
        let mut pods = Vec::new();
        for (number, suffix) in workload.pods.iter().enumerate() {
            let mut pod = replica_pod(
                &replica_set_object,
                &format!("{}-{suffix}", text(&replica_set_object, "/metadata/name")),
            );
            if workload.pending {
                set(&mut pod, &["metadata", "creationTimestamp"], "2026-08-20T08:40:10Z");
                set_unschedulable(&mut pod, time("2026-08-20T08:40:10Z"));
            } else {
                set(&mut pod, &["metadata", "creationTimestamp"], "2026-07-01T10:00:20Z");
                set(&mut pod, &["spec", "nodeName"], format!("node-{}", number + 1));
                let status = running_status(&pod, since);
                set(&mut pod, &["status"], status);
            }
            pods.push(self.place(pod));
        }
        pods
    }

    fn deployment(&mut self, workload: &Workload) -> Value {
        let (namespace, name, replicas) =
            (&workload.namespace, &workload.name, workload.pods.len());
        let containers: Vec<Value> = workload
            .containers
            .iter()
            .map(|container| {
                let mut object = json!({"name": container, "image": format!("{container}:v1")});
                if let Some((_, args)) = workload.args.iter().find(|(name, _)| name == container) {
                    object["args"] = json!(args);
                }
                object
            })
            .collect();
        let mut spec = json!({"containers": containers, "serviceAccountName": name});
        if let Some(pvc) = &workload.pvc {
            spec["volumes"] =
                json!([{"name": "data", "persistentVolumeClaim": {"claimName": pvc}}]);
        }
        let ready = if workload.pending { 0 } else { replicas };
        let mut status =
            json!({"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas});
        let condition = |kind: &str, status: bool, reason: &str, message: &str| {
            json!({
                "type": kind, "status": if status { "True" } else { "False" },
                "reason": reason, "message": message,
                "lastTransitionTime": "2026-07-01T10:00:50Z",
            })
        };
        let (reason, message) = if workload.pending {
            ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        } else {
            ("MinimumReplicasAvailable", "Deployment has minimum availability.")
        };
        let progressing =
            if workload.pending { "ReplicaSetUpdated" } else { "NewReplicaSetAvailable" };
        status["conditions"] = json!([
            condition("Available", !workload.pending, reason, message),
            condition(
                "Progressing",
                true,
                progressing,
                &format!("ReplicaSet of {name} is progressing or has progressed.")
            ),
        ]);
        if ready > 0 {
            status["readyReplicas"] = ready.into();
            status["availableReplicas"] = ready.into();
        } else if replicas > 0 {
            status["unavailableReplicas"] = replicas.into();
        }
        let mut deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": name, "namespace": namespace,
                "annotations": {"deployment.kubernetes.io/revision": "6"}, "labels": {"app": name},
            },
            "spec": {
                "progressDeadlineSeconds": 600, "replicas": replicas, "revisionHistoryLimit": 10,
                "selector": {"matchLabels": {"app": name}}, "strategy": {"type": "Recreate"},
                "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
            },
            "status": status,
        });
        if let Some(owner) = &workload.owner {
            set(&mut deployment, &["metadata", "ownerReferences"], json!([owner]));
        }
        self.place(deployment)
    }
}

/// Parses a time of the scenario.
pub fn time(text: &str) -> Timestamp {
    text.parse().expect("time is valid")
}
