//! A guest's configuration: defaults of the schema, the document, a file, then flags; checked against the schema.

use crate::output::Failed;
use salve_core::sanitize::sanitized;
use serde_json::{Map, Value};
use std::path::Path;

/// What a guest says about its keys.
pub struct Schema {
    schema: Value,
}

impl Schema {
    /// Reads the schema that a guest describes.
    pub fn read(text: &str) -> Result<Self, Failed> {
        let schema: Value = serde_json::from_str(text).map_err(|e| {
            Failed::document(format!(
                "the guest describes its configuration by what is no JSON: {e}"
            ))
        })?;
        jsonschema::meta::validate(&schema).map_err(|e| {
            Failed::document(format!(
                "the guest describes its configuration by what is no JSON Schema: {}",
                sanitized(&e.to_string())
            ))
        })?;
        Ok(Self { schema })
    }

    /// Its keys, in its order: name, default, unit, sentence.
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

    /// Makes the configuration that the guest gets.
    ///
    /// # Errors
    /// Names each key that the schema does not have or whose value it refuses.
    pub fn fill(
        &self,
        document: &Value,
        file: Option<&Path>,
        flags: &[String],
    ) -> Result<Value, Failed> {
        let mut filled = Map::new();
        for key in self.keys() {
            if !key.default.is_null() {
                filled.insert(key.name, key.default);
            }
        }
        lay(&mut filled, document, "the Remediation's configuration")?;
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Failed::document(format!("{}: {e}", path.display())))?;
            let value: Value = serde_saphyr::from_str(&text)
                .map_err(|e| Failed::document(format!("{}: {e}", path.display())))?;
            lay(&mut filled, &value, &path.display().to_string())?;
        }
        for flag in flags {
            let (key, value) = flag
                .split_once('=')
                .ok_or_else(|| Failed::usage(format!("--config {flag:?}: KEY=VALUE is wanted")))?;
            filled.insert(key.into(), self.typed(key, value));
        }
        let filled = Value::Object(filled);
        self.check(&filled)?;
        Ok(filled)
    }

    /// A flag is text; the schema says what it means.
    fn typed(&self, key: &str, text: &str) -> Value {
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

    fn check(&self, filled: &Value) -> Result<(), Failed> {
        let validator = jsonschema::validator_for(&self.schema).map_err(|e| {
            Failed::document(format!(
                "the guest's schema cannot be used: {}",
                sanitized(&e.to_string())
            ))
        })?;
        let wrong: Vec<String> = validator
            .iter_errors(filled)
            .map(|e| {
                let path = e.instance_path().to_string();
                let key = path.trim_start_matches('/');
                if key.is_empty() { e.to_string() } else { format!("{key}: {e}") }
            })
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let known: Vec<_> = self.keys().into_iter().map(|k| k.name).collect();
        Err(Failed::usage(format!(
            "configuration: {}\nkeys: {}",
            inert_lines(&wrong),
            known.join(", ")
        )))
    }
}

fn inert_lines(lines: &[String]) -> String {
    lines.iter().map(|l| sanitized(l)).collect::<Vec<_>>().join("\n               ")
}

fn lay(filled: &mut Map<String, Value>, over: &Value, what: &str) -> Result<(), Failed> {
    match over {
        Value::Null => Ok(()),
        Value::Object(map) => {
            filled.extend(map.clone());
            Ok(())
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Failed::document(format!("{what} is not a map of keys and values")))
        }
    }
}

/// One key.
pub struct Key {
    /// Its name.
    pub name: String,
    /// What it is unless somebody says otherwise.
    pub default: Value,
    /// Its unit, if it has one.
    pub unit: String,
    /// What it is for.
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
        Schema::read(&text.to_string()).unwrap()
    }

    #[test]
    fn flags_win_over_the_document_and_the_document_over_defaults() {
        let filled =
            schema().fill(&json!({"settle": 5}), None, &["namespaces=ai, media".into()]).unwrap();
        assert_eq!(filled, json!({"namespaces": ["ai", "media"], "settle": 5}));
    }

    #[test]
    fn an_unknown_key_and_a_wrong_value_are_both_named() {
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
