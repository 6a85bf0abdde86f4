//! Access to single fields of objects. Objects stay JSON so that unknown fields are preserved.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Returns the string at a JSON pointer, or an empty string.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// Returns the integer at a JSON pointer, or zero.
pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// Returns the array at a JSON pointer, or an empty slice.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// Sets the field at `path`, creating the maps that lead to it.
pub fn set(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    let mut at = object;
    for step in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = at.as_object_mut().expect("is a map").entry(*step).or_insert(Value::Null);
    }
    *at = value.into();
}

/// Removes the field at `path`.
pub fn unset(object: &mut Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = object;
    for step in parents {
        match at.get_mut(*step) {
            Some(next) => at = next,
            None => return,
        }
    }
    if let Some(map) = at.as_object_mut() {
        map.shift_remove(*last);
    }
}

/// Sets the field at a JSON pointer, or removes it.
pub fn set_at(object: &mut Value, pointer: &str, value: Option<Value>) {
    let steps: Vec<String> =
        pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    match value {
        Some(value) => set(object, &steps, value),
        None => unset(object, &steps),
    }
}

/// Returns whether the object has a deletion timestamp.
pub fn is_terminating(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    list(object, "/metadata/finalizers").iter().any(|existing| existing == finalizer)
}

/// Adds a finalizer unless the object already has it.
pub fn add_finalizer(object: &mut Value, finalizer: &str) {
    if !has_finalizer(object, finalizer) {
        let mut all = list(object, "/metadata/finalizers").to_vec();
        all.push(finalizer.into());
        set(object, &["metadata", "finalizers"], all);
    }
}

/// Removes the finalizers for which `remove` returns true.
pub fn remove_finalizers(object: &mut Value, remove: impl Fn(&str) -> bool) {
    let remaining: Vec<Value> = list(object, "/metadata/finalizers")
        .iter()
        .filter(|finalizer| !remove(finalizer.as_str().unwrap_or("")))
        .cloned()
        .collect();
    if remaining.is_empty() {
        unset(object, &["metadata", "finalizers"]);
    } else {
        set(object, &["metadata", "finalizers"], remaining);
    }
}

/// Returns whether an owner reference has this UID.
pub fn is_owned_by(object: &Value, uid: &str) -> bool {
    list(object, "/metadata/ownerReferences").iter().any(|owner| text(owner, "/uid") == uid)
}

/// Returns the status condition of a type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|condition| text(condition, "/type") == kind)
}

/// Sets a status condition. Its transition time changes only when its status changes, as the API
/// conventions require.
pub fn set_condition(object: &mut Value, mut condition: Value, now: Timestamp) {
    let kind = text(&condition, "/type").to_owned();
    let mut all = list(object, "/status/conditions").to_vec();
    let at = all.iter().position(|condition| text(condition, "/type") == kind);
    let since = match at.map(|at| &all[at]) {
        Some(old) if old.get("status") == condition.get("status") => {
            text(old, "/lastTransitionTime").to_owned()
        }
        Some(_) | None => seconds(now),
    };
    set(&mut condition, &["lastTransitionTime"], since);
    match at {
        Some(at) => all[at] = condition,
        None => all.push(condition),
    }
    set(object, &["status", "conditions"], all);
}

/// Removes the status condition of a type.
pub fn remove_condition(object: &mut Value, kind: &str) {
    let remaining: Vec<Value> = list(object, "/status/conditions")
        .iter()
        .filter(|condition| text(condition, "/type") != kind)
        .cloned()
        .collect();
    set(object, &["status", "conditions"], remaining);
}

/// Formats a time in whole seconds, like `metav1.Time`.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats a time in microseconds, like `metav1.MicroTime`.
pub fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Formats a time in nanoseconds, like the kubelet's log timestamps.
pub fn nanos(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// Parses the time at a JSON pointer.
pub fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}
