//! Watches: the changes of a collection as they happen, as JSON lines.
//! A watch makes progress only when virtual time advances.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::select::Selector;
use super::{ApiError, Request, Target, read};
use crate::store::{Change, ChangeType};
use crate::world::World;

/// A running watch.
pub struct Watch {
    request: Request,
    target: Target,
    selector: Selector,
    version: u64,
    deadline: Option<Timestamp>,
    pending: Vec<Value>,
    has_ended: bool,
}

/// Starts a watch at the resource version of the request.
pub fn start(world: &World, request: &Request, target: &Target) -> Result<Watch, ApiError> {
    let version = request.parameter("resourceVersion").unwrap_or("0");
    let from: u64 = version.parse().map_err(|_| {
        ApiError::new(400, format!("Invalid value for resourceVersion: {version:?}"))
    })?;
    let deadline =
        request.number("timeoutSeconds")?.map(|seconds| world.after(Duration::from_secs(seconds)));
    let mut watch = Watch {
        request: request.clone(),
        target: target.clone(),
        selector: Selector::from_request(request, target.kind)?,
        version: if from == 0 { world.store.version() } else { from },
        deadline,
        pending: Vec::new(),
        has_ended: false,
    };
    let initial = request.flag("sendInitialEvents");
    if from == 0 || initial {
        for (_, object) in world.store.list(target.kind, target.namespace.as_deref()) {
            if watch.selector.matches(object) {
                let object = read::represent(request, target, object, world);
                watch.pending.push(json!({"type": "ADDED", "object": object}));
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
    /// Returns the events since the last call: empty if there are none, `None` at the end of the
    /// watch.
    pub fn next_chunk(&mut self, world: &World) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        let mut events = std::mem::take(&mut self.pending);
        match world.store.changes_since(self.version) {
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
                    .push(json!({"type": "ERROR", "object": ApiError::new(410, message).status()}));
                self.has_ended = true;
            }
        }
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        self.has_ended |= self.deadline.is_some_and(|deadline| world.now >= deadline);
        if lines.is_empty() && self.has_ended { None } else { Some(Bytes::from(lines)) }
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
            change.previous.as_ref().is_some_and(|previous| self.selector.matches(previous));
        let now =
            change.change_type != ChangeType::Deleted && self.selector.matches(&change.object);
        let event_type = match (before, now) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let object = read::represent(&self.request, &self.target, &change.object, world);
        Some(json!({"type": event_type, "object": object}))
    }
}
