//! Whether a run fixed what it observed. The host reads again what the guest read before its first
//! write, after the last change: the guest's own reads and words prove nothing.
//!
//! [`Proof`] is a fold over the entries of the journal, so a recovered run and a replay come to the
//! same result.

mod observation;

use observation::{Observation, ProblemState};

use crate::Millis;
use crate::capability::{Access, Answer, Capability, Effect, Read, Summary};
use crate::glob::Glob;
use crate::journal::{Closed, Done, Opened, Origin};
use crate::outcome::{Error, Outcome};
use crate::problem::{Evaluation, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How many observations a run can report. Each is read again until its window has passed.
const MAX_OBSERVATIONS: usize = 32;

/// What a run knows about its problems.
#[derive(Debug, Default)]
pub struct Proof {
    problems: Vec<Tracked>,
    observations: Vec<Observation>,
    /// The number of the guest's first write.
    first_write: Option<u64>,
    /// When the latest change took effect, if there was one.
    changed_at: Option<Millis>,
    /// A write of the guest was applied.
    has_written: bool,
    /// Writes of the guest without an outcome.
    open: BTreeSet<u64>,
}

/// A problem, and the guest's reads before its first write that may show it.
#[derive(Debug)]
struct Tracked {
    problem: Problem,
    /// Parallel to `evaluations`.
    reads: Vec<TrackedRead>,
    evaluations: Vec<Evaluation>,
}

#[derive(Debug)]
struct TrackedRead {
    n: u64,
    at: Millis,
    read: Read,
}

/// The result of the host's reads for a guest that claims `fixed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    Fixed,
    /// Cleared, but this run wrote nothing.
    ResolvedElsewhere,
    /// What remains.
    NotFixed(String),
    /// Why nothing is proven.
    Unverified(String),
}

/// What the host's own reads showed of a problem that the run observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifiedProblem {
    /// Its name in `spec.problems`.
    pub name: String,
    pub status: ProblemStatus,
    /// For how long it stayed clear, what remains, or why nothing is proven.
    pub text: String,
}

/// The order is from good to bad.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemStatus {
    Cleared,
    Unverified,
    Remains,
}

impl Proof {
    /// Sets the problems of the run.
    pub fn declare(&mut self, problems: &[Problem]) {
        let track = |problem: &Problem| Tracked {
            problem: problem.clone(),
            reads: vec![],
            evaluations: vec![],
        };
        self.problems = problems.iter().map(track).collect();
    }

    /// Applies a read and its outcome.
    pub fn read(&mut self, done: &Done, read: &Read, answer: Option<&Answer>) {
        match (done.origin, &done.outcome) {
            (Origin::Guest, _) => {
                if let (None, Some(answer)) = (self.first_write, answer) {
                    let tracked = self.problems.iter_mut();
                    for tracked in tracked.filter(|tracked| tracked.problem.is_shown_by(read)) {
                        tracked.evaluate(done, read, answer);
                    }
                }
            }
            (Origin::Host, Outcome::Ok(_)) => {
                if let Some(answer) = answer {
                    self.verify(read, done.at, Ok(answer));
                }
            }
            (Origin::Host, Outcome::Error(error)) => self.verify(read, done.at, Err(error)),
        }
    }

    /// Applies an answer, or an error, to each observation that waits for this read.
    fn verify(&mut self, read: &Read, at: Millis, answer: Result<&Answer, &Error>) {
        for index in 0..self.observations.len() {
            if self.next_read(index).as_ref() == Some(read) {
                let (problem, since) = (self.problem_of(index).clone(), self.since(index));
                self.observations[index].verify(&problem, since, read, at, answer);
            }
        }
    }

    /// Applies a write or a reversal that is about to be sent.
    pub fn opened(&mut self, opened: &Opened) {
        if is_own(&opened.effect) {
            return;
        }
        self.change(opened.at);
        if let (Origin::Guest, Effect::Write(_)) = (opened.origin, &opened.effect) {
            self.first_write.get_or_insert(opened.n);
            self.open.insert(opened.n);
        }
    }

    /// Applies the outcome of a write or a reversal, or of one attempt.
    pub fn closed(&mut self, closed: &Closed, effect: &Effect, answer: Option<&Answer>) {
        if is_own(effect) {
            return;
        }
        let applied_at = match (effect, answer) {
            (Effect::Write(write), Some(answer)) => {
                let is_applied = match write.summary(answer) {
                    Summary::Ok | Summary::Partial(_) => true,
                    Summary::Failed(_) => false,
                };
                self.has_written |= is_applied;
                write.applied_at(answer)
            }
            (Effect::Write(_), None) => {
                // It may have been applied.
                self.has_written |=
                    matches!(closed.outcome, Some(Outcome::Error(Error::Unavailable(_))));
                None
            }
            (Effect::Reversal(_) | Effect::Local(_) | Effect::Read(_), _) => None,
        };
        // A corrected clock may be behind the time that the write itself carries.
        // mutant verified-before-release: self.change(closed.at.max(applied_at.unwrap_or(0))); ~>
        //     if closed.n == 0 { self.change(closed.at.max(applied_at.unwrap_or(0))); }
        self.change(closed.at.max(applied_at.unwrap_or(0)));
        if closed.conflict.is_none() {
            self.open.remove(&closed.n);
        }
    }

    /// Applies a write that a plan did not send.
    pub fn planned(&mut self, n: u64) {
        self.first_write.get_or_insert(n);
    }

    /// What was read before a change proves nothing about the time after it.
    fn change(&mut self, at: Millis) {
        self.changed_at = self.changed_at.max(Some(at));
        self.restart();
    }

    /// Starts all windows again: after a change, and after a time in which no one was reading.
    pub fn restart(&mut self) {
        self.observations.iter_mut().for_each(Observation::restart);
    }

    /// Checks that an entry shows a problem: it is a complete read of this run from before its
    /// first write, in the scope of the problem, and the problem's own pattern or state applies.
    /// `granted` are the namespaces in which its capability is granted.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check_observation(
        &self,
        name: &str,
        entry: u64,
        granted: impl FnOnce(Capability) -> Vec<Glob>,
    ) -> Result<(), String> {
        let Some(tracked) = self.problems.iter().find(|tracked| tracked.problem.name == name)
        else {
            return Err(format!("no problem {name:?} is declared{}", self.declared()));
        };
        if let Some(write) = self.first_write {
            return Err(format!(
                "a problem must be observed before the first write (entry {write})"
            ));
        }
        if self.observations.len() >= MAX_OBSERVATIONS {
            return Err(format!("at most {MAX_OBSERVATIONS} observations per run"));
        }
        let capability = tracked.problem.read.capability;
        let Some(at) = tracked.reads.iter().position(|read| read.n == entry) else {
            return Err(format!("entry {entry} is not a read of this run by {capability}"));
        };
        let (read, evaluation) = (&tracked.reads[at].read, &tracked.evaluations[at]);
        if let Some(why) = &evaluation.incomplete {
            return Err(format!("entry {entry} proves nothing: {why}"));
        }
        // mutant first-page-is-observation: if evaluation.more ~> if evaluation.more && entry == 0
        if evaluation.more {
            return Err(format!("entry {entry} is not the last page"));
        }
        if !tracked.problem.reads_history() {
            check_namespaces(&tracked.problem, read, &granted(capability))?;
        }
        if evaluation.affected.is_empty() {
            return Err(format!("entry {entry} does not show it"));
        }
        Ok(())
    }

    /// Applies an accepted observation.
    pub fn observe(&mut self, name: &str, entry: u64) {
        let Some(index) = self.problems.iter().position(|tracked| tracked.problem.name == name)
        else {
            return;
        };
        let tracked = &self.problems[index];
        let Some(at) = tracked.reads.iter().position(|read| read.n == entry) else { return };
        let (read, evaluation) = (&tracked.reads[at], &tracked.evaluations[at]);
        let is_known = |other: &Observation| other.is_of(index, &read.read);
        if !self.observations.iter().any(is_known) {
            let subjects = evaluation.affected.clone();
            self.observations.push(Observation::new(index, read.at, read.read.clone(), subjects));
        }
    }

    fn declared(&self) -> String {
        if self.problems.is_empty() {
            return " (the documents have no spec.problems)".into();
        }
        let names: Vec<&str> =
            self.problems.iter().map(|tracked| tracked.problem.name.as_str()).collect();
        format!(" (declared: {})", names.join(", "))
    }

    fn problem_of(&self, index: usize) -> &Problem {
        &self.problems[self.observations[index].problem].problem
    }

    /// Returns from when on a problem must be absent.
    fn since(&self, index: usize) -> Millis {
        self.changed_at.unwrap_or(self.observations[index].at)
    }

    /// Returns how many observations there are.
    pub fn observations(&self) -> usize {
        self.observations.len()
    }

    /// Returns the names of the observed problems and the longest of their windows.
    pub fn observed(&self) -> Option<(Vec<&str>, Millis)> {
        let problems = || (0..self.observations.len()).map(|index| self.problem_of(index));
        let names: BTreeSet<&str> = problems().map(|problem| problem.name.as_str()).collect();
        let longest = problems().map(|problem| problem.window.millis()).max()?;
        Some((names.into_iter().collect(), longest))
    }

    /// Returns the next read of an observation whose window has not passed.
    pub fn next_read(&self, index: usize) -> Option<Read> {
        let observation = &self.observations[index];
        if observation.is_cleared() {
            return None;
        }
        observation.next_read(self.problem_of(index), self.since(index))
    }

    /// Returns whether an observation waits for the next page of a log.
    pub fn has_more_pages(&self, index: usize) -> bool {
        self.observations[index].has_more_pages()
    }

    /// Returns the shortest window of those that have not passed.
    pub fn shortest_open_window(&self) -> Option<Millis> {
        let open = (0..self.observations.len())
            .filter(|index| !self.observations[*index].is_cleared())
            .map(|index| self.problem_of(index).window.millis());
        open.min()
    }

    /// Returns whether more reads cannot change the result: a log line does not go away.
    pub fn is_settled(&self) -> bool {
        self.shortest_open_window().is_none()
            || (0..self.observations.len()).any(|index| {
                self.problem_of(index).reads_history() && self.observations[index].remains()
            })
    }

    /// Returns the result of the host's reads.
    pub fn result(&self) -> Verified {
        if self.observations.is_empty() {
            return Verified::Unverified(if self.problems.is_empty() {
                "the documents declare no problem (spec.problems) that the host could verify".into()
            } else {
                format!(
                    "the guest observed no declared problem before its first write{}",
                    self.declared()
                )
            });
        }
        let (mut remaining, mut unproven) = (vec![], vec![]);
        for index in 0..self.observations.len() {
            let (status, text) = self.status_of(index);
            let text = format!("{}: {text}", self.problem_of(index).name);
            match status {
                ProblemStatus::Remains => remaining.push(text),
                ProblemStatus::Unverified => unproven.push(text),
                ProblemStatus::Cleared => {}
            }
        }
        if !remaining.is_empty() {
            return Verified::NotFixed(remaining.join("; "));
        }
        if !unproven.is_empty() {
            return Verified::Unverified(unproven.join("; "));
        }
        // mutant nothing-written-is-fixed: self.has_written || ~> true || self.has_written ||
        if self.has_written || !self.open.is_empty() {
            Verified::Fixed
        } else {
            Verified::ResolvedElsewhere
        }
    }

    /// Returns what the host's reads showed of each observed problem, in the order in which the
    /// documents declare them. Several observations of one problem are one: the worst.
    pub fn verified_problems(&self) -> Vec<VerifiedProblem> {
        let of_problem = |problem: usize| {
            (0..self.observations.len())
                .filter(move |index| self.observations[*index].problem == problem)
                .map(|index| self.status_of(index))
        };
        let declared = self.problems.iter().enumerate();
        declared
            .filter_map(|(problem, tracked)| {
                let status = of_problem(problem).map(|(status, _)| status).max()?;
                let worst = of_problem(problem).filter(|(other, _)| *other == status);
                let texts: BTreeSet<String> = worst.map(|(_, text)| text).collect();
                let text = texts.into_iter().collect::<Vec<_>>().join("; ");
                Some(VerifiedProblem { name: tracked.problem.name.clone(), status, text })
            })
            .collect()
    }

    /// Returns what the host's reads showed of one observation.
    fn status_of(&self, index: usize) -> (ProblemStatus, String) {
        let window = self.problem_of(index).window;
        let observation = &self.observations[index];
        match &observation.state {
            ProblemState::Remains(what) => (ProblemStatus::Remains, what.clone()),
            ProblemState::Unknown(why) => (ProblemStatus::Unverified, why.clone()),
            ProblemState::Clear if observation.is_cleared() => {
                (ProblemStatus::Cleared, format!("stayed clear for {window} after the last change"))
            }
            ProblemState::Unread | ProblemState::Clear => (
                ProblemStatus::Unverified,
                format!("it was not watched for its whole window of {window}; check again"),
            ),
        }
    }
}

impl Tracked {
    fn evaluate(&mut self, done: &Done, read: &Read, answer: &Answer) {
        let evaluation = read.evaluate(&self.problem, answer, &self.evaluations);
        self.reads.push(TrackedRead { n: done.n, at: done.at, read: read.clone() });
        // There may be many of them, and an observation does not need them.
        let (healthy, unknown) = Default::default();
        self.evaluations.push(Evaluation { healthy, unknown, ..evaluation });
    }
}

/// Returns whether an effect is the host's own, such as the cluster lock.
fn is_own(effect: &Effect) -> bool {
    effect.capability().access() == Access::Internal
}

fn check_namespaces(problem: &Problem, read: &Read, granted: &[Glob]) -> Result<(), String> {
    let targets = read.targets();
    let covered: BTreeSet<&str> =
        targets.iter().filter_map(|target| target.namespace.as_deref()).collect();
    let missing: Vec<&str> = problem
        .read
        .required_namespaces(granted)
        .filter(|namespace| !covered.contains(namespace))
        .collect();
    // mutant one-namespace-observed: missing.is_empty() ~> !covered.is_empty()
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("it leaves out namespaces of the problem: {}", missing.join(", ")))
    }
}
