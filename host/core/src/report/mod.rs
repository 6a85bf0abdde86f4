//! A run's report for programs and people: a fold over its journal entries and nothing else.

mod builder;

pub use builder::{ReportBuilder, refused_observation};

use crate::Millis;
use crate::capability::{Function, ObjectDetails};
use crate::document::API_VERSION;
use crate::journal::{Command, Origin};
use crate::outcome::Fault;
use crate::permission::enforcement::Layer;
use crate::proof::VerifiedProblem;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// What a guest says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    pub name: String,
    pub version: String,
    /// What it fixes, in one sentence.
    pub fixes: String,
    /// JSON Schema of its configuration.
    pub configuration: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The problem that the guest fixes is present.
    Incident,
    DifferentProblem,
    Healthy,
    /// Something could not be read, and the problem may be there.
    Inconclusive,
}

/// A sentence, and the lines that support it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// What `diagnose` returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    pub state: State,
    /// The result in one sentence.
    pub summary: String,
    pub evidence_for: Vec<Finding>,
    pub evidence_against: Vec<Finding>,
    /// Causes that were ruled out, and problems that belong to something else.
    pub ruled_out: Vec<Finding>,
}

/// The verdict of a guest. [`Verdict`] is the run's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concluded {
    Fixed,
    NothingToDo,
    DifferentProblem,
    NotFixed,
    Inconclusive,
}

/// A number before and after the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    pub name: String,
    pub before: Option<u64>,
    pub after: Option<u64>,
}

/// What `remediate` returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conclusion {
    pub verdict: Concluded,
    pub summary: String,
    pub figures: Vec<Figure>,
    pub evidence: Vec<Finding>,
    /// What remains for a person to do or to know.
    pub remaining: Vec<Finding>,
    pub prevention: Vec<Finding>,
}

/// The verdict of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Proven by the host's own reads after the last change.
    Fixed,
    /// The observed problems are gone, but the run wrote nothing.
    ResolvedElsewhere,
    NothingToDo,
    DifferentProblem,
    NotFixed,
    /// The guest says that it fixed the problem, but the host could not verify it.
    Unverified,
    /// The guest could not determine whether the problem is present.
    Inconclusive,
    Denied,
    /// A grant requires an approval that no one gave. Nothing that requires it was sent.
    NeedsApproval,
    /// The approved plan is not what the run would do now. Nothing more of it was sent.
    StalePlan,
    Failed(Fault),
    /// The run could not take back everything that it changed.
    ActionRequired,
    Planned,
    /// `undo` recreated what it could.
    Restored,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::ResolvedElsewhere => "resolved-elsewhere",
            Self::NothingToDo => "nothing-to-do",
            Self::DifferentProblem => "different-problem",
            Self::NotFixed => "not-fixed",
            Self::Unverified => "unverified",
            Self::Inconclusive => "inconclusive",
            Self::Denied => "denied",
            Self::NeedsApproval => "needs-approval",
            Self::StalePlan => "stale-plan",
            Self::Failed(_) => "failed",
            Self::ActionRequired => "action-required",
            Self::Planned => "planned",
            Self::Restored => "restored",
        }
    }

    /// Returns the exit code that `salve --help` documents.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Fixed
            | Self::ResolvedElsewhere
            | Self::NothingToDo
            | Self::Planned
            | Self::Restored => 0,
            Self::NotFixed => 1,
            Self::Denied | Self::Failed(Fault::Grant) => 3,
            Self::Failed(Fault::Cluster) => 4,
            // mutant left-open-exit-code: ActionRequired => 5 ~> ActionRequired => 1
            Self::ActionRequired => 5,
            Self::Failed(Fault::Guest | Fault::Host) => 6,
            Self::Inconclusive | Self::Unverified => 7,
            Self::NeedsApproval | Self::Failed(Fault::Approval) => 8,
            // mutant stale-plan-exit-code: StalePlan => 9 ~> StalePlan => 3
            Self::StalePlan => 9,
            Self::DifferentProblem => 10,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
#[expect(clippy::ref_option, reason = "serde wants a reference")]
fn serialize_verdict<S: Serializer>(
    verdict: &Option<Verdict>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    verdict.map(Verdict::as_str).serialize(serializer)
}

/// A run's report, as `salve report --as json` prints it.
///
/// The schema in `schemas/report.json` is generated from this type.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(description = "A run's report, as `salve report --as json` prints it.")]
pub struct Report {
    #[schemars(schema_with = "api_version_schema")]
    pub api_version: &'static str,
    #[schemars(schema_with = "kind_schema")]
    pub kind: &'static str,
    pub run: String,
    pub command: Command,
    /// The approved plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Missing in a check that has a diagnosis: see `diagnosis.state`.
    #[serde(serialize_with = "serialize_verdict", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "verdict_schema")]
    pub verdict: Option<Verdict>,
    pub summary: String,
    /// Who has to act after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    pub guest: Guest,
    pub cluster: Cluster,
    /// Milliseconds since the epoch, by the cluster's clock; as all times here.
    pub began: Millis,
    pub ended: Millis,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recoveries: Vec<RecoverySummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    pub evidence: Vec<Finding>,
    pub figures: Vec<Figure>,
    /// What the host's own reads after the last change showed of the problems that the run
    /// observed. Empty unless the guest claims to have fixed them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<VerifiedProblem>,
    pub steps: Vec<Step>,
    /// All writes and reversals, in order.
    pub effects: Vec<EffectSummary>,
    pub remaining: Vec<Finding>,
    pub prevention: Vec<Finding>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Guest {
    pub name: String,
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Cluster {
    pub context: String,
    /// UID of the namespace `kube-system`.
    pub uid: Option<String>,
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enforcement: Vec<EnforcementLayer>,
}

/// A recovery of the run after its process died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoverySummary {
    pub at: Millis,
    /// Salve's version.
    pub salve: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// It only released what the run had changed temporarily.
    pub release_only: bool,
}

/// What limits a run: the host, the Role of its credential, or the admission policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EnforcementLayer {
    pub name: Layer,
    pub enforced: bool,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Step {
    pub name: String,
    pub title: String,
    pub began: Millis,
    pub ended: Millis,
    pub notes: Vec<String>,
}

/// A write or a reversal.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EffectSummary {
    /// Its number in the journal.
    pub n: u64,
    pub origin: Origin,
    /// `interface.function`.
    #[serde(serialize_with = "function_name")]
    #[schemars(with = "String")]
    pub effect: Function,
    pub step: Option<String>,
    pub targets: Vec<String>,
    /// What a person would type instead.
    pub commands: Vec<String>,
    pub outcome: EffectOutcome,
    /// Of a line of a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certainty: Option<Certainty>,
    /// Of a line of a plan, one entry per target.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<ObjectDetails>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn function_name<S: Serializer>(function: &Function, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(function.name())
}

fn api_version_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": [API_VERSION]})
}

fn kind_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["Report"]})
}

fn verdict_schema(_: &mut SchemaGenerator) -> Schema {
    let verdicts = [
        Verdict::Fixed,
        Verdict::ResolvedElsewhere,
        Verdict::NothingToDo,
        Verdict::DifferentProblem,
        Verdict::NotFixed,
        Verdict::Unverified,
        Verdict::Inconclusive,
        Verdict::Denied,
        Verdict::NeedsApproval,
        Verdict::StalePlan,
        Verdict::Failed(Fault::Guest),
        Verdict::ActionRequired,
        Verdict::Planned,
        Verdict::Restored,
    ];
    json_schema!({
        "type": "string",
        "enum": verdicts.map(Verdict::as_str),
    })
}

/// How certain a line of a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// It would be sent like this.
    Exact,
    /// It follows from what happens before it.
    Predicted,
}

/// The outcome of a write or a reversal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "status", content = "message", rename_all = "kebab-case")]
pub enum EffectOutcome {
    Ok,
    Planned,
    /// It may have been applied.
    InDoubt,
    Partial(String),
    Failed(String),
    /// A reversal that was not needed: someone else changed the object, which was left as it is.
    TakenOver(String),
}
