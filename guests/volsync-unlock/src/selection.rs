//! Which ReplicationSources are deleted, which are left out, and whether each comes back.

use salve_sdk::query_flux::{FluxObject, OwnerInfo, Ownership};
use salve_sdk::query_replicationsources::{Health, PvcState, Source};
use salve_sdk::types::{FluxKind, FluxRef};

use crate::config::{Config, Mode};

/// Why a source is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its claim is gone.
    Orphan,
    /// Its claim is being deleted.
    TerminatingSource,
    /// It has been synchronizing for far too long.
    Stuck,
    /// `mode=all`: the playbook says so.
    Literal,
}

impl Reason {
    /// In a word or two.
    pub fn word(self) -> &'static str {
        match self {
            Self::Orphan => "its claim is gone",
            Self::TerminatingSource => "its claim is being deleted",
            Self::Stuck => "wedged",
            Self::Literal => "mode=all",
        }
    }
}

/// Whether and how a deleted source comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Return {
    /// Its owner applies it again once resumed.
    WithOwner(FluxRef),
    /// Its HelmRelease does so only when forced, and we force it: the claim lives.
    Forced(FluxRef),
    /// Its HelmRelease does so at its next real upgrade. Not forced: the claim is gone, the source would be an orphan again.
    AtUpgrade(FluxRef),
    /// A person suspended its owner, and has to resume it.
    Suspended(FluxRef),
    /// Nobody makes it again.
    Never,
}

/// A source to be deleted.
#[derive(Clone, Debug)]
pub struct ResolvedGuest {
    /// As it was seen: uid and digest bind the deletion.
    pub source: Source,
    /// Why.
    pub reason: Reason,
    /// Its owner, where it has one.
    pub owner: Option<FluxObject>,
    /// Whether it comes back.
    pub back: Return,
}

/// A source that is spared though it was a candidate.
#[derive(Clone, Debug)]
pub struct Spared {
    /// The source.
    pub source: Source,
    /// Why, and what would change that.
    pub why: String,
}

/// The frozen set and its margin.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// To be deleted.
    pub chosen: Vec<ResolvedGuest>,
    /// To be left, and said.
    pub spared: Vec<Spared>,
}

/// The sources that a run would delete, if nothing spoke against it.
pub fn candidates(sources: &[Source], mode: Mode) -> Vec<(&Source, Reason)> {
    let reason = |source: &Source| match (source.health, mode) {
        (Health::Orphan, _) => Some(Reason::Orphan),
        (Health::TerminatingSource, _) => Some(Reason::TerminatingSource),
        (Health::Stuck, _) => Some(Reason::Stuck),
        (Health::Healthy | Health::UnboundSource | Health::External, Mode::All) => {
            Some(Reason::Literal)
        }
        // mutant healthy-sources-deleted: None ~> Some(Reason::Literal)
        (Health::Healthy | Health::UnboundSource | Health::External, Mode::Evidence) => None,
    };
    sources.iter().filter_map(|source| Some((source, reason(source)?))).collect()
}

/// Decides on each candidate. `ownerships` answers for the candidates in their order.
pub fn choose(
    candidates: &[(&Source, Reason)],
    ownerships: &[OwnerInfo],
    config: &Config,
) -> Selection {
    let mut selection = Selection::default();
    for ((source, reason), ownership) in candidates.iter().zip(ownerships) {
        let source = (*source).clone();
        match spared(&source, ownership, config) {
            Some(why) => selection.spared.push(Spared { source, why }),
            None => {
                let back = comes_back(&source, ownership);
                selection.chosen.push(ResolvedGuest {
                    source,
                    reason: *reason,
                    owner: ownership.owner.clone(),
                    back,
                });
            }
        }
    }
    selection
}

fn spared(source: &Source, ownership: &OwnerInfo, config: &Config) -> Option<String> {
    if source.has_identity && !config.delete_identities {
        return Some(format!(
            "deleting it destroys keys that peers know ({}); consent with delete-identities=true",
            source.mover
        ));
    }
    let loses_a_backup = match source.pvc_state {
        PvcState::Present | PvcState::Unbound => true,
        PvcState::Terminating | PvcState::Missing => false,
        PvcState::None => true,
    };
    match ownership.ownership {
        Ownership::Managed => None,
        // mutant foreign-owned-deleted: Some(format!("another tool owns it: {}",
        //     ownership.evidence)) ~> None
        Ownership::Foreign => Some(format!("another tool owns it: {}", ownership.evidence)),
        Ownership::Unmanaged if !config.delete_hand_made => Some("nobody re-creates it; consent with delete-hand-made=true".to_owned()),
        Ownership::Abandoned if loses_a_backup && !config.delete_hand_made => {
            Some("its owner is gone, nobody re-creates it, and its claim lives; consent with delete-hand-made=true".to_owned())
        }
        Ownership::Unmanaged | Ownership::Abandoned => None,
    }
}

fn comes_back(source: &Source, ownership: &OwnerInfo) -> Return {
    let Some(owner) =
        ownership.owner.as_ref().filter(|_| ownership.ownership == Ownership::Managed)
    else {
        return Return::Never;
    };
    let target = owner.target.clone();
    if owner.suspended.is_some() {
        return Return::Suspended(target);
    }
    if target.kind != FluxKind::HelmRelease || owner.corrects_drift {
        return Return::WithOwner(target);
    }
    match source.pvc_state {
        PvcState::Present | PvcState::Unbound | PvcState::None => Return::Forced(target),
        PvcState::Terminating | PvcState::Missing => Return::AtUpgrade(target),
    }
}

impl Selection {
    /// The owners that have to be frozen, each once: those that would bring a source back by themselves.
    pub fn owners(&self) -> Vec<FluxObject> {
        let mut owners: Vec<FluxObject> = Vec::new();
        for owner in self.chosen.iter().filter_map(|chosen| chosen.owner.as_ref()) {
            if !owners.iter().any(|known| known.target == owner.target) {
                owners.push(owner.clone());
            }
        }
        owners
    }

    /// Whether this owner must be forced to make again what was deleted.
    pub fn forces(&self, owner: &FluxRef) -> bool {
        self.chosen.iter().any(|chosen| matches!(&chosen.back, Return::Forced(by) if by == owner))
    }

    /// The sources that come back with this owner.
    pub fn returning_with(&self, owner: &FluxRef) -> Vec<&ResolvedGuest> {
        let with = |chosen: &&ResolvedGuest| match &chosen.back {
            Return::WithOwner(by) | Return::Forced(by) => by == owner,
            Return::AtUpgrade(_) | Return::Suspended(_) | Return::Never => false,
        };
        self.chosen.iter().filter(with).collect()
    }

    /// The sources that come back within the run.
    pub fn returning(&self) -> Vec<&ResolvedGuest> {
        let within = |chosen: &&ResolvedGuest| match chosen.back {
            Return::WithOwner(_) | Return::Forced(_) => true,
            Return::AtUpgrade(_) | Return::Suspended(_) | Return::Never => false,
        };
        self.chosen.iter().filter(within).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn config(text: &str) -> Config {
        Config::read(text).expect("fits")
    }

    fn decide(
        source: Source,
        ownership: Ownership,
        owner: Option<FluxObject>,
        config: &Config,
    ) -> Selection {
        let sources = [source];
        let candidates = candidates(&sources, config.mode);
        let ownerships: Vec<OwnerInfo> = candidates
            .iter()
            .map(|(source, _)| samples::ownership(source, ownership, owner.clone()))
            .collect();
        choose(&candidates, &ownerships, config)
    }

    #[test]
    fn evidence_takes_the_sick_and_all_takes_everything() {
        let sources: Vec<Source> = [
            Health::Healthy,
            Health::Orphan,
            Health::TerminatingSource,
            Health::UnboundSource,
            Health::Stuck,
            Health::External,
        ]
        .into_iter()
        .zip(1..)
        .map(|(health, number)| samples::source(&format!("media/s{number}"), number, health))
        .collect();
        let names = |mode| -> Vec<String> {
            candidates(&sources, mode)
                .iter()
                .map(|(source, _)| source.object.name.clone())
                .collect()
        };
        assert_eq!(names(Mode::Evidence), ["s2", "s3", "s5"]);
        assert_eq!(names(Mode::All).len(), 6);
    }

    #[test]
    fn consent_is_asked_for_by_standing() {
        type Case = (Ownership, Health, &'static str, Option<&'static str>);
        let cases: [Case; 8] = [
            (Ownership::Managed, Health::Orphan, "{}", None),
            (Ownership::Abandoned, Health::Orphan, "{}", None),
            (Ownership::Abandoned, Health::Stuck, "{}", Some("delete-hand-made")),
            (Ownership::Abandoned, Health::Stuck, r#"{"delete-hand-made": true}"#, None),
            (Ownership::Unmanaged, Health::Orphan, "{}", Some("delete-hand-made")),
            (Ownership::Unmanaged, Health::Orphan, r#"{"delete-hand-made": true}"#, None),
            (
                Ownership::Foreign,
                Health::Orphan,
                r#"{"delete-hand-made": true}"#,
                Some("another tool"),
            ),
            (Ownership::Unmanaged, Health::Healthy, r#"{"mode": "all"}"#, Some("delete-hand-made")),
        ];
        for (ownership, health, text, why) in cases {
            let selection =
                decide(samples::source("media/x", 1, health), ownership, None, &config(text));
            assert_eq!(
                selection.chosen.len(),
                usize::from(why.is_none()),
                "{ownership:?} {health:?}"
            );
            if let Some(why) = why {
                assert!(selection.spared[0].why.contains(why), "{}", selection.spared[0].why);
            }
        }
    }

    #[test]
    fn an_identity_needs_consent_whoever_owns_it() {
        let source = Source { has_identity: true, ..samples::source("media/x", 1, Health::Orphan) };
        let owner = Some(samples::flux_object("media/x"));
        let refused = decide(source.clone(), Ownership::Managed, owner.clone(), &config("{}"));
        assert!(refused.spared[0].why.contains("delete-identities"));
        let consented =
            decide(source, Ownership::Managed, owner, &config(r#"{"delete-identities": true}"#));
        assert_eq!(consented.chosen.len(), 1);
    }

    #[test]
    fn a_managed_source_comes_back_as_its_owner_does_it() {
        let kustomization = samples::flux_object("media/x");
        let mut helm = samples::flux_object("media/x");
        helm.target.kind = FluxKind::HelmRelease;
        helm.corrects_drift = false;
        let mut asleep = kustomization.clone();
        asleep.suspended = samples::suspended(None);
        for (health, owner, back) in [
            (Health::Orphan, &kustomization, Return::WithOwner(kustomization.target.clone())),
            (Health::Orphan, &helm, Return::AtUpgrade(helm.target.clone())),
            (Health::Stuck, &helm, Return::Forced(helm.target.clone())),
            (Health::Orphan, &asleep, Return::Suspended(asleep.target.clone())),
        ] {
            let source = samples::source("media/x", 1, health);
            let selection = decide(source, Ownership::Managed, Some(owner.clone()), &config("{}"));
            assert_eq!(selection.chosen[0].back, back);
            assert_eq!(selection.forces(&owner.target), matches!(back, Return::Forced(_)));
        }
    }

    #[test]
    fn two_sources_of_one_claim_and_one_owner_freeze_it_once() {
        let sources = [
            samples::source("media/plex", 1, Health::Orphan),
            Source {
                pvc: Some("plex".into()),
                ..samples::source("media/plex-r2", 2, Health::Orphan)
            },
        ];
        let config = config("{}");
        let candidates = candidates(&sources, config.mode);
        let owner = samples::flux_object("media/plex");
        let ownerships: Vec<OwnerInfo> = candidates
            .iter()
            .map(|(source, _)| samples::ownership(source, Ownership::Managed, Some(owner.clone())))
            .collect();
        let selection = choose(&candidates, &ownerships, &config);
        assert_eq!(selection.chosen.len(), 2);
        assert_eq!(selection.owners().len(), 1);
        assert_eq!(selection.returning_with(&owner.target).len(), 2);
    }

    #[test]
    fn an_unknown_mover_without_status_is_judged_by_its_claim_like_any_other() {
        let fork = Source {
            mover: "kopia".into(),
            last_sync: None,
            condition: None,
            ..samples::source("media/x", 1, Health::Orphan)
        };
        assert_eq!(decide(fork, Ownership::Abandoned, None, &config("{}")).chosen.len(), 1);
    }
}
