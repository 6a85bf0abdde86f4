//! Patches: preconditions and results.

use crate::cluster::{
    Cluster, JSON_PATCH, KUSTOMIZATIONS, MERGE, SOURCES, STRATEGIC, config_map, failure,
    kustomization, source,
};
use serde_json::{Value, json};

const KINDS: [(&str, &str, Option<&str>); 2] = [
    ("v1/configmaps", "configmaps", None),
    (SOURCES, "replicationsources.volsync.backube", Some("volsync.backube")),
];

fn new_object(kind: &str) -> Value {
    if kind == SOURCES { source("one") } else { config_map("one") }
}

pub async fn a_patch_for_another_version_is_a_conflict(c: Cluster) {
    for (kind, qualified, group) in KINDS {
        let path = format!("{}/one", c.path(kind));
        let old =
            c.create(&c.path(kind), &new_object(kind)).await["metadata"]["resourceVersion"].clone();
        let annotate = |version: &Value, note: &str| {
            let annotations = json!({"note": note});
            json!({"metadata": {"resourceVersion": version, "annotations": annotations}})
        };
        let new = c.merge(&path, &annotate(&old, "first")).await;
        assert_ne!(new["metadata"]["resourceVersion"], old);
        let mut details = json!({"name": "one", "kind": kind.rsplit_once('/').unwrap().1});
        if let Some(group) = group {
            details["group"] = group.into();
        }
        let message = format!(
            "Operation cannot be fulfilled on {qualified} \"one\": the object has been modified; \
             please apply your changes to the latest version and try again"
        );
        let status = failure(409, "Conflict", &message, &details);
        assert_eq!(c.patch(&path, MERGE, &annotate(&old, "second")).await, (409, status));
        assert_eq!(c.get_ok(&path).await, new);
    }
}

pub async fn a_patch_for_another_uid_is_rejected(c: Cluster) {
    for (kind, _, _) in KINDS {
        let path = format!("{}/one", c.path(kind));
        let created = c.create(&c.path(kind), &new_object(kind)).await;
        let annotate = |uid: &str| json!({"metadata": {"uid": uid, "annotations": {"note": "a"}}});
        let (code, status) =
            c.patch(&path, MERGE, &annotate("00000000-0000-4000-8000-000000000000")).await;
        // Unlike in a deletion, the UID is not a precondition but an immutable field.
        assert_eq!(
            (code, &status["reason"], &status["details"]["causes"][0]["field"]),
            (422, &json!("Invalid"), &json!("metadata.uid")),
            "{status}"
        );
        assert_eq!(c.get_ok(&path).await, created);
        c.merge(&path, &annotate(created["metadata"]["uid"].as_str().unwrap())).await;
    }
}

pub async fn a_patch_without_a_change_keeps_the_resource_version(c: Cluster) {
    let path = format!("{}/one?fieldManager=salve", c.path(KUSTOMIZATIONS));
    c.create(&c.path(KUSTOMIZATIONS), &kustomization("one")).await;
    let suspended = c.merge(&path, &json!({"spec": {"suspend": true}})).await;
    assert_eq!(c.merge(&path, &json!({"spec": {"suspend": true}})).await, suspended);
    assert_eq!(
        c.merge(&path, &json!({"metadata": {"annotations": {"absent": null}}})).await,
        suspended
    );
    assert_eq!(
        c.merge(&path, &json!({"metadata": {"uid": suspended["metadata"]["uid"]}})).await,
        suspended
    );
}

pub async fn suspend_has_three_states(c: Cluster) {
    let path = format!("{}/one", c.path(KUSTOMIZATIONS));
    let created = c.create(&c.path(KUSTOMIZATIONS), &kustomization("one")).await;
    assert_eq!(created["spec"].get("suspend"), None);
    for state in [json!(true), json!(false), json!(null), json!(false), json!(true), json!(null)] {
        let merged = c.merge(&path, &json!({"spec": {"suspend": state}})).await;
        let wanted = Some(&state).filter(|state| !state.is_null());
        assert_eq!(merged["spec"].get("suspend"), wanted);
        assert_eq!(c.get_ok(&path).await["spec"].get("suspend"), wanted);
    }
    // Annotations are removed one by one, and the map with the last of them.
    c.merge(
        &path,
        &json!({"metadata": {"annotations": {"salve.dev/run": "1", "salve.dev/reason": "2"}}}),
    )
    .await;
    let fewer =
        c.merge(&path, &json!({"metadata": {"annotations": {"salve.dev/run": null}}})).await;
    assert_eq!(fewer["metadata"]["annotations"], json!({"salve.dev/reason": "2"}));
    let none =
        c.merge(&path, &json!({"metadata": {"annotations": {"salve.dev/reason": null}}})).await;
    assert_eq!(none["metadata"].get("annotations"), None);
}

pub async fn a_patch_records_its_field_manager(c: Cluster) {
    let path = format!("{}/one", c.path(KUSTOMIZATIONS));
    c.create(&format!("{}?fieldManager=founder", c.path(KUSTOMIZATIONS)), &kustomization("one"))
        .await;
    let fields = |object: &Value, manager: &str| {
        let all = object["metadata"]["managedFields"].as_array().unwrap();
        all.iter()
            .find(|entry| entry["manager"] == manager)
            .map(|entry| (entry["operation"].clone(), without_dots(&entry["fieldsV1"])))
    };
    let ours = format!("{path}?fieldManager=salve");
    let merged = c.merge(&ours, &json!({"spec": {"suspend": true}})).await;
    assert_eq!(
        fields(&merged, "salve"),
        Some((json!("Update"), json!({"f:spec": {"f:suspend": {}}})))
    );
    let merged =
        c.merge(&ours, &json!({"metadata": {"annotations": {"salve.dev/run": "1"}}})).await;
    let wanted = json!({
        "f:metadata": {"f:annotations": {"f:salve.dev/run": {}}},
        "f:spec": {"f:suspend": {}},
    });
    assert_eq!(fields(&merged, "salve").unwrap().1, wanted);
    // A manager that sets another value takes over the field.
    let merged =
        c.merge(&format!("{path}?fieldManager=other"), &json!({"spec": {"suspend": false}})).await;
    assert_eq!(fields(&merged, "other").unwrap().1, json!({"f:spec": {"f:suspend": {}}}));
    assert_eq!(
        fields(&merged, "salve").unwrap().1,
        json!({"f:metadata": {"f:annotations": {"f:salve.dev/run": {}}}})
    );
    // A removed field has no manager.
    let merged = c
        .merge(&ours, &json!({"metadata": {"annotations": null}, "spec": {"suspend": null}}))
        .await;
    assert_eq!((fields(&merged, "salve"), fields(&merged, "other")), (None, None));
    assert!(fields(&merged, "founder").is_some());
}

/// Removes the dots, which name the manager that created a map: the simulator does not track it,
/// and Salve does not read it.
fn without_dots(fields: &Value) -> Value {
    let kept = fields.as_object().unwrap().iter().filter(|(key, _)| *key != ".");
    Value::Object(kept.map(|(key, below)| (key.clone(), without_dots(below))).collect())
}

pub async fn a_patch_that_cannot_be_applied_is_rejected(c: Cluster) {
    let (maps, sources) =
        (format!("{}/one", c.path("v1/configmaps")), format!("{}/one", c.path(SOURCES)));
    c.create(&c.path("v1/configmaps"), &config_map("one")).await;
    c.create(&c.path(SOURCES), &source("one")).await;
    let (code, status) = c.patch(&sources, STRATEGIC, &json!({"spec": {}})).await;
    assert_eq!(
        (code, &status["reason"]),
        (415, &json!("UnsupportedMediaType")),
        "custom resources do not support strategic merge patches: {status}"
    );
    let test = json!([{"op": "test", "path": "/data/a", "value": "2"}]);
    let (code, status) = c.patch(&maps, JSON_PATCH, &test).await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")), "{status}");
    let (code, status) =
        c.send(http::Request::patch(&maps).header("content-type", MERGE), b"{".to_vec()).await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{status}");
    let (code, status) = c.patch(&maps, MERGE, &json!({"metadata": {"name": "two"}})).await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{status}");
    let other = c.patch(&maps, "text/plain", &json!({})).await;
    assert_eq!(other.0, 415, "{}", other.1);
}

pub async fn a_dry_run_stores_nothing(c: Cluster) {
    let path = format!("{}/one", c.path(SOURCES));
    let created = c.create(&c.path(SOURCES), &source("one")).await;
    let dry = c.merge(&format!("{path}?dryRun=All"), &json!({"spec": {"paused": false}})).await;
    assert_eq!(dry["spec"]["paused"], false);
    assert_eq!(c.delete(&path, &json!({"dryRun": ["All"]})).await.0, 200);
    c.create(&format!("{}?dryRun=All", c.path(SOURCES)), &source("two")).await;
    assert_eq!(c.get(&format!("{}/two", c.path(SOURCES))).await.0, 404);
    assert_eq!(c.get_ok(&path).await, created);
    // If the body has options, the API server ignores those in the query.
    assert_eq!(c.delete(&format!("{path}?dryRun=All"), &json!({})).await.0, 200);
    assert_eq!(c.get(&path).await.0, 404);
}
