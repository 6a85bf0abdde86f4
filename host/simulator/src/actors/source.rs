//! source-controller: maintains the artifact of a source. Suspending a source only stops new
//! artifacts; other controllers continue to apply the last one.

use serde_json::{Value, json};

use crate::object::{annotation, number, seconds, set, set_condition, text};
use crate::store::Key;
use crate::world::World;

/// Reconciles a source after a spec change or a request.
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
    world.update(key, |source| {
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
            "type": "Ready", "status": "True", "reason": "Succeeded",
            "observedGeneration": generation, "message": message,
        });
        set_condition(source, ready, now);
    });
}
