//! The regular expression of a problem.

use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;

/// A regular expression over a log line, in the syntax of `tail-logs`.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Of its text. `tail-logs` has the same limit.
const MAX_BYTES: usize = 4096;
/// Of the compiled expression.
const MAX_COMPILED_BYTES: usize = 1 << 20;

impl Pattern {
    /// # Errors
    /// It is not a regular expression, is too large, or matches the empty line and thus every line.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("a pattern of {} bytes: at most {MAX_BYTES}", text.len()));
        }
        let pattern = RegexBuilder::new(text)
            .size_limit(MAX_COMPILED_BYTES)
            .build()
            .map_err(|error| format!("{text:?} is not a valid regular expression: {error}"))?;
        if pattern.is_match("") {
            return Err(format!("{text:?} matches every line"));
        }
        Ok(Self(pattern))
    }

    pub fn matches(&self, line: &str) -> bool {
        self.0.is_match(line)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl JsonSchema for Pattern {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Pattern".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": MAX_BYTES})
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
