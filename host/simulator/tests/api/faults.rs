//! Faults on demand, and the audit log that tells what became of each request.

use std::time::Duration;

use http_body_util::BodyExt;
use salve_simulator::{Fault, Incident};
use serde_json::json;

use crate::caller::{Caller, KUSTOMIZATIONS, MERGE};

#[tokio::test]
async fn a_timeout_may_come_before_or_after_the_change() {
    let path = format!("{KUSTOMIZATIONS}/namespaces/media/kustomizations/plex");
    for after in [false, true] {
        let caller = Caller::of(Incident::Playbook);
        let fault = Fault::status(504)
            .on("patch")
            .at("kustomizations/plex")
            .nth(1)
            .delayed(Duration::from_secs(60));
        caller.cluster.fault(if after { fault.after_applying() } else { fault });
        let began = caller.cluster.clock().now();
        let (code, status) = caller.patch(&path, MERGE, &json!({"spec": {"suspend": true}})).await;
        assert_eq!((code, &status["reason"]), (504, &json!("Timeout")));
        assert!(caller.cluster.clock().now().duration_since(began).as_secs() >= 60);
        assert_eq!(caller.get(&path).await.1["spec"].get("suspend").is_some(), after);
        let mutations = caller.cluster.mutations();
        assert_eq!(
            (mutations.len(), mutations[0].applied, mutations[0].status),
            (1, after, Some(504))
        );
        assert_eq!(
            caller.patch(&path, MERGE, &json!({"spec": {"suspend": true}})).await.0,
            200,
            "only the first"
        );
    }
}

#[tokio::test]
async fn refusals_name_their_reason_and_when_to_come_back() {
    let caller = Caller::of(Incident::Healthy);
    caller.cluster.fault(Fault::too_many_requests(7).on("list").first(2));
    let response = caller.send(http::Request::get("/api/v1/pods"), "").await.expect("an answer");
    assert_eq!(response.headers()["retry-after"], "7");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let status: serde_json::Value = serde_json::from_slice(&body).expect("a Status");
    assert_eq!(
        (&status["reason"], &status["details"]["retryAfterSeconds"]),
        (&json!("TooManyRequests"), &json!(7))
    );
    assert_eq!(caller.get("/api/v1/pods").await.0, 429);
    assert_eq!(caller.get("/api/v1/pods").await.0, 200);
}

#[tokio::test]
async fn connections_are_dropped_and_bodies_spoilt() {
    let caller = Caller::of(Incident::Healthy);
    caller.cluster.fault(Fault::dropped().on("GET").at("/nodes").nth(2));
    assert_eq!(caller.get("/api/v1/nodes").await.0, 200);
    assert!(caller.send(http::Request::get("/api/v1/nodes"), "").await.is_err());
    assert_eq!(caller.cluster.exchanges()[1].status, None);
    caller.cluster.fault(Fault::garbage().at("/pods"));
    assert!(caller.get("/api/v1/pods").await.1.is_string());
}

#[tokio::test]
async fn the_audit_log_tells_who_asked_for_what() {
    let caller = Caller::of(Incident::Healthy);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .header("impersonate-user", "jo");
    let (code, answer) = caller.ask(request, &review.to_string()).await;
    assert_eq!((code, &answer["status"]["userInfo"]["username"]), (201, &json!("jo")));
    caller.get("/api/v1/namespaces/media/pods?watch=true&timeoutSeconds=0").await;
    let exchanges = caller.cluster.exchanges();
    assert_eq!((exchanges[0].verb, exchanges[0].impersonated.as_deref()), ("create", Some("jo")));
    assert_eq!(
        (exchanges[1].verb, exchanges[1].user_agent.as_deref()),
        ("watch", Some("tester/1.0"))
    );
    assert_eq!(caller.cluster.mutations(), [], "a review changes nothing");
}

#[tokio::test]
async fn the_same_requests_make_the_same_exchanges() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let caller = Caller::of(Incident::Playbook);
        caller.restart_controller().await;
        caller.wait(900);
        let (_, pvcs) = caller.get("/api/v1/persistentvolumeclaims").await;
        runs.push((caller.cluster.exchanges(), pvcs));
    }
    assert!(runs[0] == runs[1]);
}
