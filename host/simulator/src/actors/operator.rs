//! ceph-csi-operator: overwrites the spec of the Deployments that it owns, which removes a
//! `restartedAt` annotation before any pod is replaced.

use std::time::Duration;

use serde_json::Value;

use super::Task;
use crate::object::{list, text, unset};
use crate::store::Key;
use crate::world::World;

const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// Schedules the operator for a changed Deployment that it owns.
pub fn on_change(world: &mut World, key: &Key, object: &Value) {
    let owned = list(object, "/metadata/ownerReferences")
        .iter()
        .any(|owner| text(owner, "/kind") == "Driver");
    if owned {
        world.schedule_once(Duration::from_millis(100), Task::Operator(key.clone()));
    }
}

/// Restores the pod template of a Deployment.
pub fn reconcile(world: &mut World, key: &Key) {
    world.update(key, |deployment| {
        unset(deployment, &["spec", "template", "metadata", "annotations", RESTARTED_AT]);
        let empty =
            deployment.pointer("/spec/template/metadata/annotations").and_then(Value::as_object);
        if empty.is_some_and(serde_json::Map::is_empty) {
            unset(deployment, &["spec", "template", "metadata", "annotations"]);
        }
    });
}
