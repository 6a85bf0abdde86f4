//! What a run cannot undo: named before the first touch.

use salve_sdk::query_drivers::Driver;
use salve_sdk::query_pvcs::{Pvc, ReclaimPolicy, Waiting};
use salve_sdk::query_replicationsources::Source;
use salve_sdk::report::Finding;

use crate::evidence::{is_of, is_pending};
use crate::selection::{ResolvedGuest, Return};

/// Claims whose deletion completes once the jam is cleared, and their data with it.
///
/// Not VolSync's own temporaries: they are copies, and their end is wanted.
pub fn completing<'a>(pvcs: &'a [Pvc], driver: &Driver) -> Vec<&'a Pvc> {
    let lost = |pvc: &&Pvc| {
        pvc.terminating_since.is_some()
            && pvc.volume.is_some()
            && is_of(pvc, driver)
            && !is_temporary(pvc)
            && match pvc.reclaim_policy {
                Some(ReclaimPolicy::Delete | ReclaimPolicy::Recycle) => true,
                Some(ReclaimPolicy::Retain) => false,
                // What becomes of it is not known: the careful answer.
                None => true,
            }
    };
    pvcs.iter().filter(lost).collect()
}

fn is_temporary(pvc: &Pvc) -> bool {
    let by_volsync = pvc.owner.as_ref().is_some_and(|owner| {
        owner.starts_with("ReplicationSource/") || owner.starts_with("ReplicationDestination/")
    });
    by_volsync || pvc.populates.is_some()
}

/// Sources whose claim was made after their last backup, one sentence each: the next backup is of a fresh volume
/// and becomes the newest, and rotation ages out the good ones.
pub fn fresh_volumes(sources: &[Source], chosen: &[ResolvedGuest], pvcs: &[Pvc]) -> Vec<String> {
    sources.iter().filter_map(|source| fresh(source, chosen, pvcs)).collect()
}

/// The same as one finding: a sentence with their names, and the sentences behind it.
pub fn fresh_finding(lines: &[String]) -> Option<Finding> {
    match lines {
        [] => None,
        [one] => Some(Finding::new(format!("watch out: {one}"))),
        several => {
            let names: Vec<_> = several.iter().filter_map(|line| line.split(' ').next()).collect();
            Some(Finding::with(
                format!(
                    "watch out: {} sources will back up a freshly made volume: {}",
                    several.len(),
                    names.join(", ")
                ),
                several.to_vec(),
            ))
        }
    }
}

fn fresh(source: &Source, chosen: &[ResolvedGuest], pvcs: &[Pvc]) -> Option<String> {
    let name = source.pvc.as_ref()?;
    let pvc = pvcs
        .iter()
        .find(|pvc| pvc.object.namespace == source.object.namespace && pvc.object.name == *name)?;
    let back =
        chosen.iter().find(|chosen| chosen.source.uid == source.uid).map(|chosen| &chosen.back);
    if pvc.terminating_since.is_some() {
        let returns = matches!(back, Some(Return::WithOwner(_) | Return::Forced(_)));
        return returns.then(|| {
            let source = &source.object;
            format!("{source} will back up a freshly made volume at once after it is re-created, if Git declares claim {name}, which is being deleted")
        });
    }
    let is_awaited = is_pending(pvc) && pvc.waiting != Some(Waiting::ForFirstConsumer);
    let is_newer = match source.last_sync {
        Some(last) => pvc.created > last,
        None => is_awaited || (back.is_some() && pvc.created > source.created),
    };
    let when = match (back, is_awaited) {
        (Some(_), _) => "at once after it is re-created",
        (None, true) => "as soon as its claim is bound",
        (None, false) => "at its next synchronization",
    };
    let made = pvc.data_source.as_ref().map(|from| format!(" (from {from})")).unwrap_or_default();
    is_newer.then(|| format!("{} will back up a freshly made volume{made} {when}: claim {name} is newer than its last backup", source.object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, NOW};
    use crate::selection::Reason;
    use salve_sdk::query_pvcs::Phase;
    use salve_sdk::query_replicationsources::Health;

    #[test]
    fn only_real_data_that_would_be_lost_needs_consent() {
        let driver = samples::driver();
        let base = || samples::terminating("home-automation/zigbee2mqtt", 1, ReclaimPolicy::Delete);
        for (pvc, needed, case) in [
            (base(), true, "policy Delete"),
            (samples::terminating("a/b", 1, ReclaimPolicy::Retain), false, "policy Retain"),
            (Pvc { reclaim_policy: None, ..base() }, true, "unknown policy"),
            (Pvc { volume: None, ..base() }, false, "no volume yet"),
            (Pvc { terminating_since: None, ..base() }, false, "not being deleted"),
            (Pvc { owner: Some("ReplicationSource/x".into()), ..base() }, false, "a mover's clone"),
            (Pvc { populates: Some("x".into()), ..base() }, false, "a populator's prime"),
            (
                Pvc { driver: Some("other".into()), storage_class: None, ..base() },
                false,
                "another driver",
            ),
        ] {
            assert_eq!(completing(&[pvc], &driver).len(), usize::from(needed), "{case}");
        }
    }

    #[test]
    fn sources_of_freshly_made_volumes_are_named() {
        let source = Source {
            last_sync: Some(NOW - 5_000),
            ..samples::source("media/plex", 1, Health::Stuck)
        };
        let old =
            Pvc { created: NOW - 9_000, phase: Phase::Bound, ..samples::pending("media/plex", 2) };
        let new = Pvc { created: NOW - 1_000, ..old.clone() };
        let elsewhere = Pvc { object: samples::object("ai/plex"), ..new.clone() };
        let sources = [source.clone()];
        assert!(fresh_volumes(&sources, &[], &[old, elsewhere]).is_empty());
        assert!(
            fresh_volumes(&sources, &[], std::slice::from_ref(&new))[0]
                .contains("next synchronization")
        );
        let chosen =
            [ResolvedGuest { source, reason: Reason::Stuck, owner: None, back: Return::Never }];
        assert!(
            fresh_volumes(&sources, &chosen, &[new])[0].contains("at once after it is re-created")
        );
    }

    #[test]
    fn a_source_that_never_ran_is_named_where_its_claim_is_awaited_or_it_is_made_again() {
        let source = Source {
            last_sync: None,
            created: NOW - 9_000,
            ..samples::source("media/plex", 1, Health::UnboundSource)
        };
        let sources = [source.clone()];
        let bound =
            Pvc { created: NOW - 1_000, phase: Phase::Bound, ..samples::pending("media/plex", 2) };
        assert!(fresh_volumes(&sources, &[], std::slice::from_ref(&bound)).is_empty(), "a new app");
        let awaited = Pvc {
            phase: Phase::Pending,
            data_source: Some("ReplicationDestination/plex-dst".into()),
            ..bound.clone()
        };
        let told = fresh_volumes(&sources, &[], std::slice::from_ref(&awaited));
        assert!(
            told[0]
                .contains("(from ReplicationDestination/plex-dst) as soon as its claim is bound"),
            "{}",
            told[0]
        );
        let idle = Pvc { waiting: Some(Waiting::ForFirstConsumer), ..awaited };
        assert!(fresh_volumes(&sources, &[], &[idle]).is_empty(), "nobody uses it yet");
        let chosen =
            [ResolvedGuest { source, reason: Reason::Literal, owner: None, back: Return::Never }];
        assert_eq!(fresh_volumes(&sources, &chosen, &[bound]).len(), 1);
    }

    #[test]
    fn a_source_of_a_vanishing_claim_is_named_where_it_returns() {
        let source = samples::source("media/plex", 1, Health::TerminatingSource);
        let pvc = [samples::terminating("media/plex", 2, ReclaimPolicy::Retain)];
        for (back, named) in
            [(Return::WithOwner(samples::flux("media/plex")), true), (Return::Never, false)]
        {
            let chosen = [ResolvedGuest {
                source: source.clone(),
                reason: Reason::TerminatingSource,
                owner: None,
                back,
            }];
            assert_eq!(
                fresh_volumes(std::slice::from_ref(&source), &chosen, &pvc).len(),
                usize::from(named)
            );
        }
    }
}
