use super::*;
use crate::samples;
use salve_sdk::types::Condition;

fn config(text: &str) -> Config {
    Config::read(text).expect("a valid configuration")
}

/// A cluster in which the stuck sources wait for the driver.
fn observed(sources: Vec<Source>) -> Observation {
    let mut observation = samples::observation();
    observation.pvcs = sources
        .iter()
        .filter(|source| source.health == Health::Stuck)
        .zip(100..)
        .map(|(source, number)| samples::locked_clone(source, number))
        .collect();
    observation.sources = Some(sources);
    observation
}

fn select_one(
    source: Source,
    ownership: Ownership,
    owner: Option<FluxObject>,
    config: &Config,
) -> Selection {
    let observation = observed(vec![source]);
    let candidates = candidates(&observation, config.mode);
    let ownerships: Vec<OwnerInfo> = candidates
        .iter()
        .map(|(source, _)| samples::ownership(source, ownership, owner.clone()))
        .collect();
    select(&candidates, &ownerships, config)
}

#[test]
fn mode_evidence_selects_unhealthy_sources_and_mode_all_selects_everything() {
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
    let observation = observed(sources);
    let names = |mode| -> Vec<String> {
        candidates(&observation, mode)
            .iter()
            .map(|(source, _)| source.object.name.clone())
            .collect()
    };
    assert_eq!(names(Mode::Evidence), ["s2", "s3", "s5"]);
    assert_eq!(names(Mode::All).len(), 6);
}

#[test]
fn ownership_determines_which_consent_is_required() {
    type Case = (Ownership, Health, &'static str, Option<&'static str>);
    let cases: [Case; 12] = [
        (Ownership::Managed, Health::Orphan, "{}", None),
        (Ownership::Abandoned, Health::Orphan, "{}", None),
        (Ownership::Abandoned, Health::Stuck, "{}", Some("deleteUnmanaged")),
        (Ownership::Abandoned, Health::Stuck, r#"{"deleteUnmanaged": true}"#, None),
        (Ownership::Unmanaged, Health::Orphan, "{}", Some("deleteUnmanaged")),
        (Ownership::Unmanaged, Health::Orphan, r#"{"deleteUnmanaged": true}"#, None),
        (Ownership::Foreign, Health::Orphan, r#"{"deleteUnmanaged": true}"#, Some("deleteForeign")),
        (Ownership::Foreign, Health::Orphan, r#"{"deleteForeign": true}"#, None),
        (Ownership::UnknownOwner, Health::Orphan, "{}", Some("deleteForeign")),
        (
            Ownership::UnknownOwner,
            Health::Stuck,
            r#"{"deleteUnmanaged": true}"#,
            Some("deleteForeign"),
        ),
        (Ownership::UnknownOwner, Health::Stuck, r#"{"deleteForeign": true}"#, None),
        (Ownership::Unmanaged, Health::Healthy, r#"{"mode": "all"}"#, Some("deleteUnmanaged")),
    ];
    for (ownership, health, text, reason) in cases {
        let selection =
            select_one(samples::source("media/x", 1, health), ownership, None, &config(text));
        assert_eq!(
            selection.selected.len(),
            usize::from(reason.is_none()),
            "{ownership:?} {health:?}"
        );
        if let Some(reason) = reason {
            let found = &selection.skipped[0].reason;
            assert!(found.contains(reason), "{found}");
        }
    }
}

#[test]
fn an_identity_requires_consent_even_if_flux_manages_the_source() {
    let source = Source { has_identity: true, ..samples::source("media/x", 1, Health::Orphan) };
    let owner = Some(samples::flux_object("media/x"));
    let skipped = select_one(source.clone(), Ownership::Managed, owner.clone(), &config("{}"));
    assert!(skipped.skipped[0].reason.contains("deleteIdentities"));
    let selected =
        select_one(source, Ownership::Managed, owner, &config(r#"{"deleteIdentities": true}"#));
    assert_eq!(selected.selected.len(), 1);
}

#[test]
fn how_a_managed_source_is_recreated_depends_on_its_owner() {
    let kustomization = samples::flux_object("media/x");
    let mut helm = samples::flux_object("media/x");
    helm.target.kind = FluxKind::HelmRelease;
    helm.corrects_drift = false;
    let mut suspended = kustomization.clone();
    suspended.suspended = samples::suspended(None);
    for (health, owner, recreation) in [
        (Health::Orphan, &kustomization, Recreation::ByOwner(kustomization.target.clone())),
        (Health::Orphan, &helm, Recreation::AtUpgrade(helm.target.clone())),
        (Health::Stuck, &helm, Recreation::Forced(helm.target.clone())),
        (Health::Orphan, &suspended, Recreation::OwnerSuspended(suspended.target.clone())),
    ] {
        let source = samples::source("media/x", 1, health);
        let config = config(r#"{"deleteUnmanaged": true}"#);
        let selection = select_one(source, Ownership::Managed, Some(owner.clone()), &config);
        assert_eq!(selection.selected[0].recreation, recreation);
        assert_eq!(selection.forces(&owner.target), matches!(recreation, Recreation::Forced(_)));
    }
}

#[test]
fn an_owner_is_suspended_unless_it_is_proven_not_to_recreate_the_source() {
    for (ownership, recreation, is_suspended) in [
        (Ownership::Managed, Recreation::ByOwner(samples::flux("media/x")), true),
        // Its last apply failed before it wrote its inventory.
        (Ownership::Foreign, Recreation::Unknown, true),
        (Ownership::Abandoned, Recreation::Never, false),
    ] {
        let source = samples::source("media/x", 1, Health::Orphan);
        let owner = Some(samples::flux_object("media/x"));
        let selection = select_one(source, ownership, owner, &config(r#"{"deleteForeign": true}"#));
        assert_eq!(selection.selected[0].recreation, recreation);
        assert_eq!(selection.owners().len(), usize::from(is_suspended), "{ownership:?}");
    }
}

#[test]
fn an_owner_of_two_sources_is_listed_once() {
    let sources = [
        samples::source("media/plex", 1, Health::Orphan),
        Source { pvc: Some("plex".into()), ..samples::source("media/plex-r2", 2, Health::Orphan) },
    ];
    let observation = observed(sources.into());
    let config = config("{}");
    let candidates = candidates(&observation, config.mode);
    let owner = samples::flux_object("media/plex");
    let ownerships: Vec<OwnerInfo> = candidates
        .iter()
        .map(|(source, _)| samples::ownership(source, Ownership::Managed, Some(owner.clone())))
        .collect();
    let selection = select(&candidates, &ownerships, &config);
    assert_eq!(selection.selected.len(), 2);
    assert_eq!(selection.owners().len(), 1);
    assert_eq!(selection.recreated_by(&owner.target).len(), 2);
}

#[test]
fn an_unknown_mover_without_status_is_assessed_by_its_pvc_like_any_other() {
    let fork = Source {
        mover: "kopia".into(),
        last_sync: None,
        condition: None,
        ..samples::source("media/x", 1, Health::Orphan)
    };
    assert_eq!(select_one(fork, Ownership::Abandoned, None, &config("{}")).selected.len(), 1);
}

#[test]
fn a_source_whose_owner_a_user_suspended_requires_consent() {
    for health in [Health::Orphan, Health::Stuck, Health::TerminatingSource] {
        let owner =
            FluxObject { suspended: samples::suspended(None), ..samples::flux_object("media/x") };
        let select = |text| {
            let source = samples::source("media/x", 1, health);
            select_one(source, Ownership::Managed, Some(owner.clone()), &config(text))
        };
        let skipped = select("{}").skipped;
        assert_eq!(
            skipped[0].reason,
            "if deleted, it comes back only when Kustomization media/x is resumed, because a user \
             suspended it; to delete it anyway, set deleteUnmanaged=true",
            "{health:?}"
        );
        assert_eq!(select(r#"{"deleteUnmanaged": true}"#).selected.len(), 1, "{health:?}");
    }
}

#[test]
fn an_orphan_that_never_syncs_again_is_kept() {
    let waiting = |reason: &str, schedule: Option<&str>, health| Source {
        schedule: schedule.map(str::to_owned),
        condition: Some(Condition {
            kind: "Synchronizing".into(),
            status: "False".into(),
            reason: reason.into(),
            message: String::new(),
            since: None,
        }),
        ..samples::source("media/x", 1, health)
    };
    for (source, is_selected) in [
        (waiting("WaitingForManual", None, Health::Orphan), false),
        (waiting("WaitingForManual", Some("0 * * * *"), Health::Orphan), true),
        (waiting("WaitingForSchedule", Some("0 * * * *"), Health::Orphan), true),
        // Without any trigger, it syncs all the time.
        (waiting("SyncInProgress", None, Health::Orphan), true),
        (waiting("WaitingForManual", None, Health::TerminatingSource), true),
    ] {
        let observation = observed(vec![source]);
        let selected = candidates(&observation, Mode::Evidence).len();
        assert_eq!(selected, usize::from(is_selected), "{observation:?}");
        if !is_selected {
            assert!(unrelated(&observation)[0].reason.contains("causes no locks"));
        }
    }
}

#[test]
fn a_paused_source_and_a_long_backup_are_kept_with_a_reason() {
    let paused = |health| Source { paused: true, ..samples::source("media/x", 1, health) };
    for (source, reason) in [
        (paused(Health::Stuck), "paused"),
        (paused(Health::Orphan), "paused"),
        (paused(Health::TerminatingSource), "paused"),
        (samples::source("media/x", 1, Health::Stuck), "longer than usual"),
    ] {
        let mut observation = observed(vec![source]);
        if reason != "paused" {
            observation.pvcs.clear();
        }
        assert_eq!(candidates(&observation, Mode::Evidence).len(), 0);
        assert!(unrelated(&observation)[0].reason.contains(reason));
        assert_eq!(candidates(&observation, Mode::All).len(), 1);
    }
}
