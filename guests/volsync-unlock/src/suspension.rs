//! Decides which Flux objects to suspend, so that nothing deleted comes back too early, and in
//! which order.
//!
//! Parents first, outermost before all others: a parent that applies `spec.suspend` of its child
//! would revert it. The source last, so that it is the first to be resumed and its owners find it
//! active.

use std::collections::BTreeMap;

use salve_sdk::query_flux::{FluxObject, SuspendedBy};
use salve_sdk::types::FluxRef;

/// Why an object is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It would revert the suspend of another object.
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
        if let Some(parent) = reverting_parent(object) {
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
    if object.suspended.is_some() || !object.parent_reverts {
        return None;
    }
    object.parent.as_ref().filter(|parent| **parent != object.target)
}

/// Decides what to suspend. `parents` contains every reverting parent, and their parents.
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
        let mut next = reverting_parent(owner);
        while let Some(parent) = next.filter(|parent| !chain.contains(parent)) {
            chain.push(parent);
            next = find(parent).and_then(reverting_parent);
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
mod tests {
    use super::*;
    use crate::samples::{flux, flux_object, suspended};

    fn child_of(name: &str, parent: &str) -> FluxObject {
        FluxObject { parent: Some(flux(parent)), parent_reverts: true, ..flux_object(name) }
    }

    fn by_target(objects: &[FluxObject]) -> BTreeMap<FluxRef, FluxObject> {
        objects.iter().map(|object| (object.target.clone(), object.clone())).collect()
    }

    fn order(plan: &SuspensionPlan) -> Vec<String> {
        plan.order.iter().map(|planned| planned.target.name.clone()).collect()
    }

    #[test]
    fn owners_are_suspended_and_the_source_last() {
        let source = flux_object("flux-system/git");
        let plan =
            plan(&[flux_object("media/a"), flux_object("ai/b")], &by_target(&[]), Some(&source))
                .expect("no other run");
        assert_eq!(order(&plan), ["a", "b", "git"]);
        assert_eq!(plan.order[2].role, Role::Source);
    }

    #[test]
    fn a_parent_that_would_revert_the_suspend_comes_first_and_its_own_parent_before_it() {
        let owner = child_of("media/a", "flux-system/apps");
        let apps = child_of("flux-system/apps", "flux-system/root");
        assert_eq!(
            missing_parents(std::slice::from_ref(&owner), &by_target(&[])),
            [flux("flux-system/apps")]
        );
        let parents = by_target(&[apps, flux_object("flux-system/root")]);
        assert!(missing_parents(std::slice::from_ref(&owner), &parents).is_empty());
        let plan = plan(&[owner], &parents, None).expect("no other run");
        assert_eq!(order(&plan), ["root", "apps", "a"]);
        assert_eq!(plan.order[0].role, Role::Parent);
    }

    #[test]
    fn a_parent_that_does_not_revert_suspends_is_not_suspended() {
        let mut owner = child_of("media/a", "flux-system/apps");
        owner.parent_reverts = false;
        let plan = plan(&[owner], &by_target(&[]), None).expect("no other run");
        assert_eq!(order(&plan), ["a"]);
    }

    #[test]
    fn a_cycle_of_parents_terminates() {
        let a = child_of("x/a", "x/b");
        let b = child_of("x/b", "x/a");
        let itself = child_of("x/self", "x/self");
        let plan = plan(&[a.clone(), itself], &by_target(&[a, b]), None).expect("no other run");
        assert_eq!(plan.order.len(), 3);
    }

    #[test]
    fn an_object_that_a_user_suspended_is_skipped() {
        let mut owner = child_of("media/lidarr", "flux-system/apps");
        owner.suspended = suspended(None);
        assert!(missing_parents(std::slice::from_ref(&owner), &by_target(&[])).is_empty());
        let plan = plan(&[owner], &by_target(&[]), None).expect("no other run");
        assert!(plan.order.is_empty());
        assert_eq!(
            plan.skipped,
            ["Kustomization media/lidarr: already suspended by flux, stays suspended"]
        );
    }

    #[test]
    fn an_object_that_another_run_suspended_is_rejected_with_its_id() {
        let mut parent = flux_object("flux-system/apps");
        parent.suspended = suspended(Some("7c1d"));
        let owner = child_of("media/a", "flux-system/apps");
        let error = plan(&[owner], &by_target(&[parent]), None).expect_err("another run");
        assert_eq!(error, SuspendedByRun { target: flux("flux-system/apps"), run: "7c1d".into() });
    }

    #[test]
    fn a_source_whose_parent_would_revert_its_suspend_is_skipped_and_reported() {
        let source = child_of("flux-system/git", "flux-system/root");
        let plan =
            plan(&[flux_object("media/a")], &by_target(&[]), Some(&source)).expect("no other run");
        assert_eq!(order(&plan), ["a"]);
        assert!(plan.skipped[0].contains("would revert"));
    }
}
