//! The cluster that a command uses: a live one or a simulated one.

use crate::arguments::ClusterArguments;
use crate::output::CommandError;
use salve_core::Millis;
use salve_core::capability::host::{ClusterIdentity, GetIdentity};
use salve_core::capability::{Effect, TypedCall};
use salve_core::footprint::Footprint;
use salve_core::glob::Glob;
use salve_core::journal::Header;
use salve_core::sanitize::sanitized;
use salve_kubernetes::{Cluster, ClusterBackend, ConnectError, Connection};
use salve_run::{Backend, Clock, Stop};
use salve_simulator::{Remote, Simulator};
use std::sync::Arc;
use std::time::Duration;

/// A connection to a cluster whose API server responded.
pub struct ClusterSession {
    cluster: Cluster,
    /// The name of the kubeconfig context, or `simulated`.
    pub context: String,
    /// The cluster's identity and the user that it authenticated.
    pub identity: ClusterIdentity,
}

impl ClusterSession {
    /// Connects to the cluster that the flags specify and reads its identity.
    pub async fn live(arguments: &ClusterArguments) -> Result<Self, CommandError> {
        let connection = Connection {
            kubeconfig: arguments.kubeconfig.clone(),
            context: arguments.context.clone(),
            as_user: arguments.as_user.clone(),
            service_account: arguments.service_account.clone(),
        };
        let cluster = Cluster::connect(connection).await.map_err(|e| {
            let file = arguments
                .kubeconfig
                .as_ref()
                .map(|path| format!("\nkubeconfig {}", path.display()));
            let hint = match &e {
                ConnectError::NoKubeconfig => {
                    "; pass --kubeconfig, or try `salve demo`, which needs no cluster"
                }
                ConnectError::NoContext { .. } | ConnectError::UnknownContext { .. } => {
                    "; choose one with --context"
                }
                ConnectError::Kubeconfig(_)
                | ConnectError::Credentials(_)
                | ConnectError::NoToken { .. }
                | ConnectError::Unauthorized { .. }
                | ConnectError::Unreachable { .. }
                | ConnectError::Tls { .. } => "",
            };
            let message =
                format!("{}{hint}{}", sanitized(&e.to_string()), file.unwrap_or_default());
            match e {
                ConnectError::NoKubeconfig
                | ConnectError::Kubeconfig(_)
                | ConnectError::NoContext { .. }
                | ConnectError::UnknownContext { .. } => CommandError::usage(message),
                ConnectError::Credentials(_)
                | ConnectError::NoToken { .. }
                | ConnectError::Unauthorized { .. }
                | ConnectError::Unreachable { .. }
                | ConnectError::Tls { .. } => CommandError::cluster(message),
            }
        })?;
        Self::from_cluster(cluster).await
    }

    /// Connects to a simulated cluster in this process.
    pub async fn simulated(simulator: Simulator) -> Result<Self, CommandError> {
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock(simulator.clock()));
        Self::from_cluster(Cluster::over(simulator, clock, "simulated")).await
    }

    /// Connects to a simulated cluster that another process serves.
    pub async fn simulated_remote(remote: Remote) -> Result<Self, CommandError> {
        let clock: Arc<dyn Clock> = Arc::new(RemoteSimulatedClock(remote.clone()));
        Self::from_cluster(Cluster::over(remote, clock, "simulated")).await
    }

    /// Wraps a cluster connection and reads the cluster's identity.
    pub async fn from_cluster(cluster: Cluster) -> Result<Self, CommandError> {
        let context = cluster.context().to_owned();
        let identity = read(&ClusterBackend::new(cluster.clone(), "", 0), GetIdentity {}).await?;
        Ok(Self { cluster, context, identity })
    }

    /// Returns whether this is a live cluster, as opposed to a simulated one.
    pub fn is_live(&self) -> bool {
        !self.cluster.server().is_empty()
    }

    /// Checks that a run or plan was made on this cluster.
    ///
    /// # Errors
    /// The run or plan was made on another cluster, or this cluster cannot be identified.
    pub fn check_same_cluster(&self, header: &Header) -> Result<(), CommandError> {
        match (&header.cluster, &self.identity.uid) {
            // mutant other-cluster-accepted: now => ~> now && recorded.is_empty() =>
            (Some(recorded), Some(now)) if recorded != now => Err(CommandError::usage(format!(
                "{} {} was made on another cluster (kube-system {}, this one is {}): \
                 pass its --context",
                header.command.as_str(),
                sanitized(&header.run),
                sanitized(recorded),
                sanitized(now)
            ))),
            (Some(_), None) => Err(CommandError::cluster(format!(
                "cannot verify that {} {} was made on this cluster: \
                 this credential may not get namespace kube-system",
                header.command.as_str(),
                sanitized(&header.run)
            ))),
            (Some(_), Some(_)) | (None, Some(_) | None) => Ok(()),
        }
    }

    /// Returns the backend that performs the effects of a run.
    pub fn backend(&self, run: &str, deadline: Millis, stop: &Stop) -> Arc<dyn Backend> {
        Arc::new(ClusterBackend::new(self.cluster.clone(), run, deadline).with_stop(stop.clone()))
    }

    /// Returns the cluster's clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.cluster.clock()
    }

    /// Performs a read outside any run.
    pub async fn read<A: TypedCall>(&self, call: A) -> Result<A::Answer, CommandError> {
        read(&ClusterBackend::new(self.cluster.clone(), "", 0), call).await
    }
}

/// Performs a read that is not recorded, through the same backend and egress guard as a run's.
async fn read<A: TypedCall>(backend: &dyn Backend, call: A) -> Result<A::Answer, CommandError> {
    let effect = call.effect();
    // Outside a run, there are no grants: the credential alone decides.
    let footprint = Footprint::new(&effect, vec![Glob::every()]);
    let Effect::Read(read) = effect else {
        return Err(CommandError::host("internal error: a call outside a run is not a read"));
    };
    let answer = backend
        .read(&read, &footprint)
        .await
        .map_err(|e| CommandError::cluster(sanitized(&e.to_string())))?;
    A::unwrap(answer).map_err(|e| CommandError::host(format!("internal error: {e}")))
}

/// The virtual time of a simulated cluster.
struct SimulatedClock(salve_simulator::Clock);

impl Clock for SimulatedClock {
    fn now(&self) -> Millis {
        self.0.now().as_millisecond().max(0) as Millis
    }
    fn sleep(&self, duration: Duration) -> futures::future::BoxFuture<'static, ()> {
        let clock = self.0.clone();
        Box::pin(async move { clock.sleep(duration).await })
    }
}

/// The virtual time of a simulated cluster in another process.
struct RemoteSimulatedClock(Remote);

impl Clock for RemoteSimulatedClock {
    fn now(&self) -> Millis {
        self.0.now().as_millisecond().max(0) as Millis
    }
    fn sleep(&self, duration: Duration) -> futures::future::BoxFuture<'static, ()> {
        let remote = self.0.clone();
        Box::pin(async move { remote.sleep(duration).await })
    }
}
