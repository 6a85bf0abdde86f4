//! A report as one HTML file that needs nothing else: readable on a phone, in the dark, and on paper.

use super::markdown::{facts, sections};
use super::{duration, moment};
use salve_core::report::Report;
use salve_core::sanitize::sanitized;
use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--dim:#767676;--good:#1a7f37;--bad:#c4291c}
@media(prefers-color-scheme:dark){:root{--dim:#9a9a9a;--good:#4ac26b;--bad:#ff7b72}}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}
h1{font-size:1.4rem;line-height:1.3}h1 b{color:var(--bad)}h1.good b{color:var(--good)}h2{font-size:1.1rem;margin-top:2rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;color:var(--dim)}dd{margin:0}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}
code{font:.85em ui-monospace,monospace}small,summary,li li{color:var(--dim)}
@media(max-width:40rem){.effects,.effects tbody,.effects tr,.effects td{display:block}.effects thead{display:none}.effects td{border:0;padding:.1rem 0}.effects tr{border-bottom:1px solid var(--line);padding:.5rem 0}}
@media print{body{max-width:none;font-size:11pt}details>*{display:block}tr{break-inside:avoid}}";

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    write(report, &mut out).expect("a String takes every write");
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let word = report.verdict.to_uppercase().replace('-', " ");
    let class =
        if matches!(report.verdict, "fixed" | "nothing-to-do") { " class=\"good\"" } else { "" };
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
    )?;
    // Nothing is fetched and nothing runs, whatever a cluster has put into the text.
    writeln!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )?;
    writeln!(
        out,
        "<title>{} {}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        plain(&report.guest.name),
        plain(&report.run)
    )?;
    writeln!(out, "<h1{class}><b>{word}</b> {}</h1>\n<dl>", plain(&report.summary))?;
    for (name, value) in facts(report) {
        writeln!(out, "<dt>{name}</dt><dd>{}</dd>", plain(&value))?;
    }
    writeln!(out, "</dl>")?;
    figures(report, out)?;
    for (heading, all) in sections(report).into_iter().filter(|(_, all)| !all.is_empty()) {
        writeln!(out, "<h2>{heading}</h2>\n<ul>")?;
        for finding in all {
            writeln!(out, "<li>{}", plain(&finding.text))?;
            list(&finding.details, out)?;
            writeln!(out, "</li>")?;
        }
        writeln!(out, "</ul>")?;
    }
    steps(report, out)?;
    effects(report, out)?;
    writeln!(out, "</body>\n</html>")
}

fn figures(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.figures.is_empty() {
        return Ok(());
    }
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    writeln!(out, "<table><thead><tr><th></th><th>before</th><th>after</th></tr></thead><tbody>")?;
    for figure in &report.figures {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            plain(&figure.name),
            number(figure.before),
            number(figure.after)
        )?;
    }
    writeln!(out, "</tbody></table>")
}

fn steps(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.steps.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Steps</h2>\n<ol>")?;
    for step in &report.steps {
        let took = duration(step.ended.saturating_sub(step.began));
        writeln!(
            out,
            "<li><b>{}</b> {} <small>{} · {took}</small>",
            plain(&step.name),
            plain(&step.title),
            moment(step.began)
        )?;
        list(&step.notes, out)?;
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ol>")
}

fn effects(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.effects.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>What was changed</h2>\n<table class=\"effects\"><thead><tr><th>step</th><th>what</th><th>the same by hand</th><th>outcome</th></tr></thead><tbody>"
    )?;
    for told in &report.effects {
        let targets: Vec<_> = told.targets.iter().map(|t| plain(t)).collect();
        let commands: Vec<_> =
            told.commands.iter().map(|c| format!("<code>{}</code>", plain(c))).collect();
        writeln!(
            out,
            "<tr><td>{}</td><td>{}<br><small>{}</small></td><td>{}</td><td>{}</td></tr>",
            plain(told.step.as_deref().unwrap_or("")),
            told.effect,
            targets.join("<br>"),
            commands.join("<br>"),
            plain(&told.outcome)
        )?;
    }
    writeln!(out, "</tbody></table>")
}

fn list(lines: &[String], out: &mut String) -> std::fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "<ul>")?;
    for line in lines {
        writeln!(out, "<li>{}</li>", plain(line))?;
    }
    writeln!(out, "</ul>")
}

/// Text that a browser takes for text.
fn plain(text: &str) -> String {
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
    use super::plain;

    #[test]
    fn what_a_cluster_says_is_no_markup() {
        assert_eq!(
            plain("<script>\u{202e}'\"&\n"),
            "&lt;script&gt;\\u{202e}&#39;&quot;&amp;\\u{a}"
        );
    }
}
