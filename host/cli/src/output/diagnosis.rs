//! What a check says.

use super::{Detail, ERROR, HEADING, MUTED, OK, duration, findings};
use salve_core::report::{Report, State};
use salve_core::sanitize::sanitized;

/// Prints the answer first, then what it rests on.
pub fn diagnosis(report: &Report, guest: &str, detail: Detail) {
    let Some(diagnosis) = &report.diagnosis else {
        super::report(report, None, detail);
        return;
    };
    let uid = report
        .cluster
        .uid
        .as_deref()
        .map(|u| format!(" (kube-system {})", sanitized(&u.chars().take(8).collect::<String>())))
        .unwrap_or_default();
    anstream::println!(
        "{MUTED}cluster {}{uid}, read-only{MUTED:#}\n",
        sanitized(&report.cluster.context)
    );
    let took = duration(report.ended.saturating_sub(report.began));
    let (style, word) = match diagnosis.state {
        State::Incident => (ERROR, "INCIDENT"),
        State::DifferentProblem => (HEADING, "NOT THIS INCIDENT"),
        State::Healthy => (OK, "HEALTHY"),
    };
    anstream::println!(
        "{style}{word}{style:#}  {}   {MUTED}{took}{MUTED:#}\n",
        sanitized(&diagnosis.summary)
    );
    findings("for", &diagnosis.evidence_for, detail);
    match (diagnosis.evidence_against.is_empty(), diagnosis.state) {
        (true, State::Incident) => anstream::println!("{MUTED}{:<10}{MUTED:#}nothing", "against"),
        (true, State::DifferentProblem | State::Healthy) => {}
        (false, _) => findings("against", &diagnosis.evidence_against, detail),
    }
    let label = match diagnosis.state {
        State::Incident => "not this",
        State::DifferentProblem | State::Healthy => "instead",
    };
    findings(label, &diagnosis.ruled_out, detail);
    if diagnosis.state == State::Incident {
        anstream::println!(
            "\n{MUTED}next{MUTED:#}      salve plan {guest}        what would be done, nothing is changed"
        );
    }
}
