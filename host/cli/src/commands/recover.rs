//! `salve recover`: finishes a run whose process died, or only resumes what it suspended.

use super::print_json;
use crate::arguments::{ClusterArguments, Output, OutputArguments, RunsArguments};
use crate::cluster::ClusterSession;
use crate::guest;
use crate::output::{self, CommandError, Detail, timestamp};
use crate::session::{Frontend, InterruptedRun, load};
use crate::{components, runs};
use clap::Args;
use salve_core::grants::Grants;
use salve_core::journal::{Command, DocumentKind, Entry, Header, RunResult};
use salve_core::sanitize::sanitized;
use salve_run::RunFile;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Finish a run whose process died: replay its run file, then continue from there.
///
/// No change is made twice: recorded calls are answered from the run file, and a change whose
/// outcome was not recorded is looked up in the cluster first. New changes must be allowed by the
/// grants of the run and by today's policy. After the deadline of the run, Salve only takes back
/// the run's temporary changes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    salve recover 7c1d03fe\n  \
    salve recover 7c1d03fe --release      # only take back its temporary changes")]
pub struct Recover {
    /// ID of the run (or a unique prefix), or path of its run file [default: the only unfinished
    /// run].
    run: Option<String>,
    /// Only take back the run's temporary changes: suspended Flux objects, overridden fields, and
    /// the cluster lock. Does not need the component.
    #[arg(long)]
    release: bool,
    /// Policy that limits the recovery [default: the policy file of the run, as it is today].
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
    /// Recovers the run and prints its report.
    pub async fn execute(self, verbose: u8) -> Result<u8, CommandError> {
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let path = match &self.run {
            Some(run) => runs::resolve(&folder, run)?,
            None => only_unfinished(&folder)?,
        };
        if !self.release && self.policy.is_none() && runs::is_foreign(&path, &folder) {
            let path = path.display();
            return Err(CommandError::usage(format!(
                "{path} is not a private file in this machine's folder of runs, so the grants \
                 recorded in it cannot be trusted\n\
                 limit them with a policy of yours: --policy FILE\n\
                 or only take back its temporary changes: --release"
            )));
        }
        let interrupted = if self.release { open_before_damage(&path)? } else { open(&path)? };
        let id = sanitized(&interrupted.header.run);
        let result = latest_result(&interrupted.entries);
        if let Some(result) = result.filter(|result| result.open.is_empty()) {
            anstream::eprintln!(
                "run {id} has completed ({}): nothing to recover",
                result.verdict.as_str()
            );
            return Ok(0);
        }
        if interrupted.header.command == Command::Undo && !self.release {
            return Err(CommandError::usage(format!(
                "{id} is an undo: release its Lease with `salve recover {id} --release`, then run \
                 `salve undo` again for what is missing"
            )));
        }
        let cluster = self.cluster.or_context(&interrupted.header.context);
        let cluster = ClusterSession::live(&cluster).await?;
        match cluster.check_same_cluster(&interrupted.header) {
            // Only objects with this run's mark and the recorded uid are resumed: another cluster
            // has none.
            Err(error) if self.release && cluster.identity.uid.is_none() => {
                anstream::eprintln!("{error}")
            }
            other => other?,
        }
        let policy = self.current_policy(&interrupted.header)?;
        let frontend = Frontend::terminal(verbose, true);
        let finished = if self.release || is_past_deadline(&interrupted, &cluster) {
            interrupted.release(policy, &cluster, frontend).await?
        } else {
            let folder = path.parent().unwrap_or(&folder);
            let component = components::load(folder, &interrupted.header.digest).map_err(|e| {
                CommandError::document(format!(
                    "{e}\nto only take back its temporary changes, which needs no component: salve \
                     recover {id} --release"
                ))
            })?;
            let limits = interrupted.header.limits;
            let (guest, _) = load(&component, "the component of this run", limits).await?;
            interrupted.recover(&guest, policy, &cluster, frontend).await?
        };
        if let (Some(divergence), Output::Human) = (&finished.divergence, self.output.output) {
            output::divergence(divergence);
        }
        match self.output.output {
            Output::Human => output::report(
                &finished.report,
                finished.file.as_deref(),
                Detail::from_verbosity(verbose),
            ),
            Output::Json => print_json(&finished.report)?,
        }
        Ok(finished.result.exit_code())
    }

    /// Returns the grants of today's policy, which limit those of the run.
    fn current_policy(&self, header: &Header) -> Result<Grants, CommandError> {
        let recorded = header
            .documents
            .iter()
            .find(|document| document.kind == DocumentKind::RemediationPolicy)
            .map(|document| PathBuf::from(&document.source));
        // mutant recover-reads-no-policy: else ~> .filter(|_| self.release) else
        let Some(path) = self.policy.clone().or(recorded) else { return Ok(Grants::default()) };
        let (policy, _) = guest::read_policy(&path).map_err(|e| {
            let remedy = if self.policy.is_some() {
                ""
            } else {
                "\nthe run used this policy; pass its current file with --policy FILE"
            };
            CommandError::document(format!("{e}{remedy}"))
        })?;
        let source = path.display().to_string();
        // What was suspended is resumed even if this component may not run any more.
        // mutant recovery-ignores-admission: !self ~> self
        if !self.release {
            guest::check_digest(&policy, &source, &header.digest).map_err(|e| {
                e.with_hint(&format!(
                    "or only take back its temporary changes: salve recover {} --release",
                    sanitized(&header.run)
                ))
            })?;
        }
        Ok(Grants { layers: vec![policy.layer(&source)] })
    }
}

/// Opens the file of an interrupted run and locks it.
///
/// # Errors
/// A process is still running it, the file is or was damaged, or the run makes no changes.
pub(super) fn open(path: &Path) -> Result<InterruptedRun, CommandError> {
    let only_release = || {
        format!(
            "only its temporary changes can be taken back, as far as the intact lines name them: \
             salve recover {} --release",
            path.display()
        )
    };
    let copies = RunFile::damaged_copies(path).unwrap_or_default();
    // mutant damaged-run-continued: copies.first() ~> copies.first().filter(|_| false)
    if let Some(copy) = copies.first() {
        return Err(CommandError::usage(format!(
            "{} was damaged (the damaged file is {}), so it does not record everything that the \
             run did\n{}",
            path.display(),
            copy.display(),
            only_release()
        )));
    }
    let (file, entries) = RunFile::resume(path).map_err(|e| {
        let is_damaged = e.kind() == ErrorKind::InvalidData
            && RunFile::read_first(path).is_ok_and(|first| first.is_some());
        let remedy = if is_damaged { format!("\n{}", only_release()) } else { String::new() };
        open_error(&e, &remedy)
    })?;
    interrupted(path, file, entries)
}

/// Like [`open`], but opens a damaged file up to the damage, and prints so.
fn open_before_damage(path: &Path) -> Result<InterruptedRun, CommandError> {
    let (file, entries, damage) =
        RunFile::resume_before_damage(path).map_err(|e| open_error(&e, ""))?;
    if let Some(damage) = damage {
        anstream::eprintln!(
            "{}\ntaking back only what the lines before the damage record; the damaged file was \
             copied to {}; find the rest with `salve doctor`",
            damage.error,
            damage.copy.display()
        );
    }
    interrupted(path, file, entries)
}

fn open_error(error: &std::io::Error, remedy: &str) -> CommandError {
    if error.kind() == ErrorKind::WouldBlock {
        CommandError::usage(format!("{error}: wait until it ends, or stop it first"))
    } else {
        CommandError::document(format!("{error}{remedy}"))
    }
}

fn interrupted(
    path: &Path,
    file: RunFile,
    entries: Vec<Entry>,
) -> Result<InterruptedRun, CommandError> {
    let header = runs::header(&entries, path)?.clone();
    if !changes_cluster(header.command) {
        return Err(CommandError::usage(format!(
            "{} is a {}: it changes nothing and cannot be recovered; run it again",
            sanitized(&header.run),
            header.command.as_str()
        )));
    }
    Ok(InterruptedRun { header, file, entries })
}

/// Returns whether runs of a command can change the cluster.
fn changes_cluster(command: Command) -> bool {
    match command {
        Command::Run | Command::Undo => true,
        Command::Check | Command::Plan => false,
    }
}

/// Returns the latest result of the run, if it has one.
fn latest_result(entries: &[Entry]) -> Option<&RunResult> {
    entries.last()?.verdict()
}

/// Returns true, and prints so, if the evidence of the run is too old to continue with.
fn is_past_deadline(interrupted: &InterruptedRun, cluster: &ClusterSession) -> bool {
    // mutant recover-ignores-deadline: deadline ~> deadline && interrupted.entries.is_empty()
    let has_passed = cluster.clock().now() > interrupted.header.deadline;
    if has_passed {
        anstream::eprintln!(
            "the run's deadline ({}) has passed: only taking back its temporary changes; start a \
             new run to remediate",
            timestamp(interrupted.header.deadline)
        );
    }
    has_passed
}

/// Returns the file of the only run in the folder that is unfinished and has no process.
fn only_unfinished(folder: &Path) -> Result<PathBuf, CommandError> {
    let mut unfinished = vec![];
    for path in runs::all(folder)? {
        if RunFile::is_running(&path).unwrap_or(false) {
            continue;
        }
        // `salve runs` reports damaged files.
        let Ok(entries) = RunFile::read(&path) else { continue };
        let Some(Entry::Header(header)) = entries.first() else { continue };
        if changes_cluster(header.command)
            && latest_result(&entries).is_none_or(|result| !result.open.is_empty())
        {
            unfinished.push((header.run.clone(), path));
        }
    }
    match unfinished.as_slice() {
        [(_, path)] => Ok(path.clone()),
        [] => Err(CommandError::usage(format!("no unfinished run in {}", folder.display()))),
        several => {
            let ids: Vec<_> = several.iter().map(|(run, _)| sanitized(run)).collect();
            Err(CommandError::usage(format!(
                "{} runs are unfinished; name one of them: {}",
                several.len(),
                ids.join(", ")
            )))
        }
    }
}
