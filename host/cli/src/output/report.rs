//! How a run came out.

use super::{Detail, ERROR, HEADING, MUTED, OK, WARN, duration, findings};
use crate::output::markdown::taken_up;
use salve_core::report::Report;
use salve_core::sanitize::sanitized;
use std::path::Path;

/// Prints the verdict first, then before and after, what is left, and where the record lies.
pub fn report(report: &Report, file: Option<&Path>, detail: Detail) {
    let word = report.verdict.to_uppercase().replace('-', " ");
    let style = match report.verdict {
        "fixed" | "nothing-to-do" | "undone" => OK,
        "planned" | "not-this-incident" => HEADING,
        _ => ERROR,
    };
    let took = duration(report.ended.saturating_sub(report.began));
    anstream::println!(
        "\n{style}{word}{style:#}  {}   {MUTED}{took}{MUTED:#}\n",
        sanitized(&report.summary)
    );
    figures(report);
    for one in &report.recoveries {
        anstream::println!("{MUTED}{:<10}{MUTED:#}{}", "taken up", sanitized(&taken_up(one)));
    }
    findings("why", &report.evidence, detail);
    findings("left", &report.left, detail);
    findings("prevent", &report.prevention, detail);
    enforcement(report);
    if let Some(file) = file {
        anstream::println!(
            "{MUTED}{:<10}{}{MUTED:#}",
            "run",
            sanitized(&file.display().to_string())
        );
    }
}

/// As whom it ran, and what held that credential.
fn enforcement(report: &Report) {
    let enforcement = &report.cluster.enforcement;
    if enforcement.is_empty() {
        return;
    }
    let names = |holds: bool| {
        enforcement
            .iter()
            .filter(|ring| ring.holds == holds)
            .map(|ring| ring.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    anstream::println!(
        "{MUTED}{:<10}{MUTED:#}{}, held by {}",
        "as",
        sanitized(report.cluster.user.as_deref().unwrap_or("unknown")),
        names(true)
    );
    for ring in enforcement.iter().filter(|ring| !ring.holds) {
        anstream::println!("{:10}{WARN}not by {}{WARN:#}: {}", "", ring.name, sanitized(&ring.why));
    }
}

fn figures(report: &Report) {
    let line = |label: &str, of: fn(&salve_core::report::Figure) -> Option<u64>| {
        let told: Vec<_> = report
            .figures
            .iter()
            .filter_map(|f| of(f).map(|n| format!("{n} {}", sanitized(&f.name))))
            .collect();
        if !told.is_empty() {
            anstream::println!("{MUTED}{label:<10}{MUTED:#}{}", told.join(", "));
        }
    };
    line("before", |f| f.before);
    line("after", |f| f.after);
}
