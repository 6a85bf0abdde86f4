//! Field ownership (`metadata.managedFields`) and server-side apply.
//! Lists are owned as a whole, and status is not tracked.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::object::{list, seconds, set, text, unset};

type Path = Vec<String>;

/// The error of an unforced apply that would change a field of another manager.
#[derive(Debug)]
pub struct Conflict {
    pub manager: String,
    /// The field path, separated by dots.
    pub field: String,
}

/// Records in `object` that `manager` changed it by create, update, or patch.
pub fn record_update(before: Option<&Value>, object: &mut Value, manager: &str, now: Timestamp) {
    let (changed, removed) = difference(before.unwrap_or(&Value::Null), object);
    if changed.is_empty() && removed.is_empty() {
        return;
    }
    let mut entries = entries(object);
    for entry in &mut entries {
        if entry.manager != manager || entry.operation != "Update" {
            entry.fields.retain(|field| !changed.contains(field));
        }
        entry.fields.retain(|field| !removed.iter().any(|gone| field.starts_with(gone)));
    }
    if !changed.is_empty() {
        entry_mut(&mut entries, manager, "Update", object, now).fields.extend(changed);
    }
    write_entries(object, entries);
}

/// Returns the result of applying `declared` to `live` as `manager`.
///
/// With `adopt_kubectl`, `manager` first takes over the fields of `kubectl*` managers, so that
/// those which are not declared are removed. kustomize-controller does this before each apply.
///
/// # Errors
/// Returns the first field that another manager owns, unless `force` is set.
pub fn apply(
    live: Option<&Value>,
    declared: &Value,
    manager: &str,
    adopt_kubectl: bool,
    force: bool,
    now: Timestamp,
) -> Result<Value, Conflict> {
    let (desired, _) = difference(&Value::Null, declared);
    let mut object = live.cloned().unwrap_or_else(|| declared.clone());
    unset(&mut object, &["metadata", "managedFields"]);
    let mut entries = live.map(entries).unwrap_or_default();

    let mut owned: BTreeSet<Path> = BTreeSet::new();
    entries.retain(|entry| {
        let ours = entry.manager == manager && entry.operation == "Apply";
        let adopted = adopt_kubectl
            && (entry.manager.starts_with("kubectl") || entry.manager == "before-first-apply");
        if ours || adopted {
            owned.extend(entry.fields.iter().cloned());
        }
        ours || !adopted
    });

    for field in owned.difference(&desired) {
        let shared = entries.iter().any(|entry| {
            (entry.manager != manager || entry.operation != "Apply") && entry.fields.contains(field)
        });
        if !shared && !desired.iter().any(|path| path.starts_with(field)) {
            let steps: Vec<&str> = field.iter().map(String::as_str).collect();
            unset(&mut object, &steps);
        }
    }
    let before = object.clone();
    merge(&mut object, declared);
    let (changed, _) = difference(&before, &object);
    for entry in &mut entries {
        if entry.manager == manager && entry.operation == "Apply" {
            continue;
        }
        if let Some(field) =
            entry.fields.iter().find(|field| changed.contains(*field)).filter(|_| !force)
        {
            return Err(Conflict {
                manager: entry.manager.clone(),
                field: format!(".{}", field.join(".")),
            });
        }
        entry.fields.retain(|field| !changed.contains(field));
    }
    let known = entries.iter().any(|entry| entry.manager == manager && entry.operation == "Apply");
    let ours = entry_mut(&mut entries, manager, "Apply", &object, now);
    if !known || ours.fields != desired {
        ours.fields = desired;
        ours.time = seconds(now);
    }
    write_entries(&mut object, entries);
    Ok(object)
}

struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    time: String,
    subresource: Option<String>,
    fields: BTreeSet<Path>,
}

fn entries(object: &Value) -> Vec<Entry> {
    list(object, "/metadata/managedFields")
        .iter()
        .map(|entry| {
            let mut fields = BTreeSet::new();
            if let Some(tree) = entry.get("fieldsV1") {
                collect_leaves(tree, &mut Vec::new(), &mut fields);
            }
            Entry {
                manager: text(entry, "/manager").to_owned(),
                operation: text(entry, "/operation").to_owned(),
                api_version: text(entry, "/apiVersion").to_owned(),
                time: text(entry, "/time").to_owned(),
                subresource: entry.get("subresource").and_then(Value::as_str).map(str::to_owned),
                fields,
            }
        })
        .collect()
}

fn entry_mut<'a>(
    entries: &'a mut Vec<Entry>,
    manager: &str,
    operation: &str,
    object: &Value,
    now: Timestamp,
) -> &'a mut Entry {
    let at = entries.iter().position(|entry| {
        entry.manager == manager && entry.operation == operation && entry.subresource.is_none()
    });
    let at = at.unwrap_or_else(|| {
        entries.push(Entry {
            manager: manager.to_owned(),
            operation: operation.to_owned(),
            api_version: String::new(),
            time: String::new(),
            subresource: None,
            fields: BTreeSet::new(),
        });
        entries.len() - 1
    });
    let entry = &mut entries[at];
    entry.api_version = text(object, "/apiVersion").to_owned();
    if operation == "Update" {
        entry.time = seconds(now);
    }
    entry
}

fn write_entries(object: &mut Value, entries: Vec<Entry>) {
    let written: Vec<Value> = entries
        .into_iter()
        .filter(|entry| !entry.fields.is_empty() || entry.subresource.is_some())
        .map(|entry| {
            let mut tree = json!({});
            for field in &entry.fields {
                let steps: Vec<String> = field.iter().map(|step| format!("f:{step}")).collect();
                let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
                set(&mut tree, &steps, json!({}));
            }
            let mut written = json!({
                "manager": entry.manager, "operation": entry.operation,
                "apiVersion": entry.api_version, "time": entry.time,
                "fieldsType": "FieldsV1", "fieldsV1": tree,
            });
            if let Some(subresource) = entry.subresource {
                written["subresource"] = subresource.into();
            }
            written
        })
        .collect();
    set(object, &["metadata", "managedFields"], written);
}

fn collect_leaves(tree: &Value, path: &mut Path, into: &mut BTreeSet<Path>) {
    let Some(map) = tree.as_object() else { return };
    if map.keys().all(|key| key == ".") && !path.is_empty() {
        into.insert(path.clone());
        return;
    }
    for (key, subtree) in map {
        let Some(step) = key.strip_prefix("f:") else { continue };
        path.push(step.to_owned());
        collect_leaves(subtree, path, into);
        path.pop();
    }
}

/// Returns the tracked fields that `after` set or changed, and those that it no longer has.
fn difference(before: &Value, after: &Value) -> (BTreeSet<Path>, BTreeSet<Path>) {
    let (mut changed, mut removed) = (BTreeSet::new(), BTreeSet::new());
    compare(Some(&tracked(before)), &tracked(after), &mut Vec::new(), &mut changed, &mut removed);
    (changed, removed)
}

fn compare(
    before: Option<&Value>,
    after: &Value,
    path: &mut Path,
    changed: &mut BTreeSet<Path>,
    removed: &mut BTreeSet<Path>,
) {
    match (before.and_then(Value::as_object), after.as_object()) {
        (old, Some(new)) if !new.is_empty() => {
            let none = Map::new();
            let old = old.unwrap_or(&none);
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                let mut gone = path.clone();
                gone.push(key.clone());
                removed.insert(gone);
            }
            for (key, value) in new {
                path.push(key.clone());
                compare(old.get(key), value, path, changed, removed);
                path.pop();
            }
        }
        (Some(_) | None, Some(_) | None) => {
            if before != Some(after) && !path.is_empty() {
                changed.insert(path.clone());
            }
        }
    }
}

/// Returns the part of an object whose field ownership is tracked.
fn tracked(object: &Value) -> Value {
    let mut part = Map::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "status" | "metadata") {
            part.insert(key.clone(), value.clone());
        }
    }
    let mut metadata = Map::new();
    for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
        if let Some(value) = object.pointer("/metadata").and_then(|metadata| metadata.get(key)) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    if !metadata.is_empty() {
        part.insert("metadata".to_owned(), Value::Object(metadata));
    }
    Value::Object(part)
}

/// Merges maps recursively and replaces everything else.
fn merge(into: &mut Value, from: &Value) {
    match (into.as_object_mut(), from.as_object()) {
        (Some(into), Some(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Some(_) | None, Some(_) | None) => *into = from.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_787_000_000 + second).expect("time is in range")
    }

    fn declared_kustomization() -> Value {
        json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "plex"}, "spec": {"interval": "1h"},
        })
    }

    fn kustomization() -> Value {
        let declared = declared_kustomization();
        apply(None, &declared, "kustomize-controller", true, true, at(0)).expect("no conflict")
    }

    fn suspended_by(manager: &str) -> Value {
        let before = kustomization();
        let mut after = before.clone();
        after["spec"]["suspend"] = true.into();
        record_update(Some(&before), &mut after, manager, at(1));
        after
    }

    #[test]
    fn a_parent_reverts_a_suspension_by_kubectl_but_not_by_other_managers() {
        let declared = declared_kustomization();
        let reapply = |live: &Value| {
            apply(Some(live), &declared, "kustomize-controller", true, true, at(2)).expect("forced")
        };
        assert_eq!(reapply(&suspended_by("kubectl-patch"))["spec"].get("suspend"), None);
        assert_eq!(reapply(&suspended_by("salve"))["spec"]["suspend"], true);
        assert_eq!(reapply(&suspended_by("salve")), suspended_by("salve"));
    }

    #[test]
    fn an_unforced_apply_conflicts_with_a_field_of_another_manager() {
        let declared = json!({"spec": {"interval": "5m"}});
        let conflict = apply(Some(&kustomization()), &declared, "other", false, false, at(3))
            .expect_err("owned");
        assert_eq!(
            (conflict.manager.as_str(), conflict.field.as_str()),
            ("kustomize-controller", ".spec.interval")
        );
    }

    #[test]
    fn a_removed_field_has_no_manager() {
        let before = suspended_by("salve");
        let mut after = before.clone();
        unset(&mut after, &["spec", "suspend"]);
        record_update(Some(&before), &mut after, "salve", at(4));
        assert!(!after["metadata"]["managedFields"].to_string().contains("suspend"));
    }
}
