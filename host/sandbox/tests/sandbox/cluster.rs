//! A cluster that answers from a table and keeps what was sent, and runs on it.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::effect::host::Acquired;
use salve_core::effect::query_pvcs::{Phase, Pvc, Waiting};
use salve_core::effect::shared::FluxRef;
use salve_core::effect::shared::ObjectRef;
use salve_core::effect::suspend_flux::{
    PreviousSuspend, Resumed, SuspendOutcome, SuspendResult, Suspended,
};
use salve_core::effect::tail_logs::{Page, Position};
use salve_core::effect::{Answer, Read, Write};
use salve_core::footprint::Footprint;
use salve_core::grants::{Grant, Grants, Layer};
use salve_core::journal::{Header, ObservedState};
use salve_core::outcome::Error;
use salve_core::report::Description;
use salve_run::{
    ApplyOutcome, Backend, Clock, InMemory, Mode, NoObserver, Prepared, Run, RunContext, Stop,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What this cluster was asked, in order.
#[derive(Clone, Default)]
pub struct Cluster {
    pub looks: Arc<Mutex<Vec<Read>>>,
    pub writes: Arc<Mutex<Vec<Write>>>,
    /// Panics in place of an answer.
    pub broken: bool,
    /// Never answers a look.
    pub silent: bool,
}

impl Backend for Cluster {
    fn look<'a>(
        &'a self,
        look: &'a Read,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Answer, Error>> {
        assert!(!self.broken, "the table is broken");
        let mut looks = self.looks.lock().unwrap();
        looks.push(look.clone());
        let seen = looks.len() as u32;
        drop(looks);
        if self.silent {
            return futures::future::pending().boxed();
        }
        let answer = match look {
            Read::ListPvcs(ask) if ask.namespaces == ["gone"] => {
                Err(Error::NotFound("namespace gone".into()))
            }
            Read::ListPvcs(_) => Ok(Answer::ListPvcs(vec![pvc()])),
            Read::NextPage(_) => Ok(Answer::NextPage(page(seen))),
            other => panic!("not in the table: {other:?}"),
        };
        async { answer }.boxed()
    }

    fn prepare<'a>(
        &'a self,
        write: &'a Write,
        _: Option<&'a ObservedState>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        match write {
            Write::AcquireLease(_) => {
                let acquired =
                    Answer::AcquireLease(Acquired { namespace: "salve".into(), uid: "l".into() });
                return async { Ok(Prepared::AlreadyDone(acquired)) }.boxed();
            }
            Write::ReleaseLease(_) => {
                return async { Ok(Prepared::AlreadyDone(Answer::ReleaseLease(()))) }.boxed();
            }
            Write::Suspend(_)
            | Write::Resume(_)
            | Write::Reconcile(_)
            | Write::Delete(_)
            | Write::Recreate(_)
            | Write::Restart(_) => {}
        }
        let object = serde_json::json!({"kind": "Kustomization", "metadata": {"uid": "u1", "name": "media", "namespace": "media"}, "spec": {}});
        async { Ok(Prepared::Ready(ObservedState { objects: vec![object], at: 1 })) }.boxed()
    }

    fn act<'a>(
        &'a self,
        write: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        self.writes.lock().unwrap().push(write.clone());
        let answer = match write {
            Write::Suspend(ask) => {
                let held = |target: &FluxRef| SuspendResult {
                    target: target.clone(),
                    outcome: SuspendOutcome::Suspended(Suspended {
                        uid: "u1".into(),
                        previous: PreviousSuspend::Absent,
                    }),
                };
                Answer::Suspend(ask.targets.iter().map(held).collect())
            }
            Write::Resume(_) => {
                Answer::Resume(Resumed { restored: PreviousSuspend::Absent, taken_over: None })
            }
            other => panic!("not in the table: {other:?}"),
        };
        async { ApplyOutcome::Done(Ok(answer)) }.boxed()
    }

    fn settle<'a>(
        &'a self,
        _: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        unreachable!("nobody gives up on a write here")
    }
}

impl Cluster {
    /// Names of the touches sent so far.
    pub fn sent(&self) -> Vec<&'static str> {
        self.writes.lock().unwrap().iter().map(Write::name).collect()
    }
}

struct Ownership;

impl Clock for Ownership {
    fn now(&self) -> Millis {
        42
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
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
        lines_read: 0,
        more: false,
        newest: None,
        position,
    }
}

/// Grants for everything that these capabilities could concern.
pub fn grants(capabilities: &[&str]) -> Grants {
    Grants {
        layers: vec![Layer {
            source: "test.yaml".into(),
            grants: capabilities.iter().map(|name| Grant::whole(name)).collect(),
        }],
    }
}

/// A run on a cluster, seated.
pub fn run(cluster: &Cluster, mode: Mode, grants: Grants) -> Option<Run> {
    stoppable(cluster, mode, grants, Stop::default())
}

/// A run that can be stopped.
pub fn stoppable(cluster: &Cluster, mode: Mode, grants: Grants, stop: Stop) -> Option<Run> {
    let setting = RunContext {
        backend: Arc::new(cluster.clone()),
        clock: Arc::new(Ownership),
        journal: Box::new(InMemory::default()),
        observer: Box::new(NoObserver),
        stop,
        mode,
    };
    let header = Header {
        format: salve_core::journal::FORMAT,
        run: "r1".into(),
        at: 0,
        command: "run".into(),
        salve: "0".into(),
        guest: Description::default(),
        digest: String::new(),
        configuration: serde_json::Value::Null,
        documents: vec![],
        grants,
        limits: Default::default(),
        deadline: 3_600_000,
        context: "table".into(),
        cluster: None,
        user: None,
        machine: None,
        enforcement: None,
    };
    Some(Run::begin(setting, header).unwrap())
}
