//! What a run did: one entry a line, opened before a write and closed after it.
//!
//! The run file is made of these lines and nothing else: reports, replays, recovery and undo need no more.

use crate::Millis;
use crate::approval::Approval;
use crate::document::Limits;
use crate::effect::Effect;
use crate::effect::shared::FluxRef;
use crate::grants::{Denial, Grants};
use crate::outcome::{Fault, Outcome};
use crate::permission::enforcement::Enforcement;
use crate::report::{Conclusion, Description, Diagnosis, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The form of these entries. A reader refuses what it does not know.
pub const FORMAT: u32 = 3;

/// One line of the run file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// The first line: what runs, where, for whom, under which grants.
    Header(Box<Header>),
    /// A person approved this plan, and it binds the run.
    Approved(Box<Approval>),
    /// Another process has taken the run up. What follows is its.
    Recovery(Box<Recovery>),
    /// A write is about to be sent. On the disk before the first byte leaves.
    Opened(Box<Opened>),
    /// What became of it.
    Closed(Closed),
    /// A look, or a call that the run itself answers; and whatever was denied.
    Done(Box<Done>),
    /// What a plan would send, and did not.
    Planned(Box<Done>),
    /// The guest's part is over.
    GuestExited(Box<GuestExited>),
    /// The last line.
    Verdict(Box<RunResult>),
}

/// For readers that look for one kind of line.
impl Entry {
    /// The header.
    pub fn header(&self) -> Option<&Header> {
        if let Self::Header(header) = self { Some(header) } else { None }
    }
    /// What was approved.
    pub fn approval(&self) -> Option<&Approval> {
        if let Self::Approved(approval) = self { Some(approval) } else { None }
    }
    /// Who has taken the run up.
    pub fn recovery(&self) -> Option<&Recovery> {
        if let Self::Recovery(recovery) = self { Some(recovery) } else { None }
    }
    /// A write that was about to be sent.
    pub fn opened(&self) -> Option<&Opened> {
        if let Self::Opened(opened) = self { Some(opened) } else { None }
    }
    /// How the guest's part ended.
    pub fn ending(&self) -> Option<&GuestExit> {
        if let Self::GuestExited(ended) = self { Some(&ended.ending) } else { None }
    }
    /// The verdict.
    pub fn verdict(&self) -> Option<&RunResult> {
        if let Self::Verdict(closing) = self { Some(closing) } else { None }
    }
}

/// Who made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The guest, in its order.
    Guest,
    /// The host: releases, leases, its own census. Outside the order that a replay follows.
    Host,
}

/// What runs, where, for whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// The run's id.
    pub run: String,
    /// When it began, by the cluster's clock.
    pub at: Millis,
    /// `run`, `plan` or `check`.
    pub command: String,
    /// Salve's version.
    pub salve: String,
    /// What the guest says of itself.
    pub guest: Description,
    /// SHA-256 of the component.
    pub digest: String,
    /// The configuration that it gets, as JSON.
    pub configuration: Value,
    /// Where its grants come from.
    pub documents: Vec<Document>,
    /// What holds for it.
    pub grants: Grants,
    /// What it may use of this machine.
    pub limits: Limits,
    /// When it means to be through, by the cluster's clock. After that nothing of it is gone on with.
    pub deadline: Millis,
    /// The kubeconfig context, or `simulated`.
    pub context: String,
    /// uid of `kube-system`, where it may be read.
    pub cluster: Option<String>,
    /// As whom the API server knows us.
    pub user: Option<String>,
    /// The name of the machine that it runs on.
    pub machine: Option<String>,
    /// What holds the credential, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
}

/// A document that grants come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// `Remediation` or `Policy`.
    pub kind: String,
    /// Its path, or the name of a shipped guest.
    pub source: String,
    /// SHA-256 of its text.
    pub digest: String,
}

/// A run that is taken up after its process has died.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// When, by the cluster's clock.
    pub at: Millis,
    /// Salve's version.
    pub salve: String,
    /// As whom the API server knows us.
    pub user: Option<String>,
    /// The name of the machine that it runs on.
    pub machine: Option<String>,
    /// Only what is suspended is given back; the guest does not go on.
    pub release_only: bool,
    /// What holds today, above what held then, for what is performed anew.
    pub today: Grants,
}

/// A write that is about to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// Its number: the outcome's number too.
    pub n: u64,
    /// Who asked.
    pub origin: Origin,
    /// 1, and one more after each conflict.
    pub attempt: u32,
    /// When, by the cluster's clock.
    pub at: Millis,
    /// The write.
    pub effect: Effect,
    /// What it meets.
    pub observed: ObservedState,
}

/// The state that a write was prepared against: manifests without Secrets, managedFields and
/// annotations that steer no controller. What `undo` re-creates from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObservedState {
    /// One an object, in the order of the effect.
    pub objects: Vec<Value>,
    /// When it was read, by the cluster's clock. A write that carries a time carries this one, so that
    /// sending it again would write the same.
    pub at: Millis,
}

impl ObservedState {
    /// The manifest of a Flux object, if it was read.
    pub fn of(&self, target: &FluxRef) -> Option<&Value> {
        let is = |object: &&Value| {
            object["kind"] == target.kind.kind()
                && object["metadata"]["namespace"] == target.namespace.as_str()
                && object["metadata"]["name"] == target.name.as_str()
        };
        self.objects.iter().find(is)
    }

    /// Whether it is the same objects in the same state, but for what moves by itself: versions, status, annotations.
    pub fn same_as(&self, other: &Self) -> bool {
        let bound = |observed: &Self| -> Vec<(Value, Value)> {
            observed
                .objects
                .iter()
                .map(|o| (o["metadata"]["uid"].clone(), o["spec"].clone()))
                .collect()
        };
        bound(self) == bound(other)
    }
}

/// What became of a write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Closed {
    /// The number of the entry that it closes.
    pub n: u64,
    /// When, by the cluster's clock.
    pub at: Millis,
    /// What it came to; of an attempt that a conflict ended, what was applied of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What the cluster said to a conflict: another attempt follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
    /// The host found out at the end: who asked was gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
}

/// A call and its outcome in one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Its number.
    pub n: u64,
    /// Who asked.
    pub origin: Origin,
    /// When it was answered, by the cluster's clock.
    pub at: Millis,
    /// The call.
    pub effect: Effect,
    /// What it came to.
    pub outcome: Outcome,
    /// The grants denied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
    /// What the plan knows of the objects: manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedState>,
    /// It was answered from this entry of the approved plan, which is fresh enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_plan: Option<u64>,
}

/// How the guest's part ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GuestExited {
    /// When, by the cluster's clock.
    pub at: Millis,
    /// How.
    pub ending: GuestExit,
}

/// How a guest's export ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestExit {
    /// `diagnose` returned.
    Diagnosed(Diagnosis),
    /// `remediate` returned.
    Concluded(Conclusion),
    /// `undo` has made anew what it could. Not fixed: something was refused.
    Undone(Conclusion),
    /// The plan came to the first wait that nobody performed.
    PlanEnds(String),
    /// A person stopped it, in this step.
    Stopped(Option<String>),
    /// Its process died in this step, and it was not gone on with.
    Died(Option<String>),
    /// It ended with an error of its own, or something broke.
    Failed(Failure),
}

/// What stopped a run, and whose fault that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Who has to act.
    pub fault: Fault,
    /// What happened, in one sentence.
    pub text: String,
}

impl RunResult {
    /// Whether nothing is left that the run itself has to give back.
    pub fn is_whole(&self) -> bool {
        self.open.is_empty() && self.lease.is_none()
    }

    /// The exit code that `salve --help` documents: the highest that applies.
    pub fn exit_code(&self) -> u8 {
        self.fault
            .map_or(0, |fault| Verdict::Failed(fault).exit_code())
            .max(self.verdict.exit_code())
    }
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// When, by the cluster's clock.
    pub at: Millis,
    /// What holds in the end.
    pub verdict: Verdict,
    /// In one sentence.
    pub summary: String,
    /// Whose fault it was that the guest's part broke off, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Suspensions that could not be released.
    pub open: Vec<crate::effect::suspend_flux::Resume>,
    /// The cluster's Lease, if it could not be given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<crate::effect::host::Acquired>,
}
