//! A fake cluster with fixed answers that records what was sent, and runs on it.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::capability::cluster_lock::Acquired;
use salve_core::capability::query_pvcs::{Phase, Pvc, Waiting};
use salve_core::capability::suspend_flux::{
    PreviousSuspend, SuspendOutcome, SuspendResult, Suspended,
};
use salve_core::capability::tail_logs::{Page, Position};
use salve_core::capability::types::{FluxRef, ObjectRef};
use salve_core::capability::{Answer, Capability, Read, Released, Reversal, Write};
use salve_core::footprint::Footprint;
use salve_core::grants::{Grant, Grants, Layer};
use salve_core::journal::{Command, Header, ObservedState};
use salve_core::outcome::Error;
use salve_core::report::Description;
use salve_run::{
    ApplyOutcome, Backend, Clock, Current, InMemory, Mode, NoPrompt, ReleaseOutcome, Run,
    RunContext, Stop,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A fake cluster. Records its calls in order.
#[derive(Clone, Default)]
pub struct Cluster {
    pub reads: Arc<Mutex<Vec<Read>>>,
    pub sent: Arc<Mutex<Vec<&'static str>>>,
    /// Who took over every object that is released.
    pub taken_over: Option<&'static str>,
    /// Panics on every read.
    pub broken: bool,
    /// Never answers a read.
    pub silent: bool,
}

impl Backend for Cluster {
    fn read<'a>(
        &'a self,
        read: &'a Read,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Answer, Error>> {
        assert!(!self.broken, "the fake cluster is broken");
        let mut reads = self.reads.lock().unwrap();
        reads.push(read.clone());
        let count = reads.len() as u32;
        drop(reads);
        if self.silent {
            return futures::future::pending().boxed();
        }
        let answer = match read {
            Read::ListPvcs(call) if call.namespaces == ["gone"] => {
                Err(Error::NotFound("namespace gone".into()))
            }
            Read::ListPvcs(_) => Ok(Answer::ListPvcs(vec![pvc()])),
            Read::NextPage(_) => Ok(Answer::NextPage(page(count))),
            other => panic!("unexpected call: {other:?}"),
        };
        async { answer }.boxed()
    }

    fn read_current<'a>(
        &'a self,
        write: &'a Write,
        _: Option<&'a ObservedState>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Current<Answer>, Error>> {
        let current = match write {
            Write::AcquireLease(_) => Current::AlreadyDone(Answer::AcquireLease(Acquired {
                namespace: "salve".into(),
                uid: "l".into(),
            })),
            Write::Suspend(_) => Current::Ready(kustomization()),
            other => panic!("unexpected call: {other:?}"),
        };
        async { Ok(current) }.boxed()
    }

    fn apply<'a>(
        &'a self,
        write: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        self.sent.lock().unwrap().push(write.name());
        let Write::Suspend(call) = write else { panic!("unexpected call: {write:?}") };
        let suspended = |target: &FluxRef| SuspendResult {
            target: target.clone(),
            outcome: SuspendOutcome::Suspended(Suspended {
                uid: "u1".into(),
                previous: PreviousSuspend::Absent,
            }),
        };
        let answer = Answer::Suspend(call.targets.iter().map(suspended).collect());
        async { ApplyOutcome::Done(Ok(answer)) }.boxed()
    }

    fn resolve<'a>(
        &'a self,
        _: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        unreachable!("every write here has an outcome")
    }

    fn read_reversal<'a>(
        &'a self,
        _: &'a Reversal,
        _: Option<&'a ObservedState>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Current<Released>, Error>> {
        async { Ok(Current::Ready(kustomization())) }.boxed()
    }

    fn release<'a>(
        &'a self,
        reversal: &'a Reversal,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ReleaseOutcome> {
        self.sent.lock().unwrap().push(reversal.name());
        let released = Released { taken_over: self.taken_over.map(str::to_owned) };
        async { ReleaseOutcome::Done(Ok(released)) }.boxed()
    }
}

impl Cluster {
    /// Returns the names of the writes and reversals sent so far.
    pub fn sent(&self) -> Vec<&'static str> {
        self.sent.lock().unwrap().clone()
    }
}

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Millis {
        42
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}

fn kustomization() -> ObservedState {
    let object = serde_json::json!({
        "kind": "Kustomization",
        "metadata": {"uid": "u1", "name": "media", "namespace": "media"},
        "spec": {},
    });
    ObservedState { objects: vec![object], at: 1 }
}

fn pvc() -> Pvc {
    Pvc {
        object: ObjectRef::new("media", "plex"),
        uid: "u".into(),
        created: 7,
        phase: Phase::Pending,
        terminating_since: None,
        waiting: Some(Waiting::CsiLocked),
        evidence: None,
        storage_class: None,
        driver: None,
        volume: None,
        reclaim_policy: None,
        data_source: None,
        populates: None,
        owner: None,
        finalizers: vec![],
    }
}

fn page(n: u32) -> Page {
    let position =
        vec![Position { pod: "p".into(), timestamp: "2026-01-01T00:00:00Z".into(), ordinal: n }];
    Page {
        lines: vec![],
        pods: vec!["p".into()],
        unreadable: vec![],
        skipped: vec![],
        lines_read: 0,
        more: false,
        newest: None,
        position,
    }
}

/// Grants these capabilities without any restriction.
pub fn grants(capabilities: &[Capability]) -> Grants {
    Grants {
        layers: vec![Layer {
            source: "test.yaml".into(),
            grants: capabilities.iter().copied().map(Grant::whole).collect(),
        }],
    }
}

/// Starts a run on a cluster.
pub fn run(cluster: &Cluster, mode: Mode, grants: Grants) -> Option<Run> {
    stoppable(cluster, mode, grants, Stop::default())
}

/// Starts a run that `stop` can stop.
pub fn stoppable(cluster: &Cluster, mode: Mode, grants: Grants, stop: Stop) -> Option<Run> {
    let context = RunContext {
        backend: Arc::new(cluster.clone()),
        clock: Arc::new(StoppedClock),
        journal: Box::new(InMemory::default()),
        observers: vec![],
        prompt: Box::new(NoPrompt),
        stop,
        mode,
    };
    let header = Header {
        format: salve_core::journal::FORMAT,
        run: "r1".into(),
        at: 0,
        command: Command::Run,
        salve: "0".into(),
        guest: Description::default(),
        digest: String::new(),
        configuration: serde_json::Value::Null,
        documents: vec![],
        grants,
        limits: Default::default(),
        problems: vec![],
        deadline: 3_600_000,
        context: "fake".into(),
        cluster: None,
        user: None,
        machine: None,
        enforcement: None,
    };
    Some(Run::begin(context, header).unwrap())
}
