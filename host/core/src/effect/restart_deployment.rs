//! `restart-deployment`: restarts one Deployment and knows when it is back.

use super::{
    Target, Validate,
    shared::{Lease, ObjectRef, Pod},
};
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};

/// How to restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// By the annotation, as kubectl does.
    Annotate,
    /// By deleting the pods one after the other.
    ReplacePods,
}

/// Restarts it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// The Deployment.
    pub target: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// How.
    pub strategy: Strategy,
}

/// What was restarted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restarted {
    /// When, by the cluster's clock.
    pub at: Millis,
    /// uids of the pods that have to go.
    pub old_pods: Vec<String>,
}

/// Waits until it is back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AwaitRollout {
    /// The Deployment.
    pub target: ObjectRef,
    /// The restart.
    pub restarted: Restarted,
    /// Leases that have to be taken anew, in its namespace.
    pub leases: Vec<String>,
    /// How long to wait.
    pub wait_seconds: u32,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// It is back.
    pub done: bool,
    /// What it still waits for.
    pub waiting_for: Option<String>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// The leases asked about.
    pub leases: Vec<Lease>,
}

impl Validate for Restart {
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn check(&self) -> Result<(), Error> {
        self.target.check()
    }
}
impl Validate for AwaitRollout {
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn check(&self) -> Result<(), Error> {
        self.target.check()?;
        if self.wait_seconds > 7200 {
            return Err(Error::Invalid("a wait of more than two hours".into()));
        }
        if self.leases.len() > 20 {
            return Err(Error::Invalid("more than 20 leases".into()));
        }
        self.leases.iter().try_for_each(|l| name::object(l))
    }
}
