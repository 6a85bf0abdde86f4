//! `report`: the types that a guest returns. It has no functions.

use super::convert_all;
use crate::bindings::salve::cluster::report as wit;
use salve_core::report as core;

impl From<wit::Description> for core::Description {
    fn from(description: wit::Description) -> Self {
        Self {
            name: description.name,
            version: description.version,
            fixes: description.fixes,
            configuration: description.configuration,
        }
    }
}

impl From<wit::Finding> for core::Finding {
    fn from(finding: wit::Finding) -> Self {
        Self { text: finding.text, details: finding.details }
    }
}

impl From<wit::Diagnosis> for core::Diagnosis {
    fn from(diagnosis: wit::Diagnosis) -> Self {
        let state = match diagnosis.state {
            wit::State::Incident => core::State::Incident,
            wit::State::DifferentProblem => core::State::DifferentProblem,
            wit::State::Healthy => core::State::Healthy,
            wit::State::Inconclusive => core::State::Inconclusive,
        };
        Self {
            state,
            summary: diagnosis.summary,
            evidence_for: convert_all(diagnosis.evidence_for),
            evidence_against: convert_all(diagnosis.evidence_against),
            ruled_out: convert_all(diagnosis.ruled_out),
        }
    }
}

impl From<wit::Figure> for core::Figure {
    fn from(figure: wit::Figure) -> Self {
        Self { name: figure.name, before: figure.before, after: figure.after }
    }
}

impl From<wit::Conclusion> for core::Conclusion {
    fn from(conclusion: wit::Conclusion) -> Self {
        let verdict = match conclusion.verdict {
            wit::Verdict::Fixed => core::Concluded::Fixed,
            wit::Verdict::NothingToDo => core::Concluded::NothingToDo,
            wit::Verdict::DifferentProblem => core::Concluded::DifferentProblem,
            wit::Verdict::NotFixed => core::Concluded::NotFixed,
            wit::Verdict::Inconclusive => core::Concluded::Inconclusive,
        };
        Self {
            verdict,
            summary: conclusion.summary,
            figures: convert_all(conclusion.figures),
            evidence: convert_all(conclusion.evidence),
            remaining: convert_all(conclusion.remaining),
            prevention: convert_all(conclusion.prevention),
        }
    }
}
