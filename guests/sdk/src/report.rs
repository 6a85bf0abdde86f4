//! What a guest says of itself and of its work, easily put together.

pub use crate::bindings::salve::cluster::report::{
    Conclusion, Description, Diagnosis, Figure, Finding, State, Verdict,
};

impl Finding {
    /// A sentence with nothing behind it.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), details: Vec::new() }
    }

    /// A sentence and the lines behind it.
    pub fn with(
        text: impl Into<String>,
        details: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self { text: text.into(), details: details.into_iter().map(Into::into).collect() }
    }
}

impl Diagnosis {
    /// An answer without findings yet.
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
    /// A conclusion without figures or findings yet. `fixed` needs `proof` to be believed.
    pub fn new(verdict: Verdict, summary: impl Into<String>) -> Self {
        Self {
            verdict,
            summary: summary.into(),
            figures: Vec::new(),
            evidence: Vec::new(),
            remaining: Vec::new(),
            prevention: Vec::new(),
            proof: Vec::new(),
        }
    }
}

impl Figure {
    /// A figure before and after.
    pub fn new(name: &str, before: u64, after: u64) -> Self {
        Self { name: name.into(), before: Some(before), after: Some(after) }
    }
}
