//! Events about objects, aggregated like client-go's event recorder does.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind;
use crate::object::{number, seconds, set, text};
use crate::random::hash_below;
use crate::store::Key;
use crate::world::World;

/// The content of an Event.
pub struct Event<'a> {
    /// `Normal` or `Warning`.
    pub event_type: &'a str,
    pub reason: &'a str,
    pub message: String,
    pub component: String,
}

/// Records an Event about `object`, or increments the count of an existing one.
pub fn record(world: &mut World, object: &Value, event: &Event) {
    let (key, built) = build(object, event, world.now, world.now, 1);
    let now = seconds(world.now);
    if world.get(&key).is_some() {
        world.update(&key, |old| {
            let count = number(old, "/count") + 1;
            set(old, &["count"], count);
            set(old, &["lastTimestamp"], now);
        });
    } else {
        world.create(kind::EVENTS, built);
    }
}

/// Returns the key and object of an Event that occurred `count` times between `first` and `last`.
pub fn build(
    object: &Value,
    event: &Event,
    first: Timestamp,
    last: Timestamp,
    count: u64,
) -> (Key, Value) {
    let (namespace, name, uid) = (
        text(object, "/metadata/namespace"),
        text(object, "/metadata/name"),
        text(object, "/metadata/uid"),
    );
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    let hash =
        hash_below(&format!("{uid}{}{}{}", event.reason, event.message, event.component), u64::MAX);
    let event_name = format!("{name}.{hash:016x}");
    let built = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "name": event_name, "namespace": namespace, "creationTimestamp": seconds(first),
        },
        "involvedObject": {
            "apiVersion": text(object, "/apiVersion"), "kind": text(object, "/kind"), "name": name,
            "namespace": text(object, "/metadata/namespace"), "uid": uid,
        },
        "type": event.event_type, "reason": event.reason, "message": event.message, "count": count,
        "firstTimestamp": seconds(first), "lastTimestamp": seconds(last), "eventTime": null,
        "source": {"component": event.component}, "reportingComponent": "", "reportingInstance": "",
    });
    (Key::new(kind::EVENTS, namespace, &event_name), built)
}
