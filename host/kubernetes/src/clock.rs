//! Time as the cluster counts it: the machine's, corrected by what the API server's `Date` headers say.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_run::Clock;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The clock of a live cluster.
///
/// # Guarantees
/// Steps of the machine's clock after the start do not move it, and a machine that agrees with the API server to the second is left alone.
#[derive(Debug)]
pub(crate) struct LiveClock {
    started: Instant,
    /// The machine's time at `started`.
    base: i64,
    skew: Mutex<Skew>,
}

/// What has to be added to the machine's clock, in milliseconds: somewhere between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Skew {
    least: i64,
    most: i64,
}

impl Skew {
    const UNKNOWN: Self = Self { least: i64::MIN / 4, most: i64::MAX / 4 };

    /// Narrowed by a `Date` that was written between two instants. It counts whole seconds, rounded down.
    fn narrowed(self, date: i64, sent: i64, received: i64) -> Self {
        let seen = Self { least: date - received, most: date + 1000 - sent };
        let both = Self { least: self.least.max(seen.least), most: self.most.min(seen.most) };
        // A machine that slept, or a server whose clock was set: what was known is worth nothing now.
        if both.least <= both.most { both } else { seen }
    }

    fn offset(self) -> i64 {
        if self.least <= 0 && self.most >= 0 { 0 } else { i64::midpoint(self.least, self.most) }
    }
}

impl LiveClock {
    /// The machine's clock, not corrected yet.
    pub(crate) fn start() -> Self {
        let base = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        Self { started: Instant::now(), base, skew: Mutex::new(Skew::UNKNOWN) }
    }

    fn machine(&self, at: Instant) -> i64 {
        self.base + at.saturating_duration_since(self.started).as_millis() as i64
    }

    /// Learns from a response's `Date` header. What is no date teaches nothing.
    pub(crate) fn learn(&self, date: &str, sent: Instant, received: Instant) {
        let Ok(date) = jiff::fmt::rfc2822::parse(date) else { return };
        let (sent, received) = (self.machine(sent), self.machine(received));
        let mut skew = self.skew.lock().unwrap_or_else(PoisonError::into_inner);
        *skew = skew.narrowed(date.timestamp().as_millisecond(), sent, received);
    }
}

impl Clock for LiveClock {
    fn now(&self) -> Millis {
        let offset = self.skew.lock().unwrap_or_else(PoisonError::into_inner).offset();
        (self.machine(Instant::now()) + offset).max(0) as Millis
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_agrees_to_the_second_is_left_alone() {
        let skew = Skew::UNKNOWN.narrowed(10_000, 10_300, 10_350);
        assert_eq!(skew.offset(), 0);
    }

    #[test]
    fn several_dates_narrow_the_offset() {
        // The server is 61.2 s ahead.
        let skew = Skew::UNKNOWN
            .narrowed(71_000, 10_000, 10_010)
            .narrowed(71_000, 10_780, 10_790)
            .narrowed(72_000, 10_850, 10_860);
        assert!((skew.offset() - 61_200).abs() < 50, "{skew:?}");
    }

    #[test]
    fn a_clock_that_was_set_is_learnt_anew() {
        let skew = Skew::UNKNOWN.narrowed(71_000, 10_000, 10_010).narrowed(20_000, 20_300, 20_310);
        assert_eq!(skew.offset(), 0);
    }

    #[test]
    fn a_date_header_is_read() {
        let clock = LiveClock::start();
        let now = Instant::now();
        clock.learn("Thu, 20 Aug 2099 10:00:00 GMT", now, now);
        assert!(clock.now().abs_diff(4_090_903_200_000) < 2_000, "{}", clock.now());
        clock.learn("yesterday", now, now);
        assert!(clock.now().abs_diff(4_090_903_200_000) < 2_000);
    }
}
