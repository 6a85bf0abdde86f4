//! One list of stories about the API server, told to the simulated one and to the real one: what our `kubernetes`
//! crate relies on. Where they differ, the simulator is wrong.

mod cluster;
mod deleting;
mod patching;
mod reading;
mod running;
mod writing;

use cluster::Cluster;
use salve_simulator::{Incident, Simulator};
use salve_tests::control_plane::{ControlPlane, User};
use std::pin::Pin;
use tokio::task::LocalSet;

type Told = Pin<Box<dyn Future<Output = ()>>>;
type Story = (&'static str, fn(Cluster) -> Told);

macro_rules! stories {
    ($($chapter:ident: $($story:ident,)*;)*) => {
        &[$($((stringify!($story), |cluster| Box::pin($chapter::$story(cluster))),)*)*]
    };
}

const STORIES: &[Story] = stories! {
    reading:
        what_is_not_there_is_not_found,
        a_path_that_nothing_serves_is_not_found,
        a_list_says_what_it_is_and_its_items_say_it_where_they_are_custom,
        a_list_comes_in_pages,
        labels_and_fields_select,
        a_watch_tells_what_has_happened_since,
        discovery_names_versions_and_resources,
        a_caller_can_ask_who_it_is,
    ;
    writing:
        creation_fills_in_what_the_server_knows,
        a_taken_name_is_refused,
        a_wrong_document_is_refused,
        generations_count_changes_of_the_spec,
        status_is_a_matter_of_its_own,
    ;
    patching:
        a_patch_for_another_version_is_a_conflict,
        a_patch_for_another_uid_is_refused,
        a_patch_that_changes_nothing_moves_nothing,
        suspend_has_three_states,
        a_patch_leaves_the_name_of_its_manager,
        a_patch_that_cannot_be_applied_is_refused,
        a_dry_run_keeps_nothing,
    ;
    deleting:
        deletion_is_held_to_the_uid_and_version_it_names,
        an_object_stays_until_its_finalizers_are_gone,
        no_finalizer_is_added_to_what_is_being_deleted,
        what_a_deleted_object_owned_goes_after_it,
    ;
    running:
        a_restart_by_annotation_replaces_the_pods,
        a_log_is_bounded_as_asked,
        a_log_that_cannot_be_read_says_why,
    ;
};

#[tokio::test]
async fn the_simulated_api_server_tells_the_stories() {
    LocalSet::new()
        .run_until(tell(|namespace| {
            Cluster::simulated(Simulator::new(Incident::StuckImporter), namespace)
        }))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn the_real_api_server_tells_the_same() {
    let plane = ControlPlane::start().await.unwrap();
    let client = plane.client(User::Administrator).await.unwrap();
    LocalSet::new()
        .run_until(tell(|namespace| Cluster::real(client.clone(), plane.folder(), namespace)))
        .await;
}

/// Tells all stories, each in a namespace of its own, and fails with the names of those that came out otherwise.
async fn tell(cluster: impl Fn(&str) -> Cluster) {
    let mut failed = vec![];
    for (number, (name, story)) in STORIES.iter().enumerate() {
        let cluster = cluster(&format!("story-{number}"));
        // A task, so that the panic of one story is no end of the others.
        let told = tokio::task::spawn_local(async move {
            cluster.open().await;
            story(cluster).await;
        });
        if told.await.is_err() {
            failed.push(*name);
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} stories came out otherwise: {failed:#?}",
        failed.len(),
        STORIES.len()
    );
}
