//! `override-fields`: sets an integer field of any granted kind until the run ends.

use super::call::{
    Call, Durability, Limit, Pending, Released, ReversalCall, Summary, Unfinished, WriteCall,
    single,
};
use super::run_annotations::{DEADLINE, REASON, RUN, previous_key};
use super::types::Kind;
use super::types::ObjectRef;
use super::{
    Excess, GrantKinds, GrantShape, ObjectDetails, Observations, PlannedChanges, Target, Write,
};
use crate::footprint::{FieldPath, Rule, Scope, Verb, field, parse_field};
use crate::grants::Grant;
use crate::journal::ObservedState;
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// Sets one field and keeps its previous value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Override {
    pub kind: Kind,
    pub object: ObjectRef,
    /// Such as `spec.replicas`.
    pub field: String,
    pub value: i64,
    /// For people who find it.
    pub reason: String,
}

/// Restores the previous value of one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restore {
    pub kind: Kind,
    pub object: ObjectRef,
    /// An object that replaced it under the same name is left alone.
    pub uid: String,
    pub field: String,
    /// What the run set.
    pub value: i64,
    pub previous: PreviousValue,
}

/// The previous value of a field. A default that the API server filled in is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreviousValue {
    Absent,
    Value(i64),
}

impl PreviousValue {
    /// Reads a field of a manifest.
    ///
    /// # Errors
    /// The field is not an integer, or its parent does not exist or is not an object.
    pub fn of(object: &Value, field: &str) -> Result<Self, Error> {
        let invalid = |what: String| Err(Error::Invalid(what));
        let mut parent = object;
        let mut keys = field.split('.').peekable();
        while let Some(key) = keys.next() {
            let Some(map) = parent.as_object() else {
                return invalid(format!(
                    "the parent of the field {field} does not exist or is not an object"
                ));
            };
            let value = map.get(key).unwrap_or(&Value::Null);
            if keys.peek().is_some() {
                parent = value;
            } else if value.is_null() {
                return Ok(Self::Absent);
            } else if let Some(value) = value.as_i64() {
                return Ok(Self::Value(value));
            }
        }
        invalid(format!("the field {field} is not an integer"))
    }

    /// Returns it as JSON; null if it was absent.
    pub fn to_json(self) -> Value {
        match self {
            Self::Absent => Value::Null,
            Self::Value(value) => value.into(),
        }
    }

    /// Reads the annotation that [`annotation`](Self::annotation) returns.
    pub fn parse(annotation: &str) -> Option<Self> {
        if annotation == "absent" {
            return Some(Self::Absent);
        }
        annotation.parse().ok().map(Self::Value)
    }

    /// Returns the value of the annotation that records it.
    pub fn annotation(self) -> String {
        match self {
            Self::Absent => "absent".into(),
            Self::Value(value) => value.to_string(),
        }
    }
}

/// Returns a merge patch that sets a field.
pub fn patch(field: &str, value: Value) -> Value {
    field.rsplit('.').fold(value, |value, key| json!({key: value}))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverrideOutcome {
    /// This run set it.
    Set { uid: String, previous: PreviousValue },
    /// It had the value already.
    Unchanged,
}

pub fn grant_shape() -> GrantShape {
    GrantShape {
        kinds: GrantKinds::Named,
        namespaced: true,
        fields: true,
        host_only: vec![
            "each field that it sets gets its previous value back, however the run ends, unless \
             someone else has changed it",
        ],
        role_excess: vec![Excess::new(
            Verb::Patch,
            "*",
            "*",
            "change anything in objects of the kinds that override-fields is granted for",
        )],
        policy_excess: vec![Excess::new(
            Verb::Patch,
            "*",
            "*",
            "set the granted fields to any value, and leave them so",
        )],
        ..GrantShape::default()
    }
}

/// Returns the rules for the kind of the call, or for the kinds that a grant names.
fn rules(grant: Option<&Grant>) -> Vec<Rule> {
    let mut rules = Kind::rules(Verb::Get, Scope::Target, grant);
    rules.extend(Kind::rules(Verb::Patch, Scope::Target, grant));
    rules
}

/// Returns the annotations of a change to these fields, and the fields themselves.
fn fields<'a>(fields: impl IntoIterator<Item = &'a str>) -> Vec<FieldPath> {
    let annotation = |key: &str| field(&["metadata", "annotations", key]);
    let mut paths = vec![];
    for name in fields {
        paths.extend(parse_field(name));
        paths.push(annotation(&previous_key(name)));
    }
    paths.extend([RUN, REASON, DEADLINE].map(annotation));
    paths
}

fn granted_fields(grant: &Grant) -> Vec<FieldPath> {
    fields(grant.fields.iter().flatten().map(String::as_str))
}

fn target(kind: &Kind, object: &ObjectRef) -> Target {
    kind.target(Some(object.namespace.clone()), Some(object.name.clone()))
}

fn patch_command(kind: &Kind, object: &ObjectRef, field: &str, value: Value) -> String {
    let ObjectRef { namespace, name } = object;
    format!(
        "kubectl patch {} {name} -n {namespace} --type merge -p '{}'",
        kind.resource_group(),
        patch(field, value)
    )
}

impl Override {
    /// Returns its object among those that were read for it.
    fn prepared<'a>(&self, observed: &'a [Value]) -> Option<&'a Value> {
        observed.iter().find(|object| {
            object["metadata"]["namespace"] == self.object.namespace.as_str()
                && object["metadata"]["name"] == self.object.name.as_str()
        })
    }
}

impl Call for Override {
    type Answer = OverrideOutcome;
    fn targets(&self) -> Vec<Target> {
        vec![target(&self.kind, &self.object)]
    }
    fn validate(&self) -> Result<(), Error> {
        self.kind.validate_writable()?;
        self.object.validate()?;
        parse_field(&self.field)?;
        if self.reason.len() > 1024 {
            return Err(Error::Invalid("a reason of more than 1024 bytes".into()));
        }
        Ok(())
    }
}

impl WriteCall for Override {
    type Reversal = Restore;

    fn requests(grant: Option<&Grant>) -> Vec<Rule> {
        rules(grant)
    }
    fn fields(&self) -> Vec<FieldPath> {
        fields([self.field.as_str()])
    }
    fn granted_fields(grant: &Grant) -> Vec<FieldPath> {
        granted_fields(grant)
    }
    fn limit() -> Option<Limit> {
        Some(Limit { key: "overrides", noun: "override" })
    }
    fn requires_evidence(&self) -> bool {
        true
    }
    fn judged_object<'a>(&'a self, _: &Target, observed: &'a [Value]) -> Option<&'a Value> {
        self.prepared(observed)
    }

    fn predict(&self, observed: &ObservedState, _: Millis) -> OverrideOutcome {
        let Some(object) = self.prepared(&observed.objects) else {
            return OverrideOutcome::Unchanged;
        };
        match PreviousValue::of(object, &self.field) {
            Ok(previous) => OverrideOutcome::Set {
                uid: object["metadata"]["uid"].as_str().unwrap_or_default().into(),
                previous,
            },
            Err(_) => OverrideOutcome::Unchanged,
        }
    }
    fn plan(&self, _: &mut PlannedChanges) {}
    fn commands(&self, _: Option<&ObservedState>) -> Vec<String> {
        vec![patch_command(&self.kind, &self.object, &self.field, self.value.into())]
    }
    fn details(
        &self,
        _: &Observations,
        _: &str,
        observed: Option<&ObservedState>,
    ) -> Vec<ObjectDetails> {
        let object = observed.and_then(|observed| self.prepared(&observed.objects));
        let created = object.and_then(|object| object["metadata"]["creationTimestamp"].as_str());
        vec![ObjectDetails {
            target: target(&self.kind, &self.object).to_string(),
            reason: self.reason.clone(),
            created: created.map(str::to_owned),
            owner: None,
            last_backup: None,
            returns: None,
        }]
    }

    fn difference(&self, approved: &Self) -> Option<String> {
        let what = |call: &Self| {
            format!("{} of {} to {}", call.field, target(&call.kind, &call.object), call.value)
        };
        let (now, approved) = (what(self), what(approved));
        (now != approved).then(|| format!("it sets {now} instead of {approved}"))
    }
    fn allowed_after_plan(&self, _: &[&Write]) -> bool {
        false
    }
    fn binds(&self, _: &Value) -> bool {
        true
    }

    fn waits(&self) -> Duration {
        Duration::ZERO
    }
    fn durability(&self) -> Durability {
        Durability::Synced
    }
    fn stamp(&self, _: Millis, _: u64) -> Option<Millis> {
        None
    }

    fn assemble(
        &self,
        parts: Vec<OverrideOutcome>,
        unfinished: Option<&Unfinished>,
    ) -> Result<OverrideOutcome, Error> {
        single(parts, unfinished)
    }
    fn failure<'a>(&self, _: &'a OverrideOutcome) -> Option<&'a Error> {
        None
    }
    fn summary(&self, answer: &OverrideOutcome) -> Summary {
        match answer {
            OverrideOutcome::Set { .. } => Summary::Ok,
            OverrideOutcome::Unchanged => Summary::Partial(format!(
                "{} was left alone: {} is already {}",
                target(&self.kind, &self.object),
                self.field,
                self.value
            )),
        }
    }
    fn may_return(&self, _: &OverrideOutcome) -> Vec<String> {
        vec![]
    }
    fn applied_at(&self, _: &OverrideOutcome) -> Option<Millis> {
        None
    }

    fn undone_by() -> Option<super::Function> {
        None
    }
    fn reversals(
        &self,
        observed: &ObservedState,
        answer: Option<&OverrideOutcome>,
    ) -> Vec<Pending<Restore>> {
        let restore = |uid: &str, previous, in_doubt| Pending {
            reversal: Restore {
                kind: self.kind.clone(),
                object: self.object.clone(),
                uid: uid.to_owned(),
                field: self.field.clone(),
                value: self.value,
                previous,
            },
            in_doubt,
        };
        match answer {
            Some(OverrideOutcome::Set { uid, previous }) => vec![restore(uid, *previous, false)],
            Some(OverrideOutcome::Unchanged) => vec![],
            None => match self.predict(observed, observed.at) {
                OverrideOutcome::Set { uid, previous } => vec![restore(&uid, previous, true)],
                OverrideOutcome::Unchanged => vec![],
            },
        }
    }
}

impl Call for Restore {
    type Answer = Released;
    fn targets(&self) -> Vec<Target> {
        vec![target(&self.kind, &self.object)]
    }
    fn validate(&self) -> Result<(), Error> {
        self.kind.validate_writable()?;
        self.object.validate()?;
        parse_field(&self.field).map(|_| ())
    }
}

impl Restore {
    /// Returns the keys of the annotations that the run added.
    pub fn annotations(&self) -> Vec<String> {
        let mut keys: Vec<String> = [RUN, REASON, DEADLINE].map(str::to_owned).into();
        keys.push(previous_key(&self.field));
        keys
    }
}

impl ReversalCall for Restore {
    fn requests(grant: Option<&Grant>) -> Vec<Rule> {
        rules(grant)
    }
    fn fields(&self) -> Vec<FieldPath> {
        fields([self.field.as_str()])
    }
    fn granted_fields(grant: &Grant) -> Vec<FieldPath> {
        granted_fields(grant)
    }
    fn leftover_requests() -> Vec<Rule> {
        vec![Rule::new(Verb::List, "*", "*", Scope::Everywhere)]
    }
    fn commands(&self) -> Vec<String> {
        vec![patch_command(&self.kind, &self.object, &self.field, self.previous.to_json())]
    }
    fn cleanup_commands(&self) -> Vec<String> {
        let keys: Vec<String> = self.annotations().iter().map(|key| format!("{key}-")).collect();
        let ObjectRef { namespace, name } = &self.object;
        let kind = self.kind.resource_group();
        vec![format!("kubectl annotate {kind} {name} -n {namespace} {}", keys.join(" "))]
    }
    fn still_active(&self, in_doubt: bool) -> String {
        let may = if in_doubt { "may still have" } else { "still has" };
        format!(
            "{} {may} {} set to {} by this run",
            target(&self.kind, &self.object),
            self.field,
            self.value
        )
    }
    fn brings_back(&self) -> Option<String> {
        None
    }
    fn is_planned(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(field: &str, value: i64) -> Override {
        Override {
            kind: Kind { group: "apps".into(), resource: "deployments".into() },
            object: ObjectRef::new("media", "plex"),
            field: field.into(),
            value,
            reason: "because".into(),
        }
    }

    #[test]
    fn a_field_that_no_policy_can_limit_is_invalid() {
        assert_eq!(call("spec.a1.b", 0).validate(), Ok(()));
        for field in
            ["spec", "status.x", "spec.", "spec.3scale.x", "spec.in.x", "spec.a_b", "spec.a-b"]
        {
            assert!(matches!(call(field, 0).validate(), Err(Error::Invalid(_))), "{field}");
        }
    }

    #[test]
    fn kinds_that_decide_who_may_do_what_are_never_writable() {
        for kind in
            ["leases.coordination.k8s.io", "rolebindings.rbac.authorization.k8s.io", "secrets"]
        {
            let (resource, group) = kind.split_once('.').unwrap_or((kind, ""));
            let kind = Kind { group: group.into(), resource: resource.into() };
            let call = Override { kind: kind.clone(), ..call("spec.replicas", 0) };
            assert!(matches!(call.validate(), Err(Error::Invalid(_))), "{kind:?}");
            let grant = Grant {
                kinds: Some(vec![crate::glob::Glob::new(&kind.resource_group()).unwrap()]),
                fields: Some(vec!["spec.replicas".into()]),
                ..Grant::whole(crate::capability::Capability::OverrideFields)
            };
            assert!(grant.validate().is_err(), "{kind:?}");
        }
    }

    fn observed(spec: Value) -> ObservedState {
        let metadata = json!({"namespace": "media", "name": "plex", "uid": "u"});
        ObservedState { objects: vec![json!({"metadata": metadata, "spec": spec})], at: 1 }
    }

    #[test]
    fn each_previous_value_is_distinguished_and_survives_its_annotation() {
        for (spec, expected) in [
            (json!({}), PreviousValue::Absent),
            (json!({"replicas": null}), PreviousValue::Absent),
            (json!({"replicas": 0}), PreviousValue::Value(0)),
            (json!({"replicas": -3}), PreviousValue::Value(-3)),
        ] {
            let previous = PreviousValue::of(&json!({"spec": spec}), "spec.replicas").unwrap();
            assert_eq!(previous, expected);
            assert_eq!(PreviousValue::parse(&previous.annotation()), Some(previous));
        }
        assert_eq!(PreviousValue::parse("two"), None);
    }

    #[test]
    fn a_field_that_is_not_an_integer_or_has_no_parent_is_invalid() {
        for (spec, field) in [
            (json!({"paused": true}), "spec.paused"),
            (json!({"replicas": "3"}), "spec.replicas"),
            (json!({"replicas": 1.5}), "spec.replicas"),
            (json!({}), "spec.strategy.maxSurge"),
            (json!({"strategy": 1}), "spec.strategy.maxSurge"),
        ] {
            let read = PreviousValue::of(&json!({"spec": spec}), field);
            assert!(matches!(read, Err(Error::Invalid(_))), "{field}: {read:?}");
        }
    }

    #[test]
    fn only_a_field_below_spec_is_valid() {
        assert_eq!(call("spec.replicas", 0).validate(), Ok(()));
        for field in ["", "spec", "status.replicas", "metadata.generation", "spec..x", "spec.a/b"] {
            assert!(call(field, 0).validate().is_err(), "{field:?}");
        }
        let mut secrets = call("spec.replicas", 0);
        secrets.kind = Kind { group: String::new(), resource: "secrets".into() };
        assert!(secrets.validate().is_err());
    }

    #[test]
    fn the_reversal_restores_what_was_observed() {
        let call = call("spec.replicas", 0);
        let unknown = call.reversals(&observed(json!({"replicas": 2})), None);
        let [Pending { reversal, in_doubt: true }] = unknown.as_slice() else {
            panic!("{unknown:?}")
        };
        assert_eq!((reversal.uid.as_str(), reversal.previous), ("u", PreviousValue::Value(2)));
        assert_eq!(
            reversal.commands(),
            ["kubectl patch deployments.apps plex -n media --type merge -p \
              '{\"spec\":{\"replicas\":2}}'"]
        );
        let absent = call.reversals(&observed(json!({})), None).remove(0).reversal;
        assert!(absent.commands()[0].ends_with("'{\"spec\":{\"replicas\":null}}'"));
        assert!(call.reversals(&observed(json!({})), Some(&OverrideOutcome::Unchanged)).is_empty());
    }

    #[test]
    fn another_value_or_field_differs_from_the_approved_call() {
        let approved = call("spec.replicas", 0);
        assert_eq!(
            call("spec.replicas", 1).difference(&approved).as_deref(),
            Some(
                "it sets spec.replicas of deployments.apps media/plex to 1 instead of \
                 spec.replicas of deployments.apps media/plex to 0"
            )
        );
        assert!(call("spec.paused", 0).difference(&approved).is_some());
    }
}
