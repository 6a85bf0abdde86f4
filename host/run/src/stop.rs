//! Stopping from outside: once means at the next safe point, twice means now.

use tokio::sync::watch;

/// A handle on a run's end. Clones stop the same run.
#[derive(Clone, Debug)]
pub struct Stop {
    level: watch::Sender<u8>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { level: watch::Sender::new(0) }
    }
}

impl Stop {
    /// Asks to stop. The first time waits and looks end, writes are finished; the second time writes are
    /// abandoned too; the third time, so are releases.
    pub fn request(&self) {
        self.level.send_modify(|level| *level = level.saturating_add(1));
    }
    /// How often somebody asked.
    pub fn level(&self) -> u8 {
        *self.level.borrow()
    }
    /// Somebody asked.
    pub fn requested(&self) -> bool {
        *self.level.borrow() >= 1
    }
    /// Somebody asked twice.
    pub fn insisted(&self) -> bool {
        *self.level.borrow() >= 2
    }
    /// Ends when somebody has asked.
    pub async fn wait(&self) {
        self.reached(1).await;
    }
    /// Ends when somebody has asked twice.
    pub async fn wait_insisted(&self) {
        self.reached(2).await;
    }
    /// Ends when somebody has asked so often.
    pub async fn reached(&self, wanted: u8) {
        let mut level = self.level.subscribe();
        // The sender lives as long as self, so the only way to end is to be asked.
        if level.wait_for(|l| *l >= wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
