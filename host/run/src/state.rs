//! What a run's entries add up to. A live run and a recovered one fold the same entries, so a
//! recovered run knows what it knew.

use crate::reversals::{Answered, Reversals};
use salve_core::capability::{
    Answer, Effect, Function, Local, PlannedChanges, Reversal, Summary, Target, Write,
};
use salve_core::grants::Denial;
use salve_core::journal::{
    Closed, Done, Entry, GuestExit, ObservedState, Opened, Origin, Recorded, RunResult,
};
use salve_core::outcome::{Error, Fault, Outcome};
use salve_core::proof::Proof;
use std::collections::{BTreeMap, HashMap};

/// Estimated size of an entry without its texts, in bytes.
const ENTRY_BYTES: usize = 200;

#[derive(Debug, Default)]
pub(crate) struct RunState {
    /// The latest number.
    pub n: u64,
    /// The number of the guest's latest answer.
    pub last: u64,
    /// What is known about its problems.
    pub proof: Proof,
    pub reversals: Reversals,
    /// What a plan recorded instead of sending it.
    pub planned: PlannedChanges,
    /// The latest step.
    pub step: Option<String>,
    /// How much of the journal the guest has used.
    pub bytes: usize,
    /// What the grants denied.
    pub denials: Vec<Denial>,
    /// Who denied the guest a call most recently.
    pub last_denial: Option<Fault>,
    /// Writes without an outcome: the last attempt of each.
    pub in_doubt: BTreeMap<u64, Opened>,
    /// Why each reversal failed most recently.
    pub failed_reversals: Vec<(Reversal, Error)>,
    pub exit: Option<GuestExit>,
    pub result: Option<RunResult>,
    /// Each write as it was asked for.
    asked: HashMap<u64, Effect>,
    /// What all attempts of a reversible write without an outcome were prepared against, newest
    /// first.
    observed: HashMap<u64, ObservedState>,
    /// How often a write with its own time was completed, by function and targets.
    stamped: HashMap<(Function, Vec<String>), u64>,
}

impl RunState {
    /// Applies the next entry.
    pub fn apply(&mut self, recorded: Recorded<'_>) {
        let Recorded { entry, answer } = recorded;
        match entry {
            Entry::Header(header) => self.proof.declare(&header.problems),
            Entry::Approved(_) => {}
            Entry::Recovery(_) => self.proof.restart(),
            Entry::Opened(opened) => self.opened(opened),
            Entry::Closed(closed) => self.closed(closed, answer),
            Entry::Done(done) => self.done(done, answer),
            Entry::Planned(done) => {
                if let Effect::Write(write) = &done.effect {
                    write.plan(&mut self.planned);
                }
                if done.effect.changes_cluster() {
                    self.planned.any = true;
                    self.proof.planned(done.n);
                }
                self.done(done, answer);
            }
            Entry::GuestExited(exited) => self.exit = Some(exited.exit.clone()),
            Entry::Verdict(result) => self.result = Some((**result).clone()),
        }
    }

    /// Returns how often an equal write with its own time was completed before.
    pub fn stamped_before(&self, write: &Write) -> u64 {
        self.stamped.get(&stamp_key(write)).copied().unwrap_or(0)
    }

    fn opened(&mut self, opened: &Opened) {
        self.n = self.n.max(opened.n);
        self.proof.opened(opened);
        self.asked.entry(opened.n).or_insert_with(|| opened.effect.clone());
        if let Effect::Write(write) = &opened.effect
            && write.function().reversed_by().is_some()
        {
            let attempt = write.reversals(&opened.observed, None);
            self.reversals.track(opened.n, opened.origin, attempt, &opened.observed);
            let observed = self.observed.entry(opened.n).or_default();
            observed.objects.splice(0..0, opened.observed.objects.iter().cloned());
        }
        self.in_doubt.insert(opened.n, opened.clone());
    }

    fn closed(&mut self, closed: &Closed, answer: Option<&Answer>) {
        let Some(opened) = self.in_doubt.get(&closed.n).cloned() else { return };
        self.proof.closed(closed, &opened.effect, answer);
        match (&closed.conflict, &closed.outcome) {
            (Some(_), _) => {
                if let Effect::Write(attempt) = &opened.effect {
                    let targets = attempt.targets();
                    // mutant unanswered-lease-forgotten: closed.in_doubt ~>
                    //     closed.in_doubt && closed.n == 0
                    if closed.in_doubt {
                        self.reversals.keep_in_doubt(closed.n, &targets);
                    }
                    let applied = answered(attempt, &opened.observed, answer);
                    self.reversals.settle(closed.n, opened.origin, &targets, applied);
                }
            }
            (None, Some(outcome)) => {
                self.in_doubt.remove(&closed.n);
                let observed = self.observed.remove(&closed.n).unwrap_or_default();
                let Some(effect) = self.asked.get(&closed.n).cloned() else { return };
                // After an error it is not known what is in effect: everything stays tracked.
                if let (Effect::Write(write), Some(_)) = (&effect, answer) {
                    let answer = answered(write, &observed, answer);
                    self.reversals.settle(closed.n, opened.origin, &write.targets(), answer);
                }
                self.completed(closed.n, opened.origin, &effect, outcome, answer);
            }
            (None, None) => {}
        }
    }

    fn done(&mut self, done: &Done, answer: Option<&Answer>) {
        self.n = self.n.max(done.n);
        if let Some(denial) = &done.denial {
            self.denials.push(denial.clone());
        }
        match (&done.effect, &done.outcome) {
            (Effect::Local(Local::Step(step)), _) => self.step = Some(step.name.clone()),
            (Effect::Local(Local::Observed(observed)), Outcome::Ok(_)) => {
                self.proof.observe(&observed.problem, observed.entry);
            }
            (Effect::Read(read), _) => self.proof.read(done, read, answer),
            (Effect::Local(_) | Effect::Write(_) | Effect::Reversal(_), _) => {}
        }
        if let (Effect::Write(write), Some(_)) = (&done.effect, answer) {
            let observed = done.observed.clone().unwrap_or_default();
            let answer = answered(write, &observed, answer);
            self.reversals.settle(done.n, done.origin, &write.targets(), answer);
        }
        self.completed(done.n, done.origin, &done.effect, &done.outcome, answer);
        if done.denial.as_ref().is_some_and(|denial| denial.needs_approval) {
            self.last_denial = Some(Fault::Approval);
        }
    }

    fn completed(
        &mut self,
        n: u64,
        origin: Origin,
        effect: &Effect,
        outcome: &Outcome,
        answer: Option<&Answer>,
    ) {
        let answer_bytes = outcome.ok().map_or(0, |raw| raw.get().len());
        self.bytes += ENTRY_BYTES + effect.text_bytes() + answer_bytes;
        if origin == Origin::Guest {
            self.last = n;
            self.last_denial = denied_by(effect, outcome, answer).or(self.last_denial);
        }
        if let (Effect::Reversal(reversal), Outcome::Error(error)) = (effect, outcome) {
            self.failed_reversals.retain(|(failed, _)| failed != reversal);
            self.failed_reversals.push((reversal.clone(), error.clone()));
        }
        match (effect, answer) {
            (Effect::Write(write), Some(_)) if write.stamp(0, 0).is_some() => {
                *self.stamped.entry(stamp_key(write)).or_default() += 1;
            }
            (Effect::Reversal(reversal), Some(answer)) => {
                if let Some(released) = reversal.released(answer) {
                    self.reversals.close(reversal, released);
                }
            }
            (Effect::Local(_) | Effect::Read(_) | Effect::Write(_) | Effect::Reversal(_), _) => {}
        }
    }
}

/// Returns what an answer says about the reversals of a write. Without an answer, nothing is in
/// effect.
fn answered(write: &Write, observed: &ObservedState, answer: Option<&Answer>) -> Answered {
    let Some(answer) = answer else { return Answered::default() };
    Answered {
        pending: write.reversals(observed, Some(answer)),
        in_effect: write.reversals(&ObservedState::default(), Some(answer)),
    }
}

/// Returns who denied a call, if it was denied. A set may be denied in its answer.
fn denied_by(effect: &Effect, outcome: &Outcome, answer: Option<&Answer>) -> Option<Fault> {
    let of_error = |error: &Error| match error {
        Error::Denied(_) => Some(Fault::Grant),
        Error::Forbidden(_) => Some(Fault::Cluster),
        Error::Unauthorized(_)
        | Error::NotFound(_)
        | Error::Conflict(_)
        | Error::Invalid(_)
        | Error::Unavailable(_) => None,
    };
    let answer = match outcome {
        Outcome::Error(error) => return of_error(error),
        Outcome::Ok(_) => answer?,
    };
    let write = match effect {
        Effect::Write(write) => write,
        Effect::Local(_) | Effect::Read(_) | Effect::Reversal(_) => return None,
    };
    match (write.failure(answer), write.summary(answer)) {
        (Some(error), _) => of_error(error),
        // Each target has its own message, and the grants had allowed all of them.
        (None, Summary::Failed(_)) => Some(Fault::Cluster),
        (None, Summary::Ok | Summary::Partial(_)) => None,
    }
}

fn stamp_key(write: &Write) -> (Function, Vec<String>) {
    (write.function(), write.targets().iter().map(Target::to_string).collect())
}
