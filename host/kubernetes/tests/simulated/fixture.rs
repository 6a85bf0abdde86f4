//! A run on a simulated cluster, without the door: footprints as the door would make them, conflicts tried again as it would.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::effect::shared::{FluxKind, FluxRef};
use salve_core::effect::suspend_flux::{Suspend, SuspendOutcome, SuspendResult, Suspended};
use salve_core::effect::{Answer, Effect, TypedCall, Write};
use salve_core::footprint::Footprint;
use salve_core::glob::Glob;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_kubernetes::{Cluster, ClusterBackend};
use salve_run::{ApplyOutcome, Backend, Clock, Prepared};
use salve_simulator::{Incident, Simulator};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub const RUN: &str = "run-1";
pub const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
pub const VOLSYNC: &str = "volsync.backube";

pub struct Stage {
    pub simulator: Simulator,
    pub backend: ClusterBackend,
}

struct Virtual(salve_simulator::Clock);

impl Clock for Virtual {
    fn now(&self) -> Millis {
        u64::try_from(self.0.now().as_millisecond()).unwrap()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.advance(duration);
        std::future::ready(()).boxed()
    }
}

impl Stage {
    pub fn new(incident: Incident) -> Self {
        let simulator = Simulator::new(incident);
        let clock = Arc::new(Virtual(simulator.clock()));
        let deadline = clock.now() + 3_600_000;
        let backend = ClusterBackend::new(
            Cluster::over(simulator.clone(), clock, "simulated"),
            RUN,
            deadline,
        );
        Self { simulator, backend }
    }

    pub async fn look<A: TypedCall>(&self, ask: A) -> Result<A::Answer, Error> {
        let effect = ask.effect();
        let footprint = Footprint::new(&effect, vec![Glob::every()]);
        let Effect::Read(look) = &effect else { panic!("{} is no look", effect.name()) };
        Ok(A::take(self.backend.look(look, &footprint).await?).expect("the answer of this look"))
    }

    pub async fn prepare(
        &self,
        write: &Write,
        before: Option<&ObservedState>,
    ) -> Result<Prepared, Error> {
        let footprint = Footprint::new(&Effect::Write(write.clone()), vec![Glob::every()]);
        self.backend.prepare(write, before, &footprint).await
    }

    pub async fn settle(&self, write: &Write, observed: &ObservedState) -> ApplyOutcome {
        let footprint = Footprint::new(&Effect::Write(write.clone()), vec![Glob::every()]);
        self.backend.settle(write, observed, &footprint).await
    }

    pub async fn ready(&self, write: &Write) -> ObservedState {
        match self.prepare(write, None).await.unwrap() {
            Prepared::Ready(observed) => observed,
            Prepared::AlreadyDone(answer) => panic!("settled already: {answer:?}"),
        }
    }

    pub async fn act(&self, write: &Write, observed: &ObservedState) -> ApplyOutcome {
        let footprint = Footprint::new(&Effect::Write(write.clone()), vec![Glob::every()]);
        self.backend.act(write, observed, &footprint).await
    }

    /// Prepares and acts, and after a conflict once more, as the door does. The answer is that of the last attempt.
    pub async fn write<A: TypedCall>(&self, ask: A) -> Result<A::Answer, Error> {
        self.touch_after(ask, None).await
    }

    /// The same, knowing what went before.
    pub async fn touch_after<A: TypedCall>(
        &self,
        ask: A,
        before: Option<&ObservedState>,
    ) -> Result<A::Answer, Error> {
        let mut write = write(ask);
        for _ in 0..5 {
            let answer = match self.prepare(&write, before).await? {
                Prepared::AlreadyDone(answer) => answer,
                Prepared::Ready(observed) => match self.act(&write, &observed).await {
                    ApplyOutcome::Done(answer) => answer?,
                    ApplyOutcome::Conflict { rest, .. } => {
                        write = rest;
                        continue;
                    }
                },
            };
            return Ok(A::take(answer).expect("the answer of this touch"));
        }
        panic!("five conflicts")
    }

    /// Suspends one object: what became of it, or why not.
    pub async fn suspend(&self, ask: Suspend) -> Result<Suspended, Error> {
        one(self.write(ask).await?)
    }

    pub fn kustomization(&self, namespace: &str, name: &str) -> Value {
        self.simulator
            .object(KUSTOMIZE, "kustomizations", namespace, name)
            .expect("the Kustomization is there")
    }

    /// What its writes were answered with, by method.
    pub fn written(&self, method: &str) -> Vec<Value> {
        self.simulator
            .exchanges()
            .into_iter()
            .filter(|exchange| exchange.method == method)
            .filter_map(|exchange| exchange.body)
            .collect()
    }
}

/// What became of a set of one.
pub fn one(mut holds: Vec<SuspendResult>) -> Result<Suspended, Error> {
    assert_eq!(holds.len(), 1, "{holds:?}");
    match holds.remove(0).outcome {
        SuspendOutcome::Suspended(suspended) => Ok(suspended),
        SuspendOutcome::AlreadySuspended(why) => Err(Error::Conflict(why)),
        SuspendOutcome::Failed { error, .. } => Err(error),
        SuspendOutcome::NotTried => panic!("the first of a set is tried"),
    }
}

pub fn write<A: TypedCall>(ask: A) -> Write {
    match ask.effect() {
        Effect::Write(write) => write,
        other => panic!("{} is no touch", other.name()),
    }
}

pub fn answered<A: TypedCall>(acted: ApplyOutcome) -> A::Answer {
    match acted {
        ApplyOutcome::Done(Ok(answer)) => take::<A>(answer),
        other => panic!("{other:?}"),
    }
}

pub fn take<A: TypedCall>(answer: Answer) -> A::Answer {
    A::take(answer).expect("the answer of this call")
}

pub fn app(namespace: &str, name: &str) -> FluxRef {
    FluxRef { kind: FluxKind::Kustomization, namespace: namespace.into(), name: name.into() }
}
