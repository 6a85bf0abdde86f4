//! How long a problem must stay clear.

use crate::Millis;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;

/// A duration of 1 s to 24 h, written like `90s`, `5m`, or `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window(Millis);

const MAX_SECONDS: u64 = 86_400;
const UNITS: [(char, u64); 3] = [('h', 3600), ('m', 60), ('s', 1)];

impl Window {
    /// # Errors
    /// It is not such a duration.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut seconds, mut rest, mut units) = (0_u64, text, UNITS.as_slice());
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| invalid(text))?;
            let unit = tail.chars().next().ok_or_else(|| invalid(text))?;
            // From the largest unit to the smallest, each at most once.
            let at = units.iter().position(|(name, _)| *name == unit);
            let at = at.ok_or_else(|| invalid(text))?;
            seconds = seconds.saturating_add(number.saturating_mul(units[at].1));
            (rest, units) = (&tail[unit.len_utf8()..], &units[at + 1..]);
        }
        match seconds {
            1..=MAX_SECONDS => Ok(Self(seconds * 1000)),
            _ => Err(invalid(text)),
        }
    }

    pub fn millis(self) -> Millis {
        self.0
    }
}

fn invalid(text: &str) -> String {
    format!("{text:?} is not a duration of 1s to 24h, such as 90s, 5m, or 1h30m")
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seconds = self.0 / 1000;
        for (unit, size) in UNITS {
            let number = seconds / size;
            seconds %= size;
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl JsonSchema for Window {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Window".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 2,
            "pattern": "^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$",
        })
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_parsed_and_printed() {
        for (text, seconds, printed) in [
            ("1s", 1, "1s"),
            ("90s", 90, "1m30s"),
            ("5m", 300, "5m"),
            ("1h30m", 5400, "1h30m"),
            ("24h", 86_400, "24h"),
        ] {
            let window = Window::parse(text).unwrap();
            assert_eq!((window.millis(), window.to_string()), (seconds * 1000, printed.to_owned()));
        }
    }

    #[test]
    fn anything_else_is_rejected() {
        for text in ["", "0s", "5", "m", "5m1h", "5m5m", "1.5h", "-1m", "25h", "5 m", "5µs"] {
            assert!(Window::parse(text).is_err(), "{text:?}");
        }
        assert!(Window::parse(&"9".repeat(40)).is_err());
    }
}
