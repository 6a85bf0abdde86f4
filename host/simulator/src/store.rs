//! The objects of the cluster, their resource versions, and the change history for watches.
//! Admission, patches, and errors are in `api`; controller behavior is in `actors`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::kind::Kind;
use crate::object::{is_terminating, list, number, set, text};

/// The identity of an object: kind, namespace, and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub kind: &'static Kind,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        Key { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Returns the key of an object of a kind.
    pub fn of(kind: &'static Kind, object: &Value) -> Self {
        let namespace = if kind.namespaced { text(object, "/metadata/namespace") } else { "" };
        Key::new(kind, namespace, text(object, "/metadata/name"))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind.kind, self.name),
        }
    }
}

/// The type of a change, as in a watch event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeType {
    Added,
    Modified,
    Deleted,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    pub change_type: ChangeType,
    pub key: Key,
    /// The resource version after the change.
    pub version: u64,
    /// The object after the change; for a deletion, its last state.
    pub object: Arc<Value>,
    /// The object before the change.
    pub previous: Option<Arc<Value>>,
}

/// The number of changes kept for watches. Older resource versions get 410 Gone.
const HISTORY: usize = 20_000;
const FIRST_VERSION: u64 = 88_125_000;

/// All objects, ordered by key.
#[derive(Debug, Clone)]
pub struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    version: u64,
    history: VecDeque<Change>,
    /// The newest resource version whose changes are no longer known.
    compacted: u64,
    unobserved: VecDeque<Change>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            objects: BTreeMap::new(),
            version: FIRST_VERSION,
            history: VecDeque::new(),
            compacted: FIRST_VERSION,
            unobserved: VecDeque::new(),
        }
    }
}

impl Store {
    /// Returns the newest resource version.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// Returns all objects of a kind, in one namespace or in all of them.
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

    pub fn all(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// Stores `object` at `key` under a new resource version and returns the stored state. A put
    /// that changes nothing keeps the resource version. A terminating object without finalizers
    /// and grace period is removed.
    pub fn put(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        let previous = self.objects.get(key).cloned();
        if let Some(previous) = &previous {
            if **previous == object {
                return previous.clone();
            }
            if generation_changes(previous, &object) {
                set(
                    &mut object,
                    &["metadata", "generation"],
                    number(previous, "/metadata/generation") + 1,
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
        let change_type = if previous.is_some() { ChangeType::Modified } else { ChangeType::Added };
        self.record(Change {
            change_type,
            key: key.clone(),
            version: self.version,
            object: object.clone(),
            previous,
        });
        object
    }

    /// Stores an initial object, without a change for controllers and watches.
    pub fn seed(&mut self, key: Key, object: Value) {
        self.put(&key, object);
        self.unobserved.clear();
        self.history.clear();
        self.compacted = self.version;
    }

    /// Removes the object at `key`, regardless of its finalizers.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let previous = self.objects.remove(key)?;
        self.version += 1;
        let mut last = (*previous).clone();
        set(&mut last, &["metadata", "resourceVersion"], self.version.to_string());
        let object = Arc::new(last);
        self.record(Change {
            change_type: ChangeType::Deleted,
            key: key.clone(),
            version: self.version,
            object: object.clone(),
            previous: Some(previous),
        });
        Some(object)
    }

    /// Returns the changes after `version`, or `None` if they are no longer known.
    pub fn changes_since(&self, version: u64) -> Option<impl Iterator<Item = &Change>> {
        if version < self.compacted {
            return None;
        }
        let first = self.history.partition_point(|change| change.version <= version);
        Some(self.history.range(first..))
    }

    /// Removes and returns the oldest change that the controllers have not seen.
    pub fn next_unobserved(&mut self) -> Option<Change> {
        self.unobserved.pop_front()
    }

    fn record(&mut self, change: Change) {
        self.unobserved.push_back(change.clone());
        self.history.push_back(change);
        while self.history.len() > HISTORY {
            if let Some(oldest) = self.history.pop_front() {
                self.compacted = oldest.version;
            }
        }
    }
}

/// Returns whether a put increments `metadata.generation`: it counts changes of everything except
/// metadata and status, and deletion requests.
fn generation_changes(previous: &Value, object: &Value) -> bool {
    let desired = |value: &Value| {
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            map.shift_remove("metadata");
            map.shift_remove("status");
        }
        value
    };
    previous.pointer("/metadata/generation").is_some()
        && (desired(previous) != desired(object)
            || is_terminating(previous) != is_terminating(object))
}

/// Returns the owner reference that makes `owner` the controller of another object.
pub fn owner_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": text(owner, "/apiVersion"), "kind": text(owner, "/kind"),
        "name": text(owner, "/metadata/name"), "uid": text(owner, "/metadata/uid"),
        "controller": true, "blockOwnerDeletion": true,
    })
}
