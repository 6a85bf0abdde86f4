//! `query-flux`: the owner of an object, who suspended it, and whether a suspension would be
//! reverted.

use crate::discovery;
use crate::flux;
use crate::object::{annotation, kind_and_name, label, list, truncated};
use crate::perform::PerformRead;
use crate::resource::{DEPLOYMENTS, PVCS, Resource};
use crate::send::{MAX_CONCURRENT_REQUESTS, Session, concurrently};
use salve_core::capability::query_flux::{
    FindOwners, FluxObject, GetFluxObject, OwnerInfo, Ownership, Subject, SubjectKind,
};
use salve_core::capability::suspend_flux::PreviousSuspend;
use salve_core::capability::types::{FluxKind, FluxRef};
use salve_core::footprint::{Asked, Verb};
use salve_core::outcome::Error;
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads one Flux object.
async fn get(session: &Session, call: &GetFluxObject) -> Result<FluxObject, Error> {
    let object = flux::get(session, &call.target).await?;
    flux_object(session, &call.target, &object).await
}

/// Determines the owners of objects, in the order of the subjects.
///
/// # Errors
/// `not-found` with the first subject that does not exist.
async fn owners(session: &Session, call: &FindOwners) -> Result<Vec<OwnerInfo>, Error> {
    let sources = if call.subjects.iter().any(|s| s.kind == SubjectKind::ReplicationSource) {
        let kind = SubjectKind::ReplicationSource;
        Some(discovery::require_resource(session, kind.group(), kind.plural()).await?)
    } else {
        None
    };
    let fetched = concurrently(
        call.subjects.iter().map(|subject| fetch(session, subject, sources.as_ref())).collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let objects: Vec<Value> = fetched.into_iter().collect::<Result<_, _>>()?;
    let mut named: Vec<FluxRef> = objects.iter().filter_map(flux::labelled_owner).collect();
    named.sort();
    named.dedup();
    let found = concurrently(
        named.iter().map(|owner| owner_of(session, owner)).collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let mut known = BTreeMap::new();
    for (owner, found) in named.into_iter().zip(found) {
        known.insert(owner, found?);
    }
    Ok(call
        .subjects
        .iter()
        .zip(&objects)
        .map(|(subject, object)| determine_ownership(subject, object, &known))
        .collect())
}

async fn fetch(
    session: &Session,
    subject: &Subject,
    sources: Option<&Resource>,
) -> Result<Value, Error> {
    let resource = match (subject.kind, sources) {
        (SubjectKind::ReplicationSource, Some(sources)) => sources,
        (SubjectKind::ReplicationSource, None) => {
            return Err(Error::NotFound("VolSync is not installed".into()));
        }
        (SubjectKind::PersistentVolumeClaim, _) => &PVCS,
        (SubjectKind::Deployment, _) => &DEPLOYMENTS,
    };
    Ok(session.get(resource, Some(&subject.object.namespace), &subject.object.name).await?)
}

/// The owner that labels name.
enum Named {
    /// The cluster does not serve its kind.
    NotServed,
    Missing,
    /// Along with its JSON, which contains the inventory.
    Found(Box<FluxObject>, Value),
}

/// Reads an owner.
async fn owner_of(session: &Session, owner: &FluxRef) -> Result<Named, Error> {
    let Some(resource) =
        discovery::find_resource(session, owner.kind.group(), owner.kind.plural()).await?
    else {
        return Ok(Named::NotServed);
    };
    let Some(object) = session.find(&resource, Some(&owner.namespace), &owner.name).await? else {
        return Ok(Named::Missing);
    };
    Ok(Named::Found(Box::new(flux_object(session, owner, &object).await?), object))
}

/// Converts a Flux object to the type that guests get.
async fn flux_object(
    session: &Session,
    target: &FluxRef,
    object: &Value,
) -> Result<FluxObject, Error> {
    let parent = flux::labelled_owner(object)
        .filter(|parent| parent != target && flux::suspend_applied_by(object).is_some());
    let parent_suspended = match parent {
        Some(parent) => is_suspended(session, &parent).await?,
        None => false,
    };
    Ok(flux::parse(target, object, parent_suspended))
}

/// Returns true if a Flux object applies nothing, because it is suspended or does not exist. False
/// if it may not be read.
pub(crate) async fn is_suspended(session: &Session, target: &FluxRef) -> Result<bool, Error> {
    let Some(resource) =
        discovery::find_resource(session, target.kind.group(), target.kind.plural()).await?
    else {
        return Ok(true);
    };
    let asked = Asked {
        verb: Verb::Get,
        group: &resource.group,
        resource: &resource.plural,
        subresource: None,
        namespace: Some(&target.namespace),
        name: Some(&target.name),
    };
    if session.footprint().covers(&asked).is_err() {
        return Ok(false);
    }
    match session.find(&resource, Some(&target.namespace), &target.name).await {
        Ok(found) => {
            Ok(found.is_none_or(|object| PreviousSuspend::of(&object) == PreviousSuspend::True))
        }
        Err(failure) if failure.code() == Some(403) => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

/// Determines the ownership of an object, with the evidence.
fn determine_ownership(
    subject: &Subject,
    object: &Value,
    known: &BTreeMap<FluxRef, Named>,
) -> OwnerInfo {
    let (ownership, owner, evidence) = match flux::labelled_owner(object) {
        Some(named) => match known.get(&named) {
            // mutant owner-in-another-cluster-abandoned: Foreign ~> Abandoned
            Some(Named::NotServed) => (
                Ownership::Foreign,
                None,
                format!(
                    "its labels name {named}, but this cluster has no {}s: Flux in another cluster \
                     may apply it (hub and spoke)",
                    named.kind.kind()
                ),
            ),
            // mutant stale-labels-count-as-managed: Abandoned ~> Managed
            Some(Named::Missing) | None => (
                Ownership::Abandoned,
                None,
                format!("its labels name {named}, which does not exist"),
            ),
            Some(Named::Found(flux_object, owner)) => {
                let (ownership, evidence) = inventory_ownership(subject, object, &named, owner);
                (ownership, Some((**flux_object).clone()), evidence)
            }
        },
        None => match other_owner(object) {
            Some(evidence) => (Ownership::Foreign, None, evidence),
            None => (
                Ownership::Unmanaged,
                None,
                "no label, annotation, or owner reference names an owner".into(),
            ),
        },
    };
    OwnerInfo { subject: subject.clone(), ownership, owner, evidence }
}

/// Determines the ownership of an object by the inventory of the owner that its labels name.
fn inventory_ownership(
    subject: &Subject,
    object: &Value,
    named: &FluxRef,
    owner: &Value,
) -> (Ownership, String) {
    let (group, kind) = (subject.kind.group(), subject.kind.label());
    match (flux::inventory_contains(owner, object, group, kind), named.kind) {
        (Some(true), _) => (Ownership::Managed, format!("in the inventory of {named}")),
        // mutant partial-inventory-believed: flux::is_inventory_complete(named.kind, owner) ~> true
        (Some(false), _) if flux::is_inventory_complete(named.kind, owner) => (
            Ownership::Abandoned,
            format!("its labels name {named}, whose inventory does not contain it"),
        ),
        (Some(false), _) => (
            Ownership::Foreign,
            format!(
                "its labels name {named}, whose last reconciliation failed before it wrote its \
                 inventory"
            ),
        ),
        // Flux before 2.8 has no inventory of releases, and a new owner has none yet, so the label
        // decides.
        (None, FluxKind::HelmRelease) => (
            Ownership::Managed,
            format!("its labels name {named}, which exists and has no inventory"),
        ),
        (None, _) => (
            Ownership::Managed,
            format!("its labels name {named}, which exists and has no inventory yet"),
        ),
    }
}

/// Describes an owner other than Flux, if the object has one.
fn other_owner(object: &Value) -> Option<String> {
    if let Some(owner) = list(object, "/metadata/ownerReferences").first().and_then(kind_and_name) {
        return Some(format!("owned by {owner}"));
    }
    for (key, tool) in
        [("argocd.argoproj.io/tracking-id", "Argo CD"), ("argocd.argoproj.io/instance", "Argo CD")]
    {
        if let Some(value) = annotation(object, key).or_else(|| label(object, key)) {
            return Some(format!("tracked by {tool} ({key}: {})", truncated(value, 120)));
        }
    }
    if let Some(set) = label(object, "resourceset.fluxcd.controlplane.io/name") {
        return Some(format!("created by ResourceSet {}", truncated(set, 120)));
    }
    if let Some(release) = annotation(object, "meta.helm.sh/release-name") {
        return Some(format!("created by Helm release {}", truncated(release, 120)));
    }
    (label(object, "app.kubernetes.io/managed-by") == Some("Helm"))
        .then(|| "created by Helm, according to its label".into())
}

impl PerformRead for FindOwners {
    async fn read(&self, session: &Session) -> Result<Vec<OwnerInfo>, Error> {
        owners(session, self).await
    }
}

impl PerformRead for GetFluxObject {
    async fn read(&self, session: &Session) -> Result<FluxObject, Error> {
        get(session, self).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::capability::types::ObjectRef;
    use serde_json::json;

    fn owner_info(metadata: Value, owners: Vec<(FluxRef, Option<Value>)>) -> OwnerInfo {
        let named = owners.into_iter().map(|(named, found)| match found {
            Some(object) => {
                let read = Box::new(flux::parse(&named, &object, false));
                (named, Named::Found(read, object))
            }
            None => (named, Named::Missing),
        });
        ownership_of(metadata, named.collect())
    }

    fn ownership_of(metadata: Value, known: BTreeMap<FluxRef, Named>) -> OwnerInfo {
        let subject = Subject {
            kind: SubjectKind::ReplicationSource,
            object: ObjectRef::new("media", "plex"),
        };
        let mut object = json!({ "metadata": metadata });
        object["metadata"]["name"] = "plex".into();
        object["metadata"]["namespace"] = "media".into();
        determine_ownership(&subject, &object, &known)
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
            vec![(
                plex(),
                owner_with_inventory(&["media_other_volsync.backube_ReplicationSource"]),
            )],
        );
        assert_eq!((abandoned.ownership, abandoned.owner.is_some()), (Ownership::Abandoned, true));
        let gone = owner_info(labels(), vec![(plex(), None)]);
        assert_eq!((gone.ownership, gone.owner), (Ownership::Abandoned, None));
    }

    #[test]
    fn an_owner_whose_kind_is_not_served_may_be_in_another_cluster() {
        let found = ownership_of(labels(), BTreeMap::from([(plex(), Named::NotServed)]));
        assert_eq!((found.ownership, found.owner), (Ownership::Foreign, None));
        assert!(found.evidence.contains("hub and spoke"), "{}", found.evidence);
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
            let mut owner =
                owner_with_inventory(&["media_other_volsync.backube_ReplicationSource"]);
            let owner_status = &mut owner.as_mut().unwrap()["status"];
            owner_status["lastAppliedRevision"] = applied.into();
            owner_status["lastAttemptedRevision"] = "main@sha1:b".into();
            owner_status["conditions"] =
                json!([{"type": "Ready", "status": status, "reason": reason}]);
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
        assert_eq!(
            owner_info(labels, vec![(named, Some(json!({})))]).ownership,
            Ownership::Managed
        );
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
}
