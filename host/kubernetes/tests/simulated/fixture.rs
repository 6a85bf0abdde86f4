//! The backend of a run on a simulated cluster. Footprints and retries after a conflict are those
//! of a real run.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::capability::suspend_flux::{Suspend, SuspendOutcome, SuspendResult, Suspended};
use salve_core::capability::types::{FluxKind, FluxRef};
use salve_core::capability::{Answer, Effect, Released, Reversal, TypedCall, Write};
use salve_core::footprint::Footprint;
use salve_core::glob::Glob;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_kubernetes::{Cluster, ClusterBackend};
use salve_run::{ApplyOutcome, Backend, Clock, Current, ReleaseOutcome};
use salve_simulator::{Incident, Simulator};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub const RUN: &str = "run-1";
pub const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
pub const VOLSYNC: &str = "volsync.backube";

pub struct Fixture {
    pub simulator: Simulator,
    pub backend: ClusterBackend,
}

struct VirtualClock(salve_simulator::Clock);

impl Clock for VirtualClock {
    fn now(&self) -> Millis {
        u64::try_from(self.0.now().as_millisecond()).unwrap()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.advance(duration);
        std::future::ready(()).boxed()
    }
}

impl Fixture {
    pub fn new(incident: Incident) -> Self {
        Self::over(Simulator::new(incident))
    }

    /// Connects to a cluster, as another process of the run does.
    pub fn over(simulator: Simulator) -> Self {
        let clock = Arc::new(VirtualClock(simulator.clock()));
        Self::with_clock(simulator, clock)
    }

    /// Uses a clock that does more than to advance the time of the simulator.
    pub fn with_clock(simulator: Simulator, clock: Arc<dyn Clock>) -> Self {
        let deadline = clock.now() + 3_600_000;
        let backend = ClusterBackend::new(
            Cluster::over(simulator.clone(), clock, "simulated"),
            RUN,
            deadline,
        );
        Self { simulator, backend }
    }

    pub async fn read<A: TypedCall>(&self, call: A) -> Result<A::Answer, Error> {
        self.read_granted(call, Glob::every()).await
    }

    /// Performs a read whose capability is granted in these namespaces.
    pub async fn read_granted<A: TypedCall>(
        &self,
        call: A,
        namespaces: Glob,
    ) -> Result<A::Answer, Error> {
        let effect = call.effect();
        let footprint = Footprint::new(&effect, vec![namespaces]);
        let Effect::Read(read) = &effect else { panic!("{} is not a read", effect.name()) };
        A::unwrap(self.backend.read(read, &footprint).await?)
    }

    pub async fn read_current(
        &self,
        write: &Write,
        before: Option<&ObservedState>,
    ) -> Result<Current<Answer>, Error> {
        let footprint = Footprint::new(&Effect::Write(write.clone()), vec![Glob::every()]);
        self.backend.read_current(write, before, &footprint).await
    }

    pub async fn resolve(&self, write: &Write, observed: &ObservedState) -> ApplyOutcome {
        let footprint = Footprint::new(&Effect::Write(write.clone()), vec![Glob::every()]);
        self.backend.resolve(write, observed, &footprint).await
    }

    /// Reads the state that a write is applied to.
    pub async fn observe(&self, write: &Write) -> ObservedState {
        match self.read_current(write, None).await.unwrap() {
            Current::Ready(observed) => observed,
            Current::AlreadyDone(answer) => panic!("already done: {answer:?}"),
        }
    }

    pub async fn apply(&self, write: &Write, observed: &ObservedState) -> ApplyOutcome {
        let footprint = Footprint::new(&Effect::Write(write.clone()), vec![Glob::every()]);
        self.backend.apply(write, observed, &footprint).await
    }

    /// Performs a write, retrying it after conflicts. Returns the answer of the last attempt.
    pub async fn write<A: TypedCall>(&self, call: A) -> Result<A::Answer, Error> {
        let mut write = write(call);
        for _ in 0..5 {
            let answer = match self.read_current(&write, None).await? {
                Current::AlreadyDone(answer) => answer,
                Current::Ready(observed) => match self.apply(&write, &observed).await {
                    ApplyOutcome::Done(answer) => answer?,
                    ApplyOutcome::Conflict { remaining, .. } => {
                        write = remaining;
                        continue;
                    }
                },
            };
            return A::unwrap(answer);
        }
        panic!("five conflicts")
    }

    /// Performs a reversal, retrying it after conflicts.
    pub async fn release(&self, call: impl Into<Reversal>) -> Result<Released, Error> {
        self.release_after(call, None).await
    }

    /// Like `release`, with the observed state of the write in doubt.
    pub async fn release_after(
        &self,
        call: impl Into<Reversal>,
        in_doubt: Option<&ObservedState>,
    ) -> Result<Released, Error> {
        let reversal = call.into();
        let footprint = Footprint::new(&Effect::Reversal(reversal.clone()), vec![Glob::every()]);
        for _ in 0..5 {
            match self.backend.read_reversal(&reversal, in_doubt, &footprint).await? {
                Current::AlreadyDone(released) => return Ok(released),
                Current::Ready(observed) => {
                    match self.backend.release(&reversal, &observed, &footprint).await {
                        ReleaseOutcome::Done(released) => return released,
                        ReleaseOutcome::Conflict(_) => {}
                    }
                }
            }
        }
        panic!("five conflicts")
    }

    /// Suspends one object.
    pub async fn suspend(&self, call: Suspend) -> Result<Suspended, Error> {
        single_result(self.write(call).await?)
    }

    pub fn kustomization(&self, namespace: &str, name: &str) -> Value {
        self.simulator
            .object(KUSTOMIZE, "kustomizations", namespace, name)
            .expect("the Kustomization exists")
    }

    /// Returns the bodies of the requests with this method.
    pub fn request_bodies(&self, method: &str) -> Vec<Value> {
        self.simulator
            .exchanges()
            .into_iter()
            .filter(|exchange| exchange.method == method)
            .filter_map(|exchange| exchange.body)
            .collect()
    }
}

/// Returns the result of a set with one object.
pub fn single_result(mut results: Vec<SuspendResult>) -> Result<Suspended, Error> {
    assert_eq!(results.len(), 1, "{results:?}");
    match results.remove(0).outcome {
        SuspendOutcome::Suspended(suspended) => Ok(suspended),
        SuspendOutcome::AlreadySuspended(why) => Err(Error::Conflict(why)),
        SuspendOutcome::Failed { error, .. } => Err(error),
        SuspendOutcome::NotTried => panic!("the first object of a set is always tried"),
    }
}

pub fn write<A: TypedCall>(call: A) -> Write {
    match call.effect() {
        Effect::Write(write) => write,
        other => panic!("{} is not a write", other.name()),
    }
}

pub fn answered<A: TypedCall>(outcome: ApplyOutcome) -> A::Answer {
    match outcome {
        ApplyOutcome::Done(Ok(answer)) => take::<A>(answer),
        other => panic!("{other:?}"),
    }
}

pub fn take<A: TypedCall>(answer: Answer) -> A::Answer {
    A::unwrap(answer).expect("the answer of this call")
}

pub fn app(namespace: &str, name: &str) -> FluxRef {
    FluxRef { kind: FluxKind::Kustomization, namespace: namespace.into(), name: name.into() }
}
