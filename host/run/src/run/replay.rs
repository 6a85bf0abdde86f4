//! Replay: a recorded outcome wins over everything. A run that is taken up goes on where its record ends; a replay offline ends there.

use super::decide::GrantedCall;
use super::write::{Attempts, merge, whole};
use super::{Halt, Mode, Reply, Run, RunContext, timeout};
use crate::backend::{ApplyOutcome, Backend, Clock, Prepared};
use crate::journal::InMemory;
use crate::observer::NoObserver;
use crate::replay_cursor::{Answered, Call, InDoubt, ReplayCursor, answer};
use crate::stop::Stop;
use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::approval::Approval;
use salve_core::effect::{Answer, Effect, Local, Read, Write};
use salve_core::footprint::Footprint;
use salve_core::grants::{Grants, Layer};
use salve_core::journal::{Entry, GuestExit, Header, ObservedState, Origin, Recovery, RunResult};
use salve_core::outcome::Error;
use std::sync::Arc;
use std::time::Duration;

impl Run {
    /// Takes up a run whose process has died: writes the recovery.
    ///
    /// # Guarantees
    /// The guest is answered from the record as far as it reaches, and nothing of that is performed again. An effect whose
    /// end is not recorded is settled by reading. What is performed anew is judged by what held then *and* by what holds today.
    ///
    /// # Errors
    /// [`Halt::Broken`] when the entries do not begin with a header, or the journal does not take the recovery.
    pub fn recover(
        context: RunContext,
        entries: Vec<Entry>,
        recovery: Recovery,
    ) -> Result<Self, Halt> {
        let header = header(&entries)?.clone();
        let mut layers = header.grants.layers.clone();
        let recovered = entries.iter().filter_map(Entry::recovery).map(|before| &before.today);
        // mutant current-policy-ignored: chain([&recovery.today]).flat_map ~> flat_map
        for layer in recovered.chain([&recovery.today]).flat_map(|grants| &grants.layers) {
            add(&mut layers, layer);
        }
        let mut run = Self::with(context, &header, Grants { layers }, ReplayCursor::new(entries));
        run.append_only(Entry::Recovery(Box::new(recovery)))?;
        Ok(run)
    }

    /// A replay offline: the guest is answered from the record, and where that ends, it is halted. With `other` grants, the first effect
    /// on which they decide otherwise halts it.
    ///
    /// # Errors
    /// [`Halt::Broken`] when the entries do not begin with a header.
    pub fn replay(entries: Vec<Entry>, other: Option<Grants>) -> Result<Self, Halt> {
        let header = header(&entries)?.clone();
        let context = RunContext {
            backend: Arc::new(Offline),
            clock: Arc::new(Stopped(header.at)),
            journal: Box::new(InMemory::default()),
            observer: Box::new(NoObserver),
            stop: Stop::default(),
            mode: Mode::Replay,
        };
        let compares_decisions = other.is_some();
        let mut run =
            Self::with(context, &header, other.unwrap_or_default(), ReplayCursor::new(entries));
        run.compares_decisions = compares_decisions;
        Ok(run)
    }

    fn with(context: RunContext, header: &Header, grants: Grants, record: ReplayCursor) -> Self {
        let mut run = Self::fresh(context, header, grants);
        run.approval = record.approval().map(|approval| (approval.clone(), 0));
        (run.record, run.is_recovery) = (record, true);
        run
    }

    /// How the guest's part ended, if the record has it. There is nothing to replay then before the run is finished.
    pub fn recorded_ending(&self) -> Option<GuestExit> {
        self.record.ending().cloned()
    }

    /// The step that the record ends in.
    pub fn recorded_step(&self) -> Option<String> {
        let steps = self.record.left().filter_map(|entry| match entry {
            Entry::Done(done) => match &done.effect {
                Effect::Local(Local::Step(step)) => Some(step.name.clone()),
                Effect::Local(
                    Local::Now(_) | Local::Sleep(_) | Local::Note(_) | Local::AskUser(_),
                )
                | Effect::Read(_)
                | Effect::Write(_) => None,
            },
            _ => None,
        });
        steps.last()
    }

    /// Where a guest that ended by itself parts from its record: at a call that it made then, and makes no more.
    pub fn diverged_early(&self, end: &str) -> Option<Halt> {
        // mutant omitted-calls-unnoticed: map ~> filter(|(n, _)| *n == 0).map
        self.record.rest().map(|(n, effect)| Halt::Diverged {
            n,
            expected: words(effect),
            got: end.to_owned(),
        })
    }

    /// What holds at the end of a replay that ended so: found in the record alone.
    pub fn verdict(mut self, ending: &GuestExit) -> RunResult {
        self.record.pass(&mut self.state);
        let at = self.state.closing.as_ref().map_or(self.began, |closing| closing.at);
        RunResult { at, ..self.judge(ending) }
    }

    pub(super) fn next_call(&mut self) -> Option<Call> {
        self.record.next(&mut self.state)
    }

    pub(super) async fn replayed(&mut self, call: Call, effect: Effect) -> Result<Reply, Halt> {
        // mutant argument-divergence-unnoticed: *call.effect() != effect ~> call.effect().name() !=
        //     effect.name()
        // mutant divergence-unnoticed: != effect ~> != effect && self.compares_decisions
        if *call.effect() != effect {
            return Err(Halt::Diverged {
                n: call.n(),
                expected: words(call.effect()),
                got: words(&effect),
            });
        }
        if self.compares_decisions {
            self.still_decided_so(&call)?;
        }
        match call {
            // Nobody told the guest.
            Call::Answered(answered)
                if answered.settled
                    && self.context.mode == Mode::Replay
                    && self.guest_was_gone() =>
            {
                Err(Halt::RecordEnds { asked: words(&effect) })
            }
            Call::Answered(Answered { n, outcome, denied, met, .. }) => {
                // mutant attempts-before-crash-forgotten: !denied ~> denied
                if !denied && effect.check().is_ok() {
                    self.grants.count(
                        &effect,
                        met.as_ref().map_or(&[], |met| &met.objects),
                        &mut self.tally,
                    );
                    self.count_approved(&effect);
                }
                self.tally.record_evidence(&effect, &outcome);
                Ok((n, answer(n, &effect, outcome)?))
            }
            Call::InDoubt(_) if self.context.mode == Mode::Replay => {
                Err(Halt::RecordEnds { asked: words(&effect) })
            }
            Call::InDoubt(doubt) => self.resolved(doubt).await,
        }
    }

    /// A touch that was come to before is one of those that were approved.
    fn count_approved(&mut self, effect: &Effect) {
        if let (Effect::Write(_), Some((_, done))) = (effect, &mut self.approval) {
            *done += 1;
        }
    }

    /// Whether nothing of the guest is recorded after what was replayed last, not even how it ended.
    fn guest_was_gone(&self) -> bool {
        let broke_off = match self.record.ending().or(self.state.ended.as_ref()) {
            Some(GuestExit::Died(_) | GuestExit::Stopped(_)) | None => true,
            Some(
                GuestExit::Diagnosed(_)
                | GuestExit::Concluded(_)
                | GuestExit::Undone(_)
                | GuestExit::PlanEnds(_)
                | GuestExit::Failed(_),
            ) => false,
        };
        broke_off && self.record.is_over()
    }

    /// Whether other grants decide as those of the run did.
    fn still_decided_so(&mut self, call: &Call) -> Result<(), Halt> {
        let effect = call.effect();
        let (denied, met) = match call {
            Call::Answered(answered) => (answered.denied, answered.met.as_ref()),
            Call::InDoubt(doubt) => (false, Some(&doubt.last.observed)),
        };
        if effect.check().is_err() {
            return Ok(());
        }
        let now = self.grants.decide_with_objects(
            effect,
            met.map_or(&[], |met| &met.objects),
            &self.tally,
        );
        let (then, today) = match (denied, now) {
            (true, Err(_)) | (false, Ok(_)) => return Ok(()),
            // A person was asked; nobody knows what they would say today.
            (true, Ok(permit)) if permit.approval.is_some() => return Ok(()),
            (true, Ok(_)) => ("denied".to_owned(), "allowed".to_owned()),
            (false, Err(denial)) => ("allowed".to_owned(), format!("denied: {denial}")),
        };
        Err(Halt::Diverged {
            n: call.n(),
            expected: format!("{}: {then}", words(effect)),
            got: format!("{}: {today}", words(effect)),
        })
    }

    /// Settles a write in doubt by reading, and goes on with what of it was not applied, if that is still allowed.
    async fn resolved(&mut self, doubt: InDoubt) -> Result<Reply, Halt> {
        let (Effect::Write(write), Effect::Write(rest)) = (doubt.effect, doubt.last.effect) else {
            return Err(Halt::Broken(format!("entry {} was opened and is no write", doubt.last.n)));
        };
        let (n, observed) = (doubt.last.n, doubt.last.observed);
        let effect = Effect::Write(write.clone());
        self.count_approved(&effect);
        let mut completed = None;
        for outcome in doubt.completed {
            completed = merge(&write, completed, answer(n, &effect, outcome)?.ok());
        }
        let footprint = self.footprint(&effect);
        let backend = self.context.backend.clone();
        let acted = tokio::select! {
            // mutant in-doubt-not-read: tokio::time::timeout(timeout(&effect),
            //     backend.settle(&rest, &observed, &footprint)) ~> std::future::ready(Ok::<_,
            //     ()>(ApplyOutcome::Conflict { completed: None, rest: rest.clone(), message: "it was not
            //     applied".into() }))
            acted = tokio::time::timeout(timeout(&effect), backend.settle(&rest, &observed, &footprint)) => acted,
            () = self.context.stop.wait_insisted() => return Err(Halt::Stopped),
        };
        let (rest, message) = match acted {
            Ok(ApplyOutcome::Done(answer)) => {
                self.grants.count(&effect, &observed.objects, &mut self.tally);
                let unknown = answer.is_err();
                return self.closed(
                    n,
                    Origin::Guest,
                    whole(&write, completed, answer, true, unknown),
                );
            }
            Ok(ApplyOutcome::Conflict { completed: part, rest, message }) => {
                self.conflict(n, Origin::Guest, part.clone(), message.clone())?;
                completed = merge(&write, completed, part);
                (rest, message)
            }
            Err(_) => (
                rest,
                format!(
                    "no answer within {} s; whether it was applied is not known",
                    timeout(&effect).as_secs()
                ),
            ),
        };
        let anew = Effect::Write(rest.clone());
        let allowed = self.grants.decide(&anew, &self.tally);
        let counted = self.grants.count(&effect, &observed.objects, &mut self.tally);
        if let Err(denial) = allowed {
            let error = Error::Denied(format!("{message}; and today {denial}"));
            self.state.denials.push(denial);
            return self.closed(
                n,
                Origin::Guest,
                whole(&write, completed, Err(error), true, false),
            );
        }
        self.hold_the_cluster(&write).await?;
        // mutant restart-resent-with-new-time: Some(observed.clone()) ~> None
        let before =
            if let Write::Resume(_) = write { self.before(&write) } else { Some(observed.clone()) };
        self.attempts(
            n,
            Origin::Guest,
            write,
            Attempts {
                rest,
                completed,
                before,
                opened: Some(observed),
                first: doubt.last.attempt + 1,
                granted: Some(GrantedCall::counted(counted)),
            },
        )
        .await
    }
}

impl ReplayCursor {
    fn approval(&self) -> Option<&Approval> {
        self.left().find_map(Entry::approval)
    }

    fn ending(&self) -> Option<&GuestExit> {
        self.left().find_map(Entry::ending)
    }
}

fn header(entries: &[Entry]) -> Result<&Header, Halt> {
    entries
        .first()
        .and_then(Entry::header)
        .ok_or_else(|| Halt::Broken("the run file does not begin with a header".into()))
}

fn add(layers: &mut Vec<Layer>, layer: &Layer) {
    if !layers.contains(layer) {
        layers.push(layer.clone());
    }
}

/// An effect as the file has it, for two to be compared.
pub(super) fn words(effect: &Effect) -> String {
    serde_json::to_string(effect).unwrap_or_else(|_| effect.name().into())
}

/// Where nothing can be asked.
struct Offline;

fn offline() -> Error {
    Error::Unavailable("a replay asks no cluster".into())
}

impl Backend for Offline {
    fn look<'a>(&'a self, _: &'a Read, _: &'a Footprint) -> BoxFuture<'a, Result<Answer, Error>> {
        async { Err(offline()) }.boxed()
    }
    fn prepare<'a>(
        &'a self,
        _: &'a Write,
        _: Option<&'a ObservedState>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        async { Err(offline()) }.boxed()
    }
    fn act<'a>(
        &'a self,
        _: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        async { ApplyOutcome::Done(Err(offline())) }.boxed()
    }
    fn settle<'a>(
        &'a self,
        _: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        async { ApplyOutcome::Done(Err(offline())) }.boxed()
    }
}

/// A clock that nobody reads: every time is recorded.
struct Stopped(Millis);

impl Clock for Stopped {
    fn now(&self) -> Millis {
        self.0
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}
