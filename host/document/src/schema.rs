//! JSON Schemas, generated from the types that they describe. A schema has no references.

use crate::{API_VERSION, Metadata};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Tells an API server to keep all fields of an object.
pub const PRESERVE_UNKNOWN: &str = "x-kubernetes-preserve-unknown-fields";

/// Returns the schema of a document with a `spec` of type `S`. It is a structural schema, except
/// that it rejects unknown keys.
pub fn of_document<S: JsonSchema>(kind: &str, description: &str) -> Value {
    json!({
        "description": description,
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string", "enum": [API_VERSION]},
            "kind": {"type": "string", "enum": [kind]},
            "metadata": of_type::<Metadata>(SchemaSettings::draft2020_12()),
            "spec": of_type::<S>(SchemaSettings::draft2020_12()),
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
    })
}

/// Returns a schema of a document as it is published: as plain JSON Schema, with its name.
pub fn published(kind: &str, mut schema: Value) -> Value {
    visit(&mut schema, &mut denote_null);
    with_head(kind, schema)
}

/// Makes the schemas that an API server calls `nullable` accept null.
pub fn denote_null(node: &mut Map<String, Value>) {
    if node.remove("nullable").is_some_and(|nullable| nullable == true)
        && let Some(one) = node.get("type").cloned()
    {
        node.insert("type".into(), json!([one, "null"]));
    }
}

/// Adds what identifies a published schema.
pub fn with_head(kind: &str, schema: Value) -> Value {
    let mut published = Map::from_iter([
        ("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into()),
        (
            "$id".into(),
            format!("https://salve.dev/schemas/v1alpha1/{}.json", kind.to_lowercase()).into(),
        ),
        ("title".into(), kind.into()),
    ]);
    if let Value::Object(schema) = schema {
        published.extend(schema);
    }
    Value::Object(published)
}

/// Returns the schema of a type, without references.
pub fn of_type<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    visit(&mut schema, &mut normalize);
    schema
}

/// Applies a change to every schema below a node, and then to the node.
pub fn visit(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(node) = schema else { return };
    for (key, below) in node.iter_mut() {
        match (key.as_str(), below) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(|property| visit(property, change));
            }
            ("items" | "additionalProperties", below) => visit(below, change),
            ("oneOf" | "anyOf", Value::Array(options)) => {
                options.iter_mut().for_each(|option| visit(option, change));
            }
            (_, _) => {}
        }
    }
    change(node);
}

fn normalize(node: &mut Map<String, Value>) {
    // The name of the Rust type, and formats of Rust's integers.
    node.remove("title");
    if node.get("format").and_then(Value::as_str).is_some_and(|format| format.contains("int")) {
        node.remove("format");
    }
    if let Some(Value::String(text)) = node.get_mut("description") {
        *text = text.split('\n').collect::<Vec<_>>().join(" ");
    }
    if let Some(constant) = node.remove("const") {
        node.insert("enum".into(), json!([constant]));
    }
    // Each key has its own default.
    if node.get("default").is_some_and(Value::is_object) {
        node.remove("default");
    }
    merge_enum(node);
    remove_null(node);
}

/// Makes null invalid for optional properties: they are omitted.
fn remove_null(node: &mut Map<String, Value>) {
    let required = node.get("required").cloned().unwrap_or_default();
    let is_required =
        |key: &str| required.as_array().is_some_and(|all| all.iter().any(|k| k == key));
    let Some(Value::Object(properties)) = node.get_mut("properties") else { return };
    for (_, property) in properties.iter_mut().filter(|(key, _)| !is_required(key)) {
        let Value::Object(property) = property else { continue };
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|one| one != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                property.insert("type".into(), one);
            }
        }
        if let Some(Value::Array(values)) = property.get_mut("enum") {
            values.retain(|value| !value.is_null());
        }
        if let Some(Value::Array(mut options)) = property.remove("anyOf") {
            options.retain(|option| option["type"] != "null");
            match options.as_slice() {
                // The description of the property replaces that of its type.
                [Value::Object(only)] => {
                    let described = std::mem::replace(property, only.clone());
                    property.extend(described);
                }
                _several => {
                    property.insert("anyOf".into(), options.into());
                }
            }
        }
    }
}

/// Turns `oneOf` of names, each with a description, into one `enum`.
fn merge_enum(node: &mut Map<String, Value>) {
    let is_name = |option: &Value| option["type"] == "string" && option["enum"].is_array();
    let Some(Value::Array(options)) = node.get("oneOf") else { return };
    if !options.iter().all(is_name) {
        return;
    }
    let names: Vec<Value> =
        options.iter().filter_map(|option| option["enum"].as_array()).flatten().cloned().collect();
    let described = options.iter().filter_map(|option| {
        Some(format!("`{}`: {}", option["enum"][0].as_str()?, option["description"].as_str()?))
    });
    let description: Vec<String> = node
        .get("description")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .into_iter()
        .chain(described)
        .collect();
    node.remove("oneOf");
    node.insert("type".into(), "string".into());
    node.insert("enum".into(), names.into());
    if !description.is_empty() {
        node.insert("description".into(), description.join(" ").into());
    }
}
