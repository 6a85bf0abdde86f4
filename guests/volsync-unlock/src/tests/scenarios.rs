//! Whole runs against the fake cluster: which writes, in which order, and the conclusion.

use salve_sdk::query_flux::{FluxObject, Ownership};
use salve_sdk::query_pods::PendingReason;
use salve_sdk::query_pvcs::{Pvc, PvcState as VolumePvcState, ReclaimPolicy, Waiting};
use salve_sdk::query_replicationsources::{Health, PvcState};
use salve_sdk::report::{Conclusion, State, Verdict};
use salve_sdk::types::{FluxKind, FluxRef};
use salve_sdk::{Error, Remediation};

use crate::VolsyncUnlock;
use crate::fake_cluster::FakeCluster;
use crate::samples::{self, NOW, flux, flux_object};

const RESTART: &str = "restart rook-ceph/csi-rbdplugin-provisioner";
const GIT: &str = "GitRepository flux-system/flux-system";

/// A cluster with a locked PVC, an orphan that Git declares, one that it does not, and a healthy
/// ReplicationSource.
fn incident() -> FakeCluster {
    let mut observation = samples::observation();
    observation.pvcs =
        vec![Pvc { waiting: Some(Waiting::CsiLocked), ..samples::pending("media/cache", 1) }];
    // Which PVCs the fake cluster unlocks at the restart. The guest reads the log below.
    observation.log.sightings.add("a", NOW - 8_000, &samples::pvc_lock_line(1));
    let mut cluster = FakeCluster::new(observation);
    cluster.log.push(("a".into(), NOW - 8_000, samples::pvc_lock_line(1)));
    cluster.add_managed(
        samples::source("media/sonarr", 10, Health::Orphan),
        flux_object("media/sonarr"),
    );
    cluster.observation.sources.get_or_insert_default().push(samples::source(
        "media/lost",
        11,
        Health::Orphan,
    ));
    cluster.ownership.insert(samples::object("media/lost"), (Ownership::Abandoned, None));
    cluster
        .add_managed(samples::source("media/plex", 12, Health::Healthy), flux_object("media/plex"));
    let git = FluxRef { kind: FluxKind::GitRepository, ..flux("flux-system/flux-system") };
    cluster
        .flux
        .insert(git.clone(), FluxObject { target: git, ..flux_object("flux-system/flux-system") });
    cluster
}

fn run(cluster: FakeCluster, config: &str) -> (Result<Conclusion, Error>, FakeCluster) {
    cluster.run(|| VolsyncUnlock::remediate(config))
}

fn conclude(cluster: FakeCluster, config: &str) -> (Conclusion, FakeCluster) {
    let (result, cluster) = run(cluster, config);
    (result.expect("a conclusion"), cluster)
}

const MEDIA: &str = r#"{"namespaces": ["media"]}"#;

fn media_with(more: &str) -> String {
    format!(r#"{{"namespaces": ["media"], {more}}}"#)
}

fn text(conclusion: &Conclusion) -> String {
    conclusion
        .remaining
        .iter()
        .chain(&conclusion.prevention)
        .map(|finding| format!("{}\n{}\n", finding.text, finding.details.join("\n")))
        .collect()
}

#[test]
fn the_incident_is_cleared_in_seven_steps() {
    let (conclusion, cluster) = conclude(incident(), MEDIA);
    assert_eq!(
        cluster.steps,
        ["evidence", "suspend", "delete", "restart", "wait", "resume", "verify"]
    );
    assert_eq!(
        cluster.writes,
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
    let observed: Vec<&str> =
        cluster.observed.iter().map(|(problem, _)| problem.as_str()).collect();
    assert_eq!(observed, ["operation-locks", "locked-rbd-pvcs"]);
    assert_eq!((conclusion.figures[0].before, conclusion.figures[0].after), (Some(1), Some(0)));
    assert!(
        text(&conclusion)
            .contains("remove sonarr from Git (Kustomization media/sonarr declares it)")
    );
    assert!(cluster.suspended().is_empty());
}

#[test]
fn a_healthy_cluster_is_not_changed() {
    let mut cluster = FakeCluster::new(samples::observation());
    cluster
        .add_managed(samples::source("media/plex", 12, Health::Healthy), flux_object("media/plex"));
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NothingToDo);
    assert!(cluster.writes.is_empty());
}

#[test]
fn a_blocking_problem_prevents_every_write_even_if_evidence_is_waived() {
    type Change = fn(&mut FakeCluster);
    let changes: [Change; 3] = [
        |cluster| {
            cluster.observation.driver.ceph.as_mut().expect("present").status = "HEALTH_ERR".into()
        },
        |cluster| cluster.observation.driver.controller = None,
        |cluster| cluster.observation.driver.controller.as_mut().expect("present").replicas = 0,
    ];
    for change in changes {
        let mut cluster = incident();
        change(&mut cluster);
        let (conclusion, cluster) = conclude(cluster, &media_with(r#""evidence": "waived""#));
        assert_eq!(conclusion.verdict, Verdict::DifferentProblem, "{}", conclusion.summary);
        assert!(cluster.writes.is_empty());
    }
}

#[test]
fn a_similar_problem_is_treated_only_if_evidence_is_waived() {
    let without_lock = || {
        let mut cluster = incident();
        cluster.log.clear();
        cluster
    };
    let (conclusion, cluster) = conclude(without_lock(), MEDIA);
    assert_eq!(conclusion.verdict, Verdict::DifferentProblem);
    assert!(cluster.writes.is_empty());
    let (conclusion, cluster) = conclude(without_lock(), &media_with(r#""evidence": "waived""#));
    assert!(cluster.writes.contains(&RESTART.to_owned()));
    assert!(conclusion.evidence[0].text.contains("evidence was waived"));
}

#[test]
fn a_pending_deletion_with_reclaim_policy_delete_stops_the_run_without_consent() {
    let terminating = || {
        let mut cluster = incident();
        cluster.observation.pvcs.push(samples::terminating(
            "media/zigbee",
            5,
            ReclaimPolicy::Delete,
        ));
        cluster
    };
    let (conclusion, cluster) = conclude(terminating(), MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(
        conclusion.summary.contains("media/zigbee")
            && conclusion.summary.contains("completePvcDeletions")
    );
    assert!(cluster.writes.is_empty());
    let (conclusion, cluster) =
        conclude(terminating(), &media_with(r#""completePvcDeletions": true"#));
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
    assert!(
        cluster
            .notes
            .iter()
            .any(|note| note.contains("cannot be undone") && note.contains("media/zigbee"))
    );
}

#[test]
fn a_deletion_outside_of_the_searched_namespaces_requires_consent() {
    let elsewhere = |state| {
        let mut cluster = incident();
        cluster.other_volumes = vec![samples::other_volume("downloads/data", 30, state)];
        let line = format!(
            "an operation with the given Snapshot ID snapshot-{} already exists",
            samples::uid(31)
        );
        cluster.log.push(("a".into(), NOW - 8_000, line));
        cluster
    };
    for state in [VolumePvcState::Terminating, VolumePvcState::Missing] {
        let (conclusion, cluster) = conclude(elsewhere(state), MEDIA);
        assert_eq!(conclusion.verdict, Verdict::NotFixed);
        assert!(conclusion.summary.contains("downloads/data"), "{}", conclusion.summary);
        assert!(cluster.writes.is_empty());
        let (conclusion, cluster) =
            conclude(elsewhere(state), &media_with(r#""completePvcDeletions": true"#));
        assert!(cluster.writes.contains(&RESTART.to_owned()));
        assert!(text(&conclusion).contains("cannot be undone"), "{}", text(&conclusion));
    }
    // It may be the source of the locked snapshot, or not.
    let (conclusion, cluster) = conclude(elsewhere(VolumePvcState::Unreadable), MEDIA);
    assert!(cluster.writes.contains(&RESTART.to_owned()));
    let is_named = |text: &str| text.contains("is being deleted: downloads/data");
    assert!(cluster.notes.iter().any(|note| is_named(note)));
    assert!(is_named(&text(&conclusion)), "{}", text(&conclusion));
}

#[test]
fn an_owner_that_another_run_suspended_stops_the_run_before_the_first_write() {
    let mut cluster = incident();
    cluster.flux.get_mut(&flux("media/sonarr")).expect("present").suspended =
        samples::suspended(Some("7c1d"));
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(conclusion.summary.contains("suspended by Salve run 7c1d"));
    assert!(cluster.writes.is_empty());
}

#[test]
fn a_paused_controller_stops_the_run_before_anything_is_deleted() {
    let mut cluster = incident();
    cluster.observation.driver.controller.as_mut().expect("present").paused = true;
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert!(conclusion.summary.contains("is paused"));
    assert!(cluster.writes.is_empty());
}

#[test]
fn a_flux_source_that_does_not_exist_is_an_error_before_the_first_write() {
    let (result, cluster) =
        run(incident(), &media_with(r#""fluxSource": "flux-system/flx-system""#));
    let error = result.expect_err("there is no such source");
    assert!(matches!(&error, Error::NotFound(text) if text.contains("flux-system/flx-system")));
    assert!(cluster.writes.is_empty());
}

#[test]
fn a_parent_that_a_suspended_child_affects_is_suspended_first_and_resumed_last() {
    for (reverts, waits) in [(true, false), (false, true), (false, false)] {
        let mut cluster = incident();
        let owner = cluster.flux.get_mut(&flux("media/sonarr")).expect("present");
        owner.parent = Some(flux("flux-system/apps"));
        (owner.parent_reverts, owner.parent_waits) = (reverts, waits);
        cluster.flux.insert(flux("flux-system/apps"), flux_object("flux-system/apps"));
        let (_, cluster) = conclude(cluster, MEDIA);
        let is_affected = reverts || waits;
        let is_parent = |write: Option<&String>, verb: &str| {
            write.is_some_and(|write| *write == format!("{verb} Kustomization flux-system/apps"))
        };
        assert_eq!(is_parent(cluster.writes.first(), "suspend"), is_affected);
        assert_eq!(is_parent(cluster.writes.last(), "resume"), is_affected);
    }
}

#[test]
fn an_owner_that_a_user_suspended_stays_suspended() {
    let mut cluster = incident();
    cluster.flux.get_mut(&flux("media/sonarr")).expect("present").suspended =
        samples::suspended(None);
    let consent = media_with(r#""deleteUnmanaged": true"#);
    let (conclusion, cluster) = conclude(cluster, &consent);
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
    assert!(!cluster.writes.iter().any(|write| write.contains("Kustomization media/sonarr")));
    assert_eq!(cluster.suspended(), ["Kustomization media/sonarr"]);
    assert!(text(&conclusion).contains(
        "media/sonarr was deleted: Flux will recreate it if Kustomization media/sonarr is resumed"
    ));
}

#[test]
fn locks_are_cleared_on_a_cluster_without_volsync() {
    let mut cluster = incident();
    cluster.observation.sources = None;
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
    assert_eq!(cluster.writes, [RESTART]);
    assert!(conclusion.summary.contains("0 ReplicationSources deleted"));
}

#[test]
fn a_source_whose_reason_no_longer_applies_is_not_deleted() {
    let mut cluster = incident();
    cluster.restored_while_suspending = true;
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert!(
        cluster.writes.contains(&"delete media/lost".to_owned()),
        "media/sonarr has a PVC again: {:?}",
        cluster.writes
    );
    assert!(text(&conclusion).contains(
        "ReplicationSource media/sonarr was not deleted: it was selected because its PVC no longer \
         exists, which is no longer true"
    ));
}

#[test]
fn a_source_whose_owner_a_user_suspends_meanwhile_is_not_deleted() {
    let mut cluster = incident();
    cluster.suspended_by_user_meanwhile = true;
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert!(cluster.writes.contains(&"delete media/lost".to_owned()), "{:?}", cluster.writes);
    let text = text(&conclusion);
    assert!(
        text.contains(
            "ReplicationSource media/sonarr was not deleted: if deleted, it comes back only when \
             Kustomization media/sonarr is resumed"
        ),
        "{text}"
    );
}

#[test]
fn a_node_lock_that_remains_is_reported_with_its_remedy() {
    let mut cluster = incident();
    cluster.observation.pending_pods = vec![samples::pending_pod(
        "media/hung",
        "ReplicaSet/hung",
        PendingReason::MountFailed,
        &samples::pvc_lock_line(9),
    )];
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed, "{conclusion:?}");
    assert!(conclusion.summary.contains("are gone, but the node plugin"), "{conclusion:?}");
    assert!(conclusion.remaining[0].text.contains("node plugin"), "{conclusion:?}");
    assert!(cluster.notes.iter().any(|note| note.contains("do not restart the controller")));
}

#[test]
fn a_lock_in_the_node_plugin_is_found_in_its_log_and_its_pod_is_named() {
    let mut cluster = FakeCluster::new(samples::observation());
    cluster.observation.driver.node_plugin = Some(samples::node_plugin());
    cluster.observation.pending_pods = vec![samples::pending_pod(
        "media/hung",
        "ReplicaSet/hung",
        PendingReason::MountFailed,
        "MountVolume.MountDevice failed: context deadline exceeded",
    )];
    let line = samples::pvc_lock_line(9);
    cluster.node_log.push(("csi-rbdplugin-on-a".into(), NOW - 60_000, line.clone()));
    let (conclusion, mut cluster) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NothingToDo, "the node plugin of another node");
    cluster.node_log.push(("csi-rbdplugin-on-b".into(), NOW - 60_000, line));
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::DifferentProblem);
    assert!(
        conclusion.summary.contains("delete the node plugin pod rook-ceph/csi-rbdplugin-on-b"),
        "{}",
        conclusion.summary
    );
    assert!(cluster.writes.is_empty());
}

#[test]
fn a_volume_attached_to_a_dead_node_is_a_different_problem() {
    let mut cluster = FakeCluster::new(samples::observation());
    let attachment = format!(
        r#"{{"metadata": {{"name": "csi-1", "deletionTimestamp": "2026-08-20T09:00:00Z"}},
            "spec": {{"attacher": "{}", "nodeName": "node-a",
                "source": {{"persistentVolumeName": "pvc-1"}}}}}}"#,
        samples::DRIVER
    );
    cluster.objects.insert("volumeattachments", vec![attachment]);
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::DifferentProblem);
    assert!(conclusion.summary.contains("the node does not exist"), "{}", conclusion.summary);
    assert!(cluster.writes.is_empty());
}

#[test]
fn after_any_failure_everything_suspended_is_resumed() {
    for (call, error) in [
        ("suspend GitRepository", Error::Conflict("changed meanwhile".into())),
        ("delete", Error::Denied("the 11th deletion".into())),
        ("restart", Error::Unavailable("no answer".into())),
        ("await", Error::Unavailable("no answer".into())),
    ] {
        let mut cluster = incident();
        cluster.failing_write = Some((call, error.clone()));
        let (result, cluster) = run(cluster, MEDIA);
        let returned = result.expect_err(call);
        assert_eq!(std::mem::discriminant(&returned), std::mem::discriminant(&error), "{call}");
        let message = returned.message();
        assert!(
            message.contains("everything this run suspended has been resumed")
                || message.contains("nothing is suspended by this run"),
            "{call}: {message}"
        );
        assert!(cluster.suspended().is_empty(), "{call}");
    }
}

#[test]
fn an_object_that_cannot_be_resumed_is_reported() {
    let mut cluster = incident();
    cluster.failing_write = Some(("resume Kustomization", Error::Unavailable("no answer".into())));
    let (conclusion, _) = conclude(cluster, MEDIA);
    let text = text(&conclusion);
    assert!(text.contains("Kustomization media/sonarr is still suspended by this run"), "{text}");
    assert!(!text.contains("everything Salve suspended has been resumed"));
}

#[test]
fn locks_that_come_back_end_the_run_after_one_restart() {
    let mut cluster = incident();
    cluster.lock_returns = true;
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(conclusion.summary.contains("Ceph or the network"), "{}", conclusion.summary);
    assert_eq!(cluster.writes.iter().filter(|write| *write == RESTART).count(), 1);
    assert!(
        !cluster.writes.iter().any(|write| write.starts_with("reconcile")),
        "no reconciliation is requested while the driver is unhealthy"
    );
    assert!(cluster.suspended().is_empty());
}

#[test]
fn a_run_past_its_deadline_resumes_what_it_suspended() {
    let mut cluster = incident();
    cluster.rollout_hangs = true;
    cluster.deadline = NOW + 60_000;
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(cluster.suspended().is_empty());
    assert!(cluster.now - NOW < 120_000);
}

#[test]
fn a_failure_in_the_last_step_reports_what_was_done() {
    let mut cluster = incident();
    cluster.failing_pod_read = Some(Error::Unavailable("no answer".into()));
    let (result, cluster) = run(cluster, MEDIA);
    let error = result.expect_err("the pods cannot be read");
    assert!(error.message().contains("step verify"), "{}", error.message());
    assert!(
        error.message().contains("2 ReplicationSources deleted, the driver was restarted"),
        "{}",
        error.message()
    );
    assert!(cluster.suspended().is_empty());
}

#[test]
fn a_rollout_that_does_not_complete_is_not_fixed() {
    let mut cluster = incident();
    cluster.rollout_hangs = true;
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(conclusion.summary.contains("waiting for 2 new pods"), "{}", conclusion.summary);
    assert!(cluster.suspended().is_empty());
}

#[test]
fn the_pods_of_an_operator_managed_controller_are_replaced() {
    let mut cluster = incident();
    cluster.observation.driver.controller.as_mut().expect("present").operator_managed = true;
    let (_, cluster) = conclude(cluster, MEDIA);
    assert!(
        cluster.writes.contains(&"replace pods of rook-ceph/csi-rbdplugin-provisioner".to_owned())
    );
}

#[test]
fn mode_all_deletes_every_source_that_comes_back() {
    let (conclusion, cluster) = conclude(incident(), &media_with(r#""mode": "all""#));
    assert!(cluster.writes.contains(&"delete media/sonarr media/lost media/plex".to_owned()));
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
    let names: Vec<String> = cluster
        .observation
        .sources
        .into_iter()
        .flatten()
        .map(|source| source.object.to_string())
        .collect();
    assert_eq!(names, ["media/plex", "media/sonarr"]);
}

#[test]
fn a_release_without_drift_correction_is_forced_only_if_the_pvc_exists() {
    for (pvc_state, forced) in [(PvcState::Present, true), (PvcState::Missing, false)] {
        let mut cluster = incident();
        let release = FluxRef { kind: FluxKind::HelmRelease, ..flux("media/radarr") };
        let health = if forced { Health::Stuck } else { Health::Orphan };
        let mut source = samples::source("media/radarr", 20, health);
        source.pvc_state = pvc_state;
        if forced {
            // Unlocked by the restart, like the other PVC.
            let clone = Pvc { uid: samples::uid(1), ..samples::locked_clone(&source, 1) };
            cluster.observation.pvcs.push(clone);
        }
        cluster.add_managed(
            source,
            FluxObject { target: release, corrects_drift: false, ..flux_object("media/radarr") },
        );
        let (conclusion, cluster) = conclude(cluster, MEDIA);
        assert_eq!(cluster.writes.contains(&"force HelmRelease media/radarr".to_owned()), forced);
        assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
        assert_eq!(
            text(&conclusion)
                .contains("recreate it at the next upgrade of HelmRelease media/radarr"),
            !forced
        );
    }
}

#[test]
fn a_release_that_was_not_forced_is_named_with_its_command_however_the_run_ends() {
    type Change = fn(&mut FakeCluster);
    let endings: [(&str, Change); 4] = [
        ("error", |cluster| {
            cluster.failing_write = Some(("restart", Error::Unavailable("no answer".into())));
        }),
        ("rollout", |cluster| cluster.rollout_hangs = true),
        ("locks return", |cluster| cluster.lock_returns = true),
        ("force rejected", |cluster| {
            cluster.failing_write = Some(("force", Error::Conflict("changed".into())));
        }),
    ];
    for (name, change) in endings {
        let mut cluster = incident();
        let release = FluxRef { kind: FluxKind::HelmRelease, ..flux("media/radarr") };
        let source = samples::source("media/radarr", 20, Health::Stuck);
        let clone = Pvc { uid: samples::uid(1), ..samples::locked_clone(&source, 1) };
        cluster.observation.pvcs.push(clone);
        cluster.add_managed(
            source,
            FluxObject { target: release, corrects_drift: false, ..flux_object("media/radarr") },
        );
        change(&mut cluster);
        let (result, _) = run(cluster, MEDIA);
        let text = match &result {
            Ok(conclusion) => text(conclusion),
            Err(error) => error.message().to_owned(),
        };
        assert!(
            text.contains("run `flux reconcile helmrelease radarr -n media --force`"),
            "{name}: {text}"
        );
    }
}

#[test]
fn a_source_that_is_not_recreated_is_not_fixed() {
    let mut cluster = incident();
    cluster.failing_write = Some(("reconcile", Error::Unavailable("no answer".into())));
    let (conclusion, _) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::NotFixed);
    assert!(
        text(&conclusion)
            .contains("media/sonarr was not recreated: check Kustomization media/sonarr")
    );
}

#[test]
fn a_locked_snapshot_is_awaited_after_the_restart_and_reported_if_it_remains() {
    for hangs in [false, true] {
        let mut cluster = incident();
        let line = format!(
            "an operation with the given Snapshot ID snapshot-{} already exists",
            samples::uid(30)
        );
        cluster.log.push(("b".into(), NOW - 1_000, line));
        cluster.observation.snapshots = vec![samples::snapshot("media/volsync-sonarr-src", 30, 10)];
        cluster.deletions_hang = hangs;
        let (conclusion, _) = conclude(cluster, MEDIA);
        assert_eq!(
            text(&conclusion)
                .contains("1 VolumeSnapshot of deleted ReplicationSources still exists"),
            hangs
        );
    }
}

#[test]
fn a_pvc_that_remains_terminating_is_reported() {
    for hangs in [false, true] {
        let mut cluster = incident();
        cluster.observation.pvcs.push(samples::terminating(
            "media/zigbee",
            5,
            ReclaimPolicy::Retain,
        ));
        cluster.add_managed(
            samples::source("media/zigbee", 30, Health::TerminatingSource),
            flux_object("media/zigbee"),
        );
        cluster.deletions_hang = hangs;
        let (conclusion, cluster) = conclude(cluster, MEDIA);
        assert_eq!(text(&conclusion).contains("PVC media/zigbee is still being deleted"), hangs);
        assert!(cluster.notes.iter().any(|note| {
            note.contains("media/zigbee will back up a brand-new (possibly empty) PVC as soon as")
        }));
    }
}

#[test]
fn snapshots_are_awaited_before_the_restart_only_if_the_driver_can_delete_them() {
    for (is_locked, waited) in [(true, 0), (false, 120_000)] {
        let mut cluster = incident();
        cluster.observation.snapshots = vec![samples::snapshot("media/volsync-sonarr-src", 30, 10)];
        if !is_locked {
            cluster.log.clear();
        }
        let (_, cluster) = conclude(cluster, &media_with(r#""evidence": "waived""#));
        assert_eq!(cluster.restarted_at, Some(NOW + waited));
    }
}

#[test]
fn a_pvc_that_waits_for_a_restore_is_reported() {
    let mut cluster = incident();
    cluster.observation.pvcs.push(Pvc {
        waiting: Some(Waiting::ForDestination),
        data_source: Some("ReplicationDestination/paperless-dst".into()),
        ..samples::pending("media/paperless", 40)
    });
    let (conclusion, _) = conclude(cluster, MEDIA);
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
    assert!(text(&conclusion).contains(
        "media/paperless is waiting for ReplicationDestination paperless-dst, which does not exist"
    ));
}

#[test]
fn a_key_without_a_pvc_is_watched_until_it_persists() {
    let diagnose = |later: u64| {
        let mut cluster = FakeCluster::new(samples::observation());
        for time in [NOW - 10_000, NOW + later] {
            cluster.log.push(("a".into(), time, samples::pvc_lock_line(99)));
        }
        cluster.run(|| VolsyncUnlock::diagnose(MEDIA))
    };
    let (diagnosis, cluster) = diagnose(200_000);
    assert_eq!(diagnosis.expect("a diagnosis").state, State::Incident);
    assert!(cluster.now > NOW + 180_000 && cluster.writes.is_empty());
    let (diagnosis, _) = diagnose(60_000);
    assert_eq!(diagnosis.expect("a diagnosis").state, State::Healthy);
}

#[test]
fn an_old_key_without_a_pvc_is_watched_until_it_is_logged_again() {
    let diagnose = |again: Option<u64>| {
        let mut cluster = FakeCluster::new(samples::observation());
        for time in [NOW - 1_500_000, NOW - 400_000].into_iter().chain(again) {
            cluster.log.push(("a".into(), time, samples::pvc_lock_line(99)));
        }
        cluster.run(|| VolsyncUnlock::diagnose(MEDIA))
    };
    let (diagnosis, cluster) = diagnose(None);
    assert_eq!(diagnosis.expect("a diagnosis").state, State::Healthy);
    assert!(cluster.now >= NOW + crate::evidence::MAX_LOG_INTERVAL_MS);
    let (diagnosis, cluster) = diagnose(Some(NOW + 60_000));
    assert_eq!(diagnosis.expect("a diagnosis").state, State::Incident);
    assert!(cluster.now < NOW + 90_000);
}

#[test]
fn missing_namespaces_are_reported_and_no_namespace_at_all_is_an_error() {
    let (conclusion, cluster) = conclude(incident(), r#"{"namespaces": ["media", "medja"]}"#);
    assert!(cluster.notes.contains(&"namespace medja does not exist".to_owned()));
    assert!(conclusion.evidence.iter().any(|finding| finding.text.contains("medja")));
    let (result, cluster) = run(incident(), r#"{"namespaces": ["medja"]}"#);
    assert!(matches!(result, Err(Error::NotFound(_))));
    assert!(cluster.writes.is_empty());
}

#[test]
fn without_a_faulty_source_nothing_is_suspended_and_the_driver_is_restarted() {
    let mut cluster = incident();
    cluster.observation.sources = Some(vec![samples::source("media/plex", 12, Health::Healthy)]);
    let (conclusion, cluster) = conclude(cluster, MEDIA);
    assert_eq!(cluster.writes, [RESTART]);
    assert_eq!(conclusion.verdict, Verdict::Fixed, "{}", conclusion.summary);
}
