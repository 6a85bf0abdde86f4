//! Fault injection, and the audit log of requests and responses.

use std::time::Duration;

use http_body_util::BodyExt;
use salve_simulator::{Fault, Incident};
use serde_json::json;

use crate::caller::{Caller, KUSTOMIZATIONS, MERGE};

#[tokio::test]
async fn a_request_that_times_out_may_or_may_not_have_been_applied() {
    let path = format!("{KUSTOMIZATIONS}/namespaces/media/kustomizations/plex");
    for after in [false, true] {
        let caller = Caller::new(Incident::Playbook);
        let fault = Fault::status(504)
            .on("patch")
            .at("kustomizations/plex")
            .nth(1)
            .delayed(Duration::from_secs(60));
        caller.cluster.fault(if after { fault.after_applying() } else { fault });
        let start = caller.cluster.clock().now();
        let (code, status) = caller.patch(&path, MERGE, &json!({"spec": {"suspend": true}})).await;
        assert_eq!((code, &status["reason"]), (504, &json!("Timeout")));
        assert!(caller.cluster.clock().now().duration_since(start).as_secs() >= 60);
        assert_eq!(caller.get(&path).await.1["spec"].get("suspend").is_some(), after);
        let mutations = caller.cluster.mutations();
        assert_eq!(
            (mutations.len(), mutations[0].applied, mutations[0].status),
            (1, after, Some(504))
        );
        assert_eq!(
            caller.patch(&path, MERGE, &json!({"spec": {"suspend": true}})).await.0,
            200,
            "the fault affects only the first request"
        );
    }
}

#[tokio::test]
async fn an_injected_429_has_a_reason_and_a_retry_after_header() {
    let caller = Caller::new(Incident::Healthy);
    caller.cluster.fault(Fault::too_many_requests(7).on("list").first(2));
    let response = caller.send(http::Request::get("/api/v1/pods"), "").await.expect("response");
    assert_eq!(response.headers()["retry-after"], "7");
    let body = response.into_body().collect().await.expect("body").to_bytes();
    let status: serde_json::Value = serde_json::from_slice(&body).expect("Status");
    assert_eq!(
        (&status["reason"], &status["details"]["retryAfterSeconds"]),
        (&json!("TooManyRequests"), &json!(7))
    );
    assert_eq!(caller.get("/api/v1/pods").await.0, 429);
    assert_eq!(caller.get("/api/v1/pods").await.0, 200);
}

#[tokio::test]
async fn faults_drop_connections_and_corrupt_bodies() {
    let caller = Caller::new(Incident::Healthy);
    caller.cluster.fault(Fault::dropped().on("GET").at("/nodes").nth(2));
    assert_eq!(caller.get("/api/v1/nodes").await.0, 200);
    assert!(caller.send(http::Request::get("/api/v1/nodes"), "").await.is_err());
    assert_eq!(caller.cluster.exchanges()[1].status, None);
    caller.cluster.fault(Fault::garbage().at("/pods"));
    assert!(caller.get("/api/v1/pods").await.1.is_string());
    caller.cluster.fault(Fault::foreign(404, "404 page not found").at("/nodes"));
    assert_eq!(caller.get("/api/v1/nodes").await, (404, json!("404 page not found")));
}

#[tokio::test]
async fn a_group_whose_crds_are_uninstalled_is_not_served_or_listed() {
    let caller = Caller::new(Incident::Healthy);
    let groups = async |caller: &Caller| caller.get("/apis").await.1["groups"].to_string();
    assert!(groups(&caller).await.contains("volsync.backube"));
    caller.cluster.uninstall("volsync.backube");
    assert!(!groups(&caller).await.contains("volsync.backube"));
    for path in ["", "/v1alpha1", "/v1alpha1/replicationsources"] {
        let path = format!("/apis/volsync.backube{path}");
        assert_eq!(caller.get(&path).await, (404, json!("404 page not found\n")), "{path}");
    }
}

#[tokio::test]
async fn the_audit_log_contains_verb_user_agent_and_impersonated_user() {
    let caller = Caller::new(Incident::Healthy);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .header("impersonate-user", "jo");
    let (code, document) = caller.request(request, &review.to_string()).await;
    assert_eq!((code, &document["status"]["userInfo"]["username"]), (201, &json!("jo")));
    caller.get("/api/v1/namespaces/media/pods?watch=true&timeoutSeconds=0").await;
    let exchanges = caller.cluster.exchanges();
    assert_eq!((exchanges[0].verb, exchanges[0].impersonated.as_deref()), ("create", Some("jo")));
    assert_eq!(
        (exchanges[1].verb, exchanges[1].user_agent.as_deref()),
        ("watch", Some("tester/1.0"))
    );
    assert_eq!(caller.cluster.mutations(), [], "a review is not a mutation");
}

#[tokio::test]
async fn the_same_requests_produce_the_same_exchanges() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let caller = Caller::new(Incident::Playbook);
        caller.restart_controller().await;
        caller.advance(900);
        let (_, pvcs) = caller.get("/api/v1/persistentvolumeclaims").await;
        runs.push((caller.cluster.exchanges(), pvcs));
    }
    assert!(runs[0] == runs[1]);
}
