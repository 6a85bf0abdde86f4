//! Formats numbers and times for people.

use salve_core::Millis;

/// Formats a duration in milliseconds: `0.4 s`, `12 s`, `4 min 38 s`, `1 h`, `3 h 12 min`,
/// `41 days`.
pub fn duration(milliseconds: Millis) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..=9 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        10..=59 => format!("{seconds} s"),
        60..=3599 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=172_799 if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        3600..=172_799 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Formats the time from `then` to `now`; 0 if `then` is later.
pub fn elapsed(then: Millis, now: Millis) -> String {
    duration(now.saturating_sub(then))
}

/// Formats a point in time, in milliseconds since the epoch, as UTC with seconds.
pub fn timestamp(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at as i64)
        .map(|t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
        .unwrap_or_else(|_| "invalid time".into())
}

/// Formats a count with its noun: `1 pod`, `2 pods`.
pub fn plural(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_use_at_most_two_units() {
        for (milliseconds, expected) in [
            (400, "0.4 s"),
            (9_900, "9.9 s"),
            (12_000, "12 s"),
            (60_000, "1 min"),
            (278_000, "4 min 38 s"),
            (3_600_000, "1 h"),
            (11_520_000, "3 h 12 min"),
            (3_542_400_000, "41 days"),
        ] {
            assert_eq!(duration(milliseconds), expected);
        }
    }
}
