use super::*;
use crate::samples::{self, NOW};
use salve_sdk::query_pods::PendingReason;
use salve_sdk::query_pvcs::Waiting;

fn locked() -> Observation {
    let mut observation = samples::observation();
    observation.pvcs = vec![samples::pending("media/plex", 1), samples::pending("media/other", 2)];
    observation.pvcs[1].waiting = Some(Waiting::ForFirstConsumer);
    observation.sources = Some(vec![samples::source("media/sonarr", 3, Health::Orphan)]);
    observation.log.sightings.add("a", NOW - 11_520_000, &samples::pvc_lock_line(1));
    observation.log.sightings.add("b", NOW - 8_000, &samples::pvc_lock_line(1));
    observation
}

fn texts(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.text.as_str()).collect()
}

#[test]
fn the_incident_is_reported_with_its_evidence() {
    let (diagnosis, _) = diagnose(&locked(), 180_000);
    assert_eq!(diagnosis.state, State::Incident);
    assert_eq!(diagnosis.summary, "CSI operation locks on rook-ceph.rbd.csi.ceph.com");
    assert_eq!(
        texts(&diagnosis.evidence_for),
        [
            "1 of 2 Pending PVCs waits for a lock that the driver is logging now",
            "1 volume/snapshot locked (2 of 2 CSI controller pods), first logged 3 h 12 min \
             ago, last logged 8 s ago",
            "1 ReplicationSource backs up a PVC that no longer exists (oldest: media/sonarr, \
             last backup 24 h ago)",
        ]
    );
    assert_eq!(diagnosis.ruled_out[0].text, "media/other: WaitForFirstConsumer (expected)");
}

#[test]
fn several_objects_are_reported_in_the_plural() {
    let mut observation = locked();
    let mut child = samples::pending("media/vs-prime-5", 5);
    child.populates = Some("other".into());
    observation.pvcs[1].waiting = None;
    observation.pvcs.push(child);
    let stuck = ["media/a", "media/b"].map(|name| samples::source(name, 6, Health::Stuck));
    observation.pvcs.extend(stuck.iter().map(|source| samples::locked_clone(source, 8)));
    observation.sources.get_or_insert_default().extend(stuck);
    for number in [5, 666, 667] {
        observation.log.sightings.add("a", NOW - 8_000, &samples::pvc_lock_line(number));
    }
    let (diagnosis, _) = diagnose(&observation, 180_000);
    let found = &diagnosis.evidence_for;
    assert_eq!(found[0].text, "3 of 5 Pending PVCs wait for a lock that the driver is logging now");
    assert_eq!(
        found[0].details[2],
        "media/other: waits for its VolSync populator PVC (vs-prime-5)"
    );
    assert!(found[1].text.starts_with("4 volumes/snapshots locked (2 of 2 CSI controller pods)"));
    assert!(found[3].text.starts_with("2 ReplicationSources have a sync that waits for the"));
    assert!(texts(&diagnosis.evidence_against)[0].starts_with("2 lock keys match no PVC"));
}

#[test]
fn ceph_in_error_is_a_different_problem_even_if_locks_are_logged() {
    let mut observation = locked();
    observation.driver.ceph.as_mut().expect("a CephCluster").status = "HEALTH_ERR".into();
    let (diagnosis, evidence) = diagnose(&observation, 180_000);
    assert!(evidence.is_sufficient());
    assert_eq!(diagnosis.state, State::DifferentProblem);
    assert!(diagnosis.ruled_out[0].text.contains("HEALTH_ERR"));
}

#[test]
fn pending_pvcs_without_a_lock_are_a_different_problem() {
    let mut observation = samples::observation();
    observation.pvcs = vec![samples::pending("media/plex", 1)];
    let (diagnosis, _) = diagnose(&observation, 180_000);
    assert_eq!(diagnosis.state, State::DifferentProblem);
    assert_eq!(
        diagnosis.summary,
        "the controller logs no operation lock; media/plex: Pending, and no event says why"
    );
    assert!(!diagnosis.ruled_out.is_empty());
}

#[test]
fn a_cluster_whose_pvcs_wait_only_for_a_consumer_is_healthy() {
    let mut observation = samples::observation();
    observation.pvcs = vec![samples::pending("security/authelia", 1)];
    observation.pvcs[0].waiting = Some(Waiting::ForFirstConsumer);
    assert_eq!(diagnose(&observation, 180_000).0.state, State::Healthy);
}

#[test]
fn an_idle_orphan_is_mentioned_on_a_healthy_cluster() {
    let mut observation = samples::observation();
    observation.sources = Some(vec![samples::source("media/sonarr", 3, Health::Orphan)]);
    let (diagnosis, _) = diagnose(&observation, 180_000);
    assert_eq!(diagnosis.state, State::Healthy);
    assert!(diagnosis.summary.contains("1 ReplicationSource whose PVC is gone"));
    assert!(diagnosis.summary.contains("(media/sonarr): restore"), "{}", diagnosis.summary);
}

#[test]
fn a_missing_snapshotter_is_a_different_problem() {
    let mut observation = samples::observation();
    observation.driver.controller.as_mut().expect("a controller").snapshotter = false;
    let snapshot = samples::snapshot("media/s", 5, 6);
    observation.snapshots =
        vec![salve_sdk::query_pvcs::Snapshot { content: Some("c".into()), ..snapshot }];
    let (diagnosis, _) = diagnose(&observation, 180_000);
    assert_eq!(diagnosis.state, State::DifferentProblem);
    assert!(diagnosis.summary.contains("no csi-snapshotter"), "{}", diagnosis.summary);
    assert!(diagnosis.ruled_out[0].text.contains("no csi-snapshotter"));
}

#[test]
fn the_first_line_names_the_look_alike_and_its_remedy() {
    let stuck = |change: fn(&mut Source)| {
        let mut source = samples::source("media/atlas", 1, Health::Stuck);
        change(&mut source);
        Observation { sources: Some(vec![source]), ..samples::observation() }
    };
    let locked_mount = "MountVolume.MountDevice failed for volume \"v\" : rpc error: code = Aborted \
                        desc = an operation with the given Volume ID \
                        pvc-77777777-7777-4777-8777-000000000021 already exists";
    let node = Observation {
        pending_pods: vec![samples::pending_pod(
            "media/atlas-0",
            "StatefulSet/atlas",
            PendingReason::MountFailed,
            locked_mount,
        )],
        ..samples::observation()
    };
    for (observation, state, expected) in [
        (node, State::DifferentProblem, "delete the one node plugin pod on node-b"),
        (
            stuck(|source| {
                source.last_result = Some("Failed".into());
                source.last_log = Some("repository is already locked by PID 48".into());
            }),
            State::DifferentProblem,
            "set spec.restic.unlock",
        ),
        (stuck(|_| {}), State::Healthy, "no PVC is stuck, and no operation lock is logged; "),
        (stuck(|_| {}), State::Healthy, "see the logs of its Job"),
        (stuck(|source| source.paused = true), State::Healthy, "before you remove spec.paused"),
    ] {
        let (diagnosis, _) = diagnose(&observation, 180_000);
        assert_eq!(diagnosis.state, state, "{}", diagnosis.summary);
        assert!(diagnosis.summary.contains(expected), "{}", diagnosis.summary);
        assert!(!diagnosis.ruled_out.is_empty(), "{}", diagnosis.summary);
    }
}

#[test]
fn a_node_lock_is_reported_next_to_the_incident() {
    let mut observation = locked();
    observation.pending_pods = vec![samples::pending_pod(
        "media/atlas-0",
        "StatefulSet/atlas",
        PendingReason::MountFailed,
        &samples::pvc_lock_line(9),
    )];
    let (diagnosis, _) = diagnose(&observation, 180_000);
    assert_eq!(diagnosis.state, State::Incident);
    assert!(diagnosis.ruled_out[0].text.contains("node plugin"));
}

#[test]
fn a_pod_that_cannot_hold_a_lock_is_named_and_does_not_make_a_diagnosis_inconclusive() {
    let mut observation = samples::observation();
    observation.log.skipped = ["b: terminating; is node node-b down?".to_owned()].into();
    let (diagnosis, _) = diagnose(&observation, 180_000);
    assert_eq!(diagnosis.state, State::Healthy);
    let named = &diagnosis.evidence_against[0];
    assert!(named.text.starts_with("skipped the log of 1 CSI controller pod"), "{}", named.text);
    assert_eq!(named.details, ["b: terminating; is node node-b down?"]);
}

#[test]
fn a_log_that_cannot_be_read_is_inconclusive_unless_another_shows_the_locks() {
    let unread = |mut observation: Observation, pods: &[&str]| {
        observation.log.pods = pods.iter().map(|pod| (*pod).to_owned()).collect();
        observation.log.unreadable = ["b: no response".to_owned()].into();
        diagnose(&observation, 180_000).0
    };
    let healthy = unread(samples::observation(), &["a"]);
    assert_eq!(healthy.state, State::Inconclusive);
    assert!(
        healthy.summary.starts_with("failed to read the log of 1 of 2 CSI controller pods (b: "),
        "{}",
        healthy.summary
    );
    let mut pending = samples::observation();
    pending.pvcs = vec![samples::pending("media/plex", 1)];
    assert_eq!(unread(pending, &["a"]).state, State::Inconclusive);
    let none = unread(samples::observation(), &[]);
    assert!(none.summary.contains("any of 1 CSI controller pod ("), "{}", none.summary);
    assert_eq!(unread(locked(), &["a"]).state, State::Incident);
}
