//! A plan that a person has approved by naming it: found, and held against what would run.

use crate::components;
use crate::guest::ResolvedGuest;
use crate::output::{Failed, duration};
use crate::runs;
use salve_core::Millis;
use salve_core::approval::Approval;
use salve_core::digest;
use salve_core::journal::{Document, Entry, Header};
use salve_core::report::Verdict;
use salve_core::sanitize::sanitized;
use salve_run::RunFile;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// So old may a plan be whose evidence still counts.
const FRESH: Millis = 15 * 60 * 1000;

/// A plan, read from its file.
pub struct Plan {
    path: PathBuf,
    header: Header,
    entries: Vec<Entry>,
    /// SHA-256 of the file.
    digest: String,
    /// Somebody else may have written it: it binds, and vouches for nothing.
    strange: bool,
}

impl Plan {
    /// The plan of this id or path.
    pub fn open(folder: &Path, named: &str) -> Result<Self, Failed> {
        let path = runs::given(folder, named)?;
        let bytes = std::fs::read(&path)
            .map_err(|e| Failed::document(format!("{}: {e}", path.display())))?;
        let entries = RunFile::read(&path).map_err(|e| Failed::document(e.to_string()))?;
        let header = runs::header(&entries, &path)?.clone();
        if header.command != "plan" {
            return Err(Failed::usage(format!(
                "{} is the file of a {}: a plan is wanted",
                path.display(),
                sanitized(&header.command)
            )));
        }
        match entries.last().and_then(Entry::verdict).map(|closing| closing.verdict) {
            Some(Verdict::Planned) => {}
            Some(other) => {
                return Err(Failed::usage(format!(
                    "plan {} came to {}: there is nothing to run",
                    sanitized(&header.run),
                    other.word()
                )));
            }
            None => {
                return Err(Failed::document(format!(
                    "{}: the plan has no end: make another with salve plan",
                    path.display()
                )));
            }
        }
        // mutant foreign-plan-trusted: (&path, folder) ~> (&path, folder) && entries.is_empty()
        let strange = runs::is_foreign(&path, folder);
        Ok(Self { header, entries, digest: digest::of_bytes(&bytes), strange, path })
    }

    /// The header of its run.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The component and documents that it was made with.
    ///
    /// # Errors
    /// Of a stranger's file, nothing is taken: which grants hold is for the person to say.
    pub fn chosen(&self) -> Result<ResolvedGuest, Failed> {
        if self.strange {
            let why = "it is not from this machine's own folder of runs";
            return Err(Failed::usage(format!(
                "{}: {why}: name its guest, and its policy where it has one",
                self.path.display()
            )));
        }
        let component =
            components::find(self.path.parent().unwrap_or(Path::new(".")), &self.header.digest)?;
        ResolvedGuest::of(
            component,
            format!("the component of plan {}", self.header.run),
            &self.header.documents,
        )
    }

    /// Whether this component, under these documents and with this configuration, is what was approved.
    ///
    /// # Errors
    /// Names what is another.
    pub fn binds(&self, chosen: &ResolvedGuest, configuration: &Value) -> Result<(), Failed> {
        let mut others = vec![];
        if chosen.digest != self.header.digest {
            others.push(format!(
                "the component: sha256:{} in place of sha256:{}",
                chosen.digest,
                sanitized(&self.header.digest)
            ));
        }
        let spelt = |all: &[Document]| -> Vec<(String, String)> {
            all.iter().map(|one| (one.kind.clone(), one.digest.clone())).collect()
        };
        let (then, now) = (spelt(&self.header.documents), spelt(&chosen.documents));
        let gone = self
            .header
            .documents
            .iter()
            .filter(|one| !now.contains(&(one.kind.clone(), one.digest.clone())));
        others.extend(gone.map(|one| {
            format!(
                "the {}: {} is not as it was, or was not given",
                sanitized(&one.kind),
                sanitized(&one.source)
            )
        }));
        let new = chosen
            .documents
            .iter()
            .filter(|one| !then.contains(&(one.kind.clone(), one.digest.clone())));
        others.extend(new.map(|one| format!("the {}: {} is new", one.kind, one.source)));
        others.extend(self.keys(configuration));
        if others.is_empty() {
            return Ok(());
        }
        Err(Failed::denied(format!(
            "nothing was begun: it is not what plan {} was approved for\n{}",
            sanitized(&self.header.run),
            others.join("\n")
        )))
    }

    /// The keys of the configuration that are others.
    fn keys(&self, configuration: &Value) -> Vec<String> {
        let empty = serde_json::Map::new();
        let (then, now) = (
            self.header.configuration.as_object().unwrap_or(&empty),
            configuration.as_object().unwrap_or(&empty),
        );
        let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
        let differ = keys.into_iter().filter(|key| then.get(*key) != now.get(*key));
        let spelt = |value: Option<&Value>| {
            value.map_or_else(|| "nothing".into(), |value| sanitized(&value.to_string()))
        };
        differ
            .map(|key| {
                format!(
                    "the configuration: {} = {} in place of {}",
                    sanitized(key),
                    spelt(now.get(key)),
                    spelt(then.get(key))
                )
            })
            .collect()
    }

    /// What binds the run.
    pub fn approval(&self) -> Approval {
        Approval::of(&self.header.run, &self.digest, &self.entries)
    }

    /// Its entries, where what it has waited for need not be waited for again; else why it has to be.
    pub fn fresh(&self, now: Millis) -> Result<&[Entry], String> {
        if self.strange {
            return Err("the plan is not from this machine's own folder of runs: its evidence is looked at anew".into());
        }
        let age = now.checked_sub(self.header.at);
        match age {
            // mutant old-plan-evidence-accepted: FRESH ~> FRESH * 100
            Some(age) if age <= FRESH => Ok(&self.entries),
            Some(age) => Err(format!("the plan is {} old: its evidence is looked at anew", duration(age))),
            None => Err("the plan is from the future by the cluster's clock: its evidence is looked at anew".into()),
        }
    }
}
