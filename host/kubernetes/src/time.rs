//! Parses and formats times and durations as Kubernetes objects contain them.

use jiff::Timestamp;
use salve_core::Millis;
use std::time::Duration;

/// Parses an RFC 3339 time into milliseconds since the epoch.
pub(crate) fn millis(text: &str) -> Option<Millis> {
    u64::try_from(text.parse::<Timestamp>().ok()?.as_millisecond()).ok()
}

/// Formats a time as RFC 3339 with as many fractional digits as needed.
pub(crate) fn precise(at: Millis) -> String {
    timestamp(at).to_string()
}

/// Formats a time as RFC 3339 in whole seconds.
pub(crate) fn seconds(at: Millis) -> String {
    timestamp(at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats a time as RFC 3339 with microseconds, as Leases require.
pub(crate) fn micros(at: Millis) -> String {
    timestamp(at).strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn timestamp(at: Millis) -> Timestamp {
    i64::try_from(at)
        .ok()
        .and_then(|at| Timestamp::from_millisecond(at).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Parses a Go duration, e.g. `2m30.118211907s`, `1h0m0s`, `1.5h`. None if it is negative.
///
/// Not kube-core's `Duration`, whose `FromStr` panics if the duration overflows: the text comes
/// from the cluster.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..number].parse().ok()?;
        let after = &rest[number..];
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        total += value
            * match &after[..unit] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &after[unit..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(total).ok() }
}

/// Formats a duration in milliseconds for users: `45 s`, `12 min`, `3 h 10 min`.
pub(crate) fn human_duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, _) => format!("{m} min"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_parsed() {
        for (text, millis) in [
            ("2m30.118211907s", 150_118),
            ("1h0m0s", 3_600_000),
            ("58.02s", 58_020),
            ("1.5h", 5_400_000),
            ("100ms", 100),
            ("0", 0),
            ("1h", 3_600_000),
        ] {
            assert_eq!(go_duration(text).map(|d| d.as_millis()), Some(millis), "{text}");
        }
        for text in ["", "5", "h", "1d", "-5s", "1.2.3s", "s1", "1e9h", "9999999999999999999h"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn times_round_trip() {
        let at = millis("2026-08-20T10:00:00.123456Z").unwrap();
        assert_eq!(precise(at), "2026-08-20T10:00:00.123Z");
        assert_eq!(seconds(at), "2026-08-20T10:00:00Z");
        assert_eq!(millis(&precise(at)), Some(at));
        assert_eq!(millis("never"), None);
    }

    #[test]
    fn durations_have_at_most_two_units() {
        assert_eq!(
            [
                human_duration(45_900),
                human_duration(720_000),
                human_duration(11_400_000),
                human_duration(7_200_000)
            ],
            ["45 s", "12 min", "3 h 10 min", "2 h"]
        );
    }
}
