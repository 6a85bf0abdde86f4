//! An imitation of Flux's helm-controller: it acknowledges reconcile requests, and renders nothing.

use anyhow::Result;
use serde_json::json;

use super::super::cluster::{Cluster, str_at};
use super::super::credentials::User;
use super::super::{ControlPlane, kinds};
use super::{ReconcileLoop, Reconciler};

/// The running controller. Dropping it stops it.
pub struct HelmController {
    reconcile_loop: ReconcileLoop,
}

impl HelmController {
    /// Starts the controller.
    pub async fn start(plane: &ControlPlane) -> Result<HelmController> {
        let cluster = plane.cluster(User::HelmController).await?;
        Ok(HelmController { reconcile_loop: ReconcileLoop::spawn(Releases { cluster }) })
    }

    /// Stops the controller. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// Returns the error of the last reconciliation, if it failed.
    pub fn last_error(&self) -> Option<String> {
        self.reconcile_loop.last_error()
    }
}

struct Releases {
    cluster: Cluster,
}

impl Reconciler for Releases {
    /// Marks every release that is not suspended as ready and its latest request as handled.
    async fn reconcile(&mut self) -> Result<()> {
        for release in self.cluster.list(&kinds::HELM_RELEASES, "").await? {
            let (metadata, status) = (&release["metadata"], &release["status"]);
            let requested = &metadata["annotations"]["reconcile.fluxcd.io/requestedAt"];
            let is_handled = status["observedGeneration"] == metadata["generation"]
                && status["lastHandledReconcileAt"] == *requested;
            if is_handled || release["spec"]["suspend"] == true {
                continue;
            }
            let status = json!({
                "observedGeneration": metadata["generation"],
                "lastHandledReconcileAt": requested,
                "conditions": [{
                    "type": "Ready",
                    "status": "True",
                    "reason": "UpgradeSucceeded",
                    "message": "Helm upgrade succeeded",
                    "lastTransitionTime": now(),
                    "observedGeneration": metadata["generation"],
                }],
            });
            let (namespace, name) =
                (str_at(&release, "/metadata/namespace"), str_at(&release, "/metadata/name"));
            self.cluster.merge_status(&kinds::HELM_RELEASES, namespace, name, &status).await?;
        }
        Ok(())
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
