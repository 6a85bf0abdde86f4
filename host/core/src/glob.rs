//! Globs over names: `*`, `?`, `[ab]`, and `{a,b}`, as grants and configurations write them.

use globset::{Glob as Pattern, GlobMatcher};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// A glob. `*` alone matches every name.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    matcher: GlobMatcher,
}

impl Glob {
    /// # Errors
    /// It is not a valid glob.
    pub fn new(text: &str) -> Result<Self, String> {
        let pattern = Pattern::new(text)
            .map_err(|e| format!("{text:?} is not a valid glob: {}", e.kind()))?;
        Ok(Self { text: text.into(), matcher: pattern.compile_matcher() })
    }
    /// Returns `*`.
    pub fn every() -> Self {
        Self::new("*").expect("`*` is a glob")
    }
    pub fn matches(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }
    /// Returns whether it is `*`.
    pub fn is_every(&self) -> bool {
        self.text == "*"
    }
    /// Returns whether it is a name without metacharacters.
    pub fn is_plain(&self) -> bool {
        !self.text.contains(['*', '?', '[', '{', '\\'])
    }
    /// Returns an equivalent regular expression over a whole name.
    pub fn regex(&self) -> String {
        let pattern =
            Pattern::new(&self.text).map(|pattern| pattern.regex().to_owned()).unwrap_or_default();
        pattern.trim_start_matches("(?-u)").to_owned()
    }
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl JsonSchema for Glob {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Glob".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": 253})
    }
}

impl Serialize for Glob {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}
