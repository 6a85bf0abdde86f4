//! Deletion: preconditions, finalizers, and what goes after.

use crate::cluster::{Cluster, MERGE, SOURCES, config_map, source};
use serde_json::{Value, json};

pub async fn deletion_is_held_to_the_uid_and_version_it_names(c: Cluster) {
    for (kind, object, qualified) in [
        ("v1/configmaps", config_map("one"), "ConfigMap"),
        (SOURCES, source("one"), "ReplicationSource.volsync.backube"),
    ] {
        let path = format!("{}/one", c.path(kind));
        let made = c.made(&c.path(kind), &object).await;
        let (uid, version) = (
            made["metadata"]["uid"].as_str().unwrap(),
            made["metadata"]["resourceVersion"].as_str().unwrap(),
        );
        let held = |uid: &str, version: &str| json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid, "resourceVersion": version}});
        let wrong = "00000000-0000-4000-8000-000000000000";
        let (code, status) = c.delete(&path, &held(wrong, version)).await;
        let message = |field: &str, asked: &str, found: &str, might: &str| {
            let why = format!(
                "the {field} in the precondition ({asked}) does not match the {field} in record ({found}). The object might have been {might}"
            );
            json!(format!("Operation cannot be fulfilled on {qualified} \"one\": {why}"))
        };
        assert_eq!(
            (code, &status["reason"], &status["message"]),
            (409, &json!("Conflict"), &message("UID", wrong, uid, "deleted and then recreated"))
        );
        assert_eq!(
            status["details"]["kind"], object["kind"],
            "the kind, where other conflicts name the resource"
        );
        let (code, status) = c.delete(&path, &held(uid, "1")).await;
        assert_eq!(
            (code, &status["reason"], &status["message"]),
            (409, &json!("Conflict"), &message("ResourceVersion", "1", version, "modified"))
        );
        assert_eq!(c.found(&path).await, made);
        let (code, status) = c.delete(&path, &held(uid, version)).await;
        assert_eq!(
            (code, &status["kind"], &status["status"]),
            (200, &json!("Status"), &json!("Success")),
            "{status}"
        );
        assert_eq!(
            (&status["details"]["name"], &status["details"]["uid"]),
            (&json!("one"), &json!(uid))
        );
        assert_eq!(c.get(&path).await.0, 404);
    }
}

fn guarded(mut object: Value) -> Value {
    object["metadata"]["finalizers"] = json!(["example.org/guard"]);
    object
}

pub async fn an_object_stays_until_its_finalizers_are_gone(c: Cluster) {
    let path = format!("{}/one", c.path(SOURCES));
    let made = c.made(&c.path(SOURCES), &guarded(source("one"))).await;
    let (code, going) = c.delete(&path, &json!({})).await;
    assert_eq!((code, &going["kind"]), (200, &json!("ReplicationSource")), "{going}");
    let metadata = &going["metadata"];
    assert!(
        metadata["deletionTimestamp"].is_string() && metadata["deletionGracePeriodSeconds"] == 0,
        "{metadata}"
    );
    assert_eq!(
        (&made["metadata"]["generation"], &metadata["generation"]),
        (&json!(1), &json!(2)),
        "the wish to be gone is one"
    );
    let (code, again) = c.delete(&path, &json!({})).await;
    assert_eq!(
        (code, &again["metadata"]["resourceVersion"]),
        (200, &metadata["resourceVersion"]),
        "it is asked for once"
    );
    assert_eq!(
        c.post(&c.path(SOURCES), &source("one")).await.0,
        409,
        "its name is taken until it is gone"
    );
    // What is being deleted can still be changed.
    c.merged(&path, &json!({"metadata": {"annotations": {"a": "b"}}})).await;
    c.merged(&path, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(c.get(&path).await.0, 404);
}

pub async fn no_finalizer_is_added_to_what_is_being_deleted(c: Cluster) {
    let path = format!("{}/one", c.path("v1/configmaps"));
    c.made(&c.path("v1/configmaps"), &guarded(config_map("one"))).await;
    c.delete(&path, &json!({})).await;
    let (code, status) = c
        .patch(
            &path,
            MERGE,
            &json!({"metadata": {"finalizers": ["example.org/guard", "example.org/late"]}}),
        )
        .await;
    assert_eq!(
        (code, &status["reason"], &status["details"]["causes"][0]["field"]),
        (422, &json!("Invalid"), &json!("metadata.finalizers")),
        "{status}"
    );
    let (code, status) =
        c.patch(&path, MERGE, &json!({"metadata": {"deletionTimestamp": null}})).await;
    assert_eq!(code, 200, "{status}");
    assert!(c.found(&path).await["metadata"]["deletionTimestamp"].is_string(), "no way back");
}

pub async fn what_a_deleted_object_owned_goes_after_it(c: Cluster) {
    let path = c.path("v1/configmaps");
    let owner = c.made(&c.path(SOURCES), &source("owner")).await;
    let other = c.made(&path, &config_map("other")).await;
    let reference = |version: &str, owner: &Value| json!({"apiVersion": version, "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]});
    let mut child = config_map("child");
    child["metadata"]["ownerReferences"] = json!([reference("volsync.backube/v1alpha1", &owner)]);
    c.made(&path, &child).await;
    let mut shared = config_map("shared");
    shared["metadata"]["ownerReferences"] =
        json!([reference("volsync.backube/v1alpha1", &owner), reference("v1", &other)]);
    c.made(&path, &shared).await;
    let (code, _) = c
        .delete(&format!("{}/owner", c.path(SOURCES)), &json!({"propagationPolicy": "Background"}))
        .await;
    assert_eq!(code, 200);
    assert_eq!(c.get(&format!("{path}/child")).await.0, 200, "deleted is not yet collected");
    c.eventually("the child goes", async || c.get(&format!("{path}/child")).await.0 == 404).await;
    c.found(&format!("{path}/shared")).await;
    c.eventually("the gone owner is taken off the list", async || {
        let owners =
            c.found(&format!("{path}/shared")).await["metadata"]["ownerReferences"].clone();
        owners
            .as_array()
            .is_some_and(|owners| owners.len() == 1 && owners[0]["uid"] == other["metadata"]["uid"])
    })
    .await;
}
