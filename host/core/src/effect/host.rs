//! What the host itself asks: who am I, which cluster is this, what did earlier runs leave behind?
//! No guest can make these calls: no capability translates into them.

use super::{Call, Target, shared::FluxRef, suspend_flux::Prior};
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};

/// Which cluster is this, and who am I to it?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {}

/// Which cluster it is, and who asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// uid of the namespace `kube-system`; none where the credential may not read it.
    pub uid: Option<String>,
    /// Of the API server, e.g. `v1.36.3`.
    pub version: String,
    /// As whom the API server knows us.
    pub user: Option<String>,
}

/// What did earlier runs leave suspended?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leftovers {}

/// An object that bears the mark of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leftover {
    /// The object.
    pub target: FluxRef,
    /// The run that marked it.
    pub run: String,
    /// Why it was suspended.
    pub reason: String,
    /// When the run meant to be through.
    pub deadline: Option<Millis>,
    /// It still is suspended.
    pub suspended: bool,
    /// What `spec.suspend` was before.
    pub prior: Prior,
}

impl Call for Identity {
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
impl Call for Leftovers {
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
