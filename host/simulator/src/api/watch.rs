//! Watches: the changes of a collection as they happen, in lines of JSON.
//! A watch waits for virtual time; without anyone who moves it, nothing comes.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::select::Selector;
use super::{Refusal, Request, Target, read};
use crate::store::{Change, What};
use crate::world::World;

/// A watch under way.
pub struct Watch {
    request: Request,
    target: Target,
    selector: Selector,
    version: u64,
    until: Option<Timestamp>,
    pending: Vec<Value>,
    ended: bool,
}

/// Begins a watch at the version that the request names.
pub fn start(world: &World, request: &Request, target: &Target) -> Result<Watch, Refusal> {
    let version = request.parameter("resourceVersion").unwrap_or("0");
    let from: u64 = version.parse().map_err(|_| {
        Refusal::new(400, format!("Invalid value for resourceVersion: {version:?}"))
    })?;
    let until =
        request.number("timeoutSeconds")?.map(|seconds| world.after(Duration::from_secs(seconds)));
    let mut watch = Watch {
        request: request.clone(),
        target: target.clone(),
        selector: Selector::of(request, target.kind)?,
        version: if from == 0 { world.store.version() } else { from },
        until,
        pending: Vec::new(),
        ended: false,
    };
    let initial = request.flag("sendInitialEvents");
    if from == 0 || initial {
        for (_, object) in world.store.list(target.kind, target.namespace.as_deref()) {
            if watch.selector.matches(object) {
                watch.pending.push(
                    json!({"type": "ADDED", "object": read::one(request, target, object, world)}),
                );
            }
        }
        watch.version = world.store.version();
    }
    if initial {
        let bookmark = json!({
            "kind": target.kind.kind, "apiVersion": target.kind.api_version(),
            "metadata": {
                "resourceVersion": watch.version.to_string(), "creationTimestamp": null,
                "annotations": {"k8s.io/initial-events-end": "true"},
            },
        });
        watch.pending.push(json!({"type": "BOOKMARK", "object": bookmark}));
    }
    Ok(watch)
}

impl Watch {
    /// What has happened since the last call: `None` at the end of the watch, empty when nothing has.
    pub fn read(&mut self, world: &World) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut events = std::mem::take(&mut self.pending);
        match world.store.since(self.version) {
            Some(changes) => {
                for change in changes {
                    self.version = change.version;
                    events.extend(self.event(change, world));
                }
            }
            None => {
                let message = format!(
                    "too old resource version: {} ({})",
                    self.version,
                    world.store.version()
                );
                events
                    .push(json!({"type": "ERROR", "object": Refusal::new(410, message).status()}));
                self.ended = true;
            }
        }
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        self.ended |= self.until.is_some_and(|until| world.now >= until);
        if lines.is_empty() && self.ended { None } else { Some(Bytes::from(lines)) }
    }

    fn event(&self, change: &Change, world: &World) -> Option<Value> {
        if change.key.kind != self.target.kind
            || self
                .target
                .namespace
                .as_ref()
                .is_some_and(|namespace| *namespace != change.key.namespace)
        {
            return None;
        }
        let before =
            change.observed.as_ref().is_some_and(|observed| self.selector.matches(observed));
        let now = change.what != What::Deleted && self.selector.matches(&change.object);
        let kind = match (before, now) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        Some(
            json!({"type": kind, "object": read::one(&self.request, &self.target, &change.object, world)}),
        )
    }
}
