//! A run: the one path from a guest's call to the cluster. The fields of [`Run`] are private to
//! this module, so nothing can bypass it.

mod approved;
mod decide;
mod finish;
mod lock;
mod release;
mod replan;
mod replay;
mod reversal;
mod verification;
mod write;

use crate::backend::{Backend, Clock};
use crate::journal::Journal;
use crate::observer::{Observer, Prompt};
use crate::replay_cursor::ReplayCursor;
use crate::state::RunState;
use crate::stop::Stop;
use approved::{BoundPlan, PlanAnswers};
use decide::{GrantedCall, UserAnswer};
pub use replan::Planner;
use replan::Replan;
use salve_core::Millis;
use salve_core::approval::{Approval, Difference};
use salve_core::capability::cluster_lock::AcquireLease;
use salve_core::capability::{Answer, Effect, Local, Read, TypedCall};
use salve_core::footprint::Footprint;
use salve_core::grants::{Denial, Grants, Tally};
use salve_core::journal::{Closed, Command, Done, Entry, Header, ObservedState, Origin, Recorded};
use salve_core::outcome::{Error, Outcome};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// Limit of answers and texts in one journal, in bytes.
const MAX_JOURNAL_BYTES: usize = 256 << 20;
const MAX_ENTRIES: u64 = 200_000;

/// How long a guest may continue after its deadline, to clean up.
const GRACE: Duration = Duration::from_secs(600);

/// How long a call may take in addition to its own waits.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);

/// What a run does with writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends them.
    Live,
    /// Records them, until the guest waits for something that only a write could bring.
    Plan,
    /// Denies them.
    Diagnosis,
    /// Answers every call from the journal.
    Replay,
}

/// Everything that a run needs from outside.
pub struct RunContext {
    pub backend: Arc<dyn Backend>,
    pub clock: Arc<dyn Clock>,
    pub journal: Box<dyn Journal>,
    pub observers: Vec<Box<dyn Observer>>,
    pub prompt: Box<dyn Prompt>,
    pub stop: Stop,
    pub mode: Mode,
}

/// A run of a guest.
pub struct Run {
    context: RunContext,
    grants: Grants,
    tally: Tally,
    began: Millis,
    /// When the guest should be finished, by the cluster's clock.
    deadline: Millis,
    /// When the guest is stopped.
    due: Millis,
    /// How this run acquires the cluster lock.
    lock: AcquireLease,
    /// This process has acquired the cluster lock.
    locked: bool,
    /// Nothing is in effect that would have to be taken back.
    is_plan: bool,
    /// The approved plan.
    approval: Option<BoundPlan>,
    /// How to plan the run again, until its approved plan was compared.
    replan: Option<Replan>,
    /// Answers of a fresh plan that depend on time.
    plan_answers: PlanAnswers,
    /// A replay compares the decisions of other grants.
    compares_decisions: bool,
    state: RunState,
    /// What an earlier process recorded and was not replayed yet.
    cursor: ReplayCursor,
    /// Why the journal accepts nothing more.
    broken: Option<String>,
}

/// The number of a call, and its answer.
type Reply = (u64, Result<Answer, Error>);

/// Why the host stops a guest. Not an answer to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The user asked to stop.
    #[error("stopped")]
    Stopped,
    /// The plan reached a wait for something that only a write could bring.
    #[error("plan ends here: {0}")]
    PlanEnds(String),
    /// The guest would do something that was not approved.
    #[error("{0}")]
    Differs(Difference),
    /// Another run holds the cluster lock, or it cannot be acquired.
    #[error("{0}")]
    ClusterLocked(Error),
    /// A replay reached the end of the journal.
    #[error("the journal ends before {asked}")]
    JournalEnds { asked: String },
    /// The guest made another call than the first time.
    #[error("the guest diverged from its journal at entry {n}: expected {expected}, got {got}")]
    Diverged { n: u64, expected: String, got: String },
    /// The deadline and the grace period have passed.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// The guest made more calls than one run may record.
    #[error("{0}")]
    TooManyCalls(String),
    /// The journal or the backend failed. Nothing more is sent.
    #[error("{0}")]
    Broken(String),
}

impl Run {
    /// Starts a run by writing its header.
    ///
    /// # Errors
    /// [`Halt::Broken`] if the journal rejects the header. Nothing was sent.
    pub fn begin(context: RunContext, header: Header) -> Result<Self, Halt> {
        let mut run = Self::new(context, &header, header.grants.clone());
        run.append(Entry::Header(Box::new(header)), None)?;
        Ok(run)
    }

    /// Binds the run to an approved plan: what differs from it is stopped before it is sent.
    /// Answers in the `fresh` entries of that plan that depend on time are reused.
    ///
    /// # Errors
    /// [`Halt::Broken`] if the journal rejects the entry. Nothing was sent.
    pub fn approved(mut self, approval: Approval, fresh: &[Entry]) -> Result<Self, Halt> {
        self.plan_answers = PlanAnswers::of(fresh);
        self.append(Entry::Approved(Box::new(approval.clone())), None)?;
        self.approval = Some(BoundPlan::new(approval));
        Ok(self)
    }

    fn new(context: RunContext, header: &Header, grants: Grants) -> Self {
        Self {
            context,
            grants,
            tally: Tally::default(),
            began: header.at,
            deadline: header.deadline,
            due: header.deadline.saturating_add(GRACE.as_millis() as Millis),
            lock: lock::of_run(header),
            locked: false,
            is_plan: header.command == Command::Plan,
            approval: None,
            replan: None,
            plan_answers: PlanAnswers::default(),
            compares_decisions: false,
            state: RunState::default(),
            cursor: ReplayCursor::default(),
            broken: None,
        }
    }

    /// Performs a call of the guest once and records its outcome, or answers with the recorded one,
    /// however often the host has died since.
    ///
    /// # Guarantees
    /// - A recorded outcome takes precedence: nothing is performed twice.
    /// - Nothing is sent to the cluster that the grants do not allow. A denial is an answer,
    ///   recorded like any other.
    /// - Before a write is sent, everything is on disk that is needed to send the same write again:
    ///   its entry with the state that it was prepared against, or the entries that it follows
    ///   from.
    /// - A write that the cluster rejects as stale (409) is prepared again, each attempt in the
    ///   journal.
    ///
    /// # Errors
    /// The inner error is for the guest to handle. A [`Halt`] stops the guest.
    pub async fn call<C: TypedCall>(&mut self, call: C) -> Result<Result<C::Answer, Error>, Halt> {
        let (_, answer) = self.call_for_guest(call.effect()).await?;
        answer.map_or_else(|error| Ok(Err(error)), |answer| unwrap::<C>(answer).map(Ok))
    }

    /// Returns the number of the guest's latest answer.
    pub fn last_entry(&self) -> u64 {
        self.state.last
    }

    /// Returns when the guest should be finished, by the cluster's clock.
    pub fn deadline(&self) -> Millis {
        self.deadline
    }

    /// Returns the name of the latest step.
    pub fn step(&self) -> Option<&str> {
        self.state.step.as_deref()
    }

    /// Checks limits, replays, or decides and executes a call of the guest.
    async fn call_for_guest(&mut self, effect: Effect) -> Result<Reply, Halt> {
        let _calling = self.context.stop.calling();
        self.check_limits()?;
        // mutant recorded-call-repeated: self.cursor.next(&mut self.state) ~>
        //     self.cursor.next(&mut self.state).filter(|_| self.compares_decisions)
        if let Some(recorded) = self.cursor.next(&mut self.state) {
            return self.replay_call(recorded, effect).await;
        }
        if self.context.mode == Mode::Replay {
            return Err(Halt::JournalEnds { asked: replay::describe(&effect) });
        }
        if self.time_left().is_zero() {
            return Err(self.deadline_exceeded());
        }
        if let Err(error) = effect.validate() {
            let n = self.next_number();
            return self.done(n, Origin::Guest, effect, Err(error));
        }
        let granted = match self.decide(&effect).await? {
            Ok(granted) => granted,
            Err(denial) => {
                let n = self.next_number();
                return self.denied(n, effect, denial, None);
            }
        };
        if let Effect::Write(write) = &effect
            && let Err(error) = self.check_approval(write).await?
        {
            let n = self.next_number();
            return self.done(n, Origin::Guest, effect, Err(error));
        }
        if effect.changes_cluster() {
            self.plan_answers.clear();
        }
        if let Some(answered) = self.plan_answers.next(&effect) {
            let n = self.next_number();
            return self.answer_from_plan(n, answered);
        }
        if matches!(effect, Effect::Write(_)) && self.context.mode == Mode::Live {
            self.acquire_lock().await?;
        }
        let n = self.next_number();
        self.execute(n, Origin::Guest, effect, Some(granted)).await
    }

    /// Executes a call of the host. No grant, limit, or deadline applies to it.
    async fn call_for_host(&mut self, effect: Effect) -> Result<Reply, Halt> {
        let n = self.next_number();
        self.execute(n, Origin::Host, effect, None).await
    }

    fn check_limits(&self) -> Result<(), Halt> {
        if let Some(broken) = &self.broken {
            return Err(Halt::Broken(broken.clone()));
        }
        // mutant writes-after-interrupt: requested ~> insisted
        if self.context.stop.requested() {
            return Err(Halt::Stopped);
        }
        if self.state.bytes > MAX_JOURNAL_BYTES || self.state.n > MAX_ENTRIES {
            return Err(Halt::TooManyCalls(format!(
                "the guest made more calls than one run may record: at most {} MiB and \
                 {MAX_ENTRIES} entries",
                MAX_JOURNAL_BYTES >> 20
            )));
        }
        Ok(())
    }

    fn next_number(&mut self) -> u64 {
        self.state.n += 1;
        self.state.n
    }

    /// Performs a call and records its outcome.
    async fn execute(
        &mut self,
        n: u64,
        origin: Origin,
        effect: Effect,
        granted: Option<GrantedCall>,
    ) -> Result<Reply, Halt> {
        self.notify(|observer| observer.on_start(&effect));
        match (effect, self.context.mode) {
            (Effect::Local(local), _) => {
                let answer = self.local(&local).await?;
                self.done(n, origin, Effect::Local(local), answer)
            }
            (Effect::Read(read), _) => self.read(n, origin, read).await,
            // mutant plan-sends-writes: self.plan_write(n, write, granted).await ~>
            //     self.perform_write(n, origin, write, granted).await
            (Effect::Write(write), Mode::Plan) => self.plan_write(n, write, granted).await,
            (Effect::Write(write), Mode::Live) => {
                self.perform_write(n, origin, write, granted).await
            }
            (Effect::Reversal(reversal), Mode::Plan) => self.plan_reversal(n, reversal),
            (Effect::Reversal(reversal), Mode::Live) => {
                self.perform_reversal(n, origin, reversal, 1).await
            }
            (Effect::Write(_) | Effect::Reversal(_), Mode::Diagnosis | Mode::Replay) => {
                Err(Halt::Broken("a write was not stopped in a mode that sends none".into()))
            }
        }
    }

    /// Returns how long the guest may continue.
    fn time_left(&self) -> Duration {
        Duration::from_millis(self.due.saturating_sub(self.context.clock.now()))
    }

    fn deadline_exceeded(&self) -> Halt {
        let minutes = self.due.saturating_sub(self.began) / 60_000;
        Halt::DeadlineExceeded(format!(
            "the guest was not finished after {minutes} min: its deadline, and {} min to clean up",
            GRACE.as_secs() / 60
        ))
    }

    /// Returns what a call may send, under the grants of this run.
    fn footprint(&self, effect: &Effect) -> Footprint {
        Footprint::new(effect, self.grants.granted_namespaces(effect.capability()))
    }

    async fn local(&mut self, local: &Local) -> Result<Result<Answer, Error>, Halt> {
        Ok(match local {
            Local::Now(_) => Ok(Answer::Now(self.context.clock.now())),
            Local::Sleep(sleep) => {
                if self.context.mode == Mode::Plan && self.state.planned.any {
                    return Err(Halt::PlanEnds(
                        "the guest waits for what its changes bring".into(),
                    ));
                }
                let (asked, left) = (Duration::from_millis(sleep.milliseconds), self.time_left());
                tokio::select! {
                    () = self.context.clock.sleep(asked.min(left)) => {}
                    () = self.context.stop.wait() => return Err(Halt::Stopped),
                }
                // mutant guest-runs-forever: left ~> left && false
                if asked > left {
                    return Err(self.deadline_exceeded());
                }
                Ok(Answer::Sleep(()))
            }
            Local::Step(_) => Ok(Answer::Step(())),
            Local::Note(_) => Ok(Answer::Note(())),
            Local::Observed(observed) => {
                let granted = |capability| self.grants.granted_namespaces(capability);
                let proof = &self.state.proof;
                proof
                    .check_observation(&observed.problem, observed.entry, granted)
                    .map(|()| Answer::Observed(()))
                    .map_err(Error::Invalid)
            }
            Local::AskUser(ask) => match self.ask_user(&ask.question).await? {
                UserAnswer::Yes => Ok(Answer::AskUser(true)),
                UserAnswer::No | UserAnswer::Expired => Ok(Answer::AskUser(false)),
                UserAnswer::Unavailable => {
                    Err(Error::Unavailable("no one is available to answer at a terminal".into()))
                }
            },
        })
    }

    async fn read(&mut self, n: u64, origin: Origin, read: Read) -> Result<Reply, Halt> {
        if self.context.mode == Mode::Plan
            && let Some(why) = read.ends_plan()
        {
            return Err(Halt::PlanEnds(why.into()));
        }
        let effect = Effect::Read(read.clone());
        let footprint = self.footprint(&effect);
        let backend = self.context.backend.clone();
        let limit = match origin {
            // mutant read-outlasts-guest: timeout(&effect).min(self.time_left()) ~>
            //     timeout(&effect)
            Origin::Guest => timeout(&effect).min(self.time_left()),
            Origin::Host => timeout(&effect),
        };
        let answer = tokio::select! {
            answer = within(limit, backend.read(&read, &footprint)) => answer,
            () = self.context.stop.wait(), if origin == Origin::Guest => return Err(Halt::Stopped),
        };
        let answer = answer.and_then(|answer| read.overlay(&self.state.planned, answer));
        self.done(n, origin, effect, answer)
    }

    /// Records a call that the grants deny. `observed` is what it would have been sent against.
    fn denied(
        &mut self,
        n: u64,
        effect: Effect,
        denial: Denial,
        observed: Option<ObservedState>,
    ) -> Result<Reply, Halt> {
        let answer = Err(Error::Denied(denial.to_string()));
        let entry = Entry::Done(Box::new(Done {
            n,
            origin: Origin::Guest,
            at: self.context.clock.now(),
            effect,
            outcome: journal_form(&answer)?,
            denial: Some(denial),
            observed,
            from_plan: None,
        }));
        self.append(entry, None)?;
        Ok((n, answer))
    }

    /// Records a call that has no [`Entry::Opened`].
    fn done(
        &mut self,
        n: u64,
        origin: Origin,
        effect: Effect,
        answer: Result<Answer, Error>,
    ) -> Result<Reply, Halt> {
        let entry = Entry::Done(Box::new(Done {
            n,
            origin,
            at: self.context.clock.now(),
            effect,
            outcome: journal_form(&answer)?,
            denial: None,
            observed: None,
            from_plan: None,
        }));
        self.append_for(origin, entry, answer.as_ref().ok())?;
        Ok((n, answer))
    }

    /// Records the outcome of an opened write or reversal.
    fn closed(
        &mut self,
        n: u64,
        origin: Origin,
        answer: Result<Answer, Error>,
    ) -> Result<Reply, Halt> {
        let entry = Entry::Closed(Closed {
            n,
            at: self.context.clock.now(),
            outcome: Some(journal_form(&answer)?),
            conflict: None,
            in_doubt: false,
            resolved: false,
        });
        self.append_for(origin, entry, answer.as_ref().ok())?;
        Ok((n, answer))
    }

    /// Appends an entry. A failed journal does not stop what the host does at the end.
    fn append_for(
        &mut self,
        origin: Origin,
        entry: Entry,
        answer: Option<&Answer>,
    ) -> Result<(), Halt> {
        match (self.append(entry, answer), origin) {
            (Ok(()), _) | (Err(_), Origin::Host) => Ok(()),
            (Err(halt), Origin::Guest) => Err(halt),
        }
    }

    /// Appends an entry and shows it to all observers, with its parsed answer.
    fn append(&mut self, entry: Entry, answer: Option<&Answer>) -> Result<(), Halt> {
        let written = self.context.journal.append(&entry);
        let written = self.check_journal(written);
        if let Some(replan) = &mut self.replan {
            replan.record(&entry);
        }
        self.observe(&entry, answer);
        written
    }

    fn observe(&mut self, entry: &Entry, answer: Option<&Answer>) {
        let recorded = Recorded { entry, answer };
        self.state.apply(recorded);
        if let (Entry::Done(done), Some(answer)) = (entry, answer)
            && let Effect::Read(read) = &done.effect
        {
            self.tally.record_evidence(read, answer);
        }
        self.notify(|observer| observer.on_entry(recorded));
    }

    /// Calls every observer. One that panics does not end the run.
    fn notify(&mut self, call: impl Fn(&mut dyn Observer)) {
        for observer in &mut self.context.observers {
            let call = || call(observer.as_mut());
            // mutant observer-panic-ends-run:
            //     drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call))) ~>
            //     { let mut call = call; call() }
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)));
        }
    }

    fn sync(&mut self) -> Result<(), Halt> {
        let synced = self.context.journal.sync();
        self.check_journal(synced)
    }

    fn check_journal(&mut self, result: std::io::Result<()>) -> Result<(), Halt> {
        result.map_err(|error| {
            let broken = format!("failed to write the run file: {error}");
            Halt::Broken(self.broken.get_or_insert(broken).clone())
        })
    }
}

fn journal_form(answer: &Result<Answer, Error>) -> Result<Outcome, Halt> {
    Ok(match answer {
        Ok(answer) => Outcome::Ok(
            serde_json::value::to_raw_value(answer)
                .map_err(|error| Halt::Broken(format!("an answer is not valid JSON: {error}")))?,
        ),
        Err(error) => Outcome::Error(error.clone()),
    })
}

/// Returns the answer of this call.
fn unwrap<C: TypedCall>(answer: Answer) -> Result<C::Answer, Halt> {
    C::unwrap(answer).map_err(|error| Halt::Broken(error.text().to_owned()))
}

async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| {
        Err(Error::Unavailable(format!("no response within {} s", timeout.as_secs())))
    })
}

/// Waits for a call: at most for `limit` by the local clock, and until the moment `until` by the
/// cluster's. Returns None if it has not finished by then.
async fn bounded<T>(
    clock: &dyn Clock,
    until: Millis,
    limit: Duration,
    call: impl Future<Output = T>,
) -> Option<T> {
    let mut call = std::pin::pin!(call);
    // A simulated cluster's clock runs ahead of the local one.
    let by_cluster = std::future::poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if clock.now() >= until => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    tokio::time::timeout(limit, by_cluster).await.ok().flatten()
}

/// Returns how long a call may take.
fn timeout(effect: &Effect) -> Duration {
    CALL_TIMEOUT + effect.waits()
}
