//! How a run came out.

use super::{BAD, CARE, DIM, Detail, GOOD, HEAD, duration, findings};
use crate::tell::markdown::taken_up;
use salve_core::report::Report;
use salve_core::text::inert;
use std::path::Path;

/// Prints the verdict first, then before and after, what is left, and where the record lies.
pub fn report(report: &Report, file: Option<&Path>, detail: Detail) {
    let word = report.verdict.to_uppercase().replace('-', " ");
    let style = match report.verdict {
        "fixed" | "nothing-to-do" | "undone" => GOOD,
        "planned" | "not-this-incident" => HEAD,
        _ => BAD,
    };
    let took = duration(report.ended.saturating_sub(report.began));
    anstream::println!(
        "\n{style}{word}{style:#}  {}   {DIM}{took}{DIM:#}\n",
        inert(&report.sentence)
    );
    figures(report);
    for one in &report.recoveries {
        anstream::println!("{DIM}{:<10}{DIM:#}{}", "taken up", inert(&taken_up(one)));
    }
    findings("why", &report.evidence, detail);
    findings("left", &report.left, detail);
    findings("prevent", &report.prevention, detail);
    rings(report);
    if let Some(file) = file {
        anstream::println!("{DIM}{:<10}{}{DIM:#}", "run", inert(&file.display().to_string()));
    }
}

/// As whom it ran, and what held that credential.
fn rings(report: &Report) {
    let rings = &report.cluster.rings;
    if rings.is_empty() {
        return;
    }
    let names = |holds: bool| {
        rings
            .iter()
            .filter(|ring| ring.holds == holds)
            .map(|ring| ring.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    anstream::println!(
        "{DIM}{:<10}{DIM:#}{}, held by {}",
        "as",
        inert(report.cluster.user.as_deref().unwrap_or("unknown")),
        names(true)
    );
    for ring in rings.iter().filter(|ring| !ring.holds) {
        anstream::println!("{:10}{CARE}not by {}{CARE:#}: {}", "", ring.name, inert(&ring.why));
    }
}

fn figures(report: &Report) {
    let line = |label: &str, of: fn(&salve_core::report::Figure) -> Option<u64>| {
        let told: Vec<_> = report
            .figures
            .iter()
            .filter_map(|f| of(f).map(|n| format!("{n} {}", inert(&f.name))))
            .collect();
        if !told.is_empty() {
            anstream::println!("{DIM}{label:<10}{DIM:#}{}", told.join(", "));
        }
    };
    line("before", |f| f.before);
    line("after", |f| f.after);
}
