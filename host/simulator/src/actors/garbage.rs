//! The garbage collector: what a deleted object owned goes too, some seconds later.

use std::time::Duration;

use serde_json::Value;

use super::Wake;
use crate::object::{
    has_finalizer, is_owned_by, is_terminating, list, remove_finalizers, set, text,
};
use crate::random::spread;
use crate::store::{Change, Key, What};
use crate::world::World;

const FOREGROUND: &str = "foregroundDeletion";

/// Wakes the collector when an object has gone, or waits for its dependents.
pub fn observe(world: &mut World, change: &Change) {
    let uid = text(&change.object, "/metadata/uid");
    if change.what == What::Deleted {
        let delay = Duration::from_secs(8 + spread(uid, 5));
        world.wake(delay, Wake::Garbage(uid.to_owned()));
        for owner in list(&change.object, "/metadata/ownerReferences") {
            let uid = text(owner, "/uid");
            let waiting =
                world.store.all().find(|(_, object)| text(object, "/metadata/uid") == uid);
            if let Some(key) = waiting
                .filter(|(_, object)| has_finalizer(object, FOREGROUND))
                .map(|(key, _)| key.clone())
            {
                world.wake_once(super::NOTICE, Wake::Foreground(key));
            }
        }
    } else if is_terminating(&change.object) && has_finalizer(&change.object, FOREGROUND) {
        world.wake_once(super::NOTICE, Wake::Foreground(change.key.clone()));
    }
}

/// Deletes the objects all of whose owners are gone, `uid` having been one.
pub fn collect(world: &mut World, uid: &str) {
    for (key, owners) in dependents(world, uid) {
        let alive = owners.iter().any(|owner| {
            owner != uid
                && world.store.all().any(|(_, object)| text(object, "/metadata/uid") == owner)
        });
        if alive {
            // What has another owner stays, and forgets this one.
            world.amend(&key, |object| {
                let kept: Vec<Value> = list(object, "/metadata/ownerReferences")
                    .iter()
                    .filter(|owner| text(owner, "/uid") != uid)
                    .cloned()
                    .collect();
                set(object, &["metadata", "ownerReferences"], kept);
            });
        } else {
            world.delete(&key);
        }
    }
}

/// Deletes the dependents of an object that waits for them, and lets it go when there are none left.
pub fn foreground(world: &mut World, key: &Key) {
    let Some(object) = world.get(key) else { return };
    let dependents = dependents(world, text(&object, "/metadata/uid"));
    if dependents.is_empty() {
        world.amend(key, |object| remove_finalizers(object, |one| one == FOREGROUND));
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
