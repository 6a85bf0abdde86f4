//! Failed requests: what is known about each, and whether it may be sent again.

use crate::egress::Blocked;
use crate::object::truncated;
use hyper_util::client::legacy;
use kube::client::AuthError;
use salve_core::outcome::Error;
use std::fmt;
use std::io;

/// A request that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The request, for messages: `patch kustomizations.kustomize.toolkit.fluxcd.io media/plex`.
    pub request: String,
    pub kind: FailureKind,
    /// The response did not arrive, or not completely, within the time for one attempt.
    pub timed_out: bool,
}

/// How a request failed, which decides whether a write may have been applied.
#[derive(Debug)]
pub(crate) enum FailureKind {
    /// The API server rejected the request; it was not applied.
    Rejected(Rejection),
    /// The object, or the namespace to create it in, does not exist: the API server said so about
    /// exactly that one. Contains its message.
    Absent(String),
    /// The request never reached the API server.
    NotSent(String),
    /// No response arrived, or none that can be read. The request may have been applied, or may
    /// still be applied later.
    InDoubt(String),
    /// The credentials could not be obtained. Nothing was sent.
    Credentials(String),
    /// The egress guard blocked the request. Nothing was sent.
    Blocked(Error),
}

/// The API server's `Status` response to a rejected request.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub code: u16,
    pub reason: String,
    pub message: String,
    /// In seconds.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// Returns the HTTP status code if the API server rejected the request. None if the object does
    /// not exist: see [`is_absent`](Self::is_absent).
    pub(crate) fn code(&self) -> Option<u16> {
        match &self.kind {
            FailureKind::Rejected(rejection) => Some(rejection.code),
            FailureKind::Absent(_)
            | FailureKind::NotSent(_)
            | FailureKind::InDoubt(_)
            | FailureKind::Credentials(_)
            | FailureKind::Blocked(_) => None,
        }
    }

    /// Returns true if the request was not applied because the object was replaced or changed.
    pub(crate) fn is_stale(&self) -> bool {
        match &self.kind {
            FailureKind::Rejected(rejection) => {
                rejection.code == 409 || rejection.is_uid_mismatch()
            }
            FailureKind::Absent(_)
            | FailureKind::NotSent(_)
            | FailureKind::InDoubt(_)
            | FailureKind::Credentials(_)
            | FailureKind::Blocked(_) => false,
        }
    }

    /// Returns true if the object does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.kind, FailureKind::Absent(_))
    }

    /// Returns true if the request may have been applied.
    pub(crate) fn is_in_doubt(&self) -> bool {
        matches!(self.kind, FailureKind::InDoubt(_))
    }

    /// Returns true if the same request may be sent again. A `repeatable` request may be sent
    /// again even if it is in doubt.
    pub(crate) fn is_retryable(&self, repeatable: bool) -> bool {
        match &self.kind {
            // A 503 with Retry-After; every other 5xx is in doubt.
            FailureKind::Rejected(rejection) => rejection.code == 429 || rejection.code == 503,
            FailureKind::NotSent(_) => true,
            // mutant lost-write-resent: repeatable ~> repeatable || self.is_in_doubt()
            FailureKind::InDoubt(_) => repeatable,
            FailureKind::Absent(_) | FailureKind::Credentials(_) | FailureKind::Blocked(_) => false,
        }
    }

    /// Returns the cause without the request, for reports.
    pub(crate) fn message(&self) -> String {
        self.kind.message().to_owned()
    }
}

impl FailureKind {
    /// Returns for how many seconds the API server asked to send nothing.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Rejected(rejection) => rejection.retry_after,
            Self::Absent(_)
            | Self::NotSent(_)
            | Self::InDoubt(_)
            | Self::Credentials(_)
            | Self::Blocked(_) => None,
        }
    }

    /// Returns the cause.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Rejected(rejection) => &rejection.message,
            Self::Absent(why)
            | Self::NotSent(why)
            | Self::InDoubt(why)
            | Self::Credentials(why) => why,
            Self::Blocked(error) => error.text(),
        }
    }
}

impl Rejection {
    /// Returns true if the request named the uid of an object that was since replaced. A uid is
    /// immutable, so patching another object's uid into a custom resource is a validation error.
    fn is_uid_mismatch(&self) -> bool {
        self.code == 422 && self.message.contains("metadata.uid")
    }

    /// Returns true if admission control rejected the request, which it may do with the status
    /// code of an invalid object.
    fn is_by_admission(&self) -> bool {
        self.code == 422
            && ["ValidatingAdmissionPolicy", "admission webhook"]
                .iter()
                .any(|source| self.message.contains(source))
    }

    /// Parses the `Status` in a response body.
    pub(crate) fn parse(code: u16, body: &[u8], retry_after: Option<u64>) -> Self {
        let status: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let field = |field: &str| {
            status.get(field).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty())
        };
        // A body without a Status may come from a proxy and hold anything, so it is not quoted.
        let message = field("message").map_or_else(
            || format!("HTTP status {code} without a Kubernetes Status"),
            |m| truncated(m, 600),
        );
        let details =
            status.pointer("/details/retryAfterSeconds").and_then(serde_json::Value::as_u64);
        Self {
            code,
            reason: truncated(field("reason").unwrap_or_default(), 60),
            message,
            retry_after: retry_after.or(details),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let request = failure.request;
        match failure.kind {
            FailureKind::Rejected(rejection) if rejection.is_uid_mismatch() => {
                Error::Conflict(format!(
                    "{request}: the object was replaced by another of the same name: {}",
                    rejection.message
                ))
            }
            FailureKind::Rejected(rejection) if rejection.is_by_admission() => Error::Forbidden(
                format!("{request}: rejected by admission control: {}", rejection.message),
            ),
            FailureKind::Rejected(Rejection { code, reason, message, .. }) => match code {
                401 => Error::Unauthorized(format!(
                    "{request}: the API server rejected the credentials (401), which may have \
                    expired: {message}"
                )),
                403 => Error::Forbidden(format!(
                    "{request}: rejected by the cluster's own RBAC or admission control: {message}"
                )),
                409 | 410 => Error::Conflict(format!("{request}: {message}")),
                400 | 405 | 406 | 413 | 415 | 422 => Error::Invalid(format!(
                    "{request}: rejected as invalid by the API server: {message}"
                )),
                _ if reason.is_empty() => Error::Unavailable(format!("{request}: {message}")),
                _ => Error::Unavailable(format!("{request}: {message} ({reason})")),
            },
            FailureKind::Absent(message) => Error::NotFound(format!("{request}: {message}")),
            FailureKind::NotSent(why) => {
                Error::Unavailable(format!("{request}: cannot reach the API server: {why}"))
            }
            FailureKind::InDoubt(why) => {
                Error::Unavailable(format!("{request}: {NO_RESPONSE}: {why}"))
            }
            FailureKind::Credentials(why) => Error::Unavailable(format!(
                "{request}: cannot get credentials for the cluster: {why}"
            )),
            FailureKind::Blocked(error) => error,
        }
    }
}

/// The prefix of the message of a request in doubt.
pub(crate) const NO_RESPONSE: &str = "no usable response from the API server";

/// Classifies an error of kube's client. `blocked` converts an error of the egress guard.
///
/// # Guarantees
/// No output of an exec plugin, no text of a token endpoint, and no response body is included:
/// they can contain secrets.
pub(crate) fn classify_error(
    error: &(dyn std::error::Error + 'static),
    blocked: impl FnOnce(&Blocked) -> Error,
) -> FailureKind {
    if let Some(found) = find_source::<Blocked>(error) {
        return FailureKind::Blocked(blocked(found));
    }
    if let Some(found) = find_source::<AuthError>(error) {
        return FailureKind::Credentials(credentials(found));
    }
    let chain = ErrorChain(error).to_string();
    let refused = find_source::<io::Error>(error).is_some_and(|e| {
        matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable)
    });
    // A connect error precedes the first byte of the request: name resolution, socket, TLS, proxy.
    let is_connect = find_source::<legacy::Error>(error).is_some_and(legacy::Error::is_connect);
    if refused || is_connect {
        FailureKind::NotSent(shortened(&chain))
    } else {
        FailureKind::InDoubt(shortened(&chain))
    }
}

/// Describes why the credentials could not be obtained, without text that can hold secrets.
#[allow(clippy::wildcard_enum_match_arm, reason = "an enum of kube, which may grow")]
pub(crate) fn credentials(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecStart(why) => {
            format!("the kubeconfig's exec plugin cannot be started: {why}")
        }
        // mutant exec-plugin-output-printed: "the kubeconfig's exec plugin failed ({}); run it by
        //     hand to see why", out.status ~> "the kubeconfig's exec plugin failed ({out:?}); run
        //     it by hand to see why"
        AuthError::AuthExecRun { out, .. } => format!(
            "the kubeconfig's exec plugin failed ({}); run it by hand to see why",
            out.status
        ),
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed | AuthError::AuthExec(_) => {
            "the kubeconfig's exec plugin returned no credentials".into()
        }
        AuthError::MissingCommand
        | AuthError::ExecMissingClusterInfo
        | AuthError::AuthExecSerialize(_) => {
            "the kubeconfig's exec plugin is not configured as kubectl requires".into()
        }
        AuthError::ReadTokenFile(why, path) => {
            format!("cannot read token file {}: {why}", path.display())
        }
        AuthError::InvalidBasicAuth(_) | AuthError::InvalidBearerToken(_) => {
            "the kubeconfig's token or password contains characters not allowed in an HTTP header"
                .into()
        }
        AuthError::OAuth(_) | AuthError::Oidc(_) => {
            "the identity provider returned no token".into()
        }
        _ => "the kubeconfig's credentials cannot be used".into(),
    }
}

/// Returns the first error of type `T` in the source chain.
fn find_source<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    std::iter::successors(Some(error), |e| e.source()).find_map(|e| e.downcast_ref::<T>())
}

/// Displays an error followed by its sources.
struct ErrorChain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = String::new();
        for error in std::iter::successors(Some(self.0), |e| e.source()) {
            let text = error.to_string();
            // kube and hyper repeat the text of their source.
            if !last.contains(&text) {
                write!(f, "{}{text}", if last.is_empty() { "" } else { ": " })?;
            }
            last = text;
        }
        Ok(())
    }
}

fn shortened(chain: &str) -> String {
    let text = chain
        .trim_start_matches("ServiceError: ")
        .trim_start_matches("HyperError: ")
        .trim_start_matches("client error (Connect): ");
    truncated(text, 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(code: u16, message: &str) -> Error {
        let body =
            serde_json::json!({"kind": "Status", "message": message, "reason": "R"}).to_string();
        Failure {
            request: "get pods a/b".into(),
            kind: FailureKind::Rejected(Rejection::parse(code, body.as_bytes(), None)),
            timed_out: false,
        }
        .into()
    }

    #[test]
    fn a_rejection_is_attributed_by_its_status_code() {
        assert!(matches!(rejected(401, "Unauthorized"),
                Error::Unauthorized(t) if t.contains("credentials")));
        assert!(matches!(
            rejected(403, "no"),
            Error::Forbidden(t) if t.contains("RBAC") && t.contains("get pods a/b")
        ));
        assert!(matches!(rejected(409, "no"), Error::Conflict(_)));
        assert!(matches!(
            rejected(422, "metadata.uid: Invalid value: field is immutable"),
            Error::Conflict(_)
        ));
        assert!(matches!(rejected(422, "spec.x: Required"), Error::Invalid(_)));
        assert!(matches!(
            rejected(
                422,
                "deployments \"x\" is forbidden: ValidatingAdmissionPolicy 'salve' denied request: no"
            ),
            Error::Forbidden(_)
        ));
        assert!(matches!(rejected(500, "no"), Error::Unavailable(_)));
        assert!(matches!(rejected(429, "no"), Error::Unavailable(_)));
    }

    #[test]
    fn the_page_of_a_proxy_is_not_quoted() {
        let rejection = Rejection::parse(502, b"<html>password=hunter2</html>", None);
        assert!(!rejection.message.contains("hunter2"));
    }

    #[test]
    fn the_output_and_environment_of_an_exec_plugin_are_not_quoted() {
        let output = std::process::Command::new("false").output().unwrap();
        let error = AuthError::AuthExecRun {
            cmd: "TOKEN=\"hunter2\" \"aws\" \"--secret\" \"hunter2\"".into(),
            out: Box::new(output),
        };
        let text = credentials(&error);
        assert!(text.contains("exec plugin failed") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_write_in_doubt_is_never_sent_again() {
        let in_doubt = Failure {
            request: String::new(),
            kind: FailureKind::InDoubt("timeout".into()),
            timed_out: true,
        };
        assert!(in_doubt.is_retryable(true) && !in_doubt.is_retryable(false));
        let not_sent = Failure {
            request: String::new(),
            kind: FailureKind::NotSent("refused".into()),
            timed_out: false,
        };
        assert!(not_sent.is_retryable(false));
    }
}
