//! A run on a simulated cluster, without the door: footprints as the door would make them, conflicts tried again as it would.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::effect::shared::{FluxKind, FluxRef};
use salve_core::effect::suspend_flux::{Hold, HoldEnd, Suspend, Suspended};
use salve_core::effect::{Answer, Ask, Effect, Touch};
use salve_core::footprint::Footprint;
use salve_core::glob::Glob;
use salve_core::journal::Prior;
use salve_core::outcome::Error;
use salve_kubernetes::{Cluster, Performer};
use salve_run::{Acted, Backend, Clock, Prepared};
use salve_simulator::{Incident, Simulator};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub const RUN: &str = "run-1";
pub const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
pub const VOLSYNC: &str = "volsync.backube";

pub struct Stage {
    pub simulator: Simulator,
    pub performer: Performer,
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
        let performer =
            Performer::new(Cluster::over(simulator.clone(), clock, "simulated"), RUN, deadline);
        Self { simulator, performer }
    }

    pub async fn look<A: Ask>(&self, ask: A) -> Result<A::Answer, Error> {
        let effect = ask.effect();
        let footprint = Footprint::new(&effect, vec![Glob::every()]);
        let Effect::Look(look) = &effect else { panic!("{} is no look", effect.name()) };
        Ok(A::take(self.performer.look(look, &footprint).await?).expect("the answer of this look"))
    }

    pub async fn prepare(&self, touch: &Touch, before: Option<&Prior>) -> Result<Prepared, Error> {
        let footprint = Footprint::new(&Effect::Touch(touch.clone()), vec![Glob::every()]);
        self.performer.prepare(touch, before, &footprint).await
    }

    pub async fn settle(&self, touch: &Touch, prior: &Prior) -> Acted {
        let footprint = Footprint::new(&Effect::Touch(touch.clone()), vec![Glob::every()]);
        self.performer.settle(touch, prior, &footprint).await
    }

    pub async fn ready(&self, touch: &Touch) -> Prior {
        match self.prepare(touch, None).await.unwrap() {
            Prepared::Ready(prior) => prior,
            Prepared::Settled(answer) => panic!("settled already: {answer:?}"),
        }
    }

    pub async fn act(&self, touch: &Touch, prior: &Prior) -> Acted {
        let footprint = Footprint::new(&Effect::Touch(touch.clone()), vec![Glob::every()]);
        self.performer.act(touch, prior, &footprint).await
    }

    /// Prepares and acts, and after a conflict once more, as the door does. The answer is that of the last attempt.
    pub async fn touch<A: Ask>(&self, ask: A) -> Result<A::Answer, Error> {
        self.touch_after(ask, None).await
    }

    /// The same, knowing what went before.
    pub async fn touch_after<A: Ask>(
        &self,
        ask: A,
        before: Option<&Prior>,
    ) -> Result<A::Answer, Error> {
        let mut touch = touch(ask);
        for _ in 0..5 {
            let answer = match self.prepare(&touch, before).await? {
                Prepared::Settled(answer) => answer,
                Prepared::Ready(prior) => match self.act(&touch, &prior).await {
                    Acted::Done(answer) => answer?,
                    Acted::Conflict { rest, .. } => {
                        touch = rest;
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
        one(self.touch(ask).await?)
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
pub fn one(mut holds: Vec<Hold>) -> Result<Suspended, Error> {
    assert_eq!(holds.len(), 1, "{holds:?}");
    match holds.remove(0).end {
        HoldEnd::Suspended(suspended) => Ok(suspended),
        HoldEnd::LeftAlone(why) => Err(Error::Conflict(why)),
        HoldEnd::Failed { error, .. } => Err(error),
        HoldEnd::Untried => panic!("the first of a set is tried"),
    }
}

pub fn touch<A: Ask>(ask: A) -> Touch {
    match ask.effect() {
        Effect::Touch(touch) => touch,
        other => panic!("{} is no touch", other.name()),
    }
}

pub fn answered<A: Ask>(acted: Acted) -> A::Answer {
    match acted {
        Acted::Done(Ok(answer)) => take::<A>(answer),
        other => panic!("{other:?}"),
    }
}

pub fn take<A: Ask>(answer: Answer) -> A::Answer {
    A::take(answer).expect("the answer of this call")
}

pub fn app(namespace: &str, name: &str) -> FluxRef {
    FluxRef { kind: FluxKind::Kustomization, namespace: namespace.into(), name: name.into() }
}
