//! `Run` and its one door. The fields are private to this module: no capability can walk round it.

use crate::backend::{Acted, Backend, Clock, Prepared};
use crate::journal::Journal;
use crate::person::Person;
use crate::stop::Stop;
use crate::suspensions::Suspensions;
use salve_core::Millis;
use salve_core::effect::delete_replicationsources::{Deletion, End};
use salve_core::effect::suspend_flux::{Resume, Resumed, Suspend};
use salve_core::effect::{Answer, Ask, Effect, Look, Own, Touch};
use salve_core::footprint::Footprint;
use salve_core::grants::{Denial, Grants, Tally};
use salve_core::journal::{Closed, Closing, Done, Ended, Ending, Entry, Failure, Header, Opened, Origin, Prior};
use salve_core::outcome::{Error, Fault, Outcome};
use salve_core::plan::{self, Overlay};
use salve_core::proof::{self, Fact};
use salve_core::report::{Concluded, State, Verdict, verdict_of_error};
use std::sync::Arc;
use std::time::Duration;

/// How often a write is prepared anew after a conflict.
const ATTEMPTS: u32 = 5;
/// How long a release is tried at the end of a run.
const RELEASE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a call may take beyond the waits that it names itself.
const CALL_PATIENCE: Duration = Duration::from_secs(300);

/// What a run does with touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Performs them.
    Live,
    /// Records them and sends nothing, until the guest waits for what only a write could bring.
    Plan,
    /// Denies them: `diagnose` looks only.
    Diagnosis,
}

/// Everything a run needs from outside.
pub struct Setting {
    /// Where effects are performed.
    pub backend: Arc<dyn Backend>,
    /// The cluster's time.
    pub clock: Arc<dyn Clock>,
    /// Where entries go.
    pub journal: Box<dyn Journal>,
    /// Who watches.
    pub person: Box<dyn Person>,
    /// Who may stop it.
    pub stop: Stop,
    /// What touches come to.
    pub mode: Mode,
}

/// One run of one guest.
pub struct Run {
    setting: Setting,
    grants: Grants,
    tally: Tally,
    /// Numbers given out; the last one is the last outcome's.
    n: u64,
    facts: Vec<Fact>,
    overlay: Overlay,
    suspensions: Suspensions,
    /// Why the journal takes nothing more.
    broken: Option<String>,
    step: Option<String>,
    denials: Vec<Denial>,
}

/// Why a guest cannot go on. Not an answer: the guest is ended with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
    /// The plan came to the first wait that nobody performed.
    #[error("the plan ends here: {0}")]
    PlanEnds(String),
    /// The journal or the backend broke a promise. Nothing more is sent.
    #[error("{0}")]
    Broken(String),
}

impl Run {
    /// Begins a run: writes the header.
    ///
    /// # Errors
    /// [`Halt::Broken`] when the journal does not take it; nothing was sent then.
    pub fn begin(setting: Setting, header: Header) -> Result<Self, Halt> {
        let grants = header.grants.clone();
        let mut run = Self {
            setting,
            grants,
            tally: Tally::default(),
            n: 0,
            facts: vec![],
            overlay: Overlay::default(),
            suspensions: Suspensions::default(),
            broken: None,
            step: None,
            denials: vec![],
        };
        run.write(Entry::Header(Box::new(header)))?;
        Ok(run)
    }

    /// Performs a call of the guest, once, and records what it came to.
    ///
    /// # Guarantees
    /// - Nothing is asked of the cluster that the grants do not allow; a denial is an answer, recorded
    ///   like any other.
    /// - Before a write leaves, its entry with the state it meets is on the disk.
    /// - A write that the cluster refuses as stale (409) is prepared anew, each attempt in the journal.
    ///
    /// # Errors
    /// The inner error is the guest's to handle. A [`Halt`] ends the guest.
    pub async fn perform<A: Ask>(&mut self, ask: A) -> Result<Result<A::Answer, Error>, Halt> {
        let name = std::any::type_name::<A>();
        let answer = self.carry(ask.effect(), Origin::Guest, None).await?;
        match answer {
            Err(error) => Ok(Err(error)),
            Ok(answer) => A::take(answer).map(Ok).ok_or_else(|| Halt::Broken(format!("the backend answered {name} with another call's answer"))),
        }
    }

    /// Performs a call of the host itself: its census, outside the order of the guest.
    pub async fn census<A: Ask>(&mut self, ask: A) -> Result<Result<A::Answer, Error>, Halt> {
        Ok(self
            .carry(ask.effect(), Origin::Host, None)
            .await?
            .and_then(|answer| A::take(answer).ok_or_else(|| Error::Unavailable("an answer to another call".into()))))
    }

    /// Suspends, and keeps the suspension for the guest under a number.
    pub async fn suspend(&mut self, ask: Suspend) -> Result<Result<u32, Error>, Halt> {
        let mut id = None;
        let answer = self.carry(ask.effect(), Origin::Guest, Some(&mut id)).await?;
        Ok(answer.and_then(|_| id.ok_or_else(|| Error::Conflict("it needed no suspend".into()))))
    }

    /// Gives back what [`Run::suspend`] numbered. A second time answers the same and sends nothing.
    pub async fn resume(&mut self, id: u32) -> Result<Result<Resumed, Error>, Halt> {
        if let Some(answer) = self.suspensions.answer(id) {
            return Ok(Ok(answer.clone()));
        }
        let Some(release) = self.suspensions.release(id).cloned() else {
            return Ok(Err(Error::Invalid("there is no such suspension".into())));
        };
        let answer = self.carry(release.effect(), Origin::Guest, None).await?;
        Ok(answer.and_then(|answer| self.released(id, answer)))
    }

    /// The number of the outcome recorded last.
    pub fn recorded(&self) -> u64 {
        self.n
    }

    /// What this run has suspended and not given back; of a plan: what it would give back.
    pub fn open(&self) -> Vec<Resume> {
        self.suspensions.releases()
    }

    /// Ends the run: gives back what is still suspended, judges, and writes the verdict.
    ///
    /// # Guarantees
    /// Every open suspension is released whatever the ending is, or stands in the closing with the
    /// verdict `left-open`. `fixed` stands only where this run's own record proves it.
    pub async fn finish(mut self, ending: Ending) -> Closing {
        let at = self.setting.clock.now();
        // A journal that failed cannot keep a release from happening; the closing still tells.
        let _ = self.write(Entry::Ended(Box::new(Ended { at, ending: ending.clone() })));
        if self.setting.mode == Mode::Live {
            self.release().await;
        }
        let closing = self.judge(&ending);
        let _ = self.write(Entry::Verdict(Box::new(closing.clone()))).and_then(|()| self.sync());
        closing
    }

    async fn release(&mut self) {
        let began = self.setting.clock.now();
        let mut pause = Duration::from_secs(1);
        loop {
            for id in self.suspensions.still_open() {
                let Some(release) = self.suspensions.release(id).cloned() else { continue };
                if let Ok(Ok(answer)) = self.carry(release.effect(), Origin::Host, None).await {
                    // What is not released stays in the list, and the loop comes back to it.
                    let _ = self.released(id, answer);
                }
            }
            let over = self.setting.clock.now().saturating_sub(began) >= RELEASE_PATIENCE.as_millis() as Millis;
            if self.suspensions.still_open().is_empty() || over || self.setting.stop.insisted() {
                return;
            }
            self.setting.clock.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(8));
        }
    }

    fn released(&mut self, id: u32, answer: Answer) -> Result<Resumed, Error> {
        let resumed = Resume::take(answer).ok_or_else(|| Error::Unavailable("the backend answered a release with another call's answer".into()))?;
        self.suspensions.close(id, resumed.clone());
        Ok(resumed)
    }

    fn judge(&self, ending: &Ending) -> Closing {
        let open = if self.setting.mode == Mode::Live { self.suspensions.releases() } else { vec![] };
        let (mut verdict, mut sentence) = match ending {
            Ending::Diagnosed(d) => match d.state {
                State::Incident => (Verdict::NotFixed, d.sentence.clone()),
                State::NotThisIncident => (Verdict::NotThisIncident, d.sentence.clone()),
                State::Healthy => (Verdict::NothingToDo, d.sentence.clone()),
            },
            Ending::Concluded(c) => match c.verdict {
                Concluded::Fixed => match proof::holds(&self.facts, &c.proof) {
                    Ok(()) => (Verdict::Fixed, c.sentence.clone()),
                    Err(why) => (Verdict::NotFixed, format!("the guest says \"{}\", but {why}", c.sentence)),
                },
                Concluded::NothingToDo => (Verdict::NothingToDo, c.sentence.clone()),
                Concluded::NotThisIncident => (Verdict::NotThisIncident, c.sentence.clone()),
                Concluded::NotFixed => (Verdict::NotFixed, c.sentence.clone()),
            },
            Ending::PlanEnds(why) => (Verdict::Planned, why.clone()),
            Ending::Failed(failure) => (self.verdict_of(failure), failure.text.clone()),
        };
        if let Some(broken) = &self.broken {
            verdict = Verdict::Failed(Fault::Host);
            sentence = format!("{broken}; {sentence}");
        }
        if !open.is_empty() {
            verdict = Verdict::LeftOpen;
            let names: Vec<_> = open.iter().map(|o| o.target.to_string()).collect();
            sentence = format!("still suspended by this run: {}; {sentence}", names.join(", "));
        }
        Closing { at: self.setting.clock.now(), verdict, sentence, open }
    }

    fn verdict_of(&self, failure: &Failure) -> Verdict {
        match failure.fault {
            Fault::Grant => Verdict::Denied,
            Fault::Cluster | Fault::Guest | Fault::Host => Verdict::Failed(failure.fault),
        }
    }

    /// How a guest's own error ends a run.
    pub fn ending_of_error(&self, error: &Error) -> Ending {
        let fault = match verdict_of_error(error) {
            Verdict::Denied if self.denials.is_empty() => Fault::Cluster,
            Verdict::Denied => Fault::Grant,
            Verdict::Failed(fault) => fault,
            Verdict::Fixed | Verdict::NothingToDo | Verdict::NotThisIncident | Verdict::NotFixed | Verdict::LeftOpen | Verdict::Planned => Fault::Cluster,
        };
        Ending::Failed(Failure { fault, text: error.to_string() })
    }

    /// The step that was opened last, for a sentence about where a run was stopped.
    pub fn step(&self) -> Option<&str> {
        self.step.as_deref()
    }

    async fn carry(&mut self, effect: Effect, origin: Origin, suspension: Option<&mut Option<u32>>) -> Result<Result<Answer, Error>, Halt> {
        if origin == Origin::Guest {
            if let Some(broken) = &self.broken {
                return Err(Halt::Broken(broken.clone()));
            }
            if self.setting.stop.requested() {
                return Err(Halt::Stopped);
            }
        }
        self.n += 1;
        let n = self.n;
        if let Err(error) = effect.check() {
            return self.done(n, origin, effect, Err(error), None, None);
        }
        if origin == Origin::Guest
            && let Err(denial) = self.decide(&effect)
        {
            let error = Error::Denied(denial.to_string());
            self.denials.push(denial.clone());
            return self.done(n, origin, effect, Err(error), Some(denial), None);
        }
        self.setting.person.begins(&effect);
        match effect {
            Effect::Own(own) => {
                let answer = self.own(&own).await?;
                self.done(n, origin, Effect::Own(own), answer, None, None)
            }
            Effect::Look(look) => {
                if self.setting.mode == Mode::Plan
                    && let Some(why) = self.overlay.ends(&look)
                {
                    return Err(Halt::PlanEnds(why.into()));
                }
                let effect = Effect::Look(look.clone());
                let footprint = self.footprint(&effect);
                let backend = self.setting.backend.clone();
                let answer = tokio::select! {
                    answer = within(patience(&effect), backend.look(&look, &footprint)) => answer,
                    () = self.setting.stop.wait(), if origin == Origin::Guest => return Err(Halt::Stopped),
                };
                let answer = answer.map(|a| self.overlay.cover(a));
                self.done(n, origin, effect, answer, None, None)
            }
            Effect::Touch(touch) => match self.setting.mode {
                Mode::Plan => self.plan(n, touch, suspension).await,
                Mode::Live => self.touch(n, origin, touch, suspension).await,
                Mode::Diagnosis => Err(Halt::Broken("a diagnosis came to a touch that was not denied".into())),
            },
        }
    }

    fn decide(&mut self, effect: &Effect) -> Result<(), Denial> {
        if let (Mode::Diagnosis, Effect::Touch(_)) = (self.setting.mode, effect) {
            return Err(Denial {
                what: format!("{} during a diagnosis", effect.name()),
                source_: "Salve:".into(),
                remedy: "a diagnosis looks and never touches, whatever is granted".into(),
            });
        }
        let permit = self.grants.decide(effect, &self.tally)?;
        self.tally.charge(&permit);
        Ok(())
    }

    fn footprint(&self, effect: &Effect) -> Footprint {
        Footprint::new(effect, self.grants.followed(effect.capability()))
    }

    async fn own(&mut self, own: &Own) -> Result<Result<Answer, Error>, Halt> {
        Ok(match own {
            Own::Now(_) => Ok(Answer::Now(self.setting.clock.now())),
            Own::Sleep(sleep) => {
                if self.setting.mode == Mode::Plan && self.overlay.touched() {
                    return Err(Halt::PlanEnds("the guest waits for what its changes will bring".into()));
                }
                tokio::select! {
                    () = self.setting.clock.sleep(Duration::from_millis(sleep.milliseconds)) => Ok(Answer::Sleep(())),
                    () = self.setting.stop.wait() => return Err(Halt::Stopped),
                }
            }
            Own::Step(step) => {
                self.step = Some(step.name.clone());
                Ok(Answer::Step(()))
            }
            Own::Note(_) => Ok(Answer::Note(())),
            Own::AskPerson(ask) => match self.setting.person.is_asked(&ask.question) {
                Some(answer) => Ok(Answer::AskPerson(answer)),
                None => Err(Error::Unavailable("nobody is at a terminal to be asked".into())),
            },
        })
    }

    async fn plan(&mut self, n: u64, touch: Touch, suspension: Option<&mut Option<u32>>) -> Result<Result<Answer, Error>, Halt> {
        let effect = Effect::Touch(touch.clone());
        let footprint = self.footprint(&effect);
        if let Touch::Resume(_) = touch {
            let answer = self.overlay.record(&touch, &Prior::default(), self.setting.clock.now());
            return self.planned(n, effect, answer, Prior::default());
        }
        let backend = self.setting.backend.clone();
        match within(patience(&effect), backend.prepare(&touch, &footprint)).await {
            Err(error) => self.done(n, Origin::Guest, effect, Err(error), None, None),
            Ok(Prepared::Settled(answer)) => self.done(n, Origin::Guest, effect, Ok(answer), None, None),
            Ok(Prepared::Ready(prior)) => {
                let answer = self.overlay.record(&touch, &prior, self.setting.clock.now());
                if let (Touch::Suspend(s), Answer::Suspend(done)) = (&touch, &answer) {
                    let id = self.suspensions.open(Resume { target: s.target.clone(), uid: done.uid.clone(), prior: done.prior });
                    if let Some(slot) = suspension {
                        *slot = Some(id);
                    }
                }
                self.planned(n, effect, answer, prior)
            }
        }
    }

    fn planned(&mut self, n: u64, effect: Effect, answer: Answer, prior: Prior) -> Result<Result<Answer, Error>, Halt> {
        let at = self.setting.clock.now();
        let outcome = recorded_form(&Ok(answer.clone()))?;
        self.facts.push(Fact::of(n, &effect, &outcome));
        self.write(Entry::Planned(Box::new(Done { n, origin: Origin::Guest, at, effect, outcome, denial: None, prior: Some(prior) })))?;
        Ok(Ok(answer))
    }

    async fn touch(&mut self, n: u64, origin: Origin, touch: Touch, suspension: Option<&mut Option<u32>>) -> Result<Result<Answer, Error>, Halt> {
        let effect = Effect::Touch(touch.clone());
        let footprint = self.footprint(&effect);
        let backend = self.setting.backend.clone();
        let mut rest = touch.clone();
        let mut sofar: Option<Answer> = None;
        let mut id = None;
        let mut opened = false;
        let mut answer = Err(Error::Conflict(format!("it changed {ATTEMPTS} times while we tried")));
        for attempt in 1..=ATTEMPTS {
            let prior = match within(patience(&effect), backend.prepare(&rest, &footprint)).await {
                Err(error) => {
                    answer = Err(error);
                    break;
                }
                Ok(Prepared::Settled(settled)) => {
                    answer = Ok(settled);
                    break;
                }
                Ok(Prepared::Ready(prior)) => prior,
            };
            // On the disk before the first byte leaves: a crash in between leaves the effect in doubt, never unseen.
            let at = self.setting.clock.now();
            let entry = Entry::Opened(Box::new(Opened { n, origin, attempt, at, effect: Effect::Touch(rest.clone()), prior: prior.clone() }));
            match self.write(entry).and_then(|()| self.sync()) {
                Ok(()) => opened = true,
                // A release is sent even where it cannot be recorded: frozen for ever is worse than unrecorded.
                Err(_) if matches!(touch, Touch::Resume(_)) => {}
                Err(halt) => return Err(halt),
            }
            if let (Touch::Suspend(s), None) = (&touch, id) {
                let uid = prior.objects.first().and_then(|o| o["metadata"]["uid"].as_str()).unwrap_or_default().to_owned();
                id = Some(self.suspensions.open(Resume { target: s.target.clone(), uid, prior: plan::was(&prior) }));
            }
            let acted = tokio::select! {
                acted = tokio::time::timeout(patience(&effect), backend.act(&rest, &prior, &footprint)) => acted,
                () = self.setting.stop.wait_insisted(), if origin == Origin::Guest => return Err(Halt::Stopped),
            };
            match acted {
                Ok(Acted::Done(done)) => {
                    answer = done;
                    break;
                }
                Ok(Acted::Conflict { sofar: part, rest: left, message }) => {
                    let at = self.setting.clock.now();
                    self.write_for(origin, Entry::Closed(Closed { n, at, outcome: None, conflict: Some(message.clone()) }))?;
                    sofar = merge(&touch, sofar, part);
                    rest = left;
                    answer = Err(Error::Conflict(message));
                }
                Err(_) => {
                    answer = Err(Error::Unavailable(format!("no answer within {} s; whether it was applied is not known", patience(&effect).as_secs())));
                    break;
                }
            }
        }
        let answer = whole(&touch, sofar, answer);
        let result = if opened { self.closed(n, origin, &effect, answer)? } else { self.done(n, origin, effect, answer, None, None)? };
        match (id, &result) {
            (Some(id), Ok(_)) => {
                if let Some(slot) = suspension {
                    *slot = Some(id);
                }
            }
            // It may have been applied before it failed: give it back. What was never applied costs one read.
            (Some(id), Err(_)) => {
                if let Some(release) = self.suspensions.release(id).cloned()
                    && let Ok(Ok(answer)) = Box::pin(self.carry(release.effect(), Origin::Host, None)).await
                {
                    let _ = self.released(id, answer);
                }
            }
            (None, _) => {}
        }
        Ok(result)
    }

    fn done(
        &mut self,
        n: u64,
        origin: Origin,
        effect: Effect,
        answer: Result<Answer, Error>,
        denial: Option<Denial>,
        prior: Option<Prior>,
    ) -> Result<Result<Answer, Error>, Halt> {
        let at = self.setting.clock.now();
        let outcome = recorded_form(&answer)?;
        self.facts.push(Fact::of(n, &effect, &outcome));
        self.write_for(origin, Entry::Done(Box::new(Done { n, origin, at, effect, outcome, denial, prior })))?;
        Ok(answer)
    }

    fn closed(&mut self, n: u64, origin: Origin, effect: &Effect, answer: Result<Answer, Error>) -> Result<Result<Answer, Error>, Halt> {
        let at = self.setting.clock.now();
        let outcome = recorded_form(&answer)?;
        self.facts.push(Fact::of(n, effect, &outcome));
        self.write_for(origin, Entry::Closed(Closed { n, at, outcome: Some(outcome), conflict: None }))?;
        Ok(answer)
    }

    /// What the host does at the end is not stopped by a journal that has failed.
    fn write_for(&mut self, origin: Origin, entry: Entry) -> Result<(), Halt> {
        match (self.write(entry), origin) {
            (Ok(()), _) | (Err(_), Origin::Host) => Ok(()),
            (Err(halt), Origin::Guest) => Err(halt),
        }
    }

    fn write(&mut self, entry: Entry) -> Result<(), Halt> {
        self.setting.person.hears(&entry);
        let written = self.setting.journal.append(&entry);
        self.trusted(written)
    }

    fn sync(&mut self) -> Result<(), Halt> {
        let synced = self.setting.journal.sync();
        self.trusted(synced)
    }

    fn trusted(&mut self, result: std::io::Result<()>) -> Result<(), Halt> {
        result.map_err(|e| Halt::Broken(self.broken.get_or_insert(format!("the run file cannot be written: {e}")).clone()))
    }
}

fn recorded_form(answer: &Result<Answer, Error>) -> Result<Outcome, Halt> {
    Ok(match answer {
        Ok(answer) => Outcome::Ok(serde_json::value::to_raw_value(answer).map_err(|e| Halt::Broken(format!("an answer that is no JSON: {e}")))?),
        Err(error) => Outcome::Error(error.clone()),
    })
}

async fn within<T>(patience: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(patience, call).await.unwrap_or_else(|_| Err(Error::Unavailable(format!("no answer within {} s", patience.as_secs()))))
}

/// How long a call may take: what it names itself, and some more.
fn patience(effect: &Effect) -> Duration {
    let named = match effect {
        Effect::Touch(Touch::Suspend(s)) => u64::from(s.drain_seconds),
        Effect::Touch(Touch::Reconcile(r)) => u64::from(r.wait_seconds),
        Effect::Touch(Touch::Delete(d)) => {
            (d.set.len() as u64).div_ceil(u64::from(d.pace.at_once.max(1))) * u64::from(d.pace.pause).div_ceil(1000) + d.set.len() as u64
        }
        Effect::Look(Look::AwaitRollout(a)) => u64::from(a.wait_seconds),
        Effect::Touch(Touch::Resume(_) | Touch::Restart(_)) | Effect::Look(_) | Effect::Own(_) => 0,
    };
    CALL_PATIENCE + Duration::from_secs(named)
}

/// Adds what one attempt came to. Only a set can be applied in part.
fn merge(touch: &Touch, sofar: Option<Answer>, part: Option<Answer>) -> Option<Answer> {
    match (touch, sofar, part) {
        (Touch::Delete(_), Some(Answer::Delete(mut all)), Some(Answer::Delete(more))) => {
            all.extend(more);
            Some(Answer::Delete(all))
        }
        (_, sofar, None) => sofar,
        (_, _, part) => part,
    }
}

/// The whole answer: for a set in its own order, with what never came to an end marked as refused.
fn whole(touch: &Touch, sofar: Option<Answer>, last: Result<Answer, Error>) -> Result<Answer, Error> {
    let Touch::Delete(delete) = touch else { return last };
    let (part, why) = match last {
        Ok(answer) => (Some(answer), None),
        Err(error) if sofar.is_none() => return Err(error),
        Err(error) => (None, Some(error.to_string())),
    };
    let Some(Answer::Delete(deletions)) = merge(touch, sofar, part) else {
        return Err(Error::Unavailable("the backend answered a deletion with another call's answer".into()));
    };
    let deletion = |f: &salve_core::effect::delete_replicationsources::Frozen| {
        deletions.iter().find(|d| d.uid == f.uid && d.object == f.object).cloned().unwrap_or_else(|| Deletion {
            object: f.object.clone(),
            uid: f.uid.clone(),
            end: End::Refused,
            message: Some(why.clone().unwrap_or_else(|| "nothing was said about it".into())),
        })
    };
    Ok(Answer::Delete(delete.set.iter().map(deletion).collect()))
}
