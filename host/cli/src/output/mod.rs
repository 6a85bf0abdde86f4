//! Everything that users see. Results go to stdout, everything else to stderr. Color only
//! emphasizes what the text already says. Text from a cluster or a guest is sanitized first.

mod diagnosis;
mod divergence;
mod format;
mod html;
mod live;
pub mod manifest;
mod markdown;
mod plan;
mod prompt;
mod report;
mod timeline;
pub mod transcript;

pub use diagnosis::diagnosis;
pub use divergence::divergence;
pub use format::{duration, elapsed, plural, timestamp};
pub use html::html;
pub use live::Live;
pub use markdown::markdown;
pub use plan::plan;
pub use prompt::{TerminalPrompt, Typed, confirmation, read_line};
pub use report::report;
pub use timeline::timeline;

use anstyle::{AnsiColor, Style};
use salve_core::report::{EffectOutcome, Finding, Report, Verdict};
use salve_core::sanitize::sanitized;
use std::borrow::Cow;
use std::fmt;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// An error that ends a command before it has a result.
#[derive(Debug)]
pub struct CommandError {
    code: u8,
    text: String,
}

impl CommandError {
    /// Creates an error about the usage of the command.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }
    /// Creates an error about an invalid document, run file, or component.
    pub fn document(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }
    /// Creates an error about something that the grants or a policy deny.
    pub fn denied(text: impl Into<String>) -> Self {
        Self { code: 3, text: text.into() }
    }
    /// Creates an error about a cluster that rejected a request or did not respond.
    pub fn cluster(text: impl Into<String>) -> Self {
        Self { code: 4, text: text.into() }
    }
    /// Creates an error about a plan that was approved for something else.
    pub fn stale_plan(text: impl Into<String>) -> Self {
        Self { code: 9, text: text.into() }
    }
    /// Creates an error about a failure of the guest.
    pub fn guest(text: impl Into<String>) -> Self {
        Self { code: 6, text: text.into() }
    }
    /// Creates an error about a failure of salve or its machine.
    pub fn host(text: impl Into<String>) -> Self {
        Self { code: 6, text: text.into() }
    }
    /// Appends a line that says what else would help.
    #[must_use]
    pub fn with_hint(self, hint: &str) -> Self {
        Self { text: format!("{}\n{hint}", self.text), ..self }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Prints an error to stderr and returns its exit code. Line breaks are kept; all other control
/// characters are escaped.
pub fn print_error(error: &CommandError) -> ExitCode {
    let mut lines = error.text.lines();
    anstream::eprintln!("{ERROR}error{ERROR:#} {}", sanitized(lines.next().unwrap_or_default()));
    for line in lines {
        anstream::eprintln!("      {}", sanitized(line));
    }
    ExitCode::from(error.code)
}

/// Logs what the host does to stderr with `-vv`: each request with its method, path, status, and
/// duration. Only salve's own crates are logged: the logs of the client library may contain
/// credentials.
pub fn init_tracing(verbose: u8) {
    if verbose >= 2 {
        let crates = ["salve", "salve_run", "salve_sandbox", "salve_kubernetes"];
        let filter = Targets::new().with_targets(crates.map(|name| (name, LevelFilter::DEBUG)));
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(transcript::LogLine::default)
            .with_filter(filter);
        // Fails only if a subscriber is already set, which must not fail a run.
        let _ = tracing_subscriber::registry().with(layer).try_init();
    }
}

/// The style of good results.
pub const OK: Style = AnsiColor::Green.on_default().bold();
/// The style of failures.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The style of what needs attention.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// The style of secondary text.
pub const MUTED: Style = Style::new().dimmed();
/// The style of headings.
pub const HEADING: Style = Style::new().bold();

/// The width of the column of labels in reports.
const LABEL_WIDTH: usize = 18;

/// How many detail lines of a finding are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// None, only the finding itself.
    SummaryOnly,
    /// The first few.
    Some,
    /// All.
    All,
}

impl Detail {
    /// Returns the level for a number of `-v` flags.
    pub fn from_verbosity(verbose: u8) -> Self {
        if verbose > 0 { Self::All } else { Self::Some }
    }
    /// Returns how many of `lines` detail lines to show.
    fn shown(self, lines: usize) -> usize {
        match self {
            Self::SummaryOnly => 0,
            Self::Some => lines.min(4),
            Self::All => lines,
        }
    }
}

/// Returns the heading for a verdict: `FIXED`, `ACTION REQUIRED`.
fn verdict_heading(verdict: Verdict) -> String {
    verdict.as_str().to_uppercase().replace('-', " ")
}

/// Returns the heading of a report. A check has no verdict.
fn report_heading(report: &Report) -> String {
    report.verdict.map_or_else(|| "CHECKED".into(), verdict_heading)
}

/// Returns the style of a verdict.
fn verdict_style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Fixed | Verdict::ResolvedElsewhere | Verdict::NothingToDo | Verdict::Restored => {
            OK
        }
        Verdict::Planned | Verdict::DifferentProblem => HEADING,
        Verdict::NotFixed
        | Verdict::Unverified
        | Verdict::Inconclusive
        | Verdict::Denied
        | Verdict::NeedsApproval
        | Verdict::StalePlan
        | Verdict::Failed(_)
        | Verdict::ActionRequired => ERROR,
    }
}

/// Describes the outcome of a change.
fn describe_outcome(outcome: &EffectOutcome) -> Cow<'_, str> {
    match outcome {
        EffectOutcome::Ok => "ok".into(),
        EffectOutcome::Planned => "planned".into(),
        EffectOutcome::InDoubt => "no outcome was recorded: it may have been applied".into(),
        EffectOutcome::Partial(text) | EffectOutcome::Failed(text) => text.into(),
        EffectOutcome::TakenOver(why) => format!("not restored: {why}").into(),
    }
}

/// Prints a label and a line of text.
fn print_labeled(label: &str, text: &str) {
    anstream::println!("{MUTED}{label:<LABEL_WIDTH$}{MUTED:#}{text}");
}

/// Prints a block of findings: the label once, the findings below each other.
fn print_findings(label: &str, findings: &[Finding], detail: Detail) {
    let indent = LABEL_WIDTH + 2;
    let mut label = label;
    for finding in findings {
        print_labeled(label, &sanitized(&finding.text));
        label = "";
        let shown = detail.shown(finding.details.len());
        for line in &finding.details[..shown] {
            anstream::println!("{:indent$}{MUTED}{}{MUTED:#}", "", sanitized(line));
        }
        if detail == Detail::Some && shown < finding.details.len() {
            anstream::println!(
                "{:indent$}{MUTED}… {} more: -v{MUTED:#}",
                "",
                finding.details.len() - shown
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_have_readable_headings() {
        assert_eq!(verdict_heading(Verdict::NothingToDo), "NOTHING TO DO");
        assert_eq!(verdict_heading(Verdict::ActionRequired), "ACTION REQUIRED");
    }
}
