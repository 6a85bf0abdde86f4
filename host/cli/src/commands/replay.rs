//! `salve replay`: replays a run offline, with the same guest and grants or with others.

use super::print_json;
use crate::arguments::{Output, OutputArguments, RunsArguments};
use crate::guest::{self, read_policy, read_remediation};
use crate::output::{self, CommandError, ERROR, MUTED, OK, plural};
use crate::session::replay::has_no_guest;
use crate::session::{Replayed, load, replay};
use crate::{components, runs};
use clap::Args;
use salve_core::document::API_VERSION;
use salve_core::grants::Grants;
use salve_core::journal::{Command, Entry, GuestExited, Header, RunResult};
use salve_core::report::ReportBuilder;
use salve_core::sanitize::sanitized;
use salve_run::RunFile;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Replay a run offline: every call of the guest is answered from the run file.
///
/// The same guest with the same grants must reach the same verdict and report. With another guest
/// (`--guest`) or other grants (`--policy`, `--remediation`), shows where the replay diverges from
/// what happened.
///
/// Exit code 0: identical. 1: diverged, or another verdict. 2: the run file, the guest, or a
/// document is invalid.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    salve replay 7c1d03fe\n  \
    salve replay 7c1d03fe --policy stricter.yaml      # what would this policy have denied?")]
pub struct Replay {
    /// ID of the run (or a unique prefix), or path of its run file.
    run: String,
    /// Guest to replay instead of the one that ran: a shipped guest, or path of a component or a
    /// Remediation document.
    #[arg(long, value_name = "GUEST")]
    guest: Option<String>,
    /// Remediation document to use instead of the recorded grants.
    #[arg(long, value_name = "FILE")]
    remediation: Option<PathBuf>,
    /// RemediationPolicy document that further limits the recorded grants.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Replay {
    /// Replays the run, prints whether it is identical, and returns the exit code.
    pub async fn execute(self) -> Result<u8, CommandError> {
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let path = runs::resolve(&folder, &self.run)?;
        let entries = RunFile::read(&path).map_err(|e| CommandError::document(e.to_string()))?;
        let header = runs::header(&entries, &path)?.clone();
        if header.command == Command::Undo {
            return Err(has_no_guest(&header));
        }
        let component = match &self.guest {
            Some(other) => guest::find_component(other)?.bytes,
            None => components::load(path.parent().unwrap_or(Path::new(".")), &header.digest)
                .map_err(|e| CommandError::document(format!("{e}\npass it with --guest")))?,
        };
        let other_grants = self.grants(&header)?;
        let (guest, _) = load(&component, "the guest", header.limits).await?;
        let replayed = replay(&guest, entries.clone(), other_grants).await?;
        let identical = replayed.divergence.is_none()
            && replayed_report(&entries, &replayed) == report(&entries);
        if self.output.output == Output::Json {
            print_json(&json!({
                "apiVersion": API_VERSION,
                "kind": "Replay",
                "run": header.run,
                "identical": identical,
                "divergence": replayed.divergence,
                "verdict": replayed.result.verdict.as_str(),
                "summary": replayed.result.summary,
            }))?;
        } else {
            print(&replayed, identical, entries.len());
        }
        Ok(if identical { 0 } else { 1 })
    }

    /// Returns the grants to replay with, or None for the recorded ones.
    fn grants(&self, header: &Header) -> Result<Option<Grants>, CommandError> {
        if self.remediation.is_none() && self.policy.is_none() {
            return Ok(None);
        }
        let mut layers = match &self.remediation {
            Some(path) => vec![read_remediation(path)?.0.layer(&path.display().to_string())],
            None => header.grants.layers.clone(),
        };
        if let Some(path) = &self.policy {
            layers.push(read_policy(path)?.0.layer(&path.display().to_string()));
        }
        Ok(Some(Grants { layers }))
    }
}

fn print(replayed: &Replayed, identical: bool, entries: usize) {
    let verdict = replayed.result.verdict.as_str();
    let summary = sanitized(&replayed.result.summary);
    match &replayed.divergence {
        Some(divergence) => output::divergence(divergence),
        None if identical => {
            let entries = plural(entries, "recorded line");
            anstream::println!(
                "{OK}IDENTICAL{OK:#}  {verdict}: {summary}   {MUTED}{entries}, byte for \
                 byte{MUTED:#}"
            );
        }
        None => {
            anstream::println!("{ERROR}VERDICT CHANGED{ERROR:#}  {verdict}: {summary}")
        }
    }
}

/// Returns the report of the recorded entries as JSON.
fn report(entries: &[Entry]) -> Option<String> {
    serde_json::to_string(ReportBuilder::of(entries)?.report()).ok()
}

/// Returns the report of the recorded entries as JSON, with the replayed exit and result.
fn replayed_report(entries: &[Entry], replayed: &Replayed) -> Option<String> {
    let replaced: Vec<Entry> = entries
        .iter()
        .map(|entry| match entry {
            Entry::GuestExited(exited) => Entry::GuestExited(Box::new(GuestExited {
                at: exited.at,
                exit: replayed.exit.clone(),
            })),
            // A recovered run may have several results, of which the last one counts.
            Entry::Verdict(result) if is_last(entries, result) => {
                Entry::Verdict(Box::new(replayed.result.clone()))
            }
            Entry::Header(_)
            | Entry::Approved(_)
            | Entry::Recovery(_)
            | Entry::Opened(_)
            | Entry::Closed(_)
            | Entry::Done(_)
            | Entry::Planned(_)
            | Entry::Verdict(_) => entry.clone(),
        })
        .collect();
    report(&replaced)
}

fn is_last(entries: &[Entry], result: &RunResult) -> bool {
    entries.last().and_then(Entry::verdict).is_some_and(|last| std::ptr::eq(last, result))
}
