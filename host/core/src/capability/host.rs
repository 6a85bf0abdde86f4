//! What the host itself asks: which cluster is this, as whom, and what did earlier runs leave
//! behind? No guest can make these calls: they have no WIT interface.

use super::call::{Call, ReadCall};
use super::types::Kind;
use super::{Function, GrantShape, Observations, PlannedChanges, Reversal, Target};
use crate::footprint::{Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::problem::{Evaluation, Predicate, Problem};
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// Asks which cluster this is and as whom it knows this credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetIdentity {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// UID of the namespace `kube-system`. None if the credential may not read it.
    pub uid: Option<String>,
    /// Of the API server, e.g. `v1.36.3`.
    pub version: String,
    /// The user as which the API server authenticated the credential.
    pub user: Option<String>,
}

/// Asks which of these requests the credential may send. The answers have the same order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewAccess {
    pub requests: Vec<Request>,
}

/// A request as RBAC sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Request {
    /// An RBAC verb, such as `get`.
    pub verb: String,
    /// The API group; empty for core.
    pub group: String,
    pub resource: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
    /// None: cluster-scoped, or all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// None: all objects.
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

/// Requests a short-lived token of a ServiceAccount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestToken {
    pub namespace: String,
    pub name: String,
    /// Requested lifetime. The API server may shorten it.
    pub seconds: u32,
}

/// The lifetime of an issued token. The token itself stays with the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issued {
    pub until: Option<Millis>,
}

/// Compares admission policies with the cluster's. The answers have the same order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckPolicies {
    pub policies: Vec<Policy>,
}

/// A ValidatingAdmissionPolicy and its binding, which has the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub name: String,
    /// `spec` of the policy.
    pub spec: Value,
    /// `spec` of the binding.
    pub binding: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyStatus {
    /// It or its binding does not exist.
    Missing,
    /// It or its binding differs.
    Different,
    Enforced,
}

/// Finds what the reversible writes of any run left behind in the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindLeftovers {
    /// Where to look for changes of kinds that only grants name.
    pub kinds: Vec<Kind>,
}

/// Something that a run did not release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leftover {
    pub run: String,
    /// Why the run changed it.
    pub reason: String,
    /// When the run should have been finished.
    pub deadline: Option<Millis>,
    /// It is still in effect. Otherwise only the run's annotations remain.
    pub active: bool,
    pub reversal: Reversal,
}

pub fn grant_shape() -> GrantShape {
    GrantShape::default()
}

impl Call for GetIdentity {
    type Answer = ClusterIdentity;
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl ReadCall for GetIdentity {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::Get, "", "namespaces", Scope::Object("kube-system")),
            Rule::new(Verb::Create, "authentication.k8s.io", "selfsubjectreviews", Scope::Cluster),
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
    fn overlay(&self, _: &PlannedChanges, answer: ClusterIdentity) -> ClusterIdentity {
        answer
    }
    fn evidence(&self, _: &ClusterIdentity) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &ClusterIdentity, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&ClusterIdentity>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &ClusterIdentity, _: &mut Observations) {}
}

impl Call for ReviewAccess {
    type Answer = Vec<bool>;
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl ReadCall for ReviewAccess {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![Rule::new(
            Verb::Create,
            "authorization.k8s.io",
            "selfsubjectaccessreviews",
            Scope::Cluster,
        )]
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
    fn overlay(&self, _: &PlannedChanges, answer: Vec<bool>) -> Vec<bool> {
        answer
    }
    fn evidence(&self, _: &Vec<bool>) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Vec<bool>, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<bool>>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Vec<bool>, _: &mut Observations) {}
}

impl Call for RequestToken {
    type Answer = Issued;
    fn targets(&self) -> Vec<Target> {
        vec![Target::object(&self.namespace, &self.name)]
    }
    fn validate(&self) -> Result<(), Error> {
        name::namespace(&self.namespace)?;
        name::object(&self.name)
    }
}

impl ReadCall for RequestToken {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        // mutant token-for-any-account: Scope::Target ~> Scope::Everywhere
        vec![
            Rule::new(Verb::Create, "", "serviceaccounts", Scope::Target).with_subresource("token"),
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
    fn overlay(&self, _: &PlannedChanges, answer: Issued) -> Issued {
        answer
    }
    fn evidence(&self, _: &Issued) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Issued, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Issued>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Issued, _: &mut Observations) {}
}

impl Call for CheckPolicies {
    type Answer = Vec<PolicyStatus>;
    fn targets(&self) -> Vec<Target> {
        let target = |policy: &Policy| Target {
            kind: None,
            namespace: None,
            name: Some(policy.name.clone()),
        };
        self.policies.iter().map(target).collect()
    }
    fn validate(&self) -> Result<(), Error> {
        if self.policies.len() > 100 {
            return Err(Error::Invalid(format!(
                "{} policies: the maximum is 100",
                self.policies.len()
            )));
        }
        self.policies.iter().try_for_each(|policy| name::object(&policy.name))
    }
}

impl ReadCall for CheckPolicies {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        ["validatingadmissionpolicies", "validatingadmissionpolicybindings"]
            .map(|resource| {
                Rule::new(Verb::Get, "admissionregistration.k8s.io", resource, Scope::Target)
            })
            .into()
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
    fn overlay(&self, _: &PlannedChanges, answer: Vec<PolicyStatus>) -> Vec<PolicyStatus> {
        answer
    }
    fn evidence(&self, _: &Vec<PolicyStatus>) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Vec<PolicyStatus>, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<PolicyStatus>>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Vec<PolicyStatus>, _: &mut Observations) {}
}

impl Call for FindLeftovers {
    type Answer = Vec<Leftover>;
    fn targets(&self) -> Vec<Target> {
        self.kinds.iter().map(|kind| kind.target(None, None)).collect()
    }
    fn validate(&self) -> Result<(), Error> {
        self.kinds.iter().try_for_each(Kind::validate)
    }
}

impl ReadCall for FindLeftovers {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        let rules = Function::ALL.iter().flat_map(|function| function.leftover_requests());
        rules.collect()
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
    fn overlay(&self, _: &PlannedChanges, answer: Vec<Leftover>) -> Vec<Leftover> {
        answer
    }
    fn evidence(&self, _: &Vec<Leftover>) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Vec<Leftover>, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Vec<Leftover>>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Vec<Leftover>, _: &mut Observations) {}
}
