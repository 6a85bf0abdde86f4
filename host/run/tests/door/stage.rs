//! A backend that does as it is told, and what the stories share.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::effect::delete_replicationsources::{Delete, Deletion, End, Frozen, Pace};
use salve_core::effect::host::Acquired;
use salve_core::effect::reconcile_flux::{Reconcile, Reconciled};
use salve_core::effect::restart_deployment::{Restart, Restarted, Strategy};
use salve_core::effect::shared::{FluxKind, FluxRef, ObjectRef};
use salve_core::effect::suspend_flux::{Hold, HoldEnd, Prior as Was, Resumed, Suspend, Suspended};
use salve_core::effect::{Answer, Look, Touch};
use salve_core::footprint::Footprint;
use salve_core::glob::Glob;
use salve_core::grants::{Grant, Grants, Layer, Max};
use salve_core::journal::{Ending, FORMAT, Header, Prior};
use salve_core::outcome::Error;
use salve_core::report::{Concluded, Conclusion};
use salve_run::{
    Acted, Backend, Clock, Held, InMemory, Mode, Nobody, Person, Prepared, Run, Setting, Stop,
};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Answers touches from a script, and writes down what it was asked.
#[derive(Default)]
pub struct Scripted {
    pub acts: Mutex<VecDeque<Acted>>,
    pub settles: Mutex<VecDeque<Acted>>,
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
    fn leased(&self, touch: &Touch) -> Option<Result<Answer, Error>> {
        match touch {
            Touch::AcquireLease(_) => Some(match &self.held_by {
                Some(other) => Err(Error::Conflict(format!("run {other} holds this cluster"))),
                None => Ok(Answer::AcquireLease(Acquired {
                    namespace: "salve".into(),
                    uid: "l".into(),
                })),
            }),
            Touch::ReleaseLease(_) => Some(Ok(Answer::ReleaseLease(()))),
            Touch::Suspend(_)
            | Touch::Resume(_)
            | Touch::Reconcile(_)
            | Touch::Delete(_)
            | Touch::Recreate(_)
            | Touch::Restart(_) => None,
        }
    }
}

impl Backend for Scripted {
    fn look<'a>(
        &'a self,
        look: &'a Look,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Answer, Error>> {
        self.asked.lock().unwrap().push(look.name().into());
        if self.hangs {
            return std::future::pending().boxed();
        }
        async { Ok(Answer::Pods(vec![])) }.boxed()
    }
    fn prepare<'a>(
        &'a self,
        touch: &'a Touch,
        _: Option<&'a Prior>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        if let Some(settled) = self.leased(touch) {
            return async move { settled.map(Prepared::Settled) }.boxed();
        }
        self.asked.lock().unwrap().push(format!("prepare {}", touch.name()));
        let uid = self.uids.lock().unwrap().pop_front().unwrap_or("u-1");
        let object = |name: &str| json!({"kind": "Kustomization", "metadata": {"namespace": "media", "name": name, "uid": uid}, "spec": {}});
        let objects = match touch {
            Touch::Suspend(ask) => ask.targets.iter().map(|target| object(&target.name)).collect(),
            Touch::Restart(ask) => {
                vec![
                    json!({"kind": "Deployment", "metadata": {"namespace": ask.target.namespace, "name": ask.target.name, "uid": uid}, "spec": {}}),
                ]
            }
            Touch::Delete(ask) => {
                ask.set.iter().map(|frozen| object(&frozen.object.name)).collect()
            }
            Touch::Resume(_) | Touch::Reconcile(_) | Touch::Recreate(_) => vec![object("plex")],
            Touch::AcquireLease(_) | Touch::ReleaseLease(_) => {
                unreachable!("the Lease is settled before")
            }
        };
        // Each reading has a time of its own.
        let at = self.asked.lock().unwrap().len() as Millis;
        async move { Ok(Prepared::Ready(Prior { objects, at })) }.boxed()
    }
    fn settle<'a>(
        &'a self,
        touch: &'a Touch,
        _: &'a Prior,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Acted> {
        self.asked.lock().unwrap().push(format!("settle {}", touch.name()));
        let scripted = self.settles.lock().unwrap().pop_front();
        let usual = Acted::Conflict {
            sofar: None,
            rest: touch.clone(),
            message: "it was not applied".into(),
        };
        async move { scripted.unwrap_or(usual) }.boxed()
    }
    fn act<'a>(&'a self, touch: &'a Touch, _: &'a Prior, _: &'a Footprint) -> BoxFuture<'a, Acted> {
        self.asked.lock().unwrap().push(format!("act {}", touch.name()));
        if let Touch::Resume(_) = touch
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
        let usual = match touch {
            Touch::Suspend(ask) => Answer::Suspend(ask.targets.iter().map(suspended).collect()),
            Touch::Resume(r) => Answer::Resume(Resumed { restored: r.prior, taken_over: None }),
            Touch::Restart(_) => Answer::Restart(Restarted { at: 5, old_pods: vec![] }),
            Touch::Delete(d) => {
                Answer::Delete(d.set.iter().map(|f| deletion(f, End::Deleted)).collect())
            }
            Touch::Reconcile(_) => {
                Answer::Reconcile(Reconciled { handled: true, ready: true, message: String::new() })
            }
            Touch::Recreate(_) | Touch::AcquireLease(_) | Touch::ReleaseLease(_) => {
                unreachable!("no test re-creates, and the Lease is settled before")
            }
        };
        async move { scripted.unwrap_or(Acted::Done(Ok(usual))) }.boxed()
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
        rings: None,
    }
}

pub fn told(mode: Mode, backend: Scripted) -> Told {
    under(mode, backend, grants(), Box::new(Nobody))
}

pub fn under(mode: Mode, backend: Scripted, grants: Grants, person: Box<dyn Person>) -> Told {
    let backend = Arc::new(backend);
    let journal = InMemory::default();
    let stop = Stop::default();
    let setting = Setting {
        backend: backend.clone(),
        clock: Arc::new(Ticks::default()),
        journal: Box::new(journal.clone()),
        person,
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

pub fn live(acts: impl IntoIterator<Item = Acted>) -> Told {
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

pub fn suspended(target: &FluxRef) -> Hold {
    Hold {
        target: target.clone(),
        end: HoldEnd::Suspended(Suspended { uid: "u-1".into(), prior: Was::Absent }),
    }
}

/// Suspends one, and says its number.
pub async fn hold(run: &mut Run) -> u32 {
    match run.suspend(suspend()).await.unwrap().unwrap().as_slice() {
        [Held::Suspended(id)] => *id,
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

pub fn frozen(name: &str) -> Frozen {
    Frozen {
        object: ObjectRef::new("media", name),
        uid: format!("uid-{name}"),
        digest: "d".into(),
        why: String::new(),
    }
}

pub fn delete(names: &[&str]) -> Delete {
    Delete { set: names.iter().map(|n| frozen(n)).collect(), pace: Pace { at_once: 1, pause: 0 } }
}

pub fn deletion(f: &Frozen, end: End) -> Deletion {
    Deletion { object: f.object.clone(), uid: f.uid.clone(), end, message: None }
}

pub fn concluded(verdict: Concluded, proof: Vec<u64>) -> Ending {
    Ending::Concluded(Conclusion {
        verdict,
        sentence: "so".into(),
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
