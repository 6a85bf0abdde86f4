//! Workloads and their logs, as far as a pretended kubelet serves them.

use crate::cluster::{Cluster, MERGE};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub async fn a_restart_by_annotation_replaces_the_pods(c: Cluster) {
    let path = c.path("apps/v1/deployments");
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "one"}},
        "template": {"metadata": {"labels": {"app": "one"}}, "spec": {"containers": [{"name": "one", "image": "one"}]}}});
    let made = c.made(&path, &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "one"}, "spec": spec})).await;
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("{path}/one");
    let done = async || {
        let now = c.found(&path).await;
        let status = &now["status"];
        status["observedGeneration"] == now["metadata"]["generation"]
            && ["replicas", "updatedReplicas", "availableReplicas", "readyReplicas"]
                .iter()
                .all(|count| status[*count] == 2)
    };
    c.eventually("the first pods run", done).await;
    let before = pods(&c).await;
    assert_eq!(before.len(), 2);
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-08-20T10:00:00Z"}}}}});
    let restarted = c.merged(&path, &restart).await;
    assert_eq!(restarted["metadata"]["generation"], 2);
    let progressing =
        async || done().await && pods(&c).await.is_disjoint(&before) && pods(&c).await.len() == 2;
    c.eventually("other pods run", progressing).await;
    let now = c.found(&path).await;
    let condition = |kind: &str| {
        now["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["type"] == kind)
            .unwrap()["reason"]
            .clone()
    };
    assert_eq!(
        (condition("Available"), condition("Progressing")),
        (json!("MinimumReplicasAvailable"), json!("NewReplicaSetAvailable"))
    );
    // From pod to ReplicaSet to Deployment by owner references.
    let pods = c.found(&format!("{}?labelSelector=app%3Done", c.path("v1/pods"))).await;
    let owner = &pods["items"][0]["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["controller"]), (&json!("ReplicaSet"), &json!(true)));
    let set = c
        .found(&format!("{}/{}", c.path("apps/v1/replicasets"), owner["name"].as_str().unwrap()))
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
        "the same restart twice is one"
    );
}

async fn pods(c: &Cluster) -> BTreeSet<String> {
    let list = c.found(&format!("{}?labelSelector=app%3Done", c.path("v1/pods"))).await;
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned())
        .collect()
}

pub async fn a_log_is_bounded_as_asked(c: Cluster) {
    let path = c.log().await;
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
    // Fractions of a second are dropped, so that lines of that very second are told again.
    let third = at(lines[2]);
    let since = read(&format!("timestamps=true&sinceTime={third}")).await;
    assert_eq!(since.lines().next(), Some(lines[2]));
    let second = format!("{}Z", third.split_once('.').unwrap().0);
    assert_eq!(read(&format!("timestamps=true&sinceTime={second}")).await, since);
}

pub async fn a_log_that_cannot_be_read_says_why(c: Cluster) {
    let path = c.log().await;
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
