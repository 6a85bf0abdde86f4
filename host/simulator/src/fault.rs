//! Fault injection: the errors, timeouts, and lost responses that a real API server can cause.

use std::time::Duration;

/// A fault that is injected into matching requests.
#[derive(Debug, Clone)]
pub struct Fault {
    verb: Option<String>,
    path: String,
    skip: usize,
    times: Option<usize>,
    after_applying: bool,
    delay: Duration,
    response: FaultResponse,
}

/// A fault as injected into one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InjectedFault {
    /// Whether the request takes effect nevertheless.
    pub applied: bool,
    /// The virtual time until the response.
    pub delay: Duration,
    pub response: FaultResponse,
}

/// The response to a request with an injected fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FaultResponse {
    Status { code: u16, retry_after: Option<u32> },
    Foreign { code: u16, body: String },
    ConnectionReset,
    InvalidBody,
    NoResponse,
}

impl InjectedFault {
    /// Rejects a request with a status code.
    pub fn status(code: u16) -> Self {
        let response = FaultResponse::Status { code, retry_after: None };
        InjectedFault { applied: false, delay: Duration::ZERO, response }
    }
}

impl Fault {
    fn new(response: FaultResponse) -> Self {
        Fault {
            verb: None,
            path: String::new(),
            skip: 0,
            times: None,
            after_applying: false,
            delay: Duration::ZERO,
            response,
        }
    }

    /// Responds with a status code and the corresponding Status object.
    pub fn status(code: u16) -> Self {
        Fault::new(FaultResponse::Status { code, retry_after: None })
    }

    /// Responds with a status code and this body, as a proxy in front of the API server can.
    pub fn foreign(code: u16, body: impl Into<String>) -> Self {
        Fault::new(FaultResponse::Foreign { code, body: body.into() })
    }

    /// Responds with 429 and `Retry-After`.
    pub fn too_many_requests(retry_after_seconds: u32) -> Self {
        Fault::new(FaultResponse::Status { code: 429, retry_after: Some(retry_after_seconds) })
    }

    /// Closes the connection without a response.
    pub fn dropped() -> Self {
        Fault::new(FaultResponse::ConnectionReset)
    }

    /// Responds with 200 and a body that is not JSON.
    pub fn garbage() -> Self {
        Fault::new(FaultResponse::InvalidBody)
    }

    /// Never responds and keeps the connection open.
    pub fn no_response() -> Self {
        Fault::new(FaultResponse::NoResponse)
    }

    /// Matches only requests with this verb (`patch`) or method (`PATCH`).
    pub fn on(mut self, verb: &str) -> Self {
        self.verb = Some(verb.to_ascii_lowercase());
        self
    }

    /// Matches only requests whose path and query contain `part`.
    pub fn at(mut self, part: &str) -> Self {
        self.path = part.to_owned();
        self
    }

    /// Affects only the `n`th match, counted from one.
    pub fn nth(mut self, n: usize) -> Self {
        self.skip = n.saturating_sub(1);
        self.times = Some(1);
        self
    }

    /// Affects only the first `n` matches.
    pub fn first(mut self, n: usize) -> Self {
        self.times = Some(n);
        self
    }

    /// Lets the request take effect; only its response is faulty.
    pub fn after_applying(mut self) -> Self {
        self.after_applying = true;
        self
    }

    /// Delays the response by this much virtual time.
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Returns the fault to inject into a request, if any, and counts the match.
    pub(crate) fn inject(&mut self, verb: &str, method: &str, uri: &str) -> Option<InjectedFault> {
        let expected = self.verb.as_deref();
        let matches = expected
            .is_none_or(|expected| expected == verb || expected.eq_ignore_ascii_case(method))
            && uri.contains(&self.path);
        if !matches || self.times == Some(0) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times = self.times.map(|remaining| remaining - 1);
        Some(InjectedFault {
            applied: self.after_applying,
            delay: self.delay,
            response: self.response.clone(),
        })
    }
}
