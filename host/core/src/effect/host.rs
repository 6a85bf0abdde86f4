//! What the host itself asks: who am I, which cluster is this, what did earlier runs leave behind, and may we have it?
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

/// The name of the Lease that keeps two runs apart.
pub const LEASE: &str = "salve";
/// Where it lies: in the first of these that exists.
pub const LEASE_NAMESPACES: [&str; 2] = ["salve", "default"];

/// Which run holds this cluster?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {}

/// The run that holds a cluster: while it does, no other changes anything there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// Where the Lease lies.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// The run.
    pub run: String,
    /// What it runs, for whom, on which machine.
    pub reason: String,
    /// Since when.
    pub since: Option<Millis>,
    /// When the run means to be through.
    pub until: Option<Millis>,
}

impl Holder {
    /// A sentence for another run that is refused, with what would help.
    pub fn told(&self, now: Millis) -> String {
        let Self { namespace, run, reason, until, .. } = self;
        let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        match until {
            Some(until) if *until < now => format!(
                "run {run}{reason} holds this cluster, and its time is over: it has died or hangs; `salve recover {run}` on its machine ends it; \
                 where its file is lost, see `salve doctor`, and then: kubectl delete lease {LEASE} -n {namespace}"
            ),
            Some(_) | None => {
                format!("run {run}{reason} holds this cluster; let it end, or end it with `salve recover {run}` on its machine if its process is gone")
            }
        }
    }
}

/// Takes the cluster for this run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcquireLease {
    /// The run.
    pub run: String,
    /// What it runs, for whom, on which machine.
    pub reason: String,
    /// For how long it means to need it.
    pub seconds: u64,
}

/// The Lease that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acquired {
    /// Where it lies.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
}

/// Gives it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseLease {
    /// Where it lies.
    pub namespace: String,
    /// Its uid: another's is not ours to give back.
    pub uid: String,
}

fn every_place() -> Vec<Target> {
    LEASE_NAMESPACES.map(|namespace| Target::object(namespace, LEASE)).into()
}

impl Call for Lease {
    fn targets(&self) -> Vec<Target> {
        every_place()
    }
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
impl Call for AcquireLease {
    fn targets(&self) -> Vec<Target> {
        every_place()
    }
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
impl Call for ReleaseLease {
    fn targets(&self) -> Vec<Target> {
        vec![Target::object(&self.namespace, LEASE)]
    }
    fn check(&self) -> Result<(), Error> {
        crate::name::namespace(&self.namespace)
    }
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
