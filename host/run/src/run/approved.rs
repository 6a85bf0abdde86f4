//! A run under an approved plan: what differs is stopped, what the plan has waited for is not waited for twice.

use super::{Halt, Reply, Run};
use crate::record::answer;
use salve_core::approval::Approved;
use salve_core::effect::{Effect, Look, Own, Touch};
use salve_core::journal::{Done, Entry, Origin};
use std::collections::VecDeque;

/// What a plan has seen over time: moments, waits and pages of logs. Objects are read anew.
#[derive(Debug, Default)]
pub(super) struct Waited {
    done: VecDeque<Done>,
}

impl Waited {
    /// Of a plan, what came before its first touch.
    pub fn of(plan: &[Entry]) -> Self {
        let before = plan.iter().take_while(|entry| !is_touch(entry));
        let done = before.filter_map(|entry| match entry {
            Entry::Done(done) if done.origin == Origin::Guest && takes_time(&done.effect) => {
                Some((**done).clone())
            }
            _ => None,
        });
        Self { done: done.collect() }
    }

    /// What the plan was answered here. The first question that it did not ask ends it: what follows is seen anew.
    pub fn next(&mut self, effect: &Effect) -> Option<Done> {
        if !takes_time(effect) {
            return None;
        }
        if self.done.front().is_some_and(|done| done.effect == *effect) {
            return self.done.pop_front();
        }
        self.done.clear();
        None
    }

    /// From here on time counts.
    pub fn is_over(&mut self) {
        self.done.clear();
    }
}

fn is_touch(entry: &Entry) -> bool {
    match entry {
        Entry::Planned(done) | Entry::Done(done) => matches!(done.effect, Effect::Touch(_)),
        Entry::Opened(_) => true,
        _ => false,
    }
}

fn takes_time(effect: &Effect) -> bool {
    match effect {
        Effect::Own(own) => match own {
            Own::Now(_) | Own::Sleep(_) => true,
            Own::Step(_) | Own::Note(_) | Own::AskPerson(_) => false,
        },
        Effect::Look(look) => match look {
            Look::LogPage(_) => true,
            Look::Identity(_)
            | Look::Access(_)
            | Look::Token(_)
            | Look::Policies(_)
            | Look::Lease(_)
            | Look::Leftovers(_)
            | Look::FluxOwners(_)
            | Look::FluxGet(_)
            | Look::Sources(_)
            | Look::Destinations(_)
            | Look::Claims(_)
            | Look::Snapshots(_)
            | Look::FindDriver(_)
            | Look::Pods(_)
            | Look::ListObjects(_)
            | Look::GetObject(_)
            | Look::AwaitRollout(_) => false,
        },
        Effect::Touch(_) => false,
    }
}

impl Run {
    /// Whether a touch of the guest is the next one that was approved.
    pub(super) fn is_approved(&mut self, touch: &Touch) -> Result<(), Halt> {
        let Some((approval, done)) = &mut self.approval else { return Ok(()) };
        // mutant write-not-compared-with-plan: approval.allows(*done,
        //     touch).map_err(Halt::Differs)? ~> let _ = approval.allows(*done, touch)
        approval.allows(*done, touch).map_err(Halt::Differs)?;
        *done += 1;
        Ok(())
    }

    /// What the touch that is under way met when it was approved.
    pub(super) fn as_approved(&self) -> Option<&Approved> {
        let (approval, done) = self.approval.as_ref()?;
        approval.touches.get(done.checked_sub(1)?)
    }

    /// Records as its own what the plan was answered.
    pub(super) fn waited_before(&mut self, n: u64, done: Done) -> Result<Reply, Halt> {
        let answer = answer(done.n, &done.effect, done.outcome.clone())?;
        self.write(Entry::Done(Box::new(Done { n, from_plan: Some(done.n), ..done })))?;
        Ok((n, answer))
    }
}
