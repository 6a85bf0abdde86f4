//! `salve report`: how a run came out, from its file alone.

use super::print_json;
use crate::arguments::RunsArguments;
use crate::output::{self, Detail, Failed};
use crate::runs;
use clap::{Args, ValueEnum};
use salve_core::report::{Report as ReportingJournal, Verdict};
use salve_run::RunFile;

/// Tells a run from its file: on the terminal, as JSON, as Markdown, or as one HTML file.
///
/// Needs no cluster. Exit code 0, whatever the run came to; 2 for a file that is damaged or none.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve report 7c1d03fe --as html > incident.html")]
pub struct Report {
    /// A run's id or the beginning of it, or the path of a run file.
    run: String,
    /// The form.
    #[arg(long = "as", value_enum, default_value_t = Form::Terminal)]
    form: Form,
    #[command(flatten)]
    runs: RunsArguments,
}

/// How a report is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For this terminal.
    Terminal,
    /// One document, `kind: Report`.
    Json,
    /// To paste into an incident.
    Markdown,
    /// One file that needs nothing else.
    Html,
}

impl Report {
    /// Tells it.
    pub fn execute(self, verbose: u8) -> Result<u8, Failed> {
        let path = runs::given(&runs::folder(self.runs.runs.as_ref())?, &self.run)?;
        let entries = RunFile::read(&path).map_err(|e| Failed::document(e.to_string()))?;
        let report = ReportingJournal::of(&entries).ok_or_else(|| {
            Failed::document(format!("{}: it does not begin with a run's header", path.display()))
        })?;
        match self.form {
            Form::Terminal if report.diagnosis.is_some() => {
                output::diagnosis(&report, &report.guest.name, Detail::of(verbose))
            }
            Form::Terminal if report.verdict == Verdict::Planned.word() => {
                let header = runs::header(&entries, &path)?;
                let layers: Vec<_> =
                    header.grants.layers.iter().map(|layer| layer.source.as_str()).collect();
                output::plan(
                    &report,
                    &layers.join(" and "),
                    Detail::of(verbose),
                    &format!("salve run --plan {}", path.display()),
                );
            }
            Form::Terminal => {
                output::report(&report, Some(&path), Detail::of(verbose));
                output::record(&report, Detail::of(verbose));
            }
            Form::Json => print_json(&report)?,
            Form::Markdown => anstream::print!("{}", output::markdown(&report)),
            Form::Html => anstream::print!("{}", output::page(&report)),
        }
        Ok(0)
    }
}
