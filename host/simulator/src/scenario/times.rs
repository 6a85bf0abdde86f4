//! Times and durations in a scenario.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Parses a duration that is not negative.
///
/// # Errors
/// Describes what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration such as 90s, 5m, or 1h30m");
    let parsed: SignedDuration = text.parse().map_err(|_| invalid())?;
    Duration::try_from(parsed).map_err(|_| invalid())
}

/// Parses a time, or a duration from the start.
///
/// # Errors
/// Describes what was expected.
pub fn moment(text: &str, start: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let parsed = text.parse::<SignedDuration>().ok();
    parsed.and_then(|parsed| start.checked_add(parsed).ok()).ok_or_else(|| {
        format!(
            "{text:?} is neither a time such as 2026-08-20T10:00:00Z nor a duration from the \
             start such as -5m"
        )
    })
}

/// Returns the newest time at which something in these objects happened.
pub fn newest<'a>(objects: impl Iterator<Item = &'a Value>) -> Option<Timestamp> {
    const KEYS: [&str; 7] = [
        "renewTime",
        "lastTimestamp",
        "creationTimestamp",
        "lastTransitionTime",
        "lastHeartbeatTime",
        "lastUpdateTime",
        "time",
    ];
    fn visit(value: &Value, newest: &mut Option<Timestamp>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let time = value.as_str().filter(|_| KEYS.contains(&key.as_str()));
                    *newest = (*newest).max(time.and_then(|time| time.parse().ok()));
                    visit(value, newest);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| visit(item, newest)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut time = None;
    objects.for_each(|object| visit(object, &mut time));
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_relative_to_the_start() {
        let start: Timestamp = "2026-08-20T10:00:00Z".parse().expect("time is valid");
        let parse = |text| moment(text, start).map(|time| time.to_string());
        assert_eq!(parse("2026-08-20T09:58:10Z").as_deref(), Ok("2026-08-20T09:58:10Z"));
        assert_eq!(parse("-5m").as_deref(), Ok("2026-08-20T09:55:00Z"));
        assert_eq!(parse("1h30m").as_deref(), Ok("2026-08-20T11:30:00Z"));
        assert!(parse("soon").unwrap_err().contains("\"soon\" is neither a time"));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("-5m").is_err() && duration("5").is_err());
    }
}
