//! The cluster lock: a Lease that lets one run at a time change a cluster.
//!
//! No guest can ask for it: the host acquires it before a run's first write and releases it last.

use super::call::{
    Call, Durability, Limit, Pending, ReadCall, Released, ReversalCall, Summary, Unfinished,
    WriteCall, single,
};
use super::{
    Excess, GrantShape, ObjectDetails, Observations, PlannedChanges, Target, TargetKind, Write,
};
use crate::footprint::{FieldPath, Rule, Scope, Verb};
use crate::grants::{EvidenceItem, Grant};
use crate::journal::ObservedState;
use crate::problem::{Evaluation, Predicate, Problem};
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The name of the Lease.
pub const LEASE: &str = "salve";
/// The namespace in which it is created: the first of these that exists.
pub const LEASE_NAMESPACES: [&str; 2] = ["salve", "default"];

const COORDINATION: &str = "coordination.k8s.io";

/// Asks which run holds the cluster lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetHolder {}

/// The run that holds the cluster lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// The Lease's namespace.
    pub namespace: String,
    pub uid: String,
    pub run: String,
    /// Which guest, for whom, on which machine.
    pub reason: String,
    pub since: Option<Millis>,
    /// The run's deadline.
    pub until: Option<Millis>,
}

impl Holder {
    /// Explains to another run why it cannot have the lock, and what to do.
    pub fn conflict_message(&self, now: Millis) -> String {
        let Self { namespace, run, reason, until, .. } = self;
        let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        match until {
            Some(until) if *until < now => format!(
                "another run {run}{reason} holds the cluster lock but is past its deadline, so it \
                 probably crashed: run `salve recover {run}` on the machine that started it; if \
                 its run file is lost, see `salve doctor`, then run: kubectl delete lease {LEASE} \
                 -n {namespace}"
            ),
            Some(_) | None => format!(
                "another run {run}{reason} holds the cluster lock: wait until it finishes, or run \
                 `salve recover {run}` on its machine if its process is gone"
            ),
        }
    }
}

/// Acquires the cluster lock for this run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcquireLease {
    pub run: String,
    /// Which guest, for whom, on which machine.
    pub reason: String,
    /// `spec.leaseDurationSeconds`: until the run's deadline.
    pub seconds: u64,
}

/// The Lease that was acquired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acquired {
    pub namespace: String,
    pub uid: String,
}

/// Deletes the Lease if this run still holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseLease {
    pub namespace: String,
    pub run: String,
}

pub fn grant_shape() -> GrantShape {
    GrantShape {
        policy_excess: vec![Excess::new(
            Verb::Delete,
            COORDINATION,
            "leases",
            "delete the Lease of any run, by its UID: two runs could then write at once",
        )],
        ..GrantShape::default()
    }
}

fn leases() -> Vec<Target> {
    LEASE_NAMESPACES.map(|namespace| Target::object(namespace, LEASE)).into()
}

fn read_rules() -> Vec<Rule> {
    vec![
        Rule::new(Verb::Get, "", "namespaces", Scope::Object(LEASE_NAMESPACES[0])),
        Rule::new(Verb::Get, COORDINATION, "leases", Scope::Target),
    ]
}

impl Call for GetHolder {
    type Answer = Option<Holder>;
    fn targets(&self) -> Vec<Target> {
        leases()
    }
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl ReadCall for GetHolder {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        read_rules()
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
    fn overlay(&self, _: &PlannedChanges, answer: Option<Holder>) -> Option<Holder> {
        answer
    }
    fn evidence(&self, _: &Option<Holder>) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Option<Holder>, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Option<Holder>>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Option<Holder>, _: &mut Observations) {}
}

impl Call for AcquireLease {
    type Answer = Acquired;
    fn targets(&self) -> Vec<Target> {
        leases()
    }
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl WriteCall for AcquireLease {
    type Reversal = ReleaseLease;

    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        let mut rules = read_rules();
        rules.push(Rule::new(Verb::Create, COORDINATION, "leases", Scope::Effect));
        rules
    }
    fn fields(&self) -> Vec<FieldPath> {
        vec![]
    }
    fn granted_fields(_: &Grant) -> Vec<FieldPath> {
        vec![]
    }
    fn limit() -> Option<Limit> {
        None
    }
    fn requires_evidence(&self) -> bool {
        false
    }
    fn judged_object<'a>(&'a self, _: &Target, _: &'a [Value]) -> Option<&'a Value> {
        None
    }

    fn predict(&self, _: &ObservedState, _: Millis) -> Acquired {
        Acquired { namespace: String::new(), uid: String::new() }
    }
    fn plan(&self, _: &mut PlannedChanges) {}
    fn commands(&self, _: Option<&ObservedState>) -> Vec<String> {
        // A person does not need the lock.
        vec![]
    }
    fn details(&self, _: &Observations, _: &str, _: Option<&ObservedState>) -> Vec<ObjectDetails> {
        vec![]
    }

    fn difference(&self, approved: &Self) -> Option<String> {
        (self.run != approved.run).then(|| "the lock is for another run".into())
    }
    fn allowed_after_plan(&self, _: &[&Write]) -> bool {
        false
    }
    fn binds(&self, _: &Value) -> bool {
        true
    }

    fn waits(&self) -> Duration {
        Duration::ZERO
    }
    fn durability(&self) -> Durability {
        Durability::Synced
    }
    fn stamp(&self, _: Millis, _: u64) -> Option<Millis> {
        None
    }

    fn assemble(
        &self,
        parts: Vec<Acquired>,
        unfinished: Option<&Unfinished>,
    ) -> Result<Acquired, Error> {
        single(parts, unfinished)
    }
    fn failure<'a>(&self, _: &'a Acquired) -> Option<&'a Error> {
        None
    }
    fn summary(&self, _: &Acquired) -> Summary {
        Summary::Ok
    }
    fn may_return(&self, _: &Acquired) -> Vec<String> {
        vec![]
    }
    fn applied_at(&self, _: &Acquired) -> Option<Millis> {
        None
    }

    fn undone_by() -> Option<super::Function> {
        None
    }
    fn reversals(
        &self,
        observed: &ObservedState,
        answer: Option<&Acquired>,
    ) -> Vec<Pending<ReleaseLease>> {
        let observed =
            observed.objects.first().and_then(|lease| lease["metadata"]["namespace"].as_str());
        let namespace = answer.map(|acquired| acquired.namespace.as_str()).or(observed);
        let release = |namespace: &str| Pending {
            reversal: ReleaseLease { namespace: namespace.into(), run: self.run.clone() },
            in_doubt: answer.is_none(),
        };
        namespace.map(release).into_iter().collect()
    }
}

impl Call for ReleaseLease {
    type Answer = Released;
    fn targets(&self) -> Vec<Target> {
        vec![Target {
            kind: Some(TargetKind {
                resource: format!("leases.{COORDINATION}"),
                label: "Lease".into(),
            }),
            ..Target::object(&self.namespace, LEASE)
        }]
    }
    fn validate(&self) -> Result<(), Error> {
        name::namespace(&self.namespace)
    }
}

impl ReversalCall for ReleaseLease {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::Get, COORDINATION, "leases", Scope::Target),
            Rule::new(Verb::Delete, COORDINATION, "leases", Scope::Target),
        ]
    }
    fn fields(&self) -> Vec<FieldPath> {
        vec![]
    }
    fn granted_fields(_: &Grant) -> Vec<FieldPath> {
        vec![]
    }
    fn leftover_requests() -> Vec<Rule> {
        // `GetHolder` finds it.
        vec![]
    }
    fn commands(&self) -> Vec<String> {
        vec![format!("kubectl delete lease {LEASE} -n {}", self.namespace)]
    }
    fn cleanup_commands(&self) -> Vec<String> {
        vec![]
    }
    fn still_active(&self, in_doubt: bool) -> String {
        if in_doubt {
            format!(
                "this run may still hold the cluster lock, because the API server did not respond: \
                 it does if `kubectl get lease {LEASE} -n {} -o jsonpath={{.spec.holderIdentity}}` \
                 prints {}",
                self.namespace, self.run
            )
        } else {
            "this run still holds the cluster lock: no other run can change the cluster".into()
        }
    }
    fn brings_back(&self) -> Option<String> {
        None
    }
    fn is_planned(&self) -> bool {
        false
    }
}
