//! The API server's controller of CustomResourceDefinitions: serves what they define.

use serde_json::{Value, json};

use crate::object::{condition, list, set, set_condition, text};
use crate::store::{Change, ChangeType};
use crate::world::World;

/// Serves the kind of a new or changed definition, and stops serving that of a deleted one.
pub fn on_change(world: &mut World, change: &Change) {
    if change.change_type == ChangeType::Deleted {
        world.kinds.stop_serving(&change.object);
        return;
    }
    if change.previous.as_ref().is_none_or(|old| old["spec"] != change.object["spec"]) {
        world.kinds.serve(&change.object);
    }
    if condition(&change.object, "Established").is_none() {
        let now = world.now;
        world.update(&change.key, |crd| establish(crd, now));
    }
}

/// Sets the status of a definition that is served.
pub fn establish(crd: &mut Value, now: jiff::Timestamp) {
    let stored: Vec<Value> = list(crd, "/spec/versions")
        .iter()
        .filter(|version| version["storage"] == true)
        .map(|version| text(version, "/name").into())
        .collect();
    set(crd, &["status", "acceptedNames"], crd["spec"]["names"].clone());
    set(crd, &["status", "storedVersions"], stored);
    for (condition, reason, message) in [
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ] {
        let condition = json!({
            "type": condition, "status": "True", "reason": reason, "message": message,
        });
        set_condition(crd, condition, now);
    }
}
