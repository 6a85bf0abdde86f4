//! A report as Markdown, to paste into an incident.

use super::{duration, moment};
use salve_core::report::{Finding, RecoverySummary, Report};
use salve_core::sanitize::sanitized;
use std::fmt::Write;

/// The whole report.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    write(report, &mut out).expect("a String takes every write");
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "# {}: {}\n",
        report.verdict.to_uppercase().replace('-', " "),
        plain(&report.summary)
    )?;
    writeln!(out, "| | |\n|---|---|")?;
    for (name, value) in facts(report) {
        writeln!(out, "| {name} | {} |", plain(&value))?;
    }
    if !report.figures.is_empty() {
        writeln!(out, "\n| | before | after |\n|---|---|---|")?;
        for figure in &report.figures {
            let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
            writeln!(
                out,
                "| {} | {} | {} |",
                plain(&figure.name),
                number(figure.before),
                number(figure.after)
            )?;
        }
    }
    for (heading, all) in sections(report) {
        section(out, heading, all)?;
    }
    if !report.steps.is_empty() {
        writeln!(out, "\n## Steps\n")?;
        for (n, step) in report.steps.iter().enumerate() {
            writeln!(
                out,
                "{}. **{}** {} ({})",
                n + 1,
                plain(&step.name),
                plain(&step.title),
                duration(step.ended.saturating_sub(step.began))
            )?;
            for note in &step.notes {
                writeln!(out, "   - {}", plain(note))?;
            }
        }
    }
    if !report.effects.is_empty() {
        writeln!(
            out,
            "\n## What was changed\n\n| step | what | the same by hand | outcome |\n|---|---|---|---|"
        )?;
        for told in &report.effects {
            let targets: Vec<_> = told.targets.iter().map(|t| plain(t)).collect();
            let commands: Vec<_> =
                told.commands.iter().map(|c| format!("`{}`", plain(c).replace('`', "'"))).collect();
            writeln!(
                out,
                "| {} | {} {} | {} | {} |",
                plain(told.step.as_deref().unwrap_or("")),
                told.effect,
                targets.join(", "),
                commands.join("<br>"),
                plain(&told.outcome)
            )?;
        }
    }
    Ok(())
}

/// What stands at the head of a report, whoever renders it.
pub fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("run", report.run.clone()),
        (
            "guest",
            format!(
                "{} {} (sha256:{})",
                report.guest.name, report.guest.version, report.guest.digest
            ),
        ),
        (
            "cluster",
            format!(
                "{} (kube-system {})",
                report.cluster.context,
                report.cluster.uid.as_deref().unwrap_or("unknown")
            ),
        ),
        ("as", report.cluster.user.clone().unwrap_or_else(|| "unknown".into())),
        ("held by", held_by(report)),
        ("began", moment(report.began)),
        ("took", duration(report.ended.saturating_sub(report.began))),
    ];
    facts.extend(report.recoveries.iter().map(|one| ("taken up", taken_up(one))));
    facts
}

/// When, where and as whom a run was taken up, whoever renders it.
pub fn taken_up(one: &RecoverySummary) -> String {
    let machine = one.machine.as_ref().map(|machine| format!(" on {machine}")).unwrap_or_default();
    let user = one.user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
    let only = if one.release_only { ", only to give back what was suspended" } else { "" };
    format!(
        "{} after its process had died{machine}{user}, by Salve {}{only}",
        moment(one.at),
        one.salve
    )
}

/// The rings that hold its credential, and those that do not.
fn held_by(report: &Report) -> String {
    let enforcement = &report.cluster.enforcement;
    if enforcement.is_empty() {
        return "the host; nobody asked about its Role and its admission policies".into();
    }
    let said = enforcement.iter().map(|ring| {
        if ring.holds { ring.name.to_owned() } else { format!("NOT {}: {}", ring.name, ring.why) }
    });
    said.collect::<Vec<_>>().join("; ")
}

/// The findings of a report under their headings, whoever renders them.
pub fn sections(report: &Report) -> Vec<(&'static str, &[Finding])> {
    let none: &[Finding] = &[];
    let diagnosis = report.diagnosis.as_ref();
    vec![
        ("What speaks for it", diagnosis.map_or(none, |d| &d.evidence_for)),
        ("What speaks against it", diagnosis.map_or(none, |d| &d.evidence_against)),
        ("What it is instead", diagnosis.map_or(none, |d| &d.ruled_out)),
        ("Evidence", &report.evidence),
        ("What is left", &report.left),
        ("So that it does not come back", &report.prevention),
    ]
}

fn section(out: &mut String, heading: &str, all: &[Finding]) -> std::fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {heading}\n")?;
    for finding in all {
        writeln!(out, "- {}", plain(&finding.text))?;
        for line in &finding.details {
            writeln!(out, "  - {}", plain(line))?;
        }
    }
    Ok(())
}

/// Text that Markdown takes for text.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in sanitized(text).chars() {
        // mutant markdown-report-unescaped: matches ~> c.is_control() && matches
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '!' | '~' | '&')
        {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_a_cluster_says_is_no_markup() {
        assert_eq!(plain("[x](http://e) <b> |\n`"), r"\[x\](http://e) \<b\> \|\\u{a}\`");
    }
}
