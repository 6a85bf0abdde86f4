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
fn retrying_after_a_failure_does_not_count_as_reconciling() {
    let reconciling = |reason: &str| {
        is_reconciling(&json!({"status": {"conditions": [{"type": "Reconciling", "status": "True",
                "reason": reason}]}}))
    };
    assert!(reconciling("Progressing"));
    assert!(!reconciling("ProgressingWithRetry"));
}

#[test]
fn readiness_is_computed_as_in_the_flux_cli() {
    assert_eq!(readiness(&kustomization()), Readiness::Ready);
    let mut newer = kustomization();
    newer["metadata"]["generation"] = 8.into();
    assert!(matches!(readiness(&newer), Readiness::Progressing(_)));
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
