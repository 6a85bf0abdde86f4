//! Workloads and logs, as far as a simulated kubelet supports them.

use crate::cluster::{Cluster, MERGE};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub async fn a_restart_by_annotation_replaces_the_pods(c: Cluster) {
    let path = c.path("apps/v1/deployments");
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "one"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "one"}},
            "template": {
                "metadata": {"labels": {"app": "one"}},
                "spec": {"containers": [{"name": "one", "image": "one"}]},
            },
        },
    });
    let created = c.create(&path, &deployment).await;
    assert_eq!(created["metadata"]["generation"], 1);
    let path = format!("{path}/one");
    let done = async || {
        let now = c.get_ok(&path).await;
        let status = &now["status"];
        status["observedGeneration"] == now["metadata"]["generation"]
            && ["replicas", "updatedReplicas", "availableReplicas", "readyReplicas"]
                .iter()
                .all(|count| status[*count] == 2)
    };
    c.eventually("the first pods are running", done).await;
    let before = pods(&c).await;
    assert_eq!(before.len(), 2);
    let annotations = json!({"kubectl.kubernetes.io/restartedAt": "2026-08-20T10:00:00Z"});
    let restart = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    let restarted = c.merge(&path, &restart).await;
    assert_eq!(restarted["metadata"]["generation"], 2);
    let progressing =
        async || done().await && pods(&c).await.is_disjoint(&before) && pods(&c).await.len() == 2;
    c.eventually("other pods are running", progressing).await;
    let now = c.get_ok(&path).await;
    let condition = |kind: &str| {
        now["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|condition| condition["type"] == kind)
            .unwrap()["reason"]
            .clone()
    };
    assert_eq!(
        (condition("Available"), condition("Progressing")),
        (json!("MinimumReplicasAvailable"), json!("NewReplicaSetAvailable"))
    );
    // Owner references lead from the pod to the ReplicaSet and the Deployment.
    let pods = c.get_ok(&format!("{}?labelSelector=app%3Done", c.path("v1/pods"))).await;
    let owner = &pods["items"][0]["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["controller"]), (&json!("ReplicaSet"), &json!(true)));
    let set = c
        .get_ok(&format!("{}/{}", c.path("apps/v1/replicasets"), owner["name"].as_str().unwrap()))
        .await;
    assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], now["metadata"]["uid"]);
    assert!(
        set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].is_string(),
        "{}",
        set["metadata"]
    );
    assert_eq!(
        set["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        now["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
    );
    assert_eq!(
        c.patch(&path, MERGE, &restart).await.1["metadata"]["generation"],
        2,
        "repeating a restart changes nothing"
    );
}

async fn pods(c: &Cluster) -> BTreeSet<String> {
    let list = c.get_ok(&format!("{}?labelSelector=app%3Done", c.path("v1/pods"))).await;
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned())
        .collect()
}

pub async fn a_log_can_be_limited(c: Cluster) {
    let path = c.log_path().await;
    let read = async |query: &str| match c.get(&format!("{path}?{query}")).await {
        (200, Value::String(text)) => text,
        (code, other) => panic!("{query}: {code} {other}"),
    };
    let all = read("timestamps=true").await;
    let lines: Vec<&str> = all.lines().collect();
    assert!(lines.len() >= 4 && all.ends_with('\n'), "{all}");
    let at = |line: &str| line.split_once(' ').unwrap().0.to_owned();
    assert!(
        lines.iter().all(|line| at(line).len() == "2026-08-20T10:00:00.500000000Z".len()),
        "nanoseconds: {all}"
    );
    assert_eq!(
        read("timestamps=false").await.lines().next(),
        lines[0].split_once(' ').map(|(_, text)| text)
    );
    let tail = read("timestamps=true&tailLines=3").await;
    assert_eq!(tail.lines().collect::<Vec<_>>(), lines[lines.len() - 3..]);
    assert_eq!(read("tailLines=0").await, "");
    let bytes = read("timestamps=true&limitBytes=50").await;
    assert_eq!(bytes, all[..50]);
    // The API server drops fractions of a second, so lines of the same second are repeated.
    let third = at(lines[2]);
    let since = read(&format!("timestamps=true&sinceTime={third}")).await;
    assert_eq!(since.lines().next(), Some(lines[2]));
    let second = format!("{}Z", third.split_once('.').unwrap().0);
    assert_eq!(read(&format!("timestamps=true&sinceTime={second}")).await, since);
}

pub async fn an_invalid_log_request_is_rejected(c: Cluster) {
    let path = c.log_path().await;
    for (query, code, reason) in [
        ("container=absent", 400, "BadRequest"),
        ("tailLines=-1", 422, "Invalid"),
        ("limitBytes=0", 422, "Invalid"),
        ("sinceSeconds=1&sinceTime=2026-08-20T10:00:00Z", 422, "Invalid"),
        ("sinceTime=yesterday", 400, "BadRequest"),
        ("tailLines=many", 400, "BadRequest"),
    ] {
        let (got, status) = c.get(&format!("{path}?{query}")).await;
        assert_eq!(
            (got, &status["kind"], status["reason"].as_str()),
            (code, &json!("Status"), Some(reason)),
            "{query}: {status}"
        );
    }
    let (code, status) = c.get(&path.replace("/log", "-absent/log")).await;
    assert_eq!((code, &status["reason"]), (404, &json!("NotFound")), "{status}");
}
