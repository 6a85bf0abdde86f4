//! The incidents that a simulated cluster can start in.

use std::fmt;
use std::str::FromStr;

/// The initial state of a simulated cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Incident {
    /// The incident that the playbook describes.
    #[default]
    Playbook,
    /// Like `Playbook`, but releasing the locks destroys data.
    TerminatingDelete,
    /// Like `Playbook`, with an operator that reverts annotations on the controller's pod template.
    OperatorManaged,
    /// Nothing is wrong.
    Healthy,
    /// Similar symptoms: the CSI controller has no csi-snapshotter.
    MissingSnapshotter,
    /// Similar symptoms: Ceph itself is down.
    CephInError,
    /// An app that is stuck until it is restarted; storage is healthy.
    StuckImporter,
}

/// The error for an unknown incident name.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown incident {name:?}; expected one of: {}",
    Incident::ALL.map(|incident| incident.to_string()).join(", ")
)]
pub struct UnknownIncident {
    name: String,
}

impl Incident {
    /// All incidents, in display order.
    pub const ALL: [Incident; 7] = [
        Incident::Playbook,
        Incident::TerminatingDelete,
        Incident::OperatorManaged,
        Incident::Healthy,
        Incident::MissingSnapshotter,
        Incident::CephInError,
        Incident::StuckImporter,
    ];

    /// Returns a one-sentence description.
    pub fn description(self) -> &'static str {
        match self {
            Incident::Playbook => {
                "Operation locks in the Ceph CSI controller block PVCs and snapshots; orphaned and \
                 terminating ReplicationSources caused them."
            }
            Incident::TerminatingDelete => {
                "The playbook incident, but the volume of the terminating PVC has reclaim policy \
                 Delete: releasing the locks destroys it."
            }
            Incident::OperatorManaged => {
                "The playbook incident under ceph-csi-operator, which reverts a restart by \
                 annotation before any pod is replaced."
            }
            Incident::Healthy => "All PVCs are bound and backed up; there is nothing to do.",
            Incident::MissingSnapshotter => {
                "Similar symptoms, different cause: the CSI controller has no csi-snapshotter, so \
                 snapshots never become ready; nothing is locked."
            }
            Incident::CephInError => {
                "Similar symptoms, different cause: Ceph is in HEALTH_ERR, so provisioning times \
                 out; nothing is locked."
            }
            Incident::StuckImporter => {
                "Storage is healthy; the Deployment media/importer is stuck until it is restarted."
            }
        }
    }

    /// Returns whether the CSI controller has operation locks at the start.
    pub fn is_locked(self) -> bool {
        match self {
            Incident::Playbook | Incident::TerminatingDelete | Incident::OperatorManaged => true,
            Incident::Healthy
            | Incident::MissingSnapshotter
            | Incident::CephInError
            | Incident::StuckImporter => false,
        }
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Incident::Playbook => "playbook",
            Incident::TerminatingDelete => "terminating-delete",
            Incident::OperatorManaged => "operator-managed",
            Incident::Healthy => "healthy",
            Incident::MissingSnapshotter => "missing-snapshotter",
            Incident::CephInError => "ceph-error",
            Incident::StuckImporter => "stuck-importer",
        })
    }
}

impl FromStr for Incident {
    type Err = UnknownIncident;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Incident::ALL
            .into_iter()
            .find(|incident| incident.to_string() == name)
            .ok_or_else(|| UnknownIncident { name: name.to_owned() })
    }
}
