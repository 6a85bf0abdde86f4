//! Get, list, watch, discovery, and reviews.

use crate::cluster::{
    Cluster, KUSTOMIZATIONS, SOURCES, config_map, failure, kustomization, source,
};
use serde_json::{Value, json};

pub async fn a_missing_object_is_not_found(c: Cluster) {
    for (kind, qualified, group) in [
        ("v1/configmaps", "configmaps", None),
        ("apps/v1/deployments", "deployments.apps", Some("apps")),
        (SOURCES, "replicationsources.volsync.backube", Some("volsync.backube")),
    ] {
        let plural = kind.rsplit_once('/').unwrap().1;
        let mut details = json!({"name": "absent", "kind": plural});
        if let Some(group) = group {
            details["group"] = group.into();
        }
        let message = format!("{qualified} \"absent\" not found");
        let status = failure(404, "NotFound", &message, &details);
        assert_eq!(c.get(&format!("{}/absent", c.path(kind))).await, (404, status.clone()));
        assert_eq!(
            c.patch(&format!("{}/absent", c.path(kind)), crate::cluster::MERGE, &json!({})).await,
            (404, status.clone())
        );
        assert_eq!(c.delete(&format!("{}/absent", c.path(kind)), &json!({})).await, (404, status));
    }
}

pub async fn an_unknown_path_is_not_found(c: Cluster) {
    let message = "the server could not find the requested resource";
    let status = failure(404, "NotFound", message, &json!({}));
    for path in ["/apis/apps/v9/deployments", "/apis/apps/v1/things"] {
        assert_eq!(c.get(path).await, (404, status.clone()), "{path}");
    }
    // The response is not a Status if the group is unknown or its kinds are custom.
    for path in [
        "/apis/nowhere.example.org",
        "/apis/nowhere.example.org/v1/things",
        "/apis/volsync.backube/v1alpha1/things",
        "/apis/volsync.backube/v9/things",
    ] {
        assert_eq!(c.get(path).await, (404, json!("404 page not found\n")), "{path}");
    }
}

pub async fn items_of_a_list_have_a_kind_only_if_it_is_custom(c: Cluster) {
    c.create(&c.path("v1/configmaps"), &config_map("one")).await;
    c.create(&c.path(KUSTOMIZATIONS), &kustomization("one")).await;
    let list = c.get_ok(&c.path("v1/configmaps")).await;
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert!(
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item.get("kind").is_none() && item.get("apiVersion").is_none()),
        "{list}"
    );
    let list = c.get_ok(&c.path(KUSTOMIZATIONS)).await;
    assert_eq!(list["kind"], "KustomizationList");
    assert_eq!(
        (&list["items"][0]["kind"], &list["items"][0]["apiVersion"]),
        (&json!("Kustomization"), &json!("kustomize.toolkit.fluxcd.io/v1"))
    );
    assert!(list["metadata"]["resourceVersion"].is_string());
    let empty = c.get_ok(&c.path(SOURCES)).await;
    assert_eq!(empty["items"], json!([]));
}

pub async fn a_list_is_paginated(c: Cluster) {
    let path = c.path(SOURCES);
    for name in ["a", "b", "c", "d", "e"] {
        let mut source = source(name);
        source["metadata"]["labels"] = json!({"vowel": (name == "a" || name == "e").to_string()});
        c.create(&path, &source).await;
    }
    let first = c.get_ok(&format!("{path}?limit=2")).await;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a", "b"], &json!(3))
    );
    let token = |list: &Value| list["metadata"]["continue"].as_str().unwrap().to_owned();
    let second = c.get_ok(&format!("{path}?limit=2&continue={}", token(&first))).await;
    assert_eq!(
        (names(&second), &second["metadata"]["remainingItemCount"]),
        (vec!["c", "d"], &json!(1))
    );
    let last = c.get_ok(&format!("{path}?limit=2&continue={}", token(&second))).await;
    assert_eq!(
        (names(&last), &last["metadata"]["continue"], last["metadata"].get("remainingItemCount")),
        (vec!["e"], &json!(""), None)
    );
    let version = |page: &Value| page["metadata"]["resourceVersion"].clone();
    assert_eq!([version(&second), version(&last)], [version(&first), version(&first)]);

    let some = c.get_ok(&format!("{path}?limit=1&labelSelector=vowel%3Dtrue")).await;
    assert_eq!(
        (names(&some), some["metadata"].get("remainingItemCount")),
        (vec!["a"], None),
        "with a selector, the remaining count is absent"
    );
    let rest = c
        .get_ok(&format!("{path}?limit=1&labelSelector=vowel%3Dtrue&continue={}", token(&some)))
        .await;
    assert_eq!(
        (names(&rest), &rest["metadata"]["continue"]),
        (vec!["e"], &json!("")),
        "an empty token marks the end"
    );
    let maps = c.get_ok(&c.path("v1/configmaps")).await;
    assert_eq!(maps["metadata"].get("continue"), None, "built-in kinds omit the token");
    let (code, status) = c.get(&format!("{path}?limit=1&continue=nonsense")).await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{status}");
}

pub async fn label_and_field_selectors_filter_a_list(c: Cluster) {
    let path = c.path("v1/configmaps");
    for (name, labels) in [
        ("one", json!({"app": "plex", "tier": "web"})),
        ("two", json!({"app": "sonarr"})),
        ("three", json!({"tier": "web"})),
    ] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = labels;
        c.create(&path, &object).await;
    }
    let ours = "metadata.name!%3Dkube-root-ca.crt";
    for (labels, wanted) in [
        ("app%3Dplex", vec!["one"]),
        ("app%3D%3Dplex", vec!["one"]),
        ("app!%3Dplex", vec!["three", "two"]),
        ("app%20in%20(plex,sonarr)", vec!["one", "two"]),
        ("app%20notin%20(plex)", vec!["three", "two"]),
        ("app", vec!["one", "two"]),
        ("!app", vec!["three"]),
        ("app%3Dplex,tier%3Dapi", vec![]),
    ] {
        assert_eq!(
            names(&c.get_ok(&format!("{path}?labelSelector={labels}&fieldSelector={ours}")).await),
            wanted,
            "{labels}"
        );
    }
    assert_eq!(
        names(&c.get_ok(&format!("{path}?fieldSelector=metadata.name%3Dtwo")).await),
        ["two"]
    );
    for wrong in
        ["fieldSelector=data.a%3D1", "fieldSelector=spec.weather%3Dfine", "labelSelector=a%20b"]
    {
        let (code, status) = c.get(&format!("{path}?{wrong}")).await;
        assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{wrong}: {status}");
    }
    let pods = c
        .get_ok(&format!(
            "{}?fieldSelector=status.phase%3DRunning,spec.nodeName%3Dnowhere",
            c.path("v1/pods")
        ))
        .await;
    assert_eq!(pods["items"], json!([]));
    let events = c.path("v1/events");
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "plex.1"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "name": "plex",
            "namespace": c.namespace,
        },
        "reason": "Tested",
        "type": "Normal",
    });
    c.create(&events, &event).await;
    for (field, count) in [
        ("involvedObject.name%3Dplex,involvedObject.kind%3DPersistentVolumeClaim", 1),
        ("involvedObject.kind%3DPod", 0),
        ("reason%3DTested", 1),
    ] {
        assert_eq!(
            names(&c.get_ok(&format!("{events}?fieldSelector={field}")).await).len(),
            count,
            "{field}"
        );
    }
}

pub async fn a_watch_reports_changes_since_a_resource_version(c: Cluster) {
    let path = c.path("v1/configmaps");
    let since = c.get_ok(&path).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    c.create(&path, &config_map("one")).await;
    c.create(&path, &config_map("two")).await;
    c.merge(&format!("{path}/one"), &json!({"data": {"a": "2"}})).await;
    c.delete(&format!("{path}/one"), &json!({})).await;
    let events =
        c.watch(&format!("{path}?resourceVersion={since}&fieldSelector=metadata.name%3Done")).await;
    let changes: Vec<_> = events
        .iter()
        .map(|event| {
            (event["type"].as_str().unwrap(), event["object"]["data"]["a"].as_str().unwrap())
        })
        .collect();
    assert_eq!(changes, [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]);
    assert!(events.iter().all(|event| event["object"]["kind"] == "ConfigMap"), "{events:?}");
    let versions: Vec<u64> = events
        .iter()
        .map(|event| {
            event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    let initial = c.watch(&format!("{path}?fieldSelector=metadata.name%3Dtwo")).await;
    assert_eq!(initial.iter().map(|event| &event["type"]).collect::<Vec<_>>(), ["ADDED"]);
}

pub async fn discovery_lists_versions_and_resources(c: Cluster) {
    let group = c.get_ok("/apis/kustomize.toolkit.fluxcd.io").await;
    assert_eq!(
        (&group["kind"], &group["apiVersion"], &group["name"]),
        (&json!("APIGroup"), &json!("v1"), &json!("kustomize.toolkit.fluxcd.io"))
    );
    assert_eq!(
        group["preferredVersion"],
        json!({"groupVersion": "kustomize.toolkit.fluxcd.io/v1", "version": "v1"})
    );
    assert!(group["versions"].as_array().unwrap().contains(&group["preferredVersion"]));
    let groups = c.get_ok("/apis").await;
    assert_eq!(groups["kind"], "APIGroupList");
    assert!(
        groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "volsync.backube"
            && group["preferredVersion"]["version"] == "v1alpha1")
    );
    for (path, name, kind, namespaced) in [
        ("/api/v1", "pods/log", "Pod", true),
        ("/api/v1", "namespaces", "Namespace", false),
        ("/apis/apps/v1", "deployments", "Deployment", true),
        ("/apis/volsync.backube/v1alpha1", "replicationsources", "ReplicationSource", true),
        ("/apis/volsync.backube/v1alpha1", "replicationsources/status", "ReplicationSource", true),
    ] {
        let list = c.get_ok(path).await;
        assert_eq!(list["kind"], "APIResourceList", "{path}");
        let resource = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|resource| resource["name"] == name)
            .unwrap_or_else(|| panic!("{path} has no {name}"));
        assert_eq!(
            (&resource["kind"], &resource["namespaced"]),
            (&json!(kind), &json!(namespaced))
        );
        assert!(resource["verbs"].as_array().unwrap().contains(&json!("get")), "{resource}");
    }
    let version = c.get_ok("/version").await;
    assert!(
        version["major"] == "1" && version["gitVersion"].as_str().unwrap().starts_with("v1."),
        "{version}"
    );
}

pub async fn a_caller_can_review_its_identity_and_access(c: Cluster) {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let created = c.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await;
    assert_eq!(created["kind"], "SelfSubjectReview");
    assert!(!created["status"]["userInfo"]["username"].as_str().unwrap().is_empty());
    assert!(
        created["status"]["userInfo"]["groups"]
            .as_array()
            .unwrap()
            .contains(&json!("system:authenticated")),
        "{created}"
    );
    let attributes = json!({
        "verb": "delete", "group": "volsync.backube", "resource": "replicationsources",
    });
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let created = c.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await;
    assert_eq!((&created["status"]["allowed"], &created["spec"]), (&json!(true), &review["spec"]));
    assert!(
        c.get_ok("/api/v1/namespaces/kube-system").await["metadata"]["uid"].is_string(),
        "the UID of kube-system identifies the cluster"
    );
}

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}
