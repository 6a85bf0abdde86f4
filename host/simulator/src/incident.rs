//! The situations that a simulated cluster can start in.

use std::fmt;
use std::str::FromStr;

/// What is wrong with the cluster at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Incident {
    /// The playbook's incident.
    #[default]
    Playbook,
    /// The same, where clearing the jam would destroy data.
    TerminatingDelete,
    /// The same, with an operator that undoes annotations on the controller's pods.
    OperatorManaged,
    /// Nothing is wrong.
    Healthy,
    /// A look-alike: nobody takes snapshots.
    MissingSnapshotter,
    /// A look-alike: Ceph itself is down.
    CephInError,
    /// An app of its own trouble, which one restart cures.
    StuckImporter,
}

/// A word that names no incident.
#[derive(Debug, thiserror::Error)]
#[error("no incident is called {given:?}; there are {}", Incident::ALL.map(|one| one.to_string()).join(", "))]
pub struct UnknownIncident {
    given: String,
}

impl Incident {
    /// All of them, in the order to show them in.
    pub const ALL: [Incident; 7] = [
        Incident::Playbook,
        Incident::TerminatingDelete,
        Incident::OperatorManaged,
        Incident::Healthy,
        Incident::MissingSnapshotter,
        Incident::CephInError,
        Incident::StuckImporter,
    ];

    /// One sentence on it.
    pub fn description(self) -> &'static str {
        match self {
            Incident::Playbook => {
                "Operation locks in the Ceph CSI controller hold up claims and snapshots; orphaned and terminating \
                 ReplicationSources caused it."
            }
            Incident::TerminatingDelete => {
                "The playbook's incident, but the terminating claim's volume has reclaim policy Delete: clearing the \
                 jam destroys it."
            }
            Incident::OperatorManaged => {
                "The playbook's incident under ceph-csi-operator, which undoes a restart by annotation before any pod \
                 is replaced."
            }
            Incident::Healthy => "Everything is bound and backed up; there is nothing to do.",
            Incident::MissingSnapshotter => {
                "A look-alike: the CSI controller has no csi-snapshotter, so snapshots never become ready, and nothing \
                 is locked."
            }
            Incident::CephInError => {
                "A look-alike: Ceph is in HEALTH_ERR, so provisioning runs into deadlines, and nothing is locked."
            }
            Incident::StuckImporter => {
                "Storage is well; the Deployment media/importer stands still until it is restarted."
            }
        }
    }

    /// Whether operation locks are held at the start.
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

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Incident::ALL
            .into_iter()
            .find(|one| one.to_string() == given)
            .ok_or_else(|| UnknownIncident { given: given.to_owned() })
    }
}
