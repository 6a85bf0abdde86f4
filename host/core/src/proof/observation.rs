//! One observed problem, and what the host's reads showed since the last change.

use crate::Millis;
use crate::capability::{Answer, Read};
use crate::outcome::Error;
use crate::problem::{Affected, Evaluation, Problem};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Observation {
    /// Index of the problem.
    pub problem: usize,
    /// When the guest read it.
    pub at: Millis,
    /// The guest's read.
    read: Read,
    /// What showed the problem.
    subjects: BTreeMap<String, Affected>,
    pub state: ProblemState,
    /// The host's next read; None for the first one.
    next: Option<Read>,
    /// The pages that the host has read of a log.
    pages: Vec<Evaluation>,
    /// Since when each read has been clear.
    clear_since: Option<Millis>,
    /// The window has passed.
    is_over: bool,
}

/// What the latest read showed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ProblemState {
    Unread,
    Clear,
    Remains(String),
    Unknown(String),
}

impl Observation {
    pub fn new(
        problem: usize,
        at: Millis,
        read: Read,
        subjects: BTreeMap<String, Affected>,
    ) -> Self {
        Self {
            problem,
            at,
            read,
            subjects,
            state: ProblemState::Unread,
            next: None,
            pages: vec![],
            clear_since: None,
            is_over: false,
        }
    }

    /// Returns whether it is the same observation.
    pub fn is_of(&self, problem: usize, read: &Read) -> bool {
        self.problem == problem && self.read == *read
    }

    pub fn is_cleared(&self) -> bool {
        self.is_over && self.state == ProblemState::Clear
    }

    pub fn remains(&self) -> bool {
        matches!(self.state, ProblemState::Remains(_))
    }

    pub fn has_more_pages(&self) -> bool {
        self.pages.last().is_some_and(|page| page.more)
    }

    pub fn next_read(&self, problem: &Problem, since: Millis) -> Option<Read> {
        self.next.clone().or_else(|| self.read.verification(problem, since, None))
    }

    pub fn restart(&mut self) {
        self.state = ProblemState::Unread;
        self.next = None;
        self.pages.clear();
        self.clear_since = None;
        self.is_over = false;
    }

    /// Applies the host's next read.
    pub fn verify(
        &mut self,
        problem: &Problem,
        since: Millis,
        read: &Read,
        at: Millis,
        answer: Result<&Answer, &Error>,
    ) {
        let evaluation = match answer {
            Ok(answer) => read.evaluate(problem, answer, &self.pages),
            Err(Error::NotFound(_)) if problem.cleared_by.allows_gone() => Evaluation::default(),
            Err(error) => Evaluation::incomplete(error.to_string()),
        };
        // After a gap, a log is read from its start again.
        self.next = answer
            .ok()
            .filter(|_| evaluation.incomplete.is_none())
            .and_then(|answer| read.verification(problem, since, Some(answer)));
        let has_more = evaluation.incomplete.is_none() && evaluation.more;
        if !has_more {
            self.state = self.state_after(problem, &evaluation);
            self.pass_time(problem, since, at);
        }
        self.pages = vec![evaluation];
    }

    fn state_after(&self, problem: &Problem, evaluation: &Evaluation) -> ProblemState {
        if let Some(why) = &evaluation.incomplete {
            return ProblemState::Unknown(why.clone());
        }
        if !evaluation.affected.is_empty() {
            let all = evaluation.affected.values();
            return ProblemState::Remains(listed(
                all.map(|affected| format!("{} {}", affected.subject, affected.shows)).collect(),
            ));
        }
        let (mut existing, mut unproven) = (vec![], vec![]);
        for (id, Affected { subject, .. }) in &self.subjects {
            let is_healthy = evaluation.healthy.contains(id);
            if let Some(unknown) = evaluation.unknown.get(id) {
                unproven.push(unknown.clone());
            } else if is_healthy && !problem.cleared_by.allows_healthy() {
                existing.push(format!("{subject} still exists"));
            // mutant gone-is-healthy: !is_healthy && !problem.cleared_by.allows_gone() ~>
            //     !is_healthy && self.problem == usize::MAX
            } else if !is_healthy && !problem.cleared_by.allows_gone() {
                unproven.push(format!("{subject} is gone, which proves nothing"));
            }
        }
        if !existing.is_empty() {
            return ProblemState::Remains(listed(existing));
        }
        if !unproven.is_empty() {
            return ProblemState::Unknown(listed(unproven));
        }
        ProblemState::Clear
    }

    /// Determines whether the window has passed. Log lines have times, so one read covers all the
    /// time since the last change; a state is known only at the time of a read.
    fn pass_time(&mut self, problem: &Problem, since: Millis, at: Millis) {
        if self.state != ProblemState::Clear {
            (self.clear_since, self.is_over) = (None, false);
            return;
        }
        let clear_since = *self.clear_since.get_or_insert(at);
        let from = if problem.reads_history() { since } else { clear_since };
        // mutant window-not-awaited: >= problem.window.millis() ~> >= problem.window.millis() * 0
        self.is_over = at.saturating_sub(from) >= problem.window.millis();
    }
}

/// Lists the first few of many.
fn listed(all: Vec<String>) -> String {
    const SHOWN: usize = 3;
    let more = all.len().saturating_sub(SHOWN);
    let mut text = all.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(", and {more} more");
    }
    text
}
