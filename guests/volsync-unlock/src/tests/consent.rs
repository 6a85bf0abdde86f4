use super::*;
use crate::samples::{self, NOW};
use crate::selection::Reason;
use salve_sdk::query_pvcs::Phase;
use salve_sdk::query_replicationsources::Health;

#[test]
fn only_pvcs_whose_data_would_be_lost_require_consent() {
    let driver = samples::driver();
    let base = || samples::terminating("home-automation/zigbee2mqtt", 1, ReclaimPolicy::Delete);
    for (pvc, requires_consent, case) in [
        (base(), true, "policy Delete"),
        (samples::terminating("a/b", 1, ReclaimPolicy::Retain), false, "policy Retain"),
        (Pvc { reclaim_policy: None, ..base() }, true, "unknown policy"),
        (Pvc { volume: None, ..base() }, false, "no volume yet"),
        (Pvc { terminating_since: None, ..base() }, false, "not being deleted"),
        (Pvc { owner: Some("ReplicationSource/x".into()), ..base() }, false, "a mover's clone"),
        (Pvc { populates: Some("x".into()), ..base() }, false, "a populator PVC"),
        (
            Pvc { driver: Some("other".into()), storage_class: None, ..base() },
            false,
            "another driver",
        ),
    ] {
        assert_eq!(
            completing_deletions(&[pvc], &driver).len(),
            usize::from(requires_consent),
            "{case}"
        );
    }
}

/// An observation whose log reports locks for these keys.
fn locked(keys: &[LockKey]) -> Observation {
    let mut observation = samples::observation();
    for key in keys {
        let line = format!("an operation with the given Volume ID {key} already exists");
        observation.log.sightings.add("a", NOW, &line);
    }
    assert_eq!(observation.log.sightings.0.len(), keys.len());
    observation
}

#[test]
fn deletions_elsewhere_require_consent_or_are_named() {
    use PvcState::{Bound, Missing, Terminating, Unreadable};
    let volume = |state| samples::other_volume("downloads/data", 7, state);
    let (none, own, pvc, snapshot) = (
        locked(&[]),
        locked(&[LockKey::Handle(samples::handle(7))]),
        locked(&[LockKey::Pvc(samples::uid(7))]),
        locked(&[LockKey::Snapshot(samples::uid(8))]),
    );
    let retained = |state| Volume { reclaim_policy: Some(ReclaimPolicy::Retain), ..volume(state) };
    let owned = |state| Volume { pvc_owner: Some("ReplicationSource/x".into()), ..volume(state) };
    let copy = |state| Volume { pvc: samples::object("downloads/volsync-x-src"), ..volume(state) };
    for (volume, observation, completing, unseen) in [
        (volume(Terminating), &none, 1, 0),
        (volume(Missing), &none, 1, 0),
        (Volume { reclaim_policy: None, ..volume(Terminating) }, &none, 1, 0),
        (retained(Terminating), &none, 0, 0),
        (retained(Missing), &own, 0, 0),
        (owned(Terminating), &own, 0, 0),
        (copy(Missing), &own, 0, 0),
        // A user may give a PVC any name.
        (copy(Terminating), &none, 1, 0),
        (volume(Bound), &own, 0, 0),
        (volume(Unreadable), &none, 0, 0),
        (volume(Unreadable), &own, 1, 0),
        (volume(Unreadable), &pvc, 1, 0),
        (volume(Unreadable), &snapshot, 0, 1),
        (retained(Unreadable), &snapshot, 0, 0),
    ] {
        let found = other_deletions(std::slice::from_ref(&volume), observation);
        assert_eq!(
            (found.completing.len(), found.unseen.len()),
            (completing, unseen),
            "{volume:?}"
        );
        for named in found.completing.iter().chain(&found.unseen) {
            assert!(named.contains(&volume.pvc.to_string()), "{named}");
        }
    }
}

#[test]
fn sources_of_new_volumes_are_reported() {
    let source =
        Source { last_sync: Some(NOW - 5_000), ..samples::source("media/plex", 1, Health::Stuck) };
    let old =
        Pvc { created: NOW - 9_000, phase: Phase::Bound, ..samples::pending("media/plex", 2) };
    let new = Pvc { created: NOW - 1_000, ..old.clone() };
    let elsewhere = Pvc { object: samples::object("ai/plex"), ..new.clone() };
    let sources = [source.clone()];
    assert!(new_volume_warnings(&sources, &[], &[old, elsewhere]).is_empty());
    assert_eq!(
        new_volume_warnings(&sources, &[], std::slice::from_ref(&new)),
        ["media/plex will back up a brand-new (possibly empty) PVC at its next sync: PVC \
             plex is newer than its last backup; check the restore first"]
    );
    let selected = [SelectedSource {
        source,
        reason: Reason::Stuck,
        owner: None,
        recreation: Recreation::Never,
    }];
    assert!(
        new_volume_warnings(&sources, &selected, &[new])[0].contains("as soon as it is recreated")
    );
}

#[test]
fn a_source_without_a_backup_is_reported_if_its_pvc_is_awaited_or_if_it_is_recreated() {
    let source = Source {
        last_sync: None,
        created: NOW - 9_000,
        ..samples::source("media/plex", 1, Health::UnboundSource)
    };
    let sources = [source.clone()];
    let bound =
        Pvc { created: NOW - 1_000, phase: Phase::Bound, ..samples::pending("media/plex", 2) };
    let warnings = new_volume_warnings(&sources, &[], std::slice::from_ref(&bound));
    assert!(warnings.is_empty(), "a new app");
    let awaited = Pvc {
        phase: Phase::Pending,
        data_source: Some("ReplicationDestination/plex-dst".into()),
        ..bound.clone()
    };
    let warnings = new_volume_warnings(&sources, &[], std::slice::from_ref(&awaited));
    assert!(
        warnings[0].contains(
            "PVC, populated from ReplicationDestination/plex-dst, as soon as that is bound"
        ),
        "{}",
        warnings[0]
    );
    let idle = Pvc { waiting: Some(Waiting::ForFirstConsumer), ..awaited };
    assert!(new_volume_warnings(&sources, &[], &[idle]).is_empty(), "no pod uses it yet");
    let selected = [SelectedSource {
        source,
        reason: Reason::ModeAll,
        owner: None,
        recreation: Recreation::Never,
    }];
    assert_eq!(new_volume_warnings(&sources, &selected, &[bound]).len(), 1);
}

#[test]
fn a_source_of_a_terminating_pvc_is_reported_if_it_is_recreated() {
    let source = samples::source("media/plex", 1, Health::TerminatingSource);
    let pvcs = [samples::terminating("media/plex", 2, ReclaimPolicy::Retain)];
    for (recreation, is_reported) in
        [(Recreation::ByOwner(samples::flux("media/plex")), true), (Recreation::Never, false)]
    {
        let selected = [SelectedSource {
            source: source.clone(),
            reason: Reason::TerminatingSource,
            owner: None,
            recreation,
        }];
        assert_eq!(
            new_volume_warnings(std::slice::from_ref(&source), &selected, &pvcs).len(),
            usize::from(is_reported)
        );
    }
}

#[test]
fn several_new_volumes_are_one_finding_with_their_names() {
    let warnings = ["media/plex will ...".to_owned(), "ai/ollama will ...".to_owned()];
    let finding = new_volume_finding(&warnings).expect("a finding");
    assert_eq!(
        finding.text,
        "2 ReplicationSources will back up a brand-new (possibly empty) PVC: media/plex, \
         ai/ollama; check the restores first"
    );
    assert_eq!(finding.details, warnings);
}
