//! Performs calls: dispatches each to the module of its capability.

use crate::cluster::Cluster;
use crate::perform::{PerformRead, PerformReversal, PerformWrite, wrap_answer, wrap_current};
use crate::send::Session;
use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::capability::{Answer, Read, Released, Reversal, Write};
use salve_core::footprint::Footprint;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_core::{Millis, on_read, on_reversal, on_write};
use salve_run::{ApplyOutcome, Backend, Current, ReleaseOutcome, Stop};

/// Performs the calls of one run on a cluster.
#[derive(Debug)]
pub struct ClusterBackend {
    cluster: Cluster,
    run: String,
    deadline: Millis,
    stop: Stop,
}

impl ClusterBackend {
    /// Creates a backend. The run ID and the deadline are written to annotations of the objects
    /// that the run changes temporarily.
    pub fn new(cluster: Cluster, run: impl Into<String>, deadline: Millis) -> Self {
        Self { cluster, run: run.into(), deadline, stop: Stop::default() }
    }

    /// Sets the signal that ends waits early.
    #[must_use]
    pub fn with_stop(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn session(&self, footprint: &Footprint) -> Session {
        Session::new(&self.cluster, footprint)
            .with_stop(&self.stop)
            .for_run(&self.run, self.deadline)
    }
}

impl Backend for ClusterBackend {
    fn read<'a>(
        &'a self,
        read: &'a Read,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Answer, Error>> {
        async move {
            let session = self.session(footprint);
            on_read!(read, |call| call.read(&session).boxed().await.map(|a| wrap_answer(call, a)))
        }
        .boxed()
    }

    fn read_current<'a>(
        &'a self,
        write: &'a Write,
        before: Option<&'a ObservedState>,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Current<Answer>, Error>> {
        async move {
            let session = self.session(footprint);
            on_write!(write, |call| {
                let current = PerformWrite::read_current(call, &session, before).boxed().await;
                current.map(|current| wrap_current(call, current))
            })
        }
        .boxed()
    }

    fn apply<'a>(
        &'a self,
        write: &'a Write,
        observed: &'a ObservedState,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        async move {
            let session = self.session(footprint);
            on_write!(write, |call| call.apply(&session, observed).boxed().await.into_outcome(call))
        }
        .boxed()
    }

    fn resolve<'a>(
        &'a self,
        write: &'a Write,
        observed: &'a ObservedState,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        async move {
            let session = self.session(footprint);
            on_write!(write, |call| {
                call.resolve(&session, observed).boxed().await.into_outcome(call)
            })
        }
        .boxed()
    }

    fn read_reversal<'a>(
        &'a self,
        reversal: &'a Reversal,
        in_doubt: Option<&'a ObservedState>,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Current<Released>, Error>> {
        async move {
            let session = self.session(footprint);
            on_reversal!(reversal, |call| {
                PerformReversal::read_current(call, &session, in_doubt).boxed().await
            })
        }
        .boxed()
    }

    fn release<'a>(
        &'a self,
        reversal: &'a Reversal,
        observed: &'a ObservedState,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, ReleaseOutcome> {
        async move {
            let session = self.session(footprint);
            on_reversal!(reversal, |call| call.release(&session, observed).boxed().await)
        }
        .boxed()
    }
}
