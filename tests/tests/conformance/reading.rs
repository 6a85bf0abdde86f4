//! Get, list, watch, and what the server says of itself.

use crate::cluster::{Cluster, KUSTOMIZATIONS, SOURCES, config_map, kustomization, source};
use serde_json::{Value, json};

pub async fn what_is_not_there_is_not_found(c: Cluster) {
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
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404,
            "message": format!("{qualified} \"absent\" not found"), "details": details});
        assert_eq!(c.get(&format!("{}/absent", c.path(kind))).await, (404, status.clone()));
        assert_eq!(
            c.patch(&format!("{}/absent", c.path(kind)), crate::cluster::MERGE, &json!({})).await,
            (404, status.clone())
        );
        assert_eq!(c.delete(&format!("{}/absent", c.path(kind)), &json!({})).await, (404, status));
    }
}

pub async fn a_path_that_nothing_serves_is_not_found(c: Cluster) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404,
        "message": "the server could not find the requested resource", "details": {}});
    for path in ["/apis/apps/v9/deployments", "/apis/apps/v1/things"] {
        assert_eq!(c.get(path).await, (404, status.clone()), "{path}");
    }
    // Nobody speaks of Status where nobody knows the group, or where its kinds are custom.
    for path in [
        "/apis/nowhere.example.org",
        "/apis/nowhere.example.org/v1/things",
        "/apis/volsync.backube/v1alpha1/things",
        "/apis/volsync.backube/v9/things",
    ] {
        assert_eq!(c.get(path).await, (404, json!("404 page not found\n")), "{path}");
    }
}

pub async fn a_list_says_what_it_is_and_its_items_say_it_where_they_are_custom(c: Cluster) {
    c.made(&c.path("v1/configmaps"), &config_map("one")).await;
    c.made(&c.path(KUSTOMIZATIONS), &kustomization("one")).await;
    let list = c.found(&c.path("v1/configmaps")).await;
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert!(
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item.get("kind").is_none() && item.get("apiVersion").is_none()),
        "{list}"
    );
    let list = c.found(&c.path(KUSTOMIZATIONS)).await;
    assert_eq!(list["kind"], "KustomizationList");
    assert_eq!(
        (&list["items"][0]["kind"], &list["items"][0]["apiVersion"]),
        (&json!("Kustomization"), &json!("kustomize.toolkit.fluxcd.io/v1"))
    );
    assert!(list["metadata"]["resourceVersion"].is_string());
    let empty = c.found(&c.path(SOURCES)).await;
    assert_eq!(empty["items"], json!([]));
}

pub async fn a_list_comes_in_pages(c: Cluster) {
    let path = c.path(SOURCES);
    for name in ["a", "b", "c", "d", "e"] {
        let mut source = source(name);
        source["metadata"]["labels"] = json!({"vowel": (name == "a" || name == "e").to_string()});
        c.made(&path, &source).await;
    }
    let first = c.found(&format!("{path}?limit=2")).await;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a", "b"], &json!(3))
    );
    let token = |list: &Value| list["metadata"]["continue"].as_str().unwrap().to_owned();
    let second = c.found(&format!("{path}?limit=2&continue={}", token(&first))).await;
    assert_eq!(
        (names(&second), &second["metadata"]["remainingItemCount"]),
        (vec!["c", "d"], &json!(1))
    );
    let last = c.found(&format!("{path}?limit=2&continue={}", token(&second))).await;
    assert_eq!(
        (names(&last), &last["metadata"]["continue"], last["metadata"].get("remainingItemCount")),
        (vec!["e"], &json!(""), None)
    );
    assert!([&second, &last].iter().all(|page| page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]));

    let some = c.found(&format!("{path}?limit=1&labelSelector=vowel%3Dtrue")).await;
    assert_eq!(
        (names(&some), some["metadata"].get("remainingItemCount")),
        (vec!["a"], None),
        "a selector hides how many remain"
    );
    let rest = c
        .found(&format!("{path}?limit=1&labelSelector=vowel%3Dtrue&continue={}", token(&some)))
        .await;
    assert_eq!(
        (names(&rest), &rest["metadata"]["continue"]),
        (vec!["e"], &json!("")),
        "an empty token is the end, not a beginning"
    );
    let maps = c.found(&c.path("v1/configmaps")).await;
    assert_eq!(maps["metadata"].get("continue"), None, "built-in kinds leave it out");
    let (code, status) = c.get(&format!("{path}?limit=1&continue=nonsense")).await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{status}");
}

pub async fn labels_and_fields_select(c: Cluster) {
    let path = c.path("v1/configmaps");
    for (name, labels) in [
        ("one", json!({"app": "plex", "tier": "web"})),
        ("two", json!({"app": "sonarr"})),
        ("three", json!({"tier": "web"})),
    ] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = labels;
        c.made(&path, &object).await;
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
            names(&c.found(&format!("{path}?labelSelector={labels}&fieldSelector={ours}")).await),
            wanted,
            "{labels}"
        );
    }
    assert_eq!(
        names(&c.found(&format!("{path}?fieldSelector=metadata.name%3Dtwo")).await),
        ["two"]
    );
    for wrong in
        ["fieldSelector=data.a%3D1", "fieldSelector=spec.weather%3Dfine", "labelSelector=a%20b"]
    {
        let (code, status) = c.get(&format!("{path}?{wrong}")).await;
        assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{wrong}: {status}");
    }
    let pods = c
        .found(&format!(
            "{}?fieldSelector=status.phase%3DRunning,spec.nodeName%3Dnowhere",
            c.path("v1/pods")
        ))
        .await;
    assert_eq!(pods["items"], json!([]));
    let events = c.path("v1/events");
    let about = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "plex", "namespace": c.namespace});
    c.made(&events, &json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "plex.1"}, "involvedObject": about, "reason": "Told", "type": "Normal"}))
        .await;
    for (field, there) in [
        ("involvedObject.name%3Dplex,involvedObject.kind%3DPersistentVolumeClaim", 1),
        ("involvedObject.kind%3DPod", 0),
        ("reason%3DTold", 1),
    ] {
        assert_eq!(
            names(&c.found(&format!("{events}?fieldSelector={field}")).await).len(),
            there,
            "{field}"
        );
    }
}

pub async fn a_watch_tells_what_has_happened_since(c: Cluster) {
    let path = c.path("v1/configmaps");
    let since = c.found(&path).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    c.made(&path, &config_map("one")).await;
    c.made(&path, &config_map("two")).await;
    c.merged(&format!("{path}/one"), &json!({"data": {"a": "2"}})).await;
    c.delete(&format!("{path}/one"), &json!({})).await;
    let events =
        c.watch(&format!("{path}?resourceVersion={since}&fieldSelector=metadata.name%3Done")).await;
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            (event["type"].as_str().unwrap(), event["object"]["data"]["a"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told, [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]);
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

pub async fn discovery_names_versions_and_resources(c: Cluster) {
    let group = c.found("/apis/kustomize.toolkit.fluxcd.io").await;
    assert_eq!(
        (&group["kind"], &group["apiVersion"], &group["name"]),
        (&json!("APIGroup"), &json!("v1"), &json!("kustomize.toolkit.fluxcd.io"))
    );
    assert_eq!(
        group["preferredVersion"],
        json!({"groupVersion": "kustomize.toolkit.fluxcd.io/v1", "version": "v1"})
    );
    assert!(group["versions"].as_array().unwrap().contains(&group["preferredVersion"]));
    let groups = c.found("/apis").await;
    assert_eq!(groups["kind"], "APIGroupList");
    assert!(
        groups["groups"].as_array().unwrap().iter().any(|one| one["name"] == "volsync.backube"
            && one["preferredVersion"]["version"] == "v1alpha1")
    );
    for (path, name, kind, namespaced) in [
        ("/api/v1", "pods/log", "Pod", true),
        ("/api/v1", "namespaces", "Namespace", false),
        ("/apis/apps/v1", "deployments", "Deployment", true),
        ("/apis/volsync.backube/v1alpha1", "replicationsources", "ReplicationSource", true),
        ("/apis/volsync.backube/v1alpha1", "replicationsources/status", "ReplicationSource", true),
    ] {
        let list = c.found(path).await;
        assert_eq!(list["kind"], "APIResourceList", "{path}");
        let resource = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == name)
            .unwrap_or_else(|| panic!("{path} has no {name}"));
        assert_eq!(
            (&resource["kind"], &resource["namespaced"]),
            (&json!(kind), &json!(namespaced))
        );
        assert!(resource["verbs"].as_array().unwrap().contains(&json!("get")), "{resource}");
    }
    let version = c.found("/version").await;
    assert!(
        version["major"] == "1" && version["gitVersion"].as_str().unwrap().starts_with("v1."),
        "{version}"
    );
}

pub async fn a_caller_can_ask_who_it_is(c: Cluster) {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let told = c.made("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await;
    assert_eq!(told["kind"], "SelfSubjectReview");
    assert!(!told["status"]["userInfo"]["username"].as_str().unwrap().is_empty());
    assert!(
        told["status"]["userInfo"]["groups"]
            .as_array()
            .unwrap()
            .contains(&json!("system:authenticated")),
        "{told}"
    );
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "delete", "group": "volsync.backube", "resource": "replicationsources"}}});
    let told = c.made("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await;
    assert_eq!((&told["status"]["allowed"], &told["spec"]), (&json!(true), &review["spec"]));
    assert!(
        c.found("/api/v1/namespaces/kube-system").await["metadata"]["uid"].is_string(),
        "the cluster has an identity"
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
