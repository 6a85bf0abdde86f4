//! kustomize-controller: applies what Git declares, on its interval, on a change of spec, and on request.
//! It never reads whether the source is suspended, and a suspension never interrupts what has begun.

use std::time::Duration;

use serde_json::{Value, json};

use super::Wake;
use crate::fields;
use crate::kind::Kind;
use crate::object::{
    annotation, condition, has_finalizer, is_terminating, label, number, remove_condition,
    remove_finalizers, set, set_condition, text,
};
use crate::random::spread;
use crate::store::{Change, Key, What};
use crate::world::World;

/// The annotation that asks a Flux controller to reconcile now.
pub const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// The manager of the fields that Flux applies.
pub const MANAGER: &str = "kustomize-controller";
const FINALIZER: &str = "finalizers.fluxcd.io";
const BUILD_TIME: Duration = Duration::from_millis(1_500);

/// Wakes the controller when a Kustomization is new, or its spec or the request to reconcile has changed.
pub fn observe(world: &mut World, change: &Change) {
    let moved = |pointer: &str| {
        change
            .observed
            .as_ref()
            .is_none_or(|observed| observed.pointer(pointer) != change.object.pointer(pointer))
    };
    let requested =
        change.observed.as_ref().and_then(|observed| annotation(observed, REQUESTED_AT))
            != annotation(&change.object, REQUESTED_AT);
    if moved("/metadata/generation") || requested {
        world.wake_once(super::NOTICE, Wake::Kustomize(change.key.clone()));
    }
    if change.what == What::Added {
        schedule(world, &change.key, &change.object);
    }
}

/// Begins the interval of a Kustomization somewhere within it, as a controller that has run for long.
pub fn schedule(world: &mut World, key: &Key, object: &Value) {
    let interval = interval_of(object);
    let first = spread(&key.to_string(), interval.as_secs().saturating_sub(60)) + 60;
    world.wake_once(Duration::from_secs(first), Wake::KustomizeInterval(key.clone()));
}

/// Its interval has passed.
pub fn interval(world: &mut World, key: &Key) {
    let Some(object) = world.get(key) else { return };
    world.wake(interval_of(&object), Wake::KustomizeInterval(key.clone()));
    reconcile(world, key);
}

/// Begins a reconciliation.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(object) = world.get(key) else { return };
    if is_terminating(&object) {
        finish_deletion(world, key, &object);
        return;
    }
    let (now, generation) = (world.now, number(&object, "/metadata/generation"));
    if object.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        world.amend(key, |object| finalize_status(object, generation));
        return;
    }
    if condition(&object, "Reconciling").is_some() {
        // One at a time; what has changed meanwhile is looked at afterwards.
        world.wake_once(BUILD_TIME, Wake::Kustomize(key.clone()));
        return;
    }
    world.amend(key, |object| {
        let mark = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": "Progressing", "observedGeneration": generation,
                "message": "Reconciliation in progress"})
        };
        set_condition(object, mark("Reconciling", "True"), now);
        set_condition(object, mark("Ready", "Unknown"), now);
    });
    world.wake(BUILD_TIME, Wake::KustomizeApply(key.clone(), generation));
}

/// Applies what Git declares, and says so in the status.
pub fn apply(world: &mut World, key: &Key, generation: i64) {
    let Some(object) = world.get(key) else { return };
    let mut inventory = Vec::new();
    for declared in world.git.declared(key) {
        let Some(kind) = kind_of(&declared) else { continue };
        inventory.push(inventory_entry(kind, &declared));
        apply_one(world, kind, declared, MANAGER);
    }
    let (now, revision) = (world.now, world.git.revision.clone());
    world.amend(key, |object| {
        remove_condition(object, "Reconciling");
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "ReconciliationSucceeded", "observedGeneration": generation,
            "message": format!("Applied revision: {revision}"),
        });
        set_condition(object, ready, now);
        set(object, &["status", "inventory"], json!({"entries": inventory}));
        for field in ["lastAppliedRevision", "lastAttemptedRevision"] {
            set(object, &["status", field], revision.clone());
        }
        finalize_status(object, generation);
    });
    if number(&object, "/metadata/generation") != generation {
        world.wake_once(super::NOTICE, Wake::Kustomize(key.clone()));
    }
}

/// Server-side applies one declared object, creating it when it is not there.
pub fn apply_one(world: &mut World, kind: &'static Kind, declared: Value, manager: &str) {
    let key =
        Key::new(kind, text(&declared, "/metadata/namespace"), text(&declared, "/metadata/name"));
    let (live, now) = (world.get(&key), world.now);
    let opted_out = |object: &Value, what: &str, value: &str| {
        let name = format!("kustomize.toolkit.fluxcd.io/{what}");
        let given = label(object, &name).or_else(|| annotation(object, &name));
        given.is_some_and(|given| given.eq_ignore_ascii_case(value))
    };
    let either = |what: &str, value: &str| {
        opted_out(&declared, what, value)
            || live.as_ref().is_some_and(|live| opted_out(live, what, value))
    };
    let once = live.is_some() && opted_out(&declared, "ssa", "IfNotPresent");
    if once || either("reconcile", "disabled") || either("ssa", "Ignore") {
        return;
    }
    let absorb = !either("ssa", "Merge");
    let Ok(applied) = fields::apply(live.as_deref(), &declared, manager, absorb, true, now) else {
        return;
    };
    if live.is_some() {
        world.store.put(&key, applied);
    } else {
        world.create(kind, applied);
    }
}

/// The kind of a declared object.
pub fn kind_of(declared: &Value) -> Option<&'static Kind> {
    let group = text(declared, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    Kind::find(group, text(declared, "/kind"))
}

/// The entry of an object in an inventory.
pub fn inventory_entry(kind: &Kind, object: &Value) -> Value {
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    json!({"id": format!("{namespace}_{name}_{}_{}", kind.group, kind.kind), "v": kind.version})
}

/// What happens to the status at the end of every reconciliation, suspended ones included.
fn finalize_status(object: &mut Value, generation: i64) {
    if let Some(requested) = annotation(object, REQUESTED_AT).map(str::to_owned) {
        set(object, &["status", "lastHandledReconcileAt"], requested);
    }
    if condition(object, "Ready").is_some_and(|ready| text(ready, "/status") == "True") {
        set(object, &["status", "observedGeneration"], generation);
    }
}

/// A deleted Kustomization prunes what it made, unless it is suspended: then everything is left behind.
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
    world.amend(key, |object| remove_finalizers(object, |one| one == FINALIZER));
}

fn interval_of(object: &Value) -> Duration {
    duration(text(object, "/spec/interval")).unwrap_or(Duration::from_secs(600))
}

/// A Go duration of whole hours, minutes and seconds.
pub fn duration(written: &str) -> Option<Duration> {
    let (mut total, mut digits) = (0u64, String::new());
    for letter in written.chars() {
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
    use crate::incident::Incident;
    use crate::kind;
    use crate::object::list;

    /// The Kustomizations that list an object in their inventory.
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
        let world = crate::scenario::build(Incident::Playbook);
        for (owner, _) in world.all(kind::KUSTOMIZATIONS) {
            for declared in world.git.declared(&owner) {
                let kind = kind_of(&declared).expect("Git declares kinds that are served");
                assert_eq!(
                    owners(&world, &inventory_entry(kind, &declared)),
                    std::slice::from_ref(&owner),
                    "{declared}"
                );
            }
        }
    }

    #[test]
    fn go_durations_are_read() {
        assert_eq!(duration("1h0m0s"), Some(Duration::from_secs(3_600)));
        assert_eq!(duration("10m"), Some(Duration::from_secs(600)));
        assert_eq!(duration("soon"), None);
    }
}
