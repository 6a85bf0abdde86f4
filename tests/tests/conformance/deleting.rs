//! Deletion: preconditions, finalizers, and garbage collection.

use crate::cluster::{Cluster, MERGE, SOURCES, config_map, source};
use serde_json::{Value, json};

pub async fn a_deletion_checks_its_uid_and_version_preconditions(c: Cluster) {
    for (kind, object, qualified) in [
        ("v1/configmaps", config_map("one"), "ConfigMap"),
        (SOURCES, source("one"), "ReplicationSource.volsync.backube"),
    ] {
        let path = format!("{}/one", c.path(kind));
        let created = c.create(&c.path(kind), &object).await;
        let (uid, version) = (
            created["metadata"]["uid"].as_str().unwrap(),
            created["metadata"]["resourceVersion"].as_str().unwrap(),
        );
        let options = |uid: &str, version: &str| {
            json!({
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": {"uid": uid, "resourceVersion": version},
            })
        };
        let wrong = "00000000-0000-4000-8000-000000000000";
        let (code, status) = c.delete(&path, &options(wrong, version)).await;
        let message = |field: &str, expected: &str, found: &str, change: &str| {
            let why = format!(
                "the {field} in the precondition ({expected}) does not match the {field} in record \
                 ({found}). The object might have been {change}"
            );
            json!(format!("Operation cannot be fulfilled on {qualified} \"one\": {why}"))
        };
        assert_eq!(
            (code, &status["reason"], &status["message"]),
            (409, &json!("Conflict"), &message("UID", wrong, uid, "deleted and then recreated"))
        );
        assert_eq!(
            status["details"]["kind"], object["kind"],
            "this conflict names the kind, others name the resource"
        );
        let (code, status) = c.delete(&path, &options(uid, "1")).await;
        assert_eq!(
            (code, &status["reason"], &status["message"]),
            (409, &json!("Conflict"), &message("ResourceVersion", "1", version, "modified"))
        );
        assert_eq!(c.get_ok(&path).await, created);
        let (code, status) = c.delete(&path, &options(uid, version)).await;
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

pub async fn an_object_exists_until_its_finalizers_are_removed(c: Cluster) {
    let path = format!("{}/one", c.path(SOURCES));
    let created = c.create(&c.path(SOURCES), &guarded(source("one"))).await;
    let (code, deleted) = c.delete(&path, &json!({})).await;
    assert_eq!((code, &deleted["kind"]), (200, &json!("ReplicationSource")), "{deleted}");
    let metadata = &deleted["metadata"];
    assert!(
        metadata["deletionTimestamp"].is_string() && metadata["deletionGracePeriodSeconds"] == 0,
        "{metadata}"
    );
    assert_eq!(
        (&created["metadata"]["generation"], &metadata["generation"]),
        (&json!(1), &json!(2)),
        "the deletion timestamp increments the generation"
    );
    let (code, again) = c.delete(&path, &json!({})).await;
    assert_eq!(
        (code, &again["metadata"]["resourceVersion"]),
        (200, &metadata["resourceVersion"]),
        "a second deletion changes nothing"
    );
    assert_eq!(
        c.post(&c.path(SOURCES), &source("one")).await.0,
        409,
        "the name stays taken until the object is removed"
    );
    // An object can be changed while it is being deleted.
    c.merge(&path, &json!({"metadata": {"annotations": {"a": "b"}}})).await;
    c.merge(&path, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(c.get(&path).await.0, 404);
}

pub async fn no_finalizer_can_be_added_during_deletion(c: Cluster) {
    let path = format!("{}/one", c.path("v1/configmaps"));
    c.create(&c.path("v1/configmaps"), &guarded(config_map("one"))).await;
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
    assert!(
        c.get_ok(&path).await["metadata"]["deletionTimestamp"].is_string(),
        "a deletion cannot be reverted"
    );
}

pub async fn dependents_of_a_deleted_object_are_collected(c: Cluster) {
    let path = c.path("v1/configmaps");
    let owner = c.create(&c.path(SOURCES), &source("owner")).await;
    let other = c.create(&path, &config_map("other")).await;
    let reference = |version: &str, owner: &Value| {
        json!({
            "apiVersion": version,
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
        })
    };
    let mut child = config_map("child");
    child["metadata"]["ownerReferences"] = json!([reference("volsync.backube/v1alpha1", &owner)]);
    c.create(&path, &child).await;
    let mut shared = config_map("shared");
    shared["metadata"]["ownerReferences"] =
        json!([reference("volsync.backube/v1alpha1", &owner), reference("v1", &other)]);
    c.create(&path, &shared).await;
    let (code, _) = c
        .delete(&format!("{}/owner", c.path(SOURCES)), &json!({"propagationPolicy": "Background"}))
        .await;
    assert_eq!(code, 200);
    assert_eq!(c.get(&format!("{path}/child")).await.0, 200, "dependents are collected later");
    c.eventually("the dependent is collected", async || {
        c.get(&format!("{path}/child")).await.0 == 404
    })
    .await;
    c.get_ok(&format!("{path}/shared")).await;
    c.eventually("the reference to the deleted owner is removed", async || {
        let owners =
            c.get_ok(&format!("{path}/shared")).await["metadata"]["ownerReferences"].clone();
        owners
            .as_array()
            .is_some_and(|owners| owners.len() == 1 && owners[0]["uid"] == other["metadata"]["uid"])
    })
    .await;
}
