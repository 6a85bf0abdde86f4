//! A guest's configuration: declared once, published as JSON Schema, and parsed by the same
//! declaration.
//!
//! The host validates a configuration against the schema before it calls the guest. It is validated
//! here again, so that a guest never acts on an unexpected value.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use crate::Error;

/// The keys of a configuration, each with a default and a description.
#[derive(Debug, Default)]
pub struct Schema {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    name: &'static str,
    summary: &'static str,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Text { default: &'static str },
    Texts { default: &'static [&'static str] },
    Choice { choices: &'static [&'static str] },
    Number { default: u64, unit: &'static str, range: RangeInclusive<u64> },
    Flag,
}

impl Schema {
    /// Creates a schema without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a string.
    #[must_use]
    pub fn text(self, name: &'static str, default: &'static str, summary: &'static str) -> Self {
        self.key(name, summary, Shape::Text { default })
    }

    /// Adds a list of at least one string.
    #[must_use]
    pub fn texts(
        self,
        name: &'static str,
        default: &'static [&'static str],
        summary: &'static str,
    ) -> Self {
        self.key(name, summary, Shape::Texts { default })
    }

    /// Adds a string that must be one of `choices`. The first is the default.
    #[must_use]
    pub fn choice(
        self,
        name: &'static str,
        choices: &'static [&'static str],
        summary: &'static str,
    ) -> Self {
        self.key(name, summary, Shape::Choice { choices })
    }

    /// Adds an integer within `range`. `unit` is a plural noun such as `seconds` or `owners`.
    #[must_use]
    pub fn number(
        self,
        name: &'static str,
        default: u64,
        unit: &'static str,
        range: RangeInclusive<u64>,
        summary: &'static str,
    ) -> Self {
        self.key(name, summary, Shape::Number { default, unit, range })
    }

    /// Adds a boolean, false by default.
    #[must_use]
    pub fn flag(self, name: &'static str, summary: &'static str) -> Self {
        self.key(name, summary, Shape::Flag)
    }

    fn key(mut self, name: &'static str, summary: &'static str, shape: Shape) -> Self {
        self.keys.push(Key { name, summary, shape });
        self
    }

    /// Returns the JSON Schema (2020-12) of this configuration.
    pub fn to_json(&self) -> String {
        let properties: Map<String, Value> =
            self.keys.iter().map(|key| (key.name.to_owned(), key.property())).collect();
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
        })
        .to_string()
    }

    /// Parses and validates a configuration. Missing keys get their defaults.
    ///
    /// # Errors
    /// `invalid`, with the key, the value, and what was expected.
    pub fn read(&self, config: &str) -> Result<Values, Error> {
        let text = if config.trim().is_empty() { "{}" } else { config };
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Error::Invalid(format!("configuration: not JSON: {error}")))?;
        let Value::Object(mut given) = value else {
            return Err(Error::Invalid("configuration: expected a JSON object".into()));
        };
        if let Some(unknown) =
            given.keys().find(|name| !self.keys.iter().any(|key| key.name == *name))
        {
            let known: Vec<&str> = self.keys.iter().map(|key| key.name).collect();
            return Err(Error::Invalid(format!(
                "configuration: unknown key `{unknown}` (known keys: {})",
                known.join(", ")
            )));
        }
        let mut values = Map::new();
        for key in &self.keys {
            let value = given.remove(key.name).unwrap_or_else(|| key.default());
            key.validate(&value)?;
            values.insert(key.name.to_owned(), value);
        }
        Ok(Values(values))
    }
}

impl Key {
    fn default(&self) -> Value {
        match &self.shape {
            Shape::Text { default } => json!(default),
            Shape::Texts { default } => json!(default),
            Shape::Choice { choices } => json!(choices[0]),
            Shape::Number { default, .. } => json!(default),
            Shape::Flag => json!(false),
        }
    }

    fn property(&self) -> Value {
        let mut property = match &self.shape {
            Shape::Text { .. } => json!({"type": "string"}),
            Shape::Texts { .. } => {
                json!({"type": "array", "items": {"type": "string"}, "minItems": 1})
            }
            Shape::Choice { choices } => json!({"type": "string", "enum": choices}),
            Shape::Number { unit, range, .. } => json!({
                "type": "integer", "minimum": range.start(), "maximum": range.end(), "x-unit": unit,
            }),
            Shape::Flag => json!({"type": "boolean"}),
        };
        property["default"] = self.default();
        property["description"] = json!(self.summary);
        property
    }

    fn validate(&self, value: &Value) -> Result<(), Error> {
        let (valid, expected) = match &self.shape {
            Shape::Text { .. } => (value.is_string(), "a string".to_owned()),
            Shape::Texts { .. } => (
                value
                    .as_array()
                    .is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_string)),
                "a list of at least one string".to_owned(),
            ),
            Shape::Choice { choices } => (
                value.as_str().is_some_and(|choice| choices.contains(&choice)),
                format!("one of {}", choices.join(", ")),
            ),
            Shape::Number { unit, range, .. } => (
                value.as_u64().is_some_and(|number| range.contains(&number)),
                format!("a number of {unit} from {} to {}", range.start(), range.end()),
            ),
            Shape::Flag => (value.is_boolean(), "true or false".to_owned()),
        };
        if valid {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "configuration: `{}` is {value}, expected {expected}",
            self.name
        )))
    }
}

/// A valid configuration, including defaults.
///
/// The methods panic if the schema does not declare the key with that type.
#[derive(Debug)]
pub struct Values(Map<String, Value>);

impl Values {
    /// Returns the string or the choice of `key`.
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().expect("the schema declares a string")
    }

    /// Returns the strings of `key`.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let items = self.0[key].as_array().expect("the schema declares a list");
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Returns the number of `key`.
    pub fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().expect("the schema declares a number")
    }

    /// Returns the boolean of `key`.
    pub fn flag(&self, key: &str) -> bool {
        self.0[key].as_bool().expect("the schema declares a boolean")
    }
}

#[cfg(test)]
#[path = "tests/schema.rs"]
mod tests;
