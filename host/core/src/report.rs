//! What a run comes to, told for programs and people: a fold over its entries and nothing else.

mod object_details;
mod outcome;

pub use object_details::About;

use crate::Millis;
use crate::effect::delete_replicationsources::DeletionOutcome;
use crate::effect::host::{LEASE, ReleaseLease};
use crate::effect::suspend_flux::{Resume, SuspendOutcome};
use crate::effect::{Answer, Effect, Local, Target, Write};
use crate::equivalent;
use crate::journal::{Done, Entry, GuestExit, Header, Opened, Origin, RunResult};
use crate::outcome::{Fault, Outcome};
use object_details::Seen;
use outcome::word;
use serde::{Deserialize, Serialize};

/// What a guest says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it fixes.
    pub fixes: String,
    /// JSON Schema of its configuration.
    pub configuration: String,
}

/// What a diagnosis comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is this incident.
    Incident,
    /// Something else is wrong.
    DifferentProblem,
    /// Nothing is wrong.
    Healthy,
}

/// A sentence, and the lines behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The sentence.
    pub text: String,
    /// Its lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// What `diagnose` returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The answer.
    pub state: State,
    /// In one sentence.
    pub summary: String,
    /// What speaks for it.
    pub evidence_for: Vec<Finding>,
    /// What speaks against it.
    pub evidence_against: Vec<Finding>,
    /// What it is instead.
    pub ruled_out: Vec<Finding>,
}

/// What a guest concluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concluded {
    /// The post-condition held.
    Fixed,
    /// There was nothing to do.
    NothingToDo,
    /// It is something else.
    DifferentProblem,
    /// It is not mended.
    NotFixed,
}

/// A figure before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// What is counted.
    pub name: String,
    /// Before.
    pub before: Option<u64>,
    /// After.
    pub after: Option<u64>,
}

/// What `remediate` returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conclusion {
    /// What the guest says.
    pub verdict: Concluded,
    /// In one sentence.
    pub summary: String,
    /// Before and after.
    pub figures: Vec<Figure>,
    /// What led here.
    pub evidence: Vec<Finding>,
    /// What is not as a person might expect it.
    pub left: Vec<Finding>,
    /// How to keep it from coming back.
    pub prevention: Vec<Finding>,
    /// Numbers of recorded outcomes that prove `fixed`.
    pub proof: Vec<u64>,
}

/// What holds in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The post-condition held, by the host's own record.
    Fixed,
    /// There was nothing to do.
    NothingToDo,
    /// It is something else.
    DifferentProblem,
    /// It is not mended; of a diagnosis: the incident is here.
    NotFixed,
    /// The grants forbade it.
    Denied,
    /// The cluster, the guest or the host failed.
    Failed(Fault),
    /// Something is left that needs a person.
    ActionRequired,
    /// A plan came to its end.
    Planned,
    /// What a run had deleted was made anew.
    Undone,
}

impl Verdict {
    /// As documents spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::NothingToDo => "nothing-to-do",
            Self::DifferentProblem => "not-this-incident",
            Self::NotFixed => "not-fixed",
            Self::Denied => "denied",
            Self::Failed(_) => "failed",
            Self::ActionRequired => "left-open",
            Self::Planned => "planned",
            Self::Undone => "undone",
        }
    }

    /// The exit code that `salve --help` documents.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Fixed | Self::NothingToDo | Self::Planned | Self::Undone => 0,
            Self::NotFixed | Self::DifferentProblem => 1,
            Self::Denied | Self::Failed(Fault::Grant) => 3,
            Self::Failed(Fault::Cluster) => 4,
            // mutant left-open-exit-code: ActionRequired => 5 ~> ActionRequired => 1
            Self::ActionRequired => 5,
            Self::Failed(Fault::Guest | Fault::Host) => 6,
        }
    }
}

/// The document that `--output json` prints. Its schema is published in `schemas/report.json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `salve.dev/v1alpha1`
    pub api_version: &'static str,
    /// `Report`
    pub kind: &'static str,
    /// The run's id.
    pub run: String,
    /// `run`, `plan`, `check` or `undo`.
    pub command: String,
    /// The plan that a person had approved, if the run was bound by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// What holds.
    pub verdict: &'static str,
    /// In one sentence.
    pub summary: String,
    /// Whose fault a failure is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// What ran.
    pub guest: Guest,
    /// Where.
    pub cluster: Cluster,
    /// When it began, milliseconds since the epoch by the cluster's clock.
    pub began: Millis,
    /// When it ended.
    pub ended: Millis,
    /// Each time that it was taken up after its process had died.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recoveries: Vec<RecoverySummary>,
    /// What `diagnose` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// What the verdict rests on.
    pub evidence: Vec<Finding>,
    /// Before and after.
    pub figures: Vec<Figure>,
    /// What happened, step by step.
    pub steps: Vec<Step>,
    /// Every touch, in order.
    pub effects: Vec<EffectSummary>,
    /// What is not as it was, or as one might expect.
    pub left: Vec<Finding>,
    /// How to keep it from coming back.
    pub prevention: Vec<Finding>,
    /// Deletions whose outcome is still to come.
    #[serde(skip)]
    deleting: Vec<(u64, Effect)>,
    /// What a plan has read of what it would change.
    #[serde(skip)]
    seen: Seen,
    /// What a plan would suspend, to give it back.
    #[serde(skip)]
    suspending: Vec<(u64, Resume)>,
    /// What was deleted.
    #[serde(skip)]
    deleted: Vec<String>,
    /// What the host itself gave back.
    #[serde(skip)]
    given_back: Vec<String>,
    /// What the guest says that is left: of several verdicts the last says the rest.
    #[serde(skip)]
    guests_left: Vec<Finding>,
}

/// What ran.
#[derive(Clone, Debug, Serialize)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
}

/// Where it ran.
#[derive(Clone, Debug, Serialize)]
pub struct Cluster {
    /// The context's name.
    pub context: String,
    /// uid of `kube-system`.
    pub uid: Option<String>,
    /// As whom.
    pub user: Option<String>,
    /// What holds that credential, where it was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enforcement: Vec<EnforcementLayer>,
}

/// A run's process had died, and another one took the run up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoverySummary {
    /// When, by the cluster's clock.
    pub at: Millis,
    /// Salve's version.
    pub salve: String,
    /// As whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// On which machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Only to give back what was suspended.
    pub release_only: bool,
}

/// One of the three rings of permission: the host around the guest, the Role and the admission policies around the credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnforcementLayer {
    /// `host`, `role` or `admission`.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why, or why not.
    pub why: String,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// One word.
    pub name: String,
    /// What happened in it.
    pub title: String,
    /// When it began.
    pub began: Millis,
    /// When it ended.
    pub ended: Millis,
    /// What was said in it.
    pub notes: Vec<String>,
}

/// One touch.
#[derive(Clone, Debug, Serialize)]
pub struct EffectSummary {
    /// Its number in the run file.
    pub n: u64,
    /// Who asked.
    pub origin: Origin,
    /// `interface.function`
    pub effect: &'static str,
    /// The step it belongs to.
    pub step: Option<String>,
    /// What it concerned.
    pub targets: Vec<String>,
    /// What a person could type instead.
    pub commands: Vec<String>,
    /// What it came to: `ok`, `planned`, `in doubt`, or the error.
    pub outcome: String,
    /// How far a plan can be sure of it: `exact` is what would be sent against what was read, `predicted` what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certainty: Option<&'static str>,
    /// In a plan: what is known of each target.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<About>,
    #[serde(skip)]
    call: Effect,
}

impl Report {
    /// Tells a run. None if the entries do not begin with a header.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Option<Self> {
        let mut entries = entries.into_iter();
        let Entry::Header(header) = entries.next()? else { return None };
        let mut report = Self::begin(header);
        for entry in entries {
            report.apply(entry);
        }
        Some(report)
    }

    /// The report of a run that has just begun.
    pub fn begin(header: &Header) -> Self {
        Self {
            api_version: "salve.dev/v1alpha1",
            kind: "Report",
            run: header.run.clone(),
            command: header.command.clone(),
            plan: None,
            verdict: Verdict::Failed(Fault::Host).word(),
            summary: "the run has no end: its process died, or it still runs".into(),
            fault: None,
            guest: Guest {
                name: header.guest.name.clone(),
                version: header.guest.version.clone(),
                digest: header.digest.clone(),
            },
            cluster: Cluster {
                context: header.context.clone(),
                uid: header.cluster.clone(),
                user: header.user.clone(),
                enforcement: header
                    .enforcement
                    .iter()
                    .flat_map(|enforcement| enforcement.told())
                    .map(|(name, holds, why)| EnforcementLayer { name, holds, why })
                    .collect(),
            },
            began: header.at,
            ended: header.at,
            recoveries: vec![],
            diagnosis: None,
            evidence: vec![],
            figures: vec![],
            steps: vec![],
            effects: vec![],
            left: vec![],
            prevention: vec![],
            deleting: vec![],
            seen: Seen::default(),
            suspending: vec![],
            deleted: vec![],
            given_back: vec![],
            guests_left: vec![],
        }
    }

    /// Takes in the next entry.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Header(_) => {}
            Entry::Approved(approval) => self.plan = Some(approval.plan.clone()),
            Entry::Recovery(recovery) => {
                self.tick(recovery.at);
                let (salve, user, machine) =
                    (recovery.salve.clone(), recovery.user.clone(), recovery.machine.clone());
                self.recoveries.push(RecoverySummary {
                    at: recovery.at,
                    salve,
                    user,
                    machine,
                    release_only: recovery.release_only,
                });
            }
            Entry::Opened(opened) => self.opened(opened),
            Entry::Closed(closed) => {
                self.tick(closed.at);
                if let Some(outcome) = &closed.outcome {
                    self.settle(closed.n, outcome);
                }
                // After a conflict another attempt follows: what it comes to is not known yet.
                if let (None, Some(told), Some(outcome)) = (
                    &closed.conflict,
                    self.effects.iter_mut().rev().find(|t| t.n == closed.n),
                    &closed.outcome,
                ) {
                    told.outcome = word(&told.call, outcome);
                }
            }
            Entry::Done(done) => self.done(done),
            Entry::Planned(done) => self.planned(done),
            Entry::GuestExited(ended) => {
                self.tick(ended.at);
                match &ended.ending {
                    GuestExit::Diagnosed(diagnosis) => self.diagnosis = Some(diagnosis.clone()),
                    GuestExit::Concluded(conclusion) | GuestExit::Undone(conclusion) => {
                        self.evidence.clone_from(&conclusion.evidence);
                        self.figures.clone_from(&conclusion.figures);
                        self.left.clone_from(&conclusion.left);
                        self.guests_left.clone_from(&conclusion.left);
                        self.prevention.clone_from(&conclusion.prevention);
                    }
                    GuestExit::PlanEnds(_) => self.predict(),
                    GuestExit::Stopped(_) | GuestExit::Died(_) => {}
                    GuestExit::Failed(failure) => self.fault = Some(failure.fault),
                }
            }
            Entry::Verdict(closing) => self.close(closing),
        }
    }

    fn opened(&mut self, opened: &Opened) {
        self.tick(opened.at);
        let Effect::Write(write) = &opened.effect else { return };
        match write {
            Write::Delete(_) => self.deleting.push((opened.n, opened.effect.clone())),
            Write::Resume(resume) if opened.origin == Origin::Host => {
                self.given_back.push(resume.target.to_string())
            }
            Write::AcquireLease(_)
            | Write::ReleaseLease(_)
            | Write::Resume(_)
            | Write::Suspend(_)
            | Write::Reconcile(_)
            | Write::Recreate(_)
            | Write::Restart(_) => {}
        }
        // A further attempt of the same entry is the same touch.
        if !self.effects.iter().any(|t| t.n == opened.n) {
            let told = self.tell(opened.n, opened.origin, &opened.effect, write, "in doubt".into());
            self.effects.push(told);
        }
    }

    fn done(&mut self, done: &Done) {
        self.tick(done.at);
        match &done.effect {
            Effect::Local(Local::Step(step)) => {
                self.steps.push(Step {
                    name: step.name.clone(),
                    title: step.title.clone(),
                    began: done.at,
                    ended: done.at,
                    notes: vec![],
                });
            }
            Effect::Local(Local::Note(note)) => {
                if let Some(step) = self.steps.last_mut() {
                    step.notes.push(note.text.clone());
                }
            }
            Effect::Read(look) if self.command == "plan" && Seen::wants(look) => {
                if let Some(answer) = done.outcome.ok().and_then(|raw| done.effect.decode(raw).ok())
                {
                    self.seen.learn(answer);
                }
            }
            Effect::Local(Local::Now(_) | Local::Sleep(_) | Local::AskUser(_))
            | Effect::Read(_) => {}
            Effect::Write(write) => {
                let told = self.tell(
                    done.n,
                    done.origin,
                    &done.effect,
                    write,
                    word(&done.effect, &done.outcome),
                );
                self.effects.push(told);
            }
        }
    }

    fn planned(&mut self, done: &Done) {
        self.tick(done.at);
        let Effect::Write(write) = &done.effect else { return };
        let mut told = self.tell(done.n, done.origin, &done.effect, write, "planned".into());
        let step = self.steps.last().map(|step| step.title.as_str()).unwrap_or_default();
        told.certainty = Some("exact");
        told.about = self.seen.about(write, step, done.observed.as_ref());
        self.effects.push(told);
        match done.outcome.ok().and_then(|raw| done.effect.decode(raw).ok()) {
            Some(Answer::Suspend(holds)) => {
                self.suspending.extend(holds.iter().filter_map(|hold| match &hold.outcome {
                    SuspendOutcome::Suspended(held) => Some((
                        done.n,
                        Resume {
                            target: hold.target.clone(),
                            uid: held.uid.clone(),
                            previous: held.previous,
                        },
                    )),
                    SuspendOutcome::AlreadySuspended(_)
                    | SuspendOutcome::Failed { .. }
                    | SuspendOutcome::NotTried => None,
                }));
            }
            _ => {
                if let Write::Resume(resume) = write {
                    self.suspending.retain(|(_, one)| one.target != resume.target);
                }
            }
        }
    }

    /// What follows after a plan's end, whatever the guest does: its suspensions are given back.
    fn predict(&mut self) {
        for (n, resume) in std::mem::take(&mut self.suspending) {
            let write = Write::Resume(resume);
            let effect = Effect::Write(write.clone());
            let mut told = self.tell(n, Origin::Host, &effect, &write, "planned".into());
            told.step = None;
            told.certainty = Some("predicted");
            self.effects.push(told);
        }
    }

    /// Notes what a deletion came to, for what may come back.
    fn settle(&mut self, n: u64, outcome: &Outcome) {
        let Some((_, effect)) = self.deleting.iter().find(|(m, _)| *m == n) else { return };
        if let Some(Answer::Delete(deletions)) =
            outcome.ok().and_then(|raw| effect.decode(raw).ok())
        {
            self.deleted.extend(
                deletions
                    .iter()
                    .filter(|d| d.outcome == DeletionOutcome::Deleted)
                    .map(|d| d.object.to_string()),
            );
        }
    }

    fn close(&mut self, closing: &RunResult) {
        self.tick(closing.at);
        self.left.clone_from(&self.guests_left);
        if !self.deleted.is_empty() && !self.given_back.is_empty() {
            self.left.push(Finding {
                text: format!("what may come back: Flux re-creates deleted sources that Git declares when it next reconciles {}", self.given_back.join(", ")),
                details: self.deleted.clone(),
            });
        }
        if let Some(lease) = &closing.lease {
            let release = Write::ReleaseLease(ReleaseLease {
                namespace: lease.namespace.clone(),
                uid: lease.uid.clone(),
            });
            let (mut text, mut details) = (
                "this run still holds the cluster: no other run changes anything there".to_owned(),
                equivalent::commands(&release),
            );
            if lease.uid.is_empty() {
                text = format!(
                    "this run may still hold the cluster, for no answer came: it does where the first command prints {}",
                    self.run
                );
                details.insert(
                    0,
                    format!(
                        "kubectl get lease {LEASE} -n {} -o jsonpath={{.spec.holderIdentity}}",
                        lease.namespace
                    ),
                );
            }
            self.left.insert(0, Finding { text, details });
        }
        self.verdict = closing.verdict.word();
        self.summary.clone_from(&closing.summary);
        for open in &closing.open {
            self.left.insert(
                0,
                Finding {
                    text: format!("{} is still suspended by this run", open.target),
                    details: equivalent::commands(&Write::Resume(open.clone()))
                        .into_iter()
                        .chain([equivalent::unmark(&open.target)])
                        .collect(),
                },
            );
        }
    }

    fn tell(
        &self,
        n: u64,
        origin: Origin,
        effect: &Effect,
        write: &Write,
        outcome: String,
    ) -> EffectSummary {
        EffectSummary {
            n,
            origin,
            effect: effect.name(),
            step: self.steps.last().map(|s| s.name.clone()),
            targets: write.targets().iter().map(Target::to_string).collect(),
            commands: equivalent::commands(write),
            outcome,
            certainty: None,
            about: vec![],
            call: effect.clone(),
        }
    }

    fn tick(&mut self, at: Millis) {
        self.ended = self.ended.max(at);
        if let Some(step) = self.steps.last_mut() {
            step.ended = self.ended;
        }
    }
}
