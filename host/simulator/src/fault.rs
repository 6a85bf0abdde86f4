//! Faults on demand: the refusals, timeouts and lost answers that a real API server has in store.

use std::time::Duration;

/// A fault for the requests that match it.
#[derive(Debug, Clone)]
pub struct Fault {
    verb: Option<String>,
    path: String,
    skip: usize,
    times: Option<usize>,
    after: bool,
    delay: Duration,
    answer: Answer,
}

/// What a fault decided for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Strike {
    /// Whether the request takes effect all the same.
    pub applied: bool,
    /// How much virtual time it takes.
    pub delay: Duration,
    /// What the caller sees.
    pub answer: Answer,
}

/// What the caller of a struck request sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Status { code: u16, retry_after: Option<u32> },
    Dropped,
    Garbage,
    Silence,
}

impl Fault {
    fn new(answer: Answer) -> Self {
        Fault {
            verb: None,
            path: String::new(),
            skip: 0,
            times: None,
            after: false,
            delay: Duration::ZERO,
            answer,
        }
    }

    /// Answers with a status code and the Status object that belongs to it.
    pub fn status(code: u16) -> Self {
        Fault::new(Answer::Status { code, retry_after: None })
    }

    /// Answers 429 with `Retry-After`.
    pub fn too_many_requests(retry_after_seconds: u32) -> Self {
        Fault::new(Answer::Status { code: 429, retry_after: Some(retry_after_seconds) })
    }

    /// Ends the connection without an answer.
    pub fn dropped() -> Self {
        Fault::new(Answer::Dropped)
    }

    /// Answers 200 with a body that is no JSON.
    pub fn garbage() -> Self {
        Fault::new(Answer::Garbage)
    }

    /// Never answers, and holds the connection.
    pub fn silence() -> Self {
        Fault::new(Answer::Silence)
    }

    /// Only requests of this verb (`patch`) or method (`PATCH`).
    pub fn on(mut self, verb: &str) -> Self {
        self.verb = Some(verb.to_ascii_lowercase());
        self
    }

    /// Only requests whose path and query contain `part`.
    pub fn at(mut self, part: &str) -> Self {
        self.path = part.to_owned();
        self
    }

    /// Only the `n`th match, counted from one.
    pub fn nth(mut self, n: usize) -> Self {
        self.skip = n.saturating_sub(1);
        self.times = Some(1);
        self
    }

    /// Only the first `n` matches.
    pub fn first(mut self, n: usize) -> Self {
        self.times = Some(n);
        self
    }

    /// The request takes effect, and only the answer is at fault.
    pub fn after_applying(mut self) -> Self {
        self.after = true;
        self
    }

    /// The answer takes this much virtual time.
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Judges one request, counting it if it matches.
    pub(crate) fn strike(&mut self, verb: &str, method: &str, uri: &str) -> Option<Strike> {
        let wanted = self.verb.as_deref();
        let matches = wanted
            .is_none_or(|wanted| wanted == verb || wanted.eq_ignore_ascii_case(method))
            && uri.contains(&self.path);
        if !matches || self.times == Some(0) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times = self.times.map(|left| left - 1);
        Some(Strike { applied: self.after, delay: self.delay, answer: self.answer.clone() })
    }
}
