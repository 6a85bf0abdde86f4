//! `salve runs`: what was run from this machine, and what of it is kept.

use super::print_json;
use crate::arguments::{Output, OutputArguments, RunsArguments};
use crate::output::{ERROR, Failed, MUTED, count, moment};
use crate::{components, runs};
use clap::{Args, Subcommand};
use salve_core::Millis;
use salve_core::journal::{Entry, Header, RunResult};
use salve_core::sanitize::sanitized;
use salve_run::RunFile;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lists the runs of this machine, the newest last: how each ended, and which have no end.
///
/// They are kept until they are pruned.
#[derive(Debug, Args)]
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

/// Removes old runs, and the components that no run needs any more.
///
/// Never a run that is at work, has no end, or left something open; never a file that is damaged.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  salve runs prune --older-than 30 --dry-run")]
struct Prune {
    /// Only what began so many days ago or earlier.
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    older_than: u64,
    /// So many of the newest stay, however old.
    #[arg(long, value_name = "N", default_value_t = 20)]
    keep: usize,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    runs: RunsArguments,
}

/// One file of the folder.
struct Kept {
    path: PathBuf,
    state: State,
}

enum State {
    Damaged(String),
    Run { header: Box<Header>, closing: Option<RunResult>, at_work: bool },
}

impl Kept {
    fn read(path: PathBuf) -> Self {
        let state = match RunFile::read(&path) {
            Err(error) => State::Damaged(error.to_string()),
            Ok(entries) => match entries.first() {
                Some(Entry::Header(header)) => {
                    let closing = entries.last().and_then(Entry::verdict).cloned();
                    State::Run {
                        header: header.clone(),
                        closing,
                        at_work: RunFile::is_at_work(&path).unwrap_or(false),
                    }
                }
                Some(_) | None => State::Damaged("it holds no header".into()),
            },
        };
        Self { path, state }
    }

    /// What became of it, in a word and what helps.
    fn word(&self) -> (String, Option<String>) {
        match &self.state {
            State::Damaged(why) => ("damaged".into(), Some(why.clone())),
            State::Run { at_work: true, .. } => ("at work".into(), None),
            State::Run { header, closing: None, .. } => ("died".into(), Some(recovery(header))),
            State::Run { header, closing: Some(closing), .. } if !closing.is_whole() => {
                (closing.verdict.word().into(), Some(recovery(header)))
            }
            State::Run { closing: Some(closing), .. } => (closing.verdict.word().into(), None),
        }
    }

    fn may_go(&self, before: Millis) -> bool {
        match &self.state {
            State::Run { header, closing: Some(closing), at_work: false } => {
                closing.is_whole() && header.at <= before
            }
            // What changes nothing leaves nothing.
            // mutant prune-removes-unfinished: command == "plan" && header.at ~> at
            State::Run { header, closing: None, at_work: false } => {
                header.command == "plan" && header.at <= before
            }
            State::Run { .. } | State::Damaged(_) => false,
        }
    }
}

fn recovery(header: &Header) -> String {
    match header.command.as_str() {
        "run" => format!("salve recover {}", header.run),
        "undo" => format!("salve recover {} --release", header.run),
        _ => "it changed nothing".into(),
    }
}

impl Runs {
    /// Lists them.
    pub fn execute(self) -> Result<u8, Failed> {
        if let Some(RunsCommand::Prune(prune)) = self.command {
            return prune.execute();
        }
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let all: Vec<Kept> = runs::all(&folder)?.into_iter().map(Kept::read).collect();
        if self.output.output == Output::Json {
            let items: Vec<_> = all.iter().map(document).collect();
            print_json(
                &json!({"apiVersion": "salve.dev/v1alpha1", "kind": "Runs", "items": items}),
            )?;
            return Ok(0);
        }
        for kept in &all {
            let (word, help) = kept.word();
            match &kept.state {
                State::Damaged(why) => anstream::println!(
                    "{ERROR}damaged{ERROR:#}   {}: {}",
                    sanitized(&file_name(&kept.path)),
                    sanitized(why)
                ),
                State::Run { header, .. } => anstream::println!(
                    "{}  {:<5} {:<12} {:<24} {:<18} {MUTED}{}{MUTED:#}{}",
                    sanitized(&header.run),
                    sanitized(&header.command),
                    sanitized(&header.context),
                    format!(
                        "{} {}",
                        sanitized(&header.guest.name),
                        sanitized(&header.guest.version)
                    ),
                    word,
                    moment(header.at),
                    help.map(|help| format!("   {ERROR}{}{ERROR:#}", sanitized(&help)))
                        .unwrap_or_default(),
                ),
            }
        }
        Ok(0)
    }
}

fn document(kept: &Kept) -> serde_json::Value {
    let (word, help) = kept.word();
    match &kept.state {
        State::Damaged(why) => json!({"file": kept.path, "damage": why}),
        State::Run { header, closing, .. } => json!({
            "file": kept.path, "run": header.run, "command": header.command, "guest": header.guest.name, "cluster": header.context, "began": header.at,
            "verdict": closing.as_ref().map(|c| c.verdict.word()), "sentence": closing.as_ref().map(|c| c.summary.clone()), "state": word, "next": help,
        }),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Prune {
    fn execute(self) -> Result<u8, Failed> {
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis);
        let before = now.saturating_sub(self.older_than.saturating_mul(86_400_000));
        let mut all: Vec<Kept> = runs::all(&folder)?.into_iter().map(Kept::read).collect();
        all.sort_by_key(|kept| match &kept.state {
            State::Run { header, .. } => header.at,
            State::Damaged(_) => 0,
        });
        // mutant prune-keeps-none: ().saturating_sub(self.keep) ~> ()
        let spared = all.len().saturating_sub(self.keep);
        let (gone, stays): (Vec<_>, Vec<_>) = all
            .into_iter()
            .enumerate()
            .partition(|(index, kept)| *index < spared && kept.may_go(before));
        let needed: BTreeSet<&str> = stays
            .iter()
            .filter_map(|(_, kept)| match &kept.state {
                State::Run { header, .. } => Some(header.digest.as_str()),
                State::Damaged(_) => None,
            })
            .collect();
        // Which component a damaged file needs, nobody can tell.
        let unsure = stays.iter().any(|(_, kept)| matches!(kept.state, State::Damaged(_)));
        // mutant prune-removes-needed-component: (digest, _)| !unsure &&
        //     !needed.contains(digest.as_str()) ~> _| !unsure
        let unneeded: Vec<_> = components::all(&folder)
            .into_iter()
            .filter(|(digest, _)| !unsure && !needed.contains(digest.as_str()))
            .collect();
        let word = if self.dry_run { "would remove" } else { "removed" };
        for path in
            gone.iter().map(|(_, kept)| &kept.path).chain(unneeded.iter().map(|(_, path)| path))
        {
            if !self.dry_run {
                std::fs::remove_file(path)
                    .map_err(|e| Failed::host(format!("{}: {e}", path.display())))?;
            }
            anstream::println!("{word}  {}", sanitized(&path.display().to_string()));
        }
        anstream::println!(
            "{word} {} and {}; {} stay",
            count(gone.len(), "run"),
            count(unneeded.len(), "component"),
            count(stays.len(), "run")
        );
        Ok(0)
    }
}
