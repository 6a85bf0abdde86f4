//! A report as a self-contained HTML page for phones, dark mode, and print.

use super::markdown::{facts, sections};
use super::{describe_outcome, duration, report_heading, timestamp};
use salve_core::report::{Report, Verdict};
use salve_core::sanitize::sanitized;
use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--dim:#767676;--good:#1a7f37;--bad:#c4291c}
@media(prefers-color-scheme:dark){:root{--dim:#9a9a9a;--good:#4ac26b;--bad:#ff7b72}}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;\
 overflow-wrap:anywhere}
h1{font-size:1.4rem;line-height:1.3}h1 b{color:var(--bad)}\
 h1.good b{color:var(--good)}h2{font-size:1.1rem;margin-top:2rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;color:var(--dim)}dd{margin:0}
table{border-collapse:collapse;width:100%}\
 th,td{text-align:left;vertical-align:top;\
 padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}
code{font:.85em ui-monospace,monospace}small,summary,li li{color:var(--dim)}
@media(max-width:40rem){.effects,.effects tbody,.effects tr,.effects td{display:block}\
 .effects thead{display:none}.effects td{border:0;padding:.1rem 0}\
 .effects tr{border-bottom:1px solid var(--line);padding:.5rem 0}}
@media print{body{max-width:none;font-size:11pt}details>*{display:block}tr{break-inside:avoid}}";

/// Renders a report as an HTML page.
pub fn html(report: &Report) -> String {
    let mut out = String::new();
    write(report, &mut out).expect("writing to a String cannot fail");
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let heading = report_heading(report);
    let class = match report.verdict {
        Some(
            Verdict::Fixed | Verdict::ResolvedElsewhere | Verdict::NothingToDo | Verdict::Restored,
        ) => " class=\"good\"",
        None
        | Some(
            Verdict::DifferentProblem
            | Verdict::NotFixed
            | Verdict::Unverified
            | Verdict::Inconclusive
            | Verdict::Denied
            | Verdict::NeedsApproval
            | Verdict::StalePlan
            | Verdict::Failed(_)
            | Verdict::ActionRequired
            | Verdict::Planned,
        ) => "",
    };
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
    )?;
    // Nothing is fetched and no script runs, even if escaping failed.
    writeln!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )?;
    writeln!(
        out,
        "<title>{} {}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        escape(&report.guest.name),
        escape(&report.run)
    )?;
    writeln!(out, "<h1{class}><b>{heading}</b> {}</h1>\n<dl>", escape(&report.summary))?;
    for (name, value) in facts(report) {
        writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&value))?;
    }
    writeln!(out, "</dl>")?;
    write_figures(report, out)?;
    for (heading, findings) in
        sections(report).into_iter().filter(|(_, findings)| !findings.is_empty())
    {
        writeln!(out, "<h2>{heading}</h2>\n<ul>")?;
        for finding in findings.iter() {
            writeln!(out, "<li>{}", escape(&finding.text))?;
            write_list(&finding.details, out)?;
            writeln!(out, "</li>")?;
        }
        writeln!(out, "</ul>")?;
    }
    write_steps(report, out)?;
    write_effects(report, out)?;
    writeln!(out, "</body>\n</html>")
}

fn write_figures(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.figures.is_empty() {
        return Ok(());
    }
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    writeln!(out, "<table><thead><tr><th></th><th>Before</th><th>After</th></tr></thead><tbody>")?;
    for figure in &report.figures {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&figure.name),
            number(figure.before),
            number(figure.after)
        )?;
    }
    writeln!(out, "</tbody></table>")
}

fn write_steps(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.steps.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Steps</h2>\n<ol>")?;
    for step in &report.steps {
        let took = duration(step.ended.saturating_sub(step.began));
        writeln!(
            out,
            "<li><b>{}</b> {} <small>{} · {took}</small>",
            escape(&step.name),
            escape(&step.title),
            timestamp(step.began)
        )?;
        write_list(&step.notes, out)?;
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ol>")
}

fn write_effects(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.effects.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>Changes</h2>\n<table class=\"effects\"><thead><tr><th>Step</th><th>Change</th>\
         <th>Equivalent command</th><th>Outcome</th></tr></thead><tbody>"
    )?;
    for effect in &report.effects {
        let targets: Vec<_> = effect.targets.iter().map(|target| escape(target)).collect();
        let commands: Vec<_> = effect
            .commands
            .iter()
            .map(|command| format!("<code>{}</code>", escape(command)))
            .collect();
        writeln!(
            out,
            "<tr><td>{}</td><td>{}<br><small>{}</small></td><td>{}</td><td>{}</td></tr>",
            escape(effect.step.as_deref().unwrap_or("")),
            effect.effect.name(),
            targets.join("<br>"),
            commands.join("<br>"),
            escape(&describe_outcome(&effect.outcome))
        )?;
    }
    writeln!(out, "</tbody></table>")
}

fn write_list(lines: &[String], out: &mut String) -> std::fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "<ul>")?;
    for line in lines {
        writeln!(out, "<li>{}</li>", escape(line))?;
    }
    writeln!(out, "</ul>")
}

/// Escapes text for HTML content and attribute values.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in sanitized(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            // mutant html-report-unescaped: push_str("&lt;") ~> push('<')
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn cluster_text_is_escaped() {
        assert_eq!(
            escape("<script>\u{202e}'\"&\n"),
            "&lt;script&gt;\\u{202e}&#39;&quot;&amp;\\u{a}"
        );
    }
}
