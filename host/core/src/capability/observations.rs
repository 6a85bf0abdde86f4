//! What a plan knows about the objects that it would change.

use super::query_flux::{FluxObject, OwnerInfo, Ownership, SubjectKind};
use super::query_replicationsources::Source;
use super::types::{FluxRef, ObjectRef};
use crate::Millis;
use crate::journal::ObservedState;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashSet;

/// One object of a plan's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectDetails {
    /// As in the line's `targets`.
    pub target: String,
    /// Why it was chosen, in the guest's words.
    pub reason: String,
    /// `metadata.creationTimestamp`, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub created: Option<String>,
    /// The object that applies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When the last backup of a ReplicationSource ended, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<Millis>,
    /// What recreates it or reverts the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns: Option<String>,
}

/// What a plan read about VolSync and Flux. Later entries are newer.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    pub sources: Vec<Source>,
    pub owners: Vec<OwnerInfo>,
    pub flux: Vec<FluxObject>,
}

impl Observations {
    /// Returns the latest owner of an object.
    pub fn owner_of(&self, kind: SubjectKind, object: &ObjectRef) -> Option<&OwnerInfo> {
        let is_for =
            |info: &&OwnerInfo| info.subject.kind == kind && info.subject.object == *object;
        self.owners.iter().rev().find(is_for)
    }

    /// Returns the latest state of a Flux object.
    pub fn flux_object(&self, target: &FluxRef) -> Option<&FluxObject> {
        let owners = self.owners.iter().filter_map(|info| info.owner.as_ref());
        self.flux.iter().rev().chain(owners).find(|object| object.target == *target)
    }
}

/// Writes that a plan recorded instead of sending them.
#[derive(Clone, Debug, Default)]
pub struct PlannedChanges {
    /// UIDs of objects that would be deleted.
    pub deleted: HashSet<String>,
    /// There is at least one.
    pub any: bool,
}

/// Returns what recreates a ReplicationSource that was deleted. If its PVC is gone as well
/// (`has_pvc` is false), it should not come back.
pub fn recreated_by(info: &OwnerInfo, has_pvc: bool) -> String {
    match (info.ownership, &info.owner) {
        (Ownership::Managed, Some(owner)) => {
            let when = match (&owner.suspended, owner.corrects_drift) {
                (Some(_), _) => "once it is resumed",
                (None, true) if has_pvc => "at its next reconciliation",
                (None, true) => {
                    "at its next reconciliation; if its PVC stays deleted, remove it from Git"
                }
                (None, false) if has_pvc => "at its next upgrade",
                (None, false) => {
                    "at its next upgrade; if its PVC stays deleted, remove it from its values"
                }
            };
            format!("{} recreates it {when}", owner.target)
        }
        (Ownership::Managed | Ownership::Foreign | Ownership::UnknownOwner, _) => {
            info.evidence.clone()
        }
        (Ownership::Abandoned | Ownership::Unmanaged, _) => "not in Git: will not come back".into(),
    }
}

/// Returns the creation timestamp of an object that a write observed.
pub fn created(
    observed: Option<&ObservedState>,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Option<String> {
    let object = observed?.objects.iter().find(|object| {
        object["kind"] == kind
            && object["metadata"]["namespace"] == namespace
            && object["metadata"]["name"] == name
    })?;
    object["metadata"]["creationTimestamp"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::query_flux::{Subject, SuspendedBy};
    use super::super::types::FluxKind;
    use super::*;

    fn owner(kind: FluxKind, suspended: bool, corrects_drift: bool) -> FluxObject {
        FluxObject {
            target: FluxRef { kind, namespace: "media".into(), name: "lidarr".into() },
            uid: "u".into(),
            generation: 1,
            suspended: suspended.then_some(SuspendedBy { manager: None, since: None, run: None }),
            ready: None,
            reconciling: false,
            source: None,
            interval_seconds: 600,
            parent: None,
            parent_reverts: false,
            parent_waits: false,
            corrects_drift,
        }
    }

    fn info(ownership: Ownership, owner: Option<FluxObject>) -> OwnerInfo {
        let object = ObjectRef::new("media", "old-lidarr");
        let subject = Subject { kind: SubjectKind::ReplicationSource, object };
        OwnerInfo { subject, ownership, owner, evidence: "Argo CD tracks it".into() }
    }

    #[test]
    fn the_ownership_says_what_recreates_an_object() {
        let managed_with = |kind, suspended, drift, has_pvc| {
            recreated_by(&info(Ownership::Managed, Some(owner(kind, suspended, drift))), has_pvc)
        };
        let managed = |kind, suspended, drift| managed_with(kind, suspended, drift, false);
        assert_eq!(
            managed_with(FluxKind::Kustomization, false, true, true),
            "Kustomization media/lidarr recreates it at its next reconciliation",
            "a backup of a PVC that exists belongs in Git"
        );
        assert_eq!(
            managed_with(FluxKind::HelmRelease, false, false, true),
            "HelmRelease media/lidarr recreates it at its next upgrade"
        );
        assert_eq!(
            managed(FluxKind::Kustomization, false, true),
            "Kustomization media/lidarr recreates it at its next \
             reconciliation; if its PVC stays deleted, remove it from Git"
        );
        assert_eq!(
            managed(FluxKind::Kustomization, true, true),
            "Kustomization media/lidarr recreates it once it is resumed"
        );
        assert!(managed(FluxKind::HelmRelease, false, false).contains("next upgrade"));
        for ownership in [Ownership::Foreign, Ownership::UnknownOwner] {
            assert_eq!(recreated_by(&info(ownership, None), true), "Argo CD tracks it");
        }
        for ownership in [Ownership::Unmanaged, Ownership::Abandoned] {
            assert_eq!(
                recreated_by(&info(ownership, None), true),
                "not in Git: will not come back"
            );
        }
    }
}
