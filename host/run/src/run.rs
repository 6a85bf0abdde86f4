//! `Run` and its one door. The fields are private to this module: no capability can walk round it.

mod approved;
mod decide;
mod finish;
mod lease;
mod replay;
mod suspend;
mod write;

pub use suspend::GuestSuspension;

use crate::backend::{Backend, Clock};
use crate::journal::Journal;
use crate::observer::Observer;
use crate::replay_cursor::ReplayCursor;
use crate::state::RunState;
use crate::stop::Stop;
use approved::PlanAnswers;
use salve_core::Millis;
use salve_core::approval::{Approval, Difference};
use salve_core::effect::host::AcquireLease;
use salve_core::effect::{Answer, Effect, Local, Read, TypedCall, Write};
use salve_core::footprint::Footprint;
use salve_core::grants::{Denial, Grants, Tally};
use salve_core::journal::{Closed, Done, Entry, Header, ObservedState, Origin};
use salve_core::outcome::{Error, Outcome};
use std::sync::Arc;
use std::time::Duration;

/// So many bytes of answers and words does one run record. More is a guest that floods.
const RECORD: usize = 256 << 20;
/// And so many entries.
const ENTRIES: u64 = 200_000;

/// How long a guest may go on after its own time: it gives up by itself, and gives back, if it keeps its word.
const GRACE: Duration = Duration::from_secs(600);

/// How long a call may take beyond the waits that it names itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);

/// What a run does with touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Performs them.
    Live,
    /// Records them and sends nothing, until the guest waits for what only a write could bring.
    Plan,
    /// Denies them: `diagnose` looks only.
    Diagnosis,
    /// Answers every call from the record, and asks nobody.
    Replay,
}

/// Everything a run needs from outside.
pub struct RunContext {
    /// Where effects are performed.
    pub backend: Arc<dyn Backend>,
    /// The cluster's time.
    pub clock: Arc<dyn Clock>,
    /// Where entries go.
    pub journal: Box<dyn Journal>,
    /// Who watches.
    pub observer: Box<dyn Observer>,
    /// Who may stop it.
    pub stop: Stop,
    /// What touches come to.
    pub mode: Mode,
}

/// One run of one guest.
pub struct Run {
    context: RunContext,
    grants: Grants,
    tally: Tally,
    /// When it began.
    began: Millis,
    /// When the guest should be finished, by the cluster's clock.
    deadline: Millis,
    /// When the guest is stopped.
    due: Millis,
    /// What it asks the cluster's Lease with.
    hold: AcquireLease,
    /// This process knows that it holds the cluster.
    holds: bool,
    /// Another process began it.
    is_recovery: bool,
    /// It is a plan: what it holds suspended, it only would.
    is_plan: bool,
    /// What a person has approved, and how many touches of it were come to.
    approval: Option<(Approval, usize)>,
    /// What a fresh plan has waited for already.
    plan_answers: PlanAnswers,
    /// A replay under other grants compares what they decide.
    compares_decisions: bool,
    /// What its entries come to.
    state: RunState,
    /// What was recorded before this process, and not replayed yet.
    record: ReplayCursor,
    /// Why the journal takes nothing more.
    broken: Option<String>,
}

/// A call's number, and its answer.
type Reply = (u64, Result<Answer, Error>);

/// Why a guest cannot go on. Not an answer: the guest is ended with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
    /// The plan came to the first wait that nobody performed.
    #[error("the plan ends here: {0}")]
    PlanEnds(String),
    /// It would do something else than was approved.
    #[error("{0}")]
    Differs(Difference),
    /// Another run holds the cluster, or it does not let itself be held.
    #[error("{0}")]
    ClusterLocked(Error),
    /// A replay came to the end of what was recorded.
    #[error("the record ends before {asked}")]
    RecordEnds {
        /// What the guest asks for there.
        asked: String,
    },
    /// The guest asked for something else than it did the first time.
    #[error("the guest parts from its record at entry {n}: expected {expected}, got {got}")]
    Diverged {
        /// The entry.
        n: u64,
        /// What was asked the first time.
        expected: String,
        /// What is asked now.
        got: String,
    },
    /// Its time is over.
    #[error("{0}")]
    Late(String),
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
    pub fn begin(context: RunContext, header: Header) -> Result<Self, Halt> {
        let mut run = Self::fresh(context, &header, header.grants.clone());
        run.append(Entry::Header(Box::new(header)))?;
        Ok(run)
    }

    /// The same under a plan that a person has approved: what differs from it is stopped before it is sent. Where the plan is
    /// `fresh`, its entries, what it has waited for is not waited for again.
    ///
    /// # Errors
    /// [`Halt::Broken`] when the journal does not take it; nothing was sent then.
    pub fn approved(mut self, approval: Approval, fresh: &[Entry]) -> Result<Self, Halt> {
        self.plan_answers = PlanAnswers::of(fresh);
        self.append(Entry::Approved(Box::new(approval.clone())))?;
        self.approval = Some((approval, 0));
        Ok(self)
    }

    fn fresh(context: RunContext, header: &Header, grants: Grants) -> Self {
        Self {
            context,
            grants,
            tally: Tally::default(),
            began: header.at,
            deadline: header.deadline,
            due: header.deadline.saturating_add(GRACE.as_millis() as Millis),
            hold: lease::hold(header),
            holds: false,
            is_plan: header.command == "plan",
            approval: None,
            plan_answers: PlanAnswers::default(),
            compares_decisions: false,
            is_recovery: false,
            state: RunState::default(),
            record: ReplayCursor::default(),
            broken: None,
        }
    }

    /// Performs a call of the guest, once, and records what it came to; or answers what it came to the first time, however often the
    /// host has died since.
    ///
    /// # Guarantees
    /// - A recorded outcome wins over everything: nothing is performed twice.
    /// - Nothing is asked of the cluster that the grants do not allow; a denial is an answer, recorded
    ///   like any other.
    /// - Before a write leaves, the disk holds what a second sending would need to be the same write: its entry
    ///   with the state it meets, or for a release and a request to reconcile, the entry that they follow from.
    /// - A write that the cluster refuses as stale (409) is prepared anew, each attempt in the journal.
    ///
    /// # Errors
    /// The inner error is the guest's to handle. A [`Halt`] ends the guest.
    pub async fn call<A: TypedCall>(&mut self, ask: A) -> Result<Result<A::Answer, Error>, Halt> {
        let (_, answer) = self.execute(ask.effect(), Origin::Guest).await?;
        Ok(match answer {
            Err(error) => Err(error),
            Ok(answer) => Ok(unwrap_answer::<A>(answer)?),
        })
    }

    /// Returns when the guest should be finished, by the cluster's clock.
    pub fn deadline(&self) -> Millis {
        self.deadline
    }

    /// The number of the guest's outcome recorded last.
    pub fn last_entry(&self) -> u64 {
        self.state.last
    }

    /// The step that was opened last, for a sentence about where a run was stopped.
    pub fn step(&self) -> Option<&str> {
        self.state.step.as_deref()
    }

    async fn execute(&mut self, effect: Effect, origin: Origin) -> Result<Reply, Halt> {
        let _calling = (origin == Origin::Guest).then(|| self.context.stop.calling());
        if origin == Origin::Guest {
            if let Some(broken) = &self.broken {
                return Err(Halt::Broken(broken.clone()));
            }
            // mutant writes-after-interrupt: requested ~> insisted
            if self.context.stop.requested() {
                return Err(Halt::Stopped);
            }
            if self.state.bytes > RECORD || self.state.n > ENTRIES {
                return Err(Halt::Flooded(format!(
                    "the guest floods the record of this run: at most {} MiB and {ENTRIES} calls",
                    RECORD >> 20
                )));
            }
        }
        if origin == Origin::Guest {
            // mutant recorded-call-repeated: next_call() ~> next_call().filter(|_| self.compares_decisions)
            if let Some(call) = self.next_call() {
                return self.replayed(call, effect).await;
            }
            if self.context.mode == Mode::Replay {
                return Err(Halt::RecordEnds { asked: replay::words(&effect) });
            }
        }
        if origin == Origin::Guest && self.left().is_zero() {
            return Err(self.late());
        }
        self.state.n += 1;
        let n = self.state.n;
        if let Err(error) = effect.check() {
            return self.done(n, origin, effect, Err(error));
        }
        let mut granted = None;
        if origin == Origin::Guest {
            match self.decide(&effect).await? {
                Ok(given) => granted = Some(given),
                Err(denial) => return self.denied(n, effect, denial, None),
            }
        }
        if let (Origin::Guest, Effect::Write(write)) = (origin, &effect) {
            self.is_approved(write)?;
            self.plan_answers.is_over();
        }
        if let Some(done) =
            (origin == Origin::Guest).then(|| self.plan_answers.next(&effect)).flatten()
        {
            return self.waited_before(n, done);
        }
        self.told(|observer| observer.on_start(&effect));
        match effect {
            Effect::Local(local) => {
                let answer = self.local(&local).await?;
                self.done(n, origin, Effect::Local(local), answer)
            }
            Effect::Read(look) => {
                if self.context.mode == Mode::Plan
                    && let Some(why) = self.state.overlay.ends(&look)
                {
                    return Err(Halt::PlanEnds(why.into()));
                }
                let effect = Effect::Read(look.clone());
                let footprint = self.footprint(&effect);
                let backend = self.context.backend.clone();
                let answer = tokio::select! {
                    answer = within(timeout(&effect), backend.look(&look, &footprint)) => answer,
                    () = self.context.stop.wait(), if origin == Origin::Guest => return Err(Halt::Stopped),
                };
                let answer = answer.map(|a| self.state.overlay.cover(a));
                self.done(n, origin, effect, answer)
            }
            Effect::Write(write) => match self.context.mode {
                // mutant plan-sends-writes: plan(n, write, granted) ~> write(n, origin, write,
                //     granted)
                Mode::Plan => self.plan(n, write, granted).await,
                Mode::Live => self.perform_write(n, origin, write, granted).await,
                Mode::Diagnosis | Mode::Replay => {
                    Err(Halt::Broken("a touch that nobody may send was not stopped before".into()))
                }
            },
        }
    }

    /// How long the guest may still go on.
    fn left(&self) -> Duration {
        Duration::from_millis(self.due.saturating_sub(self.context.clock.now()))
    }

    fn late(&self) -> Halt {
        let minutes = self.due.saturating_sub(self.began) / 60_000;
        Halt::Late(format!(
            "the guest was not through after {minutes} min, its own time and {} min to give back",
            GRACE.as_secs() / 60
        ))
    }

    /// A call of the guest that is not performed; `met` if it was for what it met.
    fn denied(
        &mut self,
        n: u64,
        effect: Effect,
        denial: Denial,
        met: Option<ObservedState>,
    ) -> Result<Reply, Halt> {
        let answer = Err(Error::Denied(denial.to_string()));
        let (at, outcome) = (self.context.clock.now(), recorded_form(&answer)?);
        self.append(Entry::Done(Box::new(Done {
            n,
            origin: Origin::Guest,
            at,
            effect,
            outcome,
            denial: Some(denial),
            observed: met,
            from_plan: None,
        })))?;
        Ok((n, answer))
    }

    fn footprint(&self, effect: &Effect) -> Footprint {
        Footprint::new(effect, self.grants.granted_namespaces(effect.capability()))
    }

    async fn local(&mut self, local: &Local) -> Result<Result<Answer, Error>, Halt> {
        Ok(match local {
            Local::Now(_) => Ok(Answer::Now(self.context.clock.now())),
            Local::Sleep(sleep) => {
                if self.context.mode == Mode::Plan && self.state.overlay.has_writes() {
                    return Err(Halt::PlanEnds(
                        "the guest waits for what its changes will bring".into(),
                    ));
                }
                let (asked, left) = (Duration::from_millis(sleep.milliseconds), self.left());
                tokio::select! {
                    () = self.context.clock.sleep(asked.min(left)) => {}
                    () = self.context.stop.wait() => return Err(Halt::Stopped),
                }
                // mutant guest-runs-forever: left ~> left && false
                if asked > left {
                    return Err(self.late());
                }
                Ok(Answer::Sleep(()))
            }
            Local::Step(_) => Ok(Answer::Step(())),
            Local::Note(_) => Ok(Answer::Note(())),
            Local::AskUser(ask) => {
                let answer = self.observer(&ask.question).await?;
                answer
                    .map(Answer::AskUser)
                    .ok_or_else(|| Error::Unavailable("nobody is at a terminal to be asked".into()))
            }
        })
    }

    fn done(
        &mut self,
        n: u64,
        origin: Origin,
        effect: Effect,
        answer: Result<Answer, Error>,
    ) -> Result<Reply, Halt> {
        let at = self.context.clock.now();
        let outcome = recorded_form(&answer)?;
        self.append_for(
            origin,
            Entry::Done(Box::new(Done {
                n,
                origin,
                at,
                effect,
                outcome,
                denial: None,
                observed: None,
                from_plan: None,
            })),
        )?;
        Ok((n, answer))
    }

    fn closed(
        &mut self,
        n: u64,
        origin: Origin,
        answer: Result<Answer, Error>,
    ) -> Result<Reply, Halt> {
        let at = self.context.clock.now();
        let outcome = recorded_form(&answer)?;
        self.append_for(
            origin,
            Entry::Closed(Closed { n, at, outcome: Some(outcome), conflict: None, settled: false }),
        )?;
        Ok((n, answer))
    }

    /// What the host does at the end is not stopped by a journal that has failed.
    fn append_for(&mut self, origin: Origin, entry: Entry) -> Result<(), Halt> {
        match (self.append(entry), origin) {
            (Ok(()), _) | (Err(_), Origin::Host) => Ok(()),
            (Err(halt), Origin::Guest) => Err(halt),
        }
    }

    fn append(&mut self, entry: Entry) -> Result<(), Halt> {
        self.state.apply(&entry);
        if let Entry::Done(done) = &entry {
            self.tally.record_evidence(&done.effect, &done.outcome);
        }
        self.append_only(entry)
    }

    fn append_only(&mut self, entry: Entry) -> Result<(), Halt> {
        self.told(|observer| observer.on_entry(&entry));
        let written = self.context.journal.append(&entry);
        self.trusted(written)
    }

    /// Who watches may break; the run does not.
    fn told(&mut self, tell: impl FnOnce(&mut dyn Observer)) {
        let observer = self.context.observer.as_mut();
        // mutant observer-panic-ends-run:
        //     drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tell(observer)))) ~>
        //     tell(observer)
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tell(observer))));
    }

    fn sync(&mut self) -> Result<(), Halt> {
        let synced = self.context.journal.sync();
        self.trusted(synced)
    }

    fn trusted(&mut self, result: std::io::Result<()>) -> Result<(), Halt> {
        result.map_err(|e| {
            Halt::Broken(
                self.broken.get_or_insert(format!("the run file cannot be written: {e}")).clone(),
            )
        })
    }
}

fn recorded_form(answer: &Result<Answer, Error>) -> Result<Outcome, Halt> {
    Ok(match answer {
        Ok(answer) => Outcome::Ok(
            serde_json::value::to_raw_value(answer)
                .map_err(|e| Halt::Broken(format!("an answer that is no JSON: {e}")))?,
        ),
        Err(error) => Outcome::Error(error.clone()),
    })
}

/// The answer of this call, and of no other.
fn unwrap_answer<A: TypedCall>(answer: Answer) -> Result<A::Answer, Halt> {
    A::take(answer).ok_or_else(|| {
        Halt::Broken(format!(
            "the backend answered {} with another call's answer",
            std::any::type_name::<A>()
        ))
    })
}

async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| {
        Err(Error::Unavailable(format!("no answer within {} s", timeout.as_secs())))
    })
}

/// How long a call may take: what it names itself, and some more.
fn timeout(effect: &Effect) -> Duration {
    let named = match effect {
        Effect::Write(Write::Suspend(s)) => {
            s.targets.len() as u64 * (u64::from(s.drain_seconds) + 1)
        }
        Effect::Write(Write::Reconcile(r)) => u64::from(r.wait_seconds),
        Effect::Write(Write::Delete(d)) => {
            (d.set.len() as u64).div_ceil(u64::from(d.pacing.batch_size.max(1)))
                * u64::from(d.pacing.interval_ms).div_ceil(1000)
                + d.set.len() as u64
        }
        Effect::Write(Write::Recreate(r)) => r.set.len() as u64,
        Effect::Read(Read::AwaitRollout(a)) => u64::from(a.wait_seconds),
        // Pods that are replaced one after the other wait for each other.
        Effect::Write(Write::Restart(_)) => 3600,
        Effect::Write(Write::AcquireLease(_) | Write::ReleaseLease(_) | Write::Resume(_))
        | Effect::Read(_)
        | Effect::Local(_) => 0,
    };
    CALL_TIMEOUT + Duration::from_secs(named)
}
