//! `override-fields`: sets an integer field of one object, and restores it.

use crate::discovery;
use crate::object::{annotation, is_terminating, name, namespace, number, truncated, uid, version};
use crate::perform::{Applied, PerformReversal, PerformWrite};
use crate::resource::Resource;
use crate::send::{ListFilter, Session};
use crate::temporary_change::in_doubt::{self, Resolution};
use crate::temporary_change::release;
use crate::temporary_change::{self, last_manager, taken_over_by};
use salve_core::capability::call::Call as _;
use salve_core::capability::host::Leftover;
use salve_core::capability::override_fields::{
    Override, OverrideOutcome, PreviousValue, Restore, patch,
};
use salve_core::capability::run_annotations::{REASON, RUN, field_of_key, previous_key};
use salve_core::capability::types::{Kind, ObjectRef};
use salve_core::capability::{Released, Reversal, Target};
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{Current, ReleaseOutcome};
use serde_json::{Map, Value, json};

/// Reads the object.
///
/// # Errors
/// `conflict` if a run changed the object already, or it is being deleted; `invalid` if the field
/// is not an integer.
async fn read_before_override(
    session: &Session,
    call: &Override,
) -> Result<Current<OverrideOutcome>, Error> {
    let resource = namespaced(session, &call.kind).await?;
    let ObjectRef { namespace, name } = &call.object;
    let object = session.find(&resource, Some(namespace), name).await?;
    let object = object
        .ok_or_else(|| Error::NotFound(format!("{resource} {namespace}/{name} does not exist")))?;
    match check_object(session, call, &object)? {
        Some(outcome) => Ok(Current::AlreadyDone(outcome)),
        None => Ok(Current::Ready(ObservedState {
            objects: vec![saved_fields(&object, &call.field)],
            at: session.clock().now(),
        })),
    }
}

/// Returns the outcome, if the field does not have to be set.
///
/// # Errors
/// The field cannot be set.
fn check_object(
    session: &Session,
    call: &Override,
    object: &Value,
) -> Result<Option<OverrideOutcome>, Error> {
    let target = call.targets().remove(0);
    if is_terminating(object) {
        return Err(Error::Conflict(format!("{target} is being deleted")));
    }
    let current = PreviousValue::of(object, &call.field)
        .map_err(|error| Error::Invalid(format!("{target}: {}", error.text())))?;
    let set = PreviousValue::Value(call.value);
    match annotation(object, RUN) {
        Some(holder) if holder == session.run() => {
            let previous = annotation(object, &previous_key(&call.field))
                .and_then(PreviousValue::parse)
                .filter(|_| current == set);
            match previous {
                Some(previous) => {
                    Ok(Some(OverrideOutcome::Set { uid: uid(object).to_owned(), previous }))
                }
                None => Err(Error::Conflict(format!(
                    "{target} is already changed by this run; release that first"
                ))),
            }
        }
        Some(holder) => {
            let reason = annotation(object, REASON)
                .filter(|reason| !reason.is_empty())
                .map_or_else(String::new, |reason| format!(" ({})", truncated(reason, 200)));
            Err(Error::Conflict(format!(
                "{target} has the annotations of run {holder}{reason}; wait for that run to \
                 finish, or see `salve doctor --kind {}`",
                call.kind.resource_group()
            )))
        }
        None if current == set => Ok(Some(OverrideOutcome::Unchanged)),
        None => Ok(None),
    }
}

/// Returns a kind with its served version.
///
/// # Errors
/// `not-found` if the cluster does not serve it; `invalid` if its objects have no namespace.
async fn namespaced(session: &Session, kind: &Kind) -> Result<Resource, Error> {
    let resource = discovery::require_resource(session, &kind.group, &kind.resource).await?;
    if resource.namespaced {
        Ok(resource)
    } else {
        Err(Error::Invalid(format!("{resource} are cluster-scoped; their fields cannot be set")))
    }
}

/// Returns the parts of an object that the write needs. The rest of the spec is left out, because
/// it can contain secrets and the result is saved in the run file.
fn saved_fields(object: &Value, field: &str) -> Value {
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let ours = annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with("salve.dev/") || field_of_key(key).is_some());
    let annotations: Map<String, Value> =
        ours.map(|(key, value)| (key.clone(), value.clone())).collect();
    let path: Vec<&str> = field.split('.').collect();
    let value = release::value_at(object, &path).cloned().unwrap_or_default();
    let mut saved = json!({
        "apiVersion": object.get("apiVersion"), "kind": object.get("kind"),
        "metadata": {
            "name": name(object), "namespace": namespace(object), "uid": uid(object),
            "resourceVersion": version(object),
            "generation": number(object, "/metadata/generation"),
            "creationTimestamp": object.pointer("/metadata/creationTimestamp"),
            // Grants can select by labels.
            "labels": object.pointer("/metadata/labels"),
            "annotations": annotations,
        },
    });
    saved["spec"] = patch(field, value)["spec"].take();
    saved
}

/// Sets the field, with uid and resourceVersion as preconditions.
async fn set(session: &Session, call: &Override, observed: &ObservedState) -> Applied<Override> {
    match try_set(session, call, observed).await {
        Ok(resolution) => finish(call, observed, resolution),
        Err(error) => Applied::Done(Err(error)),
    }
}

async fn try_set(
    session: &Session,
    call: &Override,
    observed: &ObservedState,
) -> Result<Resolution, Error> {
    let before = prepared(observed)?;
    let resource = namespaced(session, &call.kind).await?;
    let target = call.targets().remove(0);
    let mut patch = patch(&call.field, call.value.into());
    let previous = PreviousValue::of(before, &call.field)?;
    patch["metadata"] = temporary_change::metadata(
        session,
        before,
        &call.reason,
        (&previous_key(&call.field), &previous.annotation()),
    );
    temporary_change::apply(session, &resource, &target, before, patch).await
}

fn prepared(observed: &ObservedState) -> Result<&Value, Error> {
    let first = observed.objects.first();
    first.ok_or_else(|| Error::Invalid("missing observed state of the object".into()))
}

/// Converts what is known about the patch.
fn finish(call: &Override, observed: &ObservedState, resolution: Resolution) -> Applied<Override> {
    let answer = |now: &Value| {
        let before = prepared(observed)?;
        if !is_set(now, &call.field, call.value) {
            return Err(Error::Invalid(format!(
                "the API server did not keep {} in {} {}/{}: its schema may not have the field",
                call.field,
                call.kind.resource_group(),
                call.object.namespace,
                call.object.name
            )));
        }
        let previous = PreviousValue::of(before, &call.field)?;
        Ok(OverrideOutcome::Set { uid: uid(before).to_owned(), previous })
    };
    match resolution {
        Resolution::Applied(now) => Applied::Done(answer(&now)),
        Resolution::NotApplied(message) => {
            Applied::Conflict { completed: None, remaining: call.clone(), message }
        }
        Resolution::Unknown(error) => Applied::Done(Err(error)),
    }
}

/// Returns whether a field has a value. The API server leaves out many fields that are 0.
fn is_set(object: &Value, field: &str, value: i64) -> bool {
    match PreviousValue::of(object, field) {
        Ok(PreviousValue::Value(now)) => now == value,
        // mutant omitted-zero-is-other-value: value == 0 ~> false
        Ok(PreviousValue::Absent) => value == 0,
        Err(_) => false,
    }
}

/// Reads whether the field was set by a process that ended.
async fn resolve_set(
    session: &Session,
    call: &Override,
    observed: &ObservedState,
) -> Applied<Override> {
    let resolve = async {
        let before = prepared(observed)?;
        let resource = namespaced(session, &call.kind).await?;
        let why = "the process that sent it ended";
        let target = call.targets().remove(0);
        Ok(in_doubt::resolve(session, &resource, &target, before, why).await)
    };
    match resolve.await {
        Ok(resolution) => finish(call, observed, resolution),
        Err(error) => Applied::Done(Err(error)),
    }
}

impl release::Restore for Restore {
    fn target(&self) -> Target {
        self.targets().remove(0)
    }
    fn uid(&self) -> &str {
        &self.uid
    }
    async fn resource(&self, session: &Session) -> Result<Resource, Error> {
        namespaced(session, &self.kind).await
    }
    fn saved_fields(&self, object: &Value) -> Value {
        saved_fields(object, &self.field)
    }
    fn field(&self) -> Vec<&str> {
        self.field.split('.').collect()
    }
    fn previous(&self) -> Value {
        self.previous.to_json()
    }
    fn annotations(&self) -> Vec<String> {
        Restore::annotations(self)
    }
    fn check_still_set(&self, object: &Value) -> Result<(), Option<String>> {
        let (path, field) = (self.field(), &self.field);
        if !is_set(object, field, self.value) {
            let now = PreviousValue::of(object, field);
            // The API server did not keep the value, or someone restored it.
            if now.as_ref() == Ok(&self.previous) {
                return Err(None);
            }
            let now = now.map_or_else(|_| "another type".into(), PreviousValue::annotation);
            return Err(Some(format!("{} set {field} to {now}", last_manager(object, &path))));
        }
        match taken_over_by(object, &path) {
            Some(by) => Err(Some(format!("{by} set {field} to {} again", self.value))),
            None => Ok(()),
        }
    }
}

/// Lists the objects of these kinds that a run marked.
async fn find_leftovers(session: &Session, kinds: &[Kind]) -> Result<Vec<Leftover>, Error> {
    let mut all = vec![];
    for kind in kinds {
        let found = discovery::find_resource(session, &kind.group, &kind.resource).await?;
        let Some(resource) = found.filter(|resource| resource.namespaced) else { continue };
        let objects = session.list(&resource, None, ListFilter::default()).await?;
        all.extend(objects.iter().flat_map(|object| parse_leftovers(kind, object)));
    }
    all.sort_by_key(|leftover: &Leftover| leftover.reversal.targets()[0].to_string());
    Ok(all)
}

fn parse_leftovers(kind: &Kind, object: &Value) -> Vec<Leftover> {
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let changes = annotations.into_iter().flatten().filter_map(|(key, value)| {
        Some((field_of_key(key)?, PreviousValue::parse(value.as_str()?)?))
    });
    let leftover = |(field, previous): (&str, PreviousValue)| {
        // A field of another type was changed by another capability.
        let current = PreviousValue::of(object, field).ok()?;
        let value = match current {
            PreviousValue::Value(value) => value,
            PreviousValue::Absent => 0,
        };
        let active = current != previous;
        let restore = Restore {
            kind: kind.clone(),
            object: ObjectRef::new(namespace(object), name(object)),
            uid: uid(object).to_owned(),
            field: field.to_owned(),
            value,
            previous,
        };
        temporary_change::leftover(object, active, Reversal::Restore(restore))
    };
    changes.filter_map(leftover).filter(|leftover| leftover.reversal.validate().is_ok()).collect()
}

impl PerformWrite for Override {
    async fn read_current(
        &self,
        session: &Session,
        _: Option<&ObservedState>,
    ) -> Result<Current<OverrideOutcome>, Error> {
        read_before_override(session, self).await
    }
    async fn apply(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        set(session, self, observed).await
    }
    async fn resolve(&self, session: &Session, observed: &ObservedState) -> Applied<Self> {
        resolve_set(session, self, observed).await
    }
}

impl PerformReversal for Restore {
    async fn read_current(
        &self,
        session: &Session,
        in_doubt: Option<&ObservedState>,
    ) -> Result<Current<Released>, Error> {
        release::read_current(session, self, in_doubt).await
    }
    async fn release(&self, session: &Session, observed: &ObservedState) -> ReleaseOutcome {
        release::release(session, self, observed).await
    }
    async fn leftovers(session: &Session, kinds: &[Kind]) -> Result<Vec<Leftover>, Error> {
        find_leftovers(session, kinds).await
    }
}
