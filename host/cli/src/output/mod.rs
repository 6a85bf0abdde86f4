//! What a person sees. Results go to stdout, everything else to stderr; colour only marks what the words
//! already say, and whatever comes from a cluster or a guest is made inert first.

mod diagnosis;
mod divergence;
mod live;
pub mod manifest;
mod markdown;
mod page;
mod plan;
mod record;
mod report;
mod words;

pub use diagnosis::diagnosis;
pub use divergence::divergence;
pub use live::Live;
pub use markdown::markdown;
pub use page::page;
pub use plan::plan;
pub use record::record;
pub use report::report;
pub use words::{ago, count, duration, moment};

use anstyle::{AnsiColor, Style};
use salve_core::report::Finding;
use salve_core::sanitize::sanitized;
use std::fmt;
use std::process::ExitCode;

/// Why a command ended before it had a result.
#[derive(Debug)]
pub struct Failed {
    code: u8,
    text: String,
}

impl Failed {
    /// The person asked for what cannot be.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }
    /// A document or component is broken.
    pub fn document(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }
    /// A policy forbids it.
    pub fn denied(text: impl Into<String>) -> Self {
        Self { code: 3, text: text.into() }
    }
    /// The cluster refused, or is silent.
    pub fn cluster(text: impl Into<String>) -> Self {
        Self { code: 4, text: text.into() }
    }
    /// The guest broke.
    pub fn guest(text: impl Into<String>) -> Self {
        Self { code: 6, text: text.into() }
    }
    /// The same, with what else would help.
    #[must_use]
    pub fn with(self, way: &str) -> Self {
        Self { text: format!("{}\n{way}", self.text), ..self }
    }
    /// Salve or its machine broke.
    pub fn host(text: impl Into<String>) -> Self {
        Self { code: 6, text: text.into() }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Says why a command failed. Lines stay lines; everything else is inert.
pub fn failed(failed: &Failed) -> ExitCode {
    let mut lines = failed.text.lines();
    anstream::eprintln!("{ERROR}error{ERROR:#} {}", sanitized(lines.next().unwrap_or_default()));
    for line in lines {
        anstream::eprintln!("      {}", sanitized(line));
    }
    ExitCode::from(failed.code)
}

/// Traces of the host, for who asks twice. Ours alone: what the client library says may hold credentials.
pub fn trace(verbose: u8) {
    if verbose >= 2 {
        let filter = "off,salve=debug,salve_run=debug,salve_sandbox=debug,salve_kubernetes=debug";
        // A second subscriber would be our own mistake, and no reason to fail a run.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .try_init();
    }
}

/// What a person types, waited for on a thread of its own, so that signals are heard meanwhile.
pub async fn typed_line() -> Option<String> {
    let read = || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).ok().filter(|n| *n > 0).map(|_| line)
    };
    tokio::task::spawn_blocking(read).await.ok().flatten()
}

/// What holds and is well.
pub const OK: Style = AnsiColor::Green.on_default().bold();
/// What is wrong.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// What wants a look.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// What can be skipped.
pub const MUTED: Style = Style::new().dimmed();
/// A heading.
pub const HEADING: Style = Style::new().bold();

/// How much of the lines behind a finding is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// None: the sentences tell enough.
    Sentences,
    /// The first few.
    Some,
    /// All.
    All,
}

impl Detail {
    /// As `-v` says.
    pub fn of(verbose: u8) -> Self {
        if verbose > 0 { Self::All } else { Self::Some }
    }
    /// How many of `lines`.
    fn shown(self, lines: usize) -> usize {
        match self {
            Self::Sentences => 0,
            Self::Some => lines.min(4),
            Self::All => lines,
        }
    }
}

/// One labelled block of findings: the label once, the findings below each other.
pub fn findings(label: &str, findings: &[Finding], detail: Detail) {
    let mut label = label;
    for finding in findings {
        anstream::println!("{MUTED}{label:<10}{MUTED:#}{}", sanitized(&finding.text));
        label = "";
        let shown = detail.shown(finding.details.len());
        for line in &finding.details[..shown] {
            anstream::println!("{:12}{MUTED}{}{MUTED:#}", "", sanitized(line));
        }
        if detail == Detail::Some && shown < finding.details.len() {
            anstream::println!(
                "{:12}{MUTED}… {} more: -v{MUTED:#}",
                "",
                finding.details.len() - shown
            );
        }
    }
}
