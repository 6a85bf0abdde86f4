//! `report`: what a guest returns. No functions.

use super::each;
use crate::bindings::salve::cluster::report as wit;
use salve_core::report as core;

impl From<wit::Description> for core::Description {
    fn from(said: wit::Description) -> Self {
        Self {
            name: said.name,
            version: said.version,
            fixes: said.fixes,
            configuration: said.configuration,
        }
    }
}

impl From<wit::Finding> for core::Finding {
    fn from(finding: wit::Finding) -> Self {
        Self { text: finding.text, details: finding.details }
    }
}

impl From<wit::Diagnosis> for core::Diagnosis {
    fn from(said: wit::Diagnosis) -> Self {
        let state = match said.state {
            wit::State::Incident => core::State::Incident,
            wit::State::DifferentProblem => core::State::DifferentProblem,
            wit::State::Healthy => core::State::Healthy,
        };
        Self {
            state,
            summary: said.summary,
            evidence_for: each(said.evidence_for),
            evidence_against: each(said.evidence_against),
            ruled_out: each(said.ruled_out),
        }
    }
}

impl From<wit::Figure> for core::Figure {
    fn from(figure: wit::Figure) -> Self {
        Self { name: figure.name, before: figure.before, after: figure.after }
    }
}

impl From<wit::Conclusion> for core::Conclusion {
    fn from(said: wit::Conclusion) -> Self {
        let verdict = match said.verdict {
            wit::Verdict::Fixed => core::Concluded::Fixed,
            wit::Verdict::NothingToDo => core::Concluded::NothingToDo,
            wit::Verdict::DifferentProblem => core::Concluded::DifferentProblem,
            wit::Verdict::NotFixed => core::Concluded::NotFixed,
        };
        Self {
            verdict,
            summary: said.summary,
            figures: each(said.figures),
            evidence: each(said.evidence),
            left: each(said.remaining),
            prevention: each(said.prevention),
            proof: said.proof,
        }
    }
}
