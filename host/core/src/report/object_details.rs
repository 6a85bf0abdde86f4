//! What a plan tells of each object that it would change: how old it is, whose, why it was chosen, and what would make it anew.

use crate::Millis;
use crate::effect::query_flux::{FluxObject, OwnerInfo, Ownership, SubjectKind};
use crate::effect::query_replicationsources::Source;
use crate::effect::shared::{FluxRef, ObjectRef};
use crate::effect::{Answer, Read, Write};
use crate::journal::ObservedState;
use serde::Serialize;
use serde_json::Value;

/// One object of a plan's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// As the line's `targets` spell it.
    pub target: String,
    /// Why it was chosen, in the guest's words.
    pub why: String,
    /// Its `metadata.creationTimestamp`, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who applies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Of a ReplicationSource: when its last backup ended, milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<Millis>,
    /// What makes it anew, or undoes the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns: Option<String>,
}

/// What a plan has read of VolSync and Flux, the newest of each object.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    sources: Vec<Source>,
    owned: Vec<OwnerInfo>,
    flux: Vec<FluxObject>,
}

impl Seen {
    /// Whether an answer to this is of use here.
    pub fn wants(look: &Read) -> bool {
        matches!(look, Read::ListSources(_) | Read::FindOwners(_) | Read::GetFluxObject(_))
    }

    pub fn learn(&mut self, answer: Answer) {
        match answer {
            Answer::ListSources(sources) => self.sources.extend(sources),
            Answer::FindOwners(owned) => self.owned.extend(owned),
            Answer::GetFluxObject(object) => self.flux.push(object),
            _ => {}
        }
    }

    /// What is known of the objects of a touch.
    pub fn about(&self, write: &Write, step: &str, observed: Option<&ObservedState>) -> Vec<About> {
        match write {
            Write::Delete(delete) => {
                let one = |frozen: &crate::effect::delete_replicationsources::DeletionTarget| {
                    let source = self.sources.iter().rev().find(|source| source.uid == frozen.uid);
                    let owned = self.owned(SubjectKind::ReplicationSource, &frozen.object);
                    About {
                        target: frozen.object.target().to_string(),
                        why: if frozen.reason.is_empty() {
                            step.into()
                        } else {
                            frozen.reason.clone()
                        },
                        created: created(
                            observed,
                            "ReplicationSource",
                            &frozen.object.namespace,
                            &frozen.object.name,
                        ),
                        owner: owned
                            .and_then(|owned| owned.owner.as_ref())
                            .map(|owner| kinded(&owner.target)),
                        last_backup: source.and_then(|source| source.last_sync),
                        returns: owned.map(returns),
                    }
                };
                delete.set.iter().map(one).collect()
            }
            Write::Suspend(suspend) => {
                let one = |target: &FluxRef| {
                    let parent = self.flux(target).and_then(|object| {
                        object.parent.as_ref().map(|parent| (parent, object.parent_reverts))
                    });
                    About {
                        target: target.target().to_string(),
                        why: suspend.reason.clone(),
                        created: created(
                            observed,
                            target.kind.kind(),
                            &target.namespace,
                            &target.name,
                        ),
                        owner: parent.map(|(parent, _)| kinded(parent)),
                        last_backup: None,
                        returns: parent
                            .filter(|(_, reverts)| *reverts)
                            .map(|(parent, _)| format!("{} would resume it", kinded(parent))),
                    }
                };
                suspend.targets.iter().map(one).collect()
            }
            Write::Restart(restart) => {
                let owned = self.owned(SubjectKind::Deployment, &restart.target);
                vec![About {
                    target: restart.target.target().to_string(),
                    why: step.into(),
                    created: created(
                        observed,
                        "Deployment",
                        &restart.target.namespace,
                        &restart.target.name,
                    ),
                    owner: owned
                        .and_then(|owned| owned.owner.as_ref())
                        .map(|owner| kinded(&owner.target)),
                    last_backup: None,
                    returns: None,
                }]
            }
            Write::AcquireLease(_)
            | Write::ReleaseLease(_)
            | Write::Resume(_)
            | Write::Reconcile(_)
            | Write::Recreate(_) => vec![],
        }
    }

    fn owned(&self, kind: SubjectKind, object: &ObjectRef) -> Option<&OwnerInfo> {
        self.owned
            .iter()
            .rev()
            .find(|owned| owned.subject.kind == kind && owned.subject.object == *object)
    }

    fn flux(&self, target: &FluxRef) -> Option<&FluxObject> {
        let owners = self.owned.iter().filter_map(|owned| owned.owner.as_ref());
        self.flux.iter().rev().chain(owners).find(|object| object.target == *target)
    }
}

/// What brings a deleted object back.
fn returns(owned: &OwnerInfo) -> String {
    match (owned.ownership, &owned.owner) {
        (Ownership::Managed, Some(owner)) => {
            let when = match (&owner.suspended, owner.corrects_drift) {
                (Some(_), _) => "once somebody resumes that",
                (None, true) => "when it next reconciles: remove it from Git",
                (None, false) => "with its next upgrade: remove it from its values",
            };
            format!("{} re-creates it {when}", kinded(&owner.target))
        }
        (Ownership::Managed | Ownership::Foreign, _) => owned.evidence.clone(),
        (Ownership::Abandoned | Ownership::Unmanaged, _) => "nothing re-creates it".into(),
    }
}

fn kinded(target: &FluxRef) -> String {
    format!("{} {}/{}", target.kind.kind(), target.namespace, target.name)
}

fn created(
    observed: Option<&ObservedState>,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Option<String> {
    let is_it = |object: &&Value| {
        object["kind"] == kind
            && object["metadata"]["namespace"] == namespace
            && object["metadata"]["name"] == name
    };
    observed?.objects.iter().find(is_it)?["metadata"]["creationTimestamp"]
        .as_str()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::query_flux::{Subject, SuspendedBy};
    use crate::effect::shared::FluxKind;

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
            corrects_drift,
        }
    }

    fn owned(ownership: Ownership, owner: Option<FluxObject>) -> OwnerInfo {
        let subject = Subject {
            kind: SubjectKind::ReplicationSource,
            object: ObjectRef::new("media", "old-lidarr"),
        };
        OwnerInfo { subject, ownership, owner, evidence: "Argo CD tracks it".into() }
    }

    #[test]
    fn what_re_creates_it_is_said_by_its_standing() {
        let managed = |kind, suspended, drift| {
            returns(&owned(Ownership::Managed, Some(owner(kind, suspended, drift))))
        };
        assert_eq!(
            managed(FluxKind::Kustomization, false, true),
            "Kustomization media/lidarr re-creates it when it next reconciles: remove it from Git"
        );
        assert_eq!(
            managed(FluxKind::Kustomization, true, true),
            "Kustomization media/lidarr re-creates it once somebody resumes that"
        );
        assert!(managed(FluxKind::HelmRelease, false, false).contains("next upgrade"));
        assert_eq!(returns(&owned(Ownership::Foreign, None)), "Argo CD tracks it");
        assert_eq!(returns(&owned(Ownership::Unmanaged, None)), "nothing re-creates it");
        assert_eq!(returns(&owned(Ownership::Abandoned, None)), "nothing re-creates it");
    }
}
