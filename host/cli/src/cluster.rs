//! The cluster that a command works on: a live one, or a simulated one.

use crate::arguments::ClusterArguments;
use crate::output::Failed;
use salve_core::Millis;
use salve_core::effect::host::{ClusterIdentity, GetIdentity};
use salve_core::effect::{Effect, TypedCall};
use salve_core::footprint::Footprint;
use salve_core::journal::Header;
use salve_core::sanitize::sanitized;
use salve_kubernetes::{Cluster, ClusterBackend, ConnectError, Connection};
use salve_run::{Backend, Clock, Stop};
use salve_simulator::{Remote, Simulator};
use std::sync::Arc;
use std::time::Duration;

/// A cluster that answered.
pub struct ClusterSession {
    cluster: Cluster,
    /// The context's name, or `simulated`.
    pub context: String,
    /// Which cluster it is, and as whom it knows us.
    pub identity: ClusterIdentity,
}

impl ClusterSession {
    /// Connects as the flags say and asks who is there.
    pub async fn live(arguments: &ClusterArguments) -> Result<Self, Failed> {
        let connection = Connection {
            kubeconfig: arguments.kubeconfig.clone(),
            context: arguments.context.clone(),
            as_user: arguments.as_user.clone(),
            service_account: arguments.service_account.clone(),
            ..Connection::default()
        };
        let cluster = Cluster::connect(connection).await.map_err(|e| {
            let file = arguments
                .kubeconfig
                .as_ref()
                .map(|path| format!("\nkubeconfig {}", path.display()));
            let said = format!("{}{}", sanitized(&e.to_string()), file.unwrap_or_default());
            match e {
                ConnectError::NoKubeconfig
                | ConnectError::Kubeconfig(_)
                | ConnectError::NoContext { .. }
                | ConnectError::UnknownContext { .. }
                | ConnectError::GroupsWithoutUser => Failed::usage(said),
                ConnectError::Credentials(_)
                | ConnectError::NoToken { .. }
                | ConnectError::Refused { .. }
                | ConnectError::Unreachable { .. }
                | ConnectError::Tls { .. } => Failed::cluster(said),
            }
        })?;
        Self::greet(cluster).await
    }

    /// The simulated cluster, in this process.
    pub async fn simulated(simulator: Simulator) -> Result<Self, Failed> {
        let clock: Arc<dyn Clock> = Arc::new(Simulated(simulator.clock()));
        Self::greet(Cluster::over(simulator, clock, "simulated")).await
    }

    /// The same one, in the process that serves it.
    pub async fn simulated_elsewhere(remote: Remote) -> Result<Self, Failed> {
        let clock: Arc<dyn Clock> = Arc::new(Elsewhere(remote.clone()));
        Self::greet(Cluster::over(remote, clock, "simulated")).await
    }

    /// Any cluster that was connected to: asks who is there.
    pub async fn greet(cluster: Cluster) -> Result<Self, Failed> {
        let context = cluster.context().to_owned();
        let identity = look(&ClusterBackend::new(cluster.clone(), "", 0), GetIdentity {}).await?;
        Ok(Self { cluster, context, identity })
    }

    /// Whether it is a real one.
    pub fn is_live(&self) -> bool {
        !self.cluster.server().is_empty()
    }

    /// Refuses to go on with a run or plan of another cluster.
    pub fn is_that_of(&self, header: &Header) -> Result<(), Failed> {
        match (&header.cluster, &self.identity.uid) {
            // mutant other-cluster-accepted: now => ~> now && then.is_empty() =>
            (Some(then), Some(now)) if then != now => Err(Failed::usage(format!(
                "{} {} was on another cluster (kube-system {}, this one is {}): give its --context",
                sanitized(&header.command),
                sanitized(&header.run),
                sanitized(then),
                sanitized(now)
            ))),
            (Some(_), None) => Err(Failed::cluster(format!(
                "whether this is the cluster of {} {} cannot be seen: this credential may not get namespace kube-system",
                sanitized(&header.command),
                sanitized(&header.run)
            ))),
            (Some(_), Some(_)) | (None, Some(_) | None) => Ok(()),
        }
    }

    /// Where the effects of a run are performed.
    pub fn backend(&self, run: &str, deadline: Millis, stop: &Stop) -> Arc<dyn Backend> {
        Arc::new(ClusterBackend::new(self.cluster.clone(), run, deadline).with_stop(stop.clone()))
    }

    /// The cluster's time.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.cluster.clock()
    }

    /// Asks a question of the host's own, outside any run.
    pub async fn ask<A: TypedCall>(&self, ask: A) -> Result<A::Answer, Failed> {
        look(&ClusterBackend::new(self.cluster.clone(), "", 0), ask).await
    }
}

/// Before there is a run there is no door; the same backend and the same check of each request hold.
async fn look<A: TypedCall>(backend: &dyn Backend, ask: A) -> Result<A::Answer, Failed> {
    let effect = ask.effect();
    let footprint = Footprint::new(&effect, vec![]);
    let Effect::Read(look) = effect else { return Err(Failed::host("a census that is no look")) };
    let answer = backend
        .look(&look, &footprint)
        .await
        .map_err(|e| Failed::cluster(sanitized(&e.to_string())))?;
    A::take(answer).ok_or_else(|| Failed::host("an answer to another call"))
}

/// Virtual time as a run's clock.
struct Simulated(salve_simulator::Clock);

impl Clock for Simulated {
    fn now(&self) -> Millis {
        self.0.now().as_millisecond().max(0) as Millis
    }
    fn sleep(&self, duration: Duration) -> futures::future::BoxFuture<'static, ()> {
        let clock = self.0.clone();
        Box::pin(async move { clock.sleep(duration).await })
    }
}

/// Virtual time of another process as a run's clock.
struct Elsewhere(Remote);

impl Clock for Elsewhere {
    fn now(&self) -> Millis {
        self.0.now().as_millisecond().max(0) as Millis
    }
    fn sleep(&self, duration: Duration) -> futures::future::BoxFuture<'static, ()> {
        let remote = self.0.clone();
        Box::pin(async move { remote.sleep(duration).await })
    }
}
