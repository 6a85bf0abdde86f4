//! `reconcile-flux`: requests reconciliation of a Flux object.

use super::call::{
    Call, Durability, Limit, Pending, Permanent, Summary, Unfinished, WriteCall, single,
};
use super::suspend_flux::flux_patch_excess;
use super::types::{FluxRef, flux_kinds, flux_rules};
use super::{GrantKinds, GrantShape, ObjectDetails, Observations, PlannedChanges, Target, Write};
use crate::footprint::{FieldPath, Rule, Scope, Verb, field};
use crate::grants::Grant;
use crate::journal::ObservedState;
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// Requests reconciliation and waits for the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconcile {
    pub target: FluxRef,
    /// Upgrades a HelmRelease even if nothing changed.
    pub force: bool,
    pub wait_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// The controller handled this request.
    pub handled: bool,
    pub ready: bool,
    /// Of the condition `Ready`.
    pub message: String,
}

pub fn grant_shape() -> GrantShape {
    GrantShape {
        kinds: GrantKinds::Known(flux_kinds()),
        namespaced: true,
        role_excess: flux_patch_excess(),
        ..GrantShape::default()
    }
}

fn fields() -> Vec<FieldPath> {
    ["requestedAt", "forceAt"]
        .map(|key| field(&["metadata", "annotations", &format!("reconcile.fluxcd.io/{key}")]))
        .into()
}

impl Call for Reconcile {
    type Answer = Reconciliation;
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn validate(&self) -> Result<(), Error> {
        self.target.validate()?;
        if self.wait_seconds > 3600 {
            return Err(Error::Invalid("wait-seconds of more than 3600".into()));
        }
        Ok(())
    }
}

impl WriteCall for Reconcile {
    type Reversal = Permanent;

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
    fn limit() -> Option<Limit> {
        None
    }
    fn requires_evidence(&self) -> bool {
        true
    }
    fn judged_object<'a>(&'a self, target: &Target, observed: &'a [Value]) -> Option<&'a Value> {
        observed.iter().find(|object| target.is(object))
    }

    fn predict(&self, _: &ObservedState, _: Millis) -> Reconciliation {
        Reconciliation {
            handled: false,
            ready: false,
            message: "not requested: this is a plan".into(),
        }
    }
    fn plan(&self, _: &mut PlannedChanges) {}
    fn commands(&self, _: Option<&ObservedState>) -> Vec<String> {
        let FluxRef { kind, namespace, name } = &self.target;
        let force = if self.force { " --force" } else { "" };
        vec![format!("flux reconcile {} {name} -n {namespace}{force}", kind.flux_argument())]
    }
    fn details(&self, _: &Observations, _: &str, _: Option<&ObservedState>) -> Vec<ObjectDetails> {
        vec![]
    }

    fn difference(&self, approved: &Self) -> Option<String> {
        if self.target != approved.target {
            return Some(format!("{} is reconciled in place of {}", self.target, approved.target));
        }
        (self != approved).then(|| format!("{} is reconciled differently", self.target))
    }
    fn allowed_after_plan(&self, approved: &[&Write]) -> bool {
        // Its owners are asked to reconcile once they are resumed.
        let suspends = |write: &&Write| {
            write.reversed_targets().iter().any(|target| *target == self.target.target())
        };
        approved.iter().any(suspends)
    }
    fn binds(&self, _: &Value) -> bool {
        true
    }

    fn waits(&self) -> Duration {
        Duration::from_secs(self.wait_seconds.into())
    }
    fn durability(&self) -> Durability {
        // The request's time follows from the header.
        Durability::Derived
    }
    fn stamp(&self, began: Millis, earlier: u64) -> Option<Millis> {
        Some(began + earlier)
    }

    fn assemble(
        &self,
        parts: Vec<Reconciliation>,
        unfinished: Option<&Unfinished>,
    ) -> Result<Reconciliation, Error> {
        single(parts, unfinished)
    }
    fn failure<'a>(&self, _: &'a Reconciliation) -> Option<&'a Error> {
        None
    }
    fn summary(&self, _: &Reconciliation) -> Summary {
        Summary::Ok
    }
    fn may_return(&self, _: &Reconciliation) -> Vec<String> {
        vec![]
    }
    fn applied_at(&self, _: &Reconciliation) -> Option<Millis> {
        None
    }

    fn undone_by() -> Option<super::Function> {
        None
    }
    fn reversals(&self, _: &ObservedState, _: Option<&Reconciliation>) -> Vec<Pending<Permanent>> {
        vec![]
    }
}
