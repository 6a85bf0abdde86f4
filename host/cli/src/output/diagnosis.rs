//! The result of `salve check`.

use super::{
    Detail, ERROR, HEADING, MUTED, OK, duration, print_findings, print_labeled, verdict_heading,
};
use salve_core::report::{Report, State, Verdict};
use salve_core::sanitize::sanitized;

/// Prints the diagnosis, then the evidence for and against it.
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
    let (style, heading) = match diagnosis.state {
        State::Incident => (ERROR, "INCIDENT".to_owned()),
        State::DifferentProblem => (HEADING, verdict_heading(Verdict::DifferentProblem)),
        State::Healthy => (OK, "HEALTHY".to_owned()),
        State::Inconclusive => (ERROR, verdict_heading(Verdict::Inconclusive)),
    };
    anstream::println!(
        "{style}{heading}{style:#}  {}   {MUTED}{took}{MUTED:#}\n",
        sanitized(&diagnosis.summary)
    );
    print_findings("Evidence for", &diagnosis.evidence_for, detail);
    match (diagnosis.evidence_against.is_empty(), diagnosis.state) {
        (true, State::Incident) => print_labeled("Evidence against", "none"),
        (true, State::DifferentProblem | State::Healthy | State::Inconclusive) => {}
        (false, _) => print_findings("Evidence against", &diagnosis.evidence_against, detail),
    }
    print_findings(ruled_out_label(diagnosis.state), &diagnosis.ruled_out, detail);
    if diagnosis.state == State::Incident {
        anstream::println!();
        print_labeled(
            "Next",
            &format!(
                "salve plan {}        show what a run would change; changes nothing",
                sanitized(guest)
            ),
        );
    }
}

/// Returns the label of the findings that do not indicate the incident.
pub(super) fn ruled_out_label(state: State) -> &'static str {
    match state {
        State::Incident => "Ruled out",
        State::DifferentProblem | State::Healthy | State::Inconclusive => "Other problems",
    }
}
