//! The cluster's time: the local clock, corrected by the `Date` headers of the API server.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_run::Clock;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The clock of a live cluster.
///
/// # Guarantees
/// Adjustments of the local clock after the start have no effect. The local time is not corrected
/// while it agrees with the API server to the second.
#[derive(Debug)]
pub(crate) struct LiveClock {
    started: Instant,
    /// Local time at `started`, in milliseconds since the epoch.
    base: i64,
    skew: Mutex<Skew>,
}

/// Bounds of the offset to add to the local time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Skew {
    min: i64,
    max: i64,
}

impl Skew {
    const UNKNOWN: Self = Self { min: i64::MIN / 4, max: i64::MAX / 4 };

    /// Returns the bounds narrowed by a `Date` header that was written between `sent` and
    /// `received`. The header has whole seconds, rounded down.
    fn narrowed_by(self, date: i64, sent: i64, received: i64) -> Self {
        let seen = Self { min: date - received, max: date + 1000 - sent };
        let both = Self { min: self.min.max(seen.min), max: self.max.min(seen.max) };
        // The machine slept, or the server's clock was set: earlier bounds no longer hold.
        if both.min <= both.max { both } else { seen }
    }

    fn offset(self) -> i64 {
        if self.min <= 0 && self.max >= 0 { 0 } else { i64::midpoint(self.min, self.max) }
    }
}

impl LiveClock {
    /// Starts from the local clock, uncorrected.
    pub(crate) fn start() -> Self {
        let base = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        Self { started: Instant::now(), base, skew: Mutex::new(Skew::UNKNOWN) }
    }

    fn local(&self, at: Instant) -> i64 {
        self.base + at.saturating_duration_since(self.started).as_millis() as i64
    }

    /// Records a response's `Date` header. Invalid dates are ignored.
    pub(crate) fn record_date(&self, date: &str, sent: Instant, received: Instant) {
        let Ok(date) = jiff::fmt::rfc2822::parse(date) else { return };
        let (sent, received) = (self.local(sent), self.local(received));
        let mut skew = self.skew.lock().unwrap_or_else(PoisonError::into_inner);
        *skew = skew.narrowed_by(date.timestamp().as_millisecond(), sent, received);
    }
}

impl Clock for LiveClock {
    fn now(&self) -> Millis {
        let offset = self.skew.lock().unwrap_or_else(PoisonError::into_inner).offset();
        (self.local(Instant::now()) + offset).max(0) as Millis
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_agrees_to_the_second_is_not_corrected() {
        let skew = Skew::UNKNOWN.narrowed_by(10_000, 10_300, 10_350);
        assert_eq!(skew.offset(), 0);
    }

    #[test]
    fn several_dates_narrow_the_offset() {
        // The server is 61.2 s ahead.
        let skew = Skew::UNKNOWN
            .narrowed_by(71_000, 10_000, 10_010)
            .narrowed_by(71_000, 10_780, 10_790)
            .narrowed_by(72_000, 10_850, 10_860);
        assert!((skew.offset() - 61_200).abs() < 50, "{skew:?}");
    }

    #[test]
    fn bounds_are_reset_when_a_clock_was_set() {
        let skew =
            Skew::UNKNOWN.narrowed_by(71_000, 10_000, 10_010).narrowed_by(20_000, 20_300, 20_310);
        assert_eq!(skew.offset(), 0);
    }

    #[test]
    fn the_date_header_sets_the_time() {
        let clock = LiveClock::start();
        let now = Instant::now();
        clock.record_date("Thu, 20 Aug 2099 10:00:00 GMT", now, now);
        assert!(clock.now().abs_diff(4_090_903_200_000) < 2_000, "{}", clock.now());
        clock.record_date("yesterday", now, now);
        assert!(clock.now().abs_diff(4_090_903_200_000) < 2_000);
    }
}
