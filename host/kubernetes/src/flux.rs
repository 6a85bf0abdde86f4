//! What a Flux object says: who suspended it, who applies it, whether it is at work, whether it is ready.
//! Pure readings of JSON, shared by the capabilities that concern Flux.

use crate::discovery;
use crate::object::{
    annotation, capped, condition, holds, instant, is_terminating, label, list, name, namespace,
    number, owned, raw_condition, text, uid,
};
use crate::resource::Resource;
use crate::send::{MANAGER, Session};
use crate::time::go_duration;
use salve_core::effect::query_flux::{FluxObject, SuspendedBy};
use salve_core::effect::shared::{FluxKind, FluxRef};
use salve_core::effect::suspend_flux::{PreviousSuspend, RUN};
use salve_core::outcome::Error;
use serde_json::{Value, json};

const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
const HELM: &str = "helm.toolkit.fluxcd.io";

/// What a write of ours has to know of an object. Its values and substitutions stay out of the run file: passwords stand in them.
pub(crate) fn outline(object: &Value) -> Value {
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let ours = annotations.into_iter().flatten().filter(|(key, _)| {
        key.starts_with("salve.dev/") || key.starts_with("reconcile.fluxcd.io/")
    });
    let annotations: serde_json::Map<_, _> =
        ours.map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut spec = serde_json::Map::new();
    // mutant flux-values-saved: "interval" ~> "interval", "values", "postBuild"
    for field in ["suspend", "interval"] {
        if let Some(value) = object.pointer(&format!("/spec/{field}")) {
            spec.insert(field.into(), value.clone());
        }
    }
    json!({
        "apiVersion": object.get("apiVersion"), "kind": object.get("kind"),
        "metadata": {
            "name": name(object), "namespace": namespace(object), "uid": uid(object), "resourceVersion": object.pointer("/metadata/resourceVersion"),
            "generation": number(object, "/metadata/generation"), "creationTimestamp": object.pointer("/metadata/creationTimestamp"),
            // Grants may select by them.
            // mutant flux-labels-invisible: object.pointer("/metadata/labels") ~> null
            "labels": object.pointer("/metadata/labels"),
            "annotations": annotations,
        },
        "spec": spec,
    })
}

/// The kind as it is served.
pub(crate) async fn served(session: &Session, kind: FluxKind) -> Result<Resource, Error> {
    discovery::served(session, kind.group(), kind.plural()).await
}

/// One Flux object, or none.
pub(crate) async fn find(session: &Session, target: &FluxRef) -> Result<Option<Value>, Error> {
    let resource = served(session, target.kind).await?;
    Ok(session.find(&resource, Some(&target.namespace), &target.name).await?)
}

/// One Flux object.
pub(crate) async fn get(session: &Session, target: &FluxRef) -> Result<Value, Error> {
    find(session, target).await?.ok_or_else(|| Error::NotFound(format!("there is no {target}")))
}

/// `spec.suspend`: three states.
pub(crate) fn suspend(object: &Value) -> PreviousSuspend {
    match object.pointer("/spec/suspend").and_then(Value::as_bool) {
        None => PreviousSuspend::Absent,
        Some(false) => PreviousSuspend::False,
        Some(true) => PreviousSuspend::True,
    }
}

/// The managedFields entries that own `spec.suspend`, newest last.
fn suspend_owners(object: &Value) -> Vec<&Value> {
    let mut owners: Vec<&Value> = list(object, "/metadata/managedFields")
        .iter()
        .filter(|entry| entry.pointer("/fieldsV1/f:spec/f:suspend").is_some())
        .collect();
    owners.sort_by_key(|entry| instant(entry, "/time"));
    owners
}

/// Who suspended it; none where it is not suspended.
pub(crate) fn suspended_by(object: &Value) -> Option<SuspendedBy> {
    if suspend(object) != PreviousSuspend::True {
        return None;
    }
    let owner = suspend_owners(object).last().copied();
    Some(SuspendedBy {
        manager: owner.and_then(|entry| owned(entry, "/manager")),
        since: owner.and_then(|entry| instant(entry, "/time")),
        run: annotation(object, RUN).map(str::to_owned),
    })
}

/// A manager other than us that alone owns `spec.suspend`: they have set it since.
pub(crate) fn suspended_by_another(object: &Value) -> Option<String> {
    let owners = suspend_owners(object);
    if owners.iter().any(|entry| text(entry, "/manager") == Some(MANAGER)) {
        return None;
    }
    owners.last().and_then(|entry| owned(entry, "/manager"))
}

/// The Flux object that its labels name as its owner. They can lie: inventories tell.
pub(crate) fn labelled_owner(object: &Value) -> Option<FluxRef> {
    [(KUSTOMIZE, FluxKind::Kustomization), (HELM, FluxKind::HelmRelease)].into_iter().find_map(
        |(group, kind)| {
            let name = label(object, &format!("{group}/name"))?;
            let namespace = label(object, &format!("{group}/namespace"))?;
            let owner = FluxRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
            // Labels are anybody's text; a path is made of these.
            owner.check().is_ok().then_some(owner)
        },
    )
}

/// Who server-side applies `spec.suspend`: a parent that states it in Git, and would put it back.
pub(crate) fn suspend_applied_by(object: &Value) -> Option<&str> {
    let disabled = format!("{KUSTOMIZE}/reconcile");
    let opted_out = [label(object, &disabled), annotation(object, &disabled)]
        .into_iter()
        .flatten()
        .any(|value| value.eq_ignore_ascii_case("disabled"));
    if opted_out {
        return None;
    }
    suspend_owners(object)
        .into_iter()
        .find(|entry| text(entry, "/operation") == Some("Apply"))
        .and_then(|entry| text(entry, "/manager"))
}

/// A reconciliation is going on. After a failure `ProgressingWithRetry` stands there, which is idle.
pub(crate) fn is_busy(object: &Value) -> bool {
    holds(object, "Reconciling", Some("Progressing"))
}

/// How far its controller is with what was asked last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It is done.
    Ready,
    /// It is at it, or will try again.
    Progressing(String),
    /// It gave up.
    Failed(String),
}

/// Readiness as the flux command judges it.
pub(crate) fn readiness(object: &Value) -> Readiness {
    let observed = number(object, "/status/observedGeneration").unwrap_or(0);
    let generation = number(object, "/metadata/generation").unwrap_or(0);
    let message = || {
        raw_condition(object, "Ready")
            .and_then(|one| text(one, "/message"))
            .map_or_else(String::new, |m| capped(m, 2000))
    };
    let Some(ready) = raw_condition(object, "Ready") else {
        return Readiness::Progressing("its controller has not looked at it yet".into());
    };
    let seen = number(ready, "/observedGeneration").filter(|seen| *seen != 0).unwrap_or(observed);
    if is_terminating(object) {
        return Readiness::Failed("it is being deleted".into());
    }
    if holds(object, "Stalled", None) {
        return Readiness::Failed(message());
    }
    if observed == 0 || seen != generation || observed != generation {
        return Readiness::Progressing("its controller has not seen the newest state yet".into());
    }
    if holds(object, "Reconciling", None) || text(ready, "/status") != Some("True") {
        return Readiness::Progressing(message());
    }
    Readiness::Ready
}

/// The object as the contract tells it. `parent_suspended` says that its parent applies nothing at the moment.
pub(crate) fn read(target: &FluxRef, object: &Value, parent_suspended: bool) -> FluxObject {
    let parent = labelled_owner(object).filter(|parent| parent != target);
    let parent_reverts =
        parent.is_some() && !parent_suspended && suspend_applied_by(object).is_some();
    FluxObject {
        target: target.clone(),
        uid: uid(object).to_owned(),
        generation: number(object, "/metadata/generation").unwrap_or_default(),
        suspended: suspended_by(object),
        ready: condition(object, "Ready"),
        reconciling: is_busy(object),
        source: source(target, object),
        interval_seconds: text(object, "/spec/interval")
            .and_then(go_duration)
            .map_or(0, |interval| interval.as_secs()),
        parent,
        parent_reverts,
        corrects_drift: match target.kind {
            FluxKind::Kustomization => true,
            FluxKind::HelmRelease => text(object, "/spec/driftDetection/mode") == Some("enabled"),
            FluxKind::GitRepository | FluxKind::OciRepository | FluxKind::Bucket => false,
        },
    }
}

/// Where the manifests come from, if from a kind that can be suspended.
fn source(target: &FluxRef, object: &Value) -> Option<FluxRef> {
    let reference = match target.kind {
        FluxKind::Kustomization => object.pointer("/spec/sourceRef"),
        FluxKind::HelmRelease => object
            .pointer("/spec/chartRef")
            .or_else(|| object.pointer("/spec/chart/spec/sourceRef")),
        FluxKind::GitRepository | FluxKind::OciRepository | FluxKind::Bucket => None,
    }?;
    let kind =
        FluxKind::ALL.into_iter().find(|kind| text(reference, "/kind") == Some(kind.kind()))?;
    let namespace = text(reference, "/namespace").unwrap_or(&target.namespace).to_owned();
    Some(FluxRef { kind, namespace, name: owned(reference, "/name")? })
}

/// Whether an inventory names an object; none where there is no inventory.
pub(crate) fn inventory_holds(
    owner: &Value,
    subject: &Value,
    group: &str,
    kind: &str,
) -> Option<bool> {
    let entries = owner.pointer("/status/inventory/entries")?.as_array()?;
    let id = format!("{}_{}_{group}_{kind}", namespace(subject), name(subject));
    Some(entries.iter().any(|entry| text(entry, "/id") == Some(&id)))
}

#[cfg(test)]
#[path = "flux_tests.rs"]
mod tests;
