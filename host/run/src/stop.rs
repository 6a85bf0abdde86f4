//! Stopping from outside: once at the next safe point, twice at once.

use tokio::sync::watch;

/// A handle that stops a run. Clones stop the same run.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How often the user asked to stop.
    level: u8,
    /// A call of the guest is in progress.
    calling: bool,
}

/// A call of the guest in progress. It ends when this is dropped.
pub(crate) struct Calling(Stop);

impl Drop for Calling {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.calling = false);
    }
}

impl Stop {
    /// Asks to stop. The first request ends the guest's computation, waits, and reads, and lets
    /// writes finish; the second also abandons writes; the third also abandons releases.
    pub fn request(&self) {
        self.state.send_modify(|state| state.level = state.level.saturating_add(1));
    }

    /// Returns the number of requests.
    pub fn level(&self) -> u8 {
        self.state.borrow().level
    }

    pub fn requested(&self) -> bool {
        self.level() >= 1
    }

    /// Returns whether there were two requests.
    pub fn insisted(&self) -> bool {
        self.level() >= 2
    }

    /// Waits for a request.
    pub async fn wait(&self) {
        self.reached(1).await;
    }

    /// Waits for the second request.
    pub async fn wait_insisted(&self) {
        // mutant second-interrupt-ignored: reached(2) ~> reached(u8::MAX)
        self.reached(2).await;
    }

    /// Waits until there were this many requests.
    pub async fn reached(&self, level: u8) {
        self.until(|state| state.level >= level).await;
    }

    /// Waits for a request while no call of the guest is in progress, so that the guest can be
    /// dropped. A guest that makes no call reaches no other safe point.
    pub async fn wait_between_calls(&self) {
        self.until(|state| state.level >= 1 && !state.calling).await;
    }

    pub(crate) fn calling(&self) -> Calling {
        self.state.send_modify(|state| state.calling = true);
        Calling(self.clone())
    }

    async fn until(&self, condition: impl FnMut(&State) -> bool) {
        let mut state = self.state.subscribe();
        // The sender lives as long as self, so it is never closed.
        if state.wait_for(condition).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
