//! Replay: a recorded outcome wins over everything. A run that is taken up goes on where its record ends; a replay offline ends there.

use super::deciding::Granted;
use super::touch::{Attempts, merge, whole};
use super::{Halt, Mode, Reply, Run, Setting, patience};
use crate::backend::{Acted, Backend, Clock, Prepared};
use crate::journal::InMemory;
use crate::person::Nobody;
use crate::record::{Answered, Call, InDoubt, Record, answer};
use crate::stop::Stop;
use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::approval::Approval;
use salve_core::effect::{Answer, Effect, Look, Own, Touch};
use salve_core::footprint::Footprint;
use salve_core::grants::{Grants, Layer};
use salve_core::journal::{Closing, Ending, Entry, Header, Origin, Prior, Recovery};
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
        setting: Setting,
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
        let mut run = Self::with(setting, &header, Grants { layers }, Record::new(entries));
        run.write_unheard(Entry::Recovery(Box::new(recovery)))?;
        Ok(run)
    }

    /// A replay offline: the guest is answered from the record, and where that ends, it is halted. With `other` grants, the first effect
    /// on which they decide otherwise halts it.
    ///
    /// # Errors
    /// [`Halt::Broken`] when the entries do not begin with a header.
    pub fn replay(entries: Vec<Entry>, other: Option<Grants>) -> Result<Self, Halt> {
        let header = header(&entries)?.clone();
        let setting = Setting {
            backend: Arc::new(Offline),
            clock: Arc::new(Stopped(header.at)),
            journal: Box::new(InMemory::default()),
            person: Box::new(Nobody),
            stop: Stop::default(),
            mode: Mode::Replay,
        };
        let judges = other.is_some();
        let mut run = Self::with(setting, &header, other.unwrap_or_default(), Record::new(entries));
        run.judges = judges;
        Ok(run)
    }

    fn with(setting: Setting, header: &Header, grants: Grants, record: Record) -> Self {
        let mut run = Self::fresh(setting, header, grants);
        run.approval = record.approval().map(|approval| (approval.clone(), 0));
        (run.record, run.taken_up) = (record, true);
        run
    }

    /// How the guest's part ended, if the record has it. There is nothing to replay then before the run is finished.
    pub fn recorded_ending(&self) -> Option<Ending> {
        self.record.ending().cloned()
    }

    /// The step that the record ends in.
    pub fn recorded_step(&self) -> Option<String> {
        let steps = self.record.left().filter_map(|entry| match entry {
            Entry::Done(done) => match &done.effect {
                Effect::Own(Own::Step(step)) => Some(step.name.clone()),
                Effect::Own(Own::Now(_) | Own::Sleep(_) | Own::Note(_) | Own::AskPerson(_))
                | Effect::Look(_)
                | Effect::Touch(_) => None,
            },
            _ => None,
        });
        steps.last()
    }

    /// Where a guest that ended by itself parts from its record: at a call that it made then, and makes no more.
    pub fn parts_early(&self, end: &str) -> Option<Halt> {
        // mutant omitted-calls-unnoticed: map ~> filter(|(n, _)| *n == 0).map
        self.record.rest().map(|(n, effect)| Halt::Diverged {
            n,
            expected: words(effect),
            got: end.to_owned(),
        })
    }

    /// What holds at the end of a replay that ended so: found in the record alone.
    pub fn verdict(mut self, ending: &Ending) -> Closing {
        self.record.pass(&mut self.state);
        let at = self.state.closing.as_ref().map_or(self.began, |closing| closing.at);
        Closing { at, ..self.judge(ending) }
    }

    pub(super) fn next_call(&mut self) -> Option<Call> {
        self.record.next(&mut self.state)
    }

    pub(super) async fn replayed(&mut self, call: Call, effect: Effect) -> Result<Reply, Halt> {
        // mutant argument-divergence-unnoticed: *call.effect() != effect ~> call.effect().name() !=
        //     effect.name()
        // mutant divergence-unnoticed: != effect ~> != effect && self.judges
        if *call.effect() != effect {
            return Err(Halt::Diverged {
                n: call.n(),
                expected: words(call.effect()),
                got: words(&effect),
            });
        }
        if self.judges {
            self.still_decided_so(&call)?;
        }
        match call {
            // Nobody told the guest.
            Call::Answered(answered)
                if answered.settled
                    && self.setting.mode == Mode::Replay
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
                self.tally.gather(&effect, &outcome);
                Ok((n, answer(n, &effect, outcome)?))
            }
            Call::InDoubt(_) if self.setting.mode == Mode::Replay => {
                Err(Halt::RecordEnds { asked: words(&effect) })
            }
            Call::InDoubt(doubt) => self.resolved(doubt).await,
        }
    }

    /// A touch that was come to before is one of those that were approved.
    fn count_approved(&mut self, effect: &Effect) {
        if let (Effect::Touch(_), Some((_, done))) = (effect, &mut self.approval) {
            *done += 1;
        }
    }

    /// Whether nothing of the guest is recorded after what was replayed last, not even how it ended.
    fn guest_was_gone(&self) -> bool {
        let broke_off = match self.record.ending().or(self.state.ended.as_ref()) {
            Some(Ending::Died(_) | Ending::Stopped(_)) | None => true,
            Some(
                Ending::Diagnosed(_)
                | Ending::Concluded(_)
                | Ending::Undone(_)
                | Ending::PlanEnds(_)
                | Ending::Failed(_),
            ) => false,
        };
        broke_off && self.record.is_over()
    }

    /// Whether other grants decide as those of the run did.
    fn still_decided_so(&mut self, call: &Call) -> Result<(), Halt> {
        let effect = call.effect();
        let (denied, met) = match call {
            Call::Answered(answered) => (answered.denied, answered.met.as_ref()),
            Call::InDoubt(doubt) => (false, Some(&doubt.last.prior)),
        };
        if effect.check().is_err() {
            return Ok(());
        }
        let now = self.grants.decide_met(effect, met.map_or(&[], |met| &met.objects), &self.tally);
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
        let (Effect::Touch(touch), Effect::Touch(rest)) = (doubt.effect, doubt.last.effect) else {
            return Err(Halt::Broken(format!("entry {} was opened and is no write", doubt.last.n)));
        };
        let (n, prior) = (doubt.last.n, doubt.last.prior);
        let effect = Effect::Touch(touch.clone());
        self.count_approved(&effect);
        let mut sofar = None;
        for outcome in doubt.sofar {
            sofar = merge(&touch, sofar, answer(n, &effect, outcome)?.ok());
        }
        let footprint = self.footprint(&effect);
        let backend = self.setting.backend.clone();
        let acted = tokio::select! {
            // mutant in-doubt-not-read: tokio::time::timeout(patience(&effect),
            //     backend.settle(&rest, &prior, &footprint)) ~> std::future::ready(Ok::<_,
            //     ()>(Acted::Conflict { sofar: None, rest: rest.clone(), message: "it was not
            //     applied".into() }))
            acted = tokio::time::timeout(patience(&effect), backend.settle(&rest, &prior, &footprint)) => acted,
            () = self.setting.stop.wait_insisted() => return Err(Halt::Stopped),
        };
        let (rest, message) = match acted {
            Ok(Acted::Done(answer)) => {
                self.grants.count(&effect, &prior.objects, &mut self.tally);
                let unknown = answer.is_err();
                return self.closed(n, Origin::Guest, whole(&touch, sofar, answer, true, unknown));
            }
            Ok(Acted::Conflict { sofar: part, rest, message }) => {
                self.conflict(n, Origin::Guest, part.clone(), message.clone())?;
                sofar = merge(&touch, sofar, part);
                (rest, message)
            }
            Err(_) => (
                rest,
                format!(
                    "no answer within {} s; whether it was applied is not known",
                    patience(&effect).as_secs()
                ),
            ),
        };
        let anew = Effect::Touch(rest.clone());
        let allowed = self.grants.decide(&anew, &self.tally);
        let counted = self.grants.count(&effect, &prior.objects, &mut self.tally);
        if let Err(denial) = allowed {
            let error = Error::Denied(format!("{message}; and today {denial}"));
            self.state.denials.push(denial);
            return self.closed(n, Origin::Guest, whole(&touch, sofar, Err(error), true, false));
        }
        self.hold_the_cluster(&touch).await?;
        // mutant restart-resent-with-new-time: Some(prior.clone()) ~> None
        let before =
            if let Touch::Resume(_) = touch { self.before(&touch) } else { Some(prior.clone()) };
        self.attempts(
            n,
            Origin::Guest,
            touch,
            Attempts {
                rest,
                sofar,
                before,
                opened: Some(prior),
                first: doubt.last.attempt + 1,
                granted: Some(Granted::counted(counted)),
            },
        )
        .await
    }
}

impl Record {
    fn approval(&self) -> Option<&Approval> {
        self.left().find_map(Entry::approval)
    }

    fn ending(&self) -> Option<&Ending> {
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
    fn look<'a>(&'a self, _: &'a Look, _: &'a Footprint) -> BoxFuture<'a, Result<Answer, Error>> {
        async { Err(offline()) }.boxed()
    }
    fn prepare<'a>(
        &'a self,
        _: &'a Touch,
        _: Option<&'a Prior>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        async { Err(offline()) }.boxed()
    }
    fn act<'a>(&'a self, _: &'a Touch, _: &'a Prior, _: &'a Footprint) -> BoxFuture<'a, Acted> {
        async { Acted::Done(Err(offline())) }.boxed()
    }
    fn settle<'a>(&'a self, _: &'a Touch, _: &'a Prior, _: &'a Footprint) -> BoxFuture<'a, Acted> {
        async { Acted::Done(Err(offline())) }.boxed()
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
