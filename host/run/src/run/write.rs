//! A touch: prepared, opened in the journal, performed, closed. In a plan: prepared, and recorded only.

use super::decide::GrantedCall;
use super::{Halt, Reply, Run, recorded_form, timeout, within};
use crate::backend::{ApplyOutcome, Prepared};
use salve_core::approval::{Approved, Difference};
use salve_core::effect::delete_replicationsources::{
    Creation, CreationOutcome, Deletion, DeletionOutcome, DeletionTarget, Manifest,
};
use salve_core::effect::suspend_flux::{SuspendOutcome, SuspendResult};
use salve_core::effect::{Answer, Effect, Write};
use salve_core::journal::{Closed, Done, Entry, ObservedState, Opened, Origin};
use salve_core::outcome::Error;
use salve_core::plan;
use std::time::Duration;

/// How often a write is prepared anew after a conflict.
const ATTEMPTS: u32 = 5;
/// How long it may take to find out what became of a write that did not answer in time.
const SETTLING: Duration = Duration::from_secs(30);

/// Where a write stands before its next attempt.
pub(super) struct Attempts {
    /// What is left of it.
    pub rest: Write,
    /// What was applied of it.
    pub completed: Option<Answer>,
    /// What `prepare` has to know of what went before.
    pub before: Option<ObservedState>,
    /// What the last entry on the disk holds.
    pub opened: Option<ObservedState>,
    /// The number of the next attempt.
    pub first: u32,
    /// What the guest was granted; none for the host's own.
    pub granted: Option<GrantedCall>,
}

impl Run {
    pub(super) async fn plan(
        &mut self,
        n: u64,
        write: Write,
        granted: Option<GrantedCall>,
    ) -> Result<Reply, Halt> {
        let effect = Effect::Write(write.clone());
        let footprint = self.footprint(&effect);
        if let Write::Resume(_) = write {
            return self.planned(n, write, ObservedState::default());
        }
        let backend = self.context.backend.clone();
        match within(timeout(&effect), backend.prepare(&write, None, &footprint)).await {
            Err(error) => self.done(n, Origin::Guest, effect, Err(error)),
            Ok(Prepared::AlreadyDone(answer)) => self.done(n, Origin::Guest, effect, Ok(answer)),
            Ok(Prepared::Ready(observed)) => {
                if let Some(mut granted) = granted
                    && let Err(denial) = self
                        .decide_with_objects(&mut granted, &write, &observed.objects, true)
                        .await?
                {
                    return self.denied(n, effect, denial, Some(observed));
                }
                self.planned(n, write, observed)
            }
        }
    }

    fn planned(&mut self, n: u64, write: Write, observed: ObservedState) -> Result<Reply, Halt> {
        let at = self.context.clock.now();
        let answer = plan::predict(&write, &observed, at);
        let outcome = recorded_form(&Ok(answer.clone()))?;
        let done = Done {
            n,
            origin: Origin::Guest,
            at,
            effect: Effect::Write(write),
            outcome,
            denial: None,
            observed: Some(observed),
            from_plan: None,
        };
        self.append(Entry::Planned(Box::new(done)))?;
        Ok((n, Ok(answer)))
    }

    /// `granted` is the guest's; the host's own touches need none.
    pub(super) async fn perform_write(
        &mut self,
        n: u64,
        origin: Origin,
        write: Write,
        granted: Option<GrantedCall>,
    ) -> Result<Reply, Halt> {
        if origin == Origin::Guest {
            self.hold_the_cluster(&write).await?;
        }
        let from = Attempts {
            rest: write.clone(),
            completed: None,
            before: self.before(&write),
            opened: None,
            first: 1,
            granted,
        };
        self.attempts(n, origin, write, from).await
    }

    pub(super) async fn attempts(
        &mut self,
        n: u64,
        origin: Origin,
        write: Write,
        from: Attempts,
    ) -> Result<Reply, Halt> {
        let effect = Effect::Write(write.clone());
        let footprint = self.footprint(&effect);
        let backend = self.context.backend.clone();
        let Attempts { mut rest, mut completed, mut before, mut opened, first, mut granted } = from;
        // Whether the last attempt may have been applied, or may yet be, all the same.
        let mut unknown = false;
        let mut answer =
            Err(Error::Conflict(format!("it changed {ATTEMPTS} times while we tried")));
        for attempt in first..first + ATTEMPTS {
            let observed =
                match within(timeout(&effect), backend.prepare(&rest, before.as_ref(), &footprint))
                    .await
                {
                    Err(error) => {
                        answer = Err(error);
                        break;
                    }
                    Ok(Prepared::AlreadyDone(settled)) => {
                        self.meets_approval(origin, n, opened.is_some(), |approved| {
                            if attempt == first { approved.is_settled() } else { Ok(()) }
                        })?;
                        answer = Ok(settled);
                        break;
                    }
                    Ok(Prepared::Ready(observed)) => self.stamped(&write, observed),
                };
            self.meets_approval(origin, n, opened.is_some(), |approved| {
                approved.meets(&observed, opened.is_some())
            })?;
            if let Some(granted) = &mut granted
                && let Err(denial) = self
                    .decide_with_objects(granted, &rest, &observed.objects, opened.is_none())
                    .await?
            {
                if opened.is_none() {
                    return self.denied(n, effect, denial, Some(observed));
                }
                answer = Err(Error::Denied(denial.to_string()));
                break;
            }
            let at = self.context.clock.now();
            let entry = Entry::Opened(Box::new(Opened {
                n,
                origin,
                attempt,
                at,
                effect: Effect::Write(rest.clone()),
                observed: observed.clone(),
            }));
            let written =
                match (self.append(entry), must_be_synced(&write, &observed, opened.as_ref())) {
                    // mutant write-before-sync: self.sync() ~> Ok(())
                    (Ok(()), true) => self.sync(),
                    (written, _) => written,
                };
            match written {
                Ok(()) => opened = Some(observed.clone()),
                // A release is sent even where it cannot be recorded: frozen for ever is worse than unrecorded.
                // mutant unrecorded-resume-not-sent: Resume ~> Reconcile
                Err(_) if matches!(write, Write::Resume(_)) => {}
                // mutant write-after-failed-sync: (halt) => return Err(halt), ~> (_) => {}
                Err(halt) => return Err(halt),
            }
            let acted = tokio::select! {
                acted = tokio::time::timeout(timeout(&effect), backend.act(&rest, &observed, &footprint)) => acted,
                // mutant abandoned-write-recorded-as-failed: return Err(Halt::Stopped) ~>
                //     Ok(ApplyOutcome::Done(Err(Error::Unavailable("stopped".into()))))
                () = self.context.stop.wait_insisted(), if origin == Origin::Guest => return Err(Halt::Stopped),
            };
            match acted {
                Ok(ApplyOutcome::Done(done)) => {
                    (unknown, answer) = (done.is_err(), done);
                    break;
                }
                Ok(ApplyOutcome::Conflict { completed: part, rest: left, message }) => {
                    self.conflict(n, origin, part.clone(), message.clone())?;
                    completed = merge(&write, completed, part);
                    rest = left;
                    if !matches!(write, Write::Resume(_)) {
                        before = Some(observed);
                    }
                    answer = Err(Error::Conflict(message));
                }
                Err(_) => {
                    let late = format!("no answer within {} s", timeout(&effect).as_secs());
                    (completed, answer, unknown) =
                        self.settled_late(&write, &rest, &observed, completed, &late).await;
                    break;
                }
            }
        }
        let answer = whole(&write, completed, answer, opened.is_some(), unknown);
        match opened {
            Some(_) => self.closed(n, origin, answer),
            None => self.done(n, origin, effect, answer),
        }
    }

    /// What `prepare` has to know of what went before: of a release, what the suspend met whose end is not known.
    pub(super) fn before(&self, write: &Write) -> Option<ObservedState> {
        match write {
            Write::Resume(release) => {
                let doubt = self.state.suspensions.doubt(release)?;
                Some(ObservedState { objects: vec![doubt.clone()], at: self.context.clock.now() })
            }
            Write::AcquireLease(_)
            | Write::ReleaseLease(_)
            | Write::Suspend(_)
            | Write::Reconcile(_)
            | Write::Delete(_)
            | Write::Recreate(_)
            | Write::Restart(_) => None,
        }
    }

    /// Stops the guest where its touch meets something else than was approved.
    fn meets_approval(
        &mut self,
        origin: Origin,
        n: u64,
        opened: bool,
        meets: impl FnOnce(&Approved) -> Result<(), Difference>,
    ) -> Result<(), Halt> {
        let Some(Err(difference)) =
            self.as_approved().filter(|_| origin == Origin::Guest).map(meets)
        else {
            return Ok(());
        };
        if opened {
            drop(self.closed(n, origin, Err(Error::Denied(difference.to_string())))?);
        }
        Err(Halt::Differs(difference))
    }

    /// The time that a write carries. A request to reconcile carries one that follows from the run's beginning, so that
    /// one which is sent again after a crash is the same request.
    fn stamped(&self, write: &Write, observed: ObservedState) -> ObservedState {
        match write {
            // mutant reconcile-resent-as-new: self.began + self.state.reconciled(&reconcile.target) ~> observed.at
            Write::Reconcile(reconcile) => ObservedState {
                at: self.began + self.state.reconciled(&reconcile.target),
                ..observed
            },
            Write::AcquireLease(_)
            | Write::ReleaseLease(_)
            | Write::Suspend(_)
            | Write::Resume(_)
            | Write::Delete(_)
            | Write::Recreate(_)
            | Write::Restart(_) => observed,
        }
    }

    pub(super) fn conflict(
        &mut self,
        n: u64,
        origin: Origin,
        part: Option<Answer>,
        message: String,
    ) -> Result<(), Halt> {
        let at = self.context.clock.now();
        let outcome = part.map(|part| recorded_form(&Ok(part))).transpose()?;
        self.append_for(
            origin,
            Entry::Closed(Closed { n, at, outcome, conflict: Some(message), settled: false }),
        )
    }

    /// Finds out what became of a write that did not come to its end in time.
    async fn settled_late(
        &mut self,
        write: &Write,
        rest: &Write,
        observed: &ObservedState,
        completed: Option<Answer>,
        late: &str,
    ) -> (Option<Answer>, Result<Answer, Error>, bool) {
        let footprint = self.footprint(&Effect::Write(write.clone()));
        let backend = self.context.backend.clone();
        match tokio::time::timeout(SETTLING, backend.settle(rest, observed, &footprint)).await {
            Ok(ApplyOutcome::Done(answer)) => (completed, answer.clone(), answer.is_err()),
            Ok(ApplyOutcome::Conflict { completed: part, message, .. }) => (
                merge(write, completed, part),
                Err(Error::Unavailable(format!("{late}; {message}"))),
                false,
            ),
            Err(_) => (
                completed,
                Err(Error::Unavailable(format!("{late}; whether it was applied is not known"))),
                true,
            ),
        }
    }
}

/// Whether the disk has to hold this attempt before it is sent.
fn must_be_synced(write: &Write, observed: &ObservedState, opened: Option<&ObservedState>) -> bool {
    match write {
        // Unless an attempt before it has put the same on the disk.
        Write::AcquireLease(_)
        | Write::Suspend(_)
        | Write::Delete(_)
        | Write::Recreate(_)
        | Write::Restart(_) => opened.is_none_or(|before| !observed.same_as(before)),
        // The entry of its suspend stands there, and obliges to it whatever else is lost.
        Write::Resume(_) => false,
        // What it writes follows from the header.
        Write::Reconcile(_) => false,
        // Whoever takes the run up asks whether it holds the cluster.
        Write::ReleaseLease(_) => false,
    }
}

/// Adds what one attempt came to. Only a set can be applied in part.
pub(super) fn merge(
    write: &Write,
    completed: Option<Answer>,
    part: Option<Answer>,
) -> Option<Answer> {
    match (write, completed, part) {
        (Write::Delete(_), Some(Answer::Delete(mut all)), Some(Answer::Delete(more))) => {
            all.extend(more);
            Some(Answer::Delete(all))
        }
        (Write::Suspend(_), Some(Answer::Suspend(mut all)), Some(Answer::Suspend(more))) => {
            all.extend(more);
            Some(Answer::Suspend(all))
        }
        (Write::Recreate(_), Some(Answer::Recreate(mut all)), Some(Answer::Recreate(more))) => {
            all.extend(more);
            Some(Answer::Recreate(all))
        }
        (_, completed, None) => completed,
        (_, _, part) => part,
    }
}

/// The whole answer: for a set in its own order, with what never came to an end marked as such.
pub(super) fn whole(
    write: &Write,
    completed: Option<Answer>,
    last: Result<Answer, Error>,
    opened: bool,
    unknown: bool,
) -> Result<Answer, Error> {
    let is_set = match write {
        Write::Delete(_) | Write::Suspend(_) | Write::Recreate(_) => true,
        Write::AcquireLease(_)
        | Write::ReleaseLease(_)
        | Write::Resume(_)
        | Write::Reconcile(_)
        | Write::Restart(_) => false,
    };
    if !is_set {
        return last;
    }
    let (part, why) = match last {
        Ok(answer) => (Some(answer), None),
        // Nothing was sent: the set as a whole came to nothing.
        Err(error) if !opened => return Err(error),
        // Nobody can tell which of the set are suspended: all of it is given back.
        Err(error) if unknown && matches!(write, Write::Suspend(_)) => return Err(error),
        Err(error) => (None, Some(error)),
    };
    let parts = merge(write, completed, part);
    match (write, parts) {
        (Write::Delete(delete), Some(Answer::Delete(deletions))) => Ok(Answer::Delete(
            delete.set.iter().map(|f| deletion(f, &deletions, why.as_ref())).collect(),
        )),
        (Write::Delete(delete), None) => {
            Ok(Answer::Delete(delete.set.iter().map(|f| deletion(f, &[], why.as_ref())).collect()))
        }
        (Write::Suspend(suspend), parts) => {
            let holds = match parts {
                Some(Answer::Suspend(holds)) => holds,
                None => vec![],
                Some(_) => return Err(another()),
            };
            let mut failed = false;
            Ok(Answer::Suspend(
                suspend
                    .targets
                    .iter()
                    .map(|target| hold(target, &holds, why.as_ref(), &mut failed))
                    .collect(),
            ))
        }
        (Write::Recreate(recreate), parts) => {
            let made = match parts {
                Some(Answer::Recreate(made)) => made,
                None => vec![],
                Some(_) => return Err(another()),
            };
            let one = |m: &Manifest| {
                made.iter().find(|one| one.object == m.object).cloned().unwrap_or_else(|| {
                    Creation {
                        object: m.object.clone(),
                        outcome: CreationOutcome::Rejected,
                        message: Some(why.as_ref().map_or_else(
                            || "nothing was said about it".into(),
                            ToString::to_string,
                        )),
                    }
                })
            };
            Ok(Answer::Recreate(recreate.set.iter().map(one).collect()))
        }
        (
            Write::AcquireLease(_)
            | Write::ReleaseLease(_)
            | Write::Delete(_)
            | Write::Resume(_)
            | Write::Reconcile(_)
            | Write::Restart(_),
            _,
        ) => Err(another()),
    }
}

fn another() -> Error {
    Error::Unavailable("the backend answered a set with another call's answer".into())
}

fn deletion(frozen: &DeletionTarget, deletions: &[Deletion], why: Option<&Error>) -> Deletion {
    deletions
        .iter()
        .find(|d| d.uid == frozen.uid && d.object == frozen.object)
        .cloned()
        .unwrap_or_else(|| Deletion {
            object: frozen.object.clone(),
            uid: frozen.uid.clone(),
            outcome: if matches!(why, Some(Error::Unavailable(_))) {
                DeletionOutcome::Unknown
            } else {
                DeletionOutcome::Rejected
            },
            message: Some(
                why.map_or_else(|| "nothing was said about it".into(), ToString::to_string),
            ),
        })
}

/// The first that nothing was said about is the one that failed; those after it were not tried.
fn hold(
    target: &salve_core::effect::shared::FluxRef,
    holds: &[SuspendResult],
    why: Option<&Error>,
    failed: &mut bool,
) -> SuspendResult {
    if let Some(known) = holds.iter().find(|hold| hold.target == *target) {
        return known.clone();
    }
    let outcome = if std::mem::replace(failed, true) {
        SuspendOutcome::NotTried
    } else {
        let error = why
            .cloned()
            .unwrap_or_else(|| Error::Unavailable(format!("nothing was said about {target}")));
        SuspendOutcome::Failed { error, doubtful: false }
    };
    SuspendResult { target: target.clone(), outcome }
}
