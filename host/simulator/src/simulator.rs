//! The handle on a simulated cluster: inspect it, change it, and inject faults.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use salve_document::DocumentError;
use serde_json::Value;

use crate::clock::Clock;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::scenario::{Incident, Scenario};
use crate::store::Key;
use crate::world::World;

/// A cheap handle on one simulated cluster. Clones share the cluster.
#[derive(Debug, Clone)]
pub struct Simulator {
    pub(crate) world: Arc<Mutex<World>>,
}

/// The error for a resource that the simulated API server does not serve.
#[derive(Debug, thiserror::Error)]
#[error("the simulated API server does not serve resource {resource:?} in group {group:?}")]
pub struct UnknownKind {
    group: String,
    resource: String,
}

impl Simulator {
    /// Creates the cluster of a built-in scenario.
    pub fn new(incident: Incident) -> Self {
        Simulator::of(&Scenario::built_in(incident))
            .unwrap_or_else(|error| panic!("a built-in scenario is invalid: {error}"))
    }

    /// Creates the cluster of a scenario.
    ///
    /// # Errors
    /// An object or something scripted is invalid, or does not fit the others.
    pub fn of(scenario: &Scenario) -> Result<Self, DocumentError> {
        Ok(Simulator { world: Arc::new(Mutex::new(scenario.build()?)) })
    }

    /// Returns an independent copy of the cluster in its current state.
    pub fn fork(&self) -> Self {
        let mut world = self.lock().clone();
        world.clear_wakers();
        Simulator { world: Arc::new(Mutex::new(world)) }
    }

    pub fn clock(&self) -> Clock {
        Clock(self.world.clone())
    }

    /// Returns every request received so far, in order.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.lock().exchanges.iter().map(|exchange| (**exchange).clone()).collect()
    }

    /// Returns the requests that asked for a change, in order.
    pub fn mutations(&self) -> Vec<Exchange> {
        self.lock()
            .exchanges
            .iter()
            .filter(|exchange| exchange.is_mutation())
            .map(|exchange| (**exchange).clone())
            .collect()
    }

    /// Returns the current state of one object. `resource` is a plural or a kind; `namespace` is
    /// empty for cluster-scoped kinds.
    pub fn object(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let world = self.lock();
        let kind = world.kinds.find(group, resource)?;
        world.get(&Key::new(kind, namespace, name)).map(|object| (*object).clone())
    }

    /// Returns all objects of a resource, in one namespace or in all of them.
    pub fn objects(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Value> {
        let world = self.lock();
        let Some(kind) = world.kinds.find(group, resource) else { return Vec::new() };
        world.store.list(kind, namespace).map(|(_, object)| (**object).clone()).collect()
    }

    /// Changes an object as another user would, without an exchange. Returns whether it exists.
    pub fn edit(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> bool {
        let mut world = self.lock();
        let Some(kind) = world.kinds.find(group, resource) else { return false };
        let key = Key::new(kind, namespace, name);
        let exists = world.get(&key).is_some();
        world.script.pinned.remove(&key);
        world.update(&key, change);
        world.process_changes();
        exists
    }

    /// Creates an object; its kind is derived from `apiVersion` and `kind`. Returns false if the
    /// name is already taken.
    ///
    /// # Errors
    /// Returns an error if the kind is not served.
    pub fn insert(&self, object: Value) -> Result<bool, UnknownKind> {
        let version = object["apiVersion"].as_str().unwrap_or("");
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let resource = object["kind"].as_str().unwrap_or("");
        let mut world = self.lock();
        let kind = world.kinds.find(group, resource).ok_or_else(|| UnknownKind {
            group: group.to_owned(),
            resource: resource.to_owned(),
        })?;
        let created = world.create(kind, object).is_some();
        world.process_changes();
        Ok(created)
    }

    /// Requests the deletion of an object as another user would, without an exchange. Returns
    /// whether it existed.
    pub fn remove(&self, group: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let mut world = self.lock();
        let Some(kind) = world.kinds.find(group, resource) else { return false };
        let key = Key::new(kind, namespace, name);
        let exists = world.get(&key).is_some();
        world.delete(&key);
        world.process_changes();
        exists
    }

    /// Adds a fault. If several match a request, the one added first is injected.
    pub fn fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Stops serving a group, as if its CRDs were not installed. Its objects are no longer
    /// reachable.
    pub fn uninstall(&self, group: &str) {
        self.lock().uninstalled.push(group.to_owned());
    }

    /// Returns how many objects of a dump are left out because their kind is not served, by kind.
    pub fn left_out(&self) -> Vec<(String, usize)> {
        self.lock().script.left_out.clone().into_iter().collect()
    }

    /// Returns the keys of the operation locks in the memory of the CSI pods. No object shows them;
    /// a real client has to infer them from logs.
    pub fn locks(&self) -> Vec<String> {
        self.lock().csi.keys()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        lock_world(&self.world)
    }
}

/// Locks the world, also after a panicking test poisoned the mutex.
pub(crate) fn lock_world(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
