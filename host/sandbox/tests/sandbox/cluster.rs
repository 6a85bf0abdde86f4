//! A cluster that answers from a table and keeps what was sent, and runs on it.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::effect::host::Acquired;
use salve_core::effect::query_pvcs::{Claim, Phase, Waiting};
use salve_core::effect::shared::FluxRef;
use salve_core::effect::shared::ObjectRef;
use salve_core::effect::suspend_flux::{Hold, HoldEnd, Prior as Was, Resumed, Suspended};
use salve_core::effect::tail_logs::{Page, Position};
use salve_core::effect::{Answer, Look, Touch};
use salve_core::footprint::Footprint;
use salve_core::grants::{Grant, Grants, Layer};
use salve_core::journal::{Header, Prior};
use salve_core::outcome::Error;
use salve_core::report::Description;
use salve_run::{Acted, Backend, Clock, InMemory, Mode, Nobody, Prepared, Run, Setting, Stop};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What this cluster was asked, in order.
#[derive(Clone, Default)]
pub struct Cluster {
    pub looks: Arc<Mutex<Vec<Look>>>,
    pub touches: Arc<Mutex<Vec<Touch>>>,
    /// Panics in place of an answer.
    pub broken: bool,
    /// Never answers a look.
    pub silent: bool,
}

impl Backend for Cluster {
    fn look<'a>(
        &'a self,
        look: &'a Look,
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
            Look::Claims(ask) if ask.namespaces == ["gone"] => {
                Err(Error::NotFound("namespace gone".into()))
            }
            Look::Claims(_) => Ok(Answer::Claims(vec![claim()])),
            Look::LogPage(_) => Ok(Answer::LogPage(page(seen))),
            other => panic!("not in the table: {other:?}"),
        };
        async { answer }.boxed()
    }

    fn prepare<'a>(
        &'a self,
        touch: &'a Touch,
        _: Option<&'a Prior>,
        _: &'a Footprint,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        match touch {
            Touch::AcquireLease(_) => {
                let acquired =
                    Answer::AcquireLease(Acquired { namespace: "salve".into(), uid: "l".into() });
                return async { Ok(Prepared::Settled(acquired)) }.boxed();
            }
            Touch::ReleaseLease(_) => {
                return async { Ok(Prepared::Settled(Answer::ReleaseLease(()))) }.boxed();
            }
            Touch::Suspend(_)
            | Touch::Resume(_)
            | Touch::Reconcile(_)
            | Touch::Delete(_)
            | Touch::Recreate(_)
            | Touch::Restart(_) => {}
        }
        let object = serde_json::json!({"kind": "Kustomization", "metadata": {"uid": "u1", "name": "media", "namespace": "media"}, "spec": {}});
        async { Ok(Prepared::Ready(Prior { objects: vec![object], at: 1 })) }.boxed()
    }

    fn act<'a>(&'a self, touch: &'a Touch, _: &'a Prior, _: &'a Footprint) -> BoxFuture<'a, Acted> {
        self.touches.lock().unwrap().push(touch.clone());
        let answer = match touch {
            Touch::Suspend(ask) => {
                let held = |target: &FluxRef| Hold {
                    target: target.clone(),
                    end: HoldEnd::Suspended(Suspended { uid: "u1".into(), prior: Was::Absent }),
                };
                Answer::Suspend(ask.targets.iter().map(held).collect())
            }
            Touch::Resume(_) => Answer::Resume(Resumed { restored: Was::Absent, taken_over: None }),
            other => panic!("not in the table: {other:?}"),
        };
        async { Acted::Done(Ok(answer)) }.boxed()
    }

    fn settle<'a>(&'a self, _: &'a Touch, _: &'a Prior, _: &'a Footprint) -> BoxFuture<'a, Acted> {
        unreachable!("nobody gives up on a write here")
    }
}

impl Cluster {
    /// Names of the touches sent so far.
    pub fn sent(&self) -> Vec<&'static str> {
        self.touches.lock().unwrap().iter().map(Touch::name).collect()
    }
}

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Millis {
        42
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}

fn claim() -> Claim {
    Claim {
        object: ObjectRef::new("media", "plex"),
        uid: "u".into(),
        created: 7,
        phase: Phase::Pending,
        deleting_since: None,
        waiting: Some(Waiting::CsiLocked),
        evidence: None,
        storage_class: None,
        driver: None,
        volume: None,
        reclaim: None,
        data_source: None,
        stands_for: None,
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
        unread: vec![],
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
    let setting = Setting {
        backend: Arc::new(cluster.clone()),
        clock: Arc::new(Standing),
        journal: Box::new(InMemory::default()),
        person: Box::new(Nobody),
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
        rings: None,
    };
    Some(Run::begin(setting, header).unwrap())
}
