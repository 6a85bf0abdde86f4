//! Plans a run again before the first write of its approved plan: calls the guest a second time,
//! answers it from the run's own journal up to there, and sends nothing. What it would write now is
//! compared with the plan.

use super::{CALL_TIMEOUT, Halt, Mode, Run, RunContext};
use crate::journal::InMemory;
use crate::observer::NoPrompt;
use crate::replay_cursor::ReplayCursor;
use crate::stop::Stop;
use futures::future::BoxFuture;
use salve_core::approval::Approval;
use salve_core::journal::{Entry, GuestExit, Header, Origin};
use salve_core::outcome::{Error, Fault};
use std::fmt;
use std::sync::Arc;

/// Calls the guest of a run a second time.
pub trait Planner: Send + Sync {
    /// Calls the guest on `run`, which sends nothing, until it ends.
    fn plan(&self, run: Run) -> BoxFuture<'static, GuestExit>;
}

/// What is needed to plan a run again.
#[derive(Clone)]
pub(super) struct Replan {
    planner: Arc<dyn Planner>,
    header: Header,
    /// The entries so far.
    entries: Vec<Entry>,
}

impl fmt::Debug for Replan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replan").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Replan {
    pub fn record(&mut self, entry: &Entry) {
        self.entries.push(entry.clone());
    }

    /// Returns whether the guest has sent nothing yet.
    fn is_before_first_write(&self) -> bool {
        self.entries.iter().filter_map(Entry::opened).all(|opened| opened.origin == Origin::Host)
    }
}

impl Run {
    /// Sets how to plan the run again, before the first write of its approved plan. `earlier` are
    /// the entries of the process that it continues, if any.
    #[must_use]
    pub fn with_planner(
        mut self,
        planner: Arc<dyn Planner>,
        header: Header,
        earlier: Vec<Entry>,
    ) -> Self {
        if self.approval.is_some() {
            self.replan = Some(Replan { planner, header, entries: earlier });
        }
        self
    }

    /// Returns how what the guest would write differs from the approved plan, after `done` of its
    /// writes. Nothing if the guest has sent something already: the rest cannot be planned then.
    ///
    /// # Errors
    /// The inner error if the guest could not be asked.
    pub(super) async fn plan_again(
        &mut self,
        approval: &Approval,
        done: usize,
    ) -> Result<Result<Vec<String>, Error>, Halt> {
        let replan = self.replan.as_ref().filter(|replan| replan.is_before_first_write());
        let Some(replan) = replan else { return Ok(Ok(vec![])) };
        let journal = InMemory::default();
        let context = RunContext {
            backend: self.context.backend.clone(),
            clock: self.context.clock.clone(),
            journal: Box::new(journal.clone()),
            observers: vec![],
            prompt: Box::new(NoPrompt),
            stop: Stop::default(),
            mode: Mode::Plan,
        };
        let mut run = Self::new(context, &replan.header, self.grants.clone());
        run.cursor = ReplayCursor::new(replan.entries.clone());
        let limit = CALL_TIMEOUT.min(self.time_left());
        let exit = tokio::select! {
            exit = tokio::time::timeout(limit, replan.planner.plan(run)) => exit,
            () = self.context.stop.wait() => return Err(Halt::Stopped),
        };
        let end = match exit {
            Err(_) => {
                return Ok(Err(not_planned(&format!(
                    "the guest did not finish within {} s",
                    limit.as_secs()
                ))));
            }
            Ok(GuestExit::Failed(failure)) if failure.fault == Fault::Cluster => {
                return Ok(Err(not_planned(&failure.text)));
            }
            Ok(GuestExit::Failed(failure)) => failure.text,
            Ok(GuestExit::Concluded(conclusion) | GuestExit::Restored(conclusion)) => {
                conclusion.summary
            }
            Ok(GuestExit::Diagnosed(diagnosis)) => diagnosis.summary,
            Ok(GuestExit::PlanEnds(why) | GuestExit::Stale(why)) => why,
            Ok(GuestExit::Stopped(_) | GuestExit::Died(_)) => "it was stopped".to_owned(),
        };
        let now = Approval::of(&approval.plan, &approval.digest, &journal.entries());
        // mutant changed-set-found-at-its-write: approval.compare(done, &now.writes, &end) ~>
        //     vec![]
        Ok(Ok(approval.compare(done, &now.writes, &end)))
    }
}

fn not_planned(why: &str) -> Error {
    Error::Unavailable(format!(
        "failed to check the approved plan again, so nothing was sent: {why}"
    ))
}
