//! Performs effects: leads each to the module of its capability.

use crate::cluster::Cluster;
use crate::delete_replicationsources::recreate;
use crate::send::Session;
use crate::{
    delete_replicationsources, host, lease, query_drivers, query_flux, query_objects, query_pods,
    query_pvcs, query_replicationsources, reconcile_flux, restart_deployment, service_account,
    suspend_flux, tail_logs,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::Millis;
use salve_core::effect::{Answer, Look, Touch};
use salve_core::footprint::Footprint;
use salve_core::journal::Prior;
use salve_core::outcome::Error;
use salve_run::{Acted, Backend, Prepared, Stop};

/// One run on a cluster.
#[derive(Debug)]
pub struct Performer {
    cluster: Cluster,
    run: String,
    deadline: Millis,
    stop: Stop,
}

impl Performer {
    /// A run of this id, which means to be through at `deadline`. Both are written on what it suspends.
    pub fn new(cluster: Cluster, run: impl Into<String>, deadline: Millis) -> Self {
        Self { cluster, run: run.into(), deadline, stop: Stop::default() }
    }

    /// The same, whose waits end when somebody asks to stop.
    pub fn heeding(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    pub(crate) fn deadline(&self) -> Millis {
        self.deadline
    }
}

impl Backend for Performer {
    fn look<'a>(
        &'a self,
        look: &'a Look,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Answer, Error>> {
        async move {
            let session = &Session::new(&self.cluster, footprint).heeding(&self.stop);
            Ok(match look {
                Look::Identity(_) => Answer::Identity(host::identity(session).await?),
                Look::Access(ask) => Answer::Access(host::access(session, ask).await?),
                Look::Token(ask) => Answer::Token(service_account::token(session, ask).await?.1),
                Look::Policies(ask) => Answer::Policies(host::policies(session, ask).await?),
                Look::Lease(_) => Answer::Lease(lease::holder(session).await?),
                Look::Leftovers(_) => Answer::Leftovers(host::leftovers(session).await?),
                Look::FluxOwners(ask) => {
                    Answer::FluxOwners(query_flux::owners(session, ask).await?)
                }
                Look::FluxGet(ask) => Answer::FluxGet(query_flux::get(session, ask).await?),
                Look::Sources(ask) => {
                    Answer::Sources(query_replicationsources::sources(session, ask).await?)
                }
                Look::Destinations(ask) => Answer::Destinations(
                    query_replicationsources::destinations(session, ask).await?,
                ),
                Look::Claims(ask) => Answer::Claims(query_pvcs::claims(session, ask).await?),
                Look::Snapshots(ask) => {
                    Answer::Snapshots(query_pvcs::snapshots(session, ask).await?)
                }
                Look::FindDriver(ask) => {
                    Answer::FindDriver(query_drivers::find(session, ask).await?)
                }
                Look::Pods(ask) => Answer::Pods(query_pods::pods(session, ask).await?),
                Look::ListObjects(ask) => {
                    Answer::ListObjects(query_objects::list_objects(session, ask).await?)
                }
                Look::GetObject(ask) => Answer::GetObject(query_objects::get(session, ask).await?),
                Look::LogPage(ask) => Answer::LogPage(tail_logs::next(session, ask).await?),
                Look::AwaitRollout(ask) => {
                    Answer::AwaitRollout(restart_deployment::await_rollout(session, ask).await?)
                }
            })
        }
        .boxed()
    }

    fn prepare<'a>(
        &'a self,
        touch: &'a Touch,
        before: Option<&'a Prior>,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        async move {
            let session = &Session::new(&self.cluster, footprint).heeding(&self.stop);
            match touch {
                Touch::AcquireLease(ask) => lease::prepare_acquire(session, ask).await,
                Touch::ReleaseLease(ask) => lease::prepare_release(session, ask).await,
                Touch::Suspend(ask) => suspend_flux::prepare_suspend(self, session, ask).await,
                Touch::Resume(ask) => {
                    suspend_flux::prepare_resume(self, session, ask, before).await
                }
                Touch::Reconcile(ask) => reconcile_flux::prepare(session, ask).await,
                Touch::Delete(ask) => delete_replicationsources::prepare(session, ask).await,
                Touch::Recreate(ask) => recreate::prepare(session, ask, before).await,
                Touch::Restart(ask) => restart_deployment::prepare(session, ask, before).await,
            }
        }
        .boxed()
    }

    fn act<'a>(
        &'a self,
        touch: &'a Touch,
        prior: &'a Prior,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Acted> {
        async move {
            let session = &Session::new(&self.cluster, footprint).heeding(&self.stop);
            match touch {
                Touch::AcquireLease(ask) => lease::acquire(session, ask, prior).await,
                Touch::ReleaseLease(ask) => lease::release(session, ask).await,
                Touch::Suspend(ask) => suspend_flux::suspend(self, session, ask, prior).await,
                Touch::Resume(ask) => suspend_flux::resume(self, session, ask, prior).await,
                Touch::Reconcile(ask) => reconcile_flux::reconcile(session, ask, prior).await,
                Touch::Delete(ask) => delete_replicationsources::delete(session, ask, prior).await,
                Touch::Recreate(ask) => recreate::recreate(session, ask, prior).await,
                Touch::Restart(ask) => restart_deployment::restart(session, ask, prior).await,
            }
        }
        .boxed()
    }

    fn settle<'a>(
        &'a self,
        touch: &'a Touch,
        prior: &'a Prior,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Acted> {
        async move {
            let session = &Session::new(&self.cluster, footprint).heeding(&self.stop);
            match touch {
                Touch::AcquireLease(ask) => lease::settle_acquire(session, ask).await,
                Touch::Suspend(ask) => {
                    suspend_flux::settle_suspend(self, session, ask, prior).await
                }
                Touch::Delete(ask) => delete_replicationsources::settle(session, ask, prior).await,
                Touch::Recreate(ask) => recreate::settle(session, ask).await,
                Touch::Restart(ask) => restart_deployment::settle(session, ask, prior).await,
                // A second one asks for what the first asked for.
                Touch::ReleaseLease(_) | Touch::Resume(_) | Touch::Reconcile(_) => {
                    Acted::Conflict {
                        sofar: None,
                        rest: touch.clone(),
                        message: "nobody knows whether it was applied".into(),
                    }
                }
            }
        }
        .boxed()
    }
}
