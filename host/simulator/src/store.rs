//! The objects of the cluster, their versions and the history that watches read.
//! Leaves admission, patches and error answers to `api`, and all behaviour to `parties`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::kind::Kind;
use crate::object::{is_terminating, list, number, set, text};

/// Where an object is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: &'static Kind,
    /// Its namespace, empty for cluster-scoped kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of `namespace/name`.
    pub fn new(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        Key { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.kind, self.namespace, self.name)
    }
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub what: What,
    /// To which object.
    pub key: Key,
    /// The resource version that the change made.
    pub version: u64,
    /// The object after it (for a deletion: its last state).
    pub object: Arc<Value>,
    /// The object before it.
    pub observed: Option<Arc<Value>>,
}

/// How many changes watches can still read; older ones answer 410.
const HISTORY: usize = 20_000;
const FIRST_VERSION: u64 = 88_125_000;

/// All objects, in the order of their keys.
#[derive(Debug, Clone)]
pub struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    version: u64,
    history: VecDeque<Change>,
    forgotten: u64,
    unobserved: VecDeque<Change>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            objects: BTreeMap::new(),
            version: FIRST_VERSION,
            history: VecDeque::new(),
            forgotten: FIRST_VERSION,
            unobserved: VecDeque::new(),
        }
    }
}

impl Store {
    /// The newest resource version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The object at `key`.
    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// All objects of a kind, in one namespace or in all.
    pub fn list<'a>(
        &'a self,
        kind: &'static Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        self.objects
            .range(Key::new(kind, namespace.unwrap_or(""), "")..)
            .take_while(move |(key, _)| key.kind == kind)
            .filter(move |(key, _)| namespace.is_none_or(|namespace| key.namespace == namespace))
    }

    /// All objects of all kinds.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// Puts `object` at `key`, moving its version. An object whose last finalizer has gone while it was
    /// terminating is removed. Returns the stored state; a put that changes nothing moves nothing.
    pub fn put(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        let observed = self.objects.get(key).cloned();
        if let Some(observed) = &observed {
            if **observed == object {
                return observed.clone();
            }
            if generation_moves(observed, &object) {
                set(
                    &mut object,
                    &["metadata", "generation"],
                    number(observed, "/metadata/generation") + 1,
                );
            }
        }
        if is_terminating(&object)
            && list(&object, "/metadata/finalizers").is_empty()
            && number(&object, "/metadata/deletionGracePeriodSeconds") == 0
        {
            let object = Arc::new(object);
            self.objects.insert(key.clone(), object.clone());
            self.remove(key);
            return object;
        }
        self.version += 1;
        set(&mut object, &["metadata", "resourceVersion"], self.version.to_string());
        let object = Arc::new(object);
        self.objects.insert(key.clone(), object.clone());
        let what = if observed.is_some() { What::Modified } else { What::Added };
        self.record(Change {
            what,
            key: key.clone(),
            version: self.version,
            object: object.clone(),
            observed,
        });
        object
    }

    /// Puts a seed object: its version is counted, but no one is told.
    pub fn seed(&mut self, key: Key, object: Value) {
        self.put(&key, object);
        self.unobserved.clear();
        self.history.clear();
        self.forgotten = self.version;
    }

    /// Removes the object at `key`, whatever its finalizers say.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let observed = self.objects.remove(key)?;
        self.version += 1;
        let mut last = (*observed).clone();
        set(&mut last, &["metadata", "resourceVersion"], self.version.to_string());
        let object = Arc::new(last);
        self.record(Change {
            what: What::Deleted,
            key: key.clone(),
            version: self.version,
            object: object.clone(),
            observed: Some(observed),
        });
        Some(object)
    }

    /// The changes after `version`, or `None` when they are no longer known.
    pub fn since(&self, version: u64) -> Option<impl Iterator<Item = &Change>> {
        if version < self.forgotten {
            return None;
        }
        let first = self.history.partition_point(|change| change.version <= version);
        Some(self.history.range(first..))
    }

    /// Takes the oldest change that the parties have not seen.
    pub fn next_unobserved(&mut self) -> Option<Change> {
        self.unobserved.pop_front()
    }

    fn record(&mut self, change: Change) {
        self.unobserved.push_back(change.clone());
        self.history.push_back(change);
        while self.history.len() > HISTORY {
            if let Some(oldest) = self.history.pop_front() {
                self.forgotten = oldest.version;
            }
        }
    }
}

/// Generation counts changes of what is wanted: everything but metadata and status, and the wish to be deleted.
fn generation_moves(observed: &Value, object: &Value) -> bool {
    let wanted = |value: &Value| {
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            map.shift_remove("metadata");
            map.shift_remove("status");
        }
        value
    };
    observed.pointer("/metadata/generation").is_some()
        && (wanted(observed) != wanted(object)
            || is_terminating(observed) != is_terminating(object))
}

/// The reference that makes `owner` the controller of another object.
pub fn owner_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": text(owner, "/apiVersion"), "kind": text(owner, "/kind"), "name": text(owner, "/metadata/name"),
        "uid": text(owner, "/metadata/uid"), "controller": true, "blockOwnerDeletion": true,
    })
}
