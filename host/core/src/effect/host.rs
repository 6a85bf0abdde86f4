//! What the host itself asks: who am I, which cluster is this, what did earlier runs leave behind, and may we have it?
//! No guest can make these calls: no capability translates into them.

use super::{Target, Validate, shared::FluxRef, suspend_flux::PreviousSuspend};
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which cluster is this, and who am I to it?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetIdentity {}

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

/// May this credential make these requests?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewAccess {
    /// The requests; the answers come in the same order.
    pub requests: Vec<Request>,
}

/// A request as RBAC sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Request {
    /// In RBAC's words: `get`.
    pub verb: String,
    /// The API group; empty for core.
    pub group: String,
    /// The plural.
    pub resource: String,
    /// The subresource, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
    /// The namespace. None: no namespace, or every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object. None: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verb, group, resource, subresource, namespace, name } = self;
        write!(f, "{verb} {resource}")?;
        if let Some(subresource) = subresource {
            write!(f, "/{subresource}")?;
        }
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        if let Some(name) = name {
            write!(f, " {name}")?;
        }
        if let Some(namespace) = namespace {
            write!(f, " -n {namespace}")?;
        }
        Ok(())
    }
}

/// A token by which the host may act as a ServiceAccount, for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestToken {
    /// The ServiceAccount's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// For how long, in seconds: the API server may shorten it.
    pub seconds: u32,
}

/// What an answer may say of a token: never the token. It stays with the connection that asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issued {
    /// When it ends.
    pub until: Option<Millis>,
}

/// How do these admission policies stand in the cluster? The answers come in the same order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckPolicies {
    /// As they should be.
    pub policies: Vec<Policy>,
}

/// A ValidatingAdmissionPolicy and its binding, which bears the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The name of both.
    pub name: String,
    /// `spec` of the policy.
    pub spec: Value,
    /// `spec` of the binding.
    pub binding: Value,
}

/// How an admission policy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyStatus {
    /// It or its binding is not there.
    Absent,
    /// It or its binding is another one.
    Different,
    /// It is there, as it should be.
    Held,
}

/// What did earlier runs leave suspended?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindLeftovers {}

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
    pub previous: PreviousSuspend,
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
                format!(
                    "run {run}{reason} holds this cluster; let it end, or end it with `salve recover {run}` on its machine if its process is gone"
                )
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
    /// Its uid; in a closing none where it is not known whether it was taken.
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

impl Validate for Lease {
    fn targets(&self) -> Vec<Target> {
        every_place()
    }
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
impl Validate for AcquireLease {
    fn targets(&self) -> Vec<Target> {
        every_place()
    }
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
impl Validate for ReleaseLease {
    fn targets(&self) -> Vec<Target> {
        vec![Target::object(&self.namespace, LEASE)]
    }
    fn check(&self) -> Result<(), Error> {
        crate::name::namespace(&self.namespace)
    }
}

impl Validate for RequestToken {
    fn targets(&self) -> Vec<Target> {
        vec![Target::object(&self.namespace, &self.name)]
    }
    fn check(&self) -> Result<(), Error> {
        crate::name::namespace(&self.namespace)?;
        crate::name::object(&self.name)
    }
}
impl Validate for CheckPolicies {
    fn targets(&self) -> Vec<Target> {
        self.policies
            .iter()
            .map(|policy| Target { kind: None, namespace: None, name: Some(policy.name.clone()) })
            .collect()
    }
    fn check(&self) -> Result<(), Error> {
        if self.policies.len() > 100 {
            return Err(Error::Invalid(format!(
                "{} policies at once: at most 100",
                self.policies.len()
            )));
        }
        self.policies.iter().try_for_each(|policy| crate::name::object(&policy.name))
    }
}
impl Validate for ReviewAccess {
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn check(&self) -> Result<(), Error> {
        if self.requests.len() > 10_000 {
            return Err(Error::Invalid(format!(
                "{} reviews at once: at most 10000",
                self.requests.len()
            )));
        }
        Ok(())
    }
}
impl Validate for GetIdentity {
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
impl Validate for FindLeftovers {
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
