//! Flux's helm-controller, as far as an owner is asked to reconcile: it answers, and renders nothing.

use anyhow::Result;
use serde_json::json;

use super::super::cluster::{Cluster, text};
use super::super::credentials::User;
use super::super::{ControlPlane, kinds};
use super::{Party, Rounds};

/// The party at work. It stops with this value.
pub struct HelmController {
    rounds: Rounds,
}

impl HelmController {
    /// Begins to play.
    pub async fn start(plane: &ControlPlane) -> Result<HelmController> {
        let cluster = plane.cluster(User::HelmController).await?;
        Ok(HelmController { rounds: Rounds::play(Releases { cluster }) })
    }

    /// Stops playing. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// Why its latest round failed, if it did.
    pub fn trouble(&self) -> Option<String> {
        self.rounds.trouble()
    }
}

struct Releases {
    cluster: Cluster,
}

impl Party for Releases {
    /// A release that is not suspended is ready in its generation, and its latest request handled.
    async fn round(&mut self) -> Result<()> {
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
                    "type": "Ready", "status": "True", "reason": "UpgradeSucceeded", "message": "Helm upgrade succeeded",
                    "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                    "observedGeneration": metadata["generation"],
                }],
            });
            let (namespace, name) =
                (text(&release, "/metadata/namespace"), text(&release, "/metadata/name"));
            self.cluster.merge_status(&kinds::HELM_RELEASES, namespace, name, &status).await?;
        }
        Ok(())
    }
}
