//! A report as Markdown, to paste into an incident.

use super::diagnosis::ruled_out_label;
use super::{describe_outcome, duration, report_heading, timestamp};
use salve_core::proof::{ProblemStatus, VerifiedProblem};
use salve_core::report::{Finding, RecoverySummary, Report, State};
use salve_core::sanitize::sanitized;
use std::borrow::Cow;
use std::fmt::Write;

/// Renders a report as Markdown.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    write(report, &mut out).expect("writing to a String cannot fail");
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out, "# {}: {}\n", report_heading(report), escape(&report.summary))?;
    writeln!(out, "| | |\n|---|---|")?;
    for (name, value) in facts(report) {
        writeln!(out, "| {name} | {} |", escape(&value))?;
    }
    if !report.figures.is_empty() {
        writeln!(out, "\n| | Before | After |\n|---|---|---|")?;
        for figure in &report.figures {
            let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
            writeln!(
                out,
                "| {} | {} | {} |",
                escape(&figure.name),
                number(figure.before),
                number(figure.after)
            )?;
        }
    }
    for (heading, findings) in sections(report) {
        write_section(out, heading, &findings)?;
    }
    if !report.steps.is_empty() {
        writeln!(out, "\n## Steps\n")?;
        for (n, step) in report.steps.iter().enumerate() {
            writeln!(
                out,
                "{}. **{}** {} ({})",
                n + 1,
                escape(&step.name),
                escape(&step.title),
                duration(step.ended.saturating_sub(step.began))
            )?;
            for note in &step.notes {
                writeln!(out, "   - {}", escape(note))?;
            }
        }
    }
    if !report.effects.is_empty() {
        writeln!(
            out,
            "\n## Changes\n\n\
             | Step | Change | Equivalent command | Outcome |\n|---|---|---|---|"
        )?;
        for effect in &report.effects {
            let targets: Vec<_> = effect.targets.iter().map(|target| escape(target)).collect();
            let commands: Vec<_> =
                effect.commands.iter().map(|command| table_code(command)).collect();
            writeln!(
                out,
                "| {} | {} {} | {} | {} |",
                escape(effect.step.as_deref().unwrap_or("")),
                effect.effect.name(),
                targets.join(", "),
                commands.join("<br>"),
                escape(&describe_outcome(&effect.outcome))
            )?;
        }
    }
    Ok(())
}

/// Returns the facts at the head of a report, as names and values that are not escaped yet.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("Run", report.run.clone()),
        (
            "Guest",
            format!(
                "{} {} (sha256:{})",
                report.guest.name, report.guest.version, report.guest.digest
            ),
        ),
        (
            "Cluster",
            format!(
                "{} (kube-system {})",
                report.cluster.context,
                report.cluster.uid.as_deref().unwrap_or("unknown")
            ),
        ),
        ("Account", report.cluster.user.clone().unwrap_or_else(|| "unknown".into())),
        ("Limited by", limited_by(report)),
        ("Started", timestamp(report.began)),
        ("Duration", duration(report.ended.saturating_sub(report.began))),
    ];
    facts.extend(report.recoveries.iter().map(|summary| ("Recovered", recovery(summary))));
    facts
}

/// Describes when, where, and as which user a run was recovered.
pub(super) fn recovery(summary: &RecoverySummary) -> String {
    let machine =
        summary.machine.as_ref().map(|machine| format!(" on {machine}")).unwrap_or_default();
    let user = summary.user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
    let scope =
        if summary.release_only { ", only to release what the run had changed" } else { "" };
    format!(
        "{}, after its process died,{machine}{user} with salve {}{scope}",
        timestamp(summary.at),
        summary.salve
    )
}

/// Describes the enforcement layers that limited the account of the run, and those that did not.
fn limited_by(report: &Report) -> String {
    let layers = &report.cluster.enforcement;
    if layers.is_empty() {
        return "salve itself; the account's Role and admission policies were not checked".into();
    }
    let descriptions = layers.iter().map(|layer| {
        if layer.enforced {
            layer.name.to_string()
        } else {
            format!("not by {}: {}", layer.name, layer.reason)
        }
    });
    descriptions.collect::<Vec<_>>().join("; ")
}

/// Describes what the host verified.
pub(super) fn proof(report: &Report) -> Vec<Finding> {
    let describe = |problem: &VerifiedProblem| {
        let VerifiedProblem { name, status, text } = problem;
        match status {
            ProblemStatus::Cleared => format!("{name}: {text}"),
            ProblemStatus::Unverified => format!("{name} is not verified: {text}"),
            ProblemStatus::Remains => format!("{name} remains: {text}"),
        }
    };
    let texts = report.problems.iter().map(describe);
    texts.map(|text| Finding { text, details: vec![] }).collect()
}

/// Returns the findings of a report with their headings.
pub(super) fn sections(report: &Report) -> Vec<(&'static str, Cow<'_, [Finding]>)> {
    let none: &[Finding] = &[];
    let diagnosis = report.diagnosis.as_ref();
    let state = diagnosis.map_or(State::Incident, |d| d.state);
    vec![
        ("Proof", Cow::Owned(proof(report))),
        ("Evidence for", Cow::Borrowed(diagnosis.map_or(none, |d| &d.evidence_for))),
        ("Evidence against", Cow::Borrowed(diagnosis.map_or(none, |d| &d.evidence_against))),
        (ruled_out_label(state), Cow::Borrowed(diagnosis.map_or(none, |d| &d.ruled_out))),
        ("Evidence", Cow::Borrowed(&report.evidence)),
        ("Remaining", Cow::Borrowed(&report.remaining)),
        ("Prevention", Cow::Borrowed(&report.prevention)),
    ]
}

fn write_section(out: &mut String, heading: &str, findings: &[Finding]) -> std::fmt::Result {
    if findings.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {heading}\n")?;
    for finding in findings {
        writeln!(out, "- {}", escape(&finding.text))?;
        for line in &finding.details {
            writeln!(out, "  - {}", escape(line))?;
        }
    }
    Ok(())
}

/// Escapes text so that Markdown renders it literally. Not for code spans: see [`table_code`].
fn escape(text: &str) -> String {
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

/// Renders text as a code span in a table cell. Backslashes are literal in code spans, so nothing
/// is escaped except `|`, which would end the cell. The delimiter is longer than any sequence of
/// backticks in the text.
fn table_code(text: &str) -> String {
    let text = sanitized(text).replace('|', "\\|");
    let longest = text.split(|c: char| c != '`').map(str::len).max().unwrap_or(0);
    let delimiter = "`".repeat(longest + 1);
    // One space on each side is removed when the span is rendered.
    let pad = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    format!("{delimiter}{pad}{text}{pad}{delimiter}")
}

#[cfg(test)]
mod tests {
    use super::{escape, table_code};

    #[test]
    fn cluster_text_is_escaped() {
        assert_eq!(escape("[x](http://e) <b> |\n`"), r"\[x\](http://e) \<b\> \|\\u{a}\`");
    }

    #[test]
    fn only_pipes_are_escaped_in_code_spans_in_tables() {
        assert_eq!(
            table_code(r#"echo '{"schedule":"0 * * * *"}' | kubectl create -f -"#),
            r#"`echo '{"schedule":"0 * * * *"}' \| kubectl create -f -`"#
        );
        assert_eq!(table_code(r"kubectl get a_b <c> \d"), r"`kubectl get a_b <c> \d`");
    }

    #[test]
    fn the_fence_of_a_code_span_is_longer_than_backticks_in_the_text() {
        assert_eq!(table_code("a `b` c"), "``a `b` c``");
        assert_eq!(table_code("a ``b c"), "```a ``b c```");
        assert_eq!(table_code("`a"), "`` `a ``");
        assert_eq!(table_code("a\nb"), r"`a\u{a}b`");
    }
}
