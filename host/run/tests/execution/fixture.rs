//! A scripted backend, and what the tests share.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::capability::cluster_lock::Acquired;
use salve_core::capability::delete_replicationsources::{
    Delete, Deletion, DeletionOutcome, DeletionTarget, Pacing,
};
use salve_core::capability::query_pods::ListPods;
use salve_core::capability::reconcile_flux::{Reconcile, Reconciliation};
use salve_core::capability::restart_deployment::{Restart, Restarted, Strategy};
use salve_core::capability::suspend_flux::{
    PreviousSuspend, Suspend, SuspendOutcome, SuspendResult, Suspended,
};
use salve_core::capability::types::{FluxKind, FluxRef, ObjectRef};
use salve_core::capability::{Answer, Capability, Read, Released, Reversal, Write};
use salve_core::footprint::Footprint;
use salve_core::glob::Glob;
use salve_core::grants::{Grant, Grants, Layer, Max};
use salve_core::journal::{Command, Entry, FORMAT, GuestExit, Header, ObservedState, Recovery};
use salve_core::outcome::Error;
use salve_core::report::{Concluded, Conclusion};
use salve_run::{
    ApplyOutcome, Backend, Clock, Current, InMemory, Journal, Mode, NoPrompt, Observer, Prompt,
    ReleaseOutcome, Run, RunContext, Stop,
};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A call that never returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    Read,
    Apply,
    /// It takes [`Scripted::apply_takes`] again and again.
    Pacing,
}

/// What the backend says about the cluster lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// It can be acquired, and its calls are not logged.
    #[default]
    Free,
    HeldBy(&'static str),
    /// The request to acquire it gets no response, and then it cannot be read.
    Lost,
    /// The same, but a second request conflicts before it cannot be read.
    LostThenConflict,
}

/// Answers writes from a script, and logs its calls.
#[derive(Default)]
pub struct Scripted {
    /// Outcomes of `apply`, in order; afterwards everything succeeds.
    pub applies: Mutex<VecDeque<ApplyOutcome>>,
    /// Outcomes of `resolve`, in order; afterwards nothing was applied.
    pub resolves: Mutex<VecDeque<ApplyOutcome>>,
    /// Outcomes of `release`, in order; afterwards everything succeeds.
    pub releases: Mutex<VecDeque<ReleaseOutcome>>,
    /// Outcomes of `read_reversal`, in order; afterwards it succeeds.
    pub reversal_errors: Mutex<VecDeque<Result<(), Error>>>,
    pub calls: Mutex<Vec<String>>,
    /// What each `read_reversal` got as the state in doubt.
    pub in_doubt: Mutex<Vec<Option<ObservedState>>>,
    /// The number of the `apply` or `release` in which the process dies.
    pub dies_at: Mutex<Option<usize>>,
    pub died: Arc<tokio::sync::Notify>,
    pub lock: Lock,
    pub lock_requests: AtomicU64,
    pub hang: Option<Hang>,
    /// Nothing responds any more.
    pub is_silent: AtomicBool,
    /// The next release asks this many times to stop, and never returns.
    pub stop_in_release: Mutex<Option<(Stop, u8)>>,
    /// UIDs of the objects that `read_current` reads, in order; afterwards `u-1`.
    pub uids: Mutex<VecDeque<&'static str>>,
    /// Errors of `read_current`, in order; None and afterwards it succeeds.
    pub read_errors: Mutex<VecDeque<Option<Error>>>,
    /// How long each `apply` takes by the cluster's clock.
    pub apply_takes: Duration,
    pub clock: Arc<Ticks>,
    /// Answers reads.
    pub world: Option<World>,
}

/// Answers reads by the state of the backend.
pub type World = Box<dyn Fn(&Read, &Scripted) -> Result<Answer, Error> + Send + Sync>;

impl Scripted {
    /// Returns whether a call was made, such as `apply suspend-flux.suspend`.
    pub fn has_called(&self, call: &str) -> bool {
        self.calls.lock().unwrap().iter().any(|made| made == call)
    }

    fn log(&self, call: &str, name: &str) {
        self.calls.lock().unwrap().push(format!("{call} {name}"));
    }

    fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::SeqCst)
    }

    /// Returns whether the process dies now.
    fn dies(&self) -> bool {
        let mut dies_at = self.dies_at.lock().unwrap();
        let Some(left) = dies_at.as_mut() else { return false };
        *left -= 1;
        if *left == 0 {
            self.died.notify_one();
        }
        *left == 0
    }

    fn read_lock(&self) -> Result<Current<Answer>, Error> {
        let requests = self.lock_requests.load(Ordering::SeqCst);
        let lost = || {
            let object = json!({"kind": "Lease", "metadata": {"namespace": "salve"}});
            Ok(Current::Ready(ObservedState { objects: vec![object], at: 0 }))
        };
        match self.lock {
            Lock::Free => {
                let acquired = Acquired { namespace: "salve".into(), uid: "l".into() };
                Ok(Current::AlreadyDone(Answer::AcquireLease(acquired)))
            }
            Lock::HeldBy(run) => {
                Err(Error::Conflict(format!("another run {run} holds the cluster lock")))
            }
            Lock::Lost if requests == 0 => lost(),
            Lock::LostThenConflict if requests <= 1 => lost(),
            Lock::Lost | Lock::LostThenConflict => {
                Err(Error::Unavailable("connection refused".into()))
            }
        }
    }
}

fn object(name: &str, uid: &str) -> Value {
    let metadata = json!({"namespace": "media", "name": name, "uid": uid});
    json!({"kind": "Kustomization", "metadata": metadata, "spec": {}})
}

impl Backend for Scripted {
    fn read<'a>(
        &'a self,
        read: &'a Read,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Answer, Error>> {
        self.log("read", read.name());
        if let Some(world) = &self.world {
            let answer = world(read, self);
            return async { answer }.boxed();
        }
        if self.hang == Some(Hang::Read) {
            return std::future::pending().boxed();
        }
        async { Ok(Answer::ListPods(vec![])) }.boxed()
    }

    fn read_current<'a>(
        &'a self,
        write: &'a Write,
        _: Option<&'a ObservedState>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Current<Answer>, Error>> {
        if let Write::AcquireLease(_) = write {
            return async { self.read_lock() }.boxed();
        }
        self.log("read-current", write.name());
        let uid = self.uids.lock().unwrap().pop_front().unwrap_or("u-1");
        if let Some(Some(error)) = self.read_errors.lock().unwrap().pop_front() {
            return async { Err(error) }.boxed();
        }
        let objects = match write {
            Write::Suspend(call) => {
                call.targets.iter().map(|target| object(&target.name, uid)).collect()
            }
            Write::Delete(call) => {
                call.set.iter().map(|target| object(&target.object.name, uid)).collect()
            }
            Write::Restart(call) => {
                let ObjectRef { namespace, name } = &call.target;
                let metadata = json!({"namespace": namespace, "name": name, "uid": uid});
                vec![json!({"kind": "Deployment", "metadata": metadata, "spec": {}})]
            }
            Write::Reconcile(_) => vec![object("plex", uid)],
            other => unreachable!("no test makes the call {}", other.name()),
        };
        // Each read has its own time.
        let at = self.calls.lock().unwrap().len() as Millis;
        async move { Ok(Current::Ready(ObservedState { objects, at })) }.boxed()
    }

    fn apply<'a>(
        &'a self,
        write: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        if let Write::AcquireLease(_) = write {
            let in_doubt = self.lock_requests.fetch_add(1, Ordering::SeqCst) == 0;
            let (remaining, message) = (write.clone(), "no response".into());
            let outcome = ApplyOutcome::Conflict { completed: None, remaining, message, in_doubt };
            return async { outcome }.boxed();
        }
        self.log("apply", write.name());
        if self.is_silent() || self.dies() || self.hang == Some(Hang::Apply) {
            return std::future::pending().boxed();
        }
        if self.hang == Some(Hang::Pacing) {
            return async {
                loop {
                    self.clock.advance(self.apply_takes);
                    tokio::task::yield_now().await;
                }
            }
            .boxed();
        }
        self.clock.advance(self.apply_takes);
        let scripted = self.applies.lock().unwrap().pop_front();
        let answer = match write {
            Write::Suspend(call) => Answer::Suspend(call.targets.iter().map(suspended).collect()),
            Write::Restart(_) => Answer::Restart(Restarted { at: 5, old_pods: vec![] }),
            Write::Delete(call) => Answer::Delete(
                call.set.iter().map(|t| deletion(t, DeletionOutcome::Deleted)).collect(),
            ),
            Write::Reconcile(_) => Answer::Reconcile(Reconciliation {
                handled: true,
                ready: true,
                message: String::new(),
            }),
            other => unreachable!("no test makes the call {}", other.name()),
        };
        async move { scripted.unwrap_or(ApplyOutcome::Done(Ok(answer))) }.boxed()
    }

    fn resolve<'a>(
        &'a self,
        write: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        self.log("resolve", write.name());
        if self.is_silent() {
            return std::future::pending().boxed();
        }
        let scripted = self.resolves.lock().unwrap().pop_front();
        async move { scripted.unwrap_or_else(|| conflict(None, write.clone())) }.boxed()
    }

    fn read_reversal<'a>(
        &'a self,
        reversal: &'a Reversal,
        in_doubt: Option<&'a ObservedState>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Current<Released>, Error>> {
        if let (Reversal::ReleaseLease(_), Lock::Free) = (reversal, self.lock) {
            return async { Ok(Current::AlreadyDone(Released { taken_over: None })) }.boxed();
        }
        self.log("read-reversal", reversal.name());
        self.in_doubt.lock().unwrap().push(in_doubt.cloned());
        if let Some(Err(error)) = self.reversal_errors.lock().unwrap().pop_front() {
            return async { Err(error) }.boxed();
        }
        async { Ok(Current::Ready(ObservedState::default())) }.boxed()
    }

    fn release<'a>(
        &'a self,
        reversal: &'a Reversal,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ReleaseOutcome> {
        self.log("release", reversal.name());
        let stop = self.stop_in_release.lock().unwrap().take();
        if let Some((stop, requests)) = stop {
            return async move {
                (0..requests).for_each(|_| stop.request());
                std::future::pending().await
            }
            .boxed();
        }
        if self.is_silent() || self.dies() {
            return std::future::pending().boxed();
        }
        let scripted = self.releases.lock().unwrap().pop_front();
        let done = ReleaseOutcome::Done(Ok(Released { taken_over: None }));
        async move { scripted.unwrap_or(done) }.boxed()
    }
}

/// A clock that advances by 1 ms with each call and by each sleep.
#[derive(Default)]
pub struct Ticks(AtomicU64);

impl Ticks {
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for Ticks {
    fn now(&self) -> Millis {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.advance(duration);
        async {}.boxed()
    }
}

/// A run and what it uses.
pub struct Fixture {
    pub run: Run,
    pub backend: Arc<Scripted>,
    pub journal: InMemory,
    pub stop: Stop,
}

impl Fixture {
    pub fn calls(&self) -> Vec<String> {
        self.backend.calls.lock().unwrap().clone()
    }

    pub fn has_called(&self, call: &str) -> bool {
        self.calls().iter().any(|made| made == call)
    }

    /// Returns the writes and releases that were sent.
    pub fn sent(&self) -> Vec<String> {
        let is_sent = |call: &String| call.starts_with("apply") || call.starts_with("release");
        self.calls().into_iter().filter(is_sent).collect()
    }
}

/// Returns the context of a live run without observers.
pub fn context(backend: &Arc<Scripted>, journal: Box<dyn Journal>) -> RunContext {
    RunContext {
        backend: backend.clone(),
        clock: backend.clock.clone(),
        journal,
        observers: vec![],
        prompt: Box::new(NoPrompt),
        stop: Stop::default(),
        mode: Mode::Live,
    }
}

pub fn fixture(mode: Mode, backend: Scripted) -> Fixture {
    fixture_with(mode, backend, grants(), Box::new(NoPrompt))
}

pub fn fixture_with(
    mode: Mode,
    backend: Scripted,
    grants: Grants,
    prompt: Box<dyn Prompt>,
) -> Fixture {
    let backend = Arc::new(backend);
    let journal = InMemory::default();
    let stop = Stop::default();
    let context = RunContext {
        prompt,
        stop: stop.clone(),
        mode,
        ..context(&backend, Box::new(journal.clone()))
    };
    let command = if mode == Mode::Plan { Command::Plan } else { Command::Run };
    let run = Run::begin(context, Header { grants, command, ..header() }).unwrap();
    Fixture { run, backend, journal, stop }
}

/// Starts a live run whose writes have these outcomes.
pub fn live(applies: impl IntoIterator<Item = ApplyOutcome>) -> Fixture {
    let applies = Mutex::new(applies.into_iter().collect());
    fixture(Mode::Live, Scripted { applies, ..Scripted::default() })
}

/// Starts a live run with an observer.
pub fn observed(observer: Box<dyn Observer>) -> Fixture {
    let backend = Arc::new(Scripted::default());
    let journal = InMemory::default();
    let stop = Stop::default();
    let context = RunContext {
        observers: vec![observer],
        stop: stop.clone(),
        ..context(&backend, Box::new(journal.clone()))
    };
    Fixture { run: Run::begin(context, header()).unwrap(), backend, journal, stop }
}

/// Returns the entries of a run that dies in its `nth` write or release.
pub async fn died(nth: usize, calls: impl AsyncFnOnce(&mut Run)) -> Vec<Entry> {
    let dies_at = Mutex::new(Some(nth));
    let mut fixture = fixture(Mode::Live, Scripted { dies_at, ..Scripted::default() });
    let died = fixture.backend.died.clone();
    tokio::select! {
        biased;
        () = died.notified() => {}
        () = calls(&mut fixture.run) => panic!("it did not die"),
    }
    fixture.journal.entries()
}

/// Recovers a run under the grants `current`.
pub fn recovered(entries: Vec<Entry>, backend: Scripted, current: Grants) -> Fixture {
    let backend = Arc::new(backend);
    let journal = InMemory::default();
    let stop = Stop::default();
    let context = RunContext { stop: stop.clone(), ..context(&backend, Box::new(journal.clone())) };
    let recovery = Recovery {
        at: 0,
        salve: "0".into(),
        user: None,
        machine: None,
        release_only: false,
        current,
    };
    Fixture { run: Run::recover(context, entries, recovery).unwrap(), backend, journal, stop }
}

pub fn layer(source: &str, grants: Vec<Grant>) -> Layer {
    Layer { source: source.into(), grants }
}

pub fn max(key: &str, value: u32) -> Max {
    let mut max = Max::default();
    max.set(key, value);
    max
}

/// Grants everything that the tests do in the namespace `media`: one restart, three deletions.
pub fn grants() -> Grants {
    let grant = |capability: Capability, max: Max| Grant {
        namespaces: vec![Glob::new("media").unwrap()],
        max,
        ..Grant::whole(capability)
    };
    let grants = vec![
        grant(Capability::SuspendFlux, Max::default()),
        grant(Capability::ReconcileFlux, Max::default()),
        grant(Capability::QueryPods, Max::default()),
        grant(Capability::RestartDeployment, max("restarts", 1)),
        grant(Capability::DeleteReplicationsources, max("deletions", 3)),
    ];
    Grants { layers: vec![layer("policy.yaml", grants)] }
}

pub fn header() -> Header {
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
        grants: grants(),
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

/// Returns the outcome of a write that conflicted.
pub fn conflict(completed: Option<Answer>, remaining: Write) -> ApplyOutcome {
    let message = "it was not applied".into();
    ApplyOutcome::Conflict { completed, remaining, message, in_doubt: false }
}

pub fn list_pods() -> ListPods {
    ListPods { namespaces: vec!["media".into()] }
}

pub fn kustomization(name: &str) -> FluxRef {
    FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: name.into() }
}

pub fn suspend(names: &[&str]) -> Suspend {
    Suspend {
        targets: names.iter().map(|name| kustomization(name)).collect(),
        reason: "test".into(),
        drain_seconds: 1,
    }
}

pub fn suspended(target: &FluxRef) -> SuspendResult {
    let suspended = Suspended { uid: "u-1".into(), previous: PreviousSuspend::Absent };
    SuspendResult { target: target.clone(), outcome: SuspendOutcome::Suspended(suspended) }
}

pub fn failed(name: &str, error: Error, doubtful: bool) -> SuspendResult {
    let outcome = SuspendOutcome::Failed { error, doubtful };
    SuspendResult { target: kustomization(name), outcome }
}

/// Suspends a Kustomization and returns its handle.
pub async fn suspend_plex(run: &mut Run) -> u32 {
    let (_, handles) = run.call_reversible(suspend(&["plex"])).await.unwrap().unwrap();
    match handles.as_slice() {
        [(handle, _)] => *handle,
        other => panic!("{other:?}"),
    }
}

/// Returns the names of the Flux objects that a run still has to resume, newest first.
pub fn open(run: &Run) -> Vec<String> {
    let name = |reversal| match reversal {
        Reversal::Resume(resume) => Some(resume.target.name),
        _other => None,
    };
    run.open_reversals().into_iter().filter_map(name).collect()
}

pub fn restart(namespace: &str) -> Restart {
    Restart {
        target: ObjectRef::new(namespace, "x"),
        uid: "u".into(),
        strategy: Strategy::Annotate,
    }
}

pub fn reconcile() -> Reconcile {
    Reconcile { target: kustomization("plex"), force: false, wait_seconds: 1 }
}

pub fn deletion_target(name: &str) -> DeletionTarget {
    DeletionTarget {
        object: ObjectRef::new("media", name),
        uid: format!("uid-{name}"),
        digest: "d".into(),
        reason: String::new(),
    }
}

pub fn delete(names: &[&str]) -> Delete {
    Delete {
        set: names.iter().map(|name| deletion_target(name)).collect(),
        pacing: Pacing { batch_size: 1, interval_ms: 0 },
    }
}

pub fn deletion(target: &DeletionTarget, outcome: DeletionOutcome) -> Deletion {
    let DeletionTarget { object, uid, .. } = target;
    Deletion { object: object.clone(), uid: uid.clone(), outcome, message: None }
}

pub fn concluded(verdict: Concluded) -> GuestExit {
    GuestExit::Concluded(Conclusion {
        verdict,
        summary: "summary".into(),
        figures: vec![],
        evidence: vec![],
        remaining: vec![],
        prevention: vec![],
    })
}

/// Returns how a run ends that fixed nothing.
pub fn not_fixed() -> GuestExit {
    concluded(Concluded::NotFixed)
}
