//! What has to be suspended so that nothing deleted comes back too early, and in which order.
//!
//! Parents first, outermost before all: a parent that owns `spec.suspend` of its child would undo it. The
//! source last, so that it is the first to be resumed and its owners find it awake.

use std::collections::BTreeMap;

use salve_sdk::query_flux::{FluxObject, SuspendedBy};
use salve_sdk::types::FluxRef;

/// What a frozen object is to the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It would undo the suspend of another.
    Parent,
    /// It would make again what is deleted.
    Owner,
    /// The playbook suspends it. Alone it freezes nothing but new commits.
    Source,
}

/// One object to suspend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// The object.
    pub target: FluxRef,
    /// Why.
    pub role: Role,
}

/// What to suspend, and what not to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub order: Vec<Freeze>,
    /// Left alone, one sentence each.
    pub left_alone: Vec<String>,
}

/// Another run of Salve holds one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The object.
    pub target: FluxRef,
    /// The run that its marker names.
    pub run: String,
}

/// Parents that have to be looked at before [`plan`] can tell.
pub fn unknown_parents(
    owners: &[FluxObject],
    known: &BTreeMap<FluxRef, FluxObject>,
) -> Vec<FluxRef> {
    let mut missing: Vec<FluxRef> = Vec::new();
    for object in owners.iter().chain(known.values()) {
        if let Some(parent) = undoing_parent(object) {
            let seen = known.contains_key(parent)
                || owners.iter().any(|owner| owner.target == *parent)
                || missing.contains(parent);
            if !seen {
                missing.push(parent.clone());
            }
        }
    }
    missing
}

/// The parent that would undo a suspend of this object. One that applies itself is frozen by its own suspend.
fn undoing_parent(object: &FluxObject) -> Option<&FluxRef> {
    if object.suspended.is_some() || !object.parent_reverts {
        return None;
    }
    object.parent.as_ref().filter(|parent| **parent != object.target)
}

/// Decides what to suspend. `parents` holds every undoing parent, and theirs.
///
/// # Errors
/// [`Held`] where another run's marker stands on one of them.
pub fn plan(
    owners: &[FluxObject],
    parents: &BTreeMap<FluxRef, FluxObject>,
    source: Option<&FluxObject>,
) -> Result<Plan, Held> {
    let mut plan = Plan::default();
    for owner in owners {
        let mut chain = Vec::new();
        let mut next = undoing_parent(owner);
        while let Some(parent) = next.filter(|parent| !chain.contains(parent)) {
            chain.push(parent);
            let object =
                parents.get(parent).or_else(|| owners.iter().find(|other| other.target == *parent));
            next = object.and_then(undoing_parent);
        }
        for parent in chain.into_iter().rev() {
            let object =
                parents.get(parent).or_else(|| owners.iter().find(|other| other.target == *parent));
            if let Some(object) = object {
                // mutant parent-not-suspended-first: plan.take(object, Role::Parent)? ~> let _ =
                //     (object, Role::Parent)
                plan.take(object, Role::Parent)?;
            }
        }
    }
    for owner in owners {
        // mutant owners-not-suspended: plan.take(owner, Role::Owner)?; ~> if
        //     owner.suspended.is_some() { plan.take(owner, Role::Owner)?; }
        plan.take(owner, Role::Owner)?;
    }
    if let Some(source) = source {
        match undoing_parent(source) {
            Some(parent) if !plan.order.iter().any(|freeze| freeze.target == *parent) => {
                plan.left_alone.push(format!(
                    "{}: {parent} would undo a suspend; its owners are frozen instead",
                    source.target
                ));
            }
            Some(_) | None => plan.take(source, Role::Source)?,
        }
    }
    Ok(plan)
}

impl Plan {
    fn take(&mut self, object: &FluxObject, role: Role) -> Result<(), Held> {
        if let Some(by) = &object.suspended {
            if let Some(run) = &by.run {
                return Err(Held { target: object.target.clone(), run: run.clone() });
            }
            let summary = format!("{}: {}", object.target, suspended_by(by));
            if !self.left_alone.contains(&summary) {
                self.left_alone.push(summary);
            }
            return Ok(());
        }
        if !self.order.iter().any(|freeze| freeze.target == object.target) {
            self.order.push(Freeze { target: object.target.clone(), role });
        }
        Ok(())
    }
}

fn suspended_by(by: &SuspendedBy) -> String {
    match &by.manager {
        Some(manager) => format!("suspended already, by {manager}; it stays so"),
        None => "suspended already; it stays so".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{flux, flux_object, suspended};

    fn child_of(name: &str, parent: &str) -> FluxObject {
        FluxObject { parent: Some(flux(parent)), parent_reverts: true, ..flux_object(name) }
    }

    fn known(objects: &[FluxObject]) -> BTreeMap<FluxRef, FluxObject> {
        objects.iter().map(|object| (object.target.clone(), object.clone())).collect()
    }

    fn order(plan: &Plan) -> Vec<String> {
        plan.order.iter().map(|freeze| freeze.target.name.clone()).collect()
    }

    #[test]
    fn owners_are_frozen_and_the_source_last() {
        let source = flux_object("flux-system/git");
        let plan = plan(&[flux_object("media/a"), flux_object("ai/b")], &known(&[]), Some(&source))
            .expect("free");
        assert_eq!(order(&plan), ["a", "b", "git"]);
        assert_eq!(plan.order[2].role, Role::Source);
    }

    #[test]
    fn a_parent_that_would_undo_it_goes_first_and_its_parent_before() {
        let owner = child_of("media/a", "flux-system/apps");
        let apps = child_of("flux-system/apps", "flux-system/root");
        assert_eq!(
            unknown_parents(std::slice::from_ref(&owner), &known(&[])),
            [flux("flux-system/apps")]
        );
        let parents = known(&[apps, flux_object("flux-system/root")]);
        assert!(unknown_parents(std::slice::from_ref(&owner), &parents).is_empty());
        let plan = plan(&[owner], &parents, None).expect("free");
        assert_eq!(order(&plan), ["root", "apps", "a"]);
        assert_eq!(plan.order[0].role, Role::Parent);
    }

    #[test]
    fn a_parent_that_leaves_suspends_alone_is_not_frozen() {
        let mut owner = child_of("media/a", "flux-system/apps");
        owner.parent_reverts = false;
        let plan = plan(&[owner], &known(&[]), None).expect("free");
        assert_eq!(order(&plan), ["a"]);
    }

    #[test]
    fn parents_in_a_circle_end() {
        let a = child_of("x/a", "x/b");
        let b = child_of("x/b", "x/a");
        let itself = child_of("x/self", "x/self");
        let plan = plan(&[a.clone(), itself], &known(&[a, b]), None).expect("free");
        assert_eq!(plan.order.len(), 3);
    }

    #[test]
    fn what_a_person_suspended_is_left_alone() {
        let mut owner = child_of("media/lidarr", "flux-system/apps");
        owner.suspended = suspended(None);
        assert!(unknown_parents(std::slice::from_ref(&owner), &known(&[])).is_empty());
        let plan = plan(&[owner], &known(&[]), None).expect("free");
        assert!(plan.order.is_empty());
        assert_eq!(
            plan.left_alone,
            ["Kustomization media/lidarr: suspended already, by flux; it stays so"]
        );
    }

    #[test]
    fn what_another_run_holds_is_refused_by_its_id() {
        let mut parent = flux_object("flux-system/apps");
        parent.suspended = suspended(Some("7c1d"));
        let owner = child_of("media/a", "flux-system/apps");
        let held = plan(&[owner], &known(&[parent]), None).expect_err("held");
        assert_eq!(held, Held { target: flux("flux-system/apps"), run: "7c1d".into() });
    }

    #[test]
    fn a_source_whose_parent_would_undo_it_is_left_and_said() {
        let source = child_of("flux-system/git", "flux-system/root");
        let plan = plan(&[flux_object("media/a")], &known(&[]), Some(&source)).expect("free");
        assert_eq!(order(&plan), ["a"]);
        assert!(plan.left_alone[0].contains("would undo"));
    }
}
