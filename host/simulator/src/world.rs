//! The state of one simulated cluster: clock, objects, logs, and the queue of controller tasks.
//! It is a discrete-event simulation: the state changes only by a request or by a queued task, in
//! the order of virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::actors::csi::Csi;
use crate::actors::git::Git;
use crate::actors::importer::Importer;
use crate::actors::mover::Mover;
use crate::actors::neighbors::Neighbor;
use crate::actors::{self, Task};
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::kind::{self, Kind, Kinds};
use crate::logs::Logs;
use crate::object::{add_finalizer, seconds, set};
use crate::random::Random;
use crate::script::Script;
use crate::store::{Key, Store};

/// The whole state of a simulated cluster.
#[derive(Debug, Clone)]
pub struct World {
    pub now: Timestamp,
    pub kinds: Kinds,
    pub store: Store,
    pub logs: Logs,
    pub git: Git,
    pub csi: Csi,
    pub importer: Importer,
    /// What happens to the movers of some ReplicationSources.
    pub movers: BTreeMap<Key, Mover>,
    /// Other CSI drivers, by name.
    pub neighbors: BTreeMap<String, Neighbor>,
    pub random: Random,
    /// The audit log, oldest request first.
    pub exchanges: Vec<Arc<Exchange>>,
    pub faults: Vec<Fault>,
    /// Groups whose CRDs are not installed.
    pub uninstalled: Vec<String>,
    pub script: Script,
    queue: BTreeMap<(Timestamp, u64), Task>,
    sequence: u64,
    wakers: Vec<Waker>,
}

impl World {
    /// Creates an empty cluster whose clock is at `now`.
    pub fn new(now: Timestamp) -> Self {
        World {
            now,
            kinds: Kinds::all(),
            store: Store::default(),
            logs: Logs::default(),
            git: Git::default(),
            csi: Csi::default(),
            importer: Importer::default(),
            movers: BTreeMap::new(),
            neighbors: BTreeMap::new(),
            random: Random::new(20_260_820),
            exchanges: Vec::new(),
            faults: Vec::new(),
            uninstalled: Vec::new(),
            script: Script::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            wakers: Vec::new(),
        }
    }

    /// Advances the clock and runs every task that becomes due, in order.
    pub fn advance(&mut self, by: Duration) {
        let until = self.after(by);
        self.process_changes();
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((time, _), task) = entry.remove_entry();
            self.now = self.now.max(time);
            actors::dispatch(self, task);
            self.process_changes();
        }
        self.now = until;
        self.wake_all();
    }

    /// Notifies the controllers of all new changes and wakes pending watches.
    pub fn process_changes(&mut self) {
        let mut changed = false;
        while let Some(change) = self.store.next_unobserved() {
            actors::on_change(self, &change);
            changed = true;
        }
        if changed {
            self.wake_all();
        }
    }

    /// Schedules `task` to run after `delay`.
    pub fn schedule(&mut self, delay: Duration, task: Task) {
        self.sequence += 1;
        self.queue.insert((self.after(delay), self.sequence), task);
    }

    /// Schedules `task` to run after `delay`, unless it is already scheduled to run by then.
    pub fn schedule_once(&mut self, delay: Duration, task: Task) {
        let until = self.after(delay);
        let is_scheduled =
            self.queue.range(..=(until, u64::MAX)).any(|(_, queued)| *queued == task);
        if !is_scheduled {
            self.schedule(delay, task);
        }
    }

    /// Wakes `waker` at the next change or advance of the clock.
    pub fn register_waker(&mut self, waker: Waker) {
        self.wakers.push(waker);
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.store.get(key).cloned()
    }

    /// Returns all objects of a kind in all namespaces.
    pub fn all(&self, kind: &'static Kind) -> Vec<(Key, Arc<Value>)> {
        self.store.list(kind, None).map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// Creates an object with the fields that the API server sets. Returns `None` if the name is
    /// already taken.
    pub fn create(&mut self, kind: &'static Kind, mut object: Value) -> Option<Key> {
        let key = Key::of(kind, &object);
        if self.store.get(&key).is_some() {
            return None;
        }
        set(&mut object, &["apiVersion"], kind.api_version());
        set(&mut object, &["kind"], kind.kind);
        set(&mut object, &["metadata", "uid"], self.random.uid());
        set(&mut object, &["metadata", "creationTimestamp"], seconds(self.now));
        apply_defaults(kind, &mut object);
        self.store.put(&key, object);
        Some(key)
    }

    /// Changes an object if it exists.
    pub fn update(&mut self, key: &Key, change: impl FnOnce(&mut Value)) {
        if let Some(object) = self.store.get(key) {
            let mut object = (**object).clone();
            change(&mut object);
            self.store.put(key, object);
        }
    }

    /// Requests the deletion of an object. It is removed as soon as it has no finalizers and no
    /// grace period left.
    pub fn delete(&mut self, key: &Key) {
        let grace = if key.kind == kind::PODS { 30 } else { 0 };
        let end = seconds(self.after(Duration::from_secs(grace)));
        self.update(key, |object| {
            if !crate::object::is_terminating(object) {
                set(object, &["metadata", "deletionTimestamp"], end);
                set(object, &["metadata", "deletionGracePeriodSeconds"], grace);
            }
        });
    }

    /// Returns the time `by` from now.
    pub fn after(&self, by: Duration) -> Timestamp {
        self.now.saturating_add(signed(by)).unwrap_or(Timestamp::MAX)
    }

    /// Returns the duration since `time`, or zero if it is in the future.
    pub fn elapsed_since(&self, time: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(time)).unwrap_or(Duration::ZERO)
    }

    /// Drops the wakers of all pending watches.
    pub fn clear_wakers(&mut self) {
        self.wakers.clear();
    }

    fn wake_all(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

/// Converts a duration for jiff's arithmetic.
pub fn signed(by: Duration) -> SignedDuration {
    SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX)
}

/// Sets what admission and defaulting add to a new object.
fn apply_defaults(kind: &'static Kind, object: &mut Value) {
    if kind.has_generation() {
        set(object, &["metadata", "generation"], 1);
    }
    if kind == kind::PVCS {
        set(object, &["status"], json!({"phase": "Pending"}));
        add_finalizer(object, "kubernetes.io/pvc-protection");
        if object.pointer("/spec/dataSource").is_none()
            && let Some(source) = object.pointer("/spec/dataSourceRef").cloned()
            && source.get("namespace").is_none()
        {
            set(object, &["spec", "dataSource"], source);
        }
    }
    if kind == kind::PODS {
        set(object, &["status"], json!({"phase": "Pending"}));
    }
    if kind == kind::VOLUMES {
        add_finalizer(object, "kubernetes.io/pv-protection");
    }
    if kind == kind::VOLUME_ATTACHMENTS {
        set(object, &["status"], json!({"attached": false}));
    }
}
