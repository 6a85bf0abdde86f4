//! A guest's configuration: schema defaults, then the Remediation, then a file, then flags;
//! validated against the schema.

use crate::output::CommandError;
use salve_core::sanitize::sanitized;
use serde_json::{Map, Value};
use std::path::Path;

/// The JSON Schema of a guest's configuration.
pub struct Schema {
    schema: Value,
}

impl Schema {
    /// Parses the schema that a guest's description contains.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let schema: Value = serde_json::from_str(text).map_err(|e| {
            CommandError::document(format!(
                "the guest's configuration schema is not valid JSON: {e}"
            ))
        })?;
        jsonschema::meta::validate(&schema).map_err(|e| {
            CommandError::document(format!(
                "the guest's configuration schema is not a valid JSON Schema: {}",
                sanitized(&e.to_string())
            ))
        })?;
        Ok(Self { schema })
    }

    /// Returns the configuration keys, in the order of the schema.
    pub fn keys(&self) -> Vec<Key> {
        let properties = self.schema["properties"].as_object().cloned().unwrap_or_default();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        properties
            .into_iter()
            .map(|(name, p)| Key {
                default: p.get("default").cloned().unwrap_or(Value::Null),
                unit: text(&p["x-unit"]),
                summary: text(&p["description"]),
                name,
            })
            .collect()
    }

    /// Merges defaults, `document`, `file`, and `flags` into the configuration for the guest.
    ///
    /// # Errors
    /// Names each key that the schema does not define and each value that it rejects.
    pub fn fill(
        &self,
        document: &Value,
        file: Option<&Path>,
        flags: &[String],
    ) -> Result<Value, CommandError> {
        let mut filled = Map::new();
        for key in self.keys() {
            if !key.default.is_null() {
                filled.insert(key.name, key.default);
            }
        }
        merge(&mut filled, document, "the Remediation's configuration")?;
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|e| CommandError::document(format!("{}: {e}", path.display())))?;
            let value: Value = serde_saphyr::from_str(&text)
                .map_err(|e| CommandError::document(format!("{}: {e}", path.display())))?;
            merge(&mut filled, &value, &path.display().to_string())?;
        }
        for flag in flags {
            let (key, value) = flag.split_once('=').ok_or_else(|| {
                CommandError::usage(format!("--config {flag:?}: expected KEY=VALUE"))
            })?;
            filled.insert(key.into(), self.parse_value(key, value));
        }
        let filled = Value::Object(filled);
        self.check(&filled)?;
        Ok(filled)
    }

    /// Converts the text of a flag to the type that the schema declares for the key.
    fn parse_value(&self, key: &str, text: &str) -> Value {
        let property = &self.schema["properties"][key];
        match property["type"].as_str() {
            Some("array") => Value::Array(
                text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(Value::from).collect(),
            ),
            Some("integer" | "number" | "boolean") => {
                serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
            }
            Some(_) | None => Value::from(text),
        }
    }

    fn check(&self, filled: &Value) -> Result<(), CommandError> {
        let validator = jsonschema::validator_for(&self.schema).map_err(|e| {
            CommandError::document(format!(
                "the guest's configuration schema cannot be compiled: {}",
                sanitized(&e.to_string())
            ))
        })?;
        let errors: Vec<String> = validator
            .iter_errors(filled)
            .map(|e| {
                let path = e.instance_path().to_string();
                let key = path.trim_start_matches('/');
                if key.is_empty() { e.to_string() } else { format!("{key}: {e}") }
            })
            .collect();
        if errors.is_empty() {
            return Ok(());
        }
        let known: Vec<_> = self.keys().into_iter().map(|k| k.name).collect();
        Err(CommandError::usage(format!(
            "invalid configuration: {}\nkeys: {}",
            join_sanitized(&errors),
            known.join(", ")
        )))
    }
}

fn join_sanitized(lines: &[String]) -> String {
    lines.iter().map(|l| sanitized(l)).collect::<Vec<_>>().join("\n                       ")
}

fn merge(filled: &mut Map<String, Value>, over: &Value, source: &str) -> Result<(), CommandError> {
    match over {
        Value::Null => Ok(()),
        Value::Object(map) => {
            filled.extend(map.clone());
            Ok(())
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(CommandError::document(format!("{source} is not a map of keys and values")))
        }
    }
}

/// A configuration key.
pub struct Key {
    pub name: String,
    /// The default value; null if there is none.
    pub default: Value,
    /// The unit of the value; empty if there is none.
    pub unit: String,
    /// What the key is for, in one sentence.
    pub summary: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        let text = json!({
            "type": "object", "additionalProperties": false,
            "properties": {
                "namespaces": {"type": "array", "items": {"type": "string"}, "default": ["media"]},
                "settle": {"type": "integer", "minimum": 0, "default": 120, "x-unit": "seconds"},
            }
        });
        Schema::parse(&text.to_string()).unwrap()
    }

    #[test]
    fn flags_override_the_document_and_the_document_overrides_defaults() {
        let filled =
            schema().fill(&json!({"settle": 5}), None, &["namespaces=ai, media".into()]).unwrap();
        assert_eq!(filled, json!({"namespaces": ["ai", "media"], "settle": 5}));
    }

    #[test]
    fn an_unknown_key_and_an_invalid_value_are_both_named() {
        let error = schema()
            .fill(&Value::Null, None, &["setle=5".into(), "settle=soon".into()])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("setle")
                && error.contains("soon")
                && error.contains("keys: namespaces, settle"),
            "{error}"
        );
    }
}
