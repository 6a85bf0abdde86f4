//! Reviews of the caller's own access and name: everything is allowed to everyone here.

use serde_json::json;

use super::{Refusal, Reply, Request};

/// Answers a review; `None` for everything else.
pub fn answer(parts: &[&str], request: &Request) -> Result<Option<Reply>, Refusal> {
    let ["apis", group @ ("authorization.k8s.io" | "authentication.k8s.io"), "v1", review] = parts
    else {
        return Ok(None);
    };
    let (kind, status) = match *review {
        "selfsubjectaccessreviews" => (
            "SelfSubjectAccessReview",
            json!({"allowed": true, "reason": "everything is allowed in the simulation"}),
        ),
        "selfsubjectrulesreviews" => (
            "SelfSubjectRulesReview",
            json!({
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": false,
            }),
        ),
        "selfsubjectreviews" => (
            "SelfSubjectReview",
            json!({"userInfo": {
                "username": request.impersonated.as_deref().unwrap_or("simulated-admin"),
                "groups": ["system:masters", "system:authenticated"],
            }}),
        ),
        _ => return Err(Refusal::no_such_path()),
    };
    if request.method != "POST" {
        return Err(Refusal::method_not_allowed());
    }
    // kubectl sends its reviews as protobuf; what they ask does not matter where everything is allowed.
    let asked =
        if request.media_type().ends_with("protobuf") { None } else { request.document()? };
    let mut document = asked
        .unwrap_or_else(|| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "spec": {}}));
    if !document.is_object() {
        return Err(Refusal::new(400, "the object provided is unrecognized: it is not a map"));
    }
    document["status"] = status;
    Ok(Some(Reply::Json(201, document)))
}
