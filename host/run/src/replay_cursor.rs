//! What a run file says was asked and what it came to, call by call: what a replay answers.

use crate::run::Halt;
use crate::state::RunState;
use salve_core::effect::{Answer, Effect};
use salve_core::journal::{Closed, Entry, ObservedState, Opened, Origin};
use salve_core::outcome::{Error, Outcome};
use std::collections::VecDeque;

/// The entries that were not passed yet.
#[derive(Debug, Default)]
pub(crate) struct ReplayCursor {
    entries: VecDeque<Entry>,
}

/// A call of the guest as it was recorded.
#[derive(Debug)]
pub(crate) enum Call {
    /// It was answered.
    Answered(Answered),
    /// It was sent, and nobody wrote down what became of it.
    InDoubt(InDoubt),
}

/// A call and its answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub n: u64,
    pub effect: Effect,
    pub outcome: Outcome,
    pub denied: bool,
    /// What a touch met.
    pub met: Option<ObservedState>,
    /// Found out when the guest was gone.
    pub settled: bool,
}

/// A write whose end is not known.
#[derive(Debug)]
pub(crate) struct InDoubt {
    /// As it was asked for.
    pub effect: Effect,
    /// The last attempt.
    pub last: Opened,
    /// What the attempts before it came to.
    pub completed: Vec<Outcome>,
}

impl Call {
    pub fn n(&self) -> u64 {
        match self {
            Self::Answered(answered) => answered.n,
            Self::InDoubt(doubt) => doubt.last.n,
        }
    }
    pub fn effect(&self) -> &Effect {
        match self {
            Self::Answered(answered) => &answered.effect,
            Self::InDoubt(doubt) => &doubt.effect,
        }
    }
}

impl ReplayCursor {
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries: entries.into() }
    }

    /// Whether no call is left.
    pub fn is_over(&self) -> bool {
        self.rest().is_none()
    }

    /// The guest's call that would be next.
    pub fn rest(&self) -> Option<(u64, &Effect)> {
        self.entries.iter().find_map(call)
    }

    /// The guest's next call. `state` hears everything up to its end, the host's own entries too.
    pub fn next(&mut self, state: &mut RunState) -> Option<Call> {
        while let Some(entry) = self.entries.pop_front() {
            state.apply(&entry);
            match entry {
                Entry::Done(done) | Entry::Planned(done) if done.origin == Origin::Guest => {
                    let denied = done.denial.is_some();
                    return Some(Call::Answered(Answered {
                        n: done.n,
                        effect: done.effect,
                        outcome: done.outcome,
                        denied,
                        met: done.observed,
                        settled: false,
                    }));
                }
                Entry::Opened(opened) if opened.origin == Origin::Guest => {
                    return Some(self.opened(*opened, state));
                }
                _ => {}
            }
        }
        None
    }

    /// The entries that are left.
    pub fn left(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Hears all that is left.
    pub fn pass(&mut self, state: &mut RunState) {
        for entry in self.entries.drain(..) {
            state.apply(&entry);
        }
    }

    fn opened(&mut self, first: Opened, state: &mut RunState) -> Call {
        let effect = first.effect.clone();
        let (mut last, mut completed) = (first, Vec::new());
        while let Some(entry) = self.entries.pop_front() {
            state.apply(&entry);
            match entry {
                Entry::Opened(again) if again.n == last.n => last = *again,
                Entry::Closed(Closed { n, conflict: Some(_), outcome, .. }) if n == last.n => {
                    completed.extend(outcome)
                }
                Entry::Closed(Closed {
                    n,
                    conflict: None,
                    outcome: Some(outcome),
                    settled,
                    ..
                }) if n == last.n => {
                    return Call::Answered(Answered {
                        n,
                        effect,
                        outcome,
                        denied: false,
                        met: Some(last.observed),
                        settled,
                    });
                }
                _ => {}
            }
        }
        Call::InDoubt(InDoubt { effect, last, completed })
    }
}

fn call(entry: &Entry) -> Option<(u64, &Effect)> {
    let (origin, n, effect) = match entry {
        Entry::Done(done) | Entry::Planned(done) => (done.origin, done.n, &done.effect),
        Entry::Opened(opened) => (opened.origin, opened.n, &opened.effect),
        Entry::Header(_)
        | Entry::Approved(_)
        | Entry::Recovery(_)
        | Entry::Closed(_)
        | Entry::GuestExited(_)
        | Entry::Verdict(_) => return None,
    };
    (origin == Origin::Guest).then_some((n, effect))
}

/// The answer that an outcome holds.
pub(crate) fn answer(
    n: u64,
    effect: &Effect,
    outcome: Outcome,
) -> Result<Result<Answer, Error>, Halt> {
    match outcome {
        Outcome::Error(error) => Ok(Err(error)),
        Outcome::Ok(raw) => effect.decode(&raw).map(Ok).map_err(|e| {
            Halt::Broken(format!("the recorded answer of entry {n} cannot be read: {e}"))
        }),
    }
}
