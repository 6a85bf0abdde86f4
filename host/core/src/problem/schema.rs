//! The parts of a problem's JSON Schema that depend on the capability table.

use super::Predicate;
use crate::capability::Capability;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

pub(super) fn capabilities(_: &mut SchemaGenerator) -> Schema {
    let shows = |capability: &Capability| capability.predicate() != Predicate::None;
    let names: Vec<&str> = Capability::grantable().filter(shows).map(Capability::name).collect();
    json_schema!({"type": "string", "enum": names})
}

pub(super) fn describe_pattern(schema: &mut Schema) {
    let shows = |capability: &Capability| capability.predicate() == Predicate::Pattern;
    let names: Vec<&str> = Capability::grantable().filter(shows).map(Capability::name).collect();
    append(schema, &format!("Required for {}.", names.join(", ")));
}

pub(super) fn describe_states(schema: &mut Schema) {
    for capability in Capability::grantable() {
        if let Predicate::States(states) = capability.predicate() {
            append(schema, &format!("Required for {capability}: {}.", states.join(", ")));
        }
    }
}

/// Appends generated text to the description of a field.
fn append(schema: &mut Schema, text: &str) {
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{description} {text}");
    schema.insert("description".into(), description.into());
}
