//! Reads Events.

use crate::object::instant;
use salve_core::Millis;
use serde_json::Value;

/// Returns when an event was last observed. Newer versions of VolSync leave the deprecated fields
/// null.
pub(crate) fn last_seen(event: &Value) -> Millis {
    [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/firstTimestamp",
        "/metadata/creationTimestamp",
    ]
    .into_iter()
    .filter_map(|at| instant(event, at))
    .max()
    .unwrap_or(0)
}
