//! Globs over names: `*`, `?`, `[ab]` and `{a,b}`, as grants and configuration write them.

use globset::{Glob as Pattern, GlobMatcher};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One glob. `*` alone matches every name.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    matcher: GlobMatcher,
}

impl Glob {
    /// Reads a glob.
    pub fn new(text: &str) -> Result<Self, String> {
        let pattern =
            Pattern::new(text).map_err(|e| format!("{text:?} is no glob: {}", e.kind()))?;
        Ok(Self { text: text.into(), matcher: pattern.compile_matcher() })
    }
    /// The glob that matches every name.
    pub fn every() -> Self {
        Self::new("*").expect("`*` is a glob")
    }
    /// Whether this name fits.
    pub fn matches(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }
    /// Whether every name fits.
    pub fn is_every(&self) -> bool {
        self.text == "*"
    }
    /// Whether it is a name, and no pattern.
    pub fn is_plain(&self) -> bool {
        !self.text.contains(['*', '?', '[', '{', '\\'])
    }
    /// The same as a regular expression over a whole name.
    pub fn regex(&self) -> String {
        let pattern =
            Pattern::new(&self.text).map(|pattern| pattern.regex().to_owned()).unwrap_or_default();
        pattern.trim_start_matches("(?-u)").to_owned()
    }
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
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
