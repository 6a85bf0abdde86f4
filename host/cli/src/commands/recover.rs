//! `salve recover`: finishes a run whose process has died, or gives back what it holds.

use super::print_json;
use crate::arguments::{ClusterArguments, Output, OutputArguments, RunsArguments};
use crate::cluster::ClusterSession;
use crate::guest;
use crate::output::{self, Detail, Failed, moment};
use crate::session::{InterruptedRun, load, watcher};
use crate::{components, runs};
use clap::Args;
use salve_core::grants::Grants;
use salve_core::journal::{Entry, Header, RunResult};
use salve_core::sanitize::sanitized;
use salve_run::RunFile;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Finishes a run whose process has died: replays the guest over its run file, and goes on where that ends.
///
/// Nothing is done twice: what was recorded is answered from the record, and a change whose end is not recorded is
/// looked up in the cluster first. What is done anew has to be allowed by what held then and by today's policy.
/// After the run's own time is over, only what it suspended is given back.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  salve recover 7c1d03fe\n  salve recover 7c1d03fe --release      # only resume what it suspended"
)]
pub struct Recover {
    /// A run's id or the beginning of it, or the path of a run file [default: the one run that has no end].
    run: Option<String>,
    /// Only give back what it suspended. Needs no component.
    #[arg(long)]
    release: bool,
    /// Today's policy [default: the file that held then, as it is today].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Recover {
    /// Takes the run up.
    pub async fn execute(self, verbose: u8) -> Result<u8, Failed> {
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let path = match &self.run {
            Some(run) => runs::given(&folder, run)?,
            None => only_unfinished(&folder)?,
        };
        if !self.release && self.policy.is_none() && runs::is_foreign(&path, &folder) {
            let path = path.display();
            return Err(Failed::usage(format!(
                "{path} is not from this machine's own folder of runs: whoever wrote it wrote its grants, too
go on under a ceiling of yours: --policy FILE
or only give back what it suspended: --release"
            )));
        }
        let dead = open(&path)?;
        if let Some(closing) = ended(&dead.entries).filter(|closing| closing.is_whole()) {
            anstream::eprintln!(
                "run {} has ended ({}): there is nothing to recover",
                sanitized(&dead.header.run),
                closing.verdict.word()
            );
            return Ok(0);
        }
        if dead.header.command == "undo" && !self.release {
            let run = sanitized(&dead.header.run);
            return Err(Failed::usage(format!(
                "{run} is an undo: give its Lease back with `salve recover {run} --release`, and undo again what is missing"
            )));
        }
        let cluster = self.cluster.or_context(&dead.header.context);
        let cluster = ClusterSession::live(&cluster).await?;
        match cluster.is_that_of(&dead.header) {
            // What is given back bears this run's mark and has the uid that it had: elsewhere there is no such thing.
            Err(failed) if self.release && cluster.identity.uid.is_none() => {
                anstream::eprintln!("{failed}")
            }
            other => other?,
        }
        let today = self.today(&dead.header)?;
        let over = if self.release || is_over(&dead, &cluster) {
            dead.release(today, &cluster, watcher(verbose, true)).await?
        } else {
            let component = components::find(path.parent().unwrap_or(&folder), &dead.header.digest).map_err(|e| {
                Failed::document(format!("{e}\nwithout it, what the run suspended can be given back: salve recover {} --release", dead.header.run))
            })?;
            let (guest, _) =
                load(&component, "the component of this run", dead.header.limits).await?;
            dead.recover(&guest, today, &cluster, watcher(verbose, true)).await?
        };
        if let (Some(parts), Output::Human) = (&over.parts, self.output.output) {
            output::divergence(parts);
        }
        match self.output.output {
            Output::Human => {
                output::report(&over.report, over.file.as_deref(), Detail::of(verbose))
            }
            Output::Json => print_json(&over.report)?,
        }
        Ok(over.closing.exit_code())
    }

    /// What holds today above what held then.
    fn today(&self, header: &Header) -> Result<Grants, Failed> {
        let then = header
            .documents
            .iter()
            .find(|document| document.kind == "Policy")
            .map(|document| PathBuf::from(&document.source));
        // mutant recover-reads-no-policy: else ~> .filter(|_| self.release) else
        let Some(path) = self.policy.clone().or(then) else { return Ok(Grants::default()) };
        let (policy, _) = guest::read_policy(&path).map_err(|e| {
            let way = if self.policy.is_some() {
                ""
            } else {
                "\nit held when the run began; give today's with --policy FILE"
            };
            Failed::document(format!("{e}{way}"))
        })?;
        let source = path.display().to_string();
        // What was suspended is given back whichever components may run today.
        // mutant recovery-ignores-admission: !self ~> self
        if !self.release {
            guest::admits(&policy, &source, &header.digest).map_err(|e| {
                e.with(&format!(
                    "or only give back what the run suspended: salve recover {} --release",
                    sanitized(&header.run)
                ))
            })?;
        }
        Ok(Grants { layers: vec![policy.layer(&source)] })
    }
}

/// Takes up the file of a run that can be recovered.
pub(super) fn open(path: &Path) -> Result<InterruptedRun, Failed> {
    let (file, entries) = RunFile::take_up(path).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => Failed::usage(format!("{e}: let it end, or stop it first")),
        _ => Failed::document(e.to_string()),
    })?;
    let header = runs::header(&entries, path)?.clone();
    if header.command != "run" && header.command != "undo" {
        return Err(Failed::usage(format!(
            "{} is a {}: it changes nothing, so run it again",
            sanitized(&header.run),
            sanitized(&header.command)
        )));
    }
    Ok(InterruptedRun { header, file, entries })
}

/// The last verdict, if the run has come to one.
fn ended(entries: &[Entry]) -> Option<&RunResult> {
    entries.last()?.verdict()
}

/// Whether the run's own time is over: its evidence is too old to go on with.
fn is_over(dead: &InterruptedRun, cluster: &ClusterSession) -> bool {
    // mutant recover-ignores-deadline: deadline ~> deadline && dead.entries.is_empty()
    let over = cluster.clock().now() > dead.header.deadline;
    if over {
        let deadline = moment(dead.header.deadline);
        anstream::eprintln!(
            "the run meant to be through by {deadline}: what it suspended is given back, and nothing else is done; run it anew"
        );
    }
    over
}

/// The one run of this folder that has no end and no process.
fn only_unfinished(folder: &Path) -> Result<PathBuf, Failed> {
    let mut found = vec![];
    for path in runs::all(folder)? {
        if RunFile::is_at_work(&path).unwrap_or(false) {
            continue;
        }
        // What is damaged is told by `salve runs`.
        let Ok(entries) = RunFile::read(&path) else { continue };
        let Some(Entry::Header(header)) = entries.first() else { continue };
        if matches!(header.command.as_str(), "run" | "undo")
            && ended(&entries).is_none_or(|closing| !closing.is_whole())
        {
            found.push((header.run.clone(), path));
        }
    }
    match found.as_slice() {
        [(_, path)] => Ok(path.clone()),
        [] => Err(Failed::usage(format!("every run in {} has come to its end", folder.display()))),
        several => {
            let names: Vec<_> = several.iter().map(|(run, _)| sanitized(run)).collect();
            Err(Failed::usage(format!(
                "{} runs have no end: say which: {}",
                several.len(),
                names.join(", ")
            )))
        }
    }
}
