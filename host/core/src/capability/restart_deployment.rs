//! `restart-deployment`: restarts a Deployment and waits until it is available again.

use super::call::{
    Call, Durability, Limit, Pending, Permanent, ReadCall, Summary, Unfinished, WriteCall, single,
};
use super::observations::created;
use super::query_flux::SubjectKind;
use super::types::{Lease, ObjectRef, Pod};
use super::{Excess, GrantShape, ObjectDetails, Observations, PlannedChanges, Target, Write};
use crate::footprint::{FieldPath, Rule, Scope, Verb, field};
use crate::grants::{EvidenceItem, Grant};
use crate::journal::ObservedState;
use crate::problem::{Evaluation, Predicate, Problem};
use crate::{Millis, name, outcome::Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Sets the annotation that `kubectl rollout restart` sets.
    Annotate,
    /// Deletes the pods one by one.
    ReplacePods,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    pub target: ObjectRef,
    pub uid: String,
    pub strategy: Strategy,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restarted {
    /// By the cluster's clock.
    pub at: Millis,
    /// UIDs of the pods that were ready and must go. As many new ones must be ready in the end.
    pub old_pods: Vec<String>,
}

/// Waits until a restart is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AwaitRollout {
    pub target: ObjectRef,
    pub restarted: Restarted,
    /// Leases in the Deployment's namespace that new pods must acquire or renew.
    pub leases: Vec<String>,
    pub wait_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    pub done: bool,
    /// What it still waits for.
    pub waiting_for: Option<String>,
    pub pods: Vec<Pod>,
    pub leases: Vec<Lease>,
}

pub fn grant_shape() -> GrantShape {
    GrantShape {
        namespaced: true,
        host_only: vec!["only the Deployment with the UID that the guest read is restarted"],
        role_excess: vec![
            Excess::new(
                Verb::Patch,
                "apps",
                "deployments",
                "change the image, the command, and the mounts of a Deployment: whatever its \
                 ServiceAccount may do, and the Secrets of its namespace",
            ),
            Excess::new(Verb::Delete, "", "pods", "delete any pod"),
        ],
        policy_excess: vec![
            Excess::new(
                Verb::Patch,
                "apps",
                "deployments",
                "restart the granted Deployments any number of times",
            ),
            Excess::new(
                Verb::Delete,
                "",
                "pods",
                "delete the pods of those Deployments, each by its UID",
            ),
        ],
        ..GrantShape::default()
    }
}

fn fields() -> Vec<FieldPath> {
    let path = ["spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt"];
    vec![field(&path)]
}

impl Call for Restart {
    type Answer = Restarted;
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn validate(&self) -> Result<(), Error> {
        self.target.validate()
    }
}

impl WriteCall for Restart {
    type Reversal = Permanent;

    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::Get, "apps", "deployments", Scope::Target),
            Rule::new(Verb::Patch, "apps", "deployments", Scope::Target),
            Rule::new(Verb::List, "", "pods", Scope::Effect),
            Rule::new(Verb::Get, "", "pods", Scope::Effect),
            Rule::new(Verb::Delete, "", "pods", Scope::Effect),
        ]
    }
    fn fields(&self) -> Vec<FieldPath> {
        fields()
    }
    fn granted_fields(_: &Grant) -> Vec<FieldPath> {
        fields()
    }
    fn limit() -> Option<Limit> {
        Some(Limit { key: "restarts", noun: "restart" })
    }
    fn requires_evidence(&self) -> bool {
        true
    }
    fn judged_object<'a>(&'a self, target: &Target, observed: &'a [Value]) -> Option<&'a Value> {
        observed.iter().find(|object| target.is(object))
    }

    fn predict(&self, _: &ObservedState, now: Millis) -> Restarted {
        Restarted { at: now, old_pods: vec![] }
    }
    fn plan(&self, _: &mut PlannedChanges) {}
    fn commands(&self, observed: Option<&ObservedState>) -> Vec<String> {
        let ObjectRef { namespace, name } = &self.target;
        match self.strategy {
            Strategy::Annotate => {
                vec![format!("kubectl rollout restart -n {namespace} deployment/{name}")]
            }
            Strategy::ReplacePods => {
                let objects = observed.iter().flat_map(|observed| &observed.objects);
                let pods = objects.filter(|object| object["kind"] == "Pod");
                let pods: Vec<&str> =
                    pods.filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
                // One by one, as the run does: the next once the replacement is ready.
                pods.iter().map(|pod| format!("kubectl delete pod -n {namespace} {pod}")).collect()
            }
        }
    }
    fn details(
        &self,
        observations: &Observations,
        step: &str,
        observed: Option<&ObservedState>,
    ) -> Vec<ObjectDetails> {
        let owner = observations.owner_of(SubjectKind::Deployment, &self.target);
        let ObjectRef { namespace, name } = &self.target;
        vec![ObjectDetails {
            target: self.target.target().to_string(),
            reason: step.into(),
            created: created(observed, "Deployment", namespace, name),
            owner: owner.and_then(|info| info.owner.as_ref()).map(|o| o.target.to_string()),
            last_backup: None,
            returns: None,
        }]
    }

    fn difference(&self, approved: &Self) -> Option<String> {
        (self != approved).then(|| format!("Deployment {} is restarted differently", self.target))
    }
    fn allowed_after_plan(&self, _: &[&Write]) -> bool {
        false
    }
    fn binds(&self, object: &Value) -> bool {
        // Pods come and go: which of them must go is decided when the restart begins.
        object["kind"] != "Pod"
    }

    fn waits(&self) -> Duration {
        // Pods that are replaced one by one wait for each other.
        Duration::from_secs(3600)
    }
    fn durability(&self) -> Durability {
        Durability::Synced
    }
    fn stamp(&self, _: Millis, _: u64) -> Option<Millis> {
        None
    }

    fn assemble(
        &self,
        parts: Vec<Restarted>,
        unfinished: Option<&Unfinished>,
    ) -> Result<Restarted, Error> {
        single(parts, unfinished)
    }
    fn failure<'a>(&self, _: &'a Restarted) -> Option<&'a Error> {
        None
    }
    fn summary(&self, _: &Restarted) -> Summary {
        Summary::Ok
    }
    fn may_return(&self, _: &Restarted) -> Vec<String> {
        vec![]
    }
    fn applied_at(&self, answer: &Restarted) -> Option<Millis> {
        Some(answer.at)
    }

    fn undone_by() -> Option<super::Function> {
        None
    }
    fn reversals(&self, _: &ObservedState, _: Option<&Restarted>) -> Vec<Pending<Permanent>> {
        vec![]
    }
}

impl Call for AwaitRollout {
    type Answer = Rollout;
    fn targets(&self) -> Vec<Target> {
        vec![self.target.target()]
    }
    fn validate(&self) -> Result<(), Error> {
        self.target.validate()?;
        if self.wait_seconds > 7200 {
            return Err(Error::Invalid("wait-seconds of more than 7200".into()));
        }
        if self.leases.len() > 20 {
            return Err(Error::Invalid("more than 20 leases".into()));
        }
        self.leases.iter().try_for_each(|lease| name::object(lease))
    }
}

impl ReadCall for AwaitRollout {
    fn requests(_: Option<&Grant>) -> Vec<Rule> {
        vec![
            Rule::new(Verb::Get, "apps", "deployments", Scope::Target),
            Rule::new(Verb::List, "", "pods", Scope::Effect),
            Rule::new(Verb::List, "coordination.k8s.io", "leases", Scope::Effect),
        ]
    }
    fn waits(&self) -> Duration {
        Duration::from_secs(self.wait_seconds.into())
    }
    fn observes_time(&self) -> bool {
        false
    }
    fn ends_plan(&self) -> Option<&'static str> {
        Some("the rest depends on the restart")
    }
    fn overlay(&self, _: &PlannedChanges, answer: Rollout) -> Rollout {
        answer
    }
    fn evidence(&self, _: &Rollout) -> Vec<EvidenceItem> {
        vec![]
    }
    fn predicate() -> Predicate {
        Predicate::None
    }
    fn evaluate(&self, _: &Problem, _: &Rollout, _: &[Evaluation]) -> Evaluation {
        Evaluation::default()
    }
    fn verification(&self, _: &Problem, _: Millis, _: Option<&Rollout>) -> Option<Self> {
        None
    }
    fn observe(&self, _: &Rollout, _: &mut Observations) {}
}
