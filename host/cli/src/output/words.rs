//! Numbers as people say them.

use salve_core::Millis;

/// `0.4 s`, `12 s`, `4 min 38 s`, `3 h 12 min`, `41 days`.
pub fn duration(milliseconds: Millis) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..=9 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        10..=59 => format!("{seconds} s"),
        60..=3599 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=172_799 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long before `now`.
pub fn ago(then: Millis, now: Millis) -> String {
    duration(now.saturating_sub(then))
}

/// A moment in UTC.
pub fn moment(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at as i64)
        .map(|t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
        .unwrap_or_else(|_| "an impossible time".into())
}

/// `1 pod`, `2 pods`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_one_says_them() {
        let said: Vec<_> = [400, 9_900, 12_000, 60_000, 278_000, 11_520_000, 3_542_400_000]
            .into_iter()
            .map(duration)
            .collect();
        assert_eq!(
            said,
            ["0.4 s", "9.9 s", "12 s", "1 min", "4 min 38 s", "3 h 12 min", "41 days"]
        );
    }
}
