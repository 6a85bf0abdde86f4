//! Errors, as the Status objects of a kube-apiserver.

use serde_json::{Value, json};

use crate::kind::Kind;

/// The error response to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    pub code: u16,
    /// The machine-readable reason.
    pub reason: &'static str,
    pub message: String,
    /// `details` of the Status object.
    pub details: Box<Value>,
    /// Seconds until the client may retry.
    pub retry_after: Option<u32>,
}

impl ApiError {
    /// Creates an error with the default reason of its status code.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            406 => "NotAcceptable",
            409 => "Conflict",
            410 => "Expired",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        };
        ApiError {
            code,
            reason,
            message: message.into(),
            details: Box::new(json!({})),
            retry_after: None,
        }
    }

    /// Sets the object in `details`.
    pub fn with_object(mut self, kind: &Kind, name: &str) -> Self {
        *self.details = details(kind, name, kind.plural);
        self
    }

    /// The error for a path that is not served, in a built-in group.
    pub fn unknown_path() -> Self {
        ApiError::new(404, "the server could not find the requested resource")
    }

    /// The error for a path outside all groups. It is plain text, not a Status.
    pub fn unknown_group() -> Self {
        ApiError { reason: PLAIN, ..ApiError::new(404, "404 page not found\n") }
    }

    /// Returns whether the response is plain text instead of a Status.
    pub fn is_plain_text(&self) -> bool {
        self.reason == PLAIN
    }

    pub fn method_not_allowed() -> Self {
        ApiError::new(405, "the server does not allow this method on the requested resource")
    }

    pub fn not_found(kind: &Kind, name: &str) -> Self {
        ApiError::new(404, format!("{} \"{name}\" not found", kind.qualified()))
            .with_object(kind, name)
    }

    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let mut error =
            ApiError::new(409, format!("{} \"{name}\" already exists", kind.qualified()));
        error.reason = "AlreadyExists";
        error.with_object(kind, name)
    }

    /// The error for an object that changed since the caller read it.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        ApiError::new(409, message).with_object(kind, name)
    }

    /// The error for an object that fails validation.
    pub fn invalid(kind: &Kind, name: &str, field: &str, why: &str) -> Self {
        let mut error =
            ApiError::new(422, format!("{} \"{name}\" is invalid: {field}: {why}", kind.kind));
        let reason =
            if why.starts_with("Forbidden") { "FieldValueForbidden" } else { "FieldValueInvalid" };
        *error.details = details(kind, name, kind.kind);
        error.details["causes"] = json!([{"reason": reason, "message": why, "field": field}]);
        error
    }

    /// The error for a deletion whose precondition is not met.
    pub fn precondition_failed(
        kind: &Kind,
        name: &str,
        field: &str,
        expected: &str,
        found: &str,
        reason: &str,
    ) -> Self {
        let why = format!(
            "the {field} in the precondition ({expected}) does not match the {field} in record \
             ({found}). The object might have been {reason}"
        );
        let qualified = if kind.group.is_empty() {
            kind.kind.to_owned()
        } else {
            format!("{}.{}", kind.kind, kind.group)
        };
        let mut error = ApiError::new(
            409,
            format!("Operation cannot be fulfilled on {qualified} \"{name}\": {why}"),
        );
        // The API server reports the kind here, not the resource.
        *error.details = details(kind, name, kind.kind);
        error
    }

    /// Returns the Status object.
    pub fn status(&self) -> Value {
        let mut details = (*self.details).clone();
        if let Some(seconds) = self.retry_after {
            details["retryAfterSeconds"] = seconds.into();
        }
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": details, "code": self.code,
        })
    }
}

const PLAIN: &str = "plain";

fn details(kind: &Kind, name: &str, kind_name: &str) -> Value {
    let mut details = json!({"name": name});
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    details["kind"] = kind_name.into();
    details
}
