//! Responses: what each says about the request.
//!
//! A proxy, an ingress, or a load balancer in front of the API server answers 404 too, e.g. while
//! it reloads its configuration, and not always as plain text. What is considered gone is neither
//! released nor read again, so a 404 counts only if it names the object.

use super::MAX_RESPONSE_BYTES;
use crate::failure::{FailureKind, Rejection};
use crate::object::text;
use crate::resource::Resource;
use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

/// What a 404 response to a request can say.
pub(super) enum NotFound {
    /// That one of these objects does not exist, if it names that object.
    Objects(Vec<Subject>),
    /// That the path is not served. The response cannot name anything, so the caller has to confirm
    /// it with a successful response.
    Path,
}

/// An object that a 404 can name.
pub(super) struct Subject {
    /// As in `details.kind`: the plural.
    kind: String,
    name: String,
}

impl Subject {
    pub(super) fn new(resource: &Resource, name: &str) -> Self {
        Self { kind: resource.plural.to_string(), name: name.to_owned() }
    }

    /// Returns true if a `Status` is the API server's answer that this object does not exist. It
    /// always contains the name.
    fn is_absent(&self, status: &Value) -> bool {
        text(status, "/kind") == Some("Status")
            && text(status, "/reason") == Some("NotFound")
            // mutant absence-of-another-object-believed: == Some(self.name.as_str()) ~> .is_some()
            && text(status, "/details/name") == Some(self.name.as_str())
            && text(status, "/details/kind").is_none_or(|kind| kind == self.kind)
    }
}

/// A complete response.
pub(super) struct ApiResponse {
    pub(super) status: StatusCode,
    /// From the header, in seconds.
    retry_after: Option<u64>,
    body: Bytes,
}

impl ApiResponse {
    /// Receives the body.
    pub(super) async fn receive<B>(response: Response<B>) -> Result<Self, FailureKind>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = response.into_parts();
        let body =
            Limited::new(body, MAX_RESPONSE_BYTES).collect().await.map_err(body_error)?.to_bytes();
        let retry_after = head
            .headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok(Self { status: head.status, retry_after, body })
    }

    /// Decodes the body of a successful response, or classifies the failure.
    pub(super) fn decode<T>(
        self,
        not_found: &NotFound,
        decode: fn(Bytes) -> Option<T>,
    ) -> Result<T, FailureKind> {
        if self.status.is_success() {
            return decode(self.body).ok_or_else(|| {
                FailureKind::InDoubt(
                    "response is not valid Kubernetes API JSON; is a proxy in between?".into(),
                )
            });
        }
        let rejection = Rejection::parse(self.status.as_u16(), &self.body, self.retry_after);
        if let (StatusCode::NOT_FOUND, NotFound::Objects(subjects)) = (self.status, not_found) {
            let status: Value = serde_json::from_slice(&self.body).unwrap_or_default();
            // mutant any-404-believed: subjects.iter().any(|subject| subject.is_absent(&status)) ~>
            //     !subjects.is_empty()
            return Err(if subjects.iter().any(|subject| subject.is_absent(&status)) {
                FailureKind::Absent(rejection.message)
            } else {
                FailureKind::InDoubt(NOT_ABOUT_THE_OBJECT.into())
            });
        }
        // These codes may come from a proxy, or after the write reached etcd.
        // mutant gateway-timeout-is-refusal: 500 && ! ~> 500 && rejection.code != 504 && !
        let in_doubt = rejection.code == 408
            || rejection.code >= 500 && !(rejection.code == 503 && rejection.retry_after.is_some());
        Err(if in_doubt {
            FailureKind::InDoubt(format!("status {}: {}", rejection.code, rejection.message))
        } else {
            FailureKind::Rejected(rejection)
        })
    }
}

/// The cause of a failure with a 404 that does not count.
const NOT_ABOUT_THE_OBJECT: &str = "status 404 that does not name the object: something between \
    Salve and the API server answered, e.g. a proxy, or the kind is no longer served; try again";

fn body_error(error: Box<dyn std::error::Error + Send + Sync>) -> FailureKind {
    if error.downcast_ref::<LengthLimitError>().is_some() {
        return FailureKind::InDoubt(format!(
            "response is larger than {} MiB",
            MAX_RESPONSE_BYTES >> 20
        ));
    }
    FailureKind::InDoubt("connection closed before the response was complete".into())
}
