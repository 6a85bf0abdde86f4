//! `query-drivers`: a CSI driver, its controller Deployment, pods and leases, and what stands behind it.

use super::{
    Target, Validate,
    shared::{Lease, ObjectRef, Pod},
};
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};

/// Finds a driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindDriver {
    /// Which.
    pub selector: Selector,
    /// Where its controller runs.
    pub namespace: String,
}

/// How a driver is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selector {
    /// By its own name.
    Name(String),
    /// By a StorageClass whose provisioner it is.
    StorageClass(String),
}

/// A CSI driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// Its name.
    pub name: String,
    /// The classes that it provisions.
    pub storage_classes: Vec<String>,
    /// Its controller, where one was found.
    pub controller: Option<Controller>,
    /// The leases of its sidecars.
    pub leases: Vec<Lease>,
    /// Ceph's own view, where Rook runs it in that namespace.
    pub ceph: Option<CephHealth>,
}

/// The Deployment that runs a driver's controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Controller {
    /// Its names.
    pub deployment: ObjectRef,
    /// Its uid.
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
    /// An operator rewrites it.
    pub operator_managed: bool,
    /// The container that holds the locks.
    pub plugin_container: String,
    /// It has a csi-snapshotter.
    pub snapshotter: bool,
    /// Its pods.
    pub pods: Vec<Pod>,
}

/// What Rook says of Ceph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CephHealth {
    /// The CephCluster.
    pub cluster: ObjectRef,
    /// `HEALTH_OK`, `HEALTH_WARN` or `HEALTH_ERR`.
    pub status: String,
    /// `CHECK: message`.
    pub messages: Vec<String>,
    /// When Rook last looked.
    pub checked: Option<Millis>,
}

impl Validate for FindDriver {
    fn targets(&self) -> Vec<Target> {
        vec![Target::all_of(&self.namespace)]
    }
    fn check(&self) -> Result<(), Error> {
        name::namespace(&self.namespace)?;
        match &self.selector {
            Selector::Name(n) | Selector::StorageClass(n) => name::object(n),
        }
    }
}
