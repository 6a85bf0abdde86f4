//! A plan that a user approves, by naming its file or by confirming what is displayed. It is
//! compared with what would run.

use crate::components;
use crate::guest::ResolvedGuest;
use crate::output::{CommandError, duration};
use crate::runs;
use salve_core::Millis;
use salve_core::approval::Approval;
use salve_core::digest;
use salve_core::journal::{Command, Document, DocumentKind, Entry, Header};
use salve_core::report::Verdict;
use salve_core::sanitize::sanitized;
use salve_run::RunFile;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Maximum age in milliseconds of a plan whose evidence is reused.
const MAX_EVIDENCE_AGE: Millis = 15 * 60 * 1000;

/// A plan that a user approves.
pub struct Plan {
    /// Where it was read. None if it was made by this process and is only in memory.
    path: Option<PathBuf>,
    header: Header,
    entries: Vec<Entry>,
    /// The SHA-256 digest of the file, or of the entries in memory.
    digest: String,
    /// Whether others may have written the file. Such a plan binds the run, but its contents are
    /// not trusted.
    foreign: bool,
}

impl Plan {
    /// Opens a plan by its path or the beginning of its ID.
    pub fn open(folder: &Path, plan: &str) -> Result<Self, CommandError> {
        let path = runs::resolve(folder, plan)?;
        let bytes = std::fs::read(&path)
            .map_err(|e| CommandError::document(format!("{}: {e}", path.display())))?;
        let entries = RunFile::read(&path).map_err(|e| CommandError::document(e.to_string()))?;
        let header = runs::header(&entries, &path)?.clone();
        if header.command != Command::Plan {
            return Err(CommandError::usage(format!(
                "{} is not a plan: it was written by `salve {}`",
                path.display(),
                header.command.as_str()
            )));
        }
        match entries.last().and_then(Entry::verdict).map(|result| result.verdict) {
            Some(Verdict::Planned) => {}
            Some(other) => {
                return Err(CommandError::usage(format!(
                    "plan {} ended with {}: there is nothing to run",
                    sanitized(&header.run),
                    other.as_str()
                )));
            }
            None => {
                return Err(CommandError::document(format!(
                    "{}: the plan is incomplete. Create a new one with `salve plan`",
                    path.display()
                )));
            }
        }
        // mutant foreign-plan-trusted: (&path, folder) ~> (&path, folder) && entries.is_empty()
        let foreign = runs::is_foreign(&path, folder);
        let digest = digest::of_bytes(&bytes);
        Ok(Self { path: Some(path), header, entries, digest, foreign })
    }

    /// Returns the plan that this process has just made and displayed, by its entries.
    ///
    /// # Errors
    /// The entries have no header.
    pub fn displayed(entries: Vec<Entry>) -> Result<Self, CommandError> {
        let header = entries
            .first()
            .and_then(Entry::header)
            .cloned()
            .ok_or_else(|| CommandError::host("internal error: the plan has no header"))?;
        let bytes = serde_json::to_vec(&entries)
            .map_err(|e| CommandError::host(format!("failed to serialize the plan: {e}")))?;
        Ok(Self { path: None, header, digest: digest::of_bytes(&bytes), entries, foreign: false })
    }

    /// Returns the header of the plan's run.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the component and the documents that the plan was made with.
    ///
    /// # Errors
    /// The file is not trusted: the user has to say which guest and which grants apply.
    pub fn resolve_guest(&self) -> Result<ResolvedGuest, CommandError> {
        let Some(path) = &self.path else {
            return Err(CommandError::usage(format!(
                "plan {} was not saved: name its guest",
                self.header.run
            )));
        };
        if self.foreign {
            return Err(CommandError::usage(format!(
                "{} is not from this machine's own folder of runs: \
                 name its guest, and pass its --policy if it has one",
                path.display()
            )));
        }
        let component =
            components::load(path.parent().unwrap_or(Path::new(".")), &self.header.digest)?;
        ResolvedGuest::with_current_documents(
            component,
            format!("the component of plan {}", self.header.run),
            &self.header.documents,
        )
    }

    /// Checks that a component, its documents, and its configuration are those that were approved.
    ///
    /// # Errors
    /// Names everything that differs.
    pub fn check_matches(
        &self,
        guest: &ResolvedGuest,
        configuration: &Value,
    ) -> Result<(), CommandError> {
        let mut differences = vec![];
        if guest.digest != self.header.digest {
            differences.push(format!(
                "component: sha256:{} instead of sha256:{}",
                guest.digest,
                sanitized(&self.header.digest)
            ));
        }
        let key = |document: &Document| (document.kind, document.digest.clone());
        let keys = |documents: &[Document]| -> Vec<(DocumentKind, String)> {
            documents.iter().map(key).collect()
        };
        let (approved, current) = (keys(&self.header.documents), keys(&guest.documents));
        let missing =
            self.header.documents.iter().filter(|document| !current.contains(&key(document)));
        differences.extend(missing.map(|document| {
            format!(
                "{}: {} was changed or not passed",
                document.kind.as_str(),
                sanitized(&document.source)
            )
        }));
        let new = guest.documents.iter().filter(|document| !approved.contains(&key(document)));
        differences.extend(
            new.map(|document| format!("{}: {} is new", document.kind.as_str(), document.source)),
        );
        differences.extend(self.configuration_differences(configuration));
        if differences.is_empty() {
            return Ok(());
        }
        Err(CommandError::stale_plan(format!(
            "plan {} was approved for something else; nothing was changed\n{}",
            sanitized(&self.header.run),
            differences.join("\n")
        )))
    }

    fn configuration_differences(&self, configuration: &Value) -> Vec<String> {
        let empty = serde_json::Map::new();
        let (approved, current) = (
            self.header.configuration.as_object().unwrap_or(&empty),
            configuration.as_object().unwrap_or(&empty),
        );
        let keys: std::collections::BTreeSet<&String> =
            approved.keys().chain(current.keys()).collect();
        let differ = keys.into_iter().filter(|key| approved.get(*key) != current.get(*key));
        let display = |value: Option<&Value>| {
            value.map_or_else(|| "nothing".into(), |value| sanitized(&value.to_string()))
        };
        differ
            .map(|key| {
                format!(
                    "configuration: {} = {} instead of {}",
                    sanitized(key),
                    display(current.get(key)),
                    display(approved.get(key))
                )
            })
            .collect()
    }

    /// Returns the approval that binds a run to this plan.
    pub fn approval(&self) -> Approval {
        let displayed = self.path.is_none();
        Approval { displayed, ..Approval::of(&self.header.run, &self.digest, &self.entries) }
    }

    /// Returns the plan's entries, from which the run may take evidence instead of collecting it
    /// again, or the reason why it may not.
    pub fn reusable_entries(&self, now: Millis) -> Result<&[Entry], String> {
        const AGAIN: &str = "evidence will be re-collected before anything is changed";
        if self.foreign {
            return Err(format!("the plan is not from this machine's own folder of runs: {AGAIN}"));
        }
        let age = now.checked_sub(self.header.at);
        match age {
            // mutant old-plan-evidence-accepted: MAX_EVIDENCE_AGE ~> MAX_EVIDENCE_AGE * 100
            Some(age) if age <= MAX_EVIDENCE_AGE => Ok(&self.entries),
            Some(age) => Err(format!("the plan is {} old: {AGAIN}", duration(age))),
            None => Err(format!("the plan is dated in the future by the cluster's clock: {AGAIN}")),
        }
    }
}
