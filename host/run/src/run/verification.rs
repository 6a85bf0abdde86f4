//! After everything is released: reads again what the guest observed, until it has stayed clear for
//! the window of each problem. The cluster lock is released, and the run's deadline does not apply.

use super::Run;
use salve_core::Millis;
use salve_core::capability::run::Step;
use salve_core::capability::{Effect, Local};
use salve_core::journal::GuestExit;
use salve_core::report::Concluded;
use std::time::Duration;

/// How many reads of a window are made.
const READS_PER_WINDOW: u64 = 10;
/// The shortest time between two of them, in milliseconds.
const MIN_INTERVAL: Millis = 1_000;
/// How much longer than its window a problem may take to become clear, at least.
const MIN_EXTRA: Millis = 60_000;

impl Run {
    /// Verifies what the guest claims to have fixed. The proof in the run's state has the result.
    pub(super) async fn verify(&mut self, exit: &GuestExit) {
        let claims_fixed = matches!(
            exit,
            GuestExit::Concluded(conclusion) if conclusion.verdict == Concluded::Fixed
        );
        let is_released = self.state.reversals.pending().is_empty();
        if !claims_fixed || !is_released || self.broken.is_some() {
            return;
        }
        // The process that read before has died, and no one was reading since.
        self.state.proof.restart();
        let Some((names, longest)) = self.state.proof.observed() else { return };
        let title = format!("read again what was observed: {}", names.join(", "));
        let step = Step { name: "prove".into(), title };
        drop(self.call_for_host(Effect::Local(Local::Step(step))).await);
        let end = self.context.clock.now() + longest + longest.max(MIN_EXTRA);
        let stop = self.context.stop.clone();
        tokio::select! {
            biased;
            () = stop.wait() => {}
            () = self.verify_until(end) => {}
        }
    }

    async fn verify_until(&mut self, end: Millis) {
        loop {
            if !self.verify_once().await {
                return;
            }
            let now = self.context.clock.now();
            let window = self.state.proof.shortest_open_window().unwrap_or(0);
            if self.state.proof.is_settled() || now >= end {
                return;
            }
            let interval = (window / READS_PER_WINDOW).max(MIN_INTERVAL);
            self.context.clock.sleep(Duration::from_millis(interval.min(end - now))).await;
        }
    }

    /// Reads each observation once. Returns false if the journal accepts nothing more.
    async fn verify_once(&mut self) -> bool {
        let mut made = vec![];
        for index in 0..self.state.proof.observations() {
            while let Some(read) = self.state.proof.next_read(index) {
                // One list may show several problems.
                if made.contains(&read) {
                    break;
                }
                let reply = self.call_for_host(Effect::Read(read.clone())).await;
                if reply.is_err() || self.broken.is_some() {
                    return false;
                }
                made.push(read);
                if !self.state.proof.has_more_pages(index) {
                    break;
                }
            }
        }
        true
    }
}
