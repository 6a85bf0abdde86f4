//! Builds a report from journal entries.

use super::{
    Certainty, Cluster, EffectOutcome, EffectSummary, EnforcementLayer, Finding, Guest,
    RecoverySummary, Report, Step, Verdict,
};
use crate::Millis;
use crate::capability::run::Observed;
use crate::capability::{Answer, Effect, Local, Observations, Pending, Reversal, Summary, Target};
use crate::document::API_VERSION;
use crate::journal::{
    AnswerReader, Command, Done, Entry, GuestExit, Header, ObservedState, Opened, Origin, Recorded,
    RunResult,
};
use crate::outcome::{Error, Fault, Outcome};

/// A report and what is needed to continue it.
#[derive(Clone, Debug)]
pub struct ReportBuilder {
    report: Report,
    /// Writes without an outcome yet.
    opened: Vec<(u64, Effect)>,
    /// What a plan read about the objects that it would change.
    observations: Observations,
    /// What a plan would have to take back.
    planned: Vec<(u64, Pending<Reversal>)>,
    /// Deleted objects that their owners may create again.
    may_return: Vec<String>,
    /// What the host's own releases may bring back.
    released_by_host: Vec<String>,
    /// What remains in the guest's words. The last verdict adds the rest.
    guests_remaining: Vec<Finding>,
}

impl ReportBuilder {
    /// Starts the report of a run.
    pub fn new(header: &Header) -> Self {
        let enforcement = header.enforcement.iter().flat_map(|enforcement| enforcement.layers());
        let report = Report {
            api_version: API_VERSION,
            kind: "Report",
            run: header.run.clone(),
            command: header.command,
            plan: None,
            verdict: Some(Verdict::Failed(Fault::Host)),
            summary: "the run is unfinished: its process died, or it is still running".into(),
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
                enforcement: enforcement
                    .map(|(name, enforced, reason)| EnforcementLayer { name, enforced, reason })
                    .collect(),
            },
            began: header.at,
            ended: header.at,
            recoveries: vec![],
            diagnosis: None,
            evidence: vec![],
            figures: vec![],
            problems: vec![],
            steps: vec![],
            effects: vec![],
            remaining: vec![],
            prevention: vec![],
        };
        Self {
            report,
            opened: vec![],
            observations: Observations::default(),
            planned: vec![],
            may_return: vec![],
            released_by_host: vec![],
            guests_remaining: vec![],
        }
    }

    /// Builds the report of a journal. None if it does not start with a header.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Option<Self> {
        let mut entries = entries.into_iter();
        let mut builder = Self::new(entries.next()?.header()?);
        let mut answers = AnswerReader::default();
        for entry in entries {
            let answer = answers.read(entry);
            builder.apply(Recorded { entry, answer: answer.as_ref() });
        }
        Some(builder)
    }

    pub fn report(&self) -> &Report {
        &self.report
    }

    pub fn into_report(self) -> Report {
        self.report
    }

    /// Applies the next entry.
    pub fn apply(&mut self, recorded: Recorded<'_>) {
        let Recorded { entry, answer } = recorded;
        match entry {
            Entry::Header(_) => {}
            Entry::Approved(approval) => self.report.plan = Some(approval.plan.clone()),
            Entry::Recovery(recovery) => {
                self.tick(recovery.at);
                self.report.recoveries.push(RecoverySummary {
                    at: recovery.at,
                    salve: recovery.salve.clone(),
                    user: recovery.user.clone(),
                    machine: recovery.machine.clone(),
                    release_only: recovery.release_only,
                });
            }
            Entry::Opened(opened) => self.opened(opened),
            Entry::Closed(closed) => {
                self.tick(closed.at);
                let Some(effect) = self.effect(closed.n) else { return };
                if let (Effect::Write(write), Some(answer)) = (&effect, answer) {
                    self.may_return.extend(write.may_return(answer));
                }
                // After a conflict another attempt follows.
                if let (None, Some(outcome)) = (&closed.conflict, &closed.outcome) {
                    let mut summaries = self.report.effects.iter_mut().rev();
                    if let Some(summary) = summaries.find(|summary| summary.n == closed.n) {
                        summary.settle(describe_outcome(&effect, outcome, answer));
                    }
                }
            }
            Entry::Done(done) => self.done(done, answer),
            Entry::Planned(done) => self.planned(done, answer),
            Entry::GuestExited(exited) => {
                self.tick(exited.at);
                self.guest_exited(&exited.exit);
            }
            Entry::Verdict(result) => self.finish(result),
        }
    }

    fn effect(&self, n: u64) -> Option<Effect> {
        self.opened.iter().find(|(opened, _)| *opened == n).map(|(_, effect)| effect.clone())
    }

    fn opened(&mut self, opened: &Opened) {
        self.tick(opened.at);
        if let (Effect::Reversal(reversal), Origin::Host) = (&opened.effect, opened.origin) {
            self.released_by_host.extend(reversal.brings_back());
        }
        // A further attempt of the same entry is the same write.
        if self.effect(opened.n).is_none() {
            let observed = Some(&opened.observed);
            let summary = self.summarize(opened.n, opened.origin, &opened.effect, observed);
            self.report.effects.extend(summary);
            self.opened.push((opened.n, opened.effect.clone()));
        }
    }

    fn done(&mut self, done: &Done, answer: Option<&Answer>) {
        self.tick(done.at);
        match &done.effect {
            Effect::Local(Local::Step(step)) => self.report.steps.push(Step {
                name: step.name.clone(),
                title: step.title.clone(),
                began: done.at,
                ended: done.at,
                notes: vec![],
            }),
            Effect::Local(Local::Note(note)) => {
                if let Some(step) = self.report.steps.last_mut() {
                    step.notes.push(note.text.clone());
                }
            }
            Effect::Local(Local::Observed(observed)) => {
                if let (Outcome::Error(error), Some(step)) =
                    (&done.outcome, self.report.steps.last_mut())
                {
                    step.notes.push(refused_observation(observed, error));
                }
            }
            Effect::Local(Local::Now(_) | Local::Sleep(_) | Local::AskUser(_)) => {}
            Effect::Read(read) => {
                if let (Command::Plan, Some(answer)) = (self.report.command, answer) {
                    read.observe(answer, &mut self.observations);
                }
            }
            Effect::Write(_) | Effect::Reversal(_) => {
                let observed = done.observed.as_ref();
                let summary = self.summarize(done.n, done.origin, &done.effect, observed);
                self.report.effects.extend(summary.map(|mut summary| {
                    summary.settle(describe_outcome(&done.effect, &done.outcome, answer));
                    summary
                }));
            }
        }
    }

    fn planned(&mut self, done: &Done, answer: Option<&Answer>) {
        self.tick(done.at);
        let observed = done.observed.as_ref();
        let Some(summary) = self.summarize(done.n, done.origin, &done.effect, observed) else {
            return;
        };
        let mut summary = EffectSummary {
            outcome: EffectOutcome::Planned,
            certainty: Some(Certainty::Exact),
            ..summary
        };
        match &done.effect {
            Effect::Write(write) => {
                let step = self.report.steps.last();
                let step = step.map(|step| step.title.as_str()).unwrap_or_default();
                summary.details = write.details(&self.observations, step, observed);
                let none = ObservedState::default();
                let pending = write.reversals(observed.unwrap_or(&none), answer);
                self.planned.extend(pending.into_iter().map(|pending| (done.n, pending)));
            }
            Effect::Reversal(reversal) => {
                self.planned.retain(|(_, pending)| pending.reversal != *reversal);
            }
            Effect::Local(_) | Effect::Read(_) => {}
        }
        self.report.effects.push(summary);
    }

    fn guest_exited(&mut self, exit: &GuestExit) {
        match exit {
            GuestExit::Diagnosed(diagnosis) => self.report.diagnosis = Some(diagnosis.clone()),
            GuestExit::Concluded(conclusion) | GuestExit::Restored(conclusion) => {
                self.report.evidence.clone_from(&conclusion.evidence);
                self.report.figures.clone_from(&conclusion.figures);
                self.report.remaining.clone_from(&conclusion.remaining);
                self.guests_remaining.clone_from(&conclusion.remaining);
                self.report.prevention.clone_from(&conclusion.prevention);
            }
            GuestExit::PlanEnds(_) => self.predict_reversals(),
            GuestExit::Stale(_) | GuestExit::Stopped(_) | GuestExit::Died(_) => {}
            GuestExit::Failed(failure) => self.report.fault = Some(failure.fault),
        }
    }

    /// Adds what follows the end of a plan, whatever the guest does: the host takes back the rest.
    fn predict_reversals(&mut self) {
        for (n, Pending { reversal, .. }) in std::mem::take(&mut self.planned) {
            if !reversal.is_planned() {
                continue;
            }
            let effect = Effect::Reversal(reversal);
            let summary = self.summarize(n, Origin::Host, &effect, None);
            self.report.effects.extend(summary.map(|summary| EffectSummary {
                step: None,
                outcome: EffectOutcome::Planned,
                certainty: Some(Certainty::Predicted),
                ..summary
            }));
        }
    }

    fn finish(&mut self, result: &RunResult) {
        self.tick(result.at);
        let report = &mut self.report;
        report.verdict = Some(result.verdict).filter(|_| report.diagnosis.is_none());
        report.summary.clone_from(&result.summary);
        report.problems.clone_from(&result.problems);
        report.remaining = result.open.iter().map(describe_open).collect();
        report.remaining.extend(self.guests_remaining.iter().cloned());
        if !self.may_return.is_empty() && !self.released_by_host.is_empty() {
            report.remaining.push(Finding {
                text: format!(
                    "deleted objects that are declared in Git come back when {} reconciles",
                    self.released_by_host.join(", ")
                ),
                details: self.may_return.clone(),
            });
        }
    }

    fn summarize(
        &self,
        n: u64,
        origin: Origin,
        effect: &Effect,
        observed: Option<&ObservedState>,
    ) -> Option<EffectSummary> {
        let commands = match effect {
            Effect::Local(_) | Effect::Read(_) => return None,
            Effect::Write(write) => write.commands(observed),
            Effect::Reversal(reversal) => reversal.commands(),
        };
        Some(EffectSummary {
            n,
            origin,
            effect: effect.function(),
            step: self.report.steps.last().map(|step| step.name.clone()),
            targets: effect.targets().iter().map(Target::to_string).collect(),
            commands,
            outcome: EffectOutcome::InDoubt,
            certainty: None,
            details: vec![],
        })
    }

    fn tick(&mut self, at: Millis) {
        self.report.ended = self.report.ended.max(at);
        if let Some(step) = self.report.steps.last_mut() {
            step.ended = self.report.ended;
        }
    }
}

/// Describes an observation that the host did not accept.
pub fn refused_observation(observed: &Observed, error: &Error) -> String {
    format!("the observation of problem {:?} does not count: {}", observed.problem, error.text())
}

fn describe_outcome(effect: &Effect, outcome: &Outcome, answer: Option<&Answer>) -> EffectOutcome {
    match (outcome, answer) {
        (Outcome::Error(error), _) => EffectOutcome::Failed(error.to_string()),
        (Outcome::Ok(_), Some(answer)) => EffectOutcome::of(effect, answer),
        (Outcome::Ok(_), None) => {
            EffectOutcome::Failed("the recorded answer cannot be read".into())
        }
    }
}

impl EffectOutcome {
    /// Returns the outcome of an answered effect.
    pub fn of(effect: &Effect, answer: &Answer) -> Self {
        match effect {
            Effect::Local(_) | Effect::Read(_) => Self::Ok,
            Effect::Write(write) => match write.summary(answer) {
                Summary::Ok => Self::Ok,
                Summary::Partial(text) => Self::Partial(text),
                Summary::Failed(text) => Self::Failed(text),
            },
            Effect::Reversal(reversal) => {
                let released = reversal.released(answer);
                let taken_over = released.and_then(|released| released.taken_over.clone());
                taken_over.map_or(Self::Ok, Self::TakenOver)
            }
        }
    }
}

impl EffectSummary {
    fn settle(&mut self, outcome: EffectOutcome) {
        if matches!(outcome, EffectOutcome::TakenOver(_)) {
            // They would undo what someone else did.
            self.commands.clear();
        }
        self.outcome = outcome;
    }
}

/// Describes a reversal that the run could not perform, with the commands that do it.
fn describe_open(open: &Pending<Reversal>) -> Finding {
    let mut details = open.reversal.commands();
    details.extend(open.reversal.cleanup_commands());
    Finding { text: open.reversal.still_active(open.in_doubt), details }
}
