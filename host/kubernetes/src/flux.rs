//! Reads Flux objects: who suspended them, who applies them, and whether they are reconciling or
//! ready. Pure functions on JSON, shared by the capabilities for Flux.

use crate::discovery;
use crate::object::{
    annotation, condition, instant, is_condition_true, is_terminating, is_true, label, list, name,
    namespace, number, owned, raw_condition, text, truncated, uid,
};
use crate::resource::Resource;
use crate::send::Session;
use crate::temporary_change::field_owners;
use crate::time::go_duration;
use salve_core::Millis;
use salve_core::capability::query_flux::{FluxObject, SuspendedBy};
use salve_core::capability::run_annotations::RUN;
use salve_core::capability::suspend_flux::PreviousSuspend;
use salve_core::capability::types::{FluxKind, FluxRef, ObjectRef};
use salve_core::outcome::Error;
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// Returns the fields that a write needs to know about an object. Values and substitutions are left
/// out, because they can contain passwords and the result is saved in the run file.
pub(crate) fn saved_fields(object: &Value) -> Value {
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
            "name": name(object), "namespace": namespace(object), "uid": uid(object),
            "resourceVersion": object.pointer("/metadata/resourceVersion"),
            "generation": number(object, "/metadata/generation"),
            "creationTimestamp": object.pointer("/metadata/creationTimestamp"),
            // Grants can select by labels.
            // mutant flux-labels-invisible: object.pointer("/metadata/labels") ~> null
            "labels": object.pointer("/metadata/labels"),
            "annotations": annotations,
        },
        "spec": spec,
    })
}

/// Returns a kind with its served version.
pub(crate) async fn resource(session: &Session, kind: FluxKind) -> Result<Resource, Error> {
    discovery::require_resource(session, kind.group(), kind.plural()).await
}

/// Reads one Flux object, or None if it does not exist.
pub(crate) async fn find(session: &Session, target: &FluxRef) -> Result<Option<Value>, Error> {
    let resource = resource(session, target.kind).await?;
    Ok(session.find(&resource, Some(&target.namespace), &target.name).await?)
}

/// Reads one Flux object.
pub(crate) async fn get(session: &Session, target: &FluxRef) -> Result<Value, Error> {
    find(session, target).await?.ok_or_else(|| Error::NotFound(format!("{target} does not exist")))
}

/// The field that suspends an object.
pub(crate) const SUSPEND: [&str; 2] = ["spec", "suspend"];

/// Returns who suspended an object, or None if it is not suspended.
pub(crate) fn suspended_by(object: &Value) -> Option<SuspendedBy> {
    if PreviousSuspend::of(object) != PreviousSuspend::True {
        return None;
    }
    let owner = field_owners(object, &SUSPEND).last().copied();
    Some(SuspendedBy {
        manager: owner.and_then(|entry| owned(entry, "/manager")),
        since: owner.and_then(|entry| instant(entry, "/time")),
        run: annotation(object, RUN).map(str::to_owned),
    })
}

/// Returns the run or the field manager that suspended an object, or None if it is not suspended.
pub(crate) fn who_suspended(object: &Value) -> Option<String> {
    let by = suspended_by(object)?;
    let run = by.run.map(|run| format!("run {run}"));
    Some(run.or(by.manager).unwrap_or_else(|| "an unknown manager".into()))
}

/// Returns the Flux object named as owner by an object's labels. Labels can be stale; only the
/// owner's inventory is authoritative.
pub(crate) fn labelled_owner(object: &Value) -> Option<FluxRef> {
    [FluxKind::Kustomization, FluxKind::HelmRelease].into_iter().find_map(|kind| {
        let group = kind.group();
        let name = label(object, &format!("{group}/name"))?;
        let namespace = label(object, &format!("{group}/namespace"))?;
        let owner = FluxRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        // Labels are untrusted, and these become part of a request path.
        owner.validate().is_ok().then_some(owner)
    })
}

/// Returns the field manager that applies `spec.suspend` server-side: a parent that has the field
/// in Git and would revert a change of it.
pub(crate) fn suspend_applied_by(object: &Value) -> Option<&str> {
    let disabled = format!("{}/reconcile", FluxKind::Kustomization.group());
    let opted_out = [label(object, &disabled), annotation(object, &disabled)]
        .into_iter()
        .flatten()
        .any(|value| value.eq_ignore_ascii_case("disabled"));
    if opted_out {
        return None;
    }
    field_owners(object, &SUSPEND)
        .into_iter()
        .find(|entry| text(entry, "/operation") == Some("Apply"))
        .and_then(|entry| text(entry, "/manager"))
}

/// An object of flux-operator that applies Flux objects. It has no `spec.suspend`, so it cannot be
/// suspended first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperatorParent {
    kind: &'static str,
    object: ObjectRef,
}

impl fmt::Display for OperatorParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.object)
    }
}

impl OperatorParent {
    /// Returns the command that pauses it.
    pub(crate) fn pause_command(&self) -> String {
        format!(
            "kubectl annotate {} {} -n {} fluxcd.controlplane.io/reconcile=disabled",
            self.kind.to_lowercase(),
            self.object.name,
            self.object.namespace
        )
    }
}

/// Returns the object of flux-operator that applies `spec.suspend` and would revert a change of it.
pub(crate) fn reverting_operator_parent(object: &Value) -> Option<OperatorParent> {
    // mutant resource-set-ignored: "flux-operator" ~> "kustomize-controller"
    let applies_suspend = field_owners(object, &SUSPEND).into_iter().any(|entry| {
        text(entry, "/operation") == Some("Apply")
            && text(entry, "/manager") == Some("flux-operator")
    });
    if !applies_suspend {
        return None;
    }
    [
        ("ResourceSet", "resourceset.fluxcd.controlplane.io"),
        ("FluxInstance", "fluxcd.controlplane.io"),
    ]
    .into_iter()
    .find_map(|(kind, group)| {
        let name = label(object, &format!("{group}/name"))?;
        let namespace = label(object, &format!("{group}/namespace"))?;
        let object = ObjectRef::new(namespace, name);
        // Labels are untrusted, and these become part of a command.
        object.validate().is_ok().then_some(OperatorParent { kind, object })
    })
}

/// Returns the condition by which a controller reports a reconciliation in progress. The reason
/// `ProgressingWithRetry`, set after a failure, means idle.
fn progress(object: &Value) -> Option<&Value> {
    let (reported, status) = match raw_condition(object, "Reconciling") {
        Some(reconciling) => (Some(reconciling), "True"),
        // kustomize-controller before 0.30 and helm-controller before 0.37 only report `Ready`.
        // mutant old-flux-looks-idle: raw_condition(object, "Ready") ~> None
        None => (raw_condition(object, "Ready"), "Unknown"),
    };
    reported.filter(|condition| {
        text(condition, "/status") == Some(status)
            && text(condition, "/reason") == Some("Progressing")
    })
}

/// Returns true while a reconciliation is in progress.
pub(crate) fn is_reconciling(object: &Value) -> bool {
    progress(object).is_some()
}

/// What the controller of a suspended object may still do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It applies nothing more.
    Idle,
    /// A HelmRelease that waits for its prerequisites, or is about to be upgraded: its status is
    /// the same. A running controller either observes the suspension soon or starts the upgrade.
    Preparing,
    /// It may still apply something. Contains what it reports.
    Applying(String),
}

/// How long a reconciliation may report the same progress, except in health checks and Helm
/// actions, which have timeouts of their own. Fetching, building, and applying wait for at most
/// 1 min at a time (`WaitTimeout` of fluxcd/pkg ssa).
const LONGEST_PHASE: Duration = Duration::from_secs(600);

/// Determines what the controller of a suspended object may still do. The caller has checked that
/// it is suspended.
///
/// A controller that died leaves its conditions as they were, and its successor does not change
/// them on a suspended Kustomization. Progress that is older than any reconciliation can take was
/// therefore interrupted.
pub(crate) fn activity(kind: FluxKind, object: &Value, now: Millis) -> Activity {
    let Some(progress) = progress(object) else { return Activity::Idle };
    let message = text(progress, "/message").unwrap_or_default();
    let is_idle = match kind {
        // kustomize-controller checks the health last, after it applied and pruned. Before 0.30, it
        // also reported a missing artifact as progress, and returned.
        FluxKind::Kustomization => {
            is_checking_health(object) || begins(message, "source is not ready")
        }
        // These controllers process an object in one reconciliation at a time, and the one that
        // finds it suspended sets `observedGeneration`. kustomize-controller only does if it is
        // ready.
        FluxKind::HelmRelease
        | FluxKind::GitRepository
        | FluxKind::OciRepository
        | FluxKind::Bucket => is_observed(object),
    };
    if is_idle {
        return Activity::Idle;
    }
    // helm-controller 0.37 and later: set at the start of each reconciliation, and left in place if
    // a dependency, the source, or the values are not ready. Its time is that of the first one.
    if kind == FluxKind::HelmRelease && begins(message, "fulfilling prerequisites") {
        return Activity::Preparing;
    }
    // mutant interrupted-blocks-suspend: at <= now ~> at > Millis::MAX
    if interrupted_at(kind, object).is_some_and(|at| at <= now) {
        return Activity::Idle;
    }
    Activity::Applying(truncated(message, 300))
}

/// Returns true while kustomize-controller checks the health of what it has applied.
fn is_checking_health(object: &Value) -> bool {
    let message = progress(object).and_then(|progress| text(progress, "/message"));
    // mutant health-checks-block-suspend: "running health checks" ~> "checking health"
    message.is_some_and(|message| begins(message, "running health checks"))
}

/// Returns true if a text begins with `prefix`, in any case: versions of Flux differ.
fn begins(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Returns true if the controller has observed the latest generation.
fn is_observed(object: &Value) -> bool {
    let generation = number(object, "/metadata/generation");
    generation.is_some() && number(object, "/status/observedGeneration") == generation
}

/// Returns when a reconciliation in progress has lasted for longer than any can. From then on, it
/// counts as interrupted: the controller that reported it no longer exists. None if its start is
/// unknown.
pub(crate) fn interrupted_at(kind: FluxKind, object: &Value) -> Option<Millis> {
    let timeout = |pointer: &str| text(object, pointer).and_then(go_duration);
    let longest = match kind {
        // `spec.timeout` only limits the health checks.
        FluxKind::Kustomization => None,
        FluxKind::HelmRelease => {
            let actions = ["install", "upgrade", "test", "rollback", "uninstall"]
                .into_iter()
                .filter_map(|action| timeout(&format!("/spec/{action}/timeout")));
            let default = timeout("/spec/timeout").unwrap_or(Duration::from_secs(300));
            // Up to three actions: an upgrade, its test, and a rollback. HelmRelease v2beta1
            // reports them as one.
            actions.chain([default]).max().map(|longest| longest.saturating_mul(3))
        }
        FluxKind::GitRepository | FluxKind::OciRepository | FluxKind::Bucket => {
            timeout("/spec/timeout")
        }
    };
    // Flux sets the time whenever the message changes, not only the status.
    let since = instant(progress(object)?, "/lastTransitionTime")?;
    let longest = longest.unwrap_or_default().max(LONGEST_PHASE);
    Some(since.saturating_add(longest.as_millis().try_into().unwrap_or(Millis::MAX)))
}

/// Progress of the controller on the latest generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// The latest generation was reconciled.
    Ready,
    /// The controller is working on it, or will retry.
    Progressing(String),
    /// The controller gave up.
    Failed(String),
}

/// Computes the readiness as the flux CLI does.
pub(crate) fn readiness(object: &Value) -> Readiness {
    let observed = number(object, "/status/observedGeneration").unwrap_or(0);
    let generation = number(object, "/metadata/generation").unwrap_or(0);
    let message = || {
        raw_condition(object, "Ready")
            .and_then(|one| text(one, "/message"))
            .map_or_else(String::new, |m| truncated(m, 2000))
    };
    let Some(ready) = raw_condition(object, "Ready") else {
        return Readiness::Progressing("the controller has not processed the object yet".into());
    };
    let seen = number(ready, "/observedGeneration").filter(|seen| *seen != 0).unwrap_or(observed);
    if is_terminating(object) {
        return Readiness::Failed("the object is being deleted".into());
    }
    if let Some(who) = who_suspended(object) {
        // mutant suspended-again-is-in-progress: return Readiness::Failed(format!("it was suspended
        //     again by {who}")); ~> return Readiness::Progressing(who);
        return Readiness::Failed(format!("it was suspended again by {who}"));
    }
    if is_condition_true(object, "Stalled", None) {
        return Readiness::Failed(message());
    }
    if observed == 0 || seen != generation || observed != generation {
        return Readiness::Progressing(
            "the controller has not processed the latest change yet".into(),
        );
    }
    if is_condition_true(object, "Reconciling", None) || text(ready, "/status") != Some("True") {
        return Readiness::Progressing(message());
    }
    Readiness::Ready
}

/// Returns true if a Kustomization checks the health of an object that it applies: of all, or of
/// this one. A suspended object counts as in progress, because its controller may not observe the
/// new generation.
pub(crate) fn checks_health_of(parent: &Value, object: &FluxRef) -> bool {
    let is_object = |check: &Value| {
        text(check, "/kind") == Some(object.kind.kind())
            && text(check, "/name") == Some(&object.name)
            && text(check, "/namespace").is_none_or(|namespace| namespace == object.namespace)
    };
    // mutant parent-wait-ignored: is_true(parent, "/spec/wait") ~> false
    is_true(parent, "/spec/wait") || list(parent, "/spec/healthChecks").iter().any(is_object)
}

/// Converts a Flux object to the type that guests get. With `parent_suspended`, its parent
/// currently applies nothing.
pub(crate) fn parse(target: &FluxRef, object: &Value, parent_suspended: bool) -> FluxObject {
    let parent = labelled_owner(object).filter(|parent| parent != target);
    let parent_reverts =
        parent.is_some() && !parent_suspended && suspend_applied_by(object).is_some();
    FluxObject {
        target: target.clone(),
        uid: uid(object).to_owned(),
        generation: number(object, "/metadata/generation").unwrap_or_default(),
        suspended: suspended_by(object),
        ready: condition(object, "Ready"),
        reconciling: is_reconciling(object),
        source: source(target, object),
        interval_seconds: text(object, "/spec/interval")
            .and_then(go_duration)
            .map_or(0, |interval| interval.as_secs()),
        parent,
        parent_reverts,
        parent_waits: false,
        corrects_drift: match target.kind {
            FluxKind::Kustomization => true,
            FluxKind::HelmRelease => text(object, "/spec/driftDetection/mode") == Some("enabled"),
            FluxKind::GitRepository | FluxKind::OciRepository | FluxKind::Bucket => false,
        },
    }
}

/// Returns the source of the manifests, if its kind can be suspended.
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

/// Returns whether the owner's inventory contains an object, or None if it has no inventory.
pub(crate) fn inventory_contains(
    owner: &Value,
    subject: &Value,
    group: &str,
    kind: &str,
) -> Option<bool> {
    let entries = owner.pointer("/status/inventory/entries")?.as_array()?;
    let id = format!("{}_{}_{group}_{kind}", namespace(subject), name(subject));
    Some(entries.iter().any(|entry| text(entry, "/id") == Some(&id)))
}

/// Returns true if everything that an owner applied is in its inventory. kustomize-controller
/// writes the inventory once all objects were applied: after a failure before that, what was
/// applied is not in it, and is applied again.
pub(crate) fn is_inventory_complete(kind: FluxKind, owner: &Value) -> bool {
    match kind {
        // helm-controller writes it along with each release that it stores, before it is applied.
        FluxKind::HelmRelease
        | FluxKind::GitRepository
        | FluxKind::OciRepository
        | FluxKind::Bucket => return true,
        FluxKind::Kustomization => {}
    }
    let is_after_apply = raw_condition(owner, "Ready").is_some_and(|ready| {
        let reason = text(ready, "/reason").unwrap_or_default();
        text(ready, "/status") == Some("True")
            || ["HealthCheckFailed", "HealthCheckCanceled", "PruneFailed"].contains(&reason)
    });
    let attempted = text(owner, "/status/lastAttemptedRevision");
    let is_attempted_applied =
        attempted.is_some() && attempted == text(owner, "/status/lastAppliedRevision");
    is_after_apply || is_attempted_applied || is_checking_health(owner)
}

#[cfg(test)]
#[path = "flux_tests.rs"]
mod tests;
