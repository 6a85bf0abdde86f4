//! What a run would do.

use super::{Detail, HEADING, MUTED, OK, WARN, ago, findings};
use salve_core::Millis;
use salve_core::effect::shared::FluxKind;
use salve_core::report::{About, EffectSummary, Report};
use salve_core::sanitize::sanitized;

/// So many lines of one step are shown, unless one asks for all.
const LINES: usize = 12;

/// So many characters wide is the column of names at most.
const WIDE: usize = 48;

/// Prints step by step what would be sent, then what follows that nobody can know yet.
pub fn plan(report: &Report, layers: &str, detail: Detail, next: &str) {
    let digest: String = report.guest.digest.chars().take(8).collect();
    anstream::println!(
        "{HEADING}{} {}{HEADING:#} {MUTED}(sha256:{digest}…)   grants: {}   cluster {}{MUTED:#}\n",
        sanitized(&report.guest.name),
        sanitized(&report.guest.version),
        sanitized(layers),
        sanitized(&report.cluster.context)
    );
    let planned: Vec<&EffectSummary> =
        report.effects.iter().filter(|t| t.certainty.is_some()).collect();
    if planned.is_empty() {
        anstream::println!("nothing would be changed: {}", sanitized(&report.summary));
        findings("why", &report.evidence, detail);
        return;
    }
    let (exact, predicted): (Vec<&EffectSummary>, Vec<&EffectSummary>) =
        planned.into_iter().partition(|told| told.certainty == Some("exact"));
    for (n, step) in exact.chunk_by(|a, b| a.step == b.step).enumerate() {
        let name = step[0].step.as_deref().unwrap_or("");
        let targets: Vec<String> =
            step.iter().flat_map(|t| t.targets.iter().map(|target| kinded(target))).collect();
        anstream::println!(
            "{HEADING}{:>3} {:<9}{HEADING:#}{OK}exact{OK:#}      {}",
            n + 1,
            sanitized(name),
            sanitized(&summary(&targets))
        );
        let about: Vec<&About> = step.iter().flat_map(|told| &told.about).collect();
        let same = about
            .first()
            .filter(|first| about.iter().all(|one| one.why == first.why))
            .map(|first| first.why.as_str());
        if let Some(why) = same {
            anstream::println!("{:24}{MUTED}{}{MUTED:#}", "", sanitized(why));
        }
        let wide = about
            .iter()
            .map(|one| kinded(&one.target).chars().count())
            .max()
            .unwrap_or(0)
            .min(WIDE);
        let lines: Vec<String> = about
            .iter()
            .map(|one| {
                format!(
                    "{:<wide$}  {}",
                    kinded(&one.target),
                    told(one, same.is_none(), report.ended)
                )
            })
            .collect();
        folded(&lines, "", detail);
        let commands: Vec<String> = step.iter().flat_map(|t| t.commands.clone()).collect();
        folded(&commands, "$ ", detail);
    }
    anstream::println!("\n    {WARN}predicted{WARN:#}  {}", sanitized(&report.summary));
    for told in predicted {
        for target in &told.targets {
            anstream::println!(
                "    {WARN}predicted{WARN:#}  resume {}, as it was before",
                sanitized(&kinded(target))
            );
        }
    }
    let mut label = "notes";
    anstream::println!();
    for note in report.steps.iter().flat_map(|step| &step.notes) {
        anstream::println!("{MUTED}{label:<10}{MUTED:#}{}", sanitized(note));
        label = "";
    }
    anstream::println!("\n{MUTED}next{MUTED:#}      {}", sanitized(next));
}

/// Why it, how old, whose, when backed up last, and what brings it back.
fn told(about: &About, with_why: bool, now: Millis) -> String {
    let created = about
        .created
        .as_deref()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .and_then(|t| Millis::try_from(t.as_millisecond()).ok());
    // Who brings it back is said with that.
    let owner = about
        .owner
        .as_ref()
        .filter(|owner| !about.returns.as_ref().is_some_and(|returns| returns.contains(*owner)));
    let parts = [
        with_why.then(|| about.why.clone()),
        created.map(|at| format!("{} old", ago(at, now))),
        owner.map(|owner| format!("of {owner}")),
        about.last_backup.map(|at| format!("last backup {} ago", ago(at, now))),
        about.returns.clone(),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// One object by its name, several by their number.
fn summary(targets: &[String]) -> String {
    match targets {
        [one] => one.clone(),
        several => format!("{} objects", several.len()),
    }
}

/// Kinds as manifests spell them.
fn kinded(target: &str) -> String {
    FluxKind::ALL
        .iter()
        .find_map(|kind| {
            target.strip_prefix(kind.word()).map(|rest| format!("{}{rest}", kind.kind()))
        })
        .unwrap_or_else(|| target.into())
}

fn folded(lines: &[String], mark: &str, detail: Detail) {
    let shown = if detail == Detail::All { lines.len() } else { lines.len().min(LINES) };
    for line in &lines[..shown] {
        anstream::println!("{:24}{MUTED}{mark}{}{MUTED:#}", "", sanitized(line));
    }
    if shown < lines.len() {
        anstream::println!("{:24}{MUTED}… {} more: -v{MUTED:#}", "", lines.len() - shown);
    }
}
