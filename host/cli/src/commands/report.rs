//! `salve report`: renders the report of a run from its run file.

use super::print_json;
use crate::arguments::RunsArguments;
use crate::output::{self, CommandError, Detail};
use crate::runs;
use clap::{Args, ValueEnum};
use salve_core::report::{ReportBuilder, Verdict};
use salve_run::RunFile;

/// Show the report of a run: on the terminal, or as JSON, Markdown, or HTML.
///
/// Reads only the run file; needs no cluster.
///
/// Exit code 0, whatever the verdict of the run. 2: the run file is missing or damaged.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve report 7c1d03fe --as html > incident.html")]
pub struct Report {
    /// ID of the run (or a unique prefix), or path of its run file.
    run: String,
    /// Output format.
    #[arg(long = "as", value_enum, default_value_t = Format::Terminal)]
    format: Format,
    #[command(flatten)]
    runs: RunsArguments,
}

/// The output format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for this terminal.
    Terminal,
    /// One document, `kind: Report`.
    Json,
    /// Text to paste into an issue.
    Markdown,
    /// One self-contained page.
    Html,
}

impl Report {
    /// Prints the report to stdout.
    pub fn execute(self, verbose: u8) -> Result<u8, CommandError> {
        let path = runs::resolve(&runs::folder(self.runs.runs.as_ref())?, &self.run)?;
        let entries = RunFile::read(&path).map_err(|e| CommandError::document(e.to_string()))?;
        let header = runs::header(&entries, &path)?;
        let report =
            ReportBuilder::of(&entries).unwrap_or_else(|| ReportBuilder::new(header)).into_report();
        let detail = Detail::from_verbosity(verbose);
        match self.format {
            Format::Terminal if report.diagnosis.is_some() => {
                output::diagnosis(&report, &report.guest.name, detail)
            }
            Format::Terminal if report.verdict == Some(Verdict::Planned) => {
                let layers: Vec<_> =
                    header.grants.layers.iter().map(|layer| layer.source.as_str()).collect();
                output::plan(
                    &report,
                    &layers.join(" and "),
                    detail,
                    &format!("salve run --plan {}", path.display()),
                );
            }
            Format::Terminal => {
                output::report(&report, Some(&path), detail);
                output::timeline(&report, detail);
            }
            Format::Json => print_json(&report)?,
            Format::Markdown => anstream::print!("{}", output::markdown(&report)),
            Format::Html => anstream::print!("{}", output::html(&report)),
        }
        Ok(0)
    }
}
