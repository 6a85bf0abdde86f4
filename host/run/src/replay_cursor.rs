//! The calls and outcomes in a journal, which a replay answers in order.

use crate::run::Halt;
use crate::state::RunState;
use salve_core::capability::{Answer, Effect};
use salve_core::journal::{AnswerReader, Closed, Entry, ObservedState, Opened, Origin, Recorded};
use salve_core::outcome::{Error, Outcome};
use std::collections::VecDeque;

/// The entries that were not replayed yet.
#[derive(Debug, Default)]
pub(crate) struct ReplayCursor {
    entries: VecDeque<Entry>,
    answers: AnswerReader,
}

/// A call of the guest in the journal.
#[derive(Debug)]
pub(crate) enum RecordedCall {
    Answered(Box<Answered>),
    /// It was opened, and no outcome was recorded.
    InDoubt(Box<InDoubt>),
}

#[derive(Debug)]
pub(crate) struct Answered {
    pub n: u64,
    pub effect: Effect,
    /// None if it cannot be read.
    pub answer: Option<Result<Answer, Error>>,
    pub denied: bool,
    /// What a write was prepared against.
    pub observed: Option<ObservedState>,
    /// Determined when the guest was gone.
    pub resolved: bool,
}

#[derive(Debug)]
pub(crate) struct InDoubt {
    /// As it was asked for.
    pub effect: Effect,
    /// The last attempt.
    pub last: Opened,
    /// What the attempts before it applied.
    pub completed: Vec<Answer>,
}

impl RecordedCall {
    pub fn n(&self) -> u64 {
        match self {
            Self::Answered(answered) => answered.n,
            Self::InDoubt(in_doubt) => in_doubt.last.n,
        }
    }

    pub fn effect(&self) -> &Effect {
        match self {
            Self::Answered(answered) => &answered.effect,
            Self::InDoubt(in_doubt) => &in_doubt.effect,
        }
    }
}

impl ReplayCursor {
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries: entries.into(), answers: AnswerReader::default() }
    }

    /// Returns whether no call is left.
    pub fn is_over(&self) -> bool {
        self.next_call().is_none()
    }

    /// Returns the guest's next call without consuming it.
    pub fn next_call(&self) -> Option<(u64, &Effect)> {
        self.entries.iter().find_map(call)
    }

    /// Returns the guest's next call. `state` gets everything up to its end, the host's entries as
    /// well.
    pub fn next(&mut self, state: &mut RunState) -> Option<RecordedCall> {
        while let Some((entry, answer)) = self.pop(state) {
            match entry {
                Entry::Done(done) | Entry::Planned(done) if done.origin == Origin::Guest => {
                    return Some(RecordedCall::Answered(Box::new(Answered {
                        n: done.n,
                        denied: done.denial.is_some(),
                        answer: parsed(done.outcome, answer),
                        effect: done.effect,
                        observed: done.observed,
                        resolved: false,
                    })));
                }
                Entry::Opened(opened) if opened.origin == Origin::Guest => {
                    return Some(self.outcome_of(*opened, state));
                }
                Entry::Header(_)
                | Entry::Approved(_)
                | Entry::Recovery(_)
                | Entry::Opened(_)
                | Entry::Closed(_)
                | Entry::Done(_)
                | Entry::Planned(_)
                | Entry::GuestExited(_)
                | Entry::Verdict(_) => {}
            }
        }
        None
    }

    /// Returns the entries that are left.
    pub fn remaining(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Applies all that is left to `state`.
    pub fn pass(&mut self, state: &mut RunState) {
        while self.pop(state).is_some() {}
    }

    fn pop(&mut self, state: &mut RunState) -> Option<(Entry, Option<Answer>)> {
        let entry = self.entries.pop_front()?;
        let answer = self.answers.read(&entry);
        state.apply(Recorded { entry: &entry, answer: answer.as_ref() });
        Some((entry, answer))
    }

    fn outcome_of(&mut self, first: Opened, state: &mut RunState) -> RecordedCall {
        let effect = first.effect.clone();
        let (mut last, mut completed) = (first, Vec::new());
        while let Some((entry, answer)) = self.pop(state) {
            match entry {
                Entry::Opened(again) if again.n == last.n => last = *again,
                Entry::Closed(closed) if closed.n == last.n => match closed {
                    Closed { conflict: Some(_), .. } => completed.extend(answer),
                    Closed { conflict: None, outcome: Some(outcome), n, resolved, .. } => {
                        return RecordedCall::Answered(Box::new(Answered {
                            n,
                            effect,
                            answer: parsed(outcome, answer),
                            denied: false,
                            observed: Some(last.observed),
                            resolved,
                        }));
                    }
                    Closed { conflict: None, outcome: None, .. } => {}
                },
                Entry::Header(_)
                | Entry::Approved(_)
                | Entry::Recovery(_)
                | Entry::Opened(_)
                | Entry::Closed(_)
                | Entry::Done(_)
                | Entry::Planned(_)
                | Entry::GuestExited(_)
                | Entry::Verdict(_) => {}
            }
        }
        RecordedCall::InDoubt(Box::new(InDoubt { effect, last, completed }))
    }
}

fn parsed(outcome: Outcome, answer: Option<Answer>) -> Option<Result<Answer, Error>> {
    match outcome {
        Outcome::Error(error) => Some(Err(error)),
        Outcome::Ok(_) => answer.map(Ok),
    }
}

fn call(entry: &Entry) -> Option<(u64, &Effect)> {
    let (origin, n, effect) = match entry {
        Entry::Done(done) | Entry::Planned(done) => (done.origin, done.n, &done.effect),
        Entry::Opened(opened) => (opened.origin, opened.n, &opened.effect),
        Entry::Header(_)
        | Entry::Approved(_)
        | Entry::Recovery(_)
        | Entry::Closed(_)
        | Entry::GuestExited(_)
        | Entry::Verdict(_) => return None,
    };
    (origin == Origin::Guest).then_some((n, effect))
}

/// Parses the outcome of a recorded call.
///
/// # Errors
/// [`Halt::Broken`] if it cannot be read.
pub(crate) fn answer(
    n: u64,
    effect: &Effect,
    outcome: &Outcome,
) -> Result<Result<Answer, Error>, Halt> {
    match outcome {
        Outcome::Error(error) => Ok(Err(error.clone())),
        Outcome::Ok(raw) => effect.decode(raw).map(Ok).map_err(|error| {
            Halt::Broken(format!("the recorded answer of entry {n} cannot be read: {error}"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{ApplyOutcome, Backend, Clock, Current, ReleaseOutcome};
    use crate::journal::InMemory;
    use crate::observer::{NoPrompt, Observer};
    use crate::run::{Mode, Run, RunContext};
    use crate::stop::Stop;
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use proptest::prelude::*;
    use salve_core::Millis;
    use salve_core::capability::cluster_lock::Acquired;
    use salve_core::capability::query_pods::ListPods;
    use salve_core::capability::suspend_flux::{
        PreviousSuspend, Suspend, SuspendOutcome, SuspendResult, Suspended,
    };
    use salve_core::capability::types::{FluxKind, FluxRef};
    use salve_core::capability::{Capability, Pending, Read, Released, Reversal, Write};
    use salve_core::footprint::Footprint;
    use salve_core::grants::{Grant, Grants, Layer};
    use salve_core::journal::{Command, FORMAT, GuestExit, Header};
    use serde_json::{Value, json};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// A backend that chooses each outcome by the next byte. Without bytes, everything succeeds.
    struct Random(Mutex<VecDeque<u8>>);

    impl Random {
        fn choose(&self) -> u8 {
            self.0.lock().unwrap().pop_front().unwrap_or(0)
        }

        fn apply_suspend(&self, call: &Suspend) -> ApplyOutcome {
            let conflict = |completed: usize, in_doubt: bool| {
                let (done, remaining) = call.targets.split_at(completed);
                let done: Vec<_> = done.iter().map(|t| self.suspended(t)).collect();
                let targets = remaining.to_vec();
                ApplyOutcome::Conflict {
                    completed: (!done.is_empty()).then_some(Answer::Suspend(done)),
                    remaining: Write::Suspend(Suspend { targets, ..call.clone() }),
                    message: "conflict".into(),
                    in_doubt,
                }
            };
            match self.choose() % 8 {
                0 | 1 => self.done(call, call.targets.len(), false),
                2 => conflict(call.targets.len() - 1, false),
                3 => conflict(0, false),
                4 => conflict(0, true),
                5 => self.done(call, call.targets.len() / 2, true),
                6 => self.done(call, call.targets.len() - 1, false),
                _ => ApplyOutcome::Done(Err(unavailable())),
            }
        }

        /// Succeeds for the first `count` targets, fails for the next one, and does not try the
        /// rest.
        fn done(&self, call: &Suspend, count: usize, doubtful: bool) -> ApplyOutcome {
            let result = |(i, target): (usize, &FluxRef)| {
                let outcome = match i.cmp(&count) {
                    std::cmp::Ordering::Less => return self.suspended(target),
                    std::cmp::Ordering::Equal => {
                        SuspendOutcome::Failed { error: unavailable(), doubtful }
                    }
                    std::cmp::Ordering::Greater => SuspendOutcome::NotTried,
                };
                SuspendResult { target: target.clone(), outcome }
            };
            let results = call.targets.iter().enumerate().map(result).collect();
            ApplyOutcome::Done(Ok(Answer::Suspend(results)))
        }

        fn suspended(&self, target: &FluxRef) -> SuspendResult {
            let (uid, previous) = ("u0".into(), PreviousSuspend::Absent);
            let outcome = match self.choose() % 4 {
                0 => SuspendOutcome::AlreadySuspended("by alice".into()),
                _ => SuspendOutcome::Suspended(Suspended { uid, previous }),
            };
            SuspendResult { target: target.clone(), outcome }
        }

        fn apply_lock(&self, write: &Write) -> ApplyOutcome {
            let conflict = |in_doubt| ApplyOutcome::Conflict {
                completed: None,
                remaining: write.clone(),
                message: "conflict".into(),
                in_doubt,
            };
            match self.choose() % 4 {
                0 | 1 => ApplyOutcome::Done(Ok(acquired())),
                2 => conflict(true),
                _ => conflict(false),
            }
        }
    }

    fn unavailable() -> Error {
        Error::Unavailable("no response".into())
    }

    fn acquired() -> Answer {
        Answer::AcquireLease(Acquired { namespace: "salve".into(), uid: "l".into() })
    }

    fn target(name: &str) -> FluxRef {
        let (kind, namespace) = (FluxKind::Kustomization, "media".into());
        FluxRef { kind, namespace, name: name.into() }
    }

    fn object(kind: &str, namespace: &str, name: &str, uid: &str) -> Value {
        let metadata = json!({"namespace": namespace, "name": name, "uid": uid});
        json!({"kind": kind, "metadata": metadata, "spec": {}})
    }

    impl Backend for Random {
        fn read<'a>(
            &'a self,
            _: &'a Read,
            _: &'a Footprint,
        ) -> BoxFuture<'a, Result<Answer, Error>> {
            async { Ok(Answer::ListPods(vec![])) }.boxed()
        }

        fn read_current<'a>(
            &'a self,
            write: &'a Write,
            _: Option<&'a ObservedState>,
            _: &'a Footprint,
        ) -> BoxFuture<'a, Result<Current<Answer>, Error>> {
            let choice = self.choose();
            let ready = |objects| Ok(Current::Ready(ObservedState { objects, at: 0 }));
            let current = match (write, choice % 8) {
                (_, 7) => Err(unavailable()),
                (Write::AcquireLease(_), 6) => Ok(Current::AlreadyDone(acquired())),
                (Write::AcquireLease(_), _) => ready(vec![object("Lease", "salve", "salve", "")]),
                (Write::Suspend(call), 6) => {
                    let results = call.targets.iter().map(|t| self.suspended(t)).collect();
                    Ok(Current::AlreadyDone(Answer::Suspend(results)))
                }
                (Write::Suspend(call), _) => {
                    let uid = format!("u{}", choice / 128);
                    let object = |t: &FluxRef| object("Kustomization", "media", &t.name, &uid);
                    ready(call.targets.iter().map(object).collect())
                }
                (other, _) => unreachable!("{}", other.name()),
            };
            async { current }.boxed()
        }

        fn apply<'a>(
            &'a self,
            write: &'a Write,
            _: &'a ObservedState,
            _: &'a Footprint,
        ) -> BoxFuture<'a, ApplyOutcome> {
            let outcome = match write {
                Write::Suspend(call) => self.apply_suspend(call),
                other => self.apply_lock(other),
            };
            async { outcome }.boxed()
        }

        fn resolve<'a>(
            &'a self,
            write: &'a Write,
            observed: &'a ObservedState,
            footprint: &'a Footprint,
        ) -> BoxFuture<'a, ApplyOutcome> {
            self.apply(write, observed, footprint)
        }

        fn read_reversal<'a>(
            &'a self,
            _: &'a Reversal,
            _: Option<&'a ObservedState>,
            _: &'a Footprint,
        ) -> BoxFuture<'a, Result<Current<Released>, Error>> {
            let current = match self.choose() % 4 {
                0 | 1 => Ok(Current::Ready(ObservedState::default())),
                2 => Ok(Current::AlreadyDone(Released { taken_over: None })),
                _ => Err(unavailable()),
            };
            async { current }.boxed()
        }

        fn release<'a>(
            &'a self,
            _: &'a Reversal,
            _: &'a ObservedState,
            _: &'a Footprint,
        ) -> BoxFuture<'a, ReleaseOutcome> {
            let outcome = match self.choose() % 4 {
                0 | 1 => ReleaseOutcome::Done(Ok(Released { taken_over: None })),
                2 => ReleaseOutcome::Conflict("conflict".into()),
                _ => ReleaseOutcome::Done(Err(unavailable())),
            };
            async { outcome }.boxed()
        }
    }

    #[derive(Default)]
    struct Ticks(AtomicU64);

    impl Clock for Ticks {
        fn now(&self) -> Millis {
            self.0.fetch_add(1, Ordering::SeqCst)
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            let milliseconds = u64::try_from(duration.as_millis()).unwrap();
            self.0.fetch_add(milliseconds, Ordering::SeqCst);
            async {}.boxed()
        }
    }

    /// The open reversals of the live run after each entry.
    type OpenAfterEntries = Vec<Vec<Pending<Reversal>>>;

    #[derive(Clone, Default)]
    struct Live(Arc<Mutex<(RunState, OpenAfterEntries)>>);

    impl Live {
        fn latest(&self) -> Vec<Reversal> {
            let live = self.0.lock().unwrap();
            live.0.reversals.pending().into_iter().map(|open| open.reversal).collect()
        }
    }

    impl Observer for Live {
        fn on_start(&mut self, _: &Effect) {}

        fn on_entry(&mut self, recorded: Recorded<'_>) {
            let mut live = self.0.lock().unwrap();
            live.0.apply(recorded);
            let pending = live.0.reversals.pending();
            live.1.push(pending);
        }
    }

    fn header() -> Header {
        let capabilities = [Capability::SuspendFlux, Capability::QueryPods];
        let grants = capabilities.into_iter().map(Grant::whole).collect();
        Header {
            format: FORMAT,
            run: "r1".into(),
            at: 0,
            command: Command::Run,
            salve: "0".into(),
            guest: Default::default(),
            digest: "d".into(),
            configuration: json!({}),
            documents: vec![],
            grants: Grants { layers: vec![Layer { source: "policy.yaml".into(), grants }] },
            limits: Default::default(),
            problems: vec![],
            deadline: 3_600_000,
            context: "test".into(),
            cluster: None,
            user: None,
            machine: None,
            enforcement: None,
        }
    }

    /// A call of the guest.
    #[derive(Clone, Debug)]
    enum Call {
        /// Suspends the objects of the set bits.
        Suspend(u8),
        Release(u32),
        ListPods,
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            4 => (1u8..8).prop_map(Call::Suspend),
            3 => (0u32..8).prop_map(Call::Release),
            1 => Just(Call::ListPods),
        ]
    }

    /// Makes the calls and finishes the run. Returns its journal and what was open after each
    /// entry.
    async fn recorded(
        calls: Vec<Call>,
        choices: Vec<u8>,
    ) -> (Vec<Entry>, Vec<Vec<Pending<Reversal>>>) {
        let (journal, live) = (InMemory::default(), Live::default());
        let context = RunContext {
            backend: Arc::new(Random(Mutex::new(choices.into()))),
            clock: Arc::new(Ticks::default()),
            journal: Box::new(journal.clone()),
            observers: vec![Box::new(live.clone())],
            prompt: Box::new(NoPrompt),
            stop: Stop::default(),
            mode: Mode::Live,
        };
        let mut run = Run::begin(context, header()).unwrap();
        for call in calls {
            let halt = match call {
                Call::Suspend(bits) => {
                    let names = ["a", "b", "c"].iter().enumerate();
                    let names = names.filter(|(i, _)| bits & (1 << i) != 0);
                    let targets = names.map(|(_, name)| target(name)).collect();
                    let suspend = Suspend { targets, reason: String::new(), drain_seconds: 0 };
                    run.call_reversible(suspend).await.err()
                }
                Call::Release(id) => run.release(id).await.err(),
                Call::ListPods => {
                    run.call(ListPods { namespaces: vec!["media".into()] }).await.err()
                }
            };
            assert_eq!(run.open_reversals(), live.latest());
            if halt.is_some() {
                break;
            }
        }
        let result = run.finish(GuestExit::Stopped(None)).await;
        let snapshots = live.0.lock().unwrap().1.clone();
        assert_eq!(snapshots.last(), Some(&result.open));
        (journal.entries(), snapshots)
    }

    proptest! {
        #[test]
        fn any_prefix_of_a_journal_has_the_open_reversals_of_the_live_run(
            calls in proptest::collection::vec(call(), 0..8),
            choices in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let (entries, live) = runtime.unwrap().block_on(recorded(calls, choices));
            prop_assert_eq!(entries.len(), live.len());
            for (last, open) in live.iter().enumerate() {
                let prefix = entries[..=last].to_vec();
                let (mut state, mut cursor) = (RunState::default(), ReplayCursor::new(prefix));
                cursor.pass(&mut state);
                prop_assert_eq!(&state.reversals.pending(), open, "up to {:?}", entries[last]);

                let prefix = entries[..=last].to_vec();
                let (mut state, mut cursor) = (RunState::default(), ReplayCursor::new(prefix));
                while cursor.next(&mut state).is_some() {}
                prop_assert_eq!(&state.reversals.pending(), open, "up to {:?}", entries[last]);
            }
        }
    }
}
