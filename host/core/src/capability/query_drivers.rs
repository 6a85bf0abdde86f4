//! `query-drivers`: finds a CSI driver with its controller, node plugin, and leases, and the health
//! of Ceph.

use super::call::{Call, ReadCall};
use super::types::{Lease, ObjectRef, Pod, ROOK};
use super::{GrantShape, Observations, PlannedChanges, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::problem::{Evaluation, Predicate, Problem};
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Finds a driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindDriver {
    pub selector: Selector,
    pub namespace: String,
}

/// How a driver is identified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selector {
    Name(String),
    /// A StorageClass that it provisions.
    StorageClass(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    pub name: String,
    /// The StorageClasses that it provisions.
    pub storage_classes: Vec<String>,
    pub controller: Option<Controller>,
    pub node_plugin: Option<NodePlugin>,
    /// The leases of its sidecars.
    pub leases: Vec<Lease>,
    /// If Rook runs a Ceph cluster in the namespace.
    pub ceph: Option<CephHealth>,
}

/// The Deployment that runs a driver's controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Controller {
    pub deployment: ObjectRef,
    pub uid: String,
    /// `metadata.generation`.
    pub generation: u64,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// `spec.paused`.
    pub paused: bool,
    /// `Recreate` or `RollingUpdate`.
    pub strategy: String,
    pub operator_managed: bool,
    /// The container that holds the locks.
    pub plugin_container: String,
    /// The image of that container.
    #[serde(default)]
    pub image: String,
    pub snapshotter: bool,
    pub pods: Vec<Pod>,
}

/// The DaemonSet that mounts a driver's volumes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePlugin {
    pub daemon_set: ObjectRef,
    /// The container that holds the locks of its node.
    pub plugin_container: String,
    pub pods: Vec<NodePod>,
}

/// A pod and its node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePod {
    pub node: String,
    pub pod: Pod,
}

/// The health of a Ceph cluster, as Rook reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CephHealth {
    pub cluster: ObjectRef,
    /// `HEALTH_OK`, `HEALTH_WARN` or `HEALTH_ERR`.
    pub status: String,
    /// `CHECK: message`.
    pub messages: Vec<String>,
    pub checked: Option<Millis>,
}

pub fn grant_shape() -> GrantShape {
    GrantShape { namespaced: true, ..GrantShape::default() }
}

impl Call for FindDriver {
    type Answer = Driver;
    fn targets(&self) -> Vec<Target> {
        vec![Target::all_of(&self.namespace)]
    }
    fn validate(&self) -> Result<(), Error> {
        name::namespace(&self.namespace)?;
        match &self.selector {
            Selector::Name(n) | Selector::StorageClass(n) => name::object(n),
        }
    }
}

impl ReadCall for FindDriver {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::List, "storage.k8s.io", "storageclasses", Scope::Cluster),
            Rule::new(Verb::List, "storage.k8s.io", "csidrivers", Scope::Cluster),
            Rule::new(Verb::List, "apps", "deployments", Scope::Effect),
            Rule::new(Verb::List, "apps", "daemonsets", Scope::Effect),
            Rule::new(Verb::List, "", "pods", Scope::Effect),
            Rule::new(Verb::List, "coordination.k8s.io", "leases", Scope::Effect),
            Rule::new(Verb::List, ROOK, "cephclusters", Scope::Effect),
        ]
    }
    fn waits(&self) -> Duration {
        Duration::ZERO
    }
    fn observes_time(&self) -> bool {
        false
    }
    fn ends_plan(&self) -> Option<&'static str> {
        None
    }
    fn overlay(&self, _: &PlannedChanges, answer: Driver) -> Driver {
        answer
    }
    fn evidence(&self, _: &Driver) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Driver, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Driver>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Driver, _: &mut Observations) {}
}
