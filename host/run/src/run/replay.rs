//! Replay: a recorded outcome takes precedence. A recovered run continues where its journal ends;
//! an offline replay ends there.

use super::approved::BoundPlan;
use super::decide::GrantedCall;
use super::write::{WriteAttempts, assemble};
use super::{Halt, Mode, Reply, Run, RunContext, timeout};
use crate::backend::{ApplyOutcome, Backend, Clock, Current, ReleaseOutcome};
use crate::journal::InMemory;
use crate::observer::NoPrompt;
use crate::replay_cursor::{Answered, InDoubt, RecordedCall, ReplayCursor};
use crate::stop::Stop;
use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::capability::{Answer, Effect, Local, Read, Released, Reversal, Write};
use salve_core::footprint::Footprint;
use salve_core::grants::{Grants, Layer};
use salve_core::journal::{Entry, GuestExit, Header, ObservedState, Origin, Recovery, RunResult};
use salve_core::outcome::Error;
use std::sync::Arc;
use std::time::Duration;

impl Run {
    /// Continues a run whose process died.
    ///
    /// # Guarantees
    /// The guest is answered from the journal as far as it reaches, and none of that is performed
    /// again. A write without an outcome is resolved by reading. New calls must pass the grants of
    /// then *and* of now.
    ///
    /// # Errors
    /// [`Halt::Broken`] if the entries do not start with a header, or the journal rejects the
    /// recovery.
    pub fn recover(
        context: RunContext,
        entries: Vec<Entry>,
        recovery: Recovery,
    ) -> Result<Self, Halt> {
        let header = header(&entries)?.clone();
        let mut layers = header.grants.layers.clone();
        let earlier = entries.iter().filter_map(Entry::recovery).map(|before| &before.current);
        // mutant current-policy-ignored: earlier.chain([&recovery.current]) ~> earlier
        for layer in earlier.chain([&recovery.current]).flat_map(|grants| &grants.layers) {
            add(&mut layers, layer);
        }
        let cursor = ReplayCursor::new(entries);
        let mut run = Self::with_cursor(context, &header, Grants { layers }, cursor);
        // Observers see it now; the state applies the entries before it first.
        let entry = Entry::Recovery(Box::new(recovery));
        let written = run.context.journal.append(&entry);
        let written = run.check_journal(written);
        run.notify(|observer| {
            observer.on_entry(salve_core::journal::Recorded { entry: &entry, answer: None });
        });
        written.map(|()| run)
    }

    /// Replays offline: the guest is answered from the journal and halted where that ends. With
    /// `other` grants, the first call on which they decide differently halts it.
    ///
    /// # Errors
    /// [`Halt::Broken`] if the entries do not start with a header.
    pub fn replay(entries: Vec<Entry>, other: Option<Grants>) -> Result<Self, Halt> {
        let header = header(&entries)?.clone();
        let context = RunContext {
            backend: Arc::new(Offline),
            clock: Arc::new(FixedClock(header.at)),
            journal: Box::new(InMemory::default()),
            observers: vec![],
            prompt: Box::new(NoPrompt),
            stop: Stop::default(),
            mode: Mode::Replay,
        };
        let compares_decisions = other.is_some();
        let cursor = ReplayCursor::new(entries);
        let mut run = Self::with_cursor(context, &header, other.unwrap_or_default(), cursor);
        run.compares_decisions = compares_decisions;
        Ok(run)
    }

    fn with_cursor(
        context: RunContext,
        header: &Header,
        grants: Grants,
        cursor: ReplayCursor,
    ) -> Self {
        let mut run = Self::new(context, header, grants);
        let approval = cursor.remaining().find_map(Entry::approval);
        run.approval = approval.cloned().map(BoundPlan::new);
        run.cursor = cursor;
        run
    }

    /// Returns how the guest ended, if the journal has it. Then there is nothing to replay before
    /// the run is finished.
    pub fn recorded_exit(&self) -> Option<GuestExit> {
        self.cursor.remaining().find_map(Entry::guest_exit).cloned()
    }

    /// Returns the step in which the journal ends.
    pub fn recorded_step(&self) -> Option<String> {
        let steps = self.cursor.remaining().filter_map(|entry| match entry {
            Entry::Done(done) => match &done.effect {
                Effect::Local(Local::Step(step)) => Some(step.name.clone()),
                Effect::Local(
                    Local::Now(_)
                    | Local::Sleep(_)
                    | Local::Note(_)
                    | Local::AskUser(_)
                    | Local::Observed(_),
                )
                | Effect::Read(_)
                | Effect::Write(_)
                | Effect::Reversal(_) => None,
            },
            Entry::Header(_)
            | Entry::Approved(_)
            | Entry::Recovery(_)
            | Entry::Opened(_)
            | Entry::Closed(_)
            | Entry::Planned(_)
            | Entry::GuestExited(_)
            | Entry::Verdict(_) => None,
        });
        steps.last()
    }

    /// Returns where a guest that ended by itself diverged from its journal: at a call that it made
    /// then and does not make now.
    pub fn diverged_early(&self, end: &str) -> Option<Halt> {
        // mutant omitted-calls-unnoticed: self.cursor.next_call() ~>
        //     self.cursor.next_call().filter(|(n, _)| *n == 0)
        self.cursor.next_call().map(|(n, effect)| Halt::Diverged {
            n,
            expected: describe(effect),
            got: end.to_owned(),
        })
    }

    /// Returns the result of a replay that ended like this, by the journal alone.
    pub fn result(mut self, exit: &GuestExit) -> RunResult {
        self.cursor.pass(&mut self.state);
        let at = self.state.result.as_ref().map_or(self.began, |result| result.at);
        RunResult { at, ..self.result_of(exit) }
    }

    /// Answers a call from the journal, or resolves one that has no outcome there.
    pub(super) async fn replay_call(
        &mut self,
        recorded: RecordedCall,
        effect: Effect,
    ) -> Result<Reply, Halt> {
        // mutant argument-divergence-unnoticed: *recorded.effect() != effect ~>
        //     recorded.effect().name() != effect.name()
        // mutant divergence-unnoticed: != effect ~> != effect && self.compares_decisions
        if *recorded.effect() != effect {
            return Err(Halt::Diverged {
                n: recorded.n(),
                expected: describe(recorded.effect()),
                got: describe(&effect),
            });
        }
        if self.compares_decisions {
            self.compare_decision(&recorded)?;
        }
        let is_offline = self.context.mode == Mode::Replay;
        match recorded {
            // The guest never got this answer.
            RecordedCall::Answered(answered)
                if answered.resolved && is_offline && self.guest_was_gone() =>
            {
                Err(Halt::JournalEnds { asked: describe(&effect) })
            }
            RecordedCall::Answered(answered) => {
                let Answered { n, answer, denied, observed, .. } = *answered;
                let answer = answer.ok_or_else(|| {
                    Halt::Broken(format!("the recorded answer of entry {n} cannot be read"))
                })?;
                // mutant attempts-before-crash-forgotten: !denied ~> denied
                if !denied && effect.validate().is_ok() {
                    let objects = observed.as_ref().map_or(&[][..], |observed| &observed.objects);
                    self.grants.count(&effect, objects, &mut self.tally);
                }
                // One that was denied with its objects had been compared with the plan.
                if effect.validate().is_ok() && (!denied || observed.is_some()) {
                    self.count_approved(&effect);
                }
                if let (Effect::Read(read), Ok(answer)) = (&effect, &answer) {
                    self.tally.record_evidence(read, answer);
                }
                Ok((n, answer))
            }
            RecordedCall::InDoubt(_) if is_offline => {
                Err(Halt::JournalEnds { asked: describe(&effect) })
            }
            RecordedCall::InDoubt(in_doubt) => self.resolve(*in_doubt).await,
        }
    }

    /// Counts a write that was made before as one of the approved ones.
    fn count_approved(&mut self, effect: &Effect) {
        if let (Effect::Write(write), Some(plan)) = (effect, &mut self.approval) {
            plan.count(write);
        }
    }

    /// Returns whether nothing of the guest is recorded after the latest replayed call, not even
    /// how it ended.
    fn guest_was_gone(&self) -> bool {
        let recorded = self.cursor.remaining().find_map(Entry::guest_exit);
        let broke_off = match recorded.or(self.state.exit.as_ref()) {
            Some(GuestExit::Died(_) | GuestExit::Stopped(_)) | None => true,
            Some(
                GuestExit::Diagnosed(_)
                | GuestExit::Concluded(_)
                | GuestExit::Restored(_)
                | GuestExit::PlanEnds(_)
                | GuestExit::Stale(_)
                | GuestExit::Failed(_),
            ) => false,
        };
        broke_off && self.cursor.is_over()
    }

    /// Checks that other grants decide as those of the run did.
    fn compare_decision(&mut self, recorded: &RecordedCall) -> Result<(), Halt> {
        let effect = recorded.effect();
        let (denied, observed) = match recorded {
            RecordedCall::Answered(answered) => (answered.denied, answered.observed.as_ref()),
            RecordedCall::InDoubt(in_doubt) => (false, Some(&in_doubt.last.observed)),
        };
        if effect.validate().is_err() {
            return Ok(());
        }
        let objects = observed.map_or(&[][..], |observed| &observed.objects);
        let decision = self.grants.decide_with_objects(effect, objects, &self.tally, None);
        let (then, now) = match (denied, decision) {
            (true, Err(_)) | (false, Ok(_)) => return Ok(()),
            // A person was asked, and their answer now is unknown.
            (true, Ok(permit)) if permit.approval.is_some() => return Ok(()),
            (true, Ok(_)) => ("denied".to_owned(), "allowed".to_owned()),
            (false, Err(denial)) => ("allowed".to_owned(), format!("denied: {denial}")),
        };
        Err(Halt::Diverged {
            n: recorded.n(),
            expected: format!("{}: {then}", describe(effect)),
            got: format!("{}: {now}", describe(effect)),
        })
    }

    /// Resolves a call in doubt, and continues with what was not applied, if that is still allowed.
    async fn resolve(&mut self, in_doubt: InDoubt) -> Result<Reply, Halt> {
        let n = in_doubt.last.n;
        match (in_doubt.effect, in_doubt.last.effect) {
            (Effect::Write(write), Effect::Write(remaining)) => {
                let attempts = WriteAttempts {
                    n,
                    origin: Origin::Guest,
                    write,
                    remaining,
                    parts: in_doubt.completed,
                    before: None,
                    opened: Some(in_doubt.last.observed),
                    attempt: in_doubt.last.attempt + 1,
                    granted: None,
                    until: self.end_of_write(Origin::Guest),
                };
                self.resolve_write(attempts).await
            }
            // Performing it again is harmless.
            (Effect::Reversal(reversal), _) => {
                let first = in_doubt.last.attempt + 1;
                self.perform_reversal(n, Origin::Guest, reversal, first).await
            }
            (Effect::Local(_) | Effect::Read(_) | Effect::Write(_), _) => {
                Err(Halt::Broken(format!("entry {n} was opened but is not a write")))
            }
        }
    }

    async fn resolve_write(&mut self, mut a: WriteAttempts) -> Result<Reply, Halt> {
        let (n, effect) = (a.n, Effect::Write(a.write.clone()));
        let observed = a.opened.clone().unwrap_or_default();
        self.count_approved(&effect);
        let (footprint, limit) = (self.footprint(&effect), timeout(&effect));
        let backend = self.context.backend.clone();
        // mutant in-doubt-not-read: backend.resolve(&a.remaining, &observed, &footprint) ~>
        //     std::future::ready(ApplyOutcome::Conflict { completed: None,
        //     remaining: a.remaining.clone(), message: "not applied".into(), in_doubt: false })
        let resolve = backend.resolve(&a.remaining, &observed, &footprint);
        let resolved = tokio::select! {
            resolved = tokio::time::timeout(limit, resolve) => resolved,
            () = self.context.stop.wait_insisted() => return Err(Halt::Stopped),
        };
        let message = match resolved {
            Ok(ApplyOutcome::Done(answer)) => {
                self.grants.count(&effect, &observed.objects, &mut self.tally);
                let unknown = answer.is_err();
                let answer = assemble(&a.write, a.parts, answer, true, unknown);
                return self.closed(n, Origin::Guest, answer);
            }
            Ok(ApplyOutcome::Conflict { completed, remaining, message, in_doubt }) => {
                self.conflict(n, a.origin, completed.clone(), message.clone(), in_doubt)?;
                a.parts.extend(completed);
                a.remaining = remaining;
                message
            }
            Err(_) => format!("no response within {} s; the outcome is unknown", limit.as_secs()),
        };
        let allowed = self.grants.decide(&Effect::Write(a.remaining.clone()), &self.tally);
        let counted = self.grants.count(&effect, &observed.objects, &mut self.tally);
        if let Err(denial) = allowed {
            let error = Error::Denied(format!("{message}; it is not allowed now: {denial}"));
            self.state.denials.push(denial);
            let answer = assemble(&a.write, a.parts, Err(error), true, false);
            return self.closed(n, Origin::Guest, answer);
        }
        // The rest of the write belongs to the plan, and so does what follows it.
        // mutant rest-of-plan-unchecked: self.check_plan().await ~>
        //     Ok::<Result<(), Error>, Halt>(Ok(()))
        let stale = match self.check_plan().await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((error, None)),
            Err(Halt::Differs(difference)) => {
                Some((Error::Denied(difference.to_string()), Some(Halt::Differs(difference))))
            }
            Err(halt) => return Err(halt),
        };
        if let Some((error, halt)) = stale {
            let answer = assemble(&a.write, a.parts, Err(error), true, false);
            let reply = self.closed(n, Origin::Guest, answer)?;
            return halt.map_or(Ok(reply), Err);
        }
        self.acquire_lock().await?;
        // mutant restart-resent-with-new-time: Some(observed) ~> None
        a.before = Some(observed);
        a.granted = Some(GrantedCall::counted(counted));
        self.attempt_write(a).await
    }
}

fn header(entries: &[Entry]) -> Result<&Header, Halt> {
    entries
        .first()
        .and_then(Entry::header)
        .ok_or_else(|| Halt::Broken("the run file does not start with a header".into()))
}

fn add(layers: &mut Vec<Layer>, layer: &Layer) {
    if !layers.contains(layer) {
        layers.push(layer.clone());
    }
}

/// Returns a call as the journal has it, to compare two of them.
pub(super) fn describe(effect: &Effect) -> String {
    serde_json::to_string(effect).unwrap_or_else(|_| effect.name().into())
}

/// The backend of an offline replay.
struct Offline;

fn offline() -> Error {
    Error::Unavailable("a replay does not use a cluster".into())
}

impl Backend for Offline {
    fn read<'a>(&'a self, _: &'a Read, _: &'a Footprint) -> BoxFuture<'a, Result<Answer, Error>> {
        async { Err(offline()) }.boxed()
    }
    fn read_current<'a>(
        &'a self,
        _: &'a Write,
        _: Option<&'a ObservedState>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Current<Answer>, Error>> {
        async { Err(offline()) }.boxed()
    }
    fn apply<'a>(
        &'a self,
        _: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        async { ApplyOutcome::Done(Err(offline())) }.boxed()
    }
    fn resolve<'a>(
        &'a self,
        _: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        async { ApplyOutcome::Done(Err(offline())) }.boxed()
    }
    fn read_reversal<'a>(
        &'a self,
        _: &'a Reversal,
        _: Option<&'a ObservedState>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Current<Released>, Error>> {
        async { Err(offline()) }.boxed()
    }
    fn release<'a>(
        &'a self,
        _: &'a Reversal,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ReleaseOutcome> {
        async { ReleaseOutcome::Done(Err(offline())) }.boxed()
    }
}

/// A clock that is never read: every time is in the journal.
struct FixedClock(Millis);

impl Clock for FixedClock {
    fn now(&self) -> Millis {
        self.0
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}
