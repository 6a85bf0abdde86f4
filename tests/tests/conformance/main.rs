//! Conformance tests of the API server behavior that `salve-kubernetes` relies on. They run against
//! the simulated and the real API server. Where the two differ, the simulator is wrong.

mod cluster;
mod deleting;
mod patching;
mod reading;
mod running;
mod serving;
mod writing;

use cluster::Cluster;
use salve_simulator::{Incident, Simulator};
use salve_tests::control_plane::{ControlPlane, User};
use std::pin::Pin;
use tokio::task::LocalSet;

type TestFuture = Pin<Box<dyn Future<Output = ()>>>;

/// A test with its name.
type Test = (&'static str, fn(Cluster) -> TestFuture);

macro_rules! tests {
    ($($module:ident: $($test:ident,)*;)*) => {
        &[$($((stringify!($test), |cluster| Box::pin($module::$test(cluster))),)*)*]
    };
}

const TESTS: &[Test] = tests! {
    reading:
        a_missing_object_is_not_found,
        an_unknown_path_is_not_found,
        items_of_a_list_have_a_kind_only_if_it_is_custom,
        a_list_is_paginated,
        label_and_field_selectors_filter_a_list,
        a_watch_reports_changes_since_a_resource_version,
        discovery_lists_versions_and_resources,
        a_caller_can_review_its_identity_and_access,
    ;
    writing:
        creation_sets_server_side_metadata,
        a_duplicate_name_is_rejected,
        an_invalid_document_is_rejected,
        the_generation_counts_changes_of_the_spec,
        status_is_only_changed_through_its_subresource,
    ;
    patching:
        a_patch_for_another_version_is_a_conflict,
        a_patch_for_another_uid_is_rejected,
        a_patch_without_a_change_keeps_the_resource_version,
        suspend_has_three_states,
        a_patch_records_its_field_manager,
        a_patch_that_cannot_be_applied_is_rejected,
        a_dry_run_stores_nothing,
    ;
    deleting:
        a_deletion_checks_its_uid_and_version_preconditions,
        an_object_exists_until_its_finalizers_are_removed,
        no_finalizer_can_be_added_during_deletion,
        dependents_of_a_deleted_object_are_collected,
    ;
    running:
        a_restart_by_annotation_replaces_the_pods,
        a_log_can_be_limited,
        an_invalid_log_request_is_rejected,
    ;
    serving:
        a_custom_kind_is_served_in_each_of_its_versions,
        a_version_that_is_not_served_is_not_found,
        a_custom_kind_can_be_cluster_scoped,
        a_kind_is_served_until_its_definition_is_deleted,
        a_volume_attachment_has_its_status_from_the_attacher,
        a_cron_job_can_be_suspended,
        a_node_is_created_with_its_status,
    ;
};

#[tokio::test]
async fn the_simulated_api_server_conforms() {
    LocalSet::new()
        .run_until(run_all(|namespace| {
            Cluster::simulated(Simulator::new(Incident::StuckImporter), namespace)
        }))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn the_real_api_server_conforms() {
    let plane = ControlPlane::start().await.unwrap();
    let client = plane.client(User::Administrator).await.unwrap();
    LocalSet::new()
        .run_until(run_all(|namespace| Cluster::real(client.clone(), plane.folder(), namespace)))
        .await;
}

/// Runs all tests, each in its own namespace. Fails with the names of the failed tests.
async fn run_all(cluster: impl Fn(&str) -> Cluster) {
    let mut failed = vec![];
    for (number, (name, test)) in TESTS.iter().enumerate() {
        let cluster = cluster(&format!("test-{number}"));
        // A separate task, so that the other tests run even if one panics.
        let result = tokio::task::spawn_local(async move {
            cluster.create_namespace().await;
            test(cluster).await;
        });
        if result.await.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{} of {} tests failed: {failed:#?}", failed.len(), TESTS.len());
}
