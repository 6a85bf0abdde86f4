//! `salve doctor`: what earlier runs left behind, from whatever machine, and which backups will bite.

use super::print_json;
use crate::arguments::{ClusterArguments, Output, OutputArguments};
use crate::cluster::ClusterSession;
use crate::output::{ERROR, Failed, MUTED, OK, WARN, ago, count, moment};
use clap::Args;
use salve_core::Millis;
use salve_core::effect::Write;
use salve_core::effect::host::{FindLeftovers, Holder, LEASE, Lease, Leftover};
use salve_core::effect::query_objects::{Kind, ListObjects};
use salve_core::effect::query_replicationsources::{Health, ListSources, Source};
use salve_core::effect::suspend_flux::Resume;
use salve_core::equivalent;
use salve_core::sanitize::sanitized;
use serde_json::{Value, json};

/// What earlier runs left behind, and which backups lock claims one day. Read-only, over all namespaces.
///
/// Runs of any machine are found by what they set in the cluster: their marks on Flux objects, and the Lease. A
/// ReplicationSource whose claim is gone hangs with its next backup, and others with it: it is named before it does.
///
/// Exit code 0: no run has left anything. 5: one has, or is at work; what to type stands beside it.
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What was found.
struct Found {
    leftovers: Vec<Leftover>,
    holder: Option<Holder>,
    /// Sources whose claim is gone or going; or why nobody knows.
    orphans: Result<Vec<Source>, String>,
}

impl Doctor {
    /// Looks.
    pub async fn execute(self) -> Result<u8, Failed> {
        let open = ClusterSession::live(&self.cluster).await?;
        let found = Found {
            leftovers: open.ask(FindLeftovers {}).await?,
            holder: open.ask(Lease {}).await?,
            orphans: orphans(&open).await,
        };
        let now = open.clock().now();
        match self.output.output {
            Output::Json => print_json(&found.document(now))?,
            Output::Human => found.tell(now),
        }
        Ok(if found.is_clean() { 0 } else { 5 })
    }
}

impl Found {
    fn is_clean(&self) -> bool {
        // mutant doctor-clean-despite-lease: () && self.holder.is_none() ~> ()
        self.leftovers.is_empty() && self.holder.is_none()
    }

    fn document(&self, now: Millis) -> Value {
        let items: Vec<_> = self
            .leftovers
            .iter()
            .map(|left| json!({"leftover": left, "commands": commands(left)}))
            .collect();
        let lease = self
            .holder
            .as_ref()
            .map(|holder| json!({"holder": holder, "commands": free(holder, now)}));
        let mut document = json!({"apiVersion": "salve.dev/v1alpha1", "kind": "Leftovers", "items": items, "lease": lease});
        match &self.orphans {
            Ok(sources) => {
                document["orphans"] = sources
                    .iter()
                    .map(|source| json!({"source": source, "commands": [deletion(source)]}))
                    .collect()
            }
            Err(why) => document["orphansUnknown"] = why.as_str().into(),
        }
        document
    }

    fn tell(&self, now: Millis) {
        if self.is_clean() {
            anstream::println!(
                "{OK}NOTHING LEFT{OK:#}  no Flux object bears the mark of a run, and no run holds the cluster"
            );
        } else {
            let marked = count(self.leftovers.len(), "Flux object");
            let lease = if self.holder.is_some() { ", and the Lease of one" } else { "" };
            anstream::println!(
                "{ERROR}LEFT OPEN{ERROR:#}  {marked} with the mark of a run{lease}\n"
            );
        }
        for left in &self.leftovers {
            let state = if left.suspended { "suspended" } else { "not suspended, but marked" };
            anstream::println!(
                "{}  {state} by run {}: {}",
                left.target,
                sanitized(&left.run),
                sanitized(&left.reason)
            );
            match left.deadline {
                Some(deadline) if deadline < now => {
                    anstream::println!(
                        "{MUTED}  the run meant to be through by {}: it has died or hangs{MUTED:#}",
                        moment(deadline)
                    )
                }
                Some(deadline) => anstream::println!(
                    "{MUTED}  the run may still be at work, until {}{MUTED:#}",
                    moment(deadline)
                ),
                None => {}
            }
            for command in commands(left) {
                anstream::println!("  type    {}", sanitized(&command));
            }
        }
        if let Some(holder) = &self.holder {
            anstream::println!(
                "Lease {}/{LEASE}  {}",
                sanitized(&holder.namespace),
                sanitized(&holder.told(now))
            );
            for command in free(holder, now) {
                anstream::println!("  type    {}", sanitized(&command));
            }
        }
        self.tell_orphans(now);
    }

    fn tell_orphans(&self, now: Millis) {
        let sources = match &self.orphans {
            Ok(sources) if sources.is_empty() => return,
            Ok(sources) => sources,
            Err(why) => {
                return anstream::println!(
                    "\n{MUTED}whether ReplicationSources have lost their claims is not known: {}{MUTED:#}",
                    sanitized(why)
                );
            }
        };
        let what = if sources.len() == 1 {
            "ReplicationSource backs up a claim that is"
        } else {
            "ReplicationSources back up claims that are"
        };
        anstream::println!(
            "\n{WARN}WATCH OUT{WARN:#}  {} {what} gone or going: the next backup hangs, and holds locks\n",
            sources.len()
        );
        for source in sources {
            let last = source.last_sync.map_or_else(
                || "never backed up".into(),
                |at| format!("last backup {} ago", ago(at, now)),
            );
            let whose = source
                .labelled_owner
                .as_ref()
                .map(|owner| format!(", labelled as of {owner}: remove it from Git first"))
                .unwrap_or_default();
            let pvc = source.pvc.as_deref().unwrap_or("-");
            let state = if source.health == Health::TerminatingSource {
                "is being deleted"
            } else {
                "is gone"
            };
            anstream::println!(
                "{}  claim {} {state}, {last}{}",
                sanitized(&source.object.to_string()),
                sanitized(pvc),
                sanitized(&whose)
            );
            anstream::println!("  type    {}", sanitized(&deletion(source)));
        }
    }
}

/// The ReplicationSources of all namespaces whose claim is gone or going.
async fn orphans(open: &ClusterSession) -> Result<Vec<Source>, String> {
    let mut namespaces = vec![];
    let mut next = None;
    loop {
        let kind = Kind { group: String::new(), resource: "namespaces".into() };
        let page = open
            .ask(ListObjects { kind, namespace: None, label_selector: None, limit: 500, next })
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
    let mut sources = open.ask(ListSources { namespaces }).await.map_err(|e| e.to_string())?;
    // mutant doctor-misses-orphans: Orphan | Health:: ~>
    sources.retain(|source| matches!(source.health, Health::Orphan | Health::TerminatingSource));
    Ok(sources)
}

/// What a person types to give it back, and to take the mark off.
fn commands(left: &Leftover) -> Vec<String> {
    let release = Write::Resume(Resume {
        target: left.target.clone(),
        uid: String::new(),
        previous: left.previous,
    });
    let resume = if left.suspended { equivalent::commands(&release) } else { vec![] };
    resume.into_iter().chain([equivalent::unmark(&left.target)]).collect()
}

/// What frees the cluster where the run cannot be at work any more.
fn free(holder: &Holder, now: Millis) -> Vec<String> {
    let over = holder.until.is_some_and(|until| until < now);
    if over {
        vec![format!("kubectl delete lease {LEASE} -n {}", holder.namespace)]
    } else {
        vec![]
    }
}

fn deletion(source: &Source) -> String {
    format!(
        "kubectl delete replicationsource {} -n {}",
        source.object.name, source.object.namespace
    )
}
