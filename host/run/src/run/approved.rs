//! A run under an approved plan: differences are stopped, and what the plan has waited for is not
//! waited for again.

use super::{Halt, Reply, Run};
use crate::replay_cursor::answer;
use salve_core::approval::Approved;
use salve_core::capability::{Effect, Write};
use salve_core::journal::{Done, Entry, Origin};
use std::collections::VecDeque;

/// Answers of a plan that depend on time: moments, waits, and pages of logs. Objects are read
/// again.
#[derive(Debug, Default)]
pub(super) struct PlanAnswers {
    entries: VecDeque<Done>,
}

impl PlanAnswers {
    /// Takes the answers before the plan's first write.
    pub fn of(plan: &[Entry]) -> Self {
        let before = plan.iter().take_while(|entry| !is_write(entry));
        let entries = before.filter_map(|entry| match entry {
            Entry::Done(done) if done.origin == Origin::Guest && done.effect.observes_time() => {
                Some((**done).clone())
            }
            Entry::Done(_)
            | Entry::Header(_)
            | Entry::Approved(_)
            | Entry::Recovery(_)
            | Entry::Opened(_)
            | Entry::Closed(_)
            | Entry::Planned(_)
            | Entry::GuestExited(_)
            | Entry::Verdict(_) => None,
        });
        Self { entries: entries.collect() }
    }

    /// Returns the plan's answer. The first call that the plan did not make ends them.
    pub fn next(&mut self, effect: &Effect) -> Option<Done> {
        if !effect.observes_time() {
            return None;
        }
        if self.entries.front().is_some_and(|done| done.effect == *effect) {
            return self.entries.pop_front();
        }
        self.clear();
        None
    }

    /// Ends them: from here on, time counts.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

fn is_write(entry: &Entry) -> bool {
    match entry {
        Entry::Planned(done) | Entry::Done(done) => done.effect.changes_cluster(),
        Entry::Opened(_) => true,
        Entry::Header(_)
        | Entry::Approved(_)
        | Entry::Recovery(_)
        | Entry::Closed(_)
        | Entry::GuestExited(_)
        | Entry::Verdict(_) => false,
    }
}

impl Run {
    /// Checks that a write of the guest is the next approved one.
    pub(super) fn check_approval(&mut self, write: &Write) -> Result<(), Halt> {
        let Some((approval, done)) = &mut self.approval else { return Ok(()) };
        // mutant write-not-compared-with-plan:
        //     approval.allows(*done, write).map_err(Halt::Differs)? ~>
        //     let _ = approval.allows(*done, write)
        approval.allows(*done, write).map_err(Halt::Differs)?;
        *done += 1;
        Ok(())
    }

    /// Returns the approved form of the current write.
    pub(super) fn approved_write(&self) -> Option<&Approved> {
        let (approval, done) = self.approval.as_ref()?;
        approval.writes.get(done.checked_sub(1)?)
    }

    /// Records an answer of the plan as this run's own.
    pub(super) fn answer_from_plan(&mut self, n: u64, done: Done) -> Result<Reply, Halt> {
        let answer = answer(done.n, &done.effect, &done.outcome)?;
        let entry = Entry::Done(Box::new(Done { n, from_plan: Some(done.n), ..done }));
        self.append(entry, answer.as_ref().ok())?;
        Ok((n, answer))
    }
}
