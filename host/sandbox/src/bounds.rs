//! Ceilings on what a guest returns: it is kept, printed and sent on, so a guest does not choose its size.

use crate::guest_end::GuestEnd;
use salve_core::report::{Conclusion, Description, Diagnosis, Finding};

const SENTENCE: usize = 4096;
const FINDINGS: usize = 500;
const DETAILS: usize = 2000;
const FIGURES: usize = 100;
const PROOFS: usize = 10_000;
const NAME: usize = 64;
const SCHEMA: usize = 256 << 10;

/// A panic's message: its beginning is enough.
pub(crate) fn last_words(text: &str) -> String {
    text.chars().take(SENTENCE).collect()
}

pub(crate) fn description(said: Description) -> Result<Description, GuestEnd> {
    text("the name in its description", &said.name, NAME)?;
    text("the version in its description", &said.version, NAME)?;
    text("`fixes` in its description", &said.fixes, SENTENCE)?;
    text("the configuration's schema", &said.configuration, SCHEMA)?;
    Ok(said)
}

pub(crate) fn diagnosis(said: Diagnosis) -> Result<Diagnosis, GuestEnd> {
    text("the sentence of its diagnosis", &said.summary, SENTENCE)?;
    findings("supporting", &said.evidence_for)?;
    findings("opposing", &said.evidence_against)?;
    findings("instead", &said.ruled_out)?;
    Ok(said)
}

pub(crate) fn conclusion(said: Conclusion) -> Result<Conclusion, GuestEnd> {
    text("the sentence of its conclusion", &said.summary, SENTENCE)?;
    count("figures", said.figures.len(), FIGURES)?;
    said.figures
        .iter()
        .try_for_each(|figure| text("the name of a figure", &figure.name, SENTENCE))?;
    findings("evidence", &said.evidence)?;
    findings("left", &said.left)?;
    findings("prevention", &said.prevention)?;
    count("proofs", said.proof.len(), PROOFS)?;
    Ok(said)
}

fn findings(list: &str, findings: &[Finding]) -> Result<(), GuestEnd> {
    count(&format!("findings under `{list}`"), findings.len(), FINDINGS)?;
    for finding in findings {
        text(&format!("a finding under `{list}`"), &finding.text, SENTENCE)?;
        count(&format!("details of a finding under `{list}`"), finding.details.len(), DETAILS)?;
        finding
            .details
            .iter()
            .try_for_each(|detail| text(&format!("a detail under `{list}`"), detail, SENTENCE))?;
    }
    Ok(())
}

fn text(what: &str, text: &str, most: usize) -> Result<(), GuestEnd> {
    if text.len() <= most {
        Ok(())
    } else {
        Err(GuestEnd::Answer(format!("{what} has {} bytes, at most {most}", text.len())))
    }
}

fn count(what: &str, count: usize, most: usize) -> Result<(), GuestEnd> {
    if count <= most {
        Ok(())
    } else {
        Err(GuestEnd::Answer(format!("{count} {what}, at most {most}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::report::State;

    #[test]
    fn what_is_just_short_enough_passes_and_one_more_does_not() {
        let said = |findings: usize, summary: usize| Diagnosis {
            state: State::Healthy,
            summary: "x".repeat(summary),
            evidence_for: vec![Finding { text: "y".into(), details: vec![] }; findings],
            evidence_against: vec![],
            ruled_out: vec![],
        };
        assert!(diagnosis(said(FINDINGS, SENTENCE)).is_ok());
        let end = diagnosis(said(FINDINGS + 1, 1)).unwrap_err();
        assert_eq!(
            end.to_string(),
            "the guest returned too much: 501 findings under `supporting`, at most 500"
        );
        assert!(diagnosis(said(1, SENTENCE + 1)).is_err());
    }
}
