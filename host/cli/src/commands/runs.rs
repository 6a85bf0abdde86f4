//! `salve runs`: lists the runs of this machine, and prunes old ones.

use super::print_json;
use crate::arguments::{Output, OutputArguments, RunsArguments};
use crate::output::{CommandError, ERROR, MUTED, plural, timestamp};
use crate::{components, runs};
use clap::{Args, Subcommand};
use salve_core::Millis;
use salve_core::document::API_VERSION;
use salve_core::journal::{Command, Entry, Header, RunResult};
use salve_core::sanitize::sanitized;
use salve_run::RunFile;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// List the runs of this machine, newest last, with their verdicts.
///
/// A run without a verdict is `running` or `crashed`; one that `needs action` left something
/// suspended or locked. The command that finishes such a run is printed next to it. Runs are kept
/// until they are pruned.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve runs --output json | jq '.items[].state'")]
pub struct Runs {
    #[command(subcommand)]
    command: Option<RunsCommand>,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    Prune(Prune),
}

/// Delete old runs, and components that no remaining run needs.
///
/// Never deletes a run that is running, is unfinished, or needs action, nor a damaged run file.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve runs prune --older-than 30 --dry-run")]
struct Prune {
    /// Delete only runs that started at least this many days ago.
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    older_than: u64,
    /// Keep this many of the newest runs, whatever their age.
    #[arg(long, value_name = "N", default_value_t = 20)]
    keep: usize,
    /// Print what would be deleted, and delete nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    runs: RunsArguments,
}

/// A run file of the folder.
struct ListedRun {
    path: PathBuf,
    content: Content,
}

enum Content {
    Damaged(String),
    Run { header: Box<Header>, result: Option<RunResult>, is_running: bool },
}

impl ListedRun {
    fn read(path: PathBuf) -> Self {
        let content = match RunFile::read(&path) {
            Err(error) => Content::Damaged(error.to_string()),
            Ok(entries) => match entries.first().and_then(Entry::header) {
                Some(header) => Content::Run {
                    header: Box::new(header.clone()),
                    result: entries.last().and_then(Entry::verdict).cloned(),
                    is_running: RunFile::is_running(&path).unwrap_or(false),
                },
                None => Content::Damaged("it does not start with a header".into()),
            },
        };
        Self { path, content }
    }

    /// Returns the state of the run and, if there is something to do, the next step.
    fn state(&self) -> (String, Option<String>) {
        match &self.content {
            Content::Damaged(why) => ("damaged".into(), Some(why.clone())),
            Content::Run { is_running: true, .. } => ("running".into(), None),
            Content::Run { header, result: None, .. } => {
                ("crashed".into(), Some(next_step(header)))
            }
            Content::Run { header, result: Some(result), .. } if !result.open.is_empty() => {
                ("needs action".into(), Some(next_step(header)))
            }
            Content::Run { result: Some(result), .. } => (result.verdict.as_str().into(), None),
        }
    }

    fn can_be_pruned(&self, before: Millis) -> bool {
        match &self.content {
            Content::Run { header, result: Some(result), is_running: false } => {
                result.open.is_empty() && header.at <= before
            }
            // A plan changes nothing, so an unfinished one leaves nothing to clean up.
            // mutant prune-removes-unfinished: command == Command::Plan && header.at ~> at
            Content::Run { header, result: None, is_running: false } => {
                header.command == Command::Plan && header.at <= before
            }
            Content::Run { .. } | Content::Damaged(_) => false,
        }
    }
}

/// Returns the command that finishes or cleans up a run.
fn next_step(header: &Header) -> String {
    match header.command {
        Command::Run => format!("salve recover {}", header.run),
        Command::Undo => format!("salve recover {} --release", header.run),
        Command::Check | Command::Plan => "it changed nothing".into(),
    }
}

impl Runs {
    /// Prints the list, or prunes.
    pub fn execute(self) -> Result<u8, CommandError> {
        if let Some(RunsCommand::Prune(prune)) = self.command {
            return prune.execute();
        }
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let all: Vec<ListedRun> = runs::all(&folder)?.into_iter().map(ListedRun::read).collect();
        if self.output.output == Output::Json {
            let items: Vec<_> = all.iter().map(document).collect();
            print_json(&json!({"apiVersion": API_VERSION, "kind": "Runs", "items": items}))?;
            return Ok(0);
        }
        for run in &all {
            let (state, next) = run.state();
            match &run.content {
                Content::Damaged(why) => anstream::println!(
                    "{ERROR}damaged{ERROR:#}   {}: {}",
                    sanitized(&file_name(&run.path)),
                    sanitized(why)
                ),
                Content::Run { header, .. } => anstream::println!(
                    "{}  {:<5} {:<12} {:<24} {:<18} {MUTED}{}{MUTED:#}{}",
                    sanitized(&header.run),
                    header.command.as_str(),
                    sanitized(&header.context),
                    format!(
                        "{} {}",
                        sanitized(&header.guest.name),
                        sanitized(&header.guest.version)
                    ),
                    state,
                    timestamp(header.at),
                    next.map(|next| format!("   {ERROR}{}{ERROR:#}", sanitized(&next)))
                        .unwrap_or_default(),
                ),
            }
        }
        Ok(0)
    }
}

fn document(run: &ListedRun) -> serde_json::Value {
    let (state, next) = run.state();
    match &run.content {
        Content::Damaged(why) => json!({"file": run.path, "damage": why}),
        Content::Run { header, result, .. } => json!({
            "file": run.path,
            "run": header.run,
            "command": header.command,
            "guest": header.guest.name,
            "cluster": header.context,
            "began": header.at,
            "verdict": result.as_ref().map(|result| result.verdict.as_str()),
            "summary": result.as_ref().map(|result| result.summary.clone()),
            "state": state,
            "next": next,
        }),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Prune {
    fn execute(self) -> Result<u8, CommandError> {
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis);
        let before = now.saturating_sub(self.older_than.saturating_mul(86_400_000));
        let mut all: Vec<ListedRun> =
            runs::all(&folder)?.into_iter().map(ListedRun::read).collect();
        all.sort_by_key(|run| match &run.content {
            Content::Run { header, .. } => header.at,
            Content::Damaged(_) => 0,
        });
        // mutant prune-keeps-none: ().saturating_sub(self.keep) ~> ()
        let candidates = all.len().saturating_sub(self.keep);
        let (pruned, kept): (Vec<_>, Vec<_>) = all
            .into_iter()
            .enumerate()
            .partition(|(index, run)| *index < candidates && run.can_be_pruned(before));
        let needed: BTreeSet<&str> = kept
            .iter()
            .filter_map(|(_, run)| match &run.content {
                Content::Run { header, .. } => Some(header.digest.as_str()),
                Content::Damaged(_) => None,
            })
            .collect();
        // A damaged file may need any component.
        let any_damaged = kept.iter().any(|(_, run)| matches!(run.content, Content::Damaged(_)));
        // mutant prune-removes-needed-component: (digest, _)| !any_damaged &&
        //     !needed.contains(digest.as_str()) ~> _| !any_damaged
        let unneeded: Vec<_> = components::all(&folder)
            .into_iter()
            .filter(|(digest, _)| !any_damaged && !needed.contains(digest.as_str()))
            .collect();
        let damaged: Vec<_> = pruned
            .iter()
            .flat_map(|(_, run)| RunFile::damaged_copies(&run.path).unwrap_or_default())
            .collect();
        let action = if self.dry_run { "would remove" } else { "removed" };
        for path in pruned
            .iter()
            .map(|(_, run)| &run.path)
            .chain(&damaged)
            .chain(unneeded.iter().map(|(_, path)| path))
        {
            if !self.dry_run {
                std::fs::remove_file(path).map_err(|e| {
                    CommandError::host(format!("failed to remove {}: {e}", path.display()))
                })?;
            }
            anstream::println!("{action}  {}", sanitized(&path.display().to_string()));
        }
        anstream::println!(
            "{action} {} and {}; {} kept",
            plural(pruned.len(), "run"),
            plural(unneeded.len(), "component"),
            plural(kept.len(), "run")
        );
        Ok(0)
    }
}
