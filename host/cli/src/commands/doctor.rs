//! `salve doctor`: finds what earlier runs left behind, and backups that are about to hang.

use super::print_json;
use crate::arguments::{ClusterArguments, Output, OutputArguments, RunsArguments};
use crate::cluster::ClusterSession;
use crate::output::{CommandError, ERROR, MUTED, OK, WARN, elapsed, plural, timestamp};
use crate::runs;
use clap::Args;
use salve_core::Millis;
use salve_core::capability::cluster_lock::{GetHolder, Holder, LEASE, ReleaseLease};
use salve_core::capability::host::{FindLeftovers, Leftover};
use salve_core::capability::query_flux::{FindOwners, OwnerInfo, Ownership, Subject, SubjectKind};
use salve_core::capability::query_objects::ListObjects;
use salve_core::capability::query_replicationsources::{Health, ListSources, Source};
use salve_core::capability::types::Kind;
use salve_core::capability::{Reversal, Target};
use salve_core::document::API_VERSION;
use salve_core::journal::Header;
use salve_core::sanitize::sanitized;
use serde_json::{Value, json};

/// Find what earlier runs left behind, and backups that are about to hang. Read-only.
///
/// Looks in all namespaces for what runs of any machine changed temporarily, such as suspended Flux
/// objects, and for the cluster lock (the Lease `salve`). Prints the commands that clean up each of
/// them. Fields of other kinds are found if a run file on this machine has a grant for the kind, or
/// with --kind.
///
/// Also lists ReplicationSources whose PVC is deleted or terminating: their next backup hangs and
/// holds CSI operation locks.
///
/// Exit code 0: no run left anything. 5: a run left something behind, or is still running.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    salve doctor --context home\n  \
    salve doctor --kind deployments.apps")]
pub struct Doctor {
    /// Also look for fields of this kind that a run set, such as `deployments.apps`; repeatable.
    #[arg(long = "kind", value_name = "RESOURCE.GROUP", value_parser = parse_kind)]
    kinds: Vec<Kind>,
    #[command(flatten)]
    runs: RunsArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// The maximum number of subjects of one [`FindOwners`].
const MAX_SUBJECTS: usize = 1000;

struct Findings {
    leftovers: Vec<Leftover>,
    holder: Option<Holder>,
    /// ReplicationSources whose PVC is deleted or terminating, or why they could not be listed.
    orphans: Result<Vec<Orphan>, String>,
}

/// A ReplicationSource whose PVC is deleted or terminating.
struct Orphan {
    source: Source,
    /// Who would recreate it, if that could be read.
    owner: Option<OwnerInfo>,
}

impl Orphan {
    /// Describes what recreates it, and what to do about that first.
    fn owner(&self) -> String {
        let Some(info) = &self.owner else {
            return "its owner could not be read: if it is in Git, remove it there first".into();
        };
        match (info.ownership, &info.owner) {
            (Ownership::Managed, Some(owner)) => {
                format!("managed by {}: remove it from Git first", owner.target)
            }
            (Ownership::Managed | Ownership::Foreign | Ownership::UnknownOwner, _) => {
                format!("{}; if that recreates it, remove it there first", info.evidence)
            }
            (Ownership::Abandoned | Ownership::Unmanaged, _) => {
                "not in Git: will not come back".into()
            }
        }
    }
}

impl Doctor {
    /// Reads the cluster and prints the findings.
    pub async fn execute(self) -> Result<u8, CommandError> {
        let cluster = ClusterSession::live(&self.cluster).await?;
        let findings = Findings {
            leftovers: cluster.read(FindLeftovers { kinds: self.all_kinds(&cluster)? }).await?,
            holder: cluster.read(GetHolder {}).await?,
            orphans: orphans(&cluster).await,
        };
        let now = cluster.clock().now();
        match self.output.output {
            Output::Json => print_json(&findings.document(now))?,
            Output::Human => findings.print(now),
        }
        Ok(if findings.is_clean() { 0 } else { 5 })
    }

    /// Returns the given kinds, and those that a run of this machine may have changed in this
    /// cluster.
    fn all_kinds(&self, cluster: &ClusterSession) -> Result<Vec<Kind>, CommandError> {
        let mut kinds = self.kinds.clone();
        let folder = match runs::folder(self.runs.runs.as_ref()) {
            Ok(folder) => folder,
            // Without a home folder, this machine has no runs.
            Err(_) => return Ok(kinds),
        };
        // A cluster that cannot be identified may be any of them.
        let may_be_here = |header: &Header| match (&header.cluster, &cluster.identity.uid) {
            (Some(recorded), Some(now)) => recorded == now,
            (Some(_), None) | (None, Some(_) | None) => true,
        };
        let headers = runs::all(&folder)?
            .into_iter()
            .filter_map(|path| runs::read_header(&path))
            .filter(may_be_here);
        for kind in headers.flat_map(|header| header.grants.reversible_kinds()) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(kinds)
    }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).map_err(|error| error.text().to_owned())
}

impl Findings {
    fn is_clean(&self) -> bool {
        // mutant doctor-clean-despite-lease: () && self.holder.is_none() ~> ()
        self.leftovers.is_empty() && self.holder.is_none()
    }

    fn document(&self, now: Millis) -> Value {
        let items: Vec<_> = self
            .leftovers
            .iter()
            .map(|leftover| {
                json!({
                    "targets": targets(leftover),
                    "leftover": leftover,
                    "commands": commands(leftover),
                })
            })
            .collect();
        let lease = self
            .holder
            .as_ref()
            .map(|holder| json!({"holder": holder, "commands": unlock_commands(holder, now)}));
        let mut document = json!({
            "apiVersion": API_VERSION,
            "kind": "Leftovers",
            "items": items,
            "lease": lease,
        });
        match &self.orphans {
            Ok(orphans) => {
                let item = |orphan: &Orphan| {
                    json!({
                        "source": orphan.source,
                        "ownership": orphan.owner.as_ref().map(|info| info.ownership),
                        "commands": [delete_command(&orphan.source)],
                    })
                };
                document["orphans"] = orphans.iter().map(item).collect()
            }
            Err(why) => document["orphansUnknown"] = why.as_str().into(),
        }
        document
    }

    fn print(&self, now: Millis) {
        if self.is_clean() {
            anstream::println!(
                "{OK}CLEAN{OK:#}  no object of the searched kinds is changed or marked by a run; \
                 the cluster lock is free"
            );
        } else {
            let objects = plural(self.leftovers.len(), "object");
            let lock = if self.holder.is_some() { "; the cluster lock is held" } else { "" };
            anstream::println!(
                "{ERROR}NOT CLEAN{ERROR:#}  {objects} changed or marked by a run{lock}\n"
            );
        }
        for leftover in &self.leftovers {
            let capability = leftover.reversal.function().capability();
            let run = sanitized(&leftover.run);
            let state = if leftover.active {
                format!("{capability} by run {run} is still in effect")
            } else {
                format!("marked by run {run}, {capability} is no longer in effect")
            };
            anstream::println!(
                "{}  {state}: {}",
                sanitized(&targets(leftover).join(", ")),
                sanitized(&leftover.reason)
            );
            match leftover.deadline {
                Some(deadline) if deadline < now => anstream::println!(
                    "{MUTED}  deadline {} has passed; the run probably crashed{MUTED:#}",
                    timestamp(deadline)
                ),
                Some(deadline) => anstream::println!(
                    "{MUTED}  the run may still be running, until {}{MUTED:#}",
                    timestamp(deadline)
                ),
                None => {}
            }
            for command in commands(leftover) {
                anstream::println!("  run: {}", sanitized(&command));
            }
        }
        if let Some(holder) = &self.holder {
            anstream::println!(
                "Lease {}/{LEASE}  {}",
                sanitized(&holder.namespace),
                sanitized(&holder.conflict_message(now))
            );
            for command in unlock_commands(holder, now) {
                anstream::println!("  run: {}", sanitized(&command));
            }
        }
        self.print_orphans(now);
    }

    fn print_orphans(&self, now: Millis) {
        let orphans = match &self.orphans {
            Ok(orphans) if orphans.is_empty() => return,
            Ok(orphans) => orphans,
            Err(why) => {
                return anstream::println!(
                    "\n{MUTED}cannot check whether ReplicationSources have lost their PVCs: \
                     {}{MUTED:#}",
                    sanitized(why)
                );
            }
        };
        let summary = match orphans.len() {
            1 => "1 ReplicationSource backs up a PVC that is deleted or terminating: its next \
                  backup hangs and holds locks"
                .to_owned(),
            n => format!(
                "{n} ReplicationSources back up PVCs that are deleted or terminating: their next \
                 backups hang and hold locks"
            ),
        };
        anstream::println!("\n{WARN}WARNING{WARN:#}  {summary}\n");
        for orphan in orphans {
            let source = &orphan.source;
            let last = source.last_sync.map_or_else(
                || "never backed up".into(),
                |at| format!("last backup {} ago", elapsed(at, now)),
            );
            let pvc = source.pvc.as_deref().unwrap_or("-");
            let state = if source.health == Health::TerminatingSource {
                "is terminating"
            } else {
                "does not exist"
            };
            anstream::println!(
                "{}  PVC {} {state}, {last}, {}",
                sanitized(&source.object.to_string()),
                sanitized(pvc),
                sanitized(&orphan.owner())
            );
            anstream::println!("  run: {}", sanitized(&delete_command(source)));
        }
    }
}

/// Lists the ReplicationSources of all namespaces whose PVC is deleted or terminating.
async fn orphans(cluster: &ClusterSession) -> Result<Vec<Orphan>, String> {
    let mut namespaces = vec![];
    let mut next = None;
    loop {
        let kind = Kind { group: String::new(), resource: "namespaces".into() };
        let page = cluster
            .read(ListObjects { kind, namespace: None, label_selector: None, limit: 500, next })
            .await
            .map_err(|e| e.to_string())?;
        let names = page.objects.iter().filter_map(|text| {
            serde_json::from_str::<Value>(text).ok()?["metadata"]["name"]
                .as_str()
                .map(str::to_owned)
        });
        namespaces.extend(names);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let mut sources = cluster.read(ListSources { namespaces }).await.map_err(|e| e.to_string())?;
    // mutant doctor-misses-orphans: Orphan | Health:: ~>
    sources.retain(|source| matches!(source.health, Health::Orphan | Health::TerminatingSource));
    let mut orphans = Vec::with_capacity(sources.len());
    for sources in sources.chunks(MAX_SUBJECTS) {
        let subject = |source: &Source| Subject {
            kind: SubjectKind::ReplicationSource,
            object: source.object.clone(),
        };
        let subjects = sources.iter().map(subject).collect();
        // Without them, the warning is still worth showing.
        let mut owners =
            cluster.read(FindOwners { subjects }).await.unwrap_or_default().into_iter();
        orphans.extend(
            sources.iter().map(|source| Orphan { source: source.clone(), owner: owners.next() }),
        );
    }
    Ok(orphans)
}

/// Returns the objects that a leftover concerns.
fn targets(leftover: &Leftover) -> Vec<String> {
    leftover.reversal.targets().iter().map(Target::to_string).collect()
}

/// Returns the commands that take a leftover back, if it is still in effect, and remove its mark.
fn commands(leftover: &Leftover) -> Vec<String> {
    let mut commands = if leftover.active { leftover.reversal.commands() } else { vec![] };
    commands.extend(leftover.reversal.cleanup_commands());
    commands
}

/// Returns the command that releases the cluster lock; none before the deadline of the run that
/// holds it, which may still be running.
fn unlock_commands(holder: &Holder, now: Millis) -> Vec<String> {
    let expired = holder.until.is_some_and(|until| until < now);
    if !expired {
        return vec![];
    }
    let (namespace, run) = (holder.namespace.clone(), holder.run.clone());
    Reversal::from(ReleaseLease { namespace, run }).commands()
}

fn delete_command(source: &Source) -> String {
    format!(
        "kubectl delete replicationsource {} -n {}",
        source.object.name, source.object.namespace
    )
}
