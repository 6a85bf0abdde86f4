//! Constructors for the types that a guest returns.

pub use crate::bindings::salve::cluster::report::{
    Conclusion, Description, Diagnosis, Figure, Finding, State, Verdict,
};

impl Finding {
    /// Creates a finding without details.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), details: Vec::new() }
    }

    /// Creates a finding with the lines that support it.
    pub fn with_details(
        text: impl Into<String>,
        details: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self { text: text.into(), details: details.into_iter().map(Into::into).collect() }
    }
}

impl Diagnosis {
    /// Creates a diagnosis without findings.
    pub fn new(state: State, summary: impl Into<String>) -> Self {
        Self {
            state,
            summary: summary.into(),
            evidence_for: Vec::new(),
            evidence_against: Vec::new(),
            ruled_out: Vec::new(),
        }
    }
}

impl Conclusion {
    /// Creates a conclusion without figures and findings. For `fixed`, first report what was
    /// observed with `run::observed`: the host verifies it.
    pub fn new(verdict: Verdict, summary: impl Into<String>) -> Self {
        Self {
            verdict,
            summary: summary.into(),
            figures: Vec::new(),
            evidence: Vec::new(),
            remaining: Vec::new(),
            prevention: Vec::new(),
        }
    }
}

impl Figure {
    /// Creates a figure with a value before and after the run.
    pub fn new(name: &str, before: u64, after: u64) -> Self {
        Self { name: name.into(), before: Some(before), after: Some(after) }
    }
}
