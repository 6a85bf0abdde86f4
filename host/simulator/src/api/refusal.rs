//! Refusals, as the Status objects that a kube-apiserver answers with.

use serde_json::{Value, json};

use crate::kind::Kind;

/// A request that is refused, with what the caller is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason.
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
    /// What it is about.
    pub details: Box<Value>,
    /// Seconds to wait before another attempt.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal with the usual reason of its code.
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
        Refusal {
            code,
            reason,
            message: message.into(),
            details: Box::new(json!({})),
            retry_after: None,
        }
    }

    /// The same, saying which object it is about.
    pub fn about(mut self, kind: &Kind, name: &str) -> Self {
        *self.details = details(kind, name, kind.plural);
        self
    }

    /// A path that nothing is served on, in a group that is built in.
    pub fn no_such_path() -> Self {
        Refusal::new(404, "the server could not find the requested resource")
    }

    /// A path that no group claims: answered before anyone speaks of Status.
    pub fn no_such_group() -> Self {
        Refusal { reason: PLAIN, ..Refusal::new(404, "404 page not found\n") }
    }

    /// Whether it is told as plain text.
    pub fn is_plain(&self) -> bool {
        self.reason == PLAIN
    }

    /// A method that the path does not take.
    pub fn method_not_allowed() -> Self {
        Refusal::new(405, "the server does not allow this method on the requested resource")
    }

    /// An object that is not there.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Refusal::new(404, format!("{} \"{name}\" not found", kind.qualified())).about(kind, name)
    }

    /// A name that is taken.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let mut refusal =
            Refusal::new(409, format!("{} \"{name}\" already exists", kind.qualified()));
        refusal.reason = "AlreadyExists";
        refusal.about(kind, name)
    }

    /// An object that is no longer what the caller took it for.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Refusal::new(409, message).about(kind, name)
    }

    /// An object that may not be as the caller wants it.
    pub fn invalid(kind: &Kind, name: &str, field: &str, why: &str) -> Self {
        let mut refusal =
            Refusal::new(422, format!("{} \"{name}\" is invalid: {field}: {why}", kind.kind));
        let reason =
            if why.starts_with("Forbidden") { "FieldValueForbidden" } else { "FieldValueInvalid" };
        *refusal.details = details(kind, name, kind.kind);
        refusal.details["causes"] = json!([{"reason": reason, "message": why, "field": field}]);
        refusal
    }

    /// A deletion whose precondition does not hold.
    pub fn unmet(
        kind: &Kind,
        name: &str,
        field: &str,
        asked: &str,
        found: &str,
        might: &str,
    ) -> Self {
        let why = format!(
            "the {field} in the precondition ({asked}) does not match the {field} in record ({found}). The object might have been {might}"
        );
        let qualified = if kind.group.is_empty() {
            kind.kind.to_owned()
        } else {
            format!("{}.{}", kind.kind, kind.group)
        };
        let mut refusal = Refusal::new(
            409,
            format!("Operation cannot be fulfilled on {qualified} \"{name}\": {why}"),
        );
        // Here the API server knows the kind and not the resource.
        *refusal.details = details(kind, name, kind.kind);
        refusal
    }

    /// The Status object.
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

fn details(kind: &Kind, name: &str, what: &str) -> Value {
    let mut details = json!({"name": name});
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    details["kind"] = what.into();
    details
}
