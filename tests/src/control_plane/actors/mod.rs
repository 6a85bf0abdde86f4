//! The parties that Kubernetes does not bring and that the machine cannot build, played by tasks of the test process:
//! Ceph CSI with its locks, VolSync's manager, and of helm-controller what an owner that is asked to reconcile needs. Each sees the cluster as a user of its own.

mod ceph_csi;
mod csi_log;
mod helm;
mod snapshots;
mod volsync;

pub use ceph_csi::{BY_OPERATOR, CephCsi, DRIVER, Manner};
pub use helm::HelmController;
pub use volsync::VolSync;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinHandle;

/// How often a party looks at the cluster.
const PACE: Duration = Duration::from_millis(250);

/// Somebody who looks at the cluster and does what is due.
trait Party: Send + 'static {
    /// Looks once.
    fn round(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// A party at work, a round after the other. It stops with this value.
struct Rounds {
    task: JoinHandle<()>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Rounds {
    /// Plays rounds until dropped. A round that fails is remembered and the next one tried, as a controller would.
    fn play(mut party: impl Party) -> Rounds {
        let trouble = Arc::new(Mutex::new(None));
        let remembered = Arc::clone(&trouble);
        let task = tokio::spawn(async move {
            loop {
                let failed = party.round().await.err().map(|error| format!("{error:#}"));
                *remembered.lock().unwrap_or_else(PoisonError::into_inner) = failed;
                tokio::time::sleep(PACE).await;
            }
        });
        Rounds { task, trouble }
    }

    /// Why the latest round failed, if it did.
    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.task.abort();
    }
}
