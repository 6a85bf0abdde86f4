//! One simulated cluster: its time, its objects, its logs and the queue of what its parties will do next.
//! A discrete-event simulation: nothing happens but by an event of the queue or a request, in the order of virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::actors::csi::Csi;
use crate::actors::git::Git;
use crate::actors::importer::Importer;
use crate::actors::{self, Wake};
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::incident::Incident;
use crate::kind::{self, Kind};
use crate::logs::Logs;
use crate::object::{add_finalizer, seconds, set, text};
use crate::random::Random;
use crate::store::{Key, Store};

/// The whole state of a simulated cluster.
#[derive(Debug, Clone)]
pub struct World {
    /// Virtual time.
    pub now: Timestamp,
    /// Where the cluster started.
    pub incident: Incident,
    /// The objects.
    pub store: Store,
    /// The containers' logs.
    pub logs: Logs,
    /// What the Git repository declares.
    pub git: Git,
    /// The memory of the CSI controller.
    pub csi: Csi,
    /// The memory of the importer.
    pub importer: Importer,
    /// Chance.
    pub random: Random,
    /// The audit log.
    pub exchanges: Vec<Arc<Exchange>>,
    /// Faults to come.
    pub faults: Vec<Fault>,
    queue: BTreeMap<(Timestamp, u64), Wake>,
    order: u64,
    sleepers: Vec<Waker>,
}

impl World {
    /// An empty cluster at `now`.
    pub fn new(incident: Incident, now: Timestamp) -> Self {
        World {
            now,
            incident,
            store: Store::default(),
            logs: Logs::default(),
            git: Git::default(),
            csi: Csi::default(),
            importer: Importer::default(),
            random: Random::new(20_260_820),
            exchanges: Vec::new(),
            faults: Vec::new(),
            queue: BTreeMap::new(),
            order: 0,
            sleepers: Vec::new(),
        }
    }

    /// Moves time, letting everything that falls due happen in order.
    pub fn advance(&mut self, by: Duration) {
        let until = self.after(by);
        self.observe();
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((time, _), wake) = entry.remove_entry();
            self.now = self.now.max(time);
            actors::happen(self, wake);
            self.observe();
        }
        self.now = until;
        self.rouse();
    }

    /// Shows the parties what has changed, and wakes those who watch.
    pub fn observe(&mut self) {
        let mut changed = false;
        while let Some(change) = self.store.next_unobserved() {
            actors::observe(self, &change);
            changed = true;
        }
        if changed {
            self.rouse();
        }
    }

    /// Has `wake` happen after `delay`.
    pub fn wake(&mut self, delay: Duration, wake: Wake) {
        self.order += 1;
        self.queue.insert((self.after(delay), self.order), wake);
    }

    /// Has `wake` happen after `delay`, unless it is to happen by then anyway.
    pub fn wake_once(&mut self, delay: Duration, wake: Wake) {
        let until = self.after(delay);
        let planned = self.queue.range(..=(until, u64::MAX)).any(|(_, planned)| *planned == wake);
        if !planned {
            self.wake(delay, wake);
        }
    }

    /// Has `waker` woken at the next change or move of time.
    pub fn notify(&mut self, waker: Waker) {
        self.sleepers.push(waker);
    }

    /// The object at `key`.
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.store.get(key).cloned()
    }

    /// All objects of a kind in all namespaces.
    pub fn all(&self, kind: &'static Kind) -> Vec<(Key, Arc<Value>)> {
        self.store.list(kind, None).map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// Creates an object, filling in what the API server fills in. `None` when the name is taken.
    pub fn create(&mut self, kind: &'static Kind, mut object: Value) -> Option<Key> {
        let namespace = if kind.namespaced { text(&object, "/metadata/namespace") } else { "" };
        let key = Key::new(kind, namespace, text(&object, "/metadata/name"));
        if self.store.get(&key).is_some() {
            return None;
        }
        set(&mut object, &["apiVersion"], kind.api_version());
        set(&mut object, &["kind"], kind.kind);
        set(&mut object, &["metadata", "uid"], self.random.uid());
        set(&mut object, &["metadata", "creationTimestamp"], seconds(self.now));
        default(kind, &mut object);
        self.store.put(&key, object);
        Some(key)
    }

    /// Changes an object, if it is there.
    pub fn amend(&mut self, key: &Key, change: impl FnOnce(&mut Value)) {
        if let Some(object) = self.store.get(key) {
            let mut object = (**object).clone();
            change(&mut object);
            self.store.put(key, object);
        }
    }

    /// Asks for the deletion of an object: it goes at once, or when its finalizers and grace have.
    pub fn delete(&mut self, key: &Key) {
        let now = seconds(self.now);
        let grace = if key.kind == kind::PODS { 30 } else { 0 };
        self.amend(key, |object| {
            if !crate::object::is_terminating(object) {
                set(object, &["metadata", "deletionTimestamp"], now);
                set(object, &["metadata", "deletionGracePeriodSeconds"], grace);
            }
        });
    }

    /// The moment `by` from now.
    pub fn after(&self, by: Duration) -> Timestamp {
        self.now.saturating_add(signed(by)).unwrap_or(Timestamp::MAX)
    }

    /// How long ago `time` was; zero for the future.
    pub fn since(&self, time: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(time)).unwrap_or(Duration::ZERO)
    }

    /// Nobody watches any more.
    pub fn forget_sleepers(&mut self) {
        self.sleepers.clear();
    }

    fn rouse(&mut self) {
        for sleeper in self.sleepers.drain(..) {
            sleeper.wake();
        }
    }
}

/// A duration as jiff's arithmetic wants it.
pub fn signed(by: Duration) -> SignedDuration {
    SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX)
}

/// What admission and defaulting add to a new object.
fn default(kind: &'static Kind, object: &mut Value) {
    if kind.has_generation() {
        set(object, &["metadata", "generation"], 1);
    }
    if kind == kind::CLAIMS {
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
}
