//! Imitations of controllers that cannot run here, as tasks of the test process: Ceph CSI with its
//! locks, the manager of VolSync, and as much of helm-controller as a reconcile request needs. Each
//! has its own user.

mod ceph_csi;
mod csi_log;
mod helm;
mod snapshots;
mod volsync;

pub use ceph_csi::{CephCsi, CephCsiOptions, DRIVER, OPERATOR_DEPLOYMENT};
pub use helm::HelmController;
pub use volsync::VolSync;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinHandle;

/// The interval between two reconciliations.
const INTERVAL: Duration = Duration::from_millis(250);

/// A controller that compares the cluster with what it should be and changes what differs.
trait Reconciler: Send + 'static {
    fn reconcile(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// A task that reconciles at an interval. Dropping it ends the task.
struct ReconcileLoop {
    task: JoinHandle<()>,
    last_error: Arc<Mutex<Option<String>>>,
}

impl ReconcileLoop {
    /// Reconciles until dropped. A failure is kept for [`Self::last_error`], and the next one is
    /// tried.
    fn spawn(mut reconciler: impl Reconciler) -> ReconcileLoop {
        let last_error = Arc::new(Mutex::new(None));
        let error = Arc::clone(&last_error);
        let task = tokio::spawn(async move {
            loop {
                let failed = reconciler.reconcile().await.err().map(|error| format!("{error:#}"));
                *error.lock().unwrap_or_else(PoisonError::into_inner) = failed;
                tokio::time::sleep(INTERVAL).await;
            }
        });
        ReconcileLoop { task, last_error }
    }

    /// Returns the error of the last reconciliation, if it failed.
    fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ReconcileLoop {
    fn drop(&mut self) {
        self.task.abort();
    }
}
