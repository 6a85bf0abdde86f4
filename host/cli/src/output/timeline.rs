//! The timeline of a finished run: its steps, and every write with its equivalent command.

use super::{Detail, ERROR, HEADING, MUTED, describe_outcome, duration, plural};
use salve_core::report::{EffectOutcome, EffectSummary, Report, Step};
use salve_core::sanitize::sanitized;

/// How many commands of a write are shown without `-v`.
const MAX_COMMANDS: usize = 4;

/// Prints the steps of a run with their notes and writes.
pub fn timeline(report: &Report, detail: Detail) {
    if report.steps.is_empty() && report.effects.is_empty() {
        return;
    }
    anstream::println!();
    for effect in report.effects.iter().filter(|effect| effect.step.is_none()) {
        print_effect(effect, detail);
    }
    for (n, step) in report.steps.iter().enumerate() {
        print_step(n + 1, step, report);
        for effect in
            report.effects.iter().filter(|effect| effect.step.as_ref() == Some(&step.name))
        {
            print_effect(effect, detail);
        }
    }
}

fn print_step(n: usize, step: &Step, report: &Report) {
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

fn print_effect(effect: &EffectSummary, detail: Detail) {
    let call = format!("{} ({})", effect.effect.name(), plural(effect.targets.len(), "object"));
    let outcome = sanitized(&describe_outcome(&effect.outcome));
    let style = match effect.outcome {
        EffectOutcome::Ok | EffectOutcome::Planned => MUTED,
        EffectOutcome::InDoubt
        | EffectOutcome::Partial(_)
        | EffectOutcome::Failed(_)
        | EffectOutcome::TakenOver(_) => ERROR,
    };
    anstream::println!("{:27}{style}{call}: {outcome}{style:#}", "");
    let commands = &effect.commands;
    let shown =
        if detail == Detail::All { commands.len() } else { commands.len().min(MAX_COMMANDS) };
    for command in &commands[..shown] {
        anstream::println!("{:27}{MUTED}$ {}{MUTED:#}", "", sanitized(command));
    }
    if shown < commands.len() {
        anstream::println!("{:27}{MUTED}… {} more: -v{MUTED:#}", "", commands.len() - shown);
    }
}
