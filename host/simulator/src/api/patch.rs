//! JSON merge patch, strategic merge patch, and JSON patch, as pure functions.

use serde_json::{Map, Value};

use super::ApiError;
use crate::object::text;

/// Applies a JSON merge patch (RFC 7396): null removes a field.
pub fn merge(object: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let into = object.as_object_mut().expect("is a map");
    for (key, value) in patch {
        if value.is_null() {
            into.shift_remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Applies a strategic merge patch: well-known lists are merged by the key of their items.
pub fn strategic(object: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if patch.get("$patch").is_some_and(|directive| directive == "replace") || !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let into = object.as_object_mut().expect("is a map");
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        if value.is_null() {
            into.shift_remove(key);
            continue;
        }
        let slot = into.entry(key.clone()).or_insert(Value::Null);
        match (merge_key(key), value.as_array()) {
            (Some(merge_key), Some(items)) => strategic_list(slot, items, merge_key),
            (Some(_) | None, Some(_) | None) => strategic(slot, value),
        }
    }
}

/// Returns the field that identifies items of a well-known list; empty for lists of scalars.
fn merge_key(list: &str) -> Option<&'static str> {
    match list {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets" => Some("name"),
        "ports" => Some("containerPort"),
        "volumeMounts" => Some("mountPath"),
        "conditions" => Some("type"),
        "ownerReferences" => Some("uid"),
        "finalizers" => Some(""),
        _ => None,
    }
}

fn strategic_list(slot: &mut Value, items: &[Value], key: &str) {
    let mut all = slot.as_array().cloned().unwrap_or_default();
    let pointer = format!("/{key}");
    for item in items {
        let same = |other: &Value| {
            if key.is_empty() {
                other == item
            } else {
                other.pointer(&pointer) == item.pointer(&pointer)
            }
        };
        let at = all.iter().position(same);
        match (at, text(item, "/$patch")) {
            (Some(at), "delete") => drop(all.remove(at)),
            (None, "delete") => {}
            (Some(at), _) => strategic(&mut all[at], item),
            (None, _) => all.push(item.clone()),
        }
    }
    *slot = Value::Array(all);
}

/// Applies a JSON patch (RFC 6902).
pub fn json(object: &mut Value, operations: &Value) -> Result<(), ApiError> {
    let operations = operations
        .as_array()
        .ok_or_else(|| ApiError::new(400, "a JSON patch is a list of operations"))?;
    for operation in operations {
        let path = text(operation, "/path");
        let value = || operation.get("value").cloned().unwrap_or(Value::Null);
        match text(operation, "/op") {
            "test" if object.pointer(path) == operation.get("value") => {}
            "test" => return Err(ApiError::new(422, format!("testing value {path} failed"))),
            "add" => insert(object, path, value(), true)?,
            "replace" => insert(object, path, value(), false)?,
            "remove" => drop(remove(object, path)?),
            "copy" | "move" => {
                let from = text(operation, "/from");
                let moved = if text(operation, "/op") == "move" {
                    remove(object, from)?
                } else {
                    object.pointer(from).cloned().ok_or_else(|| no_value_at(from))?
                };
                insert(object, path, moved, true)?;
            }
            other => {
                return Err(ApiError::new(400, format!("unknown JSON patch operation {other:?}")));
            }
        }
    }
    Ok(())
}

fn no_value_at(path: &str) -> ApiError {
    ApiError::new(422, format!("the server rejected our request: no value at {path}"))
}

fn parent<'a>(object: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), ApiError> {
    let (parent_path, last) = path.rsplit_once('/').ok_or_else(|| no_value_at(path))?;
    let parent = object.pointer_mut(parent_path).ok_or_else(|| no_value_at(path))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn insert(object: &mut Value, path: &str, value: Value, add: bool) -> Result<(), ApiError> {
    let (parent, last) = parent(object, path)?;
    match parent {
        Value::Object(map) if add || map.contains_key(&last) => {
            map.insert(last, value);
        }
        Value::Array(list) if add && last == "-" => list.push(value),
        Value::Array(list) => {
            let at = last.parse::<usize>().ok().filter(|at| *at < list.len() + usize::from(add));
            let at = at.ok_or_else(|| no_value_at(path))?;
            if add {
                list.insert(at, value);
            } else {
                list[at] = value;
            }
        }
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(no_value_at(path));
        }
    }
    Ok(())
}

fn remove(object: &mut Value, path: &str) -> Result<Value, ApiError> {
    let (parent, last) = parent(object, path)?;
    let removed = match parent {
        Value::Object(map) => map.shift_remove(&last),
        Value::Array(list) => {
            last.parse::<usize>().ok().filter(|at| *at < list.len()).map(|at| list.remove(at))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    removed.ok_or_else(|| no_value_at(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_replaces_lists_and_null_removes() {
        let mut object = json!({"spec": {"suspend": true, "items": [1, 2]}});
        merge(&mut object, &json!({"spec": {"suspend": null, "items": [3]}}));
        assert_eq!(object, json!({"spec": {"items": [3]}}));
    }

    #[test]
    fn a_strategic_patch_merges_containers_by_name() {
        let mut object =
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
        strategic(
            &mut object,
            &json!({
                "containers": [{"name": "b", "image": "2"}, {"name": "a", "$patch": "delete"}],
            }),
        );
        assert_eq!(object, json!({"containers": [{"name": "b", "image": "2"}]}));
    }

    #[test]
    fn a_json_patch_with_a_failing_test_is_rejected() {
        let mut object = json!({"metadata": {"labels": {"a/b": "1"}}});
        let patch = json!([{"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
            {"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"}]);
        assert_eq!(json(&mut object, &patch), Ok(()));
        assert_eq!(json(&mut object, &patch).expect_err("the value has changed").code, 422);
        assert_eq!(object["metadata"]["labels"]["a/b"], "2");
    }
}
