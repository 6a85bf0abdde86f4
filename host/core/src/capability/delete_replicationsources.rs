//! `delete-replicationsources`: deletes a fixed set of ReplicationSources, and recreates them for
//! `salve undo`.

use super::call::{
    Call, Durability, Limit, Pending, Permanent, Summary, Unfinished, WriteCall, per_item,
};
use super::observations::{created, recreated_by};
use super::query_flux::{Ownership, SubjectKind};
use super::query_replicationsources::PvcState;
use super::types::{ObjectRef, VOLSYNC};
use super::{Excess, GrantShape, ObjectDetails, Observations, PlannedChanges, Target, Write};
use crate::approval::compare_sets;
use crate::footprint::{FieldPath, Rule, Scope, Verb};
use crate::grants::Grant;
use crate::journal::ObservedState;
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

const RESOURCE: &str = "replicationsources";

const MAX_OBJECTS: usize = 10_000;

/// The largest manifest that is recreated, in bytes of JSON.
const MAX_MANIFEST_BYTES: usize = 256 << 10;

/// Deletes a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delete {
    pub set: Vec<DeletionTarget>,
    pub pacing: Pacing,
}

/// An object as it was when it was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeletionTarget {
    pub object: ObjectRef,
    pub uid: String,
    /// SHA-256 of the canonical JSON of `spec`, in lowercase hex.
    pub digest: String,
    /// Why it was chosen, in the guest's words.
    #[serde(default)]
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pacing {
    /// Concurrent deletions, 1 to 64.
    pub batch_size: u32,
    /// Wait between two batches.
    pub interval_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletionOutcome {
    Deleted,
    AlreadyGone,
    /// Another object has its name. It was left alone.
    Replaced,
    /// Its spec changed. It was left alone.
    Changed,
    /// The cluster rejected the request, or it was not sent.
    Rejected,
    /// The cluster did not respond, and reading did not show the outcome: it may be gone.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deletion {
    pub object: ObjectRef,
    pub uid: String,
    pub outcome: DeletionOutcome,
    pub message: Option<String>,
}

/// Recreates deleted ReplicationSources. No guest can ask for this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recreate {
    pub set: Vec<Manifest>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub object: ObjectRef,
    pub manifest: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CreationOutcome {
    Created,
    /// Another object has its name. It was left alone.
    Occupied,
    /// The cluster rejected the request or did not respond.
    Rejected,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Creation {
    pub object: ObjectRef,
    pub outcome: CreationOutcome,
    pub message: Option<String>,
}

pub fn grant_shape() -> GrantShape {
    GrantShape {
        namespaced: true,
        movers: true,
        host_only: vec![
            "only objects of the fixed set are deleted, by UID and spec, each manifest saved \
             first, no faster than the guest's pacing",
        ],
        policy_excess: vec![
            Excess::new(
                Verb::Delete,
                VOLSYNC,
                RESOURCE,
                "delete any number of the granted ReplicationSources, each by its UID",
            ),
            Excess::new(
                Verb::Create,
                VOLSYNC,
                RESOURCE,
                "create ReplicationSources of its own choice, also one that copies a PVC elsewhere",
            ),
        ],
        ..GrantShape::default()
    }
}

fn limit() -> Option<Limit> {
    // A grant to delete this many includes recreating this many.
    // mutant deletions-uncounted: Some(Limit { key: "deletions", noun: "deletion" }) ~> None
    Some(Limit { key: "deletions", noun: "deletion" })
}

fn message_of(unfinished: Option<&Unfinished>) -> Option<String> {
    Some(unfinished.map_or_else(|| "no result".into(), |unfinished| unfinished.error.to_string()))
}

impl Manifest {
    /// Reduces a saved manifest to what may be created again: names, labels, annotations, and spec.
    /// Nothing that acts by itself passes: no owners, finalizers, or status. The file may come from
    /// someone else.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(saved: &Value) -> Result<Self, String> {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(saved, "apiVersion"), text(saved, "kind"));
        let version_is_plain = version
            .strip_prefix(VOLSYNC)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_alphanumeric()));
        if kind != "ReplicationSource" || !version_is_plain {
            return Err("not a ReplicationSource".into());
        }
        let object =
            ObjectRef::new(text(&saved["metadata"], "namespace"), text(&saved["metadata"], "name"));
        object.validate().map_err(|e| e.text().to_owned())?;
        let spec = saved["spec"].as_object().ok_or("no spec")?;
        let mut metadata = Map::from_iter([
            ("name".into(), object.name.clone().into()),
            ("namespace".into(), object.namespace.clone().into()),
        ]);
        for key in ["labels", "annotations"] {
            let entries: Map<_, _> = saved["metadata"][key]
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, v)| v.is_string())
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            if !entries.is_empty() {
                metadata.insert(key.into(), entries.into());
            }
        }
        let manifest = serde_json::json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": metadata,
            "spec": spec,
        });
        if manifest.to_string().len() > MAX_MANIFEST_BYTES {
            return Err(format!("larger than {} KiB", MAX_MANIFEST_BYTES >> 10));
        }
        Ok(Self { object, manifest })
    }
}

impl Call for Delete {
    type Answer = Vec<Deletion>;
    fn targets(&self) -> Vec<Target> {
        self.set.iter().map(|target| target.object.target()).collect()
    }
    fn validate(&self) -> Result<(), Error> {
        if self.set.is_empty() || self.set.len() > MAX_OBJECTS {
            return Err(Error::Invalid(format!(
                "{} objects: must be 1 to {MAX_OBJECTS}",
                self.set.len()
            )));
        }
        if !(1..=64).contains(&self.pacing.batch_size) || self.pacing.interval_ms > 600_000 {
            return Err(Error::Invalid(
                "pacing: batch-size must be 1 to 64 and interval-ms at most 600000".into(),
            ));
        }
        let mut seen = HashSet::new();
        for target in &self.set {
            target.object.validate()?;
            if target.reason.len() > 1024 {
                return Err(Error::Invalid(format!(
                    "{}: a reason of more than 1024 bytes",
                    target.object
                )));
            }
            if target.uid.is_empty() || target.digest.is_empty() {
                return Err(Error::Invalid(format!(
                    "{} without UID or digest: nothing is deleted by name alone",
                    target.object
                )));
            }
            if !seen.insert(&target.object) {
                return Err(Error::Invalid(format!("duplicate entry {}", target.object)));
            }
        }
        Ok(())
    }
}

impl WriteCall for Delete {
    type Reversal = Permanent;

    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::Get, VOLSYNC, RESOURCE, Scope::Target),
            Rule::new(Verb::Delete, VOLSYNC, RESOURCE, Scope::Target),
        ]
    }
    fn fields(&self) -> Vec<FieldPath> {
        vec![]
    }
    fn granted_fields(_: &Grant) -> Vec<FieldPath> {
        vec![]
    }
    fn limit() -> Option<Limit> {
        limit()
    }
    fn requires_evidence(&self) -> bool {
        true
    }
    fn judged_object<'a>(&'a self, target: &Target, observed: &'a [Value]) -> Option<&'a Value> {
        observed.iter().find(|object| target.is(object))
    }

    fn predict(&self, _: &ObservedState, _: Millis) -> Vec<Deletion> {
        let deleted = |target: &DeletionTarget| Deletion {
            object: target.object.clone(),
            uid: target.uid.clone(),
            outcome: DeletionOutcome::Deleted,
            message: None,
        };
        self.set.iter().map(deleted).collect()
    }
    fn plan(&self, planned: &mut PlannedChanges) {
        planned.deleted.extend(self.set.iter().map(|target| target.uid.clone()));
    }
    fn commands(&self, _: Option<&ObservedState>) -> Vec<String> {
        let mut by_namespace: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for target in &self.set {
            by_namespace.entry(&target.object.namespace).or_default().push(&target.object.name);
        }
        let command = |(namespace, names): (&str, Vec<&str>)| {
            format!("kubectl delete replicationsource -n {namespace} {}", names.join(" "))
        };
        by_namespace.into_iter().map(command).collect()
    }
    fn details(
        &self,
        observations: &Observations,
        step: &str,
        observed: Option<&ObservedState>,
    ) -> Vec<ObjectDetails> {
        let details = |target: &DeletionTarget| {
            let source = observations.sources.iter().rev().find(|source| source.uid == target.uid);
            let has_pvc = source.is_none_or(|source| match source.pvc_state {
                // It may be created again.
                PvcState::Present | PvcState::Unbound | PvcState::None | PvcState::Terminating => {
                    true
                }
                PvcState::Missing => false,
            });
            let info = observations.owner_of(SubjectKind::ReplicationSource, &target.object);
            let owner = info.filter(|info| info.ownership != Ownership::Abandoned);
            let ObjectRef { namespace, name } = &target.object;
            ObjectDetails {
                target: target.object.target().to_string(),
                reason: if target.reason.is_empty() { step } else { &target.reason }.into(),
                created: created(observed, "ReplicationSource", namespace, name),
                owner: owner.and_then(|info| info.owner.as_ref()).map(|o| o.target.to_string()),
                last_backup: source.and_then(|source| source.last_sync),
                returns: info.map(|info| recreated_by(info, has_pvc)),
            }
        };
        self.set.iter().map(details).collect()
    }

    fn difference(&self, approved: &Self) -> Option<String> {
        let key = |target: &DeletionTarget| target.object.to_string();
        let bound = |target: &DeletionTarget| (target.uid.clone(), target.digest.clone());
        compare_sets("ReplicationSource", &approved.set, &self.set, key, bound).or_else(|| {
            (self.pacing != approved.pacing).then(|| "the pacing of the deletions changed".into())
        })
    }
    fn allowed_after_plan(&self, _: &[&Write]) -> bool {
        false
    }
    fn binds(&self, _: &Value) -> bool {
        true
    }

    fn waits(&self) -> Duration {
        let count = self.set.len() as u64;
        let batches = count.div_ceil(u64::from(self.pacing.batch_size.max(1)));
        let interval = u64::from(self.pacing.interval_ms).div_ceil(1000);
        Duration::from_secs(batches * interval + count)
    }
    fn durability(&self) -> Durability {
        Durability::Synced
    }
    fn stamp(&self, _: Millis, _: u64) -> Option<Millis> {
        None
    }

    fn assemble(
        &self,
        parts: Vec<Vec<Deletion>>,
        unfinished: Option<&Unfinished>,
    ) -> Result<Vec<Deletion>, Error> {
        let missing = |target: &DeletionTarget, unfinished: Option<&Unfinished>| {
            let is_unknown = unfinished.is_some_and(|unfinished| {
                matches!(unfinished.error, Error::Unavailable(_) | Error::Unauthorized(_))
            });
            Deletion {
                object: target.object.clone(),
                uid: target.uid.clone(),
                outcome: if is_unknown {
                    DeletionOutcome::Unknown
                } else {
                    DeletionOutcome::Rejected
                },
                message: message_of(unfinished),
            }
        };
        let is_for = |deletion: &Deletion, target: &DeletionTarget| {
            deletion.uid == target.uid && deletion.object == target.object
        };
        per_item(&self.set, parts, unfinished, is_for, missing)
    }
    fn failure<'a>(&self, _: &'a Vec<Deletion>) -> Option<&'a Error> {
        None
    }
    fn summary(&self, answer: &Vec<Deletion>) -> Summary {
        let not_deleted = |deletion: &Deletion| {
            let reason = match deletion.outcome {
                DeletionOutcome::Deleted | DeletionOutcome::AlreadyGone => return None,
                DeletionOutcome::Replaced => "another object has its name now",
                DeletionOutcome::Changed => "its spec changed",
                DeletionOutcome::Rejected => "rejected",
                DeletionOutcome::Unknown => "no response: it may be gone",
            };
            let reason = deletion.message.as_deref().unwrap_or(reason);
            Some(format!("{}: {reason}", deletion.object))
        };
        let rest: Vec<String> = answer.iter().filter_map(not_deleted).collect();
        let Some(first) = rest.first() else { return Summary::Ok };
        let text = format!("{} of {} deleted; {first}", answer.len() - rest.len(), answer.len());
        if rest.len() == answer.len() { Summary::Failed(text) } else { Summary::Partial(text) }
    }
    fn may_return(&self, answer: &Vec<Deletion>) -> Vec<String> {
        let deleted = answer.iter().filter(|one| one.outcome == DeletionOutcome::Deleted);
        deleted.map(|one| one.object.to_string()).collect()
    }
    fn applied_at(&self, _: &Vec<Deletion>) -> Option<Millis> {
        None
    }

    fn undone_by() -> Option<super::Function> {
        Some(super::Function::Recreate)
    }
    fn reversals(&self, _: &ObservedState, _: Option<&Vec<Deletion>>) -> Vec<Pending<Permanent>> {
        vec![]
    }
}

impl Call for Recreate {
    type Answer = Vec<Creation>;
    fn targets(&self) -> Vec<Target> {
        self.set.iter().map(|manifest| manifest.object.target()).collect()
    }
    fn validate(&self) -> Result<(), Error> {
        if self.set.is_empty() || self.set.len() > MAX_OBJECTS {
            return Err(Error::Invalid(format!(
                "{} objects: must be 1 to {MAX_OBJECTS}",
                self.set.len()
            )));
        }
        let mut seen = HashSet::new();
        for manifest in &self.set {
            // It must be its own reduced form: nothing else of a saved manifest is created.
            if Manifest::of(&manifest.manifest).as_ref() != Ok(manifest) {
                return Err(Error::Invalid(format!(
                    "{} is not in normalized form",
                    manifest.object
                )));
            }
            if !seen.insert(&manifest.object) {
                return Err(Error::Invalid(format!("duplicate entry {}", manifest.object)));
            }
        }
        Ok(())
    }
}

impl WriteCall for Recreate {
    type Reversal = Permanent;

    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::Get, VOLSYNC, RESOURCE, Scope::Target),
            Rule::new(Verb::Create, VOLSYNC, RESOURCE, Scope::Effect),
        ]
    }
    fn fields(&self) -> Vec<FieldPath> {
        vec![]
    }
    fn granted_fields(_: &Grant) -> Vec<FieldPath> {
        vec![]
    }
    fn limit() -> Option<Limit> {
        limit()
    }
    fn requires_evidence(&self) -> bool {
        // Undoing a run needs no problem that is still there.
        false
    }
    fn judged_object<'a>(&'a self, target: &Target, _: &'a [Value]) -> Option<&'a Value> {
        let manifests = self.set.iter().map(|manifest| &manifest.manifest);
        manifests.into_iter().find(|manifest| target.is(manifest))
    }

    fn predict(&self, _: &ObservedState, _: Millis) -> Vec<Creation> {
        let created = |manifest: &Manifest| Creation {
            object: manifest.object.clone(),
            outcome: CreationOutcome::Created,
            message: None,
        };
        self.set.iter().map(created).collect()
    }
    fn plan(&self, _: &mut PlannedChanges) {}
    fn commands(&self, _: Option<&ObservedState>) -> Vec<String> {
        let command = |manifest: &Manifest| {
            format!("echo {} | kubectl create -f -", quoted(&manifest.manifest.to_string()))
        };
        self.set.iter().map(command).collect()
    }
    fn details(&self, _: &Observations, _: &str, _: Option<&ObservedState>) -> Vec<ObjectDetails> {
        vec![]
    }

    fn difference(&self, approved: &Self) -> Option<String> {
        let key = |manifest: &Manifest| manifest.object.to_string();
        let bound = |manifest: &Manifest| manifest.manifest.clone();
        compare_sets("ReplicationSource", &approved.set, &self.set, key, bound)
    }
    fn allowed_after_plan(&self, _: &[&Write]) -> bool {
        false
    }
    fn binds(&self, _: &Value) -> bool {
        true
    }

    fn waits(&self) -> Duration {
        Duration::from_secs(self.set.len() as u64)
    }
    fn durability(&self) -> Durability {
        Durability::Synced
    }
    fn stamp(&self, _: Millis, _: u64) -> Option<Millis> {
        None
    }

    fn assemble(
        &self,
        parts: Vec<Vec<Creation>>,
        unfinished: Option<&Unfinished>,
    ) -> Result<Vec<Creation>, Error> {
        let missing = |manifest: &Manifest, unfinished: Option<&Unfinished>| Creation {
            object: manifest.object.clone(),
            outcome: CreationOutcome::Rejected,
            message: message_of(unfinished),
        };
        let is_for = |creation: &Creation, manifest: &Manifest| creation.object == manifest.object;
        per_item(&self.set, parts, unfinished, is_for, missing)
    }
    fn failure<'a>(&self, _: &'a Vec<Creation>) -> Option<&'a Error> {
        None
    }
    fn summary(&self, answer: &Vec<Creation>) -> Summary {
        let not_created = |creation: &&Creation| creation.outcome != CreationOutcome::Created;
        let rest: Vec<&Creation> = answer.iter().filter(not_created).collect();
        let Some(first) = rest.first() else { return Summary::Ok };
        let reason = first.message.as_deref().unwrap_or("left alone");
        let created = answer.len() - rest.len();
        let text = format!("{created} of {} created; {}: {reason}", answer.len(), first.object);
        if created == 0 { Summary::Failed(text) } else { Summary::Partial(text) }
    }
    fn may_return(&self, _: &Vec<Creation>) -> Vec<String> {
        vec![]
    }
    fn applied_at(&self, _: &Vec<Creation>) -> Option<Millis> {
        None
    }

    fn undone_by() -> Option<super::Function> {
        None
    }
    fn reversals(&self, _: &ObservedState, _: Option<&Vec<Creation>>) -> Vec<Pending<Permanent>> {
        vec![]
    }
}

/// Quotes a text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
