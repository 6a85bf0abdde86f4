//! A run under an approved plan: differences are stopped, and what the plan has waited for is not
//! waited for again.

use super::{Halt, Mode, Reply, Run, timeout, within};
use crate::backend::Current;
use crate::replay_cursor::answer;
use salve_core::approval::{Approval, Approved, Difference};
use salve_core::capability::{Effect, Write};
use salve_core::journal::{Done, Entry, Origin};
use salve_core::outcome::Error;
use std::collections::VecDeque;

/// The approved plan that binds a run.
#[derive(Debug)]
pub(super) struct BoundPlan {
    approval: Approval,
    /// How many of its writes were reached.
    done: usize,
    /// The number of the current write in the plan, unless it is not a write of the plan.
    current: Option<usize>,
    /// This process has compared the writes that were left with the cluster.
    is_checked: bool,
}

impl BoundPlan {
    pub fn new(approval: Approval) -> Self {
        Self { approval, done: 0, current: None, is_checked: false }
    }

    /// Counts a write that an earlier process made.
    pub fn count(&mut self, write: &Write) {
        // Its process compared it with the plan.
        drop(self.reach(write));
    }

    /// Moves on to this write, and counts it if it is one of the plan.
    ///
    /// # Errors
    /// It is not the next one of the plan.
    fn reach(&mut self, write: &Write) -> Result<(), Difference> {
        self.current = None;
        // mutant write-not-compared-with-plan: self.approval.allows(self.done, write)? ~>
        //     self.approval.allows(self.done, write).unwrap_or(self.approval.writes.get(self.done))
        if self.approval.allows(self.done, write)?.is_some() {
            self.current = Some(self.done);
            self.done += 1;
        }
        Ok(())
    }

    /// Returns whether this write follows a release and is not a write of the plan.
    fn is_outside(&self, write: &Write) -> bool {
        self.approval.allows(self.done, write) == Ok(None)
    }
}

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

fn not_compared(why: &str) -> String {
    format!("failed to compare the plan with the cluster, so this write was not sent: {why}")
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
    /// Compares every write of the plan that is left with the cluster, once per process, before the
    /// first of them is sent. Reads only, and records nothing: a replay does not repeat it.
    ///
    /// # Errors
    /// [`Halt::Differs`] if the plan is stale. The inner error if an object cannot be read, so that
    /// it is unknown whether the plan is stale.
    pub(super) async fn check_plan(&mut self) -> Result<Result<(), Error>, Halt> {
        let plan = self.approval.as_ref().filter(|plan| !plan.is_checked);
        let Some(plan) = plan.filter(|_| self.context.mode == Mode::Live) else {
            return Ok(Ok(()));
        };
        let left = plan.approval.writes.get(plan.done..).unwrap_or_default().to_vec();
        let mut differences = vec![];
        for approved in &left {
            match self.compare_with_cluster(approved).await? {
                Ok(found) => differences.extend(found),
                Err(error) => return Ok(Err(error)),
            }
        }
        if differences.is_empty() {
            match self.replanned().await? {
                Ok(found) => differences = found,
                Err(error) => return Ok(Err(error)),
            }
        }
        if let Some(plan) = &mut self.approval {
            // mutant stale-plan-started: plan.approval.is_current(plan.done, &differences) ~>
            //     Ok(())
            plan.approval.is_current(plan.done, &differences).map_err(Halt::Differs)?;
            plan.is_checked = true;
            self.replan = None;
        }
        Ok(Ok(()))
    }

    /// Compares the plan with what the guest would write now.
    async fn replanned(&mut self) -> Result<Result<Vec<String>, Error>, Halt> {
        let Some(plan) = &self.approval else { return Ok(Ok(vec![])) };
        let (approval, done) = (plan.approval.clone(), plan.done);
        self.plan_again(&approval, done).await
    }

    /// Reads what a write would be sent against, and returns how that differs from the plan.
    ///
    /// # Errors
    /// The inner error if it cannot be read.
    async fn compare_with_cluster(
        &mut self,
        approved: &Approved,
    ) -> Result<Result<Vec<String>, Error>, Halt> {
        let effect = Effect::Write(approved.write.clone());
        // The plan may come from someone else. Nothing is read that this run may not change.
        // mutant ungranted-plan-read: !self.grants.name_targets(&effect) ~> false
        if effect.validate().is_err() || !self.grants.name_targets(&effect) {
            return Ok(Ok(vec![approved.impossible("it is not granted")]));
        }
        let (footprint, backend) = (self.footprint(&effect), self.context.backend.clone());
        let read = backend.read_current(&approved.write, None, &footprint);
        let limit = timeout(&effect).min(self.time_left());
        let current = tokio::select! {
            current = within(limit, read) => current,
            () = self.context.stop.wait() => return Err(Halt::Stopped),
        };
        Ok(match current {
            Ok(Current::Ready(now)) => {
                Ok(approved.differences(&now, false, "after the plan was made"))
            }
            Ok(Current::AlreadyDone(_)) => Ok(approved.unsettled().into_iter().collect()),
            // The plan could not prepare it either.
            Err(_) if approved.observed.objects.is_empty() => Ok(vec![]),
            Err(Error::NotFound(why) | Error::Conflict(why) | Error::Invalid(why)) => {
                Ok(vec![approved.impossible(&why)])
            }
            Err(Error::Denied(why)) => Err(Error::Denied(not_compared(&why))),
            Err(Error::Forbidden(why)) => Err(Error::Forbidden(not_compared(&why))),
            Err(Error::Unauthorized(why)) => Err(Error::Unauthorized(not_compared(&why))),
            Err(Error::Unavailable(why)) => Err(Error::Unavailable(not_compared(&why))),
        })
    }

    /// Checks that a write of the guest is the next approved one, and before the first one that
    /// the plan is not stale.
    ///
    /// # Errors
    /// [`Halt::Differs`]. The inner error if that is unknown: see [`Self::check_plan`].
    pub(super) async fn check_approval(
        &mut self,
        write: &Write,
    ) -> Result<Result<(), Error>, Halt> {
        let is_outside = self.approval.as_ref().is_none_or(|plan| plan.is_outside(write));
        let checked = if is_outside { Ok(()) } else { self.check_plan().await? };
        if let Some(plan) = &mut self.approval {
            plan.reach(write).map_err(Halt::Differs)?;
        }
        Ok(checked)
    }

    /// Returns how this run differs from its plan.
    pub(super) fn differs(&self, text: &str) -> Option<Difference> {
        self.approval.as_ref().map(|plan| plan.approval.differs(text))
    }

    /// Returns the approved form of the current write.
    pub(super) fn approved_write(&self) -> Option<&Approved> {
        let plan = self.approval.as_ref()?;
        plan.approval.writes.get(plan.current?)
    }

    /// Records an answer of the plan as this run's own.
    pub(super) fn answer_from_plan(&mut self, n: u64, done: Done) -> Result<Reply, Halt> {
        let answer = answer(done.n, &done.effect, &done.outcome)?;
        let entry = Entry::Done(Box::new(Done { n, from_plan: Some(done.n), ..done }));
        self.append(entry, answer.as_ref().ok())?;
        Ok((n, answer))
    }
}
