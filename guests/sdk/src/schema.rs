//! A guest's configuration: declared once, told as JSON Schema, read with the same words.
//!
//! The host has judged the text by the schema before the guest sees it. It is judged here again, so that
//! a guest never acts on a value that it did not expect.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use crate::Error;

/// The keys of a configuration, each with default, unit and a sentence.
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
    Choice { of: &'static [&'static str] },
    Number { default: u64, unit: &'static str, range: RangeInclusive<u64> },
    Flag,
}

impl Schema {
    /// No keys yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A text.
    #[must_use]
    pub fn text(self, name: &'static str, default: &'static str, summary: &'static str) -> Self {
        self.key(name, summary, Shape::Text { default })
    }

    /// A list of texts, of which there is at least one.
    #[must_use]
    pub fn texts(
        self,
        name: &'static str,
        default: &'static [&'static str],
        summary: &'static str,
    ) -> Self {
        self.key(name, summary, Shape::Texts { default })
    }

    /// One word of these; the first is the default.
    #[must_use]
    pub fn choice(
        self,
        name: &'static str,
        of: &'static [&'static str],
        summary: &'static str,
    ) -> Self {
        self.key(name, summary, Shape::Choice { of })
    }

    /// A whole number within a range, of a unit (`seconds`, `owners`).
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

    /// A consent or a switch; off unless given.
    #[must_use]
    pub fn flag(self, name: &'static str, summary: &'static str) -> Self {
        self.key(name, summary, Shape::Flag)
    }

    fn key(mut self, name: &'static str, summary: &'static str, shape: Shape) -> Self {
        self.keys.push(Key { name, summary, shape });
        self
    }

    /// The JSON Schema (2020-12) of this configuration.
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

    /// Reads a configuration; what it does not say is the default.
    ///
    /// # Errors
    /// `invalid`, naming the key, what was found there and what is expected.
    pub fn read(&self, config: &str) -> Result<Values, Error> {
        let text = if config.trim().is_empty() { "{}" } else { config };
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Error::Invalid(format!("configuration: not JSON: {error}")))?;
        let Value::Object(mut given) = value else {
            return Err(Error::Invalid(
                "configuration: an object of keys and values is expected".into(),
            ));
        };
        if let Some(unknown) =
            given.keys().find(|name| !self.keys.iter().any(|key| key.name == *name))
        {
            let known: Vec<&str> = self.keys.iter().map(|key| key.name).collect();
            return Err(Error::Invalid(format!(
                "configuration: there is no key `{unknown}`; there are {}",
                known.join(", ")
            )));
        }
        let mut values = Map::new();
        for key in &self.keys {
            let value = given.remove(key.name).unwrap_or_else(|| key.default());
            key.judge(&value)?;
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
            Shape::Choice { of } => json!(of[0]),
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
            Shape::Choice { of } => json!({"type": "string", "enum": of}),
            Shape::Number { unit, range, .. } => json!({
                "type": "integer", "minimum": range.start(), "maximum": range.end(), "x-unit": unit,
            }),
            Shape::Flag => json!({"type": "boolean"}),
        };
        property["default"] = self.default();
        property["description"] = json!(self.summary);
        property
    }

    fn judge(&self, value: &Value) -> Result<(), Error> {
        let (fits, expected) = match &self.shape {
            Shape::Text { .. } => (value.is_string(), "a text".to_owned()),
            Shape::Texts { .. } => (
                value
                    .as_array()
                    .is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_string)),
                "a list of texts, at least one".to_owned(),
            ),
            Shape::Choice { of } => (
                value.as_str().is_some_and(|word| of.contains(&word)),
                format!("one of {}", of.join(", ")),
            ),
            Shape::Number { unit, range, .. } => (
                value.as_u64().is_some_and(|number| range.contains(&number)),
                format!("a whole number of {unit} from {} to {}", range.start(), range.end()),
            ),
            Shape::Flag => (value.is_boolean(), "true or false".to_owned()),
        };
        if fits {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "configuration: `{}` is {value}; expected is {expected}",
            self.name
        )))
    }
}

/// A configuration that fits its schema, defaults filled in.
///
/// Asking for a key that the schema does not declare so is a mistake of the guest, and panics.
#[derive(Debug)]
pub struct Values(Map<String, Value>);

impl Values {
    /// The text or the chosen word of `key`.
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().expect("the schema declares it a text")
    }

    /// The list of texts of `key`.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let items = self.0[key].as_array().expect("the schema declares it a list");
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The number of `key`.
    pub fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().expect("the schema declares it a number")
    }

    /// Whether `key` is switched on.
    pub fn flag(&self, key: &str) -> bool {
        self.0[key].as_bool().expect("the schema declares it a flag")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new()
            .texts("namespaces", &["ai", "media"], "Where to look.")
            .text("source", "flux-system/flux-system", "The source.")
            .choice("mode", &["evidence", "all"], "How much.")
            .number("settle", 120, "seconds", 0..=3600, "How long it must hold.")
            .flag("complete-deletions", "Consent.")
    }

    #[test]
    fn an_empty_configuration_is_all_defaults() {
        for text in ["", "{}"] {
            let values = schema().read(text).expect("defaults fit");
            assert_eq!(values.texts("namespaces"), ["ai", "media"]);
            assert_eq!(values.text("mode"), "evidence");
            assert_eq!(values.number("settle"), 120);
            assert!(!values.flag("complete-deletions"));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_its_key() {
        for (config, said) in [
            (r#"{"setle": 3}"#, "there is no key `setle`"),
            (r#"{"settle": "3"}"#, "`settle` is \"3\"; expected is a whole number of seconds"),
            (r#"{"settle": -1}"#, "`settle` is -1"),
            (r#"{"settle": 3601}"#, "from 0 to 3600"),
            (r#"{"mode": "most"}"#, "one of evidence, all"),
            (r#"{"namespaces": []}"#, "at least one"),
            (r#"{"namespaces": ["a", 1]}"#, "`namespaces`"),
            (r#"{"complete-deletions": "yes"}"#, "true or false"),
            ("[]", "an object"),
            ("{", "not JSON"),
        ] {
            let error = schema().read(config).expect_err(config);
            assert!(matches!(error, Error::Invalid(_)), "{config}");
            assert!(error.message().contains(said), "{config}: {}", error.message());
        }
    }

    #[test]
    fn every_key_is_told_with_default_and_sentence() {
        let told: Value = serde_json::from_str(&schema().to_json()).expect("it is JSON");
        assert_eq!(told["additionalProperties"], false);
        assert_eq!(told["properties"]["settle"]["x-unit"], "seconds");
        assert_eq!(told["properties"]["settle"]["default"], 120);
        let properties = told["properties"].as_object().expect("properties");
        assert_eq!(properties.len(), 5);
        assert!(
            properties
                .values()
                .all(|key| key["description"].is_string() && !key["default"].is_null())
        );
    }
}
