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
    let parent = match flux::labelled_owner(&object) {
        Some(parent) => Some(read_parent(session, &parent).await?),
        None => None,
    };
    Ok(flux_object(&call.target, &object, parent.as_ref()))
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
    let found: Vec<Named> = found.into_iter().collect::<Result<_, _>>()?;
    let parents = parents(session, &found).await?;
    let owners = Owners { named: named.into_iter().zip(found).collect(), parents };
    Ok(call
        .subjects
        .iter()
        .zip(&objects)
        .map(|(subject, object)| determine_ownership(subject, object, &owners))
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
    /// `query-flux` is not granted in its namespace.
    NotGranted,
    Missing,
    Found(Value),
}

/// The owners that labels name, and their parents.
struct Owners {
    named: BTreeMap<FluxRef, Named>,
    parents: BTreeMap<FluxRef, Parent>,
}

/// Reads an owner.
async fn owner_of(session: &Session, owner: &FluxRef) -> Result<Named, Error> {
    let Some(resource) =
        discovery::find_resource(session, owner.kind.group(), owner.kind.plural()).await?
    else {
        return Ok(Named::NotServed);
    };
    if !may_get(session, &resource, owner) {
        return Ok(Named::NotGranted);
    }
    Ok(match session.find(&resource, Some(&owner.namespace), &owner.name).await? {
        Some(object) => Named::Found(object),
        None => Named::Missing,
    })
}

/// The Flux object that applies another one.
enum Parent {
    /// It applies nothing: it is suspended or does not exist.
    Inactive,
    /// It may not be read.
    Unreadable,
    Active(Value),
}

/// Reads the parents of owners, each once.
async fn parents(session: &Session, owners: &[Named]) -> Result<BTreeMap<FluxRef, Parent>, Error> {
    let mut named: Vec<FluxRef> = owners
        .iter()
        .filter_map(|found| match found {
            Named::Found(object) => flux::labelled_owner(object),
            Named::NotServed | Named::NotGranted | Named::Missing => None,
        })
        .collect();
    named.sort();
    named.dedup();
    let read = concurrently(
        named.iter().map(|parent| read_parent(session, parent)).collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    named.into_iter().zip(read).map(|(target, parent)| Ok((target, parent?))).collect()
}

/// Converts a Flux object to the type that guests get.
fn flux_object(target: &FluxRef, object: &Value, parent: Option<&Parent>) -> FluxObject {
    let (is_inactive, waits) = match parent {
        Some(Parent::Inactive) => (true, false),
        Some(Parent::Active(parent)) => (false, flux::checks_health_of(parent, target)),
        Some(Parent::Unreadable) | None => (false, false),
    };
    let parsed = flux::parse(target, object, is_inactive);
    FluxObject { parent_waits: parsed.parent.is_some() && waits, ..parsed }
}

/// Returns true if a Flux object applies nothing, because it is suspended or does not exist. False
/// if it may not be read.
pub(crate) async fn is_suspended(session: &Session, target: &FluxRef) -> Result<bool, Error> {
    Ok(matches!(read_parent(session, target).await?, Parent::Inactive))
}

/// Reads the Flux object that applies another one.
async fn read_parent(session: &Session, target: &FluxRef) -> Result<Parent, Error> {
    let Some(resource) =
        discovery::find_resource(session, target.kind.group(), target.kind.plural()).await?
    else {
        return Ok(Parent::Inactive);
    };
    if !may_get(session, &resource, target) {
        return Ok(Parent::Unreadable);
    }
    match session.find(&resource, Some(&target.namespace), &target.name).await {
        Ok(Some(parent)) if PreviousSuspend::of(&parent) != PreviousSuspend::True => {
            Ok(Parent::Active(parent))
        }
        Ok(Some(_) | None) => Ok(Parent::Inactive),
        Err(failure) if failure.code() == Some(403) => Ok(Parent::Unreadable),
        Err(failure) => Err(failure.into()),
    }
}

/// Returns whether the effect may read a Flux object: its namespace is one of those granted.
fn may_get(session: &Session, resource: &Resource, target: &FluxRef) -> bool {
    let asked = Asked {
        verb: Verb::Get,
        group: &resource.group,
        resource: &resource.plural,
        subresource: None,
        namespace: Some(&target.namespace),
        name: Some(&target.name),
    };
    session.footprint().covers(&asked).is_ok()
}

/// Determines the ownership of an object, with the evidence.
fn determine_ownership(subject: &Subject, object: &Value, owners: &Owners) -> OwnerInfo {
    let (ownership, owner, evidence) = match flux::labelled_owner(object) {
        Some(named) => labelled_ownership(subject, object, &named, owners),
        None => match other_controller(object).or_else(|| helm_release(object)) {
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

/// Determines the ownership of an object whose labels name an owner. Labels that outlived their
/// owner do not hide another one.
fn labelled_ownership(
    subject: &Subject,
    object: &Value,
    named: &FluxRef,
    owners: &Owners,
) -> (Ownership, Option<FluxObject>, String) {
    let (ownership, owner, evidence) = match owners.named.get(named) {
        // mutant owner-in-another-cluster-abandoned: Foreign ~> Abandoned
        Some(Named::NotServed) => (
            Ownership::Foreign,
            None,
            format!(
                "its labels name {named}, but this cluster has no {}s: Flux in another cluster may \
                 apply it (hub and spoke)",
                named.kind.kind()
            ),
        ),
        Some(Named::NotGranted) => (
            Ownership::Foreign,
            None,
            format!(
                "its labels name {named}, in a namespace in which query-flux is not granted, so \
                 that it could not be checked"
            ),
        ),
        // A hub's Kustomization with `spec.kubeConfig` leaves the same labels as one that was
        // deleted while suspended.
        // mutant missing-owner-abandoned: UnknownOwner ~> Abandoned
        Some(Named::Missing) | None => (
            Ownership::UnknownOwner,
            None,
            format!(
                "its labels name {named}, which is not in this cluster: it was deleted, or Flux in \
                 another cluster applies it (hub and spoke)"
            ),
        ),
        Some(Named::Found(owner)) => {
            let (ownership, evidence) = inventory_ownership(subject, object, named, owner);
            let parent = flux::labelled_owner(owner).and_then(|key| owners.parents.get(&key));
            (ownership, Some(flux_object(named, owner, parent)), evidence)
        }
    };
    let other = match ownership {
        Ownership::Abandoned | Ownership::UnknownOwner => other_controller(object),
        Ownership::Managed | Ownership::Foreign | Ownership::Unmanaged => None,
    };
    match other {
        Some(evidence) => (Ownership::Foreign, None, evidence),
        None => (ownership, owner, evidence),
    }
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

/// Describes the controller other than Flux that applies the object, if there is one.
fn other_controller(object: &Value) -> Option<String> {
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
    [
        ("ResourceSet", "resourceset.fluxcd.controlplane.io/name"),
        ("FluxInstance", "fluxcd.controlplane.io/name"),
    ]
    .into_iter()
    .find_map(|(kind, key)| {
        label(object, key).map(|name| format!("applied by {kind} {}", truncated(name, 120)))
    })
}

/// Describes the Helm release or the Argo CD Application that an object belongs to, if there is
/// one. Charts also set these labels on objects that Flux applies.
fn helm_release(object: &Value) -> Option<String> {
    if let Some(release) = annotation(object, "meta.helm.sh/release-name") {
        return Some(format!("created by Helm release {}", truncated(release, 120)));
    }
    if label(object, "app.kubernetes.io/managed-by") == Some("Helm") {
        return Some("created by Helm, according to its label".into());
    }
    // The default of Argo CD before 3.0.
    let key = "app.kubernetes.io/instance";
    label(object, key).map(|name| {
        format!("labeled as part of {}, maybe by Argo CD ({key})", truncated(name, 120))
    })
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
#[path = "query_flux_tests.rs"]
mod tests;
