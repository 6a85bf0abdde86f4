//! Reviews of the caller's own access and identity. Everything is allowed.

use serde_json::json;

use super::{ApiError, Reply, Request};

/// Handles a review. Returns `None` for all other paths.
pub fn handle(parts: &[&str], request: &Request) -> Result<Option<Reply>, ApiError> {
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
        _ => return Err(ApiError::unknown_path()),
    };
    if request.method != "POST" {
        return Err(ApiError::method_not_allowed());
    }
    // kubectl sends reviews as protobuf. Their content does not matter: everything is allowed.
    let document =
        if request.media_type().ends_with("protobuf") { None } else { request.document()? };
    let mut document = document
        .unwrap_or_else(|| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "spec": {}}));
    if !document.is_object() {
        return Err(ApiError::new(400, "the object provided is unrecognized: it is not a map"));
    }
    document["status"] = status;
    Ok(Some(Reply::Json(201, document)))
}
