//! What happened in a run that is over: its timeline, and every touch with the command that does the same.

use super::{Detail, ERROR, HEADING, MUTED, count, duration};
use salve_core::report::{EffectSummary, Report, Step};
use salve_core::sanitize::sanitized;

/// So many commands are shown of one touch, unless one asks for all.
const COMMANDS: usize = 4;

/// Prints step by step what was said and done.
pub fn record(report: &Report, detail: Detail) {
    if report.steps.is_empty() && report.effects.is_empty() {
        return;
    }
    anstream::println!();
    for told in report.effects.iter().filter(|told| told.step.is_none()) {
        write(told, detail);
    }
    for (n, step) in report.steps.iter().enumerate() {
        begun(n + 1, step, report);
        for told in report.effects.iter().filter(|told| told.step.as_ref() == Some(&step.name)) {
            write(told, detail);
        }
    }
}

fn begun(n: usize, step: &Step, report: &Report) {
    let after = duration(step.began.saturating_sub(report.began));
    let took = duration(step.ended.saturating_sub(step.began));
    anstream::println!(
        "{MUTED}{after:>12}{MUTED:#}  {HEADING}{n:>2} {:<10}{HEADING:#}{}   {MUTED}{took}{MUTED:#}",
        sanitized(&step.name),
        sanitized(&step.title)
    );
    for note in &step.notes {
        anstream::println!("{:27}{}", "", sanitized(note));
    }
}

fn write(told: &EffectSummary, detail: Detail) {
    let (what, came) = (
        format!("{} of {}", told.effect, count(told.targets.len(), "object")),
        sanitized(&told.outcome),
    );
    match told.outcome.as_str() {
        "ok" | "planned" => anstream::println!("{:27}{MUTED}{what}: {came}{MUTED:#}", ""),
        _ => anstream::println!("{:27}{ERROR}{what}: {came}{ERROR:#}", ""),
    }
    let shown =
        if detail == Detail::All { told.commands.len() } else { told.commands.len().min(COMMANDS) };
    for command in &told.commands[..shown] {
        anstream::println!("{:27}{MUTED}$ {}{MUTED:#}", "", sanitized(command));
    }
    if shown < told.commands.len() {
        anstream::println!("{:27}{MUTED}… {} more: -v{MUTED:#}", "", told.commands.len() - shown);
    }
}
