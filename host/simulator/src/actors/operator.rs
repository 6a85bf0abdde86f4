//! ceph-csi-operator: writes the whole spec of the Deployments that it owns, so that a `restartedAt` annotation is
//! removed before any pod has gone.

use std::time::Duration;

use serde_json::Value;

use super::Wake;
use crate::object::{list, text, unset};
use crate::store::Key;
use crate::world::World;

const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// Wakes the operator when a Deployment of its own has changed.
pub fn observe(world: &mut World, key: &Key, object: &Value) {
    let owned = list(object, "/metadata/ownerReferences")
        .iter()
        .any(|owner| text(owner, "/kind") == "Driver");
    if owned {
        world.wake_once(Duration::from_millis(100), Wake::Operator(key.clone()));
    }
}

/// Restores the Deployment's template.
pub fn reconcile(world: &mut World, key: &Key) {
    world.amend(key, |deployment| {
        unset(deployment, &["spec", "template", "metadata", "annotations", RESTARTED_AT]);
        let empty =
            deployment.pointer("/spec/template/metadata/annotations").and_then(Value::as_object);
        if empty.is_some_and(serde_json::Map::is_empty) {
            unset(deployment, &["spec", "template", "metadata", "annotations"]);
        }
    });
}
