//! `Run` and its one door. The fields are private to this module: no capability can walk round it.

mod ending;
mod touch;

use crate::backend::{Backend, Clock};
use crate::journal::Journal;
use crate::person::Person;
use crate::stop::Stop;
use crate::suspensions::Suspensions;
use salve_core::effect::suspend_flux::{Resume, Resumed, Suspend};
use salve_core::effect::{Answer, Ask, Effect, Look, Own, Touch};
use salve_core::footprint::Footprint;
use salve_core::grants::{Denial, Grants, Tally};
use salve_core::journal::{Closed, Done, Entry, Header, Origin, Prior};
use salve_core::outcome::{Error, Outcome};
use salve_core::plan::Overlay;
use salve_core::proof::Fact;
use std::sync::Arc;
use std::time::Duration;

/// So many bytes of answers and words does one run record. More is a guest that floods.
const RECORD: usize = 256 << 20;
/// And so many entries.
const ENTRIES: u64 = 200_000;

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
    recorded_bytes: usize,
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
    /// The guest asked for more than one run records.
    #[error("{0}")]
    Flooded(String),
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
            recorded_bytes: 0,
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

    fn released(&mut self, id: u32, answer: Answer) -> Result<Resumed, Error> {
        let resumed = Resume::take(answer).ok_or_else(|| Error::Unavailable("the backend answered a release with another call's answer".into()))?;
        self.suspensions.close(id, resumed.clone());
        Ok(resumed)
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
        if origin == Origin::Guest && (self.recorded_bytes > RECORD || self.n > ENTRIES) {
            return Err(Halt::Flooded(format!("the guest floods the record of this run: at most {} MiB and {ENTRIES} calls", RECORD >> 20)));
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
        self.told(|person| person.begins(&effect));
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
            Own::AskPerson(ask) => {
                let asked = self.setting.person.is_asked(&ask.question);
                let answer = tokio::select! {
                    answer = asked => answer,
                    () = self.setting.stop.wait() => return Err(Halt::Stopped),
                };
                answer.map(Answer::AskPerson).ok_or_else(|| Error::Unavailable("nobody is at a terminal to be asked".into()))
            }
        })
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
        self.recorded_bytes += size(&effect, &outcome);
        let fact = Fact::of(n, at, &effect, &outcome, &self.facts);
        self.facts.push(fact);
        self.write_for(origin, Entry::Done(Box::new(Done { n, origin, at, effect, outcome, denial, prior })))?;
        Ok(answer)
    }

    fn closed(&mut self, n: u64, origin: Origin, effect: &Effect, answer: Result<Answer, Error>) -> Result<Result<Answer, Error>, Halt> {
        let at = self.setting.clock.now();
        let outcome = recorded_form(&answer)?;
        let fact = Fact::of(n, at, effect, &outcome, &self.facts);
        self.facts.push(fact);
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
        self.told(|person| person.hears(&entry));
        let written = self.setting.journal.append(&entry);
        self.trusted(written)
    }

    /// Who watches may break; the run does not.
    fn told(&mut self, tell: impl FnOnce(&mut dyn Person)) {
        let person = self.setting.person.as_mut();
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tell(person))));
    }

    fn sync(&mut self) -> Result<(), Halt> {
        let synced = self.setting.journal.sync();
        self.trusted(synced)
    }

    fn trusted(&mut self, result: std::io::Result<()>) -> Result<(), Halt> {
        result.map_err(|e| Halt::Broken(self.broken.get_or_insert(format!("the run file cannot be written: {e}")).clone()))
    }
}

/// What an entry takes, as far as a guest decides on it.
fn size(effect: &Effect, outcome: &Outcome) -> usize {
    let words = match effect {
        Effect::Own(Own::Note(note)) => note.text.len(),
        Effect::Own(Own::Step(step)) => step.name.len() + step.title.len(),
        Effect::Own(Own::AskPerson(ask)) => ask.question.len(),
        Effect::Own(Own::Now(_) | Own::Sleep(_)) | Effect::Look(_) | Effect::Touch(_) => 0,
    };
    200 + words + outcome.ok().map_or(0, |raw| raw.get().len())
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
        // Pods that are replaced one after the other wait for each other.
        Effect::Touch(Touch::Restart(_)) => 3600,
        Effect::Touch(Touch::Resume(_)) | Effect::Look(_) | Effect::Own(_) => 0,
    };
    CALL_PATIENCE + Duration::from_secs(named)
}
