//! `salve replay`: a run told again from its file, offline: by the same guest, by another version of it, under other grants.

use super::print_json;
use crate::arguments::{Output, OutputArguments, RunsArguments};
use crate::guest::{self, read_policy, read_remediation};
use crate::output::{self, ERROR, Failed, MUTED, OK, count};
use crate::session::{Replayed, load, replay};
use crate::{components, runs};
use clap::Args;
use salve_core::grants::Grants;
use salve_core::journal::{Entry, GuestExited, Header, RunResult};
use salve_core::report::Report;
use salve_core::sanitize::sanitized;
use salve_run::RunFile;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Runs the guest over a run file again, with no cluster: every call is answered from the record.
///
/// The same guest under the same grants comes to the same verdict, byte for byte. Another version of it (`--guest`), or
/// other grants (`--policy`, `--remediation`), are shown where they would part from what happened.
///
/// Exit code 0: the same. 1: it parts. 2: the file, the guest or a document is broken.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  salve replay 7c1d03fe\n  salve replay 7c1d03fe --policy stricter.yaml      # what would this policy have stopped?"
)]
pub struct Replay {
    /// A run's id or the beginning of it, or the path of a run file.
    run: String,
    /// Another guest in place of the one that ran: a shipped name, a component, or a Remediation document.
    #[arg(long, value_name = "GUEST")]
    guest: Option<String>,
    /// Another Remediation in place of the grants that held.
    #[arg(long, value_name = "FILE")]
    remediation: Option<PathBuf>,
    /// A Policy above the grants that held.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Replay {
    /// Replays it.
    pub async fn execute(self) -> Result<u8, Failed> {
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let path = runs::given(&folder, &self.run)?;
        let entries = RunFile::read(&path).map_err(|e| Failed::document(e.to_string()))?;
        let header = runs::header(&entries, &path)?.clone();
        if header.command == "undo" {
            return Err(Failed::usage(format!(
                "{} is an undo: no guest took part in it that could be run again",
                sanitized(&header.run)
            )));
        }
        let component = match &self.guest {
            Some(other) => guest::component(other)?.bytes,
            None => components::find(path.parent().unwrap_or(Path::new(".")), &header.digest)
                .map_err(|e| Failed::document(format!("{e}\ngive it with --guest")))?,
        };
        let other = self.grants(&header)?;
        let (guest, _) = load(&component, "the guest", header.limits).await?;
        let again = replay(&guest, entries.clone(), other).await?;
        let same = again.parts.is_none() && told_again(&entries, &again) == told(&entries);
        if self.output.output == Output::Json {
            let closing = &again.closing;
            print_json(&json!({
                "apiVersion": "salve.dev/v1alpha1", "kind": "Replay", "run": header.run, "same": same,
                "parts": again.parts, "verdict": closing.verdict.word(), "sentence": closing.summary,
            }))?;
        } else {
            say(&again, same, entries.len());
        }
        Ok(if same { 0 } else { 1 })
    }

    /// The grants to compare with, where others are asked about.
    fn grants(&self, header: &Header) -> Result<Option<Grants>, Failed> {
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

fn say(again: &Replayed, same: bool, entries: usize) {
    let closing = &again.closing;
    match &again.parts {
        None if same => {
            let what = count(entries, "recorded line");
            anstream::println!(
                "{OK}THE SAME{OK:#}  {}: {}   {MUTED}{what}, byte for byte{MUTED:#}",
                closing.verdict.word(),
                sanitized(&closing.summary)
            );
        }
        None => anstream::println!(
            "{ERROR}JUDGED OTHERWISE{ERROR:#}  {}: {}",
            closing.verdict.word(),
            sanitized(&closing.summary)
        ),
        Some(divergence) => output::divergence(divergence),
    }
}

/// The run as its file tells it.
fn told(entries: &[Entry]) -> Option<String> {
    Report::of(entries).and_then(|report| serde_json::to_string(&report).ok())
}

/// The run as its file would tell it, had it ended as the replay does.
fn told_again(entries: &[Entry], again: &Replayed) -> Option<String> {
    let replaced: Vec<Entry> = entries
        .iter()
        .map(|entry| match entry {
            Entry::GuestExited(ended) => Entry::GuestExited(Box::new(GuestExited {
                at: ended.at,
                ending: again.ending.clone(),
            })),
            // Of several the last is what holds: before a run was taken up, another may have been written.
            Entry::Verdict(closing) if is_last(entries, closing) => {
                Entry::Verdict(Box::new(again.closing.clone()))
            }
            other => other.clone(),
        })
        .collect();
    told(&replaced)
}

fn is_last(entries: &[Entry], closing: &RunResult) -> bool {
    matches!(entries.last(), Some(Entry::Verdict(last)) if std::ptr::eq(&raw const **last, closing))
}
