//! Decides which ReplicationSources to delete, which to skip, and whether each comes back.

use salve_sdk::query_flux::{FluxObject, OwnerInfo, Ownership};
use salve_sdk::query_replicationsources::{Health, PvcState, Source};
use salve_sdk::types::{FluxKind, FluxRef};

use crate::backups::{self, Obstacle};
use crate::config::{Config, Mode};
use crate::evidence::Observation;

/// Why a ReplicationSource is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Orphan,
    TerminatingSource,
    Stuck,
    /// The configuration has `mode=all`.
    ModeAll,
}

impl Reason {
    /// Returns the reason as shown in plans and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "its PVC no longer exists",
            Self::TerminatingSource => "its PVC is being deleted",
            Self::Stuck => "its sync waits for the driver",
            Self::ModeAll => "mode=all",
        }
    }
}

/// Whether and how a deleted ReplicationSource is recreated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recreation {
    /// Its owner applies it again once resumed.
    ByOwner(FluxRef),
    /// Its HelmRelease applies it only if forced, and the run forces it, because the PVC exists.
    Forced(FluxRef),
    /// Its HelmRelease applies it at the next upgrade. The run does not force it, because the PVC
    /// is gone and the ReplicationSource would be an orphan again.
    AtUpgrade(FluxRef),
    /// A user suspended its owner and has to resume it.
    OwnerSuspended(FluxRef),
    /// Its owner is not in this cluster, or is not Flux: it may recreate it at any time.
    Unknown,
    Never,
}

/// A ReplicationSource to delete.
#[derive(Clone, Debug)]
pub struct SelectedSource {
    /// As observed. Its UID and digest are preconditions of the deletion.
    pub source: Source,
    pub reason: Reason,
    pub owner: Option<FluxObject>,
    pub recreation: Recreation,
}

/// A candidate that is not deleted.
#[derive(Clone, Debug)]
pub struct SkippedSource {
    pub source: Source,
    /// Why it is skipped, and which setting would change that.
    pub reason: String,
}

/// The ReplicationSources to delete, and the candidates that are skipped.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub selected: Vec<SelectedSource>,
    pub skipped: Vec<SkippedSource>,
}

/// Returns the ReplicationSources to delete unless their ownership forbids it.
pub fn candidates(observation: &Observation, mode: Mode) -> Vec<(&Source, Reason)> {
    let reason = |source: &Source| match mode {
        Mode::All => Some(cause(source, observation).unwrap_or(Reason::ModeAll)),
        // mutant healthy-sources-deleted: cause(source, observation) ~>
        //     Some(cause(source, observation).unwrap_or(Reason::ModeAll))
        Mode::Evidence => cause(source, observation),
    };
    let sources = observation.sources.iter().flatten();
    sources.filter_map(|source| Some((source, reason(source)?))).collect()
}

/// Returns why a ReplicationSource takes part in the incident: its PVC is gone, or something that
/// it created waits for the driver. A backup that is paused, slow, or failing for another reason
/// does not.
fn cause(source: &Source, observation: &Observation) -> Option<Reason> {
    let obstacle = backups::obstacle(source, observation);
    // mutant paused-source-deleted: Obstacle::Paused | Obstacle::Idle ~> Obstacle::Idle
    if matches!(obstacle, Some(Obstacle::Paused | Obstacle::Idle)) {
        return None;
    }
    match source.health {
        Health::Orphan => Some(Reason::Orphan),
        Health::TerminatingSource => Some(Reason::TerminatingSource),
        // mutant slow-backup-deleted: matches!(obstacle, Some(Obstacle::Driver(_))) ~> true
        Health::Stuck => matches!(obstacle, Some(Obstacle::Driver(_))).then_some(Reason::Stuck),
        Health::Healthy | Health::UnboundSource | Health::External => None,
    }
}

/// Returns the unfinished ReplicationSources that are not candidates, with the reason.
pub fn unrelated(observation: &Observation) -> Vec<SkippedSource> {
    let sources = observation.sources.iter().flatten();
    sources
        .filter(|source| match source.health {
            Health::Orphan | Health::TerminatingSource | Health::Stuck => true,
            Health::Healthy | Health::UnboundSource | Health::External => false,
        })
        .filter(|source| cause(source, observation).is_none())
        .filter_map(|source| {
            let reason = backups::obstacle(source, observation)?.reason_to_keep();
            Some(SkippedSource { source: source.clone(), reason })
        })
        .collect()
}

/// Decides about each candidate. `ownerships` are those of the candidates, in the same order.
pub fn select(
    candidates: &[(&Source, Reason)],
    ownerships: &[OwnerInfo],
    config: &Config,
) -> Selection {
    let mut selection = Selection::default();
    for ((source, reason), ownership) in candidates.iter().zip(ownerships) {
        let source = (*source).clone();
        match reason_to_skip(&source, ownership, config) {
            Some(reason) => selection.skipped.push(SkippedSource { source, reason }),
            None => {
                let recreation = recreation(&source, ownership);
                selection.selected.push(SelectedSource {
                    source,
                    reason: *reason,
                    owner: recreating_owner(ownership),
                    recreation,
                });
            }
        }
    }
    selection
}

fn reason_to_skip(source: &Source, ownership: &OwnerInfo, config: &Config) -> Option<String> {
    if source.has_identity && !config.delete_identities {
        return Some(format!(
            "deleting it destroys keys that peers know ({}); to delete it anyway, set \
             deleteIdentities=true",
            source.mover
        ));
    }
    let may_have_pvc = match source.pvc_state {
        PvcState::Present | PvcState::Unbound => true,
        PvcState::Terminating | PvcState::Missing => false,
        PvcState::None => true,
    };
    let suspended = ownership
        .owner
        .as_ref()
        .filter(|owner| owner.suspended.as_ref().is_some_and(|by| by.run.is_none()));
    match ownership.ownership {
        // mutant suspended-owner-ignored: !config.delete_unmanaged => suspended ~>
        //     config.delete_unmanaged => suspended
        Ownership::Managed if !config.delete_unmanaged => suspended.map(|owner| {
            format!(
                "if deleted, it comes back only when {} is resumed, because a user suspended it; \
                 to delete it anyway, set deleteUnmanaged=true",
                owner.target
            )
        }),
        Ownership::Managed => None,
        // mutant foreign-owned-deleted: !config.delete_foreign ~> config.delete_foreign
        Ownership::Foreign | Ownership::UnknownOwner if !config.delete_foreign => {
            Some(match &ownership.owner {
                Some(_) => format!(
                    "may come back: {}; to delete it anyway, set deleteForeign=true",
                    ownership.evidence
                ),
                None => format!(
                    "may come back, and Salve cannot suspend what applies it: {}; suspend that \
                     first (in Argo CD: automated sync), then set deleteForeign=true",
                    ownership.evidence
                ),
            })
        }
        // mutant manual-source-deleted: Unmanaged if !config ~> Unmanaged if config
        Ownership::Unmanaged if !config.delete_unmanaged => Some(
            "not in Git: will not come back; to delete it anyway, set deleteUnmanaged=true"
                .to_owned(),
        ),
        Ownership::Abandoned if may_have_pvc && !config.delete_unmanaged => Some(
            "not in Git: will not come back, although its PVC exists; to delete it anyway, set \
             deleteUnmanaged=true"
                .to_owned(),
        ),
        Ownership::Foreign
        | Ownership::UnknownOwner
        | Ownership::Unmanaged
        | Ownership::Abandoned => None,
    }
}

/// Returns the Flux object that may recreate a deleted ReplicationSource, and so has to be
/// suspended.
fn recreating_owner(ownership: &OwnerInfo) -> Option<FluxObject> {
    match ownership.ownership {
        Ownership::Managed | Ownership::Foreign | Ownership::UnknownOwner => {
            ownership.owner.clone()
        }
        Ownership::Abandoned | Ownership::Unmanaged => None,
    }
}

fn recreation(source: &Source, ownership: &OwnerInfo) -> Recreation {
    match ownership.ownership {
        Ownership::Managed => {}
        Ownership::Foreign | Ownership::UnknownOwner => return Recreation::Unknown,
        Ownership::Abandoned | Ownership::Unmanaged => return Recreation::Never,
    }
    let Some(owner) = &ownership.owner else { return Recreation::Never };
    let target = owner.target.clone();
    if owner.suspended.is_some() {
        return Recreation::OwnerSuspended(target);
    }
    if target.kind != FluxKind::HelmRelease || owner.corrects_drift {
        return Recreation::ByOwner(target);
    }
    match source.pvc_state {
        PvcState::Present | PvcState::Unbound | PvcState::None => Recreation::Forced(target),
        PvcState::Terminating | PvcState::Missing => Recreation::AtUpgrade(target),
    }
}

impl Selection {
    /// Returns the owners of the selected ReplicationSources, without duplicates.
    pub fn owners(&self) -> Vec<FluxObject> {
        let mut owners: Vec<FluxObject> = Vec::new();
        for owner in self.selected.iter().filter_map(|selected| selected.owner.as_ref()) {
            if !owners.iter().any(|known| known.target == owner.target) {
                owners.push(owner.clone());
            }
        }
        owners
    }

    /// Returns whether this owner must be forced to recreate what was deleted.
    pub fn forces(&self, owner: &FluxRef) -> bool {
        self.selected
            .iter()
            .any(|selected| matches!(&selected.recreation, Recreation::Forced(by) if by == owner))
    }

    /// Returns the ReplicationSources that this owner recreates within the run.
    pub fn recreated_by(&self, owner: &FluxRef) -> Vec<&SelectedSource> {
        let is_by_owner = |selected: &&SelectedSource| match &selected.recreation {
            Recreation::ByOwner(by) | Recreation::Forced(by) => by == owner,
            Recreation::AtUpgrade(_)
            | Recreation::OwnerSuspended(_)
            | Recreation::Unknown
            | Recreation::Never => false,
        };
        self.selected.iter().filter(is_by_owner).collect()
    }

    /// Returns the ReplicationSources that are recreated within the run.
    pub fn recreated(&self) -> Vec<&SelectedSource> {
        let is_within_run = |selected: &&SelectedSource| match selected.recreation {
            Recreation::ByOwner(_) | Recreation::Forced(_) => true,
            Recreation::AtUpgrade(_)
            | Recreation::OwnerSuspended(_)
            | Recreation::Unknown
            | Recreation::Never => false,
        };
        self.selected.iter().filter(is_within_run).collect()
    }
}

#[cfg(test)]
#[path = "tests/selection.rs"]
mod tests;
