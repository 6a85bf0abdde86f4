//! Places objects as they would stand after months of life: with uids, times, owners and field managers.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::LONG_AGO;
use crate::actors::csi::Sidecar;
use crate::actors::kustomize_kind as kind_of;
use crate::actors::{pod_status, pod_waits, replica_pod, replica_set};
use crate::fields;
use crate::kind;
use crate::object::{set, text};
use crate::store::Key;
use crate::world::World;

/// A Deployment of the scene.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its name, and the value of its pods' `app` label.
    pub name: String,
    /// Its containers' names.
    pub containers: Vec<String>,
    /// The hash of its template.
    pub hash: String,
    /// The suffixes of its pods.
    pub pods: Vec<String>,
    /// The claim that its pods mount.
    #[serde(default)]
    pub pvc: Option<String>,
    /// Whether its pods wait.
    #[serde(default)]
    pub pending: bool,
    /// Arguments by container.
    #[serde(default)]
    pub args: Vec<(String, Vec<String>)>,
    /// The operator's object that owns it.
    #[serde(default)]
    pub owner: Option<Value>,
}

/// The scene under construction.
pub struct Builder<'a> {
    /// The world that is being built.
    pub world: &'a mut World,
    /// The calls that are locked, with the sidecar that makes them.
    pub locked: Vec<(String, Sidecar)>,
    /// The Kustomizations to place once all that they declare is known.
    pub kustomizations: Vec<super::flux::Owner>,
}

impl<'a> Builder<'a> {
    /// Begins with an empty world.
    pub fn new(world: &'a mut World) -> Self {
        Builder { world, locked: Vec::new(), kustomizations: Vec::new() }
    }

    /// Places an object, giving it what it lacks: uid, creation time, generation.
    pub fn place(&mut self, mut object: Value) -> Value {
        let kind = kind_of(&object).expect("the scene's kinds are served");
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
        let namespace = if kind.namespaced { text(&object, "/metadata/namespace") } else { "" };
        let key = Key::new(kind, namespace, text(&object, "/metadata/name"));
        self.world.store.seed(key.clone(), object);
        self.world.get(&key).map(|object| (*object).clone()).expect("seeded just above")
    }

    /// Declares an object in the folder of `owner`, and places it as Flux applied it, as `finish` leaves it.
    pub fn declare(
        &mut self,
        owner: &Key,
        declared: Value,
        finish: impl FnOnce(&mut Value),
    ) -> Value {
        let mut declared = declared;
        let prefix = if owner.kind == kind::HELM_RELEASES { "helm" } else { "kustomize" };
        let labelled = |what: &str| format!("{prefix}.toolkit.fluxcd.io/{what}");
        set(&mut declared, &["metadata", "labels", &labelled("name")], owner.name.clone());
        set(
            &mut declared,
            &["metadata", "labels", &labelled("namespace")],
            owner.namespace.clone(),
        );
        self.world.git.declare(owner, declared.clone());
        self.apply(&declared, &format!("{prefix}-controller"), finish)
    }

    /// Places an object as `manager` applied it long ago, as `finish` leaves it.
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

    /// Places a Deployment with its ReplicaSet and pods; returns the pods.
    pub fn workload(&mut self, workload: &Workload) -> Vec<Value> {
        let deployment = self.deployment(workload);
        let mut set_object = replica_set(&deployment, &workload.hash);
        let replicas = workload.pods.len();
        set(&mut set_object, &["status"], json!({"replicas": replicas}));
        let ready = if workload.pending { 0 } else { replicas };
        if ready > 0 {
            set(
                &mut set_object,
                &["status"],
                json!({"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready}),
            );
        }
        let set_object = self.place(set_object);
        let since = time("2026-07-01T10:00:20Z");
        let mut pods = Vec::new();
        for (number, suffix) in workload.pods.iter().enumerate() {
            let mut pod = replica_pod(
                &set_object,
                &format!("{}-{suffix}", text(&set_object, "/metadata/name")),
            );
            if workload.pending {
                set(&mut pod, &["metadata", "creationTimestamp"], "2026-08-20T08:40:10Z");
                pod_waits(&mut pod, time("2026-08-20T08:40:10Z"));
            } else {
                set(&mut pod, &["metadata", "creationTimestamp"], "2026-07-01T10:00:20Z");
                set(&mut pod, &["spec", "nodeName"], format!("node-{}", number + 1));
                let status = pod_status(&pod, since);
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
            json!({"type": kind, "status": if status { "True" } else { "False" }, "reason": reason, "message": message,
                "lastTransitionTime": "2026-07-01T10:00:50Z"})
        };
        let (fine, message) = if workload.pending {
            ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        } else {
            ("MinimumReplicasAvailable", "Deployment has minimum availability.")
        };
        let progressing =
            if workload.pending { "ReplicaSetUpdated" } else { "NewReplicaSetAvailable" };
        status["conditions"] = json!([
            condition("Available", !workload.pending, fine, message),
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
                "name": name, "namespace": namespace, "annotations": {"deployment.kubernetes.io/revision": "6"},
                "labels": {"app": name},
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

/// A time of the scene.
pub fn time(written: &str) -> Timestamp {
    written.parse().expect("the scene's times are well-formed")
}
