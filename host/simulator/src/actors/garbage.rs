//! The garbage collector: deletes the dependents of a deleted object a few seconds later.

use std::time::Duration;

use serde_json::Value;

use super::Task;
use crate::object::{
    has_finalizer, is_owned_by, is_terminating, list, remove_finalizers, set, text,
};
use crate::random::hash_below;
use crate::store::{Change, ChangeType, Key};
use crate::world::World;

const FOREGROUND: &str = "foregroundDeletion";

/// Schedules the collector for deleted objects and for objects in foreground deletion.
pub fn on_change(world: &mut World, change: &Change) {
    let uid = text(&change.object, "/metadata/uid");
    if change.change_type == ChangeType::Deleted {
        let delay = Duration::from_secs(8 + hash_below(uid, 5));
        world.schedule(delay, Task::Garbage(uid.to_owned()));
        for owner in list(&change.object, "/metadata/ownerReferences") {
            let uid = text(owner, "/uid");
            let owner = world.store.all().find(|(_, object)| text(object, "/metadata/uid") == uid);
            if let Some(key) = owner
                .filter(|(_, object)| has_finalizer(object, FOREGROUND))
                .map(|(key, _)| key.clone())
            {
                world.schedule_once(super::WATCH_LATENCY, Task::Foreground(key));
            }
        }
    } else if is_terminating(&change.object) && has_finalizer(&change.object, FOREGROUND) {
        world.schedule_once(super::WATCH_LATENCY, Task::Foreground(change.key.clone()));
    }
}

/// Deletes the dependents of `uid` that have no other existing owner.
pub fn collect(world: &mut World, uid: &str) {
    for (key, owners) in dependents(world, uid) {
        let has_owner = owners.iter().any(|owner| {
            owner != uid
                && world.store.all().any(|(_, object)| text(object, "/metadata/uid") == owner)
        });
        if has_owner {
            // An object with another owner is kept; only the owner reference is removed.
            world.update(&key, |object| {
                let remaining: Vec<Value> = list(object, "/metadata/ownerReferences")
                    .iter()
                    .filter(|owner| text(owner, "/uid") != uid)
                    .cloned()
                    .collect();
                set(object, &["metadata", "ownerReferences"], remaining);
            });
        } else {
            world.delete(&key);
        }
    }
}

/// Deletes the dependents of an object in foreground deletion, or the object itself if it has none.
pub fn foreground(world: &mut World, key: &Key) {
    let Some(object) = world.get(key) else { return };
    let dependents = dependents(world, text(&object, "/metadata/uid"));
    if dependents.is_empty() {
        world.update(key, |object| remove_finalizers(object, |finalizer| finalizer == FOREGROUND));
    }
    for (key, _) in dependents {
        world.delete(&key);
    }
}

fn dependents(world: &World, uid: &str) -> Vec<(Key, Vec<String>)> {
    world
        .store
        .all()
        .filter(|(_, object)| is_owned_by(object, uid))
        .map(|(key, object)| {
            let owners = list(object, "/metadata/ownerReferences");
            (key.clone(), owners.iter().map(|owner| text(owner, "/uid").to_owned()).collect())
        })
        .collect()
}
