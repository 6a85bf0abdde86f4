//! The account of a run: the audit log of the API server against the run file.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use salve_core::effect::TypedCall;
use salve_core::effect::host::{CheckPolicies, GetIdentity, Policy, ReviewAccess};
use salve_core::footprint::{Asked, Footprint, Verb};
use salve_core::journal::{Entry as Line, Header, Opened, RunResult};
use salve_run::RunFile;
use salve_tests::control_plane::Entry;
use serde_json::Value;

use crate::role;

/// What one run asked of the API server, and what it wrote down.
pub struct Account {
    asked: Vec<Entry>,
    lines: Vec<Line>,
}

impl Account {
    /// Of the requests of one user, and the run file of the only run that it made with them.
    pub fn of(asked: Vec<Entry>, file: &Path) -> Result<Account> {
        let lines = RunFile::read(file)?;
        ensure!(matches!(lines.last(), Some(Line::Verdict(_))), "the run file has no end");
        Ok(Account { asked, lines })
    }

    /// What was changed.
    pub fn mutations(&self) -> Vec<&Entry> {
        mutations(&self.asked).collect()
    }

    /// How it came out.
    pub fn closing(&self) -> &RunResult {
        self.lines.last().and_then(Line::verdict).expect("it was looked at when the file was read")
    }

    /// Each request was covered by an effect that the run file holds, each change by an entry opened for it alone; and
    /// the cluster refused none.
    pub fn is_whole(&self) -> Result<()> {
        for entry in &self.asked {
            ensure!(entry.code != 401 && entry.code != 403, "the cluster refused {}", words(entry));
        }
        self.reads_are_recorded()?;
        let opened: Vec<&Opened> = self.lines.iter().filter_map(Line::opened).collect();
        self.changes_were_opened(&opened)?;
        // An account that would also be whole without one of its entries could not tell that one is missing.
        for at in 0..opened.len() {
            let mut others = opened.clone();
            let missing = others.remove(at);
            ensure!(
                self.changes_were_opened(&others).is_err(),
                "nobody would miss entry {}: {}",
                missing.n,
                missing.effect.name()
            );
        }
        Ok(())
    }

    fn header(&self) -> Result<&Header> {
        match self.lines.first() {
            Some(Line::Header(header)) => Ok(header),
            _ => anyhow::bail!("the run file begins with no header"),
        }
    }

    fn reads_are_recorded(&self) -> Result<()> {
        let grants = &self.header()?.grants;
        let effects = self.lines.iter().filter_map(|line| match line {
            Line::Opened(opened) => Some(&opened.effect),
            Line::Done(done) | Line::Planned(done) => Some(&done.effect),
            _ => None,
        });
        let mut footprints: Vec<Footprint> = effects
            .map(|effect| Footprint::new(effect, grants.granted_namespaces(effect.capability())))
            .collect();
        // Asked before there is a run.
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
        // What is no resource is discovery.
        for entry in self.asked.iter().filter(|entry| !entry.resource.is_empty()) {
            let asked = asked(entry)?;
            ensure!(
                footprints.iter().any(|footprint| footprint.covers(&asked).is_ok()),
                "no recorded effect covers {}",
                words(entry)
            );
        }
        Ok(())
    }

    /// Of a run whose process died in between: each change was opened before it was sent, however often it was, and the
    /// cluster did nothing twice.
    pub fn is_sound(&self) -> Result<()> {
        let opened: Vec<&Opened> = self.lines.iter().filter_map(Line::opened).collect();
        let (mut deleted, mut restarts) = (BTreeSet::new(), BTreeSet::new());
        for entry in self.mutations() {
            let asked = asked(entry)?;
            ensure!(
                opened.iter().any(|opened| answers(opened, entry, &asked)),
                "the run file holds no entry for {} of {}",
                words(entry),
                entry.request
            );
            if entry.resource == "replicationsources" && entry.is_granted() {
                let uid = &entry.request["preconditions"]["uid"];
                ensure!(
                    uid.is_string(),
                    "{} is bound to no object: {}",
                    words(entry),
                    entry.request
                );
                ensure!(deleted.insert(uid.to_string()), "{} was done twice", words(entry));
            }
            if entry.resource == "deployments" && entry.is_granted() {
                restarts.insert(entry.request["spec"]["template"].to_string());
            }
        }
        ensure!(restarts.len() < 2, "it was restarted twice: {restarts:?}");
        Ok(())
    }

    fn changes_were_opened(&self, opened: &[&Opened]) -> Result<()> {
        let mut spent = BTreeSet::new();
        for entry in self.mutations() {
            let asked = asked(entry)?;
            // An entry stands for one request an object.
            let place = |at: usize| {
                (
                    at,
                    entry.verb.clone(),
                    entry.resource.clone(),
                    entry.namespace.clone(),
                    entry.name.clone(),
                )
            };
            let found = opened.iter().enumerate().find(|(at, opened)| {
                !spent.contains(&place(*at)) && answers(opened, entry, &asked)
            });
            let (at, _) = found.with_context(|| {
                format!("the run file holds no entry for {} of {}", words(entry), entry.request)
            })?;
            spent.insert(place(at));
        }
        Ok(())
    }
}

/// Whether this change is of this entry.
fn answers(opened: &Opened, entry: &Entry, asked: &Asked<'_>) -> bool {
    let footprint = Footprint::new(&opened.effect, vec![]);
    let known = opened
        .observed
        .objects
        .iter()
        .any(|object| object["metadata"]["name"] == entry.name.as_str());
    let fields = asked.verb != Verb::Patch || footprint.covers_patch(&entry.request).is_ok();
    known && fields && footprint.covers(asked).is_ok()
}

/// What is created and kept nowhere.
const REVIEWS: [&str; 2] = ["selfsubjectreviews", "selfsubjectaccessreviews"];

/// Changes of the cluster. A review is created too, and leaves nothing behind.
pub fn mutations(asked: &[Entry]) -> impl Iterator<Item = &Entry> {
    asked.iter().filter(|entry| entry.is_mutation() && !REVIEWS.contains(&entry.resource.as_str()))
}

/// A request in few words.
pub fn words(entry: &Entry) -> String {
    format!("{} {} ({})", entry.verb, entry.uri, entry.code)
}

fn asked(entry: &Entry) -> Result<Asked<'_>> {
    let verbs = [Verb::Get, Verb::List, Verb::Watch, Verb::Create, Verb::Patch, Verb::Delete];
    let verb = verbs
        .into_iter()
        .find(|verb| verb.word() == entry.verb)
        .with_context(|| format!("no effect has the verb of {}", words(entry)))?;
    let given = |text: &'_ str| !text.is_empty();
    Ok(Asked {
        verb,
        group: &entry.group,
        resource: &entry.resource,
        subresource: Some(entry.subresource.as_str()).filter(|text| given(text)),
        // The audit log says of a namespace that it is in itself.
        namespace: Some(entry.namespace.as_str())
            .filter(|text| given(text) && entry.resource != "namespaces"),
        name: Some(entry.name.as_str()).filter(|text| given(text)),
    })
}
