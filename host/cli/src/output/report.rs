//! The report of a finished run.

use super::{
    Detail, HEADING, LABEL_WIDTH, MUTED, WARN, duration, markdown, print_findings, print_labeled,
    report_heading, verdict_style,
};
use salve_core::permission::enforcement::Layer;
use salve_core::report::{Figure, Report};
use salve_core::sanitize::sanitized;
use std::path::Path;

/// Prints the verdict first, then the figures, what remains to be done, and the path of the run
/// file.
pub fn report(report: &Report, file: Option<&Path>, detail: Detail) {
    let heading = report_heading(report);
    let style = report.verdict.map_or(HEADING, verdict_style);
    let took = duration(report.ended.saturating_sub(report.began));
    anstream::println!(
        "\n{style}{heading}{style:#}  {}   {MUTED}{took}{MUTED:#}\n",
        sanitized(&report.summary)
    );
    print_figures("Before", report, |figure| figure.before);
    print_figures("After", report, |figure| figure.after);
    for recovery in &report.recoveries {
        print_labeled("Recovered", &sanitized(&markdown::recovery(recovery)));
    }
    print_findings("Proof", &markdown::proof(report), detail);
    print_findings("Evidence", &report.evidence, detail);
    print_findings("Remaining", &report.remaining, detail);
    print_findings("Prevention", &report.prevention, detail);
    print_enforcement(report);
    if let Some(file) = file {
        anstream::println!(
            "{MUTED}{:<LABEL_WIDTH$}{}{MUTED:#}",
            "Run file",
            sanitized(&file.display().to_string())
        );
    }
}

/// Prints the account of the run and what limits it.
fn print_enforcement(report: &Report) {
    let layers = &report.cluster.enforcement;
    if layers.is_empty() {
        return;
    }
    let limiting: Vec<Layer> =
        layers.iter().filter(|layer| layer.enforced).map(|layer| layer.name).collect();
    let user = sanitized(report.cluster.user.as_deref().unwrap_or("unknown"));
    let names: Vec<String> = limiting.iter().map(Layer::to_string).collect();
    print_labeled("Account", &format!("{user}, limited by {}", names.join(", ")));
    for layer in layers.iter().filter(|layer| !layer.enforced) {
        anstream::println!(
            "{:LABEL_WIDTH$}{WARN}not by {}{WARN:#}: {}",
            "",
            layer.name,
            sanitized(&layer.reason)
        );
    }
    if limiting == [Layer::Host] {
        print_labeled(
            "",
            "only salve's own checks limited this run; `salve rbac` generates a restricted account",
        );
    }
}

fn print_figures(label: &str, report: &Report, value: fn(&Figure) -> Option<u64>) {
    let figures: Vec<_> = report
        .figures
        .iter()
        .filter_map(|figure| value(figure).map(|n| format!("{}: {n}", sanitized(&figure.name))))
        .collect();
    if !figures.is_empty() {
        print_labeled(label, &figures.join(", "));
    }
}
