//! What comes back when it is not an answer, and whose fault that is.

use crate::egress::Blocked;
use crate::object::capped;
use kube::client::AuthError;
use salve_core::outcome::Error;
use std::fmt;
use std::io;

/// A request that came to nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What was asked, for people: `patch kustomizations.kustomize.toolkit.fluxcd.io media/plex`.
    pub what: String,
    /// How it failed.
    pub how: How,
}

/// How a request failed.
#[derive(Debug)]
pub(crate) enum How {
    /// The API server refused it: it was not applied.
    Refused(Refusal),
    /// It never reached the API server.
    Unsent(String),
    /// No answer, or none that can be read: it may have been applied, or may yet be.
    Lost(String),
    /// The credentials could not be had. Nothing was sent.
    Credentials(String),
    /// The fence kept it. Nothing was sent.
    Blocked(Error),
}

/// The API server's own words.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub code: u16,
    pub reason: String,
    pub message: String,
    pub retry_after: Option<u64>,
}

impl Failure {
    /// The status code of a refusal.
    pub(crate) fn code(&self) -> Option<u16> {
        match &self.how {
            How::Refused(refusal) => Some(refusal.code),
            How::Unsent(_) | How::Lost(_) | How::Credentials(_) | How::Blocked(_) => None,
        }
    }

    /// It was made for an object, or a state of it, that is no longer there: it was not applied.
    pub(crate) fn is_stale(&self) -> bool {
        match &self.how {
            How::Refused(refusal) => refusal.code == 409 || refusal.is_of_another_uid(),
            How::Unsent(_) | How::Lost(_) | How::Credentials(_) | How::Blocked(_) => false,
        }
    }

    /// It may have been applied.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.how, How::Lost(_))
    }

    /// Whether the same request may be sent again; `safe` ones change nothing, so they may more often.
    pub(crate) fn is_worth_another_try(&self, safe: bool) -> bool {
        match &self.how {
            // A 503 with Retry-After; any other 5xx counts as lost.
            How::Refused(refusal) => refusal.code == 429 || refusal.code == 503,
            How::Unsent(_) => true,
            // mutant lost-write-resent: safe ~> safe || self.is_lost()
            How::Lost(_) => safe,
            How::Credentials(_) | How::Blocked(_) => false,
        }
    }

    /// What the cluster said, for a report.
    pub(crate) fn message(&self) -> String {
        match &self.how {
            How::Refused(refusal) => refusal.message.clone(),
            How::Unsent(why) | How::Lost(why) | How::Credentials(why) => why.clone(),
            How::Blocked(error) => error.text().to_owned(),
        }
    }
}

impl Refusal {
    /// A uid cannot be changed: so a custom resource answers to the uid of another object.
    fn is_of_another_uid(&self) -> bool {
        self.code == 422 && self.message.contains("metadata.uid")
    }

    /// An admission policy refuses with the code of an invalid object.
    fn is_of_admission(&self) -> bool {
        self.code == 422
            && ["ValidatingAdmissionPolicy", "admission webhook"]
                .iter()
                .any(|word| self.message.contains(word))
    }

    /// Reads the Status that came with a code.
    pub(crate) fn read(code: u16, body: &[u8], retry_after: Option<u64>) -> Self {
        let status: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let said = |field: &str| {
            status.get(field).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty())
        };
        // What is no Status may be anybody's page: a proxy's, with anything in it.
        let message = said("message").map_or_else(
            || format!("HTTP status {code}, with nothing that an API server would say"),
            |m| capped(m, 600),
        );
        let details =
            status.pointer("/details/retryAfterSeconds").and_then(serde_json::Value::as_u64);
        Self {
            code,
            reason: capped(said("reason").unwrap_or_default(), 60),
            message,
            retry_after: retry_after.or(details),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let what = failure.what;
        match failure.how {
            How::Refused(refusal) if refusal.is_of_another_uid() => Error::Conflict(format!(
                "{what}: another object bears this name now: {}",
                refusal.message
            )),
            How::Refused(refusal) if refusal.is_of_admission() => Error::Denied(format!(
                "{what}: the cluster's own admission refuses it: {}",
                refusal.message
            )),
            How::Refused(Refusal { code, reason, message, .. }) => match code {
                401 => Error::Unavailable(format!(
                    "{what}: the cluster refuses these credentials (401); they may have expired: {message}"
                )),
                403 => Error::Denied(format!(
                    "{what}: the cluster's own RBAC or admission refuses it: {message}"
                )),
                404 => Error::NotFound(format!("{what}: {message}")),
                409 | 410 => Error::Conflict(format!("{what}: {message}")),
                400 | 405 | 406 | 413 | 415 | 422 => {
                    Error::Invalid(format!("{what}: the cluster does not take it: {message}"))
                }
                _ if reason.is_empty() => Error::Unavailable(format!("{what}: {message}")),
                _ => Error::Unavailable(format!("{what}: {message} ({reason})")),
            },
            How::Unsent(why) => {
                Error::Unavailable(format!("{what}: the cluster cannot be reached: {why}"))
            }
            How::Lost(why) => {
                Error::Unavailable(format!("{what}: no usable answer from the cluster: {why}"))
            }
            How::Credentials(why) => {
                Error::Unavailable(format!("{what}: no credentials for the cluster: {why}"))
            }
            How::Blocked(error) => error,
        }
    }
}

/// Sorts what kube's client failed with.
///
/// # Guarantees
/// No text of an exec plugin, of a token endpoint or of a body passes: they can hold secrets.
pub(crate) fn sort(
    error: &(dyn std::error::Error + 'static),
    kept: impl FnOnce(&Blocked) -> Error,
) -> How {
    if let Some(found) = find::<Blocked>(error) {
        return How::Blocked(kept(found));
    }
    if let Some(found) = find::<AuthError>(error) {
        return How::Credentials(credentials(found));
    }
    let chain = Chain(error).to_string();
    let refused = find::<io::Error>(error).is_some_and(|e| {
        matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable)
    });
    // hyper-util's own word for all that happens before the first byte of a request: names, sockets, TLS.
    if refused || chain.contains("client error (Connect)") {
        How::Unsent(short(&chain))
    } else {
        How::Lost(short(&chain))
    }
}

/// Why there are no credentials.
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
            "the kubeconfig's exec plugin answered with no credentials".into()
        }
        AuthError::MissingCommand
        | AuthError::ExecMissingClusterInfo
        | AuthError::AuthExecSerialize(_) => {
            "the kubeconfig's exec plugin is not set up as kubectl takes it".into()
        }
        AuthError::ReadTokenFile(why, path) => {
            format!("the token file {} cannot be read: {why}", path.display())
        }
        AuthError::InvalidBasicAuth(_) | AuthError::InvalidBearerToken(_) => {
            "the kubeconfig's token or password holds characters that no header can".into()
        }
        AuthError::OAuth(_) | AuthError::Oidc(_) => "the identity provider gave no token".into(),
        _ => "the kubeconfig's credentials cannot be used".into(),
    }
}

fn find<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    std::iter::successors(Some(error), |e| e.source()).find_map(|e| e.downcast_ref::<T>())
}

/// An error with all that led to it.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = String::new();
        for error in std::iter::successors(Some(self.0), |e| e.source()) {
            let text = error.to_string();
            // kube and hyper repeat what is beneath them.
            if !last.contains(&text) {
                write!(f, "{}{text}", if last.is_empty() { "" } else { ": " })?;
            }
            last = text;
        }
        Ok(())
    }
}

fn short(chain: &str) -> String {
    let text = chain
        .trim_start_matches("ServiceError: ")
        .trim_start_matches("HyperError: ")
        .trim_start_matches("client error (Connect): ");
    capped(text, 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, message: &str) -> Error {
        let body =
            serde_json::json!({"kind": "Status", "message": message, "reason": "R"}).to_string();
        Failure {
            what: "get pods a/b".into(),
            how: How::Refused(Refusal::read(code, body.as_bytes(), None)),
        }
        .into()
    }

    #[test]
    fn each_refusal_says_whose_fault_it_is() {
        assert!(
            matches!(refused(401, "Unauthorized"), Error::Unavailable(t) if t.contains("credentials"))
        );
        assert!(
            matches!(refused(403, "no"), Error::Denied(t) if t.contains("RBAC") && t.contains("get pods a/b"))
        );
        assert!(matches!(refused(404, "no"), Error::NotFound(_)));
        assert!(matches!(refused(409, "no"), Error::Conflict(_)));
        assert!(matches!(
            refused(422, "metadata.uid: Invalid value: field is immutable"),
            Error::Conflict(_)
        ));
        assert!(matches!(refused(422, "spec.x: Required"), Error::Invalid(_)));
        assert!(matches!(
            refused(
                422,
                "deployments \"x\" is forbidden: ValidatingAdmissionPolicy 'salve' denied request: no"
            ),
            Error::Denied(_)
        ));
        assert!(matches!(refused(500, "no"), Error::Unavailable(_)));
        assert!(matches!(refused(429, "no"), Error::Unavailable(_)));
    }

    #[test]
    fn a_proxys_page_is_not_repeated() {
        let refusal = Refusal::read(502, b"<html>password=hunter2</html>", None);
        assert!(!refusal.message.contains("hunter2"));
    }

    #[test]
    fn a_plugins_output_and_environment_are_not_repeated() {
        let output = std::process::Command::new("false").output().unwrap();
        let error = AuthError::AuthExecRun {
            cmd: "TOKEN=\"hunter2\" \"aws\" \"--secret\" \"hunter2\"".into(),
            out: Box::new(output),
        };
        let text = credentials(&error);
        assert!(text.contains("exec plugin failed") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_write_is_never_sent_again_when_its_answer_got_lost() {
        let lost = Failure { what: String::new(), how: How::Lost("timeout".into()) };
        assert!(lost.is_worth_another_try(true) && !lost.is_worth_another_try(false));
        let unsent = Failure { what: String::new(), how: How::Unsent("refused".into()) };
        assert!(unsent.is_worth_another_try(false));
    }
}
