//! Everything that can be asked of the outside, as values.
//!
//! One module a capability, named as its WIT interface; one variant a function. The table at the
//! end of this file lists them all: a new row stops the build at every reader.

use crate::outcome::Error;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

pub mod delete_replicationsources;
pub mod host;
pub mod query_drivers;
pub mod query_flux;
pub mod query_objects;
pub mod query_pods;
pub mod query_pvcs;
pub mod query_replicationsources;
pub mod reconcile_flux;
pub mod restart_deployment;
pub mod run;
pub mod shared;
pub mod suspend_flux;
pub mod tail_logs;

/// A call and the type of its answer.
pub trait TypedCall: Sized {
    /// What the call answers.
    type Answer: Serialize + DeserializeOwned;
    /// The call as an effect.
    fn effect(self) -> Effect;
    /// The answer out of the sum of all answers; none if it belongs to another call.
    fn take(answer: Answer) -> Option<Self::Answer>;
}

/// An object that an effect concerns: what grants are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The kind where a capability has several: `kustomization`, or `jobs.batch`.
    pub kind: Option<String>,
    /// The namespace; none for an object without one.
    pub namespace: Option<String>,
    /// The name; none for all of that namespace.
    pub name: Option<String>,
}

impl Target {
    /// One object.
    pub fn object(namespace: &str, name: &str) -> Self {
        Self { kind: None, namespace: Some(namespace.into()), name: Some(name.into()) }
    }
    /// All of a namespace.
    pub fn all_of(namespace: &str) -> Self {
        Self { kind: None, namespace: Some(namespace.into()), name: None }
    }
    /// Whether it is this object. A kind is compared where there is one.
    pub fn is(&self, object: &serde_json::Value) -> bool {
        let part = |at: &str| object.pointer(at).and_then(serde_json::Value::as_str);
        let kind = self.kind.as_deref().is_none_or(|kind| {
            part("/kind").is_some_and(|found| found.to_lowercase() == kind.replace('-', ""))
        });
        kind && part("/metadata/namespace") == self.namespace.as_deref()
            && part("/metadata/name") == self.name.as_deref()
    }
    /// The same of a kind.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(kind) = &self.kind {
            write!(f, "{kind} ")?;
        }
        match (&self.namespace, &self.name) {
            (Some(ns), Some(name)) => write!(f, "{ns}/{name}"),
            (Some(ns), None) => write!(f, "{ns}/*"),
            (None, Some(name)) => f.write_str(name),
            (None, None) => f.write_str("*"),
        }
    }
}

/// What a call names, and whether that can be.
trait Validate {
    /// What it concerns.
    fn targets(&self) -> Vec<Target>;
    /// Names and limits, checked before the effect exists for anybody else.
    fn check(&self) -> Result<(), Error>;
}

macro_rules! calls {
    ($($(#[$doc:meta])* $group:ident { $($name:literal $variant:ident($ask:path) -> $answer:ty;)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(tag = "call", content = "with")]
            pub enum $group { $(
                #[doc = concat!("`", $name, "`")]
                #[serde(rename = $name)] $variant($ask),
            )* }

            impl $group {
                /// All names of this group, in the order of the table.
                pub const NAMES: &'static [&'static str] = &[$($name),*];
                /// `interface.function`.
                pub fn name(&self) -> &'static str { match self { $(Self::$variant(_) => $name),* } }
                /// What it concerns.
                pub fn targets(&self) -> Vec<Target> { match self { $(Self::$variant(ask) => ask.targets()),* } }
                fn check(&self) -> Result<(), Error> { match self { $(Self::$variant(ask) => ask.check()),* } }
                fn decode(&self, raw: &RawValue) -> Result<Answer, serde_json::Error> {
                    match self { $(Self::$variant(_) => serde_json::from_str(raw.get()).map(Answer::$variant)),* }
                }
            }

            $(
                impl TypedCall for $ask {
                    type Answer = $answer;
                    fn effect(self) -> Effect { Effect::$group($group::$variant(self)) }
                    #[allow(unreachable_patterns)]
                    fn take(answer: Answer) -> Option<$answer> {
                        match answer { Answer::$variant(a) => Some(a), _ => None }
                    }
                }
            )*
        )*

        /// The sum of all answers, one variant a call.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Answer { $($(
            #[doc = concat!("of `", $name, "`")]
            $variant($answer),
        )*)* }

        /// Everything that can be asked of the outside.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(untagged)]
        pub enum Effect { $($(#[$doc])* $group($group),)* }

        /// The functions alone, without what they are asked: what tables are made over.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Function { $($(
            #[doc = concat!("`", $name, "`")]
            $variant,
        )*)* }

        impl Function {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$($(Self::$variant),*),*];
            /// `interface.function`, e.g. `query-pvcs.list-pvcs`.
            pub fn name(self) -> &'static str { match self { $($(Self::$variant => $name),*),* } }
        }

        impl Effect {
            /// Which function this calls.
            pub fn function(&self) -> Function {
                match self { $(Self::$group(call) => match call { $($group::$variant(_) => Function::$variant),* }),* }
            }
            /// `interface.function`, e.g. `query-pvcs.list-pvcs`.
            pub fn name(&self) -> &'static str { match self { $(Self::$group(call) => call.name()),* } }
            /// What it concerns.
            pub fn targets(&self) -> Vec<Target> { match self { $(Self::$group(call) => call.targets()),* } }
            /// Whether names and limits can be; nothing is decided, performed or kept of a call that fails this.
            pub fn check(&self) -> Result<(), Error> { match self { $(Self::$group(call) => call.check()),* } }
            /// The recorded answer as a value.
            pub fn decode(&self, raw: &RawValue) -> Result<Answer, serde_json::Error> {
                match self { $(Self::$group(call) => call.decode(raw)),* }
            }
        }
    };
}

calls! {
    /// Answered by the run itself, without the cluster.
    Local {
        "run.now" Now(run::Now) -> crate::Millis;
        "run.sleep" Sleep(run::Sleep) -> ();
        "run.step" Step(run::Step) -> ();
        "run.note" Note(run::Note) -> ();
        "run.ask" AskUser(run::AskUser) -> bool;
    }
    /// Changes nothing.
    Read {
        "host.get-identity" GetIdentity(host::GetIdentity) -> host::ClusterIdentity;
        "host.review-access" ReviewAccess(host::ReviewAccess) -> Vec<bool>;
        "host.request-token" RequestToken(host::RequestToken) -> host::Issued;
        "host.check-policies" CheckPolicies(host::CheckPolicies) -> Vec<host::PolicyStatus>;
        "host.get-lease" Lease(host::Lease) -> Option<host::Holder>;
        "host.find-leftovers" FindLeftovers(host::FindLeftovers) -> Vec<host::Leftover>;
        "query-flux.find-owners" FindOwners(query_flux::FindOwners) -> Vec<query_flux::OwnerInfo>;
        "query-flux.get" GetFluxObject(query_flux::Get) -> query_flux::FluxObject;
        "query-replicationsources.list-sources" ListSources(query_replicationsources::ListSources) -> Vec<query_replicationsources::Source>;
        "query-replicationsources.list-destinations" ListDestinations(query_replicationsources::ListDestinations) -> Vec<query_replicationsources::Destination>;
        "query-pvcs.list-pvcs" ListPvcs(query_pvcs::ListPvcs) -> Vec<query_pvcs::Pvc>;
        "query-pvcs.list-snapshots" ListSnapshots(query_pvcs::ListSnapshots) -> Vec<query_pvcs::Snapshot>;
        "query-drivers.find" FindDriver(query_drivers::FindDriver) -> query_drivers::Driver;
        "query-pods.list-pods" ListPods(query_pods::ListPods) -> Vec<shared::Pod>;
        "query-objects.list-objects" ListObjects(query_objects::ListObjects) -> query_objects::Page;
        "query-objects.get" GetObject(query_objects::GetObject) -> String;
        "tail-logs.next" NextPage(tail_logs::NextPage) -> tail_logs::Page;
        "restart-deployment.await-rollout" AwaitRollout(restart_deployment::AwaitRollout) -> restart_deployment::Rollout;
    }
    /// Changes the cluster.
    Write {
        "host.acquire-lease" AcquireLease(host::AcquireLease) -> host::Acquired;
        "host.release-lease" ReleaseLease(host::ReleaseLease) -> ();
        "suspend-flux.suspend" Suspend(suspend_flux::Suspend) -> Vec<suspend_flux::SuspendResult>;
        "suspend-flux.resume" Resume(suspend_flux::Resume) -> suspend_flux::Resumed;
        "reconcile-flux.reconcile" Reconcile(reconcile_flux::Reconcile) -> reconcile_flux::Reconciliation;
        "delete-replicationsources.delete" Delete(delete_replicationsources::Delete) -> Vec<delete_replicationsources::Deletion>;
        "delete-replicationsources.recreate" Recreate(delete_replicationsources::Recreate) -> Vec<delete_replicationsources::Creation>;
        "restart-deployment.restart" Restart(restart_deployment::Restart) -> restart_deployment::Restarted;
    }
}

impl Effect {
    /// The capability: the WIT interface's name.
    pub fn capability(&self) -> &'static str {
        self.function().capability()
    }
}

impl Function {
    /// The capability: the WIT interface's name.
    pub fn capability(self) -> &'static str {
        self.name().split_once('.').expect("every name in the table is `interface.function`").0
    }
}

/// The WIT interfaces, and whether each only looks. WIT cannot say it, so this table does.
pub const CAPABILITIES: &[(&str, Access)] = &[
    ("run", Access::Builtin),
    ("query-flux", Access::Read),
    ("query-replicationsources", Access::Read),
    ("query-pvcs", Access::Read),
    ("query-drivers", Access::Read),
    ("query-pods", Access::Read),
    ("query-objects", Access::Read),
    ("tail-logs", Access::Read),
    ("suspend-flux", Access::Write),
    ("reconcile-flux", Access::Write),
    ("delete-replicationsources", Access::Write),
    ("restart-deployment", Access::Write),
];

/// How far a capability reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Given to every guest.
    Builtin,
    /// Only looks.
    Read,
    /// Can change the cluster.
    Write,
}

/// How far the capability of this name reaches; none if there is no such capability.
pub fn access_of(capability: &str) -> Option<Access> {
    CAPABILITIES.iter().find(|(name, _)| *name == capability).map(|(_, access_of)| *access_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_belongs_to_a_known_capability_or_to_the_host() {
        for name in Local::NAMES.iter().chain(Read::NAMES).chain(Write::NAMES) {
            let (capability, _) = name.split_once('.').unwrap();
            assert!(capability == "host" || access_of(capability).is_some(), "{name}");
        }
    }

    #[test]
    fn an_effect_survives_its_journal_form() {
        let effect = query_pvcs::ListPvcs { namespaces: vec!["media".into()] }.effect();
        let line = serde_json::to_string(&effect).unwrap();
        assert_eq!(line, r#"{"call":"query-pvcs.list-pvcs","with":{"namespaces":["media"]}}"#);
        assert_eq!(serde_json::from_str::<Effect>(&line).unwrap(), effect);
    }
}
