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
    let plan = plan(&[flux_object("media/a"), flux_object("ai/b")], &by_target(&[]), Some(&source))
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
fn a_parent_that_checks_the_health_of_its_children_comes_first_and_its_own_parent_before_it() {
    let waited_for = |name, parent| FluxObject {
        parent: Some(flux(parent)),
        parent_waits: true,
        ..flux_object(name)
    };
    let owner = waited_for("media/a", "flux-system/apps");
    let apps = waited_for("flux-system/apps", "flux-system/root");
    let parents = by_target(&[apps, flux_object("flux-system/root")]);
    assert!(missing_parents(std::slice::from_ref(&owner), &parents).is_empty());
    let plan = plan(&[owner], &parents, None).expect("no other run");
    assert_eq!(order(&plan), ["root", "apps", "a"]);
}

#[test]
fn a_parent_that_neither_reverts_suspends_nor_checks_health_is_not_suspended() {
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
