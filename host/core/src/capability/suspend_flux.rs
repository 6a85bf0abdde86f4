//! `suspend-flux`: suspends Flux objects as one set and restores each exactly.

use super::call::{
    Call, Durability, Limit, Pending, Released, ReversalCall, Summary, Unfinished, WriteCall,
    per_item,
};
use super::observations::created;
use super::run_annotations::{DEADLINE, REASON, RUN};
use super::types::{FluxKind, FluxRef, flux_kinds, flux_owner_rules, flux_rules};
use super::{
    Excess, GrantKinds, GrantShape, ObjectDetails, Observations, PlannedChanges, Target, Write,
};
use crate::approval::compare_sets;
use crate::footprint::{FieldPath, Rule, Scope, Verb, field};
use crate::grants::Grant;
use crate::journal::ObservedState;
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use std::time::Duration;

/// Annotation: the previous value of `spec.suspend` (`absent` or `false`).
pub const PREVIOUS: &str = "salve.dev/previous";

const MAX_TARGETS: usize = 1000;

/// Suspends a set in order, each object once its parent is idle, and waits until all are idle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspend {
    /// Parents first.
    pub targets: Vec<FluxRef>,
    /// For people who find the suspension.
    pub reason: String,
    /// How long a reconciliation in progress may take to end.
    pub drain_seconds: u32,
}

/// Restores `spec.suspend`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    pub target: FluxRef,
    /// An object that replaced it under the same name is left alone.
    pub uid: String,
    pub previous: PreviousSuspend,
}

/// The previous value of `spec.suspend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreviousSuspend {
    Absent,
    False,
    /// Only in leftovers: a run never suspends what is suspended already.
    True,
}

impl PreviousSuspend {
    /// Reads `spec.suspend` of a manifest.
    pub fn of(object: &Value) -> Self {
        match object["spec"].get("suspend").and_then(Value::as_bool) {
            None => Self::Absent,
            Some(false) => Self::False,
            Some(true) => Self::True,
        }
    }

    /// Returns the value of the annotation [`PREVIOUS`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::False => "false",
            Self::True => "true",
        }
    }

    /// Reads the annotation [`PREVIOUS`]. A missing or unknown value counts as absent.
    pub fn parse(annotation: Option<&str>) -> Self {
        match annotation {
            Some("false") => Self::False,
            Some("true") => Self::True,
            Some(_) | None => Self::Absent,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspended {
    pub uid: String,
    pub previous: PreviousSuspend,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuspendResult {
    pub target: FluxRef,
    pub outcome: SuspendOutcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuspendOutcome {
    /// This run suspended it, and no reconciliation is in progress.
    Suspended(Suspended),
    /// It was suspended before and is left so. The text says by whom.
    AlreadySuspended(String),
    /// It was not suspended, and the objects after it were not tried; or it did not become idle.
    Failed {
        error: Error,
        /// The suspend may still be applied.
        doubtful: bool,
    },
    /// An earlier one failed.
    NotTried,
}

pub fn grant_shape() -> GrantShape {
    GrantShape {
        kinds: GrantKinds::Known(flux_kinds()),
        namespaced: true,
        host_only: vec![
            "what it suspends is resumed, however the run ends; what someone else suspended is not",
        ],
        role_excess: flux_patch_excess(),
        policy_excess: FluxKind::ALL
            .into_iter()
            .map(|kind| {
                let text = format!(
                    "suspend and resume the granted {}, no matter who suspended them",
                    kind.plural()
                );
                Excess::new(Verb::Patch, kind.group(), kind.plural(), text)
            })
            .collect(),
        ..GrantShape::default()
    }
}

/// Returns what `patch` on each Flux kind would allow without admission policies.
pub(super) fn flux_patch_excess() -> Vec<Excess> {
    let text = |kind| match kind {
        FluxKind::Kustomization => {
            "point a Kustomization at another source or path, or add patches: with Flux's defaults \
             a way to cluster-admin"
        }
        FluxKind::HelmRelease => {
            "change the chart and the values of a HelmRelease: with Flux's defaults a way to \
             cluster-admin"
        }
        FluxKind::GitRepository => {
            "point a GitRepository at another repository: with Flux's defaults a way to \
             cluster-admin"
        }
        FluxKind::OciRepository => {
            "point an OCIRepository at another repository: with Flux's defaults a way to \
             cluster-admin"
        }
        FluxKind::Bucket => {
            "point a Bucket at another endpoint: with Flux's defaults a way to cluster-admin"
        }
    };
    let excess = |kind: FluxKind| Excess::new(Verb::Patch, kind.group(), kind.plural(), text(kind));
    FluxKind::ALL.into_iter().map(excess).collect()
}

fn fields() -> Vec<FieldPath> {
    let annotation = |key: &str| field(&["metadata", "annotations", key]);
    let mut fields = vec![field(&["spec", "suspend"])];
    fields.extend([RUN, REASON, DEADLINE, PREVIOUS].map(annotation));
    fields
}

impl Call for Suspend {
    type Answer = Vec<SuspendResult>;
    fn targets(&self) -> Vec<Target> {
        self.targets.iter().map(FluxRef::target).collect()
    }
    fn validate(&self) -> Result<(), Error> {
        if self.targets.is_empty() || self.targets.len() > MAX_TARGETS {
            return Err(Error::Invalid(format!(
                "{} targets: must be 1 to {MAX_TARGETS}",
                self.targets.len()
            )));
        }
        let mut seen = HashSet::new();
        for target in &self.targets {
            target.validate()?;
            if !seen.insert(target) {
                return Err(Error::Invalid(format!("duplicate entry {target}")));
            }
        }
        if self.reason.len() > 1024 {
            return Err(Error::Invalid("a reason of more than 1024 bytes".into()));
        }
        if self.drain_seconds > 3600 {
            return Err(Error::Invalid("drain-seconds of more than 3600".into()));
        }
        Ok(())
    }
}

impl WriteCall for Suspend {
    type Reversal = Resume;

    fn requests(grant: Option<&Grant>) -> Vec<Rule> {
        // The parent is read as well: one that would revert the suspension makes it pointless.
        let mut rules = flux_owner_rules();
        rules.extend(flux_rules(Verb::Get, Scope::Target, grant));
        rules.extend(flux_rules(Verb::Patch, Scope::Target, grant));
        rules
    }
    fn fields(&self) -> Vec<FieldPath> {
        fields()
    }
    fn granted_fields(_: &Grant) -> Vec<FieldPath> {
        fields()
    }
    fn limit() -> Option<Limit> {
        Some(Limit { key: "suspensions", noun: "suspension" })
    }
    fn requires_evidence(&self) -> bool {
        true
    }
    fn judged_object<'a>(&'a self, target: &Target, observed: &'a [Value]) -> Option<&'a Value> {
        observed.iter().find(|object| target.is(object))
    }

    fn predict(&self, observed: &ObservedState, _: Millis) -> Vec<SuspendResult> {
        let predict = |target: &FluxRef| {
            let outcome = match observed.flux_object(target) {
                Some(object) => SuspendOutcome::Suspended(Suspended {
                    uid: object["metadata"]["uid"].as_str().unwrap_or_default().into(),
                    previous: PreviousSuspend::of(object),
                }),
                None => SuspendOutcome::AlreadySuspended("already suspended".into()),
            };
            SuspendResult { target: target.clone(), outcome }
        };
        self.targets.iter().map(predict).collect()
    }
    fn plan(&self, _: &mut PlannedChanges) {}
    fn commands(&self, _: Option<&ObservedState>) -> Vec<String> {
        // Neighbors of one kind and namespace share a command: parents stay first.
        let groups = self.targets.chunk_by(|a, b| (a.kind, &a.namespace) == (b.kind, &b.namespace));
        groups
            .map(|group| {
                let names: Vec<&str> = group.iter().map(|target| target.name.as_str()).collect();
                format!(
                    "flux suspend {} {} -n {}",
                    group[0].kind.flux_argument(),
                    names.join(" "),
                    group[0].namespace
                )
            })
            .collect()
    }
    fn details(
        &self,
        observations: &Observations,
        _: &str,
        observed: Option<&ObservedState>,
    ) -> Vec<ObjectDetails> {
        let details = |target: &FluxRef| {
            let object = observations.flux_object(target);
            let parent = object.and_then(|object| object.parent.as_ref());
            let is_suspended_too = parent.is_some_and(|parent| self.targets.contains(parent));
            let effect =
                object.and_then(|object| match (object.parent_reverts, object.parent_waits) {
                    (true, _) => Some("would resume it"),
                    (false, true) if !is_suspended_too => {
                        Some("checks its health, which fails until it is resumed")
                    }
                    (false, _) => None,
                });
            ObjectDetails {
                target: target.target().to_string(),
                reason: self.reason.clone(),
                created: created(observed, target.kind.kind(), &target.namespace, &target.name),
                owner: parent.map(ToString::to_string),
                last_backup: None,
                returns: parent.zip(effect).map(|(parent, effect)| format!("{parent} {effect}")),
            }
        };
        self.targets.iter().map(details).collect()
    }

    fn difference(&self, approved: &Self) -> Option<String> {
        let key = FluxRef::to_string;
        compare_sets("Flux object", &approved.targets, &self.targets, key, |_| ())
    }
    fn allowed_after_plan(&self, _: &[&Write]) -> bool {
        false
    }
    fn binds(&self, _: &Value) -> bool {
        true
    }

    fn waits(&self) -> Duration {
        Duration::from_secs(self.targets.len() as u64 * (u64::from(self.drain_seconds) + 1))
    }
    fn durability(&self) -> Durability {
        Durability::Synced
    }
    fn stamp(&self, _: Millis, _: u64) -> Option<Millis> {
        None
    }

    fn assemble(
        &self,
        parts: Vec<Vec<SuspendResult>>,
        unfinished: Option<&Unfinished>,
    ) -> Result<Vec<SuspendResult>, Error> {
        if let Some(unfinished) = unfinished.filter(|unfinished| unfinished.unknown) {
            // It is not known which of the set are suspended: all of it is released.
            return Err(unfinished.error.clone());
        }
        let mut failed = false;
        let missing = |target: &FluxRef, unfinished: Option<&Unfinished>| {
            // The first without an answer is the one that failed.
            let outcome = if std::mem::replace(&mut failed, true) {
                SuspendOutcome::NotTried
            } else {
                let error = unfinished.map_or_else(
                    || Error::Unavailable(format!("no result for {target}")),
                    |unfinished| unfinished.error.clone(),
                );
                SuspendOutcome::Failed { error, doubtful: false }
            };
            SuspendResult { target: target.clone(), outcome }
        };
        let is_for = |result: &SuspendResult, target: &FluxRef| result.target == *target;
        per_item(&self.targets, parts, unfinished, is_for, missing)
    }
    fn failure<'a>(&self, answer: &'a Vec<SuspendResult>) -> Option<&'a Error> {
        answer.iter().find_map(|result| match &result.outcome {
            SuspendOutcome::Failed { error, .. } => Some(error),
            SuspendOutcome::Suspended(_)
            | SuspendOutcome::AlreadySuspended(_)
            | SuspendOutcome::NotTried => None,
        })
    }
    fn summary(&self, answer: &Vec<SuspendResult>) -> Summary {
        if let Some(error) = self.failure(answer) {
            return Summary::Failed(error.to_string());
        }
        let mut left_alone = answer.iter().filter_map(|result| match &result.outcome {
            SuspendOutcome::AlreadySuspended(why) => {
                Some(format!("{} was left alone: {why}", result.target))
            }
            SuspendOutcome::Suspended(_)
            | SuspendOutcome::Failed { .. }
            | SuspendOutcome::NotTried => None,
        });
        left_alone.next().map_or(Summary::Ok, Summary::Partial)
    }
    fn may_return(&self, _: &Vec<SuspendResult>) -> Vec<String> {
        vec![]
    }
    fn applied_at(&self, _: &Vec<SuspendResult>) -> Option<Millis> {
        None
    }

    fn undone_by() -> Option<super::Function> {
        None
    }
    fn reversals(
        &self,
        observed: &ObservedState,
        answer: Option<&Vec<SuspendResult>>,
    ) -> Vec<Pending<Resume>> {
        let prepared = |target: &FluxRef| {
            let object = observed.flux_object(target)?;
            Some(Resume {
                target: target.clone(),
                uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                previous: PreviousSuspend::of(object),
            })
        };
        let Some(answer) = answer else {
            let pending = |reversal| Pending { reversal, in_doubt: true };
            return self.targets.iter().filter_map(prepared).map(pending).collect();
        };
        let pending = |result: &SuspendResult| match &result.outcome {
            SuspendOutcome::Suspended(suspended) => Some(Pending {
                reversal: Resume {
                    target: result.target.clone(),
                    uid: suspended.uid.clone(),
                    previous: suspended.previous,
                },
                in_doubt: false,
            }),
            SuspendOutcome::Failed { doubtful, .. } => {
                prepared(&result.target).map(|reversal| Pending { reversal, in_doubt: *doubtful })
            }
            SuspendOutcome::AlreadySuspended(_) | SuspendOutcome::NotTried => None,
        };
        answer.iter().filter_map(pending).collect()
    }
}

impl Call for Resume {
    type Answer = Released;
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn validate(&self) -> Result<(), Error> {
        self.target.validate()
    }
}

impl ReversalCall for Resume {
    fn requests(grant: Option<&Grant>) -> Vec<Rule> {
        let mut rules = flux_rules(Verb::Get, Scope::Target, grant);
        rules.extend(flux_rules(Verb::Patch, Scope::Target, grant));
        rules
    }
    fn fields(&self) -> Vec<FieldPath> {
        fields()
    }
    fn granted_fields(_: &Grant) -> Vec<FieldPath> {
        fields()
    }
    fn leftover_requests() -> Vec<Rule> {
        flux_rules(Verb::List, Scope::Everywhere, None)
    }
    fn commands(&self) -> Vec<String> {
        let verb = match self.previous {
            PreviousSuspend::Absent | PreviousSuspend::False => "resume",
            PreviousSuspend::True => "suspend",
        };
        let FluxRef { kind, namespace, name } = &self.target;
        vec![format!("flux {verb} {} {name} -n {namespace}", kind.flux_argument())]
    }
    fn cleanup_commands(&self) -> Vec<String> {
        let keys = [RUN, REASON, DEADLINE, PREVIOUS].map(|key| format!("{key}-")).join(" ");
        let FluxRef { kind, namespace, name } = &self.target;
        vec![format!("kubectl annotate {} {name} -n {namespace} {keys}", kind.plural())]
    }
    fn still_active(&self, in_doubt: bool) -> String {
        let still = if in_doubt { "may still be" } else { "is still" };
        format!("{} {still} suspended by this run", self.target)
    }
    fn brings_back(&self) -> Option<String> {
        Some(self.target.to_string())
    }
    fn is_planned(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kustomization(name: &str) -> FluxRef {
        FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: name.into() }
    }

    fn suspend(names: &[&str]) -> Suspend {
        let targets = names.iter().map(|name| kustomization(name)).collect();
        Suspend { targets, reason: "because".into(), drain_seconds: 1 }
    }

    #[test]
    fn the_target_after_the_answered_ones_failed_and_the_rest_was_not_tried() {
        let suspended = SuspendResult {
            target: kustomization("a"),
            outcome: SuspendOutcome::Suspended(Suspended {
                uid: "u".into(),
                previous: PreviousSuspend::False,
            }),
        };
        let error = Error::Conflict("changed".into());
        let unfinished = Unfinished { error: error.clone(), sent: true, unknown: false };
        let call = suspend(&["a", "b", "c"]);
        let results = call.assemble(vec![vec![suspended.clone()]], Some(&unfinished)).unwrap();
        assert_eq!(results[0], suspended);
        assert_eq!(
            results[1].outcome,
            SuspendOutcome::Failed { error: error.clone(), doubtful: false }
        );
        assert_eq!(results[2].outcome, SuspendOutcome::NotTried);
        assert_eq!(call.failure(&results), Some(&error));
    }

    #[test]
    fn an_unknown_outcome_fails_the_whole_set() {
        let error = Error::Unavailable("no response".into());
        let unfinished = Unfinished { error: error.clone(), sent: true, unknown: true };
        assert_eq!(suspend(&["a"]).assemble(vec![], Some(&unfinished)), Err(error));
    }
}
