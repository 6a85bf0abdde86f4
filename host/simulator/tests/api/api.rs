//! The simulated API server behaves like a real one.

use std::collections::BTreeSet;

use http_body_util::BodyExt;
use salve_simulator::Incident;
use serde_json::{Value, json};

use crate::caller::{Caller, KUSTOMIZATIONS, MERGE, VOLSYNC};

const CONFIG_MAPS: &str = "/api/v1/namespaces/media/configmaps";

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

#[tokio::test]
async fn discovery_lists_the_served_groups_and_resources() {
    let caller = Caller::new(Incident::Healthy);
    let (_, groups) = caller.get("/apis").await;
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .filter_map(|group| group["name"].as_str())
        .collect();
    assert!(names.contains(&"volsync.backube") && names.contains(&"apps"));
    let (_, resources) = caller.get(VOLSYNC).await;
    assert_eq!(resources["resources"][0]["name"], "replicationsources");
    assert_eq!(caller.get("/api").await.1["versions"], json!(["v1"]));
    assert_eq!(caller.get("/apis/unknown.example.org/v1").await.0, 404);
    assert_eq!(caller.get("/openapi/v3").await.0, 404);
}

#[tokio::test]
async fn protobuf_bodies_are_rejected_except_for_reviews() {
    let caller = Caller::new(Incident::Healthy);
    let post = |path: &str| {
        http::Request::post(path.to_owned())
            .header("content-type", "application/vnd.kubernetes.protobuf")
    };
    let (code, review) =
        caller.request(post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"), "k8s").await;
    assert_eq!(
        (code, &review["kind"], &review["status"]["allowed"]),
        (201, &json!("SelfSubjectAccessReview"), &json!(true))
    );
    assert_eq!(caller.request(post(CONFIG_MAPS), "k8s").await.0, 415);
}

#[tokio::test]
async fn pages_contain_every_object_exactly_once() {
    let caller = Caller::new(Incident::Playbook);
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let (code, page) =
            caller.get(&format!("{VOLSYNC}/replicationsources?limit=7&continue={token}")).await;
        assert_eq!(code, 200);
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 7);
        names.extend(items.iter().map(|item| item["metadata"]["uid"].to_string()));
        match page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    let all = caller.cluster.objects("volsync.backube", "replicationsources", None).len();
    assert_eq!((names.len(), names.iter().collect::<BTreeSet<_>>().len()), (all, all));
    assert_eq!(caller.get("/api/v1/pods?limit=2&continue=1.media.x").await.0, 410);
}

#[tokio::test]
async fn selectors_filter_a_list() {
    let caller = Caller::new(Incident::Playbook);
    let names = |list: Value| -> Vec<String> {
        list["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap_or("").to_owned())
            .collect()
    };
    let (_, one) =
        caller.get("/api/v1/persistentvolumeclaims?fieldSelector=metadata.name%3Dplex").await;
    assert_eq!(names(one), ["plex"]);
    let path = format!(
        "{VOLSYNC}/namespaces/media/replicationsources\
         ?labelSelector=kustomize.toolkit.fluxcd.io/name=lidarr"
    );
    let (_, labelled) = caller.get(&path).await;
    assert_eq!(names(labelled), ["old-lidarr"]);
    let path = "/api/v1/namespaces/media/events\
                ?fieldSelector=involvedObject.name=jellyfin,\
                involvedObject.kind=PersistentVolumeClaim";
    let (_, events) = caller.get(path).await;
    assert_eq!(events["items"][0]["reason"], "ProvisioningFailed");
    assert_eq!(caller.get("/api/v1/pods?fieldSelector=weather=fine").await.0, 400);
}

#[tokio::test]
async fn creation_sets_metadata_and_rejects_a_name_in_use() {
    let caller = Caller::new(Incident::Healthy);
    let (code, made) =
        caller.post(&format!("{CONFIG_MAPS}?fieldManager=salve"), &config_map("one")).await;
    assert_eq!(code, 201);
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["resourceVersion"].is_string());
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "salve");
    let (code, status) = caller.post(CONFIG_MAPS, &config_map("one")).await;
    assert_eq!(
        (code, &status["kind"], &status["reason"]),
        (409, &json!("Status"), &json!("AlreadyExists"))
    );
    let generated =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "run-"}});
    let (_, made) = caller.post(CONFIG_MAPS, &generated).await;
    assert!(made["metadata"]["name"].as_str().is_some_and(|name| name.len() == 9));
    assert_eq!(caller.post(CONFIG_MAPS, &config_map("Not A Name")).await.0, 422);
    assert_eq!(
        caller.post("/api/v1/namespaces/nowhere/configmaps", &config_map("one")).await.0,
        404
    );
    let broken = http::Request::post(CONFIG_MAPS).header("content-type", "application/json");
    assert_eq!(caller.request(broken, "{").await.0, 400);
}

#[tokio::test]
async fn a_patch_is_checked_against_its_resource_version_and_uid() {
    let caller = Caller::new(Incident::Playbook);
    let path = format!("{KUSTOMIZATIONS}/namespaces/media/kustomizations/plex?fieldManager=salve");
    let (_, before) = caller.get(&path).await;
    let version = before["metadata"]["resourceVersion"].clone();
    let suspend = json!({
        "metadata": {"resourceVersion": version, "uid": before["metadata"]["uid"]},
        "spec": {"suspend": true},
    });
    let (code, after) = caller.patch(&path, MERGE, &suspend).await;
    assert_eq!(code, 200);
    assert_eq!(
        after["metadata"]["generation"].as_i64(),
        before["metadata"]["generation"].as_i64().map(|old| old + 1)
    );
    let ours = after["metadata"]["managedFields"]
        .as_array()
        .expect("fields")
        .iter()
        .find(|entry| entry["manager"] == "salve");
    assert_eq!(ours.expect("entry of salve")["fieldsV1"], json!({"f:spec": {"f:suspend": {}}}));

    let (code, status) = caller.patch(&path, MERGE, &suspend).await;
    assert_eq!(
        (code, &status["reason"]),
        (409, &json!("Conflict")),
        "the resource version is outdated"
    );
    let other = json!({
        "metadata": {"uid": "00000000-0000-4000-8000-000000000000"}, "spec": {"suspend": true},
    });
    assert_eq!(caller.patch(&path, MERGE, &other).await.0, 422, "a uid is immutable");
    let (_, again) = caller.patch(&path, MERGE, &json!({"spec": {"suspend": true}})).await;
    assert_eq!(
        again["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"],
        "nothing changed"
    );
    let note =
        json!({"metadata": {"annotations": {"a": "b"}}, "status": {"observedGeneration": 99}});
    let (_, noted) = caller.patch(&path, MERGE, &note).await;
    assert_eq!(
        noted["metadata"]["generation"], after["metadata"]["generation"],
        "an annotation does not change the generation"
    );
    assert_ne!(noted["status"]["observedGeneration"], 99, "status is a subresource");
    assert_eq!(caller.patch(&path, crate::caller::STRATEGIC, &suspend).await.0, 415);
    let dry = format!("{path}&dryRun=All");
    caller.patch(&dry, MERGE, &json!({"spec": {"suspend": false}})).await;
    assert_eq!(caller.get(&path).await.1["spec"]["suspend"], true);
}

#[tokio::test]
async fn a_deletion_is_checked_against_its_preconditions() {
    let caller = Caller::new(Incident::Playbook);
    let path = format!("{VOLSYNC}/namespaces/media/replicationsources/sonarr");
    let (_, object) = caller.get(&path).await;
    let wrong =
        r#"{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"someone-else"}}"#;
    let (code, status) = caller.delete(&path, wrong).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    let right = json!({"preconditions": {
        "uid": object["metadata"]["uid"],
        "resourceVersion": object["metadata"]["resourceVersion"],
    }});
    let (code, status) = caller.delete(&path, &right.to_string()).await;
    assert_eq!(
        (code, &status["status"], &status["details"]["uid"]),
        (200, &json!("Success"), &object["metadata"]["uid"])
    );
    assert_eq!(caller.delete(&path, "").await.0, 404);
    assert_eq!(
        caller.delete(&format!("{VOLSYNC}/namespaces/media/replicationsources"), "").await.0,
        405
    );
}

#[tokio::test]
async fn an_object_with_finalizers_is_removed_after_its_last_finalizer() {
    let caller = Caller::new(Incident::Healthy);
    let mut guarded = config_map("guarded");
    guarded["metadata"]["finalizers"] = json!(["example.org/guard"]);
    caller.post(CONFIG_MAPS, &guarded).await;
    let path = format!("{CONFIG_MAPS}/guarded");
    assert!(caller.delete(&path, "").await.1["metadata"]["deletionTimestamp"].is_string());
    caller.advance(3_600);
    assert_eq!(caller.get(&path).await.0, 200);
    caller.patch(&path, MERGE, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(caller.get(&path).await.0, 404);
}

#[tokio::test]
async fn dependents_are_deleted_according_to_the_propagation_policy() {
    for (policy, child_deleted, owner_waits) in
        [("Background", true, false), ("Foreground", true, true), ("Orphan", false, false)]
    {
        let caller = Caller::new(Incident::Healthy);
        let (_, owner) = caller.post(CONFIG_MAPS, &config_map("owner")).await;
        let mut child = config_map("child");
        child["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
            "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true,
        }]);
        caller.post(CONFIG_MAPS, &child).await;
        let options = format!("{{\"propagationPolicy\":\"{policy}\"}}");
        caller.delete(&format!("{CONFIG_MAPS}/owner"), &options).await;
        assert_eq!(
            caller.get(&format!("{CONFIG_MAPS}/owner")).await.0 == 200,
            owner_waits,
            "{policy}"
        );
        assert_eq!(
            caller.get(&format!("{CONFIG_MAPS}/child")).await.0,
            200,
            "{policy}: garbage-collected later"
        );
        caller.advance(30);
        assert_eq!(caller.get(&format!("{CONFIG_MAPS}/owner")).await.0, 404, "{policy}");
        assert_eq!(
            caller.get(&format!("{CONFIG_MAPS}/child")).await.0 == 404,
            child_deleted,
            "{policy}"
        );
    }
}

#[tokio::test]
async fn a_watch_reports_changes_and_ends_after_its_timeout() {
    let caller = Caller::new(Incident::Healthy);
    let (_, list) = caller.get(CONFIG_MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().expect("version");
    let path = format!(
        "{CONFIG_MAPS}?watch=true&resourceVersion={version}&timeoutSeconds=60\
         &fieldSelector=metadata.name=one"
    );
    let watch = caller.send(http::Request::get(path), "").await.expect("watch");
    let reading = tokio::spawn(watch.into_body().collect());
    tokio::task::yield_now().await;
    caller.post(CONFIG_MAPS, &config_map("one")).await;
    caller.post(CONFIG_MAPS, &config_map("two")).await;
    tokio::task::yield_now().await;
    caller.patch(&format!("{CONFIG_MAPS}/one"), MERGE, &json!({"data": {"a": "2"}})).await;
    caller.delete(&format!("{CONFIG_MAPS}/one"), "").await;
    caller.advance(60);
    let body = reading.await.expect("reader").expect("watch ends").to_bytes();
    let events: Vec<Value> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types, ["ADDED", "MODIFIED", "DELETED"]);
    let (_, expired) = caller.get(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=17")).await;
    assert_eq!((&expired["type"], &expired["object"]["code"]), (&json!("ERROR"), &json!(410)));
}

#[tokio::test]
async fn logs_are_limited_by_the_request_options() {
    let caller = Caller::new(Incident::Playbook);
    let pods = caller.cluster.objects("", "pods", Some("rook-ceph"));
    let pod = pods
        .iter()
        .find_map(|pod| pod["metadata"]["name"].as_str().filter(|name| name.ends_with("w9tzn")));
    let path = format!("/api/v1/namespaces/rook-ceph/pods/{}/log", pod.expect("snapshotter pod"));
    assert_eq!(caller.get(&path).await.0, 400, "the container has to be specified");
    let read = async |query: &str| {
        let (code, log) = caller.get(&format!("{path}?container=csi-rbdplugin&{query}")).await;
        assert_eq!(code, 200);
        log.as_str().expect("text").to_owned()
    };
    let all = read("timestamps=true").await;
    assert!(all.contains("an operation with the given Snapshot ID snapshot-"));
    let tail = read("timestamps=true&tailLines=3").await;
    assert!(tail.lines().count() == 3 && all.ends_with(&tail));
    assert_eq!(read("limitBytes=100").await.len(), 100);
    let last = all.lines().last().and_then(|line| line.split(' ').next()).expect("time");
    assert!(
        !read(&format!("sinceTime={last}")).await.is_empty(),
        "fractions of a second are dropped"
    );
    assert_eq!(
        caller
            .get(&format!("{path}?container=csi-rbdplugin&sinceSeconds=1&sinceTime={last}"))
            .await
            .0,
        422
    );
    assert_eq!(caller.get(&format!("{path}?container=csi-rbdplugin&previous=true")).await.0, 400);

    let follow = caller
        .send(
            http::Request::get(format!("{path}?container=csi-rbdplugin&follow=true&tailLines=1")),
            "",
        )
        .await;
    let reading = tokio::spawn(follow.expect("stream").into_body().collect());
    tokio::task::yield_now().await;
    caller.advance(200);
    tokio::task::yield_now().await;
    caller.restart_controller().await;
    caller.advance(10);
    let followed = reading.await.expect("reader").expect("log ends with the pod").to_bytes();
    assert!(followed.iter().filter(|byte| **byte == b'\n').count() > 4);
}

#[tokio::test]
async fn tables_and_partial_metadata_are_served_on_request() {
    let caller = Caller::new(Incident::Playbook);
    let ask = async |accept: &str| {
        let request =
            http::Request::get("/api/v1/namespaces/home-automation/persistentvolumeclaims")
                .header("accept", accept);
        caller.request(request, "").await.1
    };
    let table = ask("application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await;
    let row =
        table["rows"].as_array().expect("rows").iter().find(|row| row["cells"][0] == "zigbee2mqtt");
    assert_eq!(row.expect("zigbee2mqtt")["cells"][1], "Terminating");
    let partial = ask("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await;
    assert_eq!(
        (&partial["kind"], partial["items"][0].get("spec")),
        (&json!("PartialObjectMetadataList"), None)
    );
}
