//! The plan of a run: what it would change.

use super::{Detail, HEADING, MUTED, OK, WARN, elapsed, plural, print_findings, print_labeled};
use salve_core::Millis;
use salve_core::capability::ObjectDetails;
use salve_core::report::{Certainty, EffectSummary, Report};
use salve_core::sanitize::sanitized;

/// How many lines of a step are shown without `-v`.
const MAX_LINES: usize = 12;

/// Maximum width of the column of object names, in characters.
const MAX_NAME_WIDTH: usize = 48;

/// Prints the writes that would be sent, step by step, then what is expected afterwards.
pub fn plan(report: &Report, grant_sources: &str, detail: Detail, next: &str) {
    let digest: String = report.guest.digest.chars().take(8).collect();
    anstream::println!(
        "{HEADING}{} {}{HEADING:#} {MUTED}(sha256:{digest}…)   grants: {}   cluster {}{MUTED:#}\n",
        sanitized(&report.guest.name),
        sanitized(&report.guest.version),
        sanitized(grant_sources),
        sanitized(&report.cluster.context)
    );
    let planned: Vec<&EffectSummary> =
        report.effects.iter().filter(|effect| effect.certainty.is_some()).collect();
    if planned.is_empty() {
        anstream::println!("no changes: {}", sanitized(&report.summary));
        print_findings("Evidence", &report.evidence, detail);
        return;
    }
    let (exact, predicted): (Vec<&EffectSummary>, Vec<&EffectSummary>) =
        planned.into_iter().partition(|effect| effect.certainty == Some(Certainty::Exact));
    for (n, step) in exact.chunk_by(|a, b| a.step == b.step).enumerate() {
        print_step(n + 1, step, detail, report.ended);
    }
    anstream::println!("\n    {WARN}{}{WARN:#}", sanitized(&report.summary));
    for effect in predicted {
        // `suspend-flux.resume` is `resume`.
        let name = effect.effect.name();
        let verb = name.rsplit('.').next().unwrap_or(name);
        for target in &effect.targets {
            anstream::println!(
                "    {WARN}expected afterwards{WARN:#}  {verb} {}, restoring its previous state",
                sanitized(target)
            );
        }
    }
    let mut label = "Notes";
    anstream::println!();
    for note in report.steps.iter().flat_map(|step| &step.notes) {
        print_labeled(label, &sanitized(note));
        label = "";
    }
    anstream::println!();
    print_labeled("Next", &sanitized(next));
}

fn print_step(n: usize, step: &[&EffectSummary], detail: Detail, now: Millis) {
    let name = step[0].step.as_deref().unwrap_or("");
    let targets: Vec<&str> =
        step.iter().flat_map(|effect| &effect.targets).map(String::as_str).collect();
    anstream::println!(
        "{HEADING}{n:>3} {:<9}{HEADING:#}{OK}will do{OK:#}    {}",
        sanitized(name),
        sanitized(&summarize_targets(&targets))
    );
    let objects: Vec<&ObjectDetails> = step.iter().flat_map(|effect| &effect.details).collect();
    let common_reason = objects
        .first()
        .filter(|first| objects.iter().all(|object| object.reason == first.reason))
        .map(|first| first.reason.as_str());
    if let Some(reason) = common_reason {
        anstream::println!("{:24}{MUTED}{}{MUTED:#}", "", sanitized(reason));
    }
    let width = objects
        .iter()
        .map(|object| object.target.chars().count())
        .max()
        .unwrap_or(0)
        .min(MAX_NAME_WIDTH);
    let lines: Vec<String> = objects
        .iter()
        .map(|object| {
            format!("{:<width$}  {}", object.target, describe(object, common_reason.is_none(), now))
        })
        .collect();
    print_truncated(&lines, "", detail);
    let commands: Vec<String> = step.iter().flat_map(|effect| effect.commands.clone()).collect();
    print_truncated(&commands, "$ ", detail);
}

/// Describes an object: why it was chosen, its age, its owner, its last backup, and what recreates
/// it.
fn describe(object: &ObjectDetails, with_reason: bool, now: Millis) -> String {
    let created = object
        .created
        .as_deref()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .and_then(|t| Millis::try_from(t.as_millisecond()).ok());
    // `returns` may name the owner already.
    let owner = object
        .owner
        .as_ref()
        .filter(|owner| !object.returns.as_ref().is_some_and(|returns| returns.contains(*owner)));
    let parts = [
        with_reason.then(|| object.reason.clone()),
        created.map(|at| format!("{} old", elapsed(at, now))),
        owner.map(|owner| format!("managed by {owner}")),
        object.last_backup.map(|at| format!("last backup {} ago", elapsed(at, now))),
        object.returns.clone(),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Returns the name of a single object, or the number of objects.
fn summarize_targets(targets: &[&str]) -> String {
    match targets {
        [target] => (*target).to_owned(),
        several => plural(several.len(), "object"),
    }
}

fn print_truncated(lines: &[String], prefix: &str, detail: Detail) {
    let shown = if detail == Detail::All { lines.len() } else { lines.len().min(MAX_LINES) };
    for line in &lines[..shown] {
        anstream::println!("{:24}{MUTED}{prefix}{}{MUTED:#}", "", sanitized(line));
    }
    if shown < lines.len() {
        anstream::println!("{:24}{MUTED}… {} more: -v{MUTED:#}", "", lines.len() - shown);
    }
}
