//! The ownership of objects, from their metadata and the inventories of their owners.

use super::*;
use salve_core::capability::types::ObjectRef;
use serde_json::json;

fn owner_info(metadata: Value, owners: Vec<(FluxRef, Option<Value>)>) -> OwnerInfo {
    let named = owners.into_iter().map(|(named, found)| match found {
        Some(object) => (named, Named::Found(object)),
        None => (named, Named::Missing),
    });
    ownership_of(metadata, named.collect())
}

fn ownership_of(metadata: Value, named: BTreeMap<FluxRef, Named>) -> OwnerInfo {
    let owners = Owners { named, parents: BTreeMap::new() };
    let subject =
        Subject { kind: SubjectKind::ReplicationSource, object: ObjectRef::new("media", "plex") };
    let mut object = json!({ "metadata": metadata });
    object["metadata"]["name"] = "plex".into();
    object["metadata"]["namespace"] = "media".into();
    determine_ownership(&subject, &object, &owners)
}

fn labels() -> Value {
    json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "plex",
        "kustomize.toolkit.fluxcd.io/namespace": "media"}})
}

fn plex() -> FluxRef {
    FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() }
}

fn owner_with_inventory(ids: &[&str]) -> Option<Value> {
    let entries: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
    let ready = json!([{"type": "Ready", "status": "True"}]);
    Some(json!({"metadata": {"uid": "u"},
        "status": {"inventory": {"entries": entries}, "conditions": ready}}))
}

#[test]
fn a_label_only_counts_if_the_inventory_contains_the_object() {
    let managed = owner_info(
        labels(),
        vec![(plex(), owner_with_inventory(&["media_plex_volsync.backube_ReplicationSource"]))],
    );
    assert_eq!(
        (managed.ownership, managed.owner.map(|o| o.uid)),
        (Ownership::Managed, Some("u".into()))
    );
    let abandoned = owner_info(
        labels(),
        vec![(plex(), owner_with_inventory(&["media_other_volsync.backube_ReplicationSource"]))],
    );
    assert_eq!((abandoned.ownership, abandoned.owner.is_some()), (Ownership::Abandoned, true));
    let gone = owner_info(labels(), vec![(plex(), None)]);
    assert_eq!((gone.ownership, gone.owner), (Ownership::UnknownOwner, None));
    assert!(gone.evidence.contains("not in this cluster"), "{}", gone.evidence);
}

#[test]
fn labels_that_outlived_their_owner_do_not_hide_another_one() {
    let other = owner_with_inventory(&["media_other_volsync.backube_ReplicationSource"]);
    let own = owner_with_inventory(&["media_plex_volsync.backube_ReplicationSource"]);
    for (annotation, owner, expected) in [
        ("argocd.argoproj.io/tracking-id", None, Ownership::Foreign),
        ("argocd.argoproj.io/tracking-id", other, Ownership::Foreign),
        ("argocd.argoproj.io/tracking-id", own, Ownership::Managed),
        // Each release that Flux installs has it.
        ("meta.helm.sh/release-name", None, Ownership::UnknownOwner),
    ] {
        let mut metadata = labels();
        metadata["annotations"] = json!({ annotation: "x" });
        let found = owner_info(metadata, vec![(plex(), owner)]);
        assert_eq!(found.ownership, expected, "{annotation} {}", found.evidence);
    }
}

#[test]
fn an_owner_that_cannot_be_checked_may_apply_the_object() {
    for (named, evidence) in
        [(Named::NotServed, "hub and spoke"), (Named::NotGranted, "not granted")]
    {
        let found = ownership_of(labels(), BTreeMap::from([(plex(), named)]));
        assert_eq!((found.ownership, found.owner), (Ownership::Foreign, None));
        assert!(found.evidence.contains(evidence), "{}", found.evidence);
    }
}

#[test]
fn an_inventory_that_may_be_incomplete_does_not_make_an_object_abandoned() {
    for (status, reason, applied, expected) in [
        ("True", "ReconciliationSucceeded", "main@sha1:b", Ownership::Abandoned),
        ("False", "HealthCheckFailed", "main@sha1:a", Ownership::Abandoned),
        ("False", "HealthCheckCanceled", "main@sha1:a", Ownership::Abandoned),
        ("False", "PruneFailed", "main@sha1:a", Ownership::Abandoned),
        // The last revision that was tried was applied completely before.
        ("False", "DependencyNotReady", "main@sha1:b", Ownership::Abandoned),
        ("Unknown", "Progressing", "main@sha1:b", Ownership::Abandoned),
        ("False", "ReconciliationFailed", "main@sha1:a", Ownership::Foreign),
        ("False", "DependencyNotReady", "main@sha1:a", Ownership::Foreign),
        ("Unknown", "Progressing", "main@sha1:a", Ownership::Foreign),
    ] {
        let mut owner = owner_with_inventory(&["media_other_volsync.backube_ReplicationSource"]);
        let owner_status = &mut owner.as_mut().unwrap()["status"];
        owner_status["lastAppliedRevision"] = applied.into();
        owner_status["lastAttemptedRevision"] = "main@sha1:b".into();
        owner_status["conditions"] = json!([{"type": "Ready", "status": status, "reason": reason}]);
        let found = owner_info(labels(), vec![(plex(), owner)]);
        assert_eq!(found.ownership, expected, "{reason} {applied}");
        assert!(found.owner.is_some());
    }
    let health = "Running health checks for revision main@sha1:b with a timeout of 5m0s";
    let checking = json!({"status": {"conditions": [{"type": "Reconciling", "status": "True",
        "reason": "Progressing", "message": health}]}});
    assert!(flux::is_inventory_complete(FluxKind::Kustomization, &checking));
    let failed = json!({"status": {"conditions": [{"type": "Ready", "status": "False",
        "reason": "UpgradeFailed"}]}});
    assert!(flux::is_inventory_complete(FluxKind::HelmRelease, &failed));
}

#[test]
fn a_helm_release_without_inventory_counts_as_owner() {
    let named =
        FluxRef { kind: FluxKind::HelmRelease, namespace: "media".into(), name: "plex".into() };
    let labels = json!({"labels": {"helm.toolkit.fluxcd.io/name": "plex",
        "helm.toolkit.fluxcd.io/namespace": "media"}});
    assert_eq!(owner_info(labels, vec![(named, Some(json!({})))]).ownership, Ownership::Managed);
}

#[test]
fn other_owners_are_named_and_no_owner_is_unmanaged() {
    for (metadata, expected) in [
        (json!({"ownerReferences": [{"kind": "App", "name": "plex"}]}), "App/plex"),
        (json!({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}), "Argo CD"),
        (json!({"labels": {"argocd.argoproj.io/instance": "x"}}), "Argo CD"),
        (
            json!({"labels": {"resourceset.fluxcd.controlplane.io/name": "apps"}}),
            "ResourceSet apps",
        ),
        (json!({"labels": {"fluxcd.controlplane.io/name": "flux"}}), "FluxInstance flux"),
        (json!({"labels": {"app.kubernetes.io/instance": "plex"}}), "Argo CD"),
        (
            json!({"labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"meta.helm.sh/release-name": "plex"}}),
            "Helm release plex",
        ),
    ] {
        let ownership = owner_info(metadata, vec![]);
        assert!(
            ownership.ownership == Ownership::Foreign && ownership.evidence.contains(expected),
            "{ownership:?}"
        );
    }
    assert_eq!(owner_info(json!({}), vec![]).ownership, Ownership::Unmanaged);
}
