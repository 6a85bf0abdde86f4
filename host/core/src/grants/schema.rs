//! The parts of a grant's JSON Schema that depend on the capability table.

use super::MOVERS;
use super::grant::Max;
use crate::capability::{Access, Capability, GrantKinds, GrantShape};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

impl JsonSchema for Capability {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Capability".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Self::grantable().map(Self::name).collect();
        json_schema!({"type": "string", "enum": names})
    }
}

impl JsonSchema for Max {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Max".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut properties = Map::new();
        for capability in Capability::grantable() {
            for limit in capability.functions().filter_map(|function| function.limit()) {
                let schema = json!({
                    "description": format!("Maximum number of {}. For {capability}.", limit.key),
                    "type": "integer",
                    "minimum": 0,
                    "maximum": u32::MAX,
                });
                properties.entry(limit.key).or_insert(schema);
            }
        }
        json_schema!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// Returns the names of the capabilities for which a condition holds.
fn capabilities(condition: impl Fn(Capability, &GrantShape) -> bool) -> String {
    let matching = Capability::grantable()
        .filter(|capability| condition(*capability, &capability.grant_shape()));
    matching.map(Capability::name).collect::<Vec<_>>().join(", ")
}

/// Appends generated text to the description of a field.
fn append(schema: &mut Schema, text: &str) {
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{description} {text}");
    schema.insert("description".into(), description.into());
}

pub(super) fn describe_kinds(schema: &mut Schema) {
    let mut known: Vec<(Vec<String>, Vec<&str>)> = vec![];
    for capability in Capability::grantable() {
        let name = capability.name();
        match capability.grant_shape().kinds {
            GrantKinds::None => {}
            GrantKinds::Any => {
                append(schema, &format!("Required for {name}, for any kind except Secrets."));
            }
            GrantKinds::Named => {
                let text = "for any kind except Secrets, by name only.";
                append(schema, &format!("Required for {name}, {text}"));
            }
            GrantKinds::Known(kinds) => match known.iter_mut().find(|(same, _)| *same == kinds) {
                Some((_, capabilities)) => capabilities.push(name),
                None => known.push((kinds, vec![name])),
            },
        }
    }
    for (kinds, capabilities) in known {
        append(schema, &format!("For {}: {}.", capabilities.join(", "), kinds.join(", ")));
    }
}

pub(super) fn describe_fields(schema: &mut Schema) {
    append(schema, &format!("For {}.", capabilities(|_, shape| shape.fields)));
}

pub(super) fn describe_namespaces(schema: &mut Schema) {
    let optional = capabilities(|_, shape| !shape.namespaced);
    append(schema, &format!("Without it, for {optional}: cluster-scoped objects."));
}

pub(super) fn describe_writes(schema: &mut Schema) {
    let writes = capabilities(|capability, _| capability.access() == Access::Write);
    append(schema, &format!("For {writes}."));
}

pub(super) fn movers(_: &mut SchemaGenerator) -> Schema {
    let movers: Vec<Value> = MOVERS.map(Value::from).into();
    json_schema!({"type": "array", "minItems": 1, "items": {"type": "string", "enum": movers}})
}

pub(super) fn describe_movers(schema: &mut Schema) {
    append(schema, &format!("For {}.", capabilities(|_, shape| shape.movers)));
}
