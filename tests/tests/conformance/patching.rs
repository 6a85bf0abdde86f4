//! Patches: what they are held to, what they leave.

use crate::cluster::{
    Cluster, JSON_PATCH, KUSTOMIZATIONS, MERGE, SOURCES, STRATEGIC, config_map, kustomization,
    source,
};
use serde_json::{Value, json};

const KINDS: [(&str, &str, Option<&str>); 2] = [
    ("v1/configmaps", "configmaps", None),
    (SOURCES, "replicationsources.volsync.backube", Some("volsync.backube")),
];

fn one(kind: &str) -> Value {
    if kind == SOURCES { source("one") } else { config_map("one") }
}

pub async fn a_patch_for_another_version_is_a_conflict(c: Cluster) {
    for (kind, qualified, group) in KINDS {
        let path = format!("{}/one", c.path(kind));
        let old = c.made(&c.path(kind), &one(kind)).await["metadata"]["resourceVersion"].clone();
        let note = |version: &Value, word: &str| json!({"metadata": {"resourceVersion": version, "annotations": {"note": word}}});
        let new = c.merged(&path, &note(&old, "first")).await;
        assert_ne!(new["metadata"]["resourceVersion"], old);
        let mut details = json!({"name": "one", "kind": kind.rsplit_once('/').unwrap().1});
        if let Some(group) = group {
            details["group"] = group.into();
        }
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Conflict", "code": 409,
            "message": format!("Operation cannot be fulfilled on {qualified} \"one\": {why}"), "details": details});
        assert_eq!(c.patch(&path, MERGE, &note(&old, "second")).await, (409, status));
        assert_eq!(c.found(&path).await, new);
    }
}

pub async fn a_patch_for_another_uid_is_refused(c: Cluster) {
    for (kind, _, _) in KINDS {
        let path = format!("{}/one", c.path(kind));
        let made = c.made(&c.path(kind), &one(kind)).await;
        let note = |uid: &str| json!({"metadata": {"uid": uid, "annotations": {"note": "a"}}});
        let (code, status) =
            c.patch(&path, MERGE, &note("00000000-0000-4000-8000-000000000000")).await;
        // No precondition, as in a deletion: an immutable field.
        assert_eq!(
            (code, &status["reason"], &status["details"]["causes"][0]["field"]),
            (422, &json!("Invalid"), &json!("metadata.uid")),
            "{status}"
        );
        assert_eq!(c.found(&path).await, made);
        c.merged(&path, &note(made["metadata"]["uid"].as_str().unwrap())).await;
    }
}

pub async fn a_patch_that_changes_nothing_moves_nothing(c: Cluster) {
    let path = format!("{}/one?fieldManager=salve", c.path(KUSTOMIZATIONS));
    c.made(&c.path(KUSTOMIZATIONS), &kustomization("one")).await;
    let suspended = c.merged(&path, &json!({"spec": {"suspend": true}})).await;
    assert_eq!(c.merged(&path, &json!({"spec": {"suspend": true}})).await, suspended);
    assert_eq!(
        c.merged(&path, &json!({"metadata": {"annotations": {"absent": null}}})).await,
        suspended
    );
    assert_eq!(
        c.merged(&path, &json!({"metadata": {"uid": suspended["metadata"]["uid"]}})).await,
        suspended
    );
}

pub async fn suspend_has_three_states(c: Cluster) {
    let path = format!("{}/one", c.path(KUSTOMIZATIONS));
    let made = c.made(&c.path(KUSTOMIZATIONS), &kustomization("one")).await;
    assert_eq!(made["spec"].get("suspend"), None);
    for state in [json!(true), json!(false), json!(null), json!(false), json!(true), json!(null)] {
        let merged = c.merged(&path, &json!({"spec": {"suspend": state}})).await;
        let wanted = Some(&state).filter(|state| !state.is_null());
        assert_eq!(merged["spec"].get("suspend"), wanted);
        assert_eq!(c.found(&path).await["spec"].get("suspend"), wanted);
    }
    // Annotations go one by one, and the map with the last of them.
    c.merged(
        &path,
        &json!({"metadata": {"annotations": {"salve.dev/run": "1", "salve.dev/reason": "2"}}}),
    )
    .await;
    let fewer =
        c.merged(&path, &json!({"metadata": {"annotations": {"salve.dev/run": null}}})).await;
    assert_eq!(fewer["metadata"]["annotations"], json!({"salve.dev/reason": "2"}));
    let none =
        c.merged(&path, &json!({"metadata": {"annotations": {"salve.dev/reason": null}}})).await;
    assert_eq!(none["metadata"].get("annotations"), None);
}

pub async fn a_patch_leaves_the_name_of_its_manager(c: Cluster) {
    let path = format!("{}/one", c.path(KUSTOMIZATIONS));
    c.made(&format!("{}?fieldManager=founder", c.path(KUSTOMIZATIONS)), &kustomization("one"))
        .await;
    let fields = |object: &Value, manager: &str| {
        let all = object["metadata"]["managedFields"].as_array().unwrap();
        all.iter()
            .find(|entry| entry["manager"] == manager)
            .map(|entry| (entry["operation"].clone(), without_makers(&entry["fieldsV1"])))
    };
    let ours = format!("{path}?fieldManager=salve");
    let merged = c.merged(&ours, &json!({"spec": {"suspend": true}})).await;
    assert_eq!(
        fields(&merged, "salve"),
        Some((json!("Update"), json!({"f:spec": {"f:suspend": {}}})))
    );
    let merged =
        c.merged(&ours, &json!({"metadata": {"annotations": {"salve.dev/run": "1"}}})).await;
    let wanted = json!({"f:metadata": {"f:annotations": {"f:salve.dev/run": {}}}, "f:spec": {"f:suspend": {}}});
    assert_eq!(fields(&merged, "salve").unwrap().1, wanted);
    // Who sets another value takes the field over.
    let merged =
        c.merged(&format!("{path}?fieldManager=other"), &json!({"spec": {"suspend": false}})).await;
    assert_eq!(fields(&merged, "other").unwrap().1, json!({"f:spec": {"f:suspend": {}}}));
    assert_eq!(
        fields(&merged, "salve").unwrap().1,
        json!({"f:metadata": {"f:annotations": {"f:salve.dev/run": {}}}})
    );
    // What is removed is nobody's.
    let merged = c
        .merged(&ours, &json!({"metadata": {"annotations": null}, "spec": {"suspend": null}}))
        .await;
    assert_eq!((fields(&merged, "salve"), fields(&merged, "other")), (None, None));
    assert!(fields(&merged, "founder").is_some());
}

/// Fields without the dots that say who made a map: the simulator does not know, and nothing of ours asks.
fn without_makers(fields: &Value) -> Value {
    let kept = fields.as_object().unwrap().iter().filter(|(key, _)| *key != ".");
    Value::Object(kept.map(|(key, below)| (key.clone(), without_makers(below))).collect())
}

pub async fn a_patch_that_cannot_be_applied_is_refused(c: Cluster) {
    let (maps, sources) =
        (format!("{}/one", c.path("v1/configmaps")), format!("{}/one", c.path(SOURCES)));
    c.made(&c.path("v1/configmaps"), &config_map("one")).await;
    c.made(&c.path(SOURCES), &source("one")).await;
    let (code, status) = c.patch(&sources, STRATEGIC, &json!({"spec": {}})).await;
    assert_eq!(
        (code, &status["reason"]),
        (415, &json!("UnsupportedMediaType")),
        "a custom kind has no strategy: {status}"
    );
    let test = json!([{"op": "test", "path": "/data/a", "value": "2"}]);
    let (code, status) = c.patch(&maps, JSON_PATCH, &test).await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")), "{status}");
    let (code, status) =
        c.ask(http::Request::patch(&maps).header("content-type", MERGE), b"{".to_vec()).await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{status}");
    let (code, status) = c.patch(&maps, MERGE, &json!({"metadata": {"name": "two"}})).await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{status}");
    let other = c.patch(&maps, "text/plain", &json!({})).await;
    assert_eq!(other.0, 415, "{}", other.1);
}

pub async fn a_dry_run_keeps_nothing(c: Cluster) {
    let path = format!("{}/one", c.path(SOURCES));
    let made = c.made(&c.path(SOURCES), &source("one")).await;
    let dry = c.merged(&format!("{path}?dryRun=All"), &json!({"spec": {"paused": false}})).await;
    assert_eq!(dry["spec"]["paused"], false);
    assert_eq!(c.delete(&path, &json!({"dryRun": ["All"]})).await.0, 200);
    c.made(&format!("{}?dryRun=All", c.path(SOURCES)), &source("two")).await;
    assert_eq!(c.get(&format!("{}/two", c.path(SOURCES))).await.0, 404);
    assert_eq!(c.found(&path).await, made);
    // A trap: with options in the body, those in the query are not read.
    assert_eq!(c.delete(&format!("{path}?dryRun=All"), &json!({})).await.0, 200);
    assert_eq!(c.get(&path).await.0, 404);
}
