//! What a run would do.

use super::{CARE, DIM, Detail, GOOD, HEAD, findings};
use salve_core::effect::shared::FluxKind;
use salve_core::effect::suspend_flux::Resume;
use salve_core::report::{Report, Told};
use salve_core::text::inert;

/// So many lines of one step are shown, unless one asks for all.
const LINES: usize = 12;

/// Prints step by step what would be sent, then what follows that nobody can know yet.
pub fn plan(report: &Report, releases: &[Resume], guest: &str, layers: &str, detail: Detail) {
    let digest: String = report.guest.digest.chars().take(8).collect();
    anstream::println!(
        "{HEAD}{} {}{HEAD:#} {DIM}(sha256:{digest}…)   grants: {}   cluster {}{DIM:#}\n",
        inert(&report.guest.name),
        inert(&report.guest.version),
        inert(layers),
        inert(&report.cluster.context)
    );
    let planned: Vec<&Told> = report.effects.iter().filter(|t| t.certainty.is_some()).collect();
    if planned.is_empty() {
        anstream::println!("nothing would be changed: {}", inert(&report.sentence));
        findings("why", &report.evidence, detail);
        return;
    }
    let mut n = 0;
    for step in planned.chunk_by(|a, b| a.step == b.step) {
        n += 1;
        let name = step[0].step.as_deref().unwrap_or("");
        let targets: Vec<String> = step.iter().flat_map(|t| t.targets.iter().map(|target| kinded(target))).collect();
        anstream::println!("{HEAD}{n:>3} {:<9}{HEAD:#}{GOOD}exact{GOOD:#}      {}", inert(name), inert(&summary(&targets)));
        let commands: Vec<String> = step.iter().flat_map(|t| t.commands.clone()).collect();
        print_folded(&commands, "$ ", detail);
    }
    anstream::println!("\n    {CARE}predicted{CARE:#}  {}", inert(&report.sentence));
    for release in releases {
        anstream::println!("    {CARE}predicted{CARE:#}  resume {}, as it was before", release.target);
    }
    let mut label = "notes";
    anstream::println!();
    for note in report.steps.iter().flat_map(|step| &step.notes) {
        anstream::println!("{DIM}{label:<10}{DIM:#}{}", inert(note));
        label = "";
    }
    anstream::println!("\n{DIM}next{DIM:#}      salve run {guest}        asks before it changes anything");
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
    FluxKind::ALL.iter().find_map(|kind| target.strip_prefix(kind.word()).map(|rest| format!("{}{rest}", kind.kind()))).unwrap_or_else(|| target.into())
}

fn print_folded(lines: &[String], mark: &str, detail: Detail) {
    let shown = if detail == Detail::All { lines.len() } else { lines.len().min(LINES) };
    for line in &lines[..shown] {
        anstream::println!("{:24}{DIM}{mark}{}{DIM:#}", "", inert(line));
    }
    if shown < lines.len() {
        anstream::println!("{:24}{DIM}… {} more: -v{DIM:#}", "", lines.len() - shown);
    }
}
