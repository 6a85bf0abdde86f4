//! The Deployment controller: rolls out the pod template of a Deployment and updates its status.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Task;
use super::pods::{is_finished, is_ready};
use crate::kind;
use crate::object::{
    annotation, is_owned_by, is_terminating, list, number, set, set_condition, text, unset,
};
use crate::random::hash_below;
use crate::store::{Key, owner_reference};
use crate::world::World;

/// The time until the controller receives a change. It is longer than the reaction time of an
/// operator that reverts the change.
pub const WATCH_LATENCY: Duration = Duration::from_millis(400);

type KeyedObject = (Key, Arc<Value>);

/// Returns the Deployment that owns a pod's ReplicaSet.
pub fn deployment_of(world: &World, namespace: &str, pod: &Value) -> Option<Key> {
    let set = list(pod, "/metadata/ownerReferences")
        .iter()
        .find(|owner| text(owner, "/kind") == "ReplicaSet")?;
    let set = world.get(&Key::new(kind::REPLICA_SETS, namespace, text(set, "/name")))?;
    let deployment = text(&set, "/metadata/ownerReferences/0/name");
    Some(Key::new(kind::DEPLOYMENTS, namespace, deployment))
}

/// Reconciles a Deployment.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(deployment) = world.get(key) else { return };
    if is_terminating(&deployment) {
        return;
    }
    let uid = text(&deployment, "/metadata/uid").to_owned();
    let sets = owned(world, kind::REPLICA_SETS, &key.namespace, &uid);
    let current = sets.iter().find(|(_, set)| same_template(&deployment, set));
    let mut new = current.map(|(_, set)| pods_of(world, key, set)).unwrap_or_default();
    new.retain(|(_, pod)| !is_terminating(pod));
    let old: Vec<KeyedObject> = sets
        .iter()
        .filter(|(key, _)| current.is_none_or(|(current, _)| key != current))
        .flat_map(|(_, set)| pods_of(world, key, set))
        .collect();
    let desired = deployment.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let recreate = text(&deployment, "/spec/strategy/type") == "Recreate";
    let live =
        |pods: &[KeyedObject]| pods.iter().filter(|(_, pod)| !is_terminating(pod)).count() as i64;
    let ready = |pods: &[KeyedObject]| {
        pods.iter().filter(|(_, pod)| !is_terminating(pod) && is_ready(pod)).count() as i64
    };

    if recreate && !old.is_empty() {
        delete_all(world, &old);
    } else {
        if live(&new) < desired {
            let set = current
                .map(|(_, set)| set.clone())
                .unwrap_or_else(|| create_replica_set(world, key, &deployment, sets.len()));
            for _ in live(&new)..desired {
                create_pod(world, key, &set);
            }
        }
        let surplus = (live(&new) - desired).max(0) as usize;
        delete_all(world, &new[..surplus]);
        if ready(&new) >= desired {
            delete_all(world, &old);
        }
    }
    update_status(world, key, &sets, live(&new), live(&old), ready(&new), ready(&old));
}

/// Updates the status of a Deployment and its ReplicaSets.
fn update_status(
    world: &mut World,
    key: &Key,
    sets: &[KeyedObject],
    updated: i64,
    old: i64,
    new_ready: i64,
    old_ready: i64,
) {
    let now = world.now;
    for (set_key, replica_set) in sets {
        let pods = pods_of(world, key, replica_set);
        let (replicas, ready) = (pods.len(), pods.iter().filter(|(_, pod)| is_ready(pod)).count());
        world.update(set_key, |object| {
            set(object, &["spec", "replicas"], replicas);
            let status = if ready > 0 {
                json!({"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready})
            } else {
                json!({"replicas": replicas})
            };
            set(object, &["status"], status);
        });
    }
    world.update(key, |deployment| {
        let desired = deployment.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
        let available = new_ready + old_ready;
        let generation = number(deployment, "/metadata/generation");
        set(deployment, &["status", "observedGeneration"], generation);
        for (field, count) in [
            ("replicas", updated + old),
            ("updatedReplicas", updated),
            ("readyReplicas", available),
            ("availableReplicas", available),
            ("unavailableReplicas", (desired - available).max(0)),
        ] {
            if count == 0 {
                unset(deployment, &["status", field]);
            } else {
                set(deployment, &["status", field], count);
            }
        }
        let available_condition = if available >= desired {
            json!({
                "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
                "message": "Deployment has minimum availability.",
            })
        } else {
            json!({
                "type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable",
                "message": "Deployment does not have minimum availability.",
            })
        };
        set_condition(deployment, available_condition, now);
        let reason = if new_ready >= desired && old == 0 {
            "NewReplicaSetAvailable"
        } else {
            "ReplicaSetUpdated"
        };
        let message = format!("ReplicaSet of {} is progressing or has progressed.", key.name);
        set_condition(
            deployment,
            json!({"type": "Progressing", "status": "True", "reason": reason, "message": message}),
            now,
        );
    });
}

/// Returns the pods of a ReplicaSet, except for finished ones, which it replaces.
fn pods_of(world: &World, deployment: &Key, set: &Value) -> Vec<KeyedObject> {
    let mut pods = owned(world, kind::PODS, &deployment.namespace, text(set, "/metadata/uid"));
    pods.retain(|(_, pod)| !is_finished(pod));
    pods
}

fn owned(world: &World, kind: &'static kind::Kind, namespace: &str, uid: &str) -> Vec<KeyedObject> {
    world
        .store
        .list(kind, Some(namespace))
        .filter(|(_, object)| is_owned_by(object, uid))
        .map(|(key, object)| (key.clone(), object.clone()))
        .collect()
}

fn delete_all(world: &mut World, pods: &[KeyedObject]) {
    for (key, _) in pods {
        world.delete(key);
    }
}

/// Returns whether a ReplicaSet has the current template of a Deployment.
fn same_template(deployment: &Value, set: &Value) -> bool {
    let mut template = set["spec"]["template"].clone();
    unset(&mut template, &["metadata", "labels", HASH]);
    template == deployment["spec"]["template"]
}

const HASH: &str = "pod-template-hash";

const REVISION: &str = "deployment.kubernetes.io/revision";

fn create_replica_set(
    world: &mut World,
    key: &Key,
    deployment: &Value,
    set_count: usize,
) -> Arc<Value> {
    let hash = hash_below(&format!("{}{set_count}", deployment["spec"]["template"]), u64::MAX);
    let hash = format!("{:09x}", hash & 0xf_ffff_ffff);
    let revision =
        annotation(deployment, REVISION).and_then(|last| last.parse::<u64>().ok()).unwrap_or(0) + 1;
    let mut deployment = deployment.clone();
    set(&mut deployment, &["metadata", "annotations", REVISION], revision.to_string());
    world.update(key, |live| {
        set(live, &["metadata", "annotations", REVISION], revision.to_string())
    });
    let set = replica_set(&deployment, &hash);
    let name = text(&set, "/metadata/name").to_owned();
    world.create(kind::REPLICA_SETS, set.clone());
    world.get(&Key::new(kind::REPLICA_SETS, &key.namespace, &name)).unwrap_or_else(|| Arc::new(set))
}

fn create_pod(world: &mut World, key: &Key, set: &Value) {
    let suffix = world.random.suffix();
    let name = format!("{}-{suffix}", text(set, "/metadata/name"));
    world.create(kind::PODS, replica_pod(set, &name));
    world.schedule_once(WATCH_LATENCY, Task::Rollout(key.clone()));
}

/// Returns the ReplicaSet for the template of a Deployment.
pub fn replica_set(deployment: &Value, hash: &str) -> Value {
    let mut template = deployment["spec"]["template"].clone();
    set(&mut template, &["metadata", "labels", HASH], hash);
    let mut selector = deployment["spec"]["selector"].clone();
    set(&mut selector, &["matchLabels", HASH], hash);
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", text(deployment, "/metadata/name")),
            "namespace": text(deployment, "/metadata/namespace"),
            "labels": template["metadata"]["labels"],
            "ownerReferences": [owner_reference(deployment)],
            "annotations": {REVISION: annotation(deployment, REVISION)},
        },
        "spec": {
            "replicas": deployment["spec"]["replicas"], "selector": selector, "template": template,
        },
        "status": {"replicas": 0},
    })
}

/// Returns a pod of a ReplicaSet.
pub fn replica_pod(set: &Value, name: &str) -> Value {
    let template = &set["spec"]["template"];
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": text(set, "/metadata/namespace"),
            "labels": template["metadata"]["labels"], "ownerReferences": [owner_reference(set)],
        },
        "spec": template["spec"], "status": {"phase": "Pending"},
    })
}
