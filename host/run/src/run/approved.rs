//! A run under an approved plan: what differs is stopped, what the plan has waited for is not waited for twice.

use super::{Halt, Reply, Run};
use crate::replay_cursor::answer;
use salve_core::approval::Approved;
use salve_core::effect::{Effect, Local, Read, Write};
use salve_core::journal::{Done, Entry, Origin};
use std::collections::VecDeque;

/// What a plan has seen over time: moments, waits and pages of logs. Objects are read anew.
#[derive(Debug, Default)]
pub(super) struct PlanAnswers {
    done: VecDeque<Done>,
}

impl PlanAnswers {
    /// Of a plan, what came before its first touch.
    pub fn of(plan: &[Entry]) -> Self {
        let before = plan.iter().take_while(|entry| !is_write(entry));
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

fn is_write(entry: &Entry) -> bool {
    match entry {
        Entry::Planned(done) | Entry::Done(done) => matches!(done.effect, Effect::Write(_)),
        Entry::Opened(_) => true,
        _ => false,
    }
}

fn takes_time(effect: &Effect) -> bool {
    match effect {
        Effect::Local(local) => match local {
            Local::Now(_) | Local::Sleep(_) => true,
            Local::Step(_) | Local::Note(_) | Local::AskUser(_) => false,
        },
        Effect::Read(look) => match look {
            Read::NextPage(_) => true,
            Read::GetIdentity(_)
            | Read::ReviewAccess(_)
            | Read::RequestToken(_)
            | Read::CheckPolicies(_)
            | Read::Lease(_)
            | Read::FindLeftovers(_)
            | Read::FindOwners(_)
            | Read::GetFluxObject(_)
            | Read::ListSources(_)
            | Read::ListDestinations(_)
            | Read::ListPvcs(_)
            | Read::ListSnapshots(_)
            | Read::FindDriver(_)
            | Read::ListPods(_)
            | Read::ListObjects(_)
            | Read::GetObject(_)
            | Read::AwaitRollout(_) => false,
        },
        Effect::Write(_) => false,
    }
}

impl Run {
    /// Whether a touch of the guest is the next one that was approved.
    pub(super) fn is_approved(&mut self, write: &Write) -> Result<(), Halt> {
        let Some((approval, done)) = &mut self.approval else { return Ok(()) };
        // mutant write-not-compared-with-plan: approval.allows(*done,
        //     write).map_err(Halt::Differs)? ~> let _ = approval.allows(*done, write)
        approval.allows(*done, write).map_err(Halt::Differs)?;
        *done += 1;
        Ok(())
    }

    /// What the touch that is under way met when it was approved.
    pub(super) fn as_approved(&self) -> Option<&Approved> {
        let (approval, done) = self.approval.as_ref()?;
        approval.writes.get(done.checked_sub(1)?)
    }

    /// Records as its own what the plan was answered.
    pub(super) fn waited_before(&mut self, n: u64, done: Done) -> Result<Reply, Halt> {
        let answer = answer(done.n, &done.effect, done.outcome.clone())?;
        self.append(Entry::Done(Box::new(Done { n, from_plan: Some(done.n), ..done })))?;
        Ok((n, answer))
    }
}
