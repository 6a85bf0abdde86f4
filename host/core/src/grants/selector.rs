//! Label selectors in the syntax of `kubectl -l`.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// A label selector: all of its requirements must be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    text: String,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    /// Also met without the label.
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Selector {
    /// Parses a selector: `app=plex`, `tier!=cache`, `env in (a, b)`, `env notin (a)`, `app`,
    /// `!keep`, separated by commas.
    ///
    /// # Errors
    /// Names the first invalid requirement.
    pub fn parse(text: &str) -> Result<Self, String> {
        let requirements = split(text).into_iter().map(|part| {
            Requirement::parse(part.trim()).ok_or_else(|| {
                format!(
                    "{:?} is not a label requirement; expected a=b, a!=b, a in (b, c), \
                     a notin (b), a, or !a",
                    crate::sanitize::sanitized(part.trim())
                )
            })
        });
        Ok(Self { text: text.into(), requirements: requirements.collect::<Result<_, _>>()? })
    }

    /// Requires both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            text: format!("{},{}", self.text, other.text),
            requirements: [self.requirements.as_slice(), &other.requirements].concat(),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether the labels of an object meet all requirements.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.requirements.iter().all(|requirement| {
            let label = |key: &str| labels.get(key).and_then(Value::as_str);
            let one_of = |key: &str, values: &[String]| {
                label(key).is_some_and(|label| values.iter().any(|value| value == label))
            };
            match requirement {
                Requirement::In(key, values) => one_of(key, values),
                Requirement::NotIn(key, values) => !one_of(key, values),
                Requirement::Exists(key) => label(key).is_some(),
                Requirement::DoesNotExist(key) => label(key).is_none(),
            }
        })
    }
}

/// Splits at the commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let is_end = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    text.split(is_end).collect()
}

impl Requirement {
    fn parse(text: &str) -> Option<Self> {
        if let Some((key, set)) = text.split_once('(') {
            let values: Vec<String> =
                set.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
            let (key, operator) = key.trim().rsplit_once(char::is_whitespace)?;
            let (key, matches) =
                (key.trim().to_owned(), values.iter().all(|value| is_value(value)));
            return match (matches && is_key(&key), operator) {
                (true, "in") => Some(Self::In(key, values)),
                (true, "notin") => Some(Self::NotIn(key, values)),
                (true | false, _) => None,
            };
        }
        if let Some(key) = text.strip_prefix('!') {
            return is_key(key.trim()).then(|| Self::DoesNotExist(key.trim().into()));
        }
        let (key, value, not) = match text.split_once('=') {
            None => return is_key(text).then(|| Self::Exists(text.into())),
            Some((key, value)) => match key.strip_suffix('!') {
                Some(key) => (key, value, true),
                None => (key, value.strip_prefix('=').unwrap_or(value), false),
            },
        };
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        match is_key(&key) && is_value(&value) {
            false => None,
            true if not => Some(Self::NotIn(key, vec![value])),
            true => Some(Self::In(key, vec![value])),
        }
    }
}

/// Checks `name` or `prefix/name`, with a DNS name as prefix.
fn is_key(key: &str) -> bool {
    let (prefix, name) =
        key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_domain = |prefix: &str| {
        !prefix.is_empty()
            && prefix.len() <= 253
            && prefix
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))
    };
    !name.is_empty() && is_value(name) && prefix.is_none_or(is_domain)
}

fn is_value(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && value.chars().all(inner)
        && outer(value.chars().next())
        && outer(value.chars().next_back())
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for Selector {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Selector".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": 1024})
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_match_as_in_kubectl() {
        let labels = json!({"app": "plex", "example.com/tier": "backend", "empty": ""});
        let object = json!({"metadata": {"labels": labels}});
        for (text, matches) in [
            ("app=plex", true),
            ("app == plex", true),
            ("app=jellyfin", false),
            ("app!=jellyfin", true),
            ("app!=plex", false),
            ("none!=anything", true),
            ("app in (plex, sonarr)", true),
            ("app in (sonarr)", false),
            ("app notin (sonarr,radarr),example.com/tier=backend", true),
            ("none notin (x)", true),
            ("app", true),
            ("none", false),
            ("!none", true),
            ("!app", false),
            ("app=plex,!none,empty=", true),
            ("app=plex,none", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&object), matches, "{text}");
        }
        for bare in
            [json!({}), json!({"metadata": null}), json!({"metadata": {"labels": {"app": 1}}})]
        {
            assert!(!Selector::parse("app=plex").unwrap().matches(&bare));
            assert!(Selector::parse("!keep").unwrap().matches(&bare));
        }
    }

    #[test]
    fn invalid_selectors_are_rejected() {
        for text in [
            "",
            ",",
            "a=b,",
            "a in b",
            "a in (b",
            "a within (b)",
            "=b",
            "a=b=c",
            "a=b c",
            "!a=b",
            "A b",
            "x/y/z",
            "a=-b",
            "a>3",
            "a=b)",
            "é=b",
        ] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
    }
}
