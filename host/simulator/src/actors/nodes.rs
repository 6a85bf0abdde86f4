//! The node lifecycle controller: when a node becomes unreachable, its pods become unready, and
//! after five minutes they are deleted. They stay Terminating until the node is back.

use std::time::Duration;

use serde_json::{Value, json};

use super::Task;
use crate::kind;
use crate::object::{condition, set_condition, text};
use crate::store::Key;
use crate::world::World;

/// The time until the pods of an unreachable node are deleted.
const EVICTION_DELAY: Duration = Duration::from_secs(300);

/// Returns whether the node of a pod responds. That of an unscheduled pod does.
pub fn has_reachable_node(world: &World, pod: &Value) -> bool {
    is_reachable(world, text(pod, "/spec/nodeName"))
}

pub fn is_reachable(world: &World, node: &str) -> bool {
    world.get(&Key::new(kind::NODES, "", node)).is_none_or(|node| {
        condition(&node, "Ready").is_none_or(|ready| text(ready, "/status") == "True")
    })
}

/// Marks the pods of an unreachable node as unready, or lets the kubelet of a reachable node act.
pub fn reconcile(world: &mut World, node: &Key) {
    if is_reachable(world, &node.name) {
        for pod in pods_on(world, node) {
            world.schedule_once(super::WATCH_LATENCY, Task::Pod(pod));
        }
        return;
    }
    let now = world.now;
    for pod in pods_on(world, node) {
        world.update(&pod, |pod| {
            set_condition(pod, json!({"type": "Ready", "status": "False"}), now)
        });
    }
    world.schedule_once(EVICTION_DELAY, Task::Evict(node.clone()));
}

/// Deletes the pods of a node that is still unreachable.
pub fn evict(world: &mut World, node: &Key) {
    if is_reachable(world, &node.name) {
        return;
    }
    for pod in pods_on(world, node) {
        world.delete(&pod);
    }
}

fn pods_on(world: &World, node: &Key) -> Vec<Key> {
    let pods = world.store.list(kind::PODS, None);
    let on_node = pods.filter(|(_, pod)| text(pod, "/spec/nodeName") == node.name);
    on_node.map(|(key, _)| key.clone()).collect()
}
