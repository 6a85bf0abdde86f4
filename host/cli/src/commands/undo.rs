//! `salve undo`: recreates what a run deleted, from the manifests in its run file.

use super::print_json;
use super::run::{CANNOT_PROMPT, confirm, require_unlocked};
use crate::arguments::{ClusterArguments, Output, OutputArguments, RunsArguments};
use crate::cluster::ClusterSession;
use crate::guest::{self, read_policy, read_remediation};
use crate::output::{self, CommandError, Detail, HEADING, MUTED, OK, WARN, plural};
use crate::runs;
use crate::session::run::create;
use crate::session::{FinishedRun, Frontend, machine, start_run};
use clap::Args;
use salve_core::capability::delete_replicationsources::{
    Creation, CreationOutcome, Deletion, DeletionOutcome, Manifest, Recreate,
};
use salve_core::capability::query_pvcs::ListPvcs;
use salve_core::capability::query_replicationsources::ListSources;
use salve_core::capability::{Answer, Effect, Write};
use salve_core::grants::Grants;
use salve_core::journal::{
    AnswerReader, Command, Document, DocumentKind, Entry, FORMAT, Failure, GuestExit, Header,
};
use salve_core::outcome::Fault;
use salve_core::report::{Concluded, Conclusion, Description, Finding};
use salve_core::sanitize::sanitized;
use salve_run::{Halt, Mode, RunFile};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// Recreate the ReplicationSources that a run deleted, from the manifests it saved.
///
/// Never overwrites an existing object, never creates more than today's documents grant
/// (`delete-replicationsources`, with its `max.deletions`), and never sets a field that triggers
/// anything by itself. Prints what cannot be restored. The manifests of a run file from elsewhere
/// are printed in full and must be confirmed at a terminal.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    salve undo 7c1d03fe\n  \
    salve undo 7c1d03fe --only media/sonarr --only media/plex")]
pub struct Undo {
    /// ID of the run (or a unique prefix), or path of its run file.
    run: String,
    /// Recreate only this ReplicationSource; repeatable.
    #[arg(long = "only", value_name = "NAMESPACE/NAME")]
    only: Vec<String>,
    /// Remediation document that limits the undo [default: the run's document, as it is today].
    #[arg(long, value_name = "FILE")]
    remediation: Option<PathBuf>,
    /// RemediationPolicy document that further limits the undo [default: the run's document, as it
    /// is today].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Skip the confirmation prompt.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What a run deleted, from its run file.
struct Deleted {
    manifests: Vec<Manifest>,
    /// Names of sources whose mover had keys that its peers know; they were deleted with it.
    with_keys: BTreeSet<String>,
    /// Why a saved manifest cannot be used.
    unusable: Vec<Finding>,
}

/// The state of the cluster before the undo. Objects are named `NAMESPACE/NAME`.
struct Observed {
    /// ReplicationSources that exist.
    existing: BTreeSet<String>,
    /// ReplicationSources whose PVC does not exist.
    orphans: BTreeSet<String>,
}

impl Undo {
    /// Recreates the objects after confirmation, and prints the report.
    pub async fn execute(self, verbose: u8) -> Result<u8, CommandError> {
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let path = runs::resolve(&folder, &self.run)?;
        let entries = RunFile::read(&path).map_err(|e| CommandError::document(e.to_string()))?;
        let header = runs::header(&entries, &path)?;
        if header.command == Command::Plan {
            return Err(CommandError::usage(format!(
                "{} is a plan, which deleted nothing: name the run that applied it, see \
                 `salve runs`",
                path.display()
            )));
        }
        let is_foreign = runs::is_foreign(&path, &folder);
        if is_foreign && self.policy.is_none() {
            return Err(CommandError::usage(format!(
                "{} is not a private file in this machine's folder of runs, so the documents \
                 named in it cannot be trusted\n\
                 limit the undo with a policy of yours: --policy FILE",
                path.display()
            )));
        }
        if is_foreign && (self.yes || !io::stdin().is_terminal()) {
            return Err(CommandError::usage(format!(
                "{} is not a private file in this machine's folder of runs: you must review its \
                 manifests before they are created (run from a terminal, without --yes)",
                path.display()
            )));
        }
        if !self.yes && (!io::stdin().is_terminal() || self.output.output == Output::Json) {
            return Err(CommandError::usage(CANNOT_PROMPT));
        }
        let mut deleted = deleted(&entries);
        self.select(&mut deleted)?;
        let (documents, grants) = self.current_grants(header, is_foreign)?;
        let cluster = ClusterSession::live(&self.cluster.or_context(&header.context)).await?;
        cluster.check_same_cluster(header)?;
        require_unlocked(&cluster).await?;
        let observed = observe(&cluster, &deleted.manifests).await?;
        if self.output.output == Output::Human {
            print(&deleted, &observed, is_foreign);
        }
        deleted.manifests.retain(|m| !observed.existing.contains(&m.object.to_string()));
        if !self.yes && !deleted.manifests.is_empty() {
            confirm(&cluster.context).await?;
        }
        let undo = self.header(header, documents, grants, &cluster)?;
        let frontend = Frontend::terminal(verbose, true);
        let finished = recreate(&folder, &cluster, undo, deleted, &observed, frontend).await?;
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

    /// Keeps only the objects that `--only` names, if it is given.
    fn select(&self, deleted: &mut Deleted) -> Result<(), CommandError> {
        if let Some(unknown) = self
            .only
            .iter()
            .find(|only| !deleted.manifests.iter().any(|m| m.object.to_string() == **only))
        {
            return Err(CommandError::usage(format!(
                "--only {}: the run deleted no such ReplicationSource",
                sanitized(unknown)
            )));
        }
        if !self.only.is_empty() {
            deleted.manifests.retain(|m| self.only.contains(&m.object.to_string()));
        }
        Ok(())
    }

    /// Returns the documents that apply today and their grants.
    ///
    /// Grants recorded in a run file are never used, and of a foreign file not even the paths of
    /// its documents.
    fn current_grants(
        &self,
        header: &Header,
        is_foreign: bool,
    ) -> Result<(Vec<Document>, Grants), CommandError> {
        let trusted = if is_foreign { &[] } else { header.documents.as_slice() };
        let recorded = |kind: DocumentKind| {
            trusted
                .iter()
                .find(|document| document.kind == kind)
                .map(|document| document.source.clone())
        };
        let (mut documents, mut layers) = (vec![], vec![]);
        let remediation = match (&self.remediation, recorded(DocumentKind::Remediation)) {
            (Some(path), _) => Some(read_remediation(path)?),
            (None, Some(source)) => Some(guest::current_remediation(&source).map_err(|e| {
                CommandError::document(format!("{e}\npass the current one with --remediation FILE"))
            })?),
            // Only the given policy applies.
            (None, None) if is_foreign => None,
            (None, None) => {
                return Err(CommandError::usage(
                    "the run had no Remediation document: pass the one that applies today with \
                     --remediation FILE",
                ));
            }
        };
        if let Some((remediation, document)) = remediation {
            layers.push(remediation.layer(&document.source));
            documents.push(document);
        }
        let policy = || recorded(DocumentKind::RemediationPolicy).map(PathBuf::from);
        // mutant undo-reads-no-policy: or_else(policy) ~> or_else(policy).filter(|_| false)
        if let Some(path) = self.policy.clone().or_else(policy) {
            let (policy, document) = read_policy(&path).map_err(|e| {
                CommandError::document(format!("{e}\npass the current one with --policy FILE"))
            })?;
            layers.push(policy.layer(&document.source));
            documents.push(document);
        }
        Ok((documents, Grants { layers }))
    }

    fn header(
        &self,
        undone: &Header,
        documents: Vec<Document>,
        grants: Grants,
        cluster: &ClusterSession,
    ) -> Result<Header, CommandError> {
        let at = cluster.clock().now();
        Ok(Header {
            format: FORMAT,
            run: runs::new_id()?,
            at,
            command: Command::Undo,
            salve: env!("CARGO_PKG_VERSION").into(),
            guest: Description {
                name: "undo".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                fixes: String::new(),
                configuration: String::new(),
            },
            digest: undone.digest.clone(),
            configuration: json!({"run": undone.run, "only": self.only}),
            documents,
            grants,
            limits: undone.limits,
            problems: vec![],
            deadline: at + 600_000,
            context: cluster.context.clone(),
            cluster: cluster.identity.uid.clone(),
            user: cluster.identity.user.clone(),
            machine: machine(),
            enforcement: None,
        })
    }
}

/// The movers whose keys VolSync generates and their peers know, as the spec of a ReplicationSource
/// names them.
const MOVERS_WITH_KEYS: [&str; 3] = ["rsync", "rsyncTLS", "syncthing"];

/// Returns whether a deletion may have removed its object.
fn may_be_gone(deletion: &Deletion) -> bool {
    match deletion.outcome {
        DeletionOutcome::Deleted | DeletionOutcome::Unknown => true,
        DeletionOutcome::AlreadyGone
        | DeletionOutcome::Replaced
        | DeletionOutcome::Changed
        | DeletionOutcome::Rejected => false,
    }
}

/// Returns what a run deleted, or may have deleted, each with the manifest saved last.
fn deleted(entries: &[Entry]) -> Deleted {
    let mut saved: BTreeMap<&str, &Value> = BTreeMap::new();
    let mut opened_before: BTreeSet<u64> = BTreeSet::new();
    let mut deleted_uids: Vec<String> = vec![];
    let mut answers = AnswerReader::default();
    for entry in entries {
        let answer = answers.read(entry);
        if let Some(opened) = entry.opened()
            && let Effect::Write(Write::Delete(delete)) = &opened.effect
        {
            for object in &opened.observed.objects {
                saved.insert(object["metadata"]["uid"].as_str().unwrap_or_default(), object);
            }
            // Until the entry is closed, all of them may be deleted.
            if opened_before.insert(opened.n) {
                deleted_uids.extend(delete.set.iter().map(|target| target.uid.clone()));
            }
        }
        if let (Entry::Closed(closed), Some(Answer::Delete(deletions))) = (entry, answer)
            && closed.conflict.is_none()
        {
            let left_alone = |uid: &str| {
                deletions.iter().any(|deletion| deletion.uid == uid && !may_be_gone(deletion))
            };
            deleted_uids.retain(|uid| !left_alone(uid));
        }
    }
    let mut deleted = Deleted { manifests: vec![], with_keys: BTreeSet::new(), unusable: vec![] };
    for uid in deleted_uids {
        let Some(saved) = saved.get(uid.as_str()) else { continue };
        match Manifest::of(saved) {
            Ok(new) if !deleted.manifests.iter().any(|known| known.object == new.object) => {
                let spec = &new.manifest["spec"];
                if MOVERS_WITH_KEYS.iter().any(|mover| spec.get(mover).is_some()) {
                    deleted.with_keys.insert(new.object.to_string());
                }
                deleted.manifests.push(new);
            }
            Ok(_) => {}
            Err(why) => deleted.unusable.push(Finding {
                text: format!("the saved manifest of {} cannot be used: {why}", sanitized(&uid)),
                details: vec![],
            }),
        }
    }
    deleted
}

async fn observe(
    cluster: &ClusterSession,
    manifests: &[Manifest],
) -> Result<Observed, CommandError> {
    let namespaces: Vec<String> = manifests
        .iter()
        .map(|m| m.object.namespace.clone())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    if namespaces.is_empty() {
        return Ok(Observed { existing: BTreeSet::new(), orphans: BTreeSet::new() });
    }
    let sources = cluster.read(ListSources { namespaces: namespaces.clone() }).await?;
    let pvcs = cluster.read(ListPvcs { namespaces }).await?;
    let has_pvc = |m: &Manifest| {
        let name = m.manifest["spec"]["sourcePVC"].as_str();
        name.is_none_or(|name| {
            pvcs.iter()
                .any(|pvc| pvc.object.namespace == m.object.namespace && pvc.object.name == name)
        })
    };
    Ok(Observed {
        existing: manifests
            .iter()
            .filter(|m| sources.iter().any(|source| source.object == m.object))
            .map(|m| m.object.to_string())
            .collect(),
        orphans: manifests.iter().filter(|m| !has_pvc(m)).map(|m| m.object.to_string()).collect(),
    })
}

/// Prints what would be recreated; manifests in full if they are from a foreign run file.
fn print(deleted: &Deleted, observed: &Observed, is_foreign: bool) {
    for manifest in &deleted.manifests {
        let name = manifest.object.to_string();
        if observed.existing.contains(&name) {
            anstream::println!("{MUTED}keep{MUTED:#}    {name}  already exists");
        } else if observed.orphans.contains(&name) {
            anstream::println!(
                "{OK}create{OK:#}  {name}  {WARN}its PVC no longer exists: it will lock the driver \
                 again at its next schedule{WARN:#}"
            );
        } else {
            anstream::println!("{OK}create{OK:#}  {name}");
        }
        if is_foreign {
            anstream::println!(
                "{HEADING}        the exact manifest, from a run file of unknown origin:{HEADING:#}"
            );
            let text = serde_json::to_string_pretty(&manifest.manifest).unwrap_or_default();
            for line in text.lines() {
                anstream::println!("        {}", sanitized(line));
            }
        }
    }
    for finding in &deleted.unusable {
        anstream::println!("{WARN}skip{WARN:#}    {}", sanitized(&finding.text));
    }
}

/// Creates the objects in a run of its own, subject to its grants and recorded in its journal.
async fn recreate(
    folder: &Path,
    cluster: &ClusterSession,
    header: Header,
    deleted: Deleted,
    observed: &Observed,
    frontend: Frontend,
) -> Result<FinishedRun, CommandError> {
    let name = runs::file_name(header.at, &cluster.context, &header.run);
    let file = Some(create(folder, &name)?);
    let (active, mut run) = start_run(cluster, header, file, frontend, Mode::Live)?;
    let exit = if deleted.manifests.is_empty() {
        GuestExit::Restored(conclusion(&deleted, observed, &[]))
    } else {
        match run.call(Recreate { set: deleted.manifests.clone() }).await {
            Ok(Ok(creations)) => GuestExit::Restored(conclusion(&deleted, observed, &creations)),
            Ok(Err(error)) => run.exit_of_error(&error),
            Err(Halt::Stopped) => GuestExit::Stopped(None),
            Err(halt @ Halt::ClusterLocked(_)) => {
                GuestExit::Failed(Failure { fault: Fault::Cluster, text: halt.to_string() })
            }
            Err(halt) => GuestExit::Failed(Failure { fault: Fault::Host, text: halt.to_string() }),
        }
    };
    active.finish(run, exit).await
}

fn conclusion(deleted: &Deleted, observed: &Observed, creations: &[Creation]) -> Conclusion {
    let created: Vec<String> = creations
        .iter()
        .filter(|creation| creation.outcome == CreationOutcome::Created)
        .map(|creation| creation.object.to_string())
        .collect();
    let rejected: Vec<String> = creations
        .iter()
        .filter(|creation| creation.outcome == CreationOutcome::Rejected)
        .map(|creation| {
            let why = creation.message.as_deref().unwrap_or("rejected");
            format!("{}: {why}", creation.object)
        })
        .collect();
    let occupied = creations
        .iter()
        .filter(|creation| creation.outcome == CreationOutcome::Occupied)
        .map(|creation| creation.object.to_string());
    let existing: Vec<String> = observed.existing.iter().cloned().chain(occupied).collect();
    let verdict = match (created.is_empty(), rejected.is_empty()) {
        (_, false) => Concluded::NotFixed,
        (true, true) => Concluded::NothingToDo,
        (false, true) => Concluded::Fixed,
    };
    let summary = match verdict {
        Concluded::NothingToDo => "everything that the run deleted exists".to_owned(),
        Concluded::Fixed
        | Concluded::NotFixed
        | Concluded::DifferentProblem
        | Concluded::Inconclusive => {
            format!("{} recreated", plural(created.len(), "ReplicationSource"))
        }
    };
    let mut remaining = deleted.unusable.clone();
    let mut add = |text: &str, details: Vec<String>| {
        if !details.is_empty() {
            remaining.push(Finding { text: text.into(), details });
        }
    };
    add("rejected by the cluster", rejected);
    add("already exist and were left unchanged", existing);
    let created_of = |set: &BTreeSet<String>| {
        created.iter().filter(|name| set.contains(*name)).cloned().collect::<Vec<_>>()
    };
    add(
        "back up a PVC that no longer exists: they will lock the driver again at their next \
         schedule",
        created_of(&observed.orphans),
    );
    add(
        "had keys that their peers know: they get new keys, which the peers need",
        created_of(&deleted.with_keys),
    );
    if !created.is_empty() {
        add(
            "cannot be restored",
            vec![
                "their status: each starts with a first sync and no history".into(),
                "VolumeSnapshots and cache volumes that were deleted with them; the contents of \
                 backup repositories are still there"
                    .into(),
                "annotations that no controller acts on: they can contain anything and were not \
                 saved"
                    .into(),
                "the restart of the driver, which lost no data".into(),
            ],
        );
    }
    Conclusion {
        verdict,
        summary,
        figures: vec![],
        evidence: vec![],
        remaining,
        prevention: vec![],
    }
}
