//! A run's journal: one entry per line, opened before a write and closed after it.
//!
//! The run file consists of these lines and nothing else: reports, replays, recovery, and undo need
//! no more.

use crate::Millis;
use crate::approval::Approval;
use crate::capability::types::FluxRef;
use crate::capability::{Answer, Effect, Pending, Reversal};
use crate::document::Limits;
use crate::grants::{Denial, Grants};
use crate::outcome::{Fault, Outcome};
use crate::permission::enforcement::Enforcement;
use crate::problem::Problem;
use crate::proof::VerifiedProblem;
use crate::report::{Conclusion, Description, Diagnosis, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// The version of this form. Readers reject others.
pub const FORMAT: u32 = 4;

/// A line of the run file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// The first line: what runs, where, for whom, and under which grants.
    Header(Box<Header>),
    /// A person approved this plan. It binds the run.
    Approved(Box<Approval>),
    /// Another process continues the run. What follows is its own.
    Recovery(Box<Recovery>),
    /// A write or a reversal is about to be sent.
    Opened(Box<Opened>),
    /// Its outcome.
    Closed(Closed),
    /// A read, a local call, or a denied call.
    Done(Box<Done>),
    /// A write that a plan did not send.
    Planned(Box<Done>),
    GuestExited(Box<GuestExited>),
    /// The last line.
    Verdict(Box<RunResult>),
}

/// An entry with its answer, parsed once for all observers.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    pub entry: &'a Entry,
    /// None if the entry has no answer, or an error.
    pub answer: Option<&'a Answer>,
}

/// Parses the answers of a journal. An answer that closes a write is parsed by the write's
/// function.
#[derive(Debug, Default)]
pub struct AnswerReader {
    opened: HashMap<u64, Effect>,
}

impl AnswerReader {
    /// Returns the answer of the next entry, if it has one that can be read.
    pub fn read(&mut self, entry: &Entry) -> Option<Answer> {
        let (effect, outcome) = match entry {
            Entry::Opened(opened) => {
                self.opened.entry(opened.n).or_insert_with(|| opened.effect.clone());
                return None;
            }
            Entry::Closed(closed) => (self.opened.get(&closed.n)?, closed.outcome.as_ref()?),
            Entry::Done(done) | Entry::Planned(done) => (&done.effect, &done.outcome),
            Entry::Header(_)
            | Entry::Approved(_)
            | Entry::Recovery(_)
            | Entry::GuestExited(_)
            | Entry::Verdict(_) => return None,
        };
        effect.decode(outcome.ok()?).ok()
    }
}

impl Entry {
    pub fn header(&self) -> Option<&Header> {
        if let Self::Header(header) = self { Some(header) } else { None }
    }
    pub fn approval(&self) -> Option<&Approval> {
        if let Self::Approved(approval) = self { Some(approval) } else { None }
    }
    pub fn recovery(&self) -> Option<&Recovery> {
        if let Self::Recovery(recovery) = self { Some(recovery) } else { None }
    }
    pub fn opened(&self) -> Option<&Opened> {
        if let Self::Opened(opened) = self { Some(opened) } else { None }
    }
    pub fn guest_exit(&self) -> Option<&GuestExit> {
        if let Self::GuestExited(ended) = self { Some(&ended.exit) } else { None }
    }
    pub fn verdict(&self) -> Option<&RunResult> {
        if let Self::Verdict(closing) = self { Some(closing) } else { None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Called by the guest. A replay follows the order of these calls.
    Guest,
    /// Made by the host: reversals, the cluster lock, and its own reads.
    Host,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    pub run: String,
    /// When it began, by the cluster's clock; as all times here.
    pub at: Millis,
    pub command: Command,
    pub salve: String,
    pub guest: Description,
    /// SHA-256 of the component.
    pub digest: String,
    /// The configuration of the guest.
    pub configuration: Value,
    pub documents: Vec<Document>,
    pub grants: Grants,
    pub limits: Limits,
    /// What counts as fixed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// A recovery after it only releases.
    pub deadline: Millis,
    /// The kubeconfig context, or `simulated`.
    pub context: String,
    /// UID of the namespace `kube-system`, if it may be read.
    pub cluster: Option<String>,
    /// As the API server knows it.
    pub user: Option<String>,
    /// Hostname.
    pub machine: Option<String>,
    /// What limits the credential, if it was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
}

/// A document that grants come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub kind: DocumentKind,
    /// A path, or the name of a shipped guest.
    pub source: String,
    /// SHA-256 of the text.
    pub digest: String,
}

/// A run continues after its process died.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    pub at: Millis,
    pub salve: String,
    /// As the API server knows it.
    pub user: Option<String>,
    /// Hostname.
    pub machine: Option<String>,
    /// Only reversals are performed; the guest does not continue.
    pub release_only: bool,
    /// What is granted now. Calls that are not recorded must pass these as well.
    pub current: Grants,
}

/// A write that is about to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// Its number, which its outcome has as well.
    pub n: u64,
    pub origin: Origin,
    /// From 1, one more after each conflict.
    pub attempt: u32,
    pub at: Millis,
    /// A write or a reversal.
    pub effect: Effect,
    pub observed: ObservedState,
}

/// The state that a write was prepared against: manifests without Secrets, managedFields, and
/// annotations that no controller reads. `undo` recreates objects from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObservedState {
    /// In the order of the effect's targets.
    pub objects: Vec<Value>,
    /// When it was read. A write that carries a time carries this one, so that sending it again
    /// writes the same.
    pub at: Millis,
}

impl ObservedState {
    /// Returns the manifest of a Flux object, if it was read.
    pub fn flux_object(&self, target: &FluxRef) -> Option<&Value> {
        self.objects.iter().find(|object| {
            object["kind"] == target.kind.kind()
                && object["metadata"]["namespace"] == target.namespace.as_str()
                && object["metadata"]["name"] == target.name.as_str()
        })
    }

    /// Returns whether it has the same objects with the same specs. Versions, status, and
    /// annotations change by themselves.
    pub fn same_as(&self, other: &Self) -> bool {
        let bound = |observed: &Self| -> Vec<(Value, Value)> {
            let pair = |object: &Value| (object["metadata"]["uid"].clone(), object["spec"].clone());
            observed.objects.iter().map(pair).collect()
        };
        bound(self) == bound(other)
    }
}

/// The outcome of a write or a reversal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Closed {
    pub n: u64,
    pub at: Millis,
    /// After a conflict: the answer for what was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why the attempt was not applied, or not completely. Another attempt follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
    /// The attempt may still be applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
    /// The host determined it at the end of the run, when the guest was gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resolved: bool,
}

/// A call and its outcome in one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    pub n: u64,
    pub origin: Origin,
    pub at: Millis,
    pub effect: Effect,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
    /// What a planned write was prepared against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedState>,
    /// It has the answer of this entry of the approved plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_plan: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GuestExited {
    pub at: Millis,
    pub exit: GuestExit,
}

/// How the guest ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestExit {
    Diagnosed(Diagnosis),
    Concluded(Conclusion),
    /// `undo` recreated what it could. `NotFixed`: something was rejected.
    Restored(Conclusion),
    /// The plan reached a wait for something that only a write could bring.
    PlanEnds(String),
    /// The approved plan is not what it would do now.
    Stale(String),
    /// The user stopped it, in this step.
    Stopped(Option<String>),
    /// Its process died in this step and was not continued.
    Died(Option<String>),
    /// It returned an error, or something broke.
    Failed(Failure),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub fault: Fault,
    pub text: String,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub at: Millis,
    pub verdict: Verdict,
    pub summary: String,
    /// Who has to act after the guest failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Reversals that could not be performed, newest first.
    pub open: Vec<Pending<Reversal>>,
    /// What the host verified, if the guest claims to have fixed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<VerifiedProblem>,
}

impl RunResult {
    /// Returns the exit code that `salve --help` documents.
    pub fn exit_code(&self) -> u8 {
        match (self.verdict, self.fault) {
            (Verdict::ActionRequired, _) | (_, None) => self.verdict.exit_code(),
            (_, Some(fault)) => Verdict::Failed(fault).exit_code(),
        }
    }
}

/// The command that started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    Check,
    Plan,
    Run,
    Undo,
}

impl Command {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Plan => "plan",
            Self::Run => "run",
            Self::Undo => "undo",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DocumentKind {
    Remediation,
    RemediationPolicy,
}

impl DocumentKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remediation => "Remediation",
            Self::RemediationPolicy => "RemediationPolicy",
        }
    }
}
