//! Whole runs against the scripted cluster: which touches, in which order, and what is said at the end.

use salve_sdk::query_flux::{FluxObject, Ownership};
use salve_sdk::query_pvcs::{Pvc, ReclaimPolicy, Waiting};
use salve_sdk::query_replicationsources::{Health, PvcState};
use salve_sdk::report::{Conclusion, State, Verdict};
use salve_sdk::types::{FluxKind, FluxRef};
use salve_sdk::{Error, Remediation};

use crate::VolsyncUnlock;
use crate::samples::{self, NOW, flux, flux_object};
use crate::scripted::World;

const RESTART: &str = "restart rook-ceph/csi-rbdplugin-provisioner";
const GIT: &str = "GitRepository flux-system/flux-system";

/// One locked claim, an orphan that Git declares, one that nobody knows, and a healthy source.
fn incident() -> World {
    let mut seen = samples::seen();
    seen.pvcs =
        vec![Pvc { waiting: Some(Waiting::CsiLocked), ..samples::pending("media/cache", 1) }];
    // The world frees what is locked; the guest reads of it in the log.
    seen.log.sightings.add("a", NOW - 8_000, &samples::claim_line(1));
    let mut world = World::new(seen);
    world.log.push(("a".into(), NOW - 8_000, samples::claim_line(1)));
    world.owned(samples::source("media/sonarr", 10, Health::Orphan), flux_object("media/sonarr"));
    world.seen.sources.get_or_insert_default().push(samples::source(
        "media/lost",
        11,
        Health::Orphan,
    ));
    world.ownership.insert(samples::object("media/lost"), (Ownership::Abandoned, None));
    world.owned(samples::source("media/plex", 12, Health::Healthy), flux_object("media/plex"));
    let git = FluxRef { kind: FluxKind::GitRepository, ..flux("flux-system/flux-system") };
    world
        .flux
        .insert(git.clone(), FluxObject { target: git, ..flux_object("flux-system/flux-system") });
    world
}

fn run(world: World, config: &str) -> (Result<Conclusion, Error>, World) {
    world.play(|| VolsyncUnlock::remediate(config))
}

fn concluded(world: World, config: &str) -> (Conclusion, World) {
    let (answer, world) = run(world, config);
    (answer.expect("it concludes"), world)
}

const MEDIA: &str = r#"{"namespaces": ["media"]}"#;

fn with(more: &str) -> String {
    format!(r#"{{"namespaces": ["media"], {more}}}"#)
}

fn lines(conclusion: &Conclusion) -> String {
    conclusion
        .remaining
        .iter()
        .chain(&conclusion.prevention)
        .map(|finding| format!("{}\n{}\n", finding.text, finding.details.join("\n")))
        .collect()
}

#[test]
fn the_incident_is_cleared_in_seven_steps() {
    let (conclusion, world) = concluded(incident(), MEDIA);
    assert_eq!(
        world.steps,
        ["evidence", "freeze", "delete", "restart", "wait", "resume", "verify"]
    );
    assert_eq!(
        world.has_writes,
        [
            "suspend Kustomization media/sonarr".to_owned(),
            format!("suspend {GIT}"),
            "delete media/sonarr media/lost".to_owned(),
            RESTART.to_owned(),
            format!("resume {GIT}"),
            "resume Kustomization media/sonarr".to_owned(),
            "reconcile Kustomization media/sonarr".to_owned(),
        ]
    );
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
    assert_eq!(conclusion.proof.len(), 2);
    assert_eq!((conclusion.figures[0].before, conclusion.figures[0].after), (Some(1), Some(0)));
    assert!(
        lines(&conclusion)
            .contains("remove sonarr from Git (Kustomization media/sonarr declares it)")
    );
    assert!(world.suspended().is_empty());
}

#[test]
fn a_healthy_cluster_is_not_touched() {
    let mut world = World::new(samples::seen());
    world.owned(samples::source("media/plex", 12, Health::Healthy), flux_object("media/plex"));
    let (conclusion, world) = concluded(world, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NothingToDo);
    assert!(world.has_writes.is_empty());
}

#[test]
fn what_forbids_a_run_leaves_the_cluster_untouched_even_where_evidence_is_waived() {
    type Spoil = fn(&mut World);
    let spoils: [Spoil; 4] = [
        |world| world.seen.driver.ceph.as_mut().expect("there").status = "HEALTH_ERR".into(),
        |world| world.seen.driver.controller = None,
        |world| world.seen.driver.controller.as_mut().expect("there").replicas = 0,
        |world| world.seen.sources = None,
    ];
    for spoil in spoils {
        let mut world = incident();
        spoil(&mut world);
        let (conclusion, world) = concluded(world, &with(r#""evidence": "waived""#));
        assert_eq!(conclusion.verdict, Verdict::DifferentProblem, "{}", conclusion.summary);
        assert!(world.has_writes.is_empty());
    }
}

#[test]
fn a_look_alike_is_touched_only_where_evidence_is_waived() {
    let look_alike = || {
        let mut world = incident();
        world.log.clear();
        world
    };
    let (conclusion, world) = concluded(look_alike(), MEDIA);
    assert_eq!(conclusion.verdict, Verdict::DifferentProblem);
    assert!(world.has_writes.is_empty());
    let (conclusion, world) = concluded(look_alike(), &with(r#""evidence": "waived""#));
    assert!(world.has_writes.contains(&RESTART.to_owned()));
    assert!(conclusion.evidence[0].text.contains("evidence was waived"));
}

#[test]
fn a_pending_deletion_on_a_delete_volume_stops_the_run_without_consent() {
    let doomed = || {
        let mut world = incident();
        world.seen.pvcs.push(samples::terminating("media/zigbee", 5, ReclaimPolicy::Delete));
        world
    };
    let (conclusion, world) = concluded(doomed(), MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(
        conclusion.summary.contains("media/zigbee")
            && conclusion.summary.contains("complete-deletions")
    );
    assert!(world.has_writes.is_empty());
    let (conclusion, world) = concluded(doomed(), &with(r#""complete-deletions": true"#));
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
    assert!(
        world
            .notes
            .iter()
            .any(|note| note.contains("cannot be undone") && note.contains("media/zigbee"))
    );
}

#[test]
fn an_owner_that_another_run_holds_is_refused_before_the_first_touch() {
    let mut world = incident();
    world.flux.get_mut(&flux("media/sonarr")).expect("there").suspended =
        samples::suspended(Some("7c1d"));
    let (conclusion, world) = concluded(world, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(conclusion.summary.contains("held by run 7c1d"));
    assert!(world.has_writes.is_empty());
}

#[test]
fn a_paused_controller_stops_the_run_before_anything_is_deleted() {
    let mut world = incident();
    world.seen.driver.controller.as_mut().expect("there").paused = true;
    let (conclusion, world) = concluded(world, MEDIA);
    assert!(conclusion.summary.contains("is paused"));
    assert!(world.has_writes.is_empty());
}

#[test]
fn a_source_that_is_not_there_is_an_error_before_the_first_touch() {
    let (answer, world) = run(incident(), &with(r#""source": "flux-system/flx-system""#));
    let error = answer.expect_err("there is no such source");
    assert!(matches!(&error, Error::NotFound(text) if text.contains("flux-system/flx-system")));
    assert!(world.has_writes.is_empty());
}

#[test]
fn a_parent_that_would_undo_the_suspend_is_frozen_first_and_resumed_last() {
    let mut world = incident();
    let owner = world.flux.get_mut(&flux("media/sonarr")).expect("there");
    (owner.parent, owner.parent_reverts) = (Some(flux("flux-system/apps")), true);
    world.flux.insert(flux("flux-system/apps"), flux_object("flux-system/apps"));
    let (_, world) = concluded(world, MEDIA);
    assert_eq!(
        world.has_writes.first().map(String::as_str),
        Some("suspend Kustomization flux-system/apps")
    );
    assert_eq!(
        world.has_writes.last().map(String::as_str),
        Some("resume Kustomization flux-system/apps")
    );
}

#[test]
fn what_a_person_suspended_stays_suspended() {
    let mut world = incident();
    world.flux.get_mut(&flux("media/sonarr")).expect("there").suspended = samples::suspended(None);
    let (conclusion, world) = concluded(world, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
    assert!(!world.has_writes.iter().any(|write| write.contains("Kustomization media/sonarr")));
    assert_eq!(world.suspended(), ["Kustomization media/sonarr"]);
    assert!(
        lines(&conclusion)
            .contains("media/sonarr stays away until a person resumes Kustomization media/sonarr")
    );
}

#[test]
fn after_any_failure_what_was_frozen_is_given_back() {
    for (on_start, error) in [
        ("suspend GitRepository", Error::Conflict("changed meanwhile".into())),
        ("delete", Error::Denied("the 11th deletion".into())),
        ("restart", Error::Unavailable("no answer".into())),
        ("await", Error::Unavailable("no answer".into())),
    ] {
        let mut world = incident();
        world.broken = Some((on_start, error.clone()));
        let (answer, world) = run(world, MEDIA);
        let told = answer.expect_err(on_start);
        assert_eq!(std::mem::discriminant(&told), std::mem::discriminant(&error), "{on_start}");
        let released = ["what it froze has been resumed", "nothing is suspended by this run"]
            .iter()
            .any(|words| told.message().contains(words));
        assert!(released && world.suspended().is_empty(), "{on_start}: {}", told.message());
    }
}

#[test]
fn a_suspension_that_cannot_be_given_back_is_said_loudly() {
    let mut world = incident();
    world.broken = Some(("resume Kustomization", Error::Unavailable("no answer".into())));
    let (conclusion, _) = concluded(world, MEDIA);
    let told = lines(&conclusion);
    assert!(told.contains("Kustomization media/sonarr is still suspended by this run"), "{told}");
    assert!(!told.contains("nothing is suspended that was not before"));
}

#[test]
fn locks_that_return_end_the_run_after_one_restart() {
    let mut world = incident();
    world.relocks = true;
    let (conclusion, world) = concluded(world, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(conclusion.summary.contains("Ceph or the network"), "{}", conclusion.summary);
    assert_eq!(world.has_writes.iter().filter(|write| *write == RESTART).count(), 1);
    assert!(
        !world.has_writes.iter().any(|write| write.starts_with("reconcile")),
        "nothing more is asked of a sick driver"
    );
    assert!(world.suspended().is_empty());
}

#[test]
fn a_lock_in_the_very_last_look_is_not_fixed() {
    let mut world = incident();
    world.locks_at_the_last_look = true;
    let (conclusion, _) = concluded(world, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(
        conclusion.proof.is_empty() && conclusion.summary.contains("Ceph or the network"),
        "{}",
        conclusion.summary
    );
}

#[test]
fn a_run_out_of_time_gives_back_what_it_froze() {
    let mut world = incident();
    world.rollout_hangs = true;
    world.deadline = NOW + 60_000;
    let (conclusion, world) = concluded(world, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(world.suspended().is_empty());
    assert!(world.now - NOW < 120_000);
}

#[test]
fn a_failure_at_the_end_says_what_was_done() {
    let mut world = incident();
    world.broken_look = Some(Error::Unavailable("no answer".into()));
    let (answer, world) = run(world, MEDIA);
    let told = answer.expect_err("the pods cannot be counted");
    assert!(told.message().contains("step verify"), "{}", told.message());
    assert!(
        told.message().contains("2 ReplicationSources deleted, the driver was restarted"),
        "{}",
        told.message()
    );
    assert!(world.suspended().is_empty());
}

#[test]
fn a_restart_that_does_not_come_to_an_end_is_not_fixed() {
    let mut world = incident();
    world.rollout_hangs = true;
    let (conclusion, world) = concluded(world, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(conclusion.summary.contains("waits for 2 new pods"), "{}", conclusion.summary);
    assert!(world.suspended().is_empty());
}

#[test]
fn an_operators_controller_has_its_pods_replaced() {
    let mut world = incident();
    world.seen.driver.controller.as_mut().expect("there").operator_managed = true;
    let (_, world) = concluded(world, MEDIA);
    assert!(
        world
            .has_writes
            .contains(&"replace pods of rook-ceph/csi-rbdplugin-provisioner".to_owned())
    );
}

#[test]
fn the_literal_playbook_deletes_all_that_come_back() {
    let (conclusion, world) = concluded(incident(), &with(r#""mode": "all""#));
    assert!(world.has_writes.contains(&"delete media/sonarr media/lost media/plex".to_owned()));
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
    let names: Vec<String> =
        world.seen.sources.into_iter().flatten().map(|source| source.object.to_string()).collect();
    assert_eq!(names, ["media/plex", "media/sonarr"]);
}

#[test]
fn a_release_without_drift_correction_is_forced_only_for_a_living_claim() {
    for (pvc_state, forced) in [(PvcState::Present, true), (PvcState::Missing, false)] {
        let mut world = incident();
        let release = FluxRef { kind: FluxKind::HelmRelease, ..flux("media/radarr") };
        let health = if forced { Health::Stuck } else { Health::Orphan };
        let mut source = samples::source("media/radarr", 20, health);
        source.pvc_state = pvc_state;
        world.owned(
            source,
            FluxObject { target: release, corrects_drift: false, ..flux_object("media/radarr") },
        );
        let (conclusion, world) = concluded(world, MEDIA);
        assert_eq!(world.has_writes.contains(&"force HelmRelease media/radarr".to_owned()), forced);
        assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
        assert_eq!(
            lines(&conclusion)
                .contains("media/radarr stays away until HelmRelease media/radarr is upgraded"),
            !forced
        );
    }
}

#[test]
fn a_source_that_does_not_come_back_is_not_fixed() {
    let mut world = incident();
    world.broken = Some(("reconcile", Error::Unavailable("no answer".into())));
    let (conclusion, _) = concluded(world, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(lines(&conclusion).contains("media/sonarr has not come back"));
}

#[test]
fn a_wedged_snapshot_is_waited_for_after_the_restart_and_reported_if_it_stays() {
    for stays in [false, true] {
        let mut world = incident();
        let line = format!(
            "an operation with the given Snapshot ID snapshot-{} already exists",
            samples::uid(30)
        );
        world.log.push(("b".into(), NOW - 1_000, line));
        world.seen.snapshots = vec![samples::snapshot("media/volsync-sonarr-src", 30, 10)];
        world.snapshots_stay = stays;
        let (conclusion, _) = concluded(world, MEDIA);
        assert_eq!(
            lines(&conclusion).contains("1 VolumeSnapshot of deleted sources still there"),
            stays
        );
    }
}

#[test]
fn a_claim_that_does_not_end_is_reported_before_its_source_returns() {
    for stays in [false, true] {
        let mut world = incident();
        world.seen.pvcs.push(samples::terminating("media/zigbee", 5, ReclaimPolicy::Retain));
        world.owned(
            samples::source("media/zigbee", 30, Health::TerminatingSource),
            flux_object("media/zigbee"),
        );
        world.snapshots_stay = stays;
        let (conclusion, world) = concluded(world, MEDIA);
        assert_eq!(lines(&conclusion).contains("claim media/zigbee is still being deleted"), stays);
        assert!(
            world.notes.iter().any(
                |note| note.contains("media/zigbee will back up a freshly made volume at once")
            )
        );
    }
}

#[test]
fn snapshots_are_waited_for_before_the_restart_only_where_the_driver_can_delete_them() {
    for (jammed, waited) in [(true, 0), (false, 120_000)] {
        let mut world = incident();
        world.seen.snapshots = vec![samples::snapshot("media/volsync-sonarr-src", 30, 10)];
        if !jammed {
            world.log.clear();
        }
        let (_, world) = concluded(world, &with(r#""evidence": "waived""#));
        assert_eq!(world.restarted_at, Some(NOW + waited));
    }
}

#[test]
fn a_claim_that_waits_for_a_restore_is_left_with_what_to_do() {
    let mut world = incident();
    world.seen.pvcs.push(Pvc {
        waiting: Some(Waiting::ForDestination),
        data_source: Some("ReplicationDestination/paperless-dst".into()),
        ..samples::pending("media/paperless", 40)
    });
    let (conclusion, _) = concluded(world, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
    assert!(lines(&conclusion).contains(
        "media/paperless waits for ReplicationDestination paperless-dst, which does not exist"
    ));
}

#[test]
fn a_lone_key_is_watched_until_it_lasts() {
    let lone = |later: u64| {
        let mut world = World::new(samples::seen());
        for time in [NOW - 10_000, NOW + later] {
            world.log.push(("a".into(), time, samples::claim_line(99)));
        }
        world.play(|| VolsyncUnlock::diagnose(MEDIA))
    };
    let (diagnosis, world) = lone(200_000);
    assert_eq!(diagnosis.expect("it answers").state, State::Incident);
    assert!(world.now > NOW + 180_000 && world.has_writes.is_empty());
    let (diagnosis, _) = lone(60_000);
    assert_eq!(diagnosis.expect("it answers").state, State::Healthy);
}

#[test]
fn namespaces_that_are_not_there_are_said_and_none_at_all_is_an_error() {
    let (conclusion, world) = concluded(incident(), r#"{"namespaces": ["media", "medja"]}"#);
    assert!(world.notes.contains(&"there is no namespace medja".to_owned()));
    assert!(conclusion.evidence.iter().any(|finding| finding.text.contains("medja")));
    let (answer, world) = run(incident(), r#"{"namespaces": ["medja"]}"#);
    assert!(matches!(answer, Err(Error::NotFound(_))));
    assert!(world.has_writes.is_empty());
}

#[test]
fn where_no_source_is_to_blame_nothing_is_frozen_and_the_driver_is_restarted() {
    let mut world = incident();
    world.seen.sources = Some(vec![samples::source("media/plex", 12, Health::Healthy)]);
    let (conclusion, world) = concluded(world, MEDIA);
    assert_eq!(world.has_writes, [RESTART]);
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
}
