//! Releases what is still in effect when the guest has ended, for as long as the process lives.

use super::Run;
use crate::observer::Unreleased;
use salve_core::Millis;
use salve_core::capability::{Effect, Reversal};
use salve_core::journal::Origin;
use salve_core::outcome::Error;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long each release may take in the first pass. Doubles with each pass: a dead connection must
/// not take long, and a slow API server, or one that asks to wait, must get its time.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TIMEOUT: Duration = Duration::from_secs(80);
/// The same once the user has insisted on stopping.
const HURRIED_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after the first pass. Doubles with each pass.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How long a release is tried that the API server keeps rejecting: credentials and permissions may
/// come back within minutes, and what else it rejects, it will always reject.
const REJECTED_TIMEOUT: Duration = Duration::from_secs(300);
/// How often it is tried at least. The clock may jump.
const REJECTED_TRIES: u32 = 6;

/// A moment by the local clock and by the cluster's: a simulated cluster's runs ahead, and an
/// unreachable one's stands still.
type Moment = (Instant, Millis);

/// The tries so far.
pub(super) struct Tries {
    began: Moment,
    timeout: Duration,
    pause: Duration,
    /// Releases that the API server has rejected, and nothing else since.
    rejected: HashMap<u32, Rejected>,
    /// Why the latest one failed.
    error: Option<Error>,
}

struct Rejected {
    since: Moment,
    tries: u32,
    given_up: bool,
}

impl Tries {
    fn new(now: Moment) -> Self {
        Self {
            began: now,
            timeout: FIRST_TIMEOUT,
            pause: FIRST_PAUSE,
            rejected: HashMap::new(),
            error: None,
        }
    }

    /// Records that a release failed.
    fn failed(&mut self, id: u32, error: Error, now: Moment) {
        if is_rejected(&error) {
            let rejected = self.rejected.entry(id).or_insert(Rejected {
                since: now,
                tries: 0,
                given_up: false,
            });
            rejected.tries += 1;
            // mutant rejected-release-tried-forever: rejected.tries >= REJECTED_TRIES ~> false
            rejected.given_up = rejected.tries >= REJECTED_TRIES
                && elapsed(rejected.since, now) >= REJECTED_TIMEOUT;
        } else {
            self.rejected.remove(&id);
        }
        self.error = Some(error);
    }

    /// Records that a release succeeded: the others are tried again soon.
    fn succeeded(&mut self) {
        (self.timeout, self.pause) = (FIRST_TIMEOUT, FIRST_PAUSE);
    }

    fn is_given_up(&self, id: u32) -> bool {
        self.rejected.get(&id).is_some_and(|rejected| rejected.given_up)
    }

    /// Returns the pause before the next pass.
    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.timeout = (self.timeout * 2).min(MAX_TIMEOUT);
        self.pause = (pause * 2).min(MAX_PAUSE);
        pause
    }
}

/// Returns whether the API server, or the egress guard, rejected a release. Everything else may
/// pass.
fn is_rejected(error: &Error) -> bool {
    match error {
        Error::Denied(_)
        | Error::Forbidden(_)
        | Error::Unauthorized(_)
        | Error::NotFound(_)
        | Error::Invalid(_) => true,
        // mutant silent-release-given-up: Error::Conflict(_) | Error::Unavailable(_) => false ~>
        //     Error::Conflict(_) | Error::Unavailable(_) => true
        Error::Conflict(_) | Error::Unavailable(_) => false,
    }
}

/// Returns how much time has passed, by the clock that says more.
fn elapsed((began, moment): Moment, (now, at): Moment) -> Duration {
    (now - began).max(Duration::from_millis(at.saturating_sub(moment)))
}

impl Run {
    /// Performs open reversals, newest first, until all are performed, the user insists, or the API
    /// server has rejected what is left for [`REJECTED_TIMEOUT`]. Each gets at least one try, if
    /// only a short one.
    ///
    /// The user can skip them, but not the cluster lock, which keeps every other run from writing.
    pub(super) async fn release_open(&mut self, origin: Origin) {
        let stop = self.context.stop.clone();
        let mut tries = Tries::new(self.moment());
        loop {
            let insisted_before = stop.insisted();
            if self.release_each(origin, &mut tries).await == Pass::Skipped {
                return;
            }
            let open = self.state.reversals.open_from(origin);
            let is_over = open.iter().all(|id| tries.is_given_up(*id));
            match (is_over, stop.insisted(), insisted_before) {
                (true, _, _) if open.is_empty() => return,
                (true, _, _) => return self.report_unreleased(&tries, None),
                (_, true, true) => return,
                // The user insisted during this pass: what it gave up on gets one short try.
                (false, true, false) => continue,
                (false, false, _) => {}
            }
            let pause = tries.next_pause();
            self.report_unreleased(&tries, Some(pause));
            tokio::select! {
                () = self.context.clock.sleep(pause) => {}
                () = stop.wait_insisted() => {}
            }
        }
    }

    /// Tries each open reversal once.
    async fn release_each(&mut self, origin: Origin, tries: &mut Tries) -> Pass {
        let stop = self.context.stop.clone();
        let skip_level = match origin {
            Origin::Guest => 3,
            Origin::Host => u8::MAX,
        };
        for id in self.state.reversals.open_from(origin) {
            let Some(reversal) = self.state.reversals.get(id).cloned() else { continue };
            if tries.is_given_up(id) {
                continue;
            }
            let insisted = stop.insisted();
            let limit = if insisted { HURRIED_TIMEOUT } else { tries.timeout };
            let released = tokio::select! {
                released = self.try_release(reversal, limit) => released,
                // A try that hangs while the user insists is replaced by a short one, and then
                // ends.
                () = stop.reached(if insisted { skip_level } else { 2 }) => continue,
            };
            match released {
                Ok(()) => tries.succeeded(),
                Err(error) => tries.failed(id, error, self.moment()),
            }
            if stop.level() >= 3 {
                return Pass::Skipped;
            }
        }
        Pass::Complete
    }

    async fn try_release(&mut self, reversal: Reversal, limit: Duration) -> Result<(), Error> {
        let release = self.call_for_host(Effect::Reversal(reversal));
        match tokio::time::timeout(limit, release).await {
            Ok(Ok((_, Ok(_)))) => Ok(()),
            Ok(Ok((_, Err(error)))) => Err(error),
            Ok(Err(halt)) => Err(Error::Unavailable(halt.to_string())),
            Err(_) => Err(Error::Unavailable(format!("no response within {} s", limit.as_secs()))),
        }
    }

    /// Tells the observers what is not released yet, if anything.
    fn report_unreleased(&mut self, tries: &Tries, next: Option<Duration>) {
        let open = self.state.reversals.pending();
        let Some(error) = tries.error.as_ref().filter(|_| !open.is_empty()) else { return };
        let tried_for = elapsed(tries.began, self.moment());
        let unreleased = Unreleased {
            open: &open,
            tried_for: u64::try_from(tried_for.as_millis()).unwrap_or(Millis::MAX),
            error,
            next,
            interrupts: self.context.stop.level(),
        };
        self.notify(|observer| observer.on_unreleased(&unreleased));
    }

    /// Returns how long it may take to determine the outcome of a write in doubt.
    pub(super) fn resolve_timeout(&self) -> Duration {
        if self.context.stop.insisted() { HURRIED_TIMEOUT } else { FIRST_TIMEOUT }
    }

    fn moment(&self) -> Moment {
        (Instant::now(), self.context.clock.now())
    }
}

/// How a pass over the open reversals ended.
#[derive(PartialEq, Eq)]
enum Pass {
    Complete,
    /// The user skipped the rest.
    Skipped,
}
