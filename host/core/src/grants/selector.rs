//! Labels that an object has to have, as kubectl's `-l` spells it.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::fmt;

/// A label selector: all of its parts have to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    In(String, Vec<String>),
    /// Holds without the label, too.
    NotIn(String, Vec<String>),
    There(String),
    Absent(String),
}

impl Selector {
    /// Reads a selector: `app=plex`, `tier!=cache`, `env in (a, b)`, `env notin (a)`, `app`, `!keep`, with commas between.
    ///
    /// # Errors
    /// Names the part that is none.
    pub fn read(text: &str) -> Result<Self, String> {
        let parts = split(text).into_iter().map(|part| {
            Part::read(part.trim()).ok_or_else(|| {
                format!("{:?} is no part of a label selector; those are a=b, a!=b, a in (b, c), a notin (b), a, !a", crate::sanitize::sanitized(part.trim()))
            })
        });
        Ok(Self { text: text.into(), parts: parts.collect::<Result<_, _>>()? })
    }

    /// Both.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            text: format!("{},{}", self.text, other.text),
            parts: [self.parts.as_slice(), &other.parts].concat(),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether an object bears such labels.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.parts.iter().all(|part| {
            let label = |key: &str| labels.get(key).and_then(Value::as_str);
            let one_of = |key: &str, values: &[String]| {
                label(key).is_some_and(|label| values.iter().any(|value| value == label))
            };
            match part {
                Part::In(key, values) => one_of(key, values),
                Part::NotIn(key, values) => !one_of(key, values),
                Part::There(key) => label(key).is_some(),
                Part::Absent(key) => label(key).is_none(),
            }
        })
    }
}

/// At the commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let is_end = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    text.split(is_end).collect()
}

impl Part {
    fn read(text: &str) -> Option<Self> {
        if let Some((key, set)) = text.split_once('(') {
            let values: Vec<String> =
                set.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
            let (key, operator) = key.trim().rsplit_once(char::is_whitespace)?;
            let (key, matches) =
                (key.trim().to_owned(), values.iter().all(|value| is_value(value)));
            return match (matches && is_key(&key), operator) {
                (true, "in") => Some(Self::In(key, values)),
                (true, "notin") => Some(Self::NotIn(key, values)),
                (true | false, _other_word) => None,
            };
        }
        if let Some(key) = text.strip_prefix('!') {
            return is_key(key.trim()).then(|| Self::Absent(key.trim().into()));
        }
        let (key, value, not) = match text.split_once('=') {
            None => return is_key(text).then(|| Self::There(text.into())),
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

/// `name` or `prefix/name`, the prefix being a DNS name.
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
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.text)
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_means_what_kubectl_means() {
        let object = json!({"metadata": {"labels": {"app": "plex", "example.com/tier": "backend", "empty": ""}}});
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
            assert_eq!(Selector::read(text).unwrap().matches(&object), matches, "{text}");
        }
        for bare in
            [json!({}), json!({"metadata": null}), json!({"metadata": {"labels": {"app": 1}}})]
        {
            assert!(!Selector::read("app=plex").unwrap().matches(&bare));
            assert!(Selector::read("!keep").unwrap().matches(&bare));
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
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
            assert!(Selector::read(text).is_err(), "{text:?}");
        }
    }
}
