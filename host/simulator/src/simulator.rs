//! The handle on a simulated cluster: to look into it, to meddle with it, to make it fail.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::clock::Clock;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::incident::Incident;
use crate::kind::Kind;
use crate::scenario;
use crate::store::Key;
use crate::world::World;

/// A cheap handle on one simulated cluster; clones share it.
#[derive(Debug, Clone)]
pub struct Simulator {
    pub(crate) world: Arc<Mutex<World>>,
}

/// A group and resource that the simulated API server does not serve.
#[derive(Debug, thiserror::Error)]
#[error("the simulated API server serves no resource {resource:?} in group {group:?}")]
pub struct UnknownKind {
    group: String,
    resource: String,
}

impl Simulator {
    /// A cluster in which `incident` has just been noticed, at 2026-08-20T10:00:00Z.
    pub fn new(incident: Incident) -> Self {
        Simulator { world: Arc::new(Mutex::new(scenario::build(incident))) }
    }

    /// An independent cluster in the same state: what happens in one of them from now on does not happen in the other.
    pub fn fork(&self) -> Self {
        let mut world = self.lock().clone();
        world.forget_sleepers();
        Simulator { world: Arc::new(Mutex::new(world)) }
    }

    /// What it started in.
    pub fn incident(&self) -> Incident {
        self.lock().incident
    }

    /// Its clock.
    pub fn clock(&self) -> Clock {
        Clock(self.world.clone())
    }

    /// Every request that it has seen, in order.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.lock().exchanges.iter().map(|exchange| (**exchange).clone()).collect()
    }

    /// The requests that asked for a change.
    pub fn mutations(&self) -> Vec<Exchange> {
        self.lock()
            .exchanges
            .iter()
            .filter(|exchange| exchange.is_mutation())
            .map(|exchange| (**exchange).clone())
            .collect()
    }

    /// One object, as it is now. `resource` is a plural or a kind; the namespace is empty for cluster-scoped kinds.
    pub fn object(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let kind = Kind::find(group, resource)?;
        self.lock().get(&Key::new(kind, namespace, name)).map(|object| (*object).clone())
    }

    /// All objects of a resource, in one namespace or in all.
    pub fn objects(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Value> {
        let Some(kind) = Kind::find(group, resource) else { return Vec::new() };
        self.lock().store.list(kind, namespace).map(|(_, object)| (**object).clone()).collect()
    }

    /// Changes an object behind everyone's back, as another user would. Says whether it was there.
    pub fn edit(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> bool {
        let Some(kind) = Kind::find(group, resource) else { return false };
        let mut world = self.lock();
        let key = Key::new(kind, namespace, name);
        let there = world.get(&key).is_some();
        world.amend(&key, change);
        world.observe();
        there
    }

    /// Creates an object; its kind is found from its `apiVersion` and `kind`. Says whether the name was free.
    ///
    /// # Errors
    /// When no such kind is served.
    pub fn insert(&self, object: Value) -> Result<bool, UnknownKind> {
        let version = object["apiVersion"].as_str().unwrap_or("");
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let resource = object["kind"].as_str().unwrap_or("");
        let kind = Kind::find(group, resource).ok_or_else(|| UnknownKind {
            group: group.to_owned(),
            resource: resource.to_owned(),
        })?;
        let mut world = self.lock();
        let created = world.create(kind, object).is_some();
        world.observe();
        Ok(created)
    }

    /// Asks for the deletion of an object, as another user would. Says whether it was there.
    pub fn remove(&self, group: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let Some(kind) = Kind::find(group, resource) else { return false };
        let mut world = self.lock();
        let key = Key::new(kind, namespace, name);
        let there = world.get(&key).is_some();
        world.delete(&key);
        world.observe();
        there
    }

    /// Adds a fault; of several that match a request, the first strikes.
    pub fn fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// The operation locks that CSI pods hold in their memory, by key: the truth that logs only hint at.
    pub fn locks(&self) -> Vec<String> {
        self.lock().csi.keys()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        locked(&self.world)
    }
}

/// The world; one that a panicking test has left behind is still worth looking at.
pub(crate) fn locked(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
