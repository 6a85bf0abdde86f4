//! What happened in a run that is over: its timeline, and every touch with the command that does the same.

use super::{BAD, DIM, Detail, HEAD, count, duration};
use salve_core::report::{Report, Step, Told};
use salve_core::text::inert;

/// So many commands are shown of one touch, unless one asks for all.
const COMMANDS: usize = 4;

/// Prints step by step what was said and done.
pub fn record(report: &Report, detail: Detail) {
    if report.steps.is_empty() && report.effects.is_empty() {
        return;
    }
    anstream::println!();
    for told in report.effects.iter().filter(|told| told.step.is_none()) {
        touch(told, detail);
    }
    for (n, step) in report.steps.iter().enumerate() {
        begun(n + 1, step, report);
        for told in report.effects.iter().filter(|told| told.step.as_ref() == Some(&step.name)) {
            touch(told, detail);
        }
    }
}

fn begun(n: usize, step: &Step, report: &Report) {
    let after = duration(step.began.saturating_sub(report.began));
    let took = duration(step.ended.saturating_sub(step.began));
    anstream::println!(
        "{DIM}{after:>12}{DIM:#}  {HEAD}{n:>2} {:<10}{HEAD:#}{}   {DIM}{took}{DIM:#}",
        inert(&step.name),
        inert(&step.title)
    );
    for note in &step.notes {
        anstream::println!("{:27}{}", "", inert(note));
    }
}

fn touch(told: &Told, detail: Detail) {
    let (what, came) = (
        format!("{} of {}", told.effect, count(told.targets.len(), "object")),
        inert(&told.outcome),
    );
    match told.outcome.as_str() {
        "ok" | "planned" => anstream::println!("{:27}{DIM}{what}: {came}{DIM:#}", ""),
        _ => anstream::println!("{:27}{BAD}{what}: {came}{BAD:#}", ""),
    }
    let shown =
        if detail == Detail::All { told.commands.len() } else { told.commands.len().min(COMMANDS) };
    for command in &told.commands[..shown] {
        anstream::println!("{:27}{DIM}$ {}{DIM:#}", "", inert(command));
    }
    if shown < told.commands.len() {
        anstream::println!("{:27}{DIM}… {} more: -v{DIM:#}", "", told.commands.len() - shown);
    }
}
