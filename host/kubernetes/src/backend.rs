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
use salve_core::effect::{Answer, Read, Write};
use salve_core::footprint::Footprint;
use salve_core::journal::ObservedState;
use salve_core::outcome::Error;
use salve_run::{ApplyOutcome, Backend, Prepared, Stop};

/// One run on a cluster.
#[derive(Debug)]
pub struct ClusterBackend {
    cluster: Cluster,
    run: String,
    deadline: Millis,
    stop: Stop,
}

impl ClusterBackend {
    /// A run of this id, which means to be through at `deadline`. Both are written on what it suspends.
    pub fn new(cluster: Cluster, run: impl Into<String>, deadline: Millis) -> Self {
        Self { cluster, run: run.into(), deadline, stop: Stop::default() }
    }

    /// The same, whose waits end when somebody asks to stop.
    pub fn with_stop(self, stop: Stop) -> Self {
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

impl Backend for ClusterBackend {
    fn look<'a>(
        &'a self,
        look: &'a Read,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Answer, Error>> {
        async move {
            let session = &Session::new(&self.cluster, footprint).with_stop(&self.stop);
            Ok(match look {
                Read::GetIdentity(_) => Answer::GetIdentity(host::identity(session).await?),
                Read::ReviewAccess(ask) => Answer::ReviewAccess(host::access(session, ask).await?),
                Read::RequestToken(ask) => {
                    Answer::RequestToken(service_account::token(session, ask).await?.1)
                }
                Read::CheckPolicies(ask) => {
                    Answer::CheckPolicies(host::policies(session, ask).await?)
                }
                Read::Lease(_) => Answer::Lease(lease::holder(session).await?),
                Read::FindLeftovers(_) => Answer::FindLeftovers(host::leftovers(session).await?),
                Read::FindOwners(ask) => {
                    Answer::FindOwners(query_flux::owners(session, ask).await?)
                }
                Read::GetFluxObject(ask) => {
                    Answer::GetFluxObject(query_flux::get(session, ask).await?)
                }
                Read::ListSources(ask) => {
                    Answer::ListSources(query_replicationsources::sources(session, ask).await?)
                }
                Read::ListDestinations(ask) => Answer::ListDestinations(
                    query_replicationsources::destinations(session, ask).await?,
                ),
                Read::ListPvcs(ask) => Answer::ListPvcs(query_pvcs::pvcs(session, ask).await?),
                Read::ListSnapshots(ask) => {
                    Answer::ListSnapshots(query_pvcs::snapshots(session, ask).await?)
                }
                Read::FindDriver(ask) => {
                    Answer::FindDriver(query_drivers::find(session, ask).await?)
                }
                Read::ListPods(ask) => Answer::ListPods(query_pods::pods(session, ask).await?),
                Read::ListObjects(ask) => {
                    Answer::ListObjects(query_objects::list_objects(session, ask).await?)
                }
                Read::GetObject(ask) => Answer::GetObject(query_objects::get(session, ask).await?),
                Read::NextPage(ask) => Answer::NextPage(tail_logs::next(session, ask).await?),
                Read::AwaitRollout(ask) => {
                    Answer::AwaitRollout(restart_deployment::await_rollout(session, ask).await?)
                }
            })
        }
        .boxed()
    }

    fn prepare<'a>(
        &'a self,
        write: &'a Write,
        before: Option<&'a ObservedState>,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        async move {
            let session = &Session::new(&self.cluster, footprint).with_stop(&self.stop);
            match write {
                Write::AcquireLease(ask) => lease::prepare_acquire(session, ask).await,
                Write::ReleaseLease(ask) => lease::prepare_release(session, ask).await,
                Write::Suspend(ask) => suspend_flux::prepare_suspend(self, session, ask).await,
                Write::Resume(ask) => {
                    suspend_flux::prepare_resume(self, session, ask, before).await
                }
                Write::Reconcile(ask) => reconcile_flux::prepare(session, ask).await,
                Write::Delete(ask) => delete_replicationsources::prepare(session, ask).await,
                Write::Recreate(ask) => recreate::prepare(session, ask, before).await,
                Write::Restart(ask) => restart_deployment::prepare(session, ask, before).await,
            }
        }
        .boxed()
    }

    fn act<'a>(
        &'a self,
        write: &'a Write,
        observed: &'a ObservedState,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        async move {
            let session = &Session::new(&self.cluster, footprint).with_stop(&self.stop);
            match write {
                Write::AcquireLease(ask) => lease::acquire(session, ask, observed).await,
                Write::ReleaseLease(ask) => lease::release(session, ask).await,
                Write::Suspend(ask) => suspend_flux::suspend(self, session, ask, observed).await,
                Write::Resume(ask) => suspend_flux::resume(self, session, ask, observed).await,
                Write::Reconcile(ask) => reconcile_flux::reconcile(session, ask, observed).await,
                Write::Delete(ask) => {
                    delete_replicationsources::delete(session, ask, observed).await
                }
                Write::Recreate(ask) => recreate::recreate(session, ask, observed).await,
                Write::Restart(ask) => restart_deployment::restart(session, ask, observed).await,
            }
        }
        .boxed()
    }

    fn settle<'a>(
        &'a self,
        write: &'a Write,
        observed: &'a ObservedState,
        footprint: &'a Footprint,
    ) -> BoxFuture<'a, ApplyOutcome> {
        async move {
            let session = &Session::new(&self.cluster, footprint).with_stop(&self.stop);
            match write {
                Write::AcquireLease(ask) => lease::settle_acquire(session, ask).await,
                Write::Suspend(ask) => {
                    suspend_flux::settle_suspend(self, session, ask, observed).await
                }
                Write::Delete(ask) => {
                    delete_replicationsources::settle(session, ask, observed).await
                }
                Write::Recreate(ask) => recreate::settle(session, ask).await,
                Write::Restart(ask) => restart_deployment::settle(session, ask, observed).await,
                // A second one asks for what the first asked for.
                Write::ReleaseLease(_) | Write::Resume(_) | Write::Reconcile(_) => {
                    ApplyOutcome::Conflict {
                        completed: None,
                        rest: write.clone(),
                        message: "nobody knows whether it was applied".into(),
                    }
                }
            }
        }
        .boxed()
    }
}
