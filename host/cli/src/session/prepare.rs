//! Prepares a run: loads the guest, resolves its configuration, and writes the header.

use super::{load, machine};
use crate::arguments::GuestOptions;
use crate::cluster::ClusterSession;
use crate::configuration::Schema;
use crate::guest::ResolvedGuest;
use crate::output::CommandError;
use crate::plans::Plan;
use salve_core::capability::host::{CheckPolicies, Policy, PolicyStatus, ReviewAccess};
use salve_core::journal::{Command, FORMAT, Header};
use salve_core::permission::admission;
use salve_core::permission::enforcement::{self, Enforcement};
use salve_core::permission::needs::{Needs, functions};
use salve_core::report::Description;
use salve_run::Mode;
use salve_sandbox::{Guest, Linking};
use serde_json::Value;

/// A loaded guest with its documents and its configuration, ready to run.
pub struct PreparedRun {
    pub(super) resolved: ResolvedGuest,
    pub(super) guest: Guest,
    pub description: Description,
    pub(super) configuration: Value,
    /// The approved plan that binds the run, if there is one.
    pub(super) plan: Option<Plan>,
}

impl PreparedRun {
    /// Loads the component and resolves its configuration.
    ///
    /// # Errors
    /// The component is not a guest for this host, or the configuration is invalid.
    pub async fn prepare(
        resolved: ResolvedGuest,
        options: &GuestOptions,
    ) -> Result<Self, CommandError> {
        let (guest, description) =
            load(&resolved.component, &resolved.origin, resolved.limits).await?;
        let configuration = Schema::parse(&description.configuration)?.fill(
            &resolved.configuration,
            options.config_file.as_deref(),
            &options.config,
        )?;
        Ok(Self { resolved, guest, description, configuration, plan: None })
    }

    /// Binds the run to an approved plan.
    ///
    /// # Errors
    /// The plan was approved for another component, document, or configuration.
    pub fn bound_to(self, plan: Plan) -> Result<Self, CommandError> {
        // mutant plan-binds-nothing: plan.check_matches(&self.resolved, &self.configuration)? ~>
        //     let _ = plan.check_matches(&self.resolved, &self.configuration)
        plan.check_matches(&self.resolved, &self.configuration)?;
        Ok(Self { plan: Some(plan), ..self })
    }

    /// Returns the loaded guest.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Returns the sources of the documents that grant permissions, for display.
    pub fn grant_sources(&self) -> String {
        let names: Vec<_> = self.resolved.grants.layers.iter().map(|l| l.source.as_str()).collect();
        names.join(" and ")
    }

    /// Checks that every write that the guest imports is granted.
    ///
    /// # Errors
    /// Names all writes that are not granted.
    pub fn require_grants(&self) -> Result<(), CommandError> {
        self.guest
            .link(Linking::Granted(&self.resolved.grants))
            .map(|_| ())
            .map_err(|e| CommandError::denied(e.to_string()))
    }

    /// Returns the header of a run in this mode.
    pub(super) async fn header(&self, mode: Mode, session: &ClusterSession, id: &str) -> Header {
        let command = match mode {
            Mode::Live => Command::Run,
            Mode::Plan => Command::Plan,
            Mode::Diagnosis | Mode::Replay => Command::Check,
        };
        let enforcement = match mode {
            Mode::Live => self.enforcement(session).await,
            Mode::Plan | Mode::Diagnosis | Mode::Replay => None,
        };
        let at = session.clock().now();
        Header {
            format: FORMAT,
            run: id.into(),
            at,
            command,
            salve: env!("CARGO_PKG_VERSION").into(),
            guest: self.description.clone(),
            digest: self.resolved.digest.clone(),
            configuration: self.configuration.clone(),
            documents: self.resolved.documents.clone(),
            grants: self.resolved.grants.clone(),
            limits: self.resolved.limits,
            problems: self.resolved.problems.clone(),
            deadline: at + self.resolved.limits.deadline_seconds * 1000,
            context: session.context.clone(),
            cluster: session.identity.uid.clone(),
            user: session.identity.user.clone(),
            machine: machine(),
            enforcement,
        }
    }

    /// Determines which layers limit the account of a run on a live cluster. What cannot be
    /// determined is recorded as unknown and does not prevent the run.
    async fn enforcement(&self, session: &ClusterSession) -> Option<Enforcement> {
        if !session.is_live() {
            return None;
        }
        let requests = enforcement::excess_requests();
        let allowed = session.read(ReviewAccess { requests: requests.clone() }).await.ok();
        let excess_requests = allowed.map(|allowed| {
            let excess = requests.iter().zip(allowed).filter(|(_, allowed)| *allowed);
            excess.map(|(request, _)| request.to_string()).collect()
        });
        let account = session.identity.user.as_deref().and_then(enforcement::account);
        let missing_policies = match account {
            None => None,
            Some(account) => {
                let functions = functions(self.guest.inspection().imported());
                let needs = Needs::new(&functions, &self.resolved.grants, false);
                missing_policies(session, admission::policies(&account, &needs)).await
            }
        };
        Some(Enforcement { excess_requests, missing_policies })
    }
}

/// Returns the policies that the cluster does not enforce as they are here. None if they may not be
/// read.
async fn missing_policies(session: &ClusterSession, policies: Vec<Policy>) -> Option<Vec<String>> {
    let statuses = session.read(CheckPolicies { policies: policies.clone() }).await.ok()?;
    let missing = |(policy, status): (Policy, PolicyStatus)| match status {
        PolicyStatus::Enforced => None,
        PolicyStatus::Missing => Some(policy.name),
        PolicyStatus::Different => {
            Some(format!("{} as generated from these documents", policy.name))
        }
    };
    Some(policies.into_iter().zip(statuses).filter_map(missing).collect())
}
