//! Field ownership (`metadata.managedFields`): who last set what, and server-side apply.
//! Lists are owned as a whole, and status is not tracked.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::object::{list, seconds, set, text, unset};

type Path = Vec<String>;

/// Another manager owns a field that an unforced apply wanted to change.
#[derive(Debug)]
pub struct Conflict {
    /// The owner.
    pub manager: String,
    /// The field, dotted.
    pub field: String,
}

/// Notes that `manager` changed `object` from what it was before, by create, update or patch.
pub fn updated(before: Option<&Value>, object: &mut Value, manager: &str, now: Timestamp) {
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
        entry_of(&mut entries, manager, "Update", object, now).fields.extend(changed);
    }
    write(object, entries);
}

/// What an apply of `declared` by `manager` makes of `live`.
///
/// With `absorb`, the fields of `kubectl*` managers become the applier's first, so that those Git does not
/// declare are removed: this is what kustomize-controller does before each apply.
pub fn apply(
    live: Option<&Value>,
    declared: &Value,
    manager: &str,
    absorb: bool,
    force: bool,
    now: Timestamp,
) -> Result<Value, Conflict> {
    let (wanted, _) = difference(&Value::Null, declared);
    let mut object = live.cloned().unwrap_or_else(|| declared.clone());
    unset(&mut object, &["metadata", "managedFields"]);
    let mut entries = live.map(entries).unwrap_or_default();

    let mut owned: BTreeSet<Path> = BTreeSet::new();
    entries.retain(|entry| {
        let ours = entry.manager == manager && entry.operation == "Apply";
        let absorbed = absorb
            && (entry.manager.starts_with("kubectl") || entry.manager == "before-first-apply");
        if ours || absorbed {
            owned.extend(entry.fields.iter().cloned());
        }
        ours || !absorbed
    });

    for field in owned.difference(&wanted) {
        let shared = entries.iter().any(|entry| {
            (entry.manager != manager || entry.operation != "Apply") && entry.fields.contains(field)
        });
        if !shared && !wanted.iter().any(|one| one.starts_with(field)) {
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
    let ours = entry_of(&mut entries, manager, "Apply", &object, now);
    if !known || ours.fields != wanted {
        ours.fields = wanted;
        ours.time = seconds(now);
    }
    write(&mut object, entries);
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
                leaves(tree, &mut Vec::new(), &mut fields);
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

fn entry_of<'a>(
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

fn write(object: &mut Value, entries: Vec<Entry>) {
    let kept: Vec<Value> = entries
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
                "manager": entry.manager, "operation": entry.operation, "apiVersion": entry.api_version,
                "time": entry.time, "fieldsType": "FieldsV1", "fieldsV1": tree,
            });
            if let Some(subresource) = entry.subresource {
                written["subresource"] = subresource.into();
            }
            written
        })
        .collect();
    set(object, &["metadata", "managedFields"], kept);
}

fn leaves(tree: &Value, way: &mut Path, into: &mut BTreeSet<Path>) {
    let Some(map) = tree.as_object() else { return };
    if map.keys().all(|key| key == ".") && !way.is_empty() {
        into.insert(way.clone());
        return;
    }
    for (key, below) in map {
        let Some(step) = key.strip_prefix("f:") else { continue };
        way.push(step.to_owned());
        leaves(below, way, into);
        way.pop();
    }
}

/// The tracked fields that `after` set or changed, and those it no longer has.
fn difference(before: &Value, after: &Value) -> (BTreeSet<Path>, BTreeSet<Path>) {
    let (mut changed, mut removed) = (BTreeSet::new(), BTreeSet::new());
    compare(Some(&tracked(before)), &tracked(after), &mut Vec::new(), &mut changed, &mut removed);
    (changed, removed)
}

fn compare(
    before: Option<&Value>,
    after: &Value,
    way: &mut Path,
    changed: &mut BTreeSet<Path>,
    removed: &mut BTreeSet<Path>,
) {
    match (before.and_then(Value::as_object), after.as_object()) {
        (old, Some(new)) if !new.is_empty() => {
            let none = Map::new();
            let old = old.unwrap_or(&none);
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                let mut gone = way.clone();
                gone.push(key.clone());
                removed.insert(gone);
            }
            for (key, value) in new {
                way.push(key.clone());
                compare(old.get(key), value, way, changed, removed);
                way.pop();
            }
        }
        (Some(_) | None, Some(_) | None) => {
            if before != Some(after) && !way.is_empty() {
                changed.insert(way.clone());
            }
        }
    }
}

/// The part of an object whose ownership is tracked.
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

/// Merges maps deeply; everything else is replaced.
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
        Timestamp::from_second(1_787_000_000 + second).expect("a time in range")
    }

    fn kustomization() -> Value {
        let declared = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "plex"}, "spec": {"interval": "1h"}});
        apply(None, &declared, "kustomize-controller", true, true, at(0))
            .expect("nobody else owns it")
    }

    fn suspended_by(manager: &str) -> Value {
        let before = kustomization();
        let mut after = before.clone();
        after["spec"]["suspend"] = true.into();
        updated(Some(&before), &mut after, manager, at(1));
        after
    }

    #[test]
    fn a_parent_takes_back_what_kubectl_suspended_and_leaves_what_others_did() {
        let declared = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "plex"}, "spec": {"interval": "1h"}});
        let reapply = |live: &Value| {
            apply(Some(live), &declared, "kustomize-controller", true, true, at(2)).expect("forced")
        };
        assert_eq!(reapply(&suspended_by("kubectl-patch"))["spec"].get("suspend"), None);
        assert_eq!(reapply(&suspended_by("salve"))["spec"]["suspend"], true);
        assert_eq!(reapply(&suspended_by("salve")), suspended_by("salve"));
    }

    #[test]
    fn an_unforced_apply_refuses_to_change_anothers_field() {
        let declared = json!({"spec": {"interval": "5m"}});
        let refused = apply(Some(&kustomization()), &declared, "other", false, false, at(3))
            .expect_err("owned");
        assert_eq!(
            (refused.manager.as_str(), refused.field.as_str()),
            ("kustomize-controller", ".spec.interval")
        );
    }

    #[test]
    fn a_removed_field_is_nobodys() {
        let before = suspended_by("salve");
        let mut after = before.clone();
        unset(&mut after, &["spec", "suspend"]);
        updated(Some(&before), &mut after, "salve", at(4));
        assert!(!after["metadata"]["managedFields"].to_string().contains("suspend"));
    }
}
