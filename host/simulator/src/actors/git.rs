//! The Git repository behind Flux: a revision, and the objects that each Kustomization or
//! HelmRelease declares. Also what controllers outside of the cluster apply to it: Flux on a hub,
//! Argo CD, or an operator.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::Task;
use crate::store::Key;
use crate::world::World;

/// The time until a controller outside of the cluster creates a deleted object again.
const REAPPLY_DELAY: Duration = Duration::from_secs(300);

/// The content of the Git repository.
#[derive(Debug, Default, Clone)]
pub struct Git {
    /// The head of the branch, in Flux's format.
    pub revision: String,
    declared: BTreeMap<Key, Vec<Value>>,
    /// The objects that controllers outside of the cluster apply.
    pub elsewhere: BTreeMap<Key, Value>,
}

impl Git {
    /// Adds an object to those that `owner` declares.
    pub fn declare(&mut self, owner: &Key, object: Value) {
        self.declared.entry(owner.clone()).or_default().push(object);
    }

    /// Returns the objects that `owner` declares.
    pub fn declared(&self, owner: &Key) -> Vec<Value> {
        self.declared.get(owner).cloned().unwrap_or_default()
    }
}

/// Lets the controller outside of the cluster that applies an object notice its deletion.
pub fn on_deleted(world: &mut World, key: &Key) {
    if world.git.elsewhere.contains_key(key) {
        world.schedule_once(REAPPLY_DELAY, Task::ApplyElsewhere(key.clone()));
    }
}

/// Creates an object that a controller outside of the cluster applies.
pub fn apply_elsewhere(world: &mut World, key: &Key) {
    if let Some(object) = world.git.elsewhere.get(key).cloned() {
        world.create(key.kind, object);
    }
}
