//! helm-controller: recreates deleted objects only if forced, or if drift correction is enabled.

use std::time::Duration;

use serde_json::{Value, json};

use super::Task;
use super::kustomize::{REQUESTED_AT, apply_one, duration, kind_of};
use crate::object::{annotation, number, set, set_condition, text};
use crate::store::Key;
use crate::world::World;

const FORCE_AT: &str = "reconcile.fluxcd.io/forceAt";

/// Returns the reconcile interval of a release.
pub fn interval(release: &Value) -> Duration {
    duration(text(release, "/spec/interval")).unwrap_or(Duration::from_secs(3_600))
}

/// Reconciles a release after a change or a request, or (`periodic`) after its interval.
pub fn reconcile(world: &mut World, key: &Key, periodic: bool) {
    let Some(release) = world.get(key) else { return };
    if periodic {
        world.schedule(interval(&release), Task::HelmInterval(key.clone()));
    }
    let generation = number(&release, "/metadata/generation");
    if release.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        world.update(key, |release| set(release, &["status", "observedGeneration"], generation));
        return;
    }
    let requested = annotation(&release, REQUESTED_AT).unwrap_or("").to_owned();
    let is_requested =
        !requested.is_empty() && requested != text(&release, "/status/lastHandledReconcileAt");
    let forced = is_requested && annotation(&release, FORCE_AT) == Some(requested.as_str());
    if !is_requested && !periodic && generation == number(&release, "/status/observedGeneration") {
        return;
    }
    let corrects_drift = text(&release, "/spec/driftDetection/mode") == "enabled";
    if forced || corrects_drift {
        for declared in world.git.declared(key) {
            if let Some(kind) = kind_of(&declared) {
                apply_one(world, kind, declared, "helm-controller");
            }
        }
    }
    let now = world.now;
    world.update(key, |release| {
        set(release, &["status", "observedGeneration"], generation);
        if is_requested {
            set(release, &["status", "lastHandledReconcileAt"], requested.clone());
        }
        if forced {
            set(release, &["status", "lastHandledForceAt"], requested.clone());
        }
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "UpgradeSucceeded",
            "observedGeneration": generation, "message": "Helm upgrade succeeded for release",
        });
        set_condition(release, ready, now);
    });
}
