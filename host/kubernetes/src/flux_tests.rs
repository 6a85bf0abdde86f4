//! Reading Flux objects as clusters return them.

use super::*;
use crate::temporary_change::taken_over_by;
use serde_json::json;

fn plex() -> FluxRef {
    FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() }
}

fn kustomization() -> Value {
    json!({
        "metadata": {"name": "plex", "namespace": "media", "uid": "u", "generation": 7,
            "labels": {"kustomize.toolkit.fluxcd.io/name": "cluster-apps",
                "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}},
        "spec": {"interval": "1h", "sourceRef": {"kind": "GitRepository", "name": "flux-system",
            "namespace": "flux-system"}},
        "status": {"observedGeneration": 7,
            "conditions": [{"type": "Ready", "status": "True", "reason": "ReconciliationSucceeded",
                "observedGeneration": 7}],
            "inventory": {"entries": [{"id": "media_plex_volsync.backube_ReplicationSource",
                "v": "v1alpha1"}, {"id": "media_plex__PersistentVolumeClaim", "v": "v1"}]}},
    })
}

fn owned_by(manager: &str, operation: &str, time: &str) -> Value {
    json!({"manager": manager, "operation": operation, "time": time,
        "fieldsV1": {"f:spec": {"f:suspend": {}}}})
}

#[test]
fn a_kustomization_is_parsed() {
    let read = parse(&plex(), &kustomization(), false);
    assert_eq!(
        (read.generation, read.interval_seconds, read.reconciling, read.corrects_drift),
        (7, 3600, false, true)
    );
    assert_eq!(read.source.unwrap().to_string(), "GitRepository flux-system/flux-system");
    assert_eq!(read.parent.unwrap().to_string(), "Kustomization flux-system/cluster-apps");
    assert!(!read.parent_reverts && read.suspended.is_none());
}

#[test]
fn a_kustomization_checks_the_health_of_all_objects_or_of_those_that_it_names() {
    let check = |kind: &str, namespace: Value, name: &str| {
        json!({"spec": {"healthChecks": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "plex", "namespace": "media"},
            {"kind": kind, "namespace": namespace, "name": name}]}})
    };
    for (parent, expected) in [
        (json!({"spec": {"wait": true}}), true),
        (json!({"spec": {"wait": false}}), false),
        (json!({"spec": {}}), false),
        (check("Kustomization", "media".into(), "plex"), true),
        (check("Kustomization", Value::Null, "plex"), true),
        (check("Kustomization", "ai".into(), "plex"), false),
        (check("HelmRelease", "media".into(), "plex"), false),
        (check("Kustomization", "media".into(), "sonarr"), false),
    ] {
        assert_eq!(checks_health_of(&parent, &plex()), expected, "{parent}");
    }
}

#[test]
fn absent_false_and_true_are_three_states() {
    assert_eq!(
        [json!({}), json!({"spec": {"suspend": false}}), json!({"spec": {"suspend": true}})]
            .map(|o| PreviousSuspend::of(&o)),
        [PreviousSuspend::Absent, PreviousSuspend::False, PreviousSuspend::True]
    );
}

#[test]
fn the_manager_that_suspended_is_named() {
    let mut object = kustomization();
    object["spec"]["suspend"] = true.into();
    object["metadata"]["managedFields"] = json!([owned_by("flux", "Update", "2026-08-11T18:00:00Z"),
        owned_by("old", "Update", "2025-08-11T18:00:00Z"),
        {"manager": "other", "fieldsV1": {"f:spec": {"f:path": {}}}}]);
    let by = suspended_by(&object).unwrap();
    assert_eq!((by.manager.as_deref(), by.run), (Some("flux"), None));
    assert_eq!(taken_over_by(&object, &SUSPEND).as_deref(), Some("flux"));
    object["metadata"]["managedFields"] =
        json!([owned_by("salve", "Update", "2026-08-11T18:00:00Z")]);
    assert_eq!(taken_over_by(&object, &SUSPEND), None);
}

#[test]
fn a_parent_that_states_suspend_in_git_reverts_ours() {
    let mut object = kustomization();
    object["metadata"]["managedFields"] =
        json!([owned_by("kustomize-controller", "Apply", "2026-08-11T18:00:00Z")]);
    assert!(parse(&plex(), &object, false).parent_reverts);
    assert!(!parse(&plex(), &object, true).parent_reverts, "a suspended parent applies nothing");
    object["metadata"]["annotations"] =
        json!({"kustomize.toolkit.fluxcd.io/reconcile": "Disabled"});
    assert!(!parse(&plex(), &object, false).parent_reverts, "reconciliation is disabled");
    object["metadata"]["annotations"] = Value::Null;
    object["metadata"]["managedFields"] =
        json!([owned_by("flux", "Update", "2026-08-11T18:00:00Z")]);
    assert!(!parse(&plex(), &object, false).parent_reverts, "an update does not come from Git");
}

#[test]
fn objects_of_flux_operator_that_state_suspend_revert_ours() {
    let labels = |group: &str, namespace: &str| json!({format!("{group}/name"): "apps", format!("{group}/namespace"): namespace});
    let operator = |operation: &str| owned_by("flux-operator", operation, "2026-08-11T18:00:00Z");
    let set = || labels("resourceset.fluxcd.controlplane.io", "flux-system");
    let instance = || labels("fluxcd.controlplane.io", "flux-system");
    let other_field = json!({"manager": "flux-operator", "operation": "Apply",
        "fieldsV1": {"f:spec": {"f:path": {}}}});
    for (labels, owner, expected) in [
        (set(), operator("Apply"), Some("ResourceSet flux-system/apps")),
        (instance(), operator("Apply"), Some("FluxInstance flux-system/apps")),
        (set(), operator("Update"), None),
        (set(), owned_by("flux", "Apply", "2026-08-11T18:00:00Z"), None),
        (set(), other_field, None),
        (json!({}), operator("Apply"), None),
        (labels("resourceset.fluxcd.controlplane.io", "; rm"), operator("Apply"), None),
    ] {
        let object = json!({"metadata": {"labels": labels, "managedFields": [owner]}});
        let parent = reverting_operator_parent(&object).map(|parent| parent.to_string());
        assert_eq!(parent.as_deref(), expected, "{object}");
    }
}

#[test]
fn retrying_after_a_failure_does_not_count_as_reconciling() {
    let reconciling = |kind: &str, status: &str, reason: &str| {
        is_reconciling(&conditions(&json!([{"type": kind, "status": status, "reason": reason}])))
    };
    assert!(reconciling("Reconciling", "True", "Progressing"));
    assert!(!reconciling("Reconciling", "True", "ProgressingWithRetry"));
    assert!(reconciling("Ready", "Unknown", "Progressing"), "as old controllers report it");
    assert!(!reconciling("Ready", "True", "ReconciliationSucceeded"));
}

fn conditions(conditions: &Value) -> Value {
    json!({"metadata": {"generation": 8}, "spec": {"suspend": true},
        "status": {"observedGeneration": 7, "conditions": conditions}})
}

fn progressing(message: &str) -> Value {
    conditions(&json!([
        {"type": "Reconciling", "status": "True", "reason": "Progressing", "message": message,
            "lastTransitionTime": "2026-08-20T10:00:00Z"},
        {"type": "Ready", "status": "Unknown", "reason": "Progressing",
            "message": "Reconciliation in progress"},
    ]))
}

/// Reported by controllers that do not know the condition `Reconciling`.
fn old(message: &str) -> Value {
    conditions(&json!([{"type": "Ready", "status": "Unknown", "reason": "Progressing",
        "message": message, "lastTransitionTime": "2026-08-20T10:00:00Z"}]))
}

fn observed(mut object: Value) -> Value {
    object["status"]["observedGeneration"] = 8.into();
    object
}

fn activity_at(kind: FluxKind, object: &Value, time: &str) -> Activity {
    activity(kind, object, crate::time::millis(time).unwrap())
}

/// The texts are those of kustomize-controller 0.29 and 1.9.4 (`kustomization_controller.go`),
/// helm-controller 0.36 (`helmrelease_types.go`, v2beta1) and 1.6.3 (`helmrelease_controller.go`,
/// `atomic_release.go`), and source-controller 1.9.1 (`gitrepository_controller.go`).
#[test]
fn a_suspended_object_is_idle_once_it_applies_nothing_more() {
    use FluxKind::{Bucket, GitRepository, HelmRelease, Kustomization, OciRepository};
    let applying = |message: &str| Activity::Applying(message.into());
    let prerequisites = "Fulfilling prerequisites";
    let upgrade = "Running 'upgrade' action with timeout of 5m0s";
    let fetching = "building artifact: new upstream revision 'main@sha1:aaaa'";
    let health = "Running health checks for revision main@sha1:aaaa with a timeout of 59m30s";
    let drift = "Detecting drift for revision main@sha1:aaaa with a timeout of 5m0s";
    let build = "Building manifests for revision main@sha1:aaaa with a timeout of 5m0s";
    let fetch = "Fetching manifests for revision main@sha1:aaaa with a timeout of 5m0s";
    let in_progress = "Reconciliation in progress";
    let failed = |reason: &str, message: &str| {
        conditions(&json!([
            {"type": "Reconciling", "status": "True", "reason": "ProgressingWithRetry",
                "message": message},
            {"type": "Ready", "status": "False", "reason": reason, "message": message},
        ]))
    };
    let waiting = conditions(&json!([
        {"type": "Reconciling", "status": "True", "reason": "Progressing", "message": prerequisites,
            "lastTransitionTime": "2026-08-20T10:00:00Z"},
        {"type": "Ready", "status": "False", "reason": "DependencyNotReady",
            "message": "dependency 'media/db' is not ready"},
    ]));
    for (kind, object, expected) in [
        (Kustomization, progressing(fetch), applying(fetch)),
        (Kustomization, progressing(build), applying(build)),
        (Kustomization, progressing(drift), applying(drift)),
        (Kustomization, progressing(""), applying("")),
        (Kustomization, progressing(health), Activity::Idle),
        (Kustomization, failed("DependencyNotReady", fetch), Activity::Idle),
        (Kustomization, failed("HealthCheckFailed", health), Activity::Idle),
        (Kustomization, failed("ReconciliationFailed", drift), Activity::Idle),
        (Kustomization, kustomization(), Activity::Idle),
        (Kustomization, json!({"metadata": {"generation": 1}}), Activity::Idle),
        // A Kustomization that is ready for the latest generation reports no progress.
        (Kustomization, observed(progressing(drift)), applying(drift)),
        (Kustomization, old("reconciliation in progress"), applying("reconciliation in progress")),
        (Kustomization, old("running health checks with a timeout of 5m0s"), Activity::Idle),
        (
            Kustomization,
            old("Source is not ready, artifact not found, retrying in 30s"),
            Activity::Idle,
        ),
        (HelmRelease, progressing(upgrade), applying(upgrade)),
        // Helm waits for health within the action, and may still roll back.
        (HelmRelease, progressing(health), applying(health)),
        (HelmRelease, progressing(prerequisites), Activity::Preparing),
        (HelmRelease, waiting.clone(), Activity::Preparing),
        (HelmRelease, observed(waiting), Activity::Idle),
        (HelmRelease, observed(progressing(upgrade)), Activity::Idle),
        (HelmRelease, failed("UpgradeFailed", "retrying after 5m0s"), Activity::Idle),
        (HelmRelease, old(in_progress), applying(in_progress)),
        (
            HelmRelease,
            conditions(&json!([{"type": "Ready", "status": "False",
                "reason": "DependencyNotReady", "message": "dependency 'media/db' is not ready"}])),
            Activity::Idle,
        ),
        (GitRepository, progressing(fetching), applying(fetching)),
        (GitRepository, observed(progressing(fetching)), Activity::Idle),
        (OciRepository, progressing(in_progress), applying(in_progress)),
        (OciRepository, observed(progressing(in_progress)), Activity::Idle),
        (Bucket, progressing(in_progress), applying(in_progress)),
        (Bucket, observed(progressing(in_progress)), Activity::Idle),
    ] {
        assert_eq!(
            activity_at(kind, &object, "2026-08-20T10:00:30Z"),
            expected,
            "{kind:?} {object}"
        );
    }
}

#[test]
fn progress_that_is_older_than_any_reconciliation_was_interrupted() {
    use FluxKind::{GitRepository, HelmRelease, Kustomization};
    let with = |mut object: Value, spec: Value| {
        object["spec"] = spec;
        object
    };
    let plain = || progressing("in progress");
    let none = || json!({});
    for (kind, object, applying, interrupted) in [
        (Kustomization, plain(), "10:09:59", "10:10:00"),
        (Kustomization, with(plain(), json!({"timeout": "1h"})), "10:09:59", "10:10:00"),
        (Kustomization, old("reconciliation in progress"), "10:09:59", "10:10:00"),
        (HelmRelease, plain(), "10:14:59", "10:15:00"),
        (HelmRelease, with(old("in progress"), none()), "10:14:59", "10:15:00"),
        (HelmRelease, with(plain(), json!({"timeout": "1m"})), "10:09:59", "10:10:00"),
        (
            HelmRelease,
            with(plain(), json!({"timeout": "1m", "rollback": {"timeout": "20m"}})),
            "10:59:59",
            "11:00:00",
        ),
        (GitRepository, plain(), "10:09:59", "10:10:00"),
        (GitRepository, with(plain(), json!({"timeout": "15m"})), "10:14:59", "10:15:00"),
    ] {
        let at = |time: &str| activity_at(kind, &object, &format!("2026-08-20T{time}Z"));
        assert_ne!(at(applying), Activity::Idle, "{kind:?} {object}");
        assert_eq!(at(interrupted), Activity::Idle, "{kind:?} {object}");
    }
    // Each reconciliation that finds a dependency not ready leaves this time as it is.
    let waiting = progressing("Fulfilling prerequisites");
    assert_eq!(activity_at(HelmRelease, &waiting, "2099-01-01T00:00:00Z"), Activity::Preparing);
    let mut undated = plain();
    undated["status"]["conditions"][0].as_object_mut().unwrap().remove("lastTransitionTime");
    assert_ne!(activity_at(Kustomization, &undated, "2099-01-01T00:00:00Z"), Activity::Idle);
}

#[test]
fn readiness_is_computed_as_in_the_flux_cli() {
    assert_eq!(readiness(&kustomization()), Readiness::Ready);
    let mut newer = kustomization();
    newer["metadata"]["generation"] = 8.into();
    assert!(matches!(readiness(&newer), Readiness::Progressing(_)));
    let mut suspended = kustomization();
    suspended["spec"]["suspend"] = true.into();
    let again = "it was suspended again by an unknown manager".to_owned();
    assert_eq!(readiness(&suspended), Readiness::Failed(again));
    let mut failing = kustomization();
    failing["status"]["conditions"] =
        json!([{"type": "Ready", "status": "False", "message": "no such file"}]);
    assert_eq!(readiness(&failing), Readiness::Progressing("no such file".into()));
    failing["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "Stalled", "status": "True"}));
    assert_eq!(readiness(&failing), Readiness::Failed("no such file".into()));
    assert!(matches!(
        readiness(&json!({"metadata": {"generation": 1}})),
        Readiness::Progressing(_)
    ));
}

#[test]
fn inventory_entries_are_matched_by_id() {
    let subject = json!({"metadata": {"name": "plex", "namespace": "media"}});
    assert_eq!(
        inventory_contains(&kustomization(), &subject, "volsync.backube", "ReplicationSource"),
        Some(true)
    );
    assert_eq!(
        inventory_contains(&kustomization(), &subject, "", "PersistentVolumeClaim"),
        Some(true)
    );
    assert_eq!(inventory_contains(&kustomization(), &subject, "apps", "Deployment"), Some(false));
    assert_eq!(inventory_contains(&json!({}), &subject, "apps", "Deployment"), None);
}

#[test]
fn labels_with_invalid_names_are_ignored() {
    let object = json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "a",
        "kustomize.toolkit.fluxcd.io/namespace": "../x"}}});
    assert_eq!(labelled_owner(&object), None);
}

#[test]
fn a_release_without_drift_detection_does_not_correct_drift() {
    let target = FluxRef {
        kind: FluxKind::HelmRelease,
        namespace: "volsync-system".into(),
        name: "volsync".into(),
    };
    let release = json!({"spec": {"chartRef": {"kind": "OCIRepository", "name": "volsync"},
        "interval": "1h"}});
    let seen = parse(&target, &release, false);
    assert!(!seen.corrects_drift);
    assert_eq!(seen.source.unwrap().to_string(), "OCIRepository volsync-system/volsync");
    assert!(
        parse(&target, &json!({"spec": {"driftDetection": {"mode": "enabled"}}}), false)
            .corrects_drift
    );
}
