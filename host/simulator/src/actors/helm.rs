//! helm-controller, as far as deleted objects are concerned: they come back only when forced, or where drift is
//! corrected.

use std::time::Duration;

use serde_json::{Value, json};

use super::Wake;
use super::kustomize::{REQUESTED_AT, apply_one, duration, kind_of};
use crate::object::{annotation, number, set, set_condition, text};
use crate::store::Key;
use crate::world::World;

const FORCE_AT: &str = "reconcile.fluxcd.io/forceAt";

/// How often it looks at a release.
pub fn interval(release: &Value) -> Duration {
    duration(text(release, "/spec/interval")).unwrap_or(Duration::from_secs(3_600))
}

/// Looks at a release: at a change, a request, or (`routine`) because its interval has passed.
pub fn reconcile(world: &mut World, key: &Key, routine: bool) {
    let Some(release) = world.get(key) else { return };
    if routine {
        world.wake(interval(&release), Wake::HelmInterval(key.clone()));
    }
    let generation = number(&release, "/metadata/generation");
    if release.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        world.amend(key, |release| set(release, &["status", "observedGeneration"], generation));
        return;
    }
    let requested = annotation(&release, REQUESTED_AT).unwrap_or("").to_owned();
    let asked =
        !requested.is_empty() && requested != text(&release, "/status/lastHandledReconcileAt");
    let forced = asked && annotation(&release, FORCE_AT) == Some(requested.as_str());
    if !asked && !routine && generation == number(&release, "/status/observedGeneration") {
        return;
    }
    let corrects = text(&release, "/spec/driftDetection/mode") == "enabled";
    if forced || corrects {
        for declared in world.git.declared(key) {
            if let Some(kind) = kind_of(&declared) {
                apply_one(world, kind, declared, "helm-controller");
            }
        }
    }
    let now = world.now;
    world.amend(key, |release| {
        set(release, &["status", "observedGeneration"], generation);
        if asked {
            set(release, &["status", "lastHandledReconcileAt"], requested.clone());
        }
        if forced {
            set(release, &["status", "lastHandledForceAt"], requested.clone());
        }
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "UpgradeSucceeded", "observedGeneration": generation,
            "message": "Helm upgrade succeeded for release",
        });
        set_condition(release, ready, now);
    });
}
