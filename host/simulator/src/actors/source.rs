//! source-controller: keeps the artifact of a source. A suspended source gets no new artifact, and that is all that
//! its suspension does: whoever applies the last artifact goes on doing so.

use serde_json::{Value, json};

use crate::object::{annotation, number, seconds, set, set_condition, text};
use crate::store::Key;
use crate::world::World;

/// Answers a change of a source's spec, or a request to reconcile.
pub fn reconcile(world: &mut World, key: &Key) {
    let Some(source) = world.get(key) else { return };
    let generation = number(&source, "/metadata/generation");
    let requested = annotation(&source, super::kustomize::REQUESTED_AT).unwrap_or("").to_owned();
    let handled =
        requested.is_empty() || requested == text(&source, "/status/lastHandledReconcileAt");
    if number(&source, "/status/observedGeneration") == generation && handled {
        return;
    }
    let (now, revision) = (world.now, world.git.revision.clone());
    let suspended = source.pointer("/spec/suspend") == Some(&Value::Bool(true));
    world.amend(key, |source| {
        set(source, &["status", "observedGeneration"], generation);
        if suspended {
            return;
        }
        if !requested.is_empty() {
            set(source, &["status", "lastHandledReconcileAt"], requested);
        }
        if text(source, "/status/artifact/revision") != revision {
            set(source, &["status", "artifact", "revision"], revision.clone());
            set(source, &["status", "artifact", "lastUpdateTime"], seconds(now));
        }
        let message = format!("stored artifact for revision '{revision}'");
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "Succeeded", "observedGeneration": generation, "message": message,
        });
        set_condition(source, ready, now);
    });
}
