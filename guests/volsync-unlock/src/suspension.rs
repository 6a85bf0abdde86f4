//! Decides which Flux objects to suspend, so that nothing deleted comes back too early, and in
//! which order.
//!
//! Parents first, outermost before all others: a parent that applies `spec.suspend` of its child
//! would revert it, and one that checks the health of its child would report a failure. The source
//! last, so that it is the first to be resumed and its owners find it
//! active.

use std::collections::BTreeMap;

use salve_sdk::query_flux::{FluxObject, SuspendedBy};
use salve_sdk::types::FluxRef;

/// Why an object is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It would revert the suspend of another object, or report that object as unhealthy.
    Parent,
    /// It would recreate what is deleted.
    Owner,
    /// The configuration names it. Suspending it alone only stops new commits.
    Source,
}

/// A Flux object to suspend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSuspension {
    pub target: FluxRef,
    pub role: Role,
}

/// Which objects to suspend, and which not to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuspensionPlan {
    /// In the order in which they are suspended.
    pub order: Vec<PlannedSuspension>,
    /// Objects that are not suspended, one sentence each.
    pub skipped: Vec<String>,
}

/// An object that another run of Salve has suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspendedByRun {
    pub target: FluxRef,
    /// The ID of the run.
    pub run: String,
}

/// Returns the parents that have to be read before [`plan`] can decide.
pub fn missing_parents(
    owners: &[FluxObject],
    parents: &BTreeMap<FluxRef, FluxObject>,
) -> Vec<FluxRef> {
    let mut missing: Vec<FluxRef> = Vec::new();
    for object in owners.iter().chain(parents.values()) {
        if let Some(parent) = affected_parent(object) {
            let is_known = parents.contains_key(parent)
                || owners.iter().any(|owner| owner.target == *parent)
                || missing.contains(parent);
            if !is_known {
                missing.push(parent.clone());
            }
        }
    }
    missing
}

/// Returns the parent that would revert a suspend of this object. An object that applies itself
/// does not: its own suspend stops that.
fn reverting_parent(object: &FluxObject) -> Option<&FluxRef> {
    affected_parent(object).filter(|_| object.parent_reverts)
}

/// Returns the parent that would revert a suspend of this object, or report it as unhealthy.
fn affected_parent(object: &FluxObject) -> Option<&FluxRef> {
    // mutant waiting-parent-not-suspended: object.parent_waits ~> false
    let is_affected = object.parent_reverts || object.parent_waits;
    if object.suspended.is_some() || !is_affected {
        return None;
    }
    object.parent.as_ref().filter(|parent| **parent != object.target)
}

/// Decides what to suspend. `parents` contains every affected parent, and their parents.
///
/// # Errors
/// [`SuspendedByRun`] if one of the objects is annotated by another run.
pub fn plan(
    owners: &[FluxObject],
    parents: &BTreeMap<FluxRef, FluxObject>,
    source: Option<&FluxObject>,
) -> Result<SuspensionPlan, SuspendedByRun> {
    let find = |target: &FluxRef| {
        parents.get(target).or_else(|| owners.iter().find(|owner| owner.target == *target))
    };
    let mut plan = SuspensionPlan::default();
    for owner in owners {
        let mut chain = Vec::new();
        let mut next = affected_parent(owner);
        while let Some(parent) = next.filter(|parent| !chain.contains(parent)) {
            chain.push(parent);
            next = find(parent).and_then(affected_parent);
        }
        for parent in chain.into_iter().rev() {
            if let Some(object) = find(parent) {
                // mutant parent-not-suspended-first: plan.add(object, Role::Parent)? ~> let _ =
                //     (object, Role::Parent)
                plan.add(object, Role::Parent)?;
            }
        }
    }
    for owner in owners {
        // mutant owners-not-suspended: plan.add(owner, Role::Owner)?; ~> if
        //     owner.suspended.is_some() { plan.add(owner, Role::Owner)?; }
        plan.add(owner, Role::Owner)?;
    }
    if let Some(source) = source {
        match reverting_parent(source) {
            Some(parent) if !plan.order.iter().any(|planned| planned.target == *parent) => {
                plan.skipped.push(format!(
                    "{}: {parent} would revert a suspend; its owners are suspended instead",
                    source.target
                ));
            }
            Some(_) | None => plan.add(source, Role::Source)?,
        }
    }
    Ok(plan)
}

impl SuspensionPlan {
    fn add(&mut self, object: &FluxObject, role: Role) -> Result<(), SuspendedByRun> {
        if let Some(by) = &object.suspended {
            if let Some(run) = &by.run {
                return Err(SuspendedByRun { target: object.target.clone(), run: run.clone() });
            }
            let sentence = format!("{}: {}", object.target, already_suspended(by));
            if !self.skipped.contains(&sentence) {
                self.skipped.push(sentence);
            }
            return Ok(());
        }
        if !self.order.iter().any(|planned| planned.target == object.target) {
            self.order.push(PlannedSuspension { target: object.target.clone(), role });
        }
        Ok(())
    }
}

fn already_suspended(by: &SuspendedBy) -> String {
    match &by.manager {
        Some(manager) => format!("already suspended by {manager}, stays suspended"),
        None => "already suspended, stays suspended".to_owned(),
    }
}

#[cfg(test)]
#[path = "tests/suspension.rs"]
mod tests;
