//! kustomize-controller: applies what Git declares, at an interval, after spec changes, and on
//! request. It ignores whether the source is suspended, and a suspension does not interrupt a
//! running reconciliation.

use std::time::Duration;

use serde_json::{Value, json};

use super::Task;
use crate::fields;
use crate::kind::Kind;
use crate::object::{
    annotation, condition, has_finalizer, is_terminating, label, number, remove_condition,
    remove_finalizers, set, set_condition, text,
};
use crate::random::hash_below;
use crate::store::{Change, ChangeType, Key};
use crate::world::World;

/// The annotation that requests a reconciliation from a Flux controller.
pub const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// The field manager of kustomize-controller.
pub const MANAGER: &str = "kustomize-controller";
const FINALIZER: &str = "finalizers.fluxcd.io";
const BUILD_TIME: Duration = Duration::from_millis(1_500);

/// Schedules a Kustomization that is new, or whose spec or reconcile request changed.
pub fn on_change(world: &mut World, change: &Change) {
    let has_changed = |pointer: &str| {
        change
            .previous
            .as_ref()
            .is_none_or(|previous| previous.pointer(pointer) != change.object.pointer(pointer))
    };
    let requested =
        change.previous.as_ref().and_then(|previous| annotation(previous, REQUESTED_AT))
            != annotation(&change.object, REQUESTED_AT);
    if has_changed("/metadata/generation") || requested {
        world.schedule_once(super::WATCH_LATENCY, Task::Kustomize(change.key.clone()));
    }
    if change.change_type == ChangeType::Added {
        schedule_interval(world, &change.key, &change.object);
    }
}

/// Schedules the interval of a Kustomization at an arbitrary phase, as if the controller had been
/// running for a long time.
pub fn schedule_interval(world: &mut World, key: &Key, object: &Value) {
    let interval = interval_of(object);
    let phase = hash_below(&key.to_string(), interval.as_secs().saturating_sub(60)) + 60;
    world.schedule_once(Duration::from_secs(phase), Task::KustomizeInterval(key.clone()));
}

/// Reconciles a Kustomization after its interval.
pub fn on_interval(world: &mut World, key: &Key) {
    let Some(object) = world.get(key) else { return };
    world.schedule(interval_of(&object), Task::KustomizeInterval(key.clone()));
    reconcile(world, key);
}

/// Starts a reconciliation.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(object) = world.get(key) else { return };
    if is_terminating(&object) {
        finish_deletion(world, key, &object);
        return;
    }
    let (now, generation) = (world.now, number(&object, "/metadata/generation"));
    if object.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        world.update(key, |object| finalize_status(object, generation));
        return;
    }
    if condition(&object, "Reconciling").is_some() {
        // Already reconciling: process the change afterwards.
        world.schedule_once(BUILD_TIME, Task::Kustomize(key.clone()));
        return;
    }
    world.update(key, |object| {
        let progressing = |condition_type: &str, status: &str| {
            json!({
                "type": condition_type, "status": status, "reason": "Progressing",
                "observedGeneration": generation, "message": "Reconciliation in progress",
            })
        };
        set_condition(object, progressing("Reconciling", "True"), now);
        set_condition(object, progressing("Ready", "Unknown"), now);
    });
    world.schedule(BUILD_TIME, Task::KustomizeApply(key.clone(), generation));
}

/// Applies what Git declares and updates the status.
pub fn apply(world: &mut World, key: &Key, generation: i64) {
    let Some(object) = world.get(key) else { return };
    let mut inventory = Vec::new();
    for declared in world.git.declared(key) {
        let Some(kind) = kind_of(&declared) else { continue };
        inventory.push(inventory_entry(kind, &declared));
        apply_one(world, kind, declared, MANAGER);
    }
    let (now, revision) = (world.now, world.git.revision.clone());
    world.update(key, |object| {
        remove_condition(object, "Reconciling");
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "ReconciliationSucceeded",
            "observedGeneration": generation, "message": format!("Applied revision: {revision}"),
        });
        set_condition(object, ready, now);
        set(object, &["status", "inventory"], json!({"entries": inventory}));
        for field in ["lastAppliedRevision", "lastAttemptedRevision"] {
            set(object, &["status", field], revision.clone());
        }
        finalize_status(object, generation);
    });
    if number(&object, "/metadata/generation") != generation {
        world.schedule_once(super::WATCH_LATENCY, Task::Kustomize(key.clone()));
    }
}

/// Applies one declared object with server-side apply, subject to Flux's opt-out labels and
/// annotations.
pub fn apply_one(world: &mut World, kind: &'static Kind, declared: Value, manager: &str) {
    let key =
        Key::new(kind, text(&declared, "/metadata/namespace"), text(&declared, "/metadata/name"));
    let (live, now) = (world.get(&key), world.now);
    let has_option = |object: &Value, option: &str, value: &str| {
        let name = format!("kustomize.toolkit.fluxcd.io/{option}");
        let found = label(object, &name).or_else(|| annotation(object, &name));
        found.is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    let either_has = |option: &str, value: &str| {
        has_option(&declared, option, value)
            || live.as_ref().is_some_and(|live| has_option(live, option, value))
    };
    let skip_existing = live.is_some() && has_option(&declared, "ssa", "IfNotPresent");
    if skip_existing || either_has("reconcile", "disabled") || either_has("ssa", "Ignore") {
        return;
    }
    let adopt_kubectl = !either_has("ssa", "Merge");
    let Ok(applied) = fields::apply(live.as_deref(), &declared, manager, adopt_kubectl, true, now)
    else {
        return;
    };
    if live.is_some() {
        world.store.put(&key, applied);
    } else {
        world.create(kind, applied);
    }
}

/// Returns the kind of an object, if it is served.
pub fn kind_of(declared: &Value) -> Option<&'static Kind> {
    let group = text(declared, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    Kind::find(group, text(declared, "/kind"))
}

/// Returns the entry of an object in a Kustomization's inventory.
pub fn inventory_entry(kind: &Kind, object: &Value) -> Value {
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    json!({"id": format!("{namespace}_{name}_{}_{}", kind.group, kind.kind), "v": kind.version})
}

/// Updates the status at the end of every reconciliation, also of a suspended Kustomization.
fn finalize_status(object: &mut Value, generation: i64) {
    if let Some(requested) = annotation(object, REQUESTED_AT).map(str::to_owned) {
        set(object, &["status", "lastHandledReconcileAt"], requested);
    }
    if condition(object, "Ready").is_some_and(|ready| text(ready, "/status") == "True") {
        set(object, &["status", "observedGeneration"], generation);
    }
}

/// Finishes the deletion of a Kustomization: prunes its objects, unless it is suspended.
fn finish_deletion(world: &mut World, key: &Key, object: &Value) {
    let suspended = object.pointer("/spec/suspend") == Some(&Value::Bool(true));
    let prune = object.pointer("/spec/prune") == Some(&Value::Bool(true));
    if has_finalizer(object, FINALIZER) && prune && !suspended {
        for declared in world.git.declared(key) {
            if let Some(kind) = kind_of(&declared) {
                let pruned = Key::new(
                    kind,
                    text(&declared, "/metadata/namespace"),
                    text(&declared, "/metadata/name"),
                );
                world.delete(&pruned);
            }
        }
    }
    world.update(key, |object| remove_finalizers(object, |finalizer| finalizer == FINALIZER));
}

fn interval_of(object: &Value) -> Duration {
    duration(text(object, "/spec/interval")).unwrap_or(Duration::from_secs(600))
}

/// Parses a Go duration of whole hours, minutes, and seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut digits) = (0u64, String::new());
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' => {
                digits.push(letter);
                continue;
            }
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total += digits.parse::<u64>().ok()? * unit;
        digits.clear();
    }
    (total > 0).then(|| Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind;
    use crate::object::list;
    use crate::scenario::{Incident, Scenario};

    /// Returns the Kustomizations that list an object in their inventory.
    fn owners(world: &World, entry: &Value) -> Vec<Key> {
        world
            .all(kind::KUSTOMIZATIONS)
            .into_iter()
            .filter(|(_, object)| list(object, "/status/inventory/entries").contains(entry))
            .map(|(key, _)| key)
            .collect()
    }

    #[test]
    fn every_declared_replication_source_is_in_the_inventory_of_its_owner() {
        let world = Scenario::built_in(Incident::Playbook).build().expect("it is valid");
        for (owner, _) in world.all(kind::KUSTOMIZATIONS) {
            for declared in world.git.declared(&owner) {
                let kind = kind_of(&declared).expect("kind is served");
                assert_eq!(
                    owners(&world, &inventory_entry(kind, &declared)),
                    std::slice::from_ref(&owner),
                    "{declared}"
                );
            }
        }
    }

    #[test]
    fn go_durations_are_parsed() {
        assert_eq!(duration("1h0m0s"), Some(Duration::from_secs(3_600)));
        assert_eq!(duration("10m"), Some(Duration::from_secs(600)));
        assert_eq!(duration("soon"), None);
    }
}
