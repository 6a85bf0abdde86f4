//! In which state a scenario finds the apps and the storage of the base cluster.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// The state of the base cluster.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Cluster {
    /// States of apps, by namespace and name, as in `media/plex`. All others are healthy.
    pub apps: BTreeMap<String, AppState>,
    pub csi: Csi,
    /// Whether Ceph responds. The default is true.
    pub ceph_responds: Option<bool>,
    /// Whether there is the Deployment media/importer, which is stuck until it is restarted. The
    /// default is false.
    pub stuck_importer: Option<bool>,
}

/// The state of the CSI controller.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Csi {
    /// Who manages the controller's Deployment. The default is rook.
    pub operator: Option<Operator>,
    /// Containers that the controller's pods do not have.
    pub without: Vec<String>,
    /// Whether the controller holds an operation lock for everything that an app waits for. The
    /// default is false.
    pub locked: Option<bool>,
    /// Keys of operation locks that belong to no object.
    pub leftover_locks: Vec<String>,
}

/// Who manages the CSI controller's Deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    Rook,
    /// Reverts annotations on the pod template.
    CephCsiOperator,
}

/// The state of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// There is no such app.
    Absent,
    /// The PVC is bound, the app is running, and its backups succeed.
    Healthy,
    /// Git no longer declares the app's volume and backup; the ReplicationSource still exists,
    /// without a PVC, because its pruning is disabled.
    Abandoned,
    /// Git declares a ReplicationSource whose PVC does not exist.
    MissingPvc,
    /// The PVC is terminating while a snapshot of it hangs; its volume is retained.
    Terminating,
    /// The same, but its volume is deleted with it.
    TerminatingDelete,
    /// The app's new PVC is locked.
    PvcLocked,
    /// The prime PVC created from the app's backup is locked.
    PrimeLocked,
    /// The snapshot to restore the app from is locked.
    ImageLocked,
    /// The clone for a backup is locked.
    CloneLocked,
    /// The cache for a backup is locked.
    CacheLocked,
    /// The cache for a restore is locked.
    RestoreLocked,
    /// The PVC waits for its first consumer.
    WaitsForConsumer,
    /// A snapshot is bound, but no sidecar takes it.
    SnapshotNotTaken,
}

impl Cluster {
    /// Returns the state that `self` makes of the one of a base scenario.
    pub fn over(&self, base: &Cluster) -> Cluster {
        let mut apps = base.apps.clone();
        apps.extend(self.apps.iter().map(|(app, state)| (app.clone(), *state)));
        let both = |ours: &[String], theirs: &[String]| [theirs, ours].concat();
        Cluster {
            apps,
            csi: Csi {
                operator: self.csi.operator.or(base.csi.operator),
                without: both(&self.csi.without, &base.csi.without),
                locked: self.csi.locked.or(base.csi.locked),
                leftover_locks: both(&self.csi.leftover_locks, &base.csi.leftover_locks),
            },
            ceph_responds: self.ceph_responds.or(base.ceph_responds),
            stuck_importer: self.stuck_importer.or(base.stuck_importer),
        }
    }

    pub fn is_locked(&self) -> bool {
        self.csi.locked == Some(true)
    }

    pub fn is_ceph_down(&self) -> bool {
        self.ceph_responds == Some(false)
    }

    /// Returns whether the CSI controller's pods have this container.
    pub fn has_container(&self, container: &str) -> bool {
        !self.csi.without.iter().any(|without| without == container)
    }
}
