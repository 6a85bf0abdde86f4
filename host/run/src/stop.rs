//! Stopping from outside: once means at the next safe point, twice means now.

use tokio::sync::watch;

/// A handle on a run's end. Clones stop the same run.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    state: watch::Sender<RunState>,
}

#[derive(Debug, Default)]
struct RunState {
    /// How often somebody asked.
    level: u8,
    /// A call of the guest is under way.
    calling: bool,
}

/// A call of the guest. It is over when this goes.
pub(crate) struct Calling(Stop);

impl Drop for Calling {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.calling = false);
    }
}

impl Stop {
    /// Asks to stop. The first time a guest that computes, waits and looks end, writes are finished; the second time writes are
    /// abandoned too; the third time, so are releases.
    pub fn request(&self) {
        self.state.send_modify(|state| state.level = state.level.saturating_add(1));
    }
    /// How often somebody asked.
    pub fn level(&self) -> u8 {
        self.state.borrow().level
    }
    /// Somebody asked.
    pub fn requested(&self) -> bool {
        self.level() >= 1
    }
    /// Somebody asked twice.
    pub fn insisted(&self) -> bool {
        self.level() >= 2
    }
    /// Ends when somebody has asked.
    pub async fn wait(&self) {
        self.reached(1).await;
    }
    /// Ends when somebody has asked twice.
    pub async fn wait_insisted(&self) {
        // mutant second-interrupt-ignored: reached(2) ~> reached(u8::MAX)
        self.reached(2).await;
    }
    /// Ends when somebody has asked so often.
    pub async fn reached(&self, wanted: u8) {
        self.until(|state| state.level >= wanted).await;
    }
    /// Ends when somebody has asked and the guest computes: no call of it is under way, so it can be dropped where it stands. A guest
    /// that calls nothing comes to no other safe point.
    pub async fn wait_between_calls(&self) {
        self.until(|state| state.level >= 1 && !state.calling).await;
    }

    pub(crate) fn calling(&self) -> Calling {
        self.state.send_modify(|state| state.calling = true);
        Calling(self.clone())
    }

    async fn until(&self, holds: impl FnMut(&RunState) -> bool) {
        let mut state = self.state.subscribe();
        // The sender lives as long as self, so the only way to end is to be asked.
        if state.wait_for(holds).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
