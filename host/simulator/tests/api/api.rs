//! The API server's own behaviour, as a real one behaves.

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
async fn discovery_names_what_is_served() {
    let caller = Caller::of(Incident::Healthy);
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
    assert_eq!(caller.get("/apis/nobody.example.org/v1").await.0, 404);
    assert_eq!(caller.get("/openapi/v3").await.0, 404);
}

#[tokio::test]
async fn bodies_in_protobuf_are_refused_but_for_reviews_which_kubectl_sends_so() {
    let caller = Caller::of(Incident::Healthy);
    let post = |path: &str| {
        http::Request::post(path.to_owned())
            .header("content-type", "application/vnd.kubernetes.protobuf")
    };
    let (code, review) =
        caller.ask(post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"), "k8s").await;
    assert_eq!(
        (code, &review["kind"], &review["status"]["allowed"]),
        (201, &json!("SelfSubjectAccessReview"), &json!(true))
    );
    assert_eq!(caller.ask(post(CONFIG_MAPS), "k8s").await.0, 415);
}

#[tokio::test]
async fn pages_hold_every_object_once() {
    let caller = Caller::of(Incident::Playbook);
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
async fn selectors_narrow_a_list() {
    let caller = Caller::of(Incident::Playbook);
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
    let (_, labelled) = caller.get(&format!("{VOLSYNC}/namespaces/media/replicationsources?labelSelector=kustomize.toolkit.fluxcd.io/name=lidarr")).await;
    assert_eq!(names(labelled), ["old-lidarr"]);
    let (_, events) = caller.get("/api/v1/namespaces/media/events?fieldSelector=involvedObject.name=jellyfin,involvedObject.kind=PersistentVolumeClaim").await;
    assert_eq!(events["items"][0]["reason"], "ProvisioningFailed");
    assert_eq!(caller.get("/api/v1/pods?fieldSelector=weather=fine").await.0, 400);
}

#[tokio::test]
async fn creation_fills_in_and_refuses_a_taken_name() {
    let caller = Caller::of(Incident::Healthy);
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
    assert_eq!(caller.ask(broken, "{").await.0, 400);
}

#[tokio::test]
async fn a_patch_is_held_to_the_version_and_uid_it_names() {
    let caller = Caller::of(Incident::Playbook);
    let path = format!("{KUSTOMIZATIONS}/namespaces/media/kustomizations/plex?fieldManager=salve");
    let (_, before) = caller.get(&path).await;
    let version = before["metadata"]["resourceVersion"].clone();
    let suspend = json!({"metadata": {"resourceVersion": version, "uid": before["metadata"]["uid"]}, "spec": {"suspend": true}});
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
    assert_eq!(ours.expect("our entry")["fieldsV1"], json!({"f:spec": {"f:suspend": {}}}));

    let (code, status) = caller.patch(&path, MERGE, &suspend).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")), "the version has moved");
    let other = json!({"metadata": {"uid": "00000000-0000-4000-8000-000000000000"}, "spec": {"suspend": true}});
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
        "an annotation is no spec"
    );
    assert_ne!(noted["status"]["observedGeneration"], 99, "status is a subresource");
    assert_eq!(caller.patch(&path, crate::caller::STRATEGIC, &suspend).await.0, 415);
    let dry = format!("{path}&dryRun=All");
    caller.patch(&dry, MERGE, &json!({"spec": {"suspend": false}})).await;
    assert_eq!(caller.get(&path).await.1["spec"]["suspend"], true);
}

#[tokio::test]
async fn deletion_is_held_to_its_preconditions() {
    let caller = Caller::of(Incident::Playbook);
    let path = format!("{VOLSYNC}/namespaces/media/replicationsources/sonarr");
    let (_, object) = caller.get(&path).await;
    let wrong =
        r#"{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"someone-else"}}"#;
    let (code, status) = caller.delete(&path, wrong).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    let right = json!({"preconditions": {"uid": object["metadata"]["uid"], "resourceVersion": object["metadata"]["resourceVersion"]}});
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
async fn an_object_with_finalizers_stays_until_they_are_gone() {
    let caller = Caller::of(Incident::Healthy);
    let mut guarded = config_map("guarded");
    guarded["metadata"]["finalizers"] = json!(["example.org/guard"]);
    caller.post(CONFIG_MAPS, &guarded).await;
    let path = format!("{CONFIG_MAPS}/guarded");
    assert!(caller.delete(&path, "").await.1["metadata"]["deletionTimestamp"].is_string());
    caller.wait(3_600);
    assert_eq!(caller.get(&path).await.0, 200);
    caller.patch(&path, MERGE, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(caller.get(&path).await.0, 404);
}

#[tokio::test]
async fn dependents_follow_their_owner_by_the_policy_asked_for() {
    for (policy, goes, waits) in
        [("Background", true, false), ("Foreground", true, true), ("Orphan", false, false)]
    {
        let caller = Caller::of(Incident::Healthy);
        let (_, owner) = caller.post(CONFIG_MAPS, &config_map("owner")).await;
        let mut child = config_map("child");
        child["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
            "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]);
        caller.post(CONFIG_MAPS, &child).await;
        let options = format!("{{\"propagationPolicy\":\"{policy}\"}}");
        caller.delete(&format!("{CONFIG_MAPS}/owner"), &options).await;
        assert_eq!(caller.get(&format!("{CONFIG_MAPS}/owner")).await.0 == 200, waits, "{policy}");
        assert_eq!(
            caller.get(&format!("{CONFIG_MAPS}/child")).await.0,
            200,
            "{policy}: collected later"
        );
        caller.wait(30);
        assert_eq!(caller.get(&format!("{CONFIG_MAPS}/owner")).await.0, 404, "{policy}");
        assert_eq!(caller.get(&format!("{CONFIG_MAPS}/child")).await.0 == 404, goes, "{policy}");
    }
}

#[tokio::test]
async fn a_watch_tells_changes_as_they_happen_and_ends_in_its_time() {
    let caller = Caller::of(Incident::Healthy);
    let (_, list) = caller.get(CONFIG_MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
    let path = format!(
        "{CONFIG_MAPS}?watch=true&resourceVersion={version}&timeoutSeconds=60&fieldSelector=metadata.name=one"
    );
    let watch = caller.send(http::Request::get(path), "").await.expect("a watch");
    let reading = tokio::spawn(watch.into_body().collect());
    tokio::task::yield_now().await;
    caller.post(CONFIG_MAPS, &config_map("one")).await;
    caller.post(CONFIG_MAPS, &config_map("two")).await;
    tokio::task::yield_now().await;
    caller.patch(&format!("{CONFIG_MAPS}/one"), MERGE, &json!({"data": {"a": "2"}})).await;
    caller.delete(&format!("{CONFIG_MAPS}/one"), "").await;
    caller.wait(60);
    let body = reading.await.expect("the reader").expect("the end of the watch").to_bytes();
    let events: Vec<Value> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a line of JSON"))
        .collect();
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types, ["ADDED", "MODIFIED", "DELETED"]);
    let (_, expired) = caller.get(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=17")).await;
    assert_eq!((&expired["type"], &expired["object"]["code"]), (&json!("ERROR"), &json!(410)));
}

#[tokio::test]
async fn logs_are_bounded_as_asked() {
    let caller = Caller::of(Incident::Playbook);
    let pods = caller.cluster.objects("", "pods", Some("rook-ceph"));
    let pod = pods
        .iter()
        .find_map(|pod| pod["metadata"]["name"].as_str().filter(|name| name.ends_with("w9tzn")));
    let path =
        format!("/api/v1/namespaces/rook-ceph/pods/{}/log", pod.expect("the snapshotter's pod"));
    assert_eq!(caller.get(&path).await.0, 400, "a container must be named");
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
    let last = all.lines().last().and_then(|line| line.split(' ').next()).expect("a time");
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
    let reading = tokio::spawn(follow.expect("a stream").into_body().collect());
    tokio::task::yield_now().await;
    caller.wait(200);
    tokio::task::yield_now().await;
    caller.restart_controller().await;
    caller.wait(10);
    let granted_namespaces =
        reading.await.expect("the reader").expect("the end with the pod").to_bytes();
    assert!(granted_namespaces.iter().filter(|byte| **byte == b'\n').count() > 4);
}

#[tokio::test]
async fn tables_and_bare_metadata_are_served_to_those_who_ask() {
    let caller = Caller::of(Incident::Playbook);
    let ask = async |accept: &str| {
        let request =
            http::Request::get("/api/v1/namespaces/home-automation/persistentvolumeclaims")
                .header("accept", accept);
        caller.ask(request, "").await.1
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
