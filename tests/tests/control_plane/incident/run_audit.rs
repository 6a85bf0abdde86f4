//! Compares the requests of a run in the audit log of the API server with its run file.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use salve_core::capability::TypedCall;
use salve_core::capability::host::{CheckPolicies, GetIdentity, Policy, ReviewAccess};
use salve_core::footprint::{Asked, Footprint, Verb};
use salve_core::journal::{Entry as JournalEntry, Header, Opened, RunResult};
use salve_run::RunFile;
use salve_tests::control_plane::AuditEntry;
use serde_json::Value;

use super::role;

/// The requests of a run and the entries of its run file.
pub struct RunAudit {
    requests: Vec<AuditEntry>,
    journal: Vec<JournalEntry>,
}

impl RunAudit {
    /// `requests` are all requests of one user during one run, `file` is the run file.
    pub fn new(requests: Vec<AuditEntry>, file: &Path) -> Result<RunAudit> {
        let journal = RunFile::read(file)?;
        ensure!(
            matches!(journal.last(), Some(JournalEntry::Verdict(_))),
            "the run file has no verdict"
        );
        Ok(RunAudit { requests, journal })
    }

    /// Returns the requested changes.
    pub fn mutations(&self) -> Vec<&AuditEntry> {
        mutations(&self.requests).collect()
    }

    pub fn result(&self) -> &RunResult {
        self.journal.last().and_then(JournalEntry::verdict).expect("the last entry is the verdict")
    }

    /// Checks that the cluster denied no request, that every request is covered by a recorded
    /// effect, and that every change has its own entry, opened before it was sent.
    pub fn ensure_complete(&self) -> Result<()> {
        for entry in &self.requests {
            ensure!(
                entry.code != 401 && entry.code != 403,
                "the cluster denied {}",
                describe(entry)
            );
        }
        self.ensure_reads_are_recorded()?;
        let opened: Vec<&Opened> = self.journal.iter().filter_map(JournalEntry::opened).collect();
        self.ensure_changes_were_opened(&opened)?;
        // If the check passed without one of the calls, it could not detect a missing entry. An
        // attempt that found the object changed sent nothing, so all attempts of a call count, and
        // so do all calls of a reversal that was tried again.
        for missing in &opened {
            let mut others = opened.clone();
            others.retain(|other| other.n != missing.n && other.effect != missing.effect);
            ensure!(
                self.ensure_changes_were_opened(&others).is_err(),
                "entry {} ({}) is not needed by any request",
                missing.n,
                missing.effect.name()
            );
        }
        Ok(())
    }

    fn header(&self) -> Result<&Header> {
        let header = self.journal.first().and_then(JournalEntry::header);
        header.context("the run file does not begin with a header")
    }

    fn ensure_reads_are_recorded(&self) -> Result<()> {
        let grants = &self.header()?.grants;
        let effects = self.journal.iter().filter_map(|line| match line {
            JournalEntry::Opened(opened) => Some(&opened.effect),
            JournalEntry::Done(done) | JournalEntry::Planned(done) => Some(&done.effect),
            JournalEntry::Header(_)
            | JournalEntry::Approved(_)
            | JournalEntry::Recovery(_)
            | JournalEntry::Closed(_)
            | JournalEntry::GuestExited(_)
            | JournalEntry::Verdict(_) => None,
        });
        let mut footprints: Vec<Footprint> = effects
            .map(|effect| Footprint::new(effect, grants.granted_namespaces(effect.capability())))
            .collect();
        // Requests before the run starts.
        footprints.push(Footprint::new(&GetIdentity {}.effect(), vec![]));
        footprints.push(Footprint::new(&ReviewAccess { requests: vec![] }.effect(), vec![]));
        footprints.push(Footprint::new(
            &CheckPolicies {
                policies: role::policies()
                    .into_iter()
                    .map(|name| Policy { name, spec: Value::Null, binding: Value::Null })
                    .collect(),
            }
            .effect(),
            vec![],
        ));
        // Requests without a resource are discovery.
        for entry in self.requests.iter().filter(|entry| !entry.resource.is_empty()) {
            let request = footprint_request(entry)?;
            ensure!(
                footprints.iter().any(|footprint| footprint.covers(&request).is_ok()),
                "no recorded effect covers {}",
                describe(entry)
            );
        }
        Ok(())
    }

    /// Checks a run that was killed and recovered: every change has an entry that was opened
    /// before, even if it was sent several times, and no change was applied twice.
    pub fn ensure_sound(&self) -> Result<()> {
        let opened: Vec<&Opened> = self.journal.iter().filter_map(JournalEntry::opened).collect();
        let (mut deleted, mut restarts) = (BTreeSet::new(), BTreeSet::new());
        for entry in self.mutations() {
            let request = footprint_request(entry)?;
            ensure!(
                opened.iter().any(|opened| covers_change(opened, entry, &request)),
                "the run file has no entry for {} with {}",
                describe(entry),
                entry.request
            );
            if entry.resource == "replicationsources" && entry.is_success() {
                let uid = &entry.request["preconditions"]["uid"];
                ensure!(
                    uid.is_string(),
                    "{} has no UID as precondition: {}",
                    describe(entry),
                    entry.request
                );
                ensure!(deleted.insert(uid.to_string()), "{} was applied twice", describe(entry));
            }
            if entry.resource == "deployments" && entry.is_success() {
                restarts.insert(entry.request["spec"]["template"].to_string());
            }
        }
        ensure!(restarts.len() < 2, "the Deployment was restarted twice: {restarts:?}");
        Ok(())
    }

    fn ensure_changes_were_opened(&self, opened: &[&Opened]) -> Result<()> {
        let mut used = BTreeSet::new();
        for entry in self.mutations() {
            let request = footprint_request(entry)?;
            // An entry covers one request per object.
            let key = |at: usize| {
                (
                    at,
                    entry.verb.clone(),
                    entry.resource.clone(),
                    entry.namespace.clone(),
                    entry.name.clone(),
                )
            };
            let found = opened.iter().enumerate().find(|(at, opened)| {
                !used.contains(&key(*at)) && covers_change(opened, entry, &request)
            });
            let (at, _) = found.with_context(|| {
                format!("the run file has no entry for {} with {}", describe(entry), entry.request)
            })?;
            used.insert(key(at));
        }
        Ok(())
    }
}

/// Returns whether a journal entry covers a requested change.
fn covers_change(opened: &Opened, entry: &AuditEntry, request: &Asked<'_>) -> bool {
    let footprint = Footprint::new(&opened.effect, vec![]);
    let known = opened
        .observed
        .objects
        .iter()
        .any(|object| object["metadata"]["name"] == entry.name.as_str());
    let fields = request.verb != Verb::Patch || footprint.covers_patch(&entry.request).is_ok();
    known && fields && footprint.covers(request).is_ok()
}

/// Resources that are created but not stored.
const REVIEWS: [&str; 2] = ["selfsubjectreviews", "selfsubjectaccessreviews"];

/// Returns the requested changes, without reviews.
pub fn mutations(requests: &[AuditEntry]) -> impl Iterator<Item = &AuditEntry> {
    requests
        .iter()
        .filter(|entry| entry.is_mutation() && !REVIEWS.contains(&entry.resource.as_str()))
}

/// Describes a request in a few words.
pub fn describe(entry: &AuditEntry) -> String {
    format!("{} {} ({})", entry.verb, entry.uri, entry.code)
}

fn footprint_request(entry: &AuditEntry) -> Result<Asked<'_>> {
    let verbs = [Verb::Get, Verb::List, Verb::Watch, Verb::Create, Verb::Patch, Verb::Delete];
    let verb = verbs
        .into_iter()
        .find(|verb| verb.as_str() == entry.verb)
        .with_context(|| format!("no effect uses the verb of {}", describe(entry)))?;
    let non_empty = |text: &&str| !text.is_empty();
    Ok(Asked {
        verb,
        group: &entry.group,
        resource: &entry.resource,
        subresource: Some(entry.subresource.as_str()).filter(non_empty),
        // In the audit log, a Namespace is in the namespace of its own name.
        namespace: Some(entry.namespace.as_str())
            .filter(|text| non_empty(text) && entry.resource != "namespaces"),
        name: Some(entry.name.as_str()).filter(non_empty),
    })
}
