//! `salve undo`: makes anew what a run deleted, from the manifests in its file.

use super::print_json;
use crate::arguments::{ClusterArguments, Output, OutputArguments, RunsArguments};
use crate::cluster::ClusterSession;
use crate::guest::{self, read_policy, read_remediation};
use crate::output::{self, Detail, Failed, HEADING, MUTED, OK, WARN, count};
use crate::runs;
use crate::session::{FinishedRun, begin, machine, watcher};
use clap::Args;
use salve_core::effect::delete_replicationsources::{
    Creation, CreationOutcome, DeletionOutcome, Manifest, Recreate,
};
use salve_core::effect::host::Lease;
use salve_core::effect::query_pvcs::ListPvcs;
use salve_core::effect::query_replicationsources::ListSources;
use salve_core::effect::{Answer, Effect, Write};
use salve_core::grants::Grants;
use salve_core::journal::{Document, Entry, FORMAT, Failure, GuestExit, Header};
use salve_core::outcome::{Error, Fault};
use salve_core::report::{Concluded, Conclusion, Description, Finding};
use salve_core::sanitize::sanitized;
use salve_run::{Halt, Mode, RunFile};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// Makes anew the ReplicationSources that a run deleted, from the manifests that it saved before.
///
/// Never over one that bears the name, never more than today's documents grant (`delete-replicationsources`, with its
/// `max.deletions`), and never a field that would act by itself. What cannot come back is said. A run file that is not
/// from this machine's own folder is shown whole, and needs a observer who has read it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  salve undo 7c1d03fe\n  salve undo 7c1d03fe --only media/sonarr --only media/plex"
)]
pub struct Undo {
    /// A run's id or the beginning of it, or the path of a run file.
    run: String,
    /// Only this one; repeatable.
    #[arg(long = "only", value_name = "NAMESPACE/NAME")]
    only: Vec<String>,
    /// Today's Remediation [default: the one that held then, as it is today].
    #[arg(long, value_name = "FILE")]
    remediation: Option<PathBuf>,
    /// Today's Policy [default: the one that held then, as it is today].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Do not ask for the context's name.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What a run deleted.
struct Deleted {
    manifests: Vec<Manifest>,
    /// Its mover knows peers by keys that went with it.
    identities: BTreeSet<String>,
    /// What cannot be used of the file, with why.
    unusable: Vec<Finding>,
}

/// What stands where it would be made.
struct Seen {
    /// Names that are taken.
    taken: BTreeSet<String>,
    /// Those whose claim is not there.
    orphans: BTreeSet<String>,
}

impl Undo {
    /// Does it.
    pub async fn execute(self, verbose: u8) -> Result<u8, Failed> {
        let folder = runs::folder(self.runs.runs.as_ref())?;
        let path = runs::given(&folder, &self.run)?;
        let entries = RunFile::read(&path).map_err(|e| Failed::document(e.to_string()))?;
        let header = runs::header(&entries, &path)?;
        let strange = runs::is_foreign(&path, &folder);
        if strange && self.policy.is_none() {
            let path = path.display();
            return Err(Failed::usage(format!(
                "{path} is not from this machine's own folder of runs, and says itself under which documents it ran\ngive the ceiling that holds today: --policy FILE"
            )));
        }
        if strange && (self.yes || !io::stdin().is_terminal()) {
            let why = "it is not from this machine's own folder of runs: what it would make is anybody's, and a observer has to read it first";
            return Err(Failed::usage(format!(
                "{}: {why} (at a terminal, without --yes)",
                path.display()
            )));
        }
        if !self.yes && (!io::stdin().is_terminal() || self.output.output == Output::Json) {
            return Err(Failed::usage(
                "undo shows what it makes and asks for the context's name, which a program cannot answer: give --yes",
            ));
        }
        let mut deleted = deleted(&entries);
        self.narrow(&mut deleted)?;
        let (documents, grants) = self.today(header, strange)?;
        let open = ClusterSession::live(&self.cluster.or_context(&header.context)).await?;
        open.is_that_of(header)?;
        if let Some(holder) = open.ask(Lease {}).await? {
            return Err(Failed::cluster(format!(
                "nothing was begun: {}",
                sanitized(&holder.told(open.clock().now()))
            )));
        }
        let seen = look(&open, &deleted.manifests).await?;
        if self.output.output == Output::Human {
            show(&deleted, &seen, strange);
        }
        deleted.manifests.retain(|one| !seen.taken.contains(&one.object.to_string()));
        if !self.yes && !deleted.manifests.is_empty() {
            super::run::confirm(&open.context).await?;
        }
        let new = self.header(header, documents, grants, &open)?;
        let over = make(&folder, &open, new, deleted, &seen, watcher(verbose, true)).await?;
        match self.output.output {
            Output::Human => {
                output::report(&over.report, over.file.as_deref(), Detail::of(verbose))
            }
            Output::Json => print_json(&over.report)?,
        }
        Ok(over.closing.exit_code())
    }

    fn narrow(&self, deleted: &mut Deleted) -> Result<(), Failed> {
        if let Some(unknown) = self
            .only
            .iter()
            .find(|only| !deleted.manifests.iter().any(|one| one.object.to_string() == **only))
        {
            return Err(Failed::usage(format!(
                "--only {}: the run deleted no such ReplicationSource",
                sanitized(unknown)
            )));
        }
        if !self.only.is_empty() {
            deleted.manifests.retain(|one| self.only.contains(&one.object.to_string()));
        }
        Ok(())
    }

    /// What holds today: never what a run file says of itself, and of a strange one not even where that stands.
    fn today(&self, header: &Header, strange: bool) -> Result<(Vec<Document>, Grants), Failed> {
        let known = if strange { &[] } else { header.documents.as_slice() };
        let then = |kind: &str| {
            known
                .iter()
                .find(|document| document.kind == kind)
                .map(|document| document.source.clone())
        };
        let (mut documents, mut layers) = (vec![], vec![]);
        let remediation = match (&self.remediation, then("Remediation")) {
            (Some(path), _) => Some(read_remediation(path)?),
            (None, Some(source)) => Some(guest::todays(&source).map_err(|e| {
                Failed::document(format!("{e}\ngive today's with --remediation FILE"))
            })?),
            // The policy that was given is all that holds.
            (None, None) if strange => None,
            (None, None) => {
                return Err(Failed::usage(
                    "the run had no Remediation: say with --remediation FILE what holds today",
                ));
            }
        };
        if let Some((remediation, document)) = remediation {
            layers.push(remediation.layer(&document.source));
            documents.push(document);
        }
        // mutant undo-reads-no-policy: or_else(|| then("Policy").map(PathBuf::from)) ~> filter(|_|
        //     self.run.is_empty())
        if let Some(path) = self.policy.clone().or_else(|| then("Policy").map(PathBuf::from)) {
            let (policy, document) = read_policy(&path)
                .map_err(|e| Failed::document(format!("{e}\ngive today's with --policy FILE")))?;
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
        open: &ClusterSession,
    ) -> Result<Header, Failed> {
        let at = open.clock().now();
        Ok(Header {
            format: FORMAT,
            run: runs::id()?,
            at,
            command: "undo".into(),
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
            deadline: at + 600_000,
            context: open.context.clone(),
            cluster: open.identity.uid.clone(),
            user: open.identity.user.clone(),
            machine: machine(),
            enforcement: None,
        })
    }
}

/// What the file says was deleted, each once: the manifest that was saved last before.
fn deleted(entries: &[Entry]) -> Deleted {
    let mut saved: BTreeMap<&str, &Value> = BTreeMap::new();
    let mut deletions: BTreeMap<u64, Effect> = BTreeMap::new();
    let mut gone: Vec<String> = vec![];
    for entry in entries {
        match entry {
            Entry::Opened(opened) => {
                if let Effect::Write(Write::Delete(delete)) = &opened.effect {
                    for object in &opened.observed.objects {
                        saved
                            .insert(object["metadata"]["uid"].as_str().unwrap_or_default(), object);
                    }
                    let known = deletions.insert(opened.n, opened.effect.clone());
                    // Until it is closed, all of it may be gone.
                    if known.is_none() {
                        gone.extend(delete.set.iter().map(|frozen| frozen.uid.clone()));
                    }
                }
            }
            Entry::Closed(closed) if closed.conflict.is_none() => {
                let Some(effect) = deletions.get(&closed.n) else { continue };
                if let Some(Answer::Delete(ends)) = closed
                    .outcome
                    .as_ref()
                    .and_then(|o| o.ok())
                    .and_then(|raw| effect.decode(raw).ok())
                {
                    gone.retain(|uid| {
                        !ends.iter().any(|end| {
                            end.uid == *uid
                                && !matches!(
                                    end.outcome,
                                    DeletionOutcome::Deleted | DeletionOutcome::Unknown
                                )
                        })
                    });
                }
            }
            _ => {}
        }
    }
    let mut found = Deleted { manifests: vec![], identities: BTreeSet::new(), unusable: vec![] };
    for uid in gone {
        let Some(manifest) = saved.get(uid.as_str()) else { continue };
        match Manifest::of(manifest) {
            Ok(one) if !found.manifests.iter().any(|known| known.object == one.object) => {
                if ["rsync", "rsyncTLS", "syncthing"]
                    .iter()
                    .any(|mover| one.manifest["spec"].get(mover).is_some())
                {
                    found.identities.insert(one.object.to_string());
                }
                found.manifests.push(one);
            }
            Ok(_) => {}
            Err(why) => found.unusable.push(Finding {
                text: format!("the saved manifest of {} cannot be used: {why}", sanitized(&uid)),
                details: vec![],
            }),
        }
    }
    found
}

async fn look(open: &ClusterSession, manifests: &[Manifest]) -> Result<Seen, Failed> {
    let namespaces: Vec<String> = manifests
        .iter()
        .map(|one| one.object.namespace.clone())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    if namespaces.is_empty() {
        return Ok(Seen { taken: BTreeSet::new(), orphans: BTreeSet::new() });
    }
    let sources = open.ask(ListSources { namespaces: namespaces.clone() }).await?;
    let pvcs = open.ask(ListPvcs { namespaces }).await?;
    let is_there = |one: &Manifest| {
        let wanted = one.manifest["spec"]["sourcePVC"].as_str();
        wanted.is_none_or(|wanted| {
            pvcs.iter().any(|pvc| {
                pvc.object.namespace == one.object.namespace && pvc.object.name == wanted
            })
        })
    };
    Ok(Seen {
        taken: manifests
            .iter()
            .filter(|one| sources.iter().any(|source| source.object == one.object))
            .map(|one| one.object.to_string())
            .collect(),
        orphans: manifests
            .iter()
            .filter(|one| !is_there(one))
            .map(|one| one.object.to_string())
            .collect(),
    })
}

fn show(deleted: &Deleted, seen: &Seen, strange: bool) {
    for one in &deleted.manifests {
        let name = one.object.to_string();
        if seen.taken.contains(&name) {
            anstream::println!("{MUTED}leave{MUTED:#}  {name}  it is there again");
        } else if seen.orphans.contains(&name) {
            anstream::println!(
                "{OK}make{OK:#}   {name}  {WARN}its claim is gone: it jams the driver again, once it is due{WARN:#}"
            );
        } else {
            anstream::println!("{OK}make{OK:#}   {name}");
        }
        if strange {
            anstream::println!(
                "{HEADING}       exactly this, from a file that is not of this machine:{HEADING:#}"
            );
            for line in serde_json::to_string_pretty(&one.manifest).unwrap_or_default().lines() {
                anstream::println!("       {}", sanitized(line));
            }
        }
    }
    for finding in &deleted.unusable {
        anstream::println!("{WARN}skip{WARN:#}   {}", sanitized(&finding.text));
    }
}

/// Makes them through the door, as a run of its own.
async fn make(
    folder: &Path,
    open: &ClusterSession,
    header: Header,
    deleted: Deleted,
    seen: &Seen,
    observer: Box<dyn salve_run::Observer>,
) -> Result<FinishedRun, Failed> {
    let file = RunFile::create(folder, &runs::file_name(header.at, &open.context, &header.run))
        .map_err(|e| {
            Failed::host(format!("the run file cannot be made in {}: {e}", folder.display()))
        })?;
    let (underway, mut run) = begin(open, header, Some(file), observer, Mode::Live)?;
    let ending = if deleted.manifests.is_empty() {
        GuestExit::Undone(concluded(&deleted, seen, &[]))
    } else {
        match run.call(Recreate { set: deleted.manifests.clone() }).await {
            Ok(Ok(made)) => GuestExit::Undone(concluded(&deleted, seen, &made)),
            Ok(Err(error @ Error::Denied(_))) => {
                GuestExit::Failed(Failure { fault: Fault::Grant, text: error.to_string() })
            }
            Ok(Err(error)) => run.ending_of_error(&error),
            Err(Halt::Stopped) => GuestExit::Stopped(None),
            Err(halt @ Halt::ClusterLocked(_)) => {
                GuestExit::Failed(Failure { fault: Fault::Cluster, text: halt.to_string() })
            }
            Err(halt) => GuestExit::Failed(Failure { fault: Fault::Host, text: halt.to_string() }),
        }
    };
    underway.finish(run, ending).await
}

fn concluded(deleted: &Deleted, seen: &Seen, made: &[Creation]) -> Conclusion {
    let new: Vec<String> = made
        .iter()
        .filter(|one| one.outcome == CreationOutcome::Created)
        .map(|one| one.object.to_string())
        .collect();
    let refused: Vec<String> = made
        .iter()
        .filter(|one| one.outcome == CreationOutcome::Rejected)
        .map(|one| format!("{}: {}", one.object, one.message.as_deref().unwrap_or("refused")))
        .collect();
    let late = made
        .iter()
        .filter(|one| one.outcome == CreationOutcome::Occupied)
        .map(|one| one.object.to_string());
    let there: Vec<String> = seen.taken.iter().cloned().chain(late).collect();
    let verdict = match (new.is_empty(), refused.is_empty()) {
        (_, false) => Concluded::NotFixed,
        (true, true) => Concluded::NothingToDo,
        (false, true) => Concluded::Fixed,
    };
    let summary = match verdict {
        Concluded::NothingToDo => "nothing is missing that the run had deleted".to_owned(),
        _ => format!("{} made anew", count(new.len(), "ReplicationSource")),
    };
    let mut left = deleted.unusable.clone();
    let mut say = |text: &str, details: Vec<String>| {
        if !details.is_empty() {
            left.push(Finding { text: text.into(), details });
        }
    };
    say("were refused", refused);
    say("were there again already, and are left as they are", there);
    let of_new = |set: &BTreeSet<String>| {
        new.iter().filter(|name| set.contains(*name)).cloned().collect::<Vec<_>>()
    };
    say(
        "back up a claim that no longer exists: they jam the driver again once they are due",
        of_new(&seen.orphans),
    );
    say(
        "had keys that their peers know: those are made anew, and the peers have to learn them",
        of_new(&deleted.identities),
    );
    if !new.is_empty() {
        say(
            "what cannot come back",
            vec![
                "their status: each begins with a first synchronization, and no history".into(),
                "the VolumeSnapshots and cache volumes that went with them; what is in a backup repository is still there".into(),
                "annotations that steer no controller: they can hold anything, and were not saved".into(),
                "the driver's restart, which lost nothing".into(),
            ],
        );
    }
    Conclusion {
        verdict,
        summary,
        figures: vec![],
        evidence: vec![],
        left,
        prevention: vec![],
        proof: vec![],
    }
}
