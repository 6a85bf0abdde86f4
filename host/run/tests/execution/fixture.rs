//! A backend that does as it is told, and what the stories share.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::effect::delete_replicationsources::{
    Delete, Deletion, DeletionOutcome, DeletionTarget, Pacing,
};
use salve_core::effect::host::Acquired;
use salve_core::effect::reconcile_flux::{Reconcile, Reconciliation};
use salve_core::effect::restart_deployment::{Restart, Restarted, Strategy};
use salve_core::effect::shared::{FluxKind, FluxRef, ObjectRef};
use salve_core::effect::suspend_flux::{
    PreviousSuspend, Resumed, Suspend, SuspendOutcome, SuspendResult, Suspended,
};
use salve_core::effect::{Answer, Read, Write};
use salve_core::footprint::Footprint;
use salve_core::glob::Glob;
use salve_core::grants::{Grant, Grants, Layer, Max};
use salve_core::journal::{FORMAT, GuestExit, Header, ObservedState};
use salve_core::outcome::Error;
use salve_core::report::{Concluded, Conclusion};
use salve_run::{
    ApplyOutcome, Backend, Clock, GuestSuspension, InMemory, Mode, NoObserver, Observer, Prepared,
    Run, RunContext, Stop,
};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Answers touches from a script, and writes down what it was asked.
#[derive(Default)]
pub struct Scripted {
    pub acts: Mutex<VecDeque<ApplyOutcome>>,
    pub settles: Mutex<VecDeque<ApplyOutcome>>,
    pub asked: Mutex<Vec<String>>,
    /// The touch whose `act` never answers, because the process dies in it.
    pub dies_at: Mutex<Option<usize>>,
    pub died: Arc<tokio::sync::Notify>,
    /// Another run that holds the cluster.
    pub held_by: Option<&'static str>,
    pub hangs: bool,
    pub act_hangs: bool,
    pub silent: AtomicBool,
    /// The next release asks to stop and then never answers.
    pub insisted_upon: Mutex<Option<Stop>>,
    /// uids that `prepare` reads, one after the other; then always `u-1`.
    pub uids: Mutex<VecDeque<&'static str>>,
}

impl Scripted {
    /// The Lease is free, and nobody counts who asks for it.
    fn leased(&self, write: &Write) -> Option<Result<Answer, Error>> {
        match write {
            Write::AcquireLease(_) => Some(match &self.held_by {
                Some(other) => Err(Error::Conflict(format!("run {other} holds this cluster"))),
                None => Ok(Answer::AcquireLease(Acquired {
                    namespace: "salve".into(),
                    uid: "l".into(),
                })),
            }),
            Write::ReleaseLease(_) => Some(Ok(Answer::ReleaseLease(()))),
            Write::Suspend(_)
            | Write::Resume(_)
            | Write::Reconcile(_)
            | Write::Delete(_)
            | Write::Recreate(_)
            | Write::Restart(_) => None,
        }
    }
}

impl Backend for Scripted {
    fn look<'a>(
        &'a self,
        look: &'a Read,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Answer, Error>> {
        self.asked.lock().unwrap().push(look.name().into());
        if self.hangs {
            return std::future::pending().boxed();
        }
        async { Ok(Answer::ListPods(vec![])) }.boxed()
    }
    fn prepare<'a>(
        &'a self,
        write: &'a Write,
        _: Option<&'a ObservedState>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        if let Some(settled) = self.leased(write) {
            return async move { settled.map(Prepared::AlreadyDone) }.boxed();
        }
        self.asked.lock().unwrap().push(format!("prepare {}", write.name()));
        let uid = self.uids.lock().unwrap().pop_front().unwrap_or("u-1");
        let object = |name: &str| json!({"kind": "Kustomization", "metadata": {"namespace": "media", "name": name, "uid": uid}, "spec": {}});
        let objects = match write {
            Write::Suspend(ask) => ask.targets.iter().map(|target| object(&target.name)).collect(),
            Write::Restart(ask) => {
                vec![
                    json!({"kind": "Deployment", "metadata": {"namespace": ask.target.namespace, "name": ask.target.name, "uid": uid}, "spec": {}}),
                ]
            }
            Write::Delete(ask) => {
                ask.set.iter().map(|frozen| object(&frozen.object.name)).collect()
            }
            Write::Resume(_) | Write::Reconcile(_) | Write::Recreate(_) => vec![object("plex")],
            Write::AcquireLease(_) | Write::ReleaseLease(_) => {
                unreachable!("the Lease is settled before")
            }
        };
        // Each reading has a time of its own.
        let at = self.asked.lock().unwrap().len() as Millis;
        async move { Ok(Prepared::Ready(ObservedState { objects, at })) }.boxed()
    }
    fn settle<'a>(
        &'a self,
        write: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        self.asked.lock().unwrap().push(format!("settle {}", write.name()));
        let scripted = self.settles.lock().unwrap().pop_front();
        let usual = ApplyOutcome::Conflict {
            completed: None,
            rest: write.clone(),
            message: "it was not applied".into(),
        };
        async move { scripted.unwrap_or(usual) }.boxed()
    }
    fn act<'a>(
        &'a self,
        write: &'a Write,
        _: &'a ObservedState,
        _: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        self.asked.lock().unwrap().push(format!("act {}", write.name()));
        if let Write::Resume(_) = write
            && let Some(stop) = self.insisted_upon.lock().unwrap().take()
        {
            return async move {
                stop.request();
                stop.request();
                std::future::pending().await
            }
            .boxed();
        }
        if self.silent.load(Ordering::SeqCst) {
            return std::future::pending().boxed();
        }
        let mut dies_at = self.dies_at.lock().unwrap();
        if let Some(left) = dies_at.as_mut() {
            *left -= 1;
            if *left == 0 {
                self.died.notify_one();
                return std::future::pending().boxed();
            }
        }
        drop(dies_at);
        if self.act_hangs {
            return std::future::pending().boxed();
        }
        let scripted = self.acts.lock().unwrap().pop_front();
        let usual = match write {
            Write::Suspend(ask) => Answer::Suspend(ask.targets.iter().map(suspended).collect()),
            Write::Resume(r) => Answer::Resume(Resumed { restored: r.previous, taken_over: None }),
            Write::Restart(_) => Answer::Restart(Restarted { at: 5, old_pods: vec![] }),
            Write::Delete(d) => Answer::Delete(
                d.set.iter().map(|f| deletion(f, DeletionOutcome::Deleted)).collect(),
            ),
            Write::Reconcile(_) => Answer::Reconcile(Reconciliation {
                handled: true,
                ready: true,
                message: String::new(),
            }),
            Write::Recreate(_) | Write::AcquireLease(_) | Write::ReleaseLease(_) => {
                unreachable!("no test re-creates, and the Lease is settled before")
            }
        };
        async move { scripted.unwrap_or(ApplyOutcome::Done(Ok(usual))) }.boxed()
    }
}

#[derive(Default)]
pub struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Millis {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
        async {}.boxed()
    }
}

pub struct Told {
    pub run: Run,
    pub backend: Arc<Scripted>,
    pub journal: InMemory,
    pub stop: Stop,
}

pub fn grants() -> Grants {
    let grant = |capability: &str, max: Max| Grant {
        namespaces: vec![Glob::new("media").unwrap()],
        max,
        ..Grant::whole(capability)
    };
    let grants = vec![
        grant("suspend-flux", Max::default()),
        grant("reconcile-flux", Max::default()),
        grant("query-pods", Max::default()),
        grant("restart-deployment", Max { restarts: Some(1), ..Max::default() }),
        grant("delete-replicationsources", Max { deletions: Some(3), ..Max::default() }),
    ];
    Grants { layers: vec![Layer { source: "policy.yaml".into(), grants }] }
}

pub fn header() -> Header {
    Header {
        format: FORMAT,
        run: "r1".into(),
        at: 0,
        command: "run".into(),
        salve: "0".into(),
        guest: Default::default(),
        digest: "d".into(),
        configuration: json!({}),
        documents: vec![],
        grants: grants(),
        limits: Default::default(),
        deadline: 3_600_000,
        context: "test".into(),
        cluster: None,
        user: None,
        machine: None,
        enforcement: None,
    }
}

pub fn told(mode: Mode, backend: Scripted) -> Told {
    under(mode, backend, grants(), Box::new(NoObserver))
}

pub fn under(mode: Mode, backend: Scripted, grants: Grants, observer: Box<dyn Observer>) -> Told {
    let backend = Arc::new(backend);
    let journal = InMemory::default();
    let stop = Stop::default();
    let setting = RunContext {
        backend: backend.clone(),
        clock: Arc::new(Ticks::default()),
        journal: Box::new(journal.clone()),
        observer,
        stop: stop.clone(),
        mode,
    };
    Told {
        run: Run::begin(setting, Header { grants, ..header() }).unwrap(),
        backend,
        journal,
        stop,
    }
}

pub fn live(acts: impl IntoIterator<Item = ApplyOutcome>) -> Told {
    told(
        Mode::Live,
        Scripted { acts: Mutex::new(acts.into_iter().collect()), ..Scripted::default() },
    )
}

pub fn app(name: &str) -> FluxRef {
    FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: name.into() }
}

pub fn suspend() -> Suspend {
    suspend_all(&["plex"])
}

pub fn suspend_all(names: &[&str]) -> Suspend {
    Suspend {
        targets: names.iter().map(|name| app(name)).collect(),
        reason: "test".into(),
        drain_seconds: 1,
    }
}

pub fn suspended(target: &FluxRef) -> SuspendResult {
    SuspendResult {
        target: target.clone(),
        outcome: SuspendOutcome::Suspended(Suspended {
            uid: "u-1".into(),
            previous: PreviousSuspend::Absent,
        }),
    }
}

/// Suspends one, and says its number.
pub async fn hold(run: &mut Run) -> u32 {
    match run.suspend(suspend()).await.unwrap().unwrap().as_slice() {
        [GuestSuspension::Suspended(id)] => *id,
        other => panic!("{other:?}"),
    }
}

pub fn restart(namespace: &str) -> Restart {
    Restart {
        target: ObjectRef::new(namespace, "x"),
        uid: "u".into(),
        strategy: Strategy::Annotate,
    }
}

pub fn reconcile() -> Reconcile {
    let target =
        FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() };
    Reconcile { target, force: false, wait_seconds: 1 }
}

pub fn frozen(name: &str) -> DeletionTarget {
    DeletionTarget {
        object: ObjectRef::new("media", name),
        uid: format!("uid-{name}"),
        digest: "d".into(),
        reason: String::new(),
    }
}

pub fn delete(names: &[&str]) -> Delete {
    Delete {
        set: names.iter().map(|n| frozen(n)).collect(),
        pacing: Pacing { batch_size: 1, interval_ms: 0 },
    }
}

pub fn deletion(f: &DeletionTarget, outcome: DeletionOutcome) -> Deletion {
    Deletion { object: f.object.clone(), uid: f.uid.clone(), outcome, message: None }
}

pub fn concluded(verdict: Concluded, proof: Vec<u64>) -> GuestExit {
    GuestExit::Concluded(Conclusion {
        verdict,
        summary: "so".into(),
        figures: vec![],
        evidence: vec![],
        left: vec![],
        prevention: vec![],
        proof,
    })
}

pub fn asked(told: &Told) -> Vec<String> {
    told.backend.asked.lock().unwrap().clone()
}
