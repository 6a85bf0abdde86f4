//! `reconcile-flux`: asks a Flux object to reconcile now.

use super::{Target, Validate, shared::FluxRef};
use crate::outcome::Error;
use serde::{Deserialize, Serialize};

/// Asks, and waits for the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconcile {
    /// The object.
    pub target: FluxRef,
    /// A HelmRelease: upgrade even if nothing changed.
    pub force: bool,
    /// How long to wait.
    pub wait_seconds: u32,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// The controller has handled this request.
    pub handled: bool,
    /// Condition Ready is True.
    pub ready: bool,
    /// Its message.
    pub message: String,
}

impl Validate for Reconcile {
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn check(&self) -> Result<(), Error> {
        self.target.check()?;
        if self.wait_seconds > 3600 {
            return Err(Error::Invalid("a wait of more than an hour".into()));
        }
        Ok(())
    }
}
