//! Create, generations, and the status subresource.

use crate::cluster::{
    Cluster, KUSTOMIZATIONS, MERGE, SOURCES, config_map, failure, kustomization, source,
};
use serde_json::{Value, json};

pub async fn creation_sets_server_side_metadata(c: Cluster) {
    let created = c
        .create(&format!("{}?fieldManager=salve", c.path("v1/configmaps")), &config_map("one"))
        .await;
    let metadata = &created["metadata"];
    assert_eq!(
        (&metadata["namespace"], metadata["uid"].as_str().unwrap().len()),
        (&json!(c.namespace), 36)
    );
    assert!(metadata["resourceVersion"].as_str().unwrap().parse::<u64>().is_ok());
    assert!(
        metadata["creationTimestamp"]
            .as_str()
            .is_some_and(|at| at.len() == 20 && at.ends_with('Z')),
        "{metadata}"
    );
    assert_eq!(
        (&metadata["managedFields"][0]["manager"], &metadata["managedFields"][0]["operation"]),
        (&json!("salve"), &json!("Update"))
    );
    assert!(metadata["managedFields"][0]["fieldsV1"]["f:data"]["f:a"].is_object(), "{metadata}");
    assert_eq!((&created["kind"], &created["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    let mut named = config_map("run");
    named["metadata"] = json!({"generateName": "run-"});
    let created = c.create(&c.path("v1/configmaps"), &named).await;
    assert_eq!(created["metadata"]["name"].as_str().unwrap().len(), "run-".len() + 5);
}

pub async fn a_duplicate_name_is_rejected(c: Cluster) {
    for (kind, object, group) in [
        ("v1/configmaps", config_map("one"), None),
        (SOURCES, source("one"), Some("volsync.backube")),
    ] {
        let plural = kind.rsplit_once('/').unwrap().1;
        c.create(&c.path(kind), &object).await;
        let qualified = group.map_or(plural.to_owned(), |group| format!("{plural}.{group}"));
        let mut details = json!({"name": "one", "kind": plural});
        if let Some(group) = group {
            details["group"] = group.into();
        }
        let message = format!("{qualified} \"one\" already exists");
        let status = failure(409, "AlreadyExists", &message, &details);
        assert_eq!(c.post(&c.path(kind), &object).await, (409, status));
    }
}

pub async fn an_invalid_document_is_rejected(c: Cluster) {
    let path = c.path("v1/configmaps");
    let rejected = async |path: &str, object: &Value| {
        let (code, status) = c.post(path, object).await;
        (code, status["reason"].as_str().unwrap_or_default().to_owned(), status)
    };
    let (code, reason, status) = rejected(&path, &config_map("Not A Name")).await;
    assert_eq!((code, reason.as_str()), (422, "Invalid"), "{status}");
    assert_eq!(
        (&status["details"]["kind"], &status["details"]["causes"][0]["field"]),
        (&json!("ConfigMap"), &json!("metadata.name"))
    );
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldValueInvalid");
    let (code, reason, status) =
        rejected("/api/v1/namespaces/nowhere/configmaps", &config_map("one")).await;
    assert_eq!(
        (code, reason.as_str(), &status["details"]),
        (404, "NotFound", &json!({"name": "nowhere", "kind": "namespaces"})),
        "{status}"
    );
    let mut nameless = config_map("one");
    nameless["metadata"] = json!({});
    let (code, reason, status) = rejected(&path, &nameless).await;
    assert_eq!((code, reason.as_str()), (422, "Invalid"), "{status}");
    let (code, reason, status) = rejected(&path, &source("one")).await;
    assert_eq!((code, reason.as_str()), (400, "BadRequest"), "{status}");
    let mut elsewhere = config_map("one");
    elsewhere["metadata"]["namespace"] = "default".into();
    let (code, reason, status) = rejected(&path, &elsewhere).await;
    assert_eq!((code, reason.as_str()), (400, "BadRequest"), "{status}");
    let (code, status) = c
        .send(http::Request::post(&path).header("content-type", "application/json"), b"{".to_vec())
        .await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{status}");
}

pub async fn the_generation_counts_changes_of_the_spec(c: Cluster) {
    let path = format!("{}/one", c.path(KUSTOMIZATIONS));
    let created = c.create(&c.path(KUSTOMIZATIONS), &kustomization("one")).await;
    assert_eq!(created["metadata"]["generation"], 1);
    assert_eq!(
        c.merge(&path, &json!({"spec": {"suspend": true}})).await["metadata"]["generation"],
        2
    );
    let annotations = json!({"metadata": {"annotations": {"a": "b"}}});
    assert_eq!(c.merge(&path, &annotations).await["metadata"]["generation"], 2);
    assert_eq!(
        c.merge(&path, &json!({"metadata": {"generation": 9}})).await["metadata"]["generation"],
        2
    );
    assert_eq!(
        c.merge(&path, &json!({"spec": {"suspend": null}})).await["metadata"]["generation"],
        3
    );
    let created = c.create(&c.path("v1/configmaps"), &config_map("one")).await;
    assert_eq!(created["metadata"].get("generation"), None, "a ConfigMap has no generation");
}

pub async fn status_is_only_changed_through_its_subresource(c: Cluster) {
    let path = format!("{}/one", c.path(SOURCES));
    let mut object = source("one");
    object["status"] = json!({"lastManualSync": "never"});
    assert_eq!(c.create(&c.path(SOURCES), &object).await.get("status"), None);
    let status = json!({"status": {"lastManualSync": "once"}, "spec": {"paused": false}});
    let patched = c.merge(&format!("{path}/status"), &status).await;
    assert_eq!(
        (&patched["status"]["lastManualSync"], &patched["spec"]["paused"]),
        (&json!("once"), &json!(true))
    );
    let patched = c.merge(&path, &json!({"status": {"lastManualSync": "twice"}})).await;
    assert_eq!(patched["status"]["lastManualSync"], "once");
    assert_eq!(patched["metadata"]["generation"], 1);
    assert_eq!(
        c.patch(&format!("{}/one/status", c.path("v1/configmaps")), MERGE, &json!({})).await.0,
        404
    );
}
