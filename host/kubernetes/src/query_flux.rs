//! `query-flux`: who owns an object, who suspended what, and whether a suspend would last.

use crate::discovery::{self, VOLSYNC};
use crate::flux;
use crate::object::{annotation, label, list, slashed};
use crate::resource::{CLAIMS, DEPLOYMENTS, Resource};
use crate::send::{Session, concurrently};
use salve_core::effect::query_flux::{
    FindOwners, FluxObject, Get, OwnerInfo, Ownership, Subject, SubjectKind,
};
use salve_core::effect::shared::{FluxKind, FluxRef};
use salve_core::effect::suspend_flux::PreviousSuspend;
use salve_core::footprint::{Asked, Verb};
use salve_core::outcome::Error;
use serde_json::Value;
use std::collections::BTreeMap;

/// How many requests are under way at once.
const AT_ONCE: usize = 16;

/// One Flux object.
pub(crate) async fn get(session: &Session, ask: &Get) -> Result<FluxObject, Error> {
    let object = flux::get(session, &ask.target).await?;
    told(session, &ask.target, &object).await
}

/// Who owns these objects, one answer for each in the same order.
///
/// # Errors
/// `not-found` names the first object that is not there.
pub(crate) async fn owners(session: &Session, ask: &FindOwners) -> Result<Vec<OwnerInfo>, Error> {
    let sources = if ask.subjects.iter().any(|s| s.kind == SubjectKind::ReplicationSource) {
        Some(discovery::served(session, VOLSYNC, "replicationsources").await?)
    } else {
        None
    };
    let fetched = concurrently(
        ask.subjects.iter().map(|subject| fetch(session, subject, sources.as_ref())).collect(),
        AT_ONCE,
    )
    .await;
    let objects: Vec<Value> = fetched.into_iter().collect::<Result<_, _>>()?;
    let mut named: Vec<FluxRef> = objects.iter().filter_map(flux::labelled_owner).collect();
    named.sort();
    named.dedup();
    let found =
        concurrently(named.iter().map(|owner| owner_of(session, owner)).collect(), AT_ONCE).await;
    let mut known = BTreeMap::new();
    for (owner, found) in named.into_iter().zip(found) {
        known.insert(owner, found?);
    }
    Ok(ask
        .subjects
        .iter()
        .zip(&objects)
        .map(|(subject, object)| judge(subject, object, &known))
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
            return Err(Error::NotFound("the cluster has no VolSync".into()));
        }
        (SubjectKind::PersistentVolumeClaim, _) => &CLAIMS,
        (SubjectKind::Deployment, _) => &DEPLOYMENTS,
    };
    Ok(session.get(resource, Some(&subject.object.namespace), &subject.object.name).await?)
}

/// An owner, where it exists, with the JSON that its inventory stands in. Where its very kind is gone, so is it.
async fn owner_of(
    session: &Session,
    owner: &FluxRef,
) -> Result<Option<(FluxObject, Value)>, Error> {
    let Some(resource) =
        discovery::look_up(session, owner.kind.group(), owner.kind.plural()).await?
    else {
        return Ok(None);
    };
    let Some(object) = session.find(&resource, Some(&owner.namespace), &owner.name).await? else {
        return Ok(None);
    };
    Ok(Some((told(session, owner, &object).await?, object)))
}

async fn told(session: &Session, target: &FluxRef, object: &Value) -> Result<FluxObject, Error> {
    let parent = flux::labelled_owner(object)
        .filter(|parent| parent != target && flux::suspend_applied_by(object).is_some());
    let parent_suspended = match parent {
        Some(parent) => is_suspended(session, &parent).await?,
        None => false,
    };
    Ok(flux::read(target, object, parent_suspended))
}

/// Whether a Flux object applies nothing: it is suspended, or gone. Where we may not look it does, as far as we know.
pub(crate) async fn is_suspended(session: &Session, target: &FluxRef) -> Result<bool, Error> {
    let Some(resource) =
        discovery::look_up(session, target.kind.group(), target.kind.plural()).await?
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
        Ok(found) => Ok(found.is_none_or(|object| flux::suspend(&object) == PreviousSuspend::True)),
        Err(failure) if failure.code() == Some(403) => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

/// The group and the kind of a subject, as inventories spell them.
fn spelt(kind: SubjectKind) -> (&'static str, &'static str) {
    match kind {
        SubjectKind::ReplicationSource => (VOLSYNC, "ReplicationSource"),
        SubjectKind::PersistentVolumeClaim => ("", "PersistentVolumeClaim"),
        SubjectKind::Deployment => ("apps", "Deployment"),
    }
}

/// The verdict, and what it rests on.
fn judge(
    subject: &Subject,
    object: &Value,
    known: &BTreeMap<FluxRef, Option<(FluxObject, Value)>>,
) -> OwnerInfo {
    let (ownership, owner, evidence) = match flux::labelled_owner(object) {
        Some(named) => match known.get(&named).and_then(Option::as_ref) {
            // mutant stale-labels-count-as-managed: Abandoned ~> Managed
            None => (
                Ownership::Abandoned,
                None,
                format!("its labels name {named}, which does not exist"),
            ),
            Some((told, owner)) => {
                let (group, kind) = spelt(subject.kind);
                let ownership =
                    match (flux::inventory_holds(owner, object, group, kind), named.kind) {
                        (Some(true), _) => {
                            (Ownership::Managed, format!("{named} names it in its inventory"))
                        }
                        (Some(false), _) => (
                            Ownership::Abandoned,
                            format!("its labels name {named}, whose inventory does not hold it"),
                        ),
                        // Flux before 2.8 keeps no inventory of releases, and a new owner none yet: the label is all there is.
                        (None, FluxKind::HelmRelease) => (
                            Ownership::Managed,
                            format!("its labels name {named}, which exists and keeps no inventory"),
                        ),
                        (None, _) => (
                            Ownership::Managed,
                            format!(
                                "its labels name {named}, which exists and has no inventory yet"
                            ),
                        ),
                    };
                (ownership.0, Some(told.clone()), ownership.1)
            }
        },
        None => match foreign(object) {
            Some(evidence) => (Ownership::Foreign, None, evidence),
            None => (
                Ownership::Unmanaged,
                None,
                "no label, annotation or owner reference names anybody".into(),
            ),
        },
    };
    OwnerInfo { subject: subject.clone(), ownership, owner, evidence }
}

/// Another tool that owns it.
fn foreign(object: &Value) -> Option<String> {
    if let Some(owner) = list(object, "/metadata/ownerReferences").first().and_then(slashed) {
        return Some(format!("{owner} is its owner"));
    }
    for (key, tool) in
        [("argocd.argoproj.io/tracking-id", "Argo CD"), ("argocd.argoproj.io/instance", "Argo CD")]
    {
        if let Some(value) = annotation(object, key).or_else(|| label(object, key)) {
            return Some(format!(
                "{tool} tracks it ({key}: {})",
                crate::object::capped(value, 120)
            ));
        }
    }
    if let Some(set) = label(object, "resourceset.fluxcd.controlplane.io/name") {
        return Some(format!("ResourceSet {} made it", crate::object::capped(set, 120)));
    }
    if let Some(release) = annotation(object, "meta.helm.sh/release-name") {
        return Some(format!("Helm release {} made it", crate::object::capped(release, 120)));
    }
    (label(object, "app.kubernetes.io/managed-by") == Some("Helm"))
        .then(|| "Helm made it, as its label says".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::effect::shared::ObjectRef;
    use serde_json::json;

    fn verdict(metadata: Value, owners: Vec<(FluxRef, Option<Value>)>) -> OwnerInfo {
        let subject = Subject {
            kind: SubjectKind::ReplicationSource,
            object: ObjectRef::new("media", "plex"),
        };
        let known = owners
            .into_iter()
            .map(|(named, found)| {
                (named.clone(), found.map(|object| (flux::read(&named, &object, false), object)))
            })
            .collect();
        let mut object = json!({ "metadata": metadata });
        object["metadata"]["name"] = "plex".into();
        object["metadata"]["namespace"] = "media".into();
        judge(&subject, &object, &known)
    }

    fn labels() -> Value {
        json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "plex", "kustomize.toolkit.fluxcd.io/namespace": "media"}})
    }

    fn plex() -> FluxRef {
        FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() }
    }

    fn holding(ids: &[&str]) -> Option<Value> {
        Some(
            json!({"metadata": {"uid": "u"}, "status": {"inventory": {"entries": ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>()}}}),
        )
    }

    #[test]
    fn a_label_counts_only_with_the_inventory() {
        let managed = verdict(
            labels(),
            vec![(plex(), holding(&["media_plex_volsync.backube_ReplicationSource"]))],
        );
        assert_eq!(
            (managed.ownership, managed.owner.map(|o| o.uid)),
            (Ownership::Managed, Some("u".into()))
        );
        let left = verdict(
            labels(),
            vec![(plex(), holding(&["media_other_volsync.backube_ReplicationSource"]))],
        );
        assert_eq!((left.ownership, left.owner.is_some()), (Ownership::Abandoned, true));
        let gone = verdict(labels(), vec![(plex(), None)]);
        assert_eq!((gone.ownership, gone.owner), (Ownership::Abandoned, None));
    }

    #[test]
    fn a_release_without_inventory_still_owns_it() {
        let named =
            FluxRef { kind: FluxKind::HelmRelease, namespace: "media".into(), name: "plex".into() };
        let labels = json!({"labels": {"helm.toolkit.fluxcd.io/name": "plex", "helm.toolkit.fluxcd.io/namespace": "media"}});
        assert_eq!(verdict(labels, vec![(named, Some(json!({})))]).ownership, Ownership::Managed);
    }

    #[test]
    fn other_tools_are_named_and_nobody_is_nobody() {
        for (metadata, word) in [
            (json!({"ownerReferences": [{"kind": "App", "name": "plex"}]}), "App/plex"),
            (json!({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}), "Argo CD"),
            (json!({"labels": {"argocd.argoproj.io/instance": "x"}}), "Argo CD"),
            (
                json!({"labels": {"resourceset.fluxcd.controlplane.io/name": "apps"}}),
                "ResourceSet apps",
            ),
            (
                json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": {"meta.helm.sh/release-name": "plex"}}),
                "Helm release plex",
            ),
        ] {
            let ownership = verdict(metadata, vec![]);
            assert!(
                ownership.ownership == Ownership::Foreign && ownership.evidence.contains(word),
                "{ownership:?}"
            );
        }
        assert_eq!(verdict(json!({}), vec![]).ownership, Ownership::Unmanaged);
    }
}
