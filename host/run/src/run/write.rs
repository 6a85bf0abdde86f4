//! A write: read, opened in the journal, sent, and closed. In a plan: read and recorded only.

use super::decide::GrantedCall;
use super::{Halt, Reply, Run, bounded, journal_form, timeout, within};
use crate::backend::{ApplyOutcome, Current};
use salve_core::Millis;
use salve_core::approval::Approved;
use salve_core::capability::call::Durability;
use salve_core::capability::{Answer, Effect, Unfinished, Write};
use salve_core::grants::Denial;
use salve_core::journal::{Closed, Done, Entry, ObservedState, Opened, Origin};
use salve_core::outcome::Error;
use std::time::Duration;

/// How often a write is prepared because of conflicts.
pub(super) const ATTEMPTS: u32 = 5;
/// How long it may take to determine the outcome of a write that did not respond in time.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);

/// A write between its attempts.
pub(super) struct WriteAttempts {
    pub n: u64,
    pub origin: Origin,
    /// As it was asked for.
    pub write: Write,
    /// What is still to be done.
    pub remaining: Write,
    /// The answers for what was applied.
    pub parts: Vec<Answer>,
    /// What the previous attempt was prepared against.
    pub before: Option<ObservedState>,
    /// What the latest entry on disk has.
    pub opened: Option<ObservedState>,
    /// The number of the next attempt.
    pub attempt: u32,
    /// None for the host's own writes.
    pub granted: Option<GrantedCall>,
    /// When it ends, finished or not, by the cluster's clock.
    pub until: Millis,
}

/// What follows the preparation of an attempt.
#[expect(clippy::large_enum_variant, reason = "a call has one, for a moment")]
enum Prepared {
    /// It was opened and can be sent.
    Opened(ObservedState),
    /// It needs no request, or cannot be sent.
    Finished(Result<Answer, Error>),
    /// The grants do not allow it for these objects. Nothing was sent.
    Denied(Denial, ObservedState),
}

/// What follows an attempt.
#[expect(clippy::large_enum_variant, reason = "a call has one, for a moment")]
enum Attempted {
    Finished {
        answer: Result<Answer, Error>,
        unknown: bool,
    },
    /// A conflict: the rest is to be prepared again.
    Again(Error),
}

impl Run {
    /// Reads what a write would be sent against, and records it with its predicted answer.
    pub(super) async fn plan_write(
        &mut self,
        n: u64,
        write: Write,
        granted: Option<GrantedCall>,
    ) -> Result<Reply, Halt> {
        let effect = Effect::Write(write.clone());
        let footprint = self.footprint(&effect);
        let backend = self.context.backend.clone();
        let read = backend.read_current(&write, None, &footprint);
        let observed = match within(timeout(&effect), read).await {
            Err(error) => return self.done(n, Origin::Guest, effect, Err(error)),
            Ok(Current::AlreadyDone(answer)) => {
                return self.done(n, Origin::Guest, effect, Ok(answer));
            }
            Ok(Current::Ready(observed)) => observed,
        };
        if let Some(mut granted) = granted
            && let Err(denial) =
                self.decide_with_objects(&mut granted, &write, &observed.objects, true).await?
        {
            return self.denied(n, effect, denial, Some(observed));
        }
        let at = self.context.clock.now();
        let answer = Ok(write.predict(&observed, at));
        let entry = Entry::Planned(Box::new(Done {
            n,
            origin: Origin::Guest,
            at,
            effect,
            outcome: journal_form(&answer)?,
            denial: None,
            observed: Some(observed),
            from_plan: None,
        }));
        self.append(entry, answer.as_ref().ok())?;
        Ok((n, answer))
    }

    pub(super) async fn perform_write(
        &mut self,
        n: u64,
        origin: Origin,
        write: Write,
        granted: Option<GrantedCall>,
    ) -> Result<Reply, Halt> {
        let attempts = WriteAttempts {
            n,
            origin,
            remaining: write.clone(),
            write,
            parts: vec![],
            before: None,
            opened: None,
            attempt: 1,
            granted,
            until: self.end_of_write(origin),
        };
        self.attempt_write(attempts).await
    }

    /// Returns when a write that begins now ends, by the cluster's clock: at the deadline, so that
    /// the guest can clean up, or, if that has passed, when the guest is stopped. The host's own
    /// writes have no end.
    pub(super) fn end_of_write(&self, origin: Origin) -> Millis {
        match origin {
            // mutant write-outlasts-deadline: self.deadline => self.deadline ~>
            //     self.deadline => Millis::MAX
            Origin::Guest if self.context.clock.now() < self.deadline => self.deadline,
            Origin::Guest => self.due,
            Origin::Host => Millis::MAX,
        }
    }

    /// Returns how long a write may still take, and at most as long as one call may.
    fn limit(&self, a: &WriteAttempts) -> Duration {
        let left = Duration::from_millis(a.until.saturating_sub(self.context.clock.now()));
        left.min(timeout(&Effect::Write(a.write.clone())))
    }

    /// Prepares and sends a write until it is finished or has conflicted [`ATTEMPTS`] times.
    pub(super) async fn attempt_write(&mut self, mut a: WriteAttempts) -> Result<Reply, Halt> {
        let (first, last) = (a.attempt, a.attempt + ATTEMPTS);
        let mut finished = (Err(Error::Conflict("not tried".into())), false);
        while a.attempt < last {
            // mutant resent-after-deadline: self.limit(&a).is_zero() ~> false
            if self.limit(&a).is_zero() {
                finished = (Err(deadline_passed()), false);
                break;
            }
            let observed = match self.prepare(&mut a, first).await? {
                Prepared::Opened(observed) => observed,
                Prepared::Finished(answer) => {
                    finished = (answer, false);
                    break;
                }
                Prepared::Denied(denial, observed) => {
                    return self.denied(a.n, Effect::Write(a.write), denial, Some(observed));
                }
            };
            match self.send(&mut a, observed).await? {
                Attempted::Finished { answer, unknown } => {
                    finished = (answer, unknown);
                    break;
                }
                Attempted::Again(conflict) => finished = (Err(conflict), false),
            }
            a.attempt += 1;
        }
        let (answer, unknown) = finished;
        let answer = assemble(&a.write, a.parts, answer, a.opened.is_some(), unknown);
        match a.opened {
            Some(_) => self.closed(a.n, a.origin, answer),
            None => self.done(a.n, a.origin, Effect::Write(a.write), answer),
        }
    }

    /// Reads the objects, checks approval and grants against them, and opens the attempt.
    async fn prepare(&mut self, a: &mut WriteAttempts, first: u32) -> Result<Prepared, Halt> {
        let effect = Effect::Write(a.write.clone());
        let (footprint, backend) = (self.footprint(&effect), self.context.backend.clone());
        let read = backend.read_current(&a.remaining, a.before.as_ref(), &footprint);
        let observed =
            match within(self.limit(a), read).await {
                Err(error) => return Ok(Prepared::Finished(Err(error))),
                Ok(Current::AlreadyDone(answer)) => {
                    let is_first = a.attempt == first;
                    self.compare_with_plan(a, |approved| {
                        if is_first { approved.is_settled() } else { Ok(()) }
                    })?;
                    return Ok(Prepared::Finished(Ok(answer)));
                }
                Ok(Current::Ready(observed)) => self.stamp(&a.write, observed),
            };
        let was_opened = a.opened.is_some();
        self.compare_with_plan(a, |approved| approved.meets(&observed, was_opened))?;
        let mut observed = observed;
        if let Some(granted) = &mut a.granted {
            let was_approved = granted.is_approved();
            let decided = self
                .decide_with_objects(granted, &a.remaining, &observed.objects, !was_opened)
                .await?;
            match decided {
                Ok(()) => {}
                Err(denial) if !was_opened => return Ok(Prepared::Denied(denial, observed)),
                Err(denial) => {
                    return Ok(Prepared::Finished(Err(Error::Denied(denial.to_string()))));
                }
            }
            if granted.is_approved() {
                // The user was asked about these objects, and they may have changed since.
                let shown = granted.shown.get_or_insert_with(|| Approved {
                    write: a.remaining.clone(),
                    observed: observed.clone(),
                });
                let shown = shown.clone();
                if !was_approved {
                    let read = backend.read_current(&a.remaining, a.before.as_ref(), &footprint);
                    match within(self.limit(a), read).await {
                        Err(error) => return Ok(Prepared::Finished(Err(error))),
                        Ok(Current::AlreadyDone(answer)) => {
                            return Ok(Prepared::Finished(Ok(answer)));
                        }
                        Ok(Current::Ready(again)) => observed = self.stamp(&a.write, again),
                    }
                }
                // mutant approved-object-changed: &observed, was_opened ~> &shown.observed, true
                let changed = shown.differences(&observed, was_opened, "after it was approved");
                if !changed.is_empty() {
                    let error = Error::Conflict(changed.join("; "));
                    return Ok(Prepared::Finished(Err(error)));
                }
            }
        }
        // The user may have taken long to answer.
        // mutant approved-after-deadline: self.limit(a).is_zero() ~> false
        if self.limit(a).is_zero() {
            return Ok(Prepared::Finished(Err(deadline_passed())));
        }
        let entry = Entry::Opened(Box::new(Opened {
            n: a.n,
            origin: a.origin,
            attempt: a.attempt,
            at: self.context.clock.now(),
            effect: Effect::Write(a.remaining.clone()),
            observed: observed.clone(),
        }));
        self.append(entry, None)?;
        if must_be_synced(&a.write, &observed, a.opened.as_ref()) {
            // mutant write-before-sync: self.sync()? ~> ()
            // mutant write-after-failed-sync: self.sync()? ~> drop(self.sync())
            self.sync()?;
        }
        a.opened = Some(observed.clone());
        Ok(Prepared::Opened(observed))
    }

    /// Sends an opened attempt. A timeout is resolved by reading.
    async fn send(
        &mut self,
        a: &mut WriteAttempts,
        observed: ObservedState,
    ) -> Result<Attempted, Halt> {
        let effect = Effect::Write(a.write.clone());
        let (footprint, limit) = (self.footprint(&effect), self.limit(a));
        let (backend, clock) = (self.context.backend.clone(), self.context.clock.clone());
        let apply = backend.apply(&a.remaining, &observed, &footprint);
        let applied = tokio::select! {
            applied = bounded(&*clock, a.until, limit, apply) => applied,
            // mutant abandoned-write-recorded-as-failed: return Err(Halt::Stopped) ~>
            //     Ok(ApplyOutcome::Done(Err(Error::Unavailable("stopped".into()))))
            () = self.context.stop.wait_insisted(), if a.origin == Origin::Guest => {
                return Err(Halt::Stopped)
            }
        };
        match applied {
            Some(ApplyOutcome::Done(answer)) => {
                Ok(Attempted::Finished { unknown: answer.is_err(), answer })
            }
            Some(ApplyOutcome::Conflict { completed, remaining, message, in_doubt }) => {
                self.conflict(a.n, a.origin, completed.clone(), message.clone(), in_doubt)?;
                a.parts.extend(completed);
                a.remaining = remaining;
                a.before = Some(observed);
                Ok(Attempted::Again(Error::Conflict(message)))
            }
            None => {
                let late = if limit < timeout(&effect) {
                    "it was not finished at the run's deadline".to_owned()
                } else {
                    format!("no response within {} s", limit.as_secs())
                };
                Ok(self.resolve_late(a, &observed, &late).await)
            }
        }
    }

    /// Determines the outcome of a write that did not respond in time.
    async fn resolve_late(
        &mut self,
        a: &mut WriteAttempts,
        observed: &ObservedState,
        late: &str,
    ) -> Attempted {
        let footprint = self.footprint(&Effect::Write(a.write.clone()));
        let backend = self.context.backend.clone();
        let resolve = backend.resolve(&a.remaining, observed, &footprint);
        match tokio::time::timeout(RESOLVE_TIMEOUT, resolve).await {
            Ok(ApplyOutcome::Done(answer)) => {
                Attempted::Finished { unknown: answer.is_err(), answer }
            }
            Ok(ApplyOutcome::Conflict { completed, message, in_doubt, .. }) => {
                a.parts.extend(completed);
                let error = Error::Unavailable(format!("{late}; {message}"));
                Attempted::Finished { answer: Err(error), unknown: in_doubt }
            }
            Err(_) => {
                let error = Error::Unavailable(format!("{late}; the outcome is unknown"));
                Attempted::Finished { answer: Err(error), unknown: true }
            }
        }
    }

    /// Stops the guest if a write observes something else than was approved.
    fn compare_with_plan(
        &mut self,
        a: &WriteAttempts,
        compare: impl FnOnce(&Approved) -> Result<(), String>,
    ) -> Result<(), Halt> {
        let approved = self.approved_write().filter(|_| a.origin == Origin::Guest);
        let Some(Err(text)) = approved.map(compare) else { return Ok(()) };
        let Some(difference) = self.differs(&text) else { return Ok(()) };
        if a.opened.is_some() {
            drop(self.closed(a.n, a.origin, Err(Error::Denied(difference.to_string())))?);
        }
        Err(Halt::Differs(difference))
    }

    /// Sets the time that a write carries, if it must be the same after a crash.
    fn stamp(&self, write: &Write, observed: ObservedState) -> ObservedState {
        let earlier = self.state.stamped_before(write);
        // mutant reconcile-resent-as-new: write.stamp(self.began, earlier) ~>
        //     write.stamp(self.began, earlier).map(|_| observed.at)
        match write.stamp(self.began, earlier) {
            Some(at) => ObservedState { at, ..observed },
            None => observed,
        }
    }

    /// Records that an attempt conflicted, with the answer for what was applied.
    pub(super) fn conflict(
        &mut self,
        n: u64,
        origin: Origin,
        completed: Option<Answer>,
        message: String,
        in_doubt: bool,
    ) -> Result<(), Halt> {
        let outcome = completed.clone().map(|answer| journal_form(&Ok(answer))).transpose()?;
        let closed = Closed {
            n,
            at: self.context.clock.now(),
            outcome,
            conflict: Some(message),
            in_doubt,
            resolved: false,
        };
        self.append_for(origin, Entry::Closed(closed), completed.as_ref())
    }
}

fn deadline_passed() -> Error {
    Error::Unavailable(
        "the run's deadline has passed, so the rest of this write was not sent".into(),
    )
}

/// Returns whether an attempt must be on disk before it is sent. An earlier attempt against the
/// same state suffices.
fn must_be_synced(write: &Write, observed: &ObservedState, opened: Option<&ObservedState>) -> bool {
    match write.durability() {
        Durability::Synced => opened.is_none_or(|before| !observed.same_as(before)),
        Durability::Derived => false,
    }
}

/// Combines the answers of all attempts.
pub(super) fn assemble(
    write: &Write,
    mut parts: Vec<Answer>,
    last: Result<Answer, Error>,
    sent: bool,
    unknown: bool,
) -> Result<Answer, Error> {
    match last {
        Ok(answer) => {
            parts.push(answer);
            write.assemble(parts, None)
        }
        Err(error) => write.assemble(parts, Some(&Unfinished { error, sent, unknown })),
    }
}
