//! What a check says.

use super::{BAD, DIM, Detail, GOOD, HEAD, duration, findings};
use salve_core::report::{Report, State};
use salve_core::text::inert;

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
        .map(|u| format!(" (kube-system {})", inert(&u.chars().take(8).collect::<String>())))
        .unwrap_or_default();
    anstream::println!("{DIM}cluster {}{uid}, read-only{DIM:#}\n", inert(&report.cluster.context));
    let took = duration(report.ended.saturating_sub(report.began));
    let (style, word) = match diagnosis.state {
        State::Incident => (BAD, "INCIDENT"),
        State::NotThisIncident => (HEAD, "NOT THIS INCIDENT"),
        State::Healthy => (GOOD, "HEALTHY"),
    };
    anstream::println!(
        "{style}{word}{style:#}  {}   {DIM}{took}{DIM:#}\n",
        inert(&diagnosis.sentence)
    );
    findings("for", &diagnosis.supporting, detail);
    match (diagnosis.opposing.is_empty(), diagnosis.state) {
        (true, State::Incident) => anstream::println!("{DIM}{:<10}{DIM:#}nothing", "against"),
        (true, State::NotThisIncident | State::Healthy) => {}
        (false, _) => findings("against", &diagnosis.opposing, detail),
    }
    let label = match diagnosis.state {
        State::Incident => "not this",
        State::NotThisIncident | State::Healthy => "instead",
    };
    findings(label, &diagnosis.instead, detail);
    if diagnosis.state == State::Incident {
        anstream::println!(
            "\n{DIM}next{DIM:#}      salve plan {guest}        what would be done, nothing is changed"
        );
    }
}
