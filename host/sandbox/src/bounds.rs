//! Limits on what a guest returns. It is journaled, printed, and sent on, so a guest must not
//! choose its size.

use crate::guest_error::GuestError;
use salve_core::report::{Conclusion, Description, Diagnosis, Finding};

const SENTENCE: usize = 4096;
const FINDINGS: usize = 500;
const DETAILS: usize = 2000;
const FIGURES: usize = 100;
const NAME: usize = 64;
const SCHEMA: usize = 256 << 10;

/// Truncates a note to the length that an error message may have.
pub(crate) fn truncate_note(text: &str) -> String {
    text.chars().take(SENTENCE).collect()
}

pub(crate) fn description(description: Description) -> Result<Description, GuestError> {
    text("`name` of the description", &description.name, NAME)?;
    text("`version` of the description", &description.version, NAME)?;
    text("`fixes` of the description", &description.fixes, SENTENCE)?;
    text("`configuration` of the description", &description.configuration, SCHEMA)?;
    Ok(description)
}

pub(crate) fn diagnosis(diagnosis: Diagnosis) -> Result<Diagnosis, GuestError> {
    text("`summary` of the diagnosis", &diagnosis.summary, SENTENCE)?;
    findings("evidence-for", &diagnosis.evidence_for)?;
    findings("evidence-against", &diagnosis.evidence_against)?;
    findings("ruled-out", &diagnosis.ruled_out)?;
    Ok(diagnosis)
}

pub(crate) fn conclusion(conclusion: Conclusion) -> Result<Conclusion, GuestError> {
    text("`summary` of the conclusion", &conclusion.summary, SENTENCE)?;
    count("figures", conclusion.figures.len(), FIGURES)?;
    conclusion
        .figures
        .iter()
        .try_for_each(|figure| text("the name of a figure", &figure.name, SENTENCE))?;
    findings("evidence", &conclusion.evidence)?;
    findings("remaining", &conclusion.remaining)?;
    findings("prevention", &conclusion.prevention)?;
    Ok(conclusion)
}

fn findings(list: &str, findings: &[Finding]) -> Result<(), GuestError> {
    count(&format!("findings in `{list}`"), findings.len(), FINDINGS)?;
    for finding in findings {
        text(&format!("a finding in `{list}`"), &finding.text, SENTENCE)?;
        count(&format!("details of a finding in `{list}`"), finding.details.len(), DETAILS)?;
        finding
            .details
            .iter()
            .try_for_each(|detail| text(&format!("a detail in `{list}`"), detail, SENTENCE))?;
    }
    Ok(())
}

fn text(what: &str, text: &str, max: usize) -> Result<(), GuestError> {
    if text.len() <= max {
        Ok(())
    } else {
        Err(GuestError::ResultTooLarge(format!("{what} has {} bytes, at most {max}", text.len())))
    }
}

fn count(what: &str, count: usize, max: usize) -> Result<(), GuestError> {
    if count <= max {
        Ok(())
    } else {
        Err(GuestError::ResultTooLarge(format!("{count} {what}, at most {max}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::report::State;

    #[test]
    fn a_result_at_the_limit_passes_and_one_beyond_it_does_not() {
        let returned = |findings: usize, summary: usize| Diagnosis {
            state: State::Healthy,
            summary: "x".repeat(summary),
            evidence_for: vec![Finding { text: "y".into(), details: vec![] }; findings],
            evidence_against: vec![],
            ruled_out: vec![],
        };
        assert!(diagnosis(returned(FINDINGS, SENTENCE)).is_ok());
        let error = diagnosis(returned(FINDINGS + 1, 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "guest returned too much: 501 findings in `evidence-for`, at most 500"
        );
        assert!(diagnosis(returned(1, SENTENCE + 1)).is_err());
    }
}
