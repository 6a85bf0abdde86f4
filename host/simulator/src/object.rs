//! Reading and writing single fields of objects, which stay JSON so that unknown fields survive.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The text at a JSON pointer, empty when there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The number at a JSON pointer, zero when there is none.
pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// The list at a JSON pointer, empty when there is none.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A label's value.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

/// An annotation's value.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// Sets the field reached by `path`, making the maps on the way.
pub fn set(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    let mut at = object;
    for step in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = at.as_object_mut().expect("made a map just above").entry(*step).or_insert(Value::Null);
    }
    *at = value.into();
}

/// Removes the field reached by `path`.
pub fn unset(object: &mut Value, path: &[&str]) {
    let Some((last, way)) = path.split_last() else { return };
    let mut at = object;
    for step in way {
        match at.get_mut(*step) {
            Some(next) => at = next,
            None => return,
        }
    }
    if let Some(map) = at.as_object_mut() {
        map.shift_remove(*last);
    }
}

/// Whether deletion has been asked for.
pub fn is_terminating(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// Whether the object carries `finalizer`.
pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    list(object, "/metadata/finalizers").iter().any(|one| one == finalizer)
}

/// Adds a finalizer once.
pub fn add_finalizer(object: &mut Value, finalizer: &str) {
    if !has_finalizer(object, finalizer) {
        let mut all = list(object, "/metadata/finalizers").to_vec();
        all.push(finalizer.into());
        set(object, &["metadata", "finalizers"], all);
    }
}

/// Removes the finalizers that `gone` names.
pub fn remove_finalizers(object: &mut Value, gone: impl Fn(&str) -> bool) {
    let kept: Vec<Value> = list(object, "/metadata/finalizers")
        .iter()
        .filter(|one| !gone(one.as_str().unwrap_or("")))
        .cloned()
        .collect();
    if kept.is_empty() {
        unset(object, &["metadata", "finalizers"]);
    } else {
        set(object, &["metadata", "finalizers"], kept);
    }
}

/// Whether `uid` is among the object's owners.
pub fn is_owned_by(object: &Value, uid: &str) -> bool {
    list(object, "/metadata/ownerReferences").iter().any(|owner| text(owner, "/uid") == uid)
}

/// The condition of one type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|one| text(one, "/type") == kind)
}

/// Sets a condition; its transition time moves only with its status, as the API conventions ask.
pub fn set_condition(object: &mut Value, mut condition: Value, now: Timestamp) {
    let kind = text(&condition, "/type").to_owned();
    let mut all = list(object, "/status/conditions").to_vec();
    let at = all.iter().position(|one| text(one, "/type") == kind);
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

/// Removes a condition.
pub fn remove_condition(object: &mut Value, kind: &str) {
    let kept: Vec<Value> = list(object, "/status/conditions")
        .iter()
        .filter(|one| text(one, "/type") != kind)
        .cloned()
        .collect();
    set(object, &["status", "conditions"], kept);
}

/// The time in whole seconds, as `metav1.Time` is written.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time in microseconds, as `metav1.MicroTime` is written.
pub fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The time in nanoseconds, as a kubelet stamps log lines.
pub fn nanos(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// The time at a JSON pointer.
pub fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}
