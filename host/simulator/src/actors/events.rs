//! Events about objects, counted as the event recorder of client-go counts them.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind;
use crate::object::{number, seconds, set, text};
use crate::random::spread;
use crate::store::Key;
use crate::world::World;

/// One occurrence of something about an object.
pub struct Event<'a> {
    /// `Normal` or `Warning`.
    pub kind: &'a str,
    /// The machine-readable reason.
    pub reason: &'a str,
    /// The sentence.
    pub message: String,
    /// Who says so.
    pub component: String,
}

/// Records an event about `object`, or counts it once more.
pub fn record(world: &mut World, object: &Value, event: &Event) {
    let (key, written) = write(object, event, world.now, world.now, 1);
    let now = seconds(world.now);
    if world.get(&key).is_some() {
        world.amend(&key, |old| {
            let count = number(old, "/count") + 1;
            set(old, &["count"], count);
            set(old, &["lastTimestamp"], now);
        });
    } else {
        world.create(kind::EVENTS, written);
    }
}

/// The event as an object, seen `count` times between `first` and `last`.
pub fn write(
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
    let mark =
        spread(&format!("{uid}{}{}{}", event.reason, event.message, event.component), u64::MAX);
    let event_name = format!("{name}.{mark:016x}");
    let written = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": event_name, "namespace": namespace, "creationTimestamp": seconds(first)},
        "involvedObject": {
            "apiVersion": text(object, "/apiVersion"), "kind": text(object, "/kind"), "name": name,
            "namespace": text(object, "/metadata/namespace"), "uid": uid,
        },
        "type": event.kind, "reason": event.reason, "message": event.message, "count": count,
        "firstTimestamp": seconds(first), "lastTimestamp": seconds(last), "eventTime": null,
        "source": {"component": event.component}, "reportingComponent": "", "reportingInstance": "",
    });
    (Key::new(kind::EVENTS, namespace, &event_name), written)
}
