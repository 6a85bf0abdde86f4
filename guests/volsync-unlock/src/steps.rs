//! The steps that change the cluster: suspend, delete, restart, wait, resume. What they change has
//! been decided before.

use salve_sdk::Error;
use salve_sdk::format::{age, count};
use salve_sdk::query_drivers::{Controller, Driver};
use salve_sdk::query_pvcs::Snapshot;
use salve_sdk::query_replicationsources::{Destination, Source};
use salve_sdk::report::Finding;
use salve_sdk::types::FluxRef;

use crate::active_suspensions::ActiveSuspensions;
use crate::config::Config;
use crate::deadline::{Deadline, wait_until};
use crate::evidence::{ControllerLog, Observation};
use crate::host::delete_replicationsources::{
    self, Deletion, DeletionOutcome, DeletionTarget, Pacing,
};
use crate::host::restart_deployment::{self, Restarted, Strategy};
use crate::host::run::{self, Level};
use crate::host::{query_drivers, query_pvcs, query_replicationsources, reconcile_flux};
use crate::prepare::{self, Plan};
use crate::resume_order;
use crate::selection::{self, Recreation, SelectedSource};
use crate::similar_problems;
use crate::suspension::Role;
use crate::verify;
use crate::watch::LogWatch;

const POLL_INTERVAL_MS: u64 = 5_000;
/// How long one call waits for the rollout, so that its progress can be reported in between.
const ROLLOUT_CALL_MS: u64 = 60_000;
/// A lease that was not renewed for this many of its durations belonged to a sidecar that no
/// longer exists.
const EXPIRED_LEASE_DURATIONS: u64 = 10;
/// How long an owner may take to reconcile, in milliseconds.
const RECONCILE_TIMEOUT_MS: u64 = 60_000;
/// The host's limit for the leases of one call.
const MAX_LEASES: usize = 20;

/// Why a step ended the run.
pub enum StepError {
    CallFailed(Error),
    /// The cluster is not in a state in which the run can continue.
    NotFixed(String),
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        Self::CallFailed(error)
    }
}

/// A run in progress.
pub struct Execution<'a> {
    pub config: &'a Config,
    /// The state before the first write.
    pub observation: &'a Observation,
    pub plan: &'a Plan,
    pub deadline: Deadline,
    pub suspensions: ActiveSuspensions,
    /// The current step.
    pub step: &'static str,
    /// Findings for the report: what the run could not do.
    pub remaining: Vec<Finding>,
    /// UIDs of the deleted ReplicationSources.
    pub deleted: Vec<String>,
    /// HelmReleases that were forced to recreate what was deleted.
    pub forced: Vec<FluxRef>,
    /// Whether the driver was restarted. A run restarts it at most once.
    pub is_restarted: bool,
    /// The restart, until the last step takes it over.
    pub restart: Option<Restart>,
}

/// A requested restart and its progress.
pub struct Restart {
    pub controller: Controller,
    /// When it was requested, and which pods have to be replaced.
    pub restarted: Restarted,
    /// What it is still waiting for.
    pub waiting_for: Option<String>,
    /// The controller's log since the restart.
    pub log: ControllerLog,
    pub watch: LogWatch,
}

impl Restart {
    /// Returns whether the rollout is complete and no lock has been logged since.
    pub fn is_clean(&self) -> bool {
        self.waiting_for.is_none() && self.log.sightings.0.is_empty()
    }

    /// Waits for the rollout until `end`. Returns what is still missing then.
    fn await_rollout(&self, leases: &[String], end: u64) -> Result<Option<String>, Error> {
        let mut reported = String::new();
        loop {
            let remaining = end.saturating_sub(run::now());
            let timeout = u32::try_from(remaining.min(ROLLOUT_CALL_MS) / 1_000).unwrap_or(u32::MAX);
            let rollout = restart_deployment::await_rollout(
                &self.controller.deployment,
                &self.restarted,
                leases,
                timeout,
            )?;
            if rollout.done {
                return Ok(None);
            }
            let missing = rollout.waiting_for.unwrap_or_else(|| "its new pods".to_owned());
            if remaining <= ROLLOUT_CALL_MS {
                return Ok(Some(missing));
            }
            if missing != reported {
                run::note(Level::Info, &format!("waiting for {missing}"));
                reported = missing;
            }
        }
    }
}

impl<'a> Execution<'a> {
    pub fn new(
        config: &'a Config,
        observation: &'a Observation,
        plan: &'a Plan,
        deadline: Deadline,
    ) -> Self {
        Self {
            config,
            observation,
            plan,
            deadline,
            suspensions: ActiveSuspensions::default(),
            step: "evidence",
            remaining: Vec::new(),
            deleted: Vec::new(),
            forced: Vec::new(),
            is_restarted: false,
            restart: None,
        }
    }

    fn begin(&mut self, step: &'static str, title: &str) -> Result<(), StepError> {
        if self.deadline.has_passed() {
            return Err(StepError::NotFixed(format!(
                "the run's deadline passed before step {step}"
            )));
        }
        self.step = step;
        run::step(step, title);
        Ok(())
    }

    /// Suspends the Flux objects that would recreate the ReplicationSources.
    pub fn suspend(&mut self) -> Result<(), StepError> {
        let order = &self.plan.suspensions.order;
        let title = match order.len() {
            0 => "nothing to suspend".to_owned(),
            1 => "suspend 1 Flux object and wait until it is idle".to_owned(),
            many => format!("suspend {many} Flux objects and wait until they are idle"),
        };
        self.begin("suspend", &title)?;
        Ok(self.suspensions.suspend(order, self.config.drain_timeout_seconds)?)
    }

    /// Deletes the selected ReplicationSources. Waits until their snapshots are gone, if the
    /// driver can delete them.
    pub fn delete(&mut self) -> Result<(), StepError> {
        let selected = &self.plan.selection.selected;
        self.begin("delete", &format!("delete {}", count(selected.len(), "ReplicationSource")))?;
        if selected.is_empty() {
            run::note(
                Level::Info,
                "no ReplicationSource is implicated by the evidence: nothing to delete",
            );
            return Ok(());
        }
        let unchanged = self.still_selected()?;
        let targets: Vec<DeletionTarget> = unchanged
            .into_iter()
            .map(|selected| DeletionTarget {
                object: selected.source.object.clone(),
                uid: selected.source.uid.clone(),
                digest: selected.source.digest.clone(),
                reason: selected.reason.as_str().to_owned(),
            })
            .collect();
        let pacing = Pacing {
            batch_size: self.config.deletion_batch_size,
            interval_ms: self.config.deletion_interval_ms,
        };
        let deletions = delete_replicationsources::delete(&targets, pacing)?;
        self.record(&deletions);
        if self.deleted.is_empty() {
            let reason =
                deletions.iter().find_map(|deletion| deletion.message.clone()).unwrap_or_default();
            let summary = format!("no ReplicationSource could be deleted: {reason}");
            // If every deletion was rejected, permissions are the problem, not the state of the
            // cluster: report it as `denied`.
            let all_rejected =
                deletions.iter().all(|deletion| deletion.outcome == DeletionOutcome::Rejected);
            return Err(if all_rejected {
                StepError::CallFailed(Error::Denied(summary))
            } else {
                StepError::NotFixed(summary)
            });
        }
        // A locked driver deletes nothing: its snapshots are awaited only after the restart.
        let sightings = &self.observation.log.sightings;
        if sightings.0.is_empty() {
            let (namespaces, deleted) = (&self.observation.namespaces, &self.deleted);
            wait_until(self.deadline, self.config.snapshot_timeout_ms, POLL_INTERVAL_MS, || {
                let snapshots = query_pvcs::list_snapshots(namespaces)?;
                Ok(resume_order::owned_snapshots(&snapshots, deleted)
                    .iter()
                    .all(|snapshot| resume_order::is_locked(snapshot, sightings)))
            })?;
        }
        Ok(())
    }

    /// Returns the selected ReplicationSources whose reason still applies. Since they were
    /// selected, Flux has been suspended, which can take minutes: a PVC may exist again.
    fn still_selected(&mut self) -> Result<Vec<&'a SelectedSource>, Error> {
        let namespaces = &self.observation.namespaces;
        let now = Observation {
            now: run::now(),
            sources: list_sources(self.observation)?,
            pvcs: query_pvcs::list_pvcs(namespaces)?,
            snapshots: query_pvcs::list_snapshots(namespaces)?,
            ..self.observation.clone()
        };
        let mut candidates = selection::candidates(&now, self.config.mode);
        let (mut unchanged, changed): (Vec<_>, Vec<_>) =
            self.plan.selection.selected.iter().partition(|selected| {
                // mutant reason-not-checked-again: source.uid == selected.source.uid ~>
                //     true || source.uid == selected.source.uid
                candidates.iter().any(|(source, _)| source.uid == selected.source.uid)
            });
        // A user may have suspended an owner in the meantime.
        candidates.retain(|(source, _)| {
            unchanged.iter().any(|selected| selected.source.uid == source.uid)
        });
        let ownerships = prepare::find_ownerships(&candidates)?;
        let kept = selection::select(&candidates, &ownerships, self.config).skipped;
        // mutant late-suspension-ignored: !kept.iter().any( ~> true || !kept.iter().any(
        unchanged.retain(|selected| {
            !kept.iter().any(|skipped| skipped.source.uid == selected.source.uid)
        });
        self.remaining.extend(kept.into_iter().map(|skipped| {
            Finding::new(format!(
                "ReplicationSource {} was not deleted: {}",
                skipped.source.object, skipped.reason
            ))
        }));
        self.remaining.extend(changed.into_iter().map(|selected| {
            Finding::new(format!(
                "ReplicationSource {} was not deleted: it was selected because {}, which is no \
                 longer true, or it was replaced",
                selected.source.object,
                selected.reason.as_str()
            ))
        }));
        Ok(unchanged)
    }

    fn record(&mut self, deletions: &[Deletion]) {
        for deletion in deletions {
            let object = &deletion.object;
            let message = deletion.message.as_deref().unwrap_or("no reason given");
            let reason = match deletion.outcome {
                DeletionOutcome::Deleted | DeletionOutcome::AlreadyGone => {
                    self.deleted.push(deletion.uid.clone());
                    continue;
                }
                DeletionOutcome::Replaced => {
                    "it was replaced by another object with the same name".to_owned()
                }
                DeletionOutcome::Changed => "its spec changed in the meantime".to_owned(),
                DeletionOutcome::Rejected => format!("the cluster rejected it: {message}"),
                DeletionOutcome::Unknown => {
                    self.remaining.push(Finding::new(format!(
                        "the outcome of deleting ReplicationSource {object} is unknown, it may be \
                         gone: {message}"
                    )));
                    continue;
                }
            };
            self.remaining.push(Finding::new(format!(
                "ReplicationSource {object} was not deleted: {reason}"
            )));
        }
    }

    /// Restarts the driver's controller, once, and waits for the rollout.
    pub fn restart(&mut self) -> Result<(), StepError> {
        self.begin("restart", "restart the driver's controller")?;
        let driver = query_drivers::find(&self.config.driver, &self.config.driver_namespace)?;
        let now = Observation { driver: driver.clone(), ..self.observation.clone() };
        if let Some(problem) = similar_problems::blocking_problem(&now) {
            return Err(StepError::NotFixed(format!("not restarted: {}", problem.text)));
        }
        let Some(controller) = driver.controller.clone() else {
            return Err(StepError::NotFixed(
                "not restarted: the driver's controller no longer exists".into(),
            ));
        };
        let strategy =
            if controller.operator_managed { Strategy::ReplacePods } else { Strategy::Annotate };
        let restarted =
            restart_deployment::restart(&controller.deployment, &controller.uid, strategy)?;
        self.is_restarted = true;
        let watch = LogWatch::open(&controller, restarted.at)?;
        let leases = active_leases(&driver, restarted.at);
        let restart = self.restart.insert(Restart {
            controller,
            restarted,
            waiting_for: None,
            log: ControllerLog::default(),
            watch,
        });
        self.step = "wait";
        run::step("wait", "wait for the new pods of the controller and their leases");
        let timeout = self.config.rollout_timeout_ms + self.config.lease_timeout_ms;
        restart.waiting_for = restart.await_rollout(&leases, self.deadline.limit(timeout))?;
        if let Some(missing) = &restart.waiting_for {
            run::note(
                Level::Warning,
                &format!("the rollout is not complete: waiting for {missing}"),
            );
        }
        Ok(())
    }

    /// Waits for what the restart unblocks: the deletion of snapshots and PVCs, then restores.
    pub fn wait(&mut self) -> Result<(), StepError> {
        if !self.is_driver_healthy()? {
            return Ok(());
        }
        if !self.deleted.is_empty() {
            self.wait_for_deletions()?;
        }
        if !self.plan.selection.recreated().is_empty() {
            // Restores before backups: recreated ReplicationSources sync at once, on the same
            // driver.
            let namespaces = &self.observation.namespaces;
            wait_until(self.deadline, self.config.restore_timeout_ms, POLL_INTERVAL_MS, || {
                let pvcs = query_pvcs::list_pvcs(namespaces)?;
                let destinations = list_destinations(self.observation)?;
                let has_stuck_pvc =
                    !verify::recovery(&pvcs, &self.observation.driver).stuck.is_empty();
                Ok(!has_stuck_pvc && resume_order::restoring(&destinations, &pvcs).is_empty())
            })?;
        }
        Ok(())
    }

    fn wait_for_deletions(&mut self) -> Result<(), Error> {
        let namespaces = &self.observation.namespaces;
        let deleted = &self.deleted;
        let timeout = self.config.snapshot_timeout_ms;
        wait_until(self.deadline, timeout, POLL_INTERVAL_MS, || {
            let snapshots = query_pvcs::list_snapshots(namespaces)?;
            Ok(resume_order::owned_snapshots(&snapshots, deleted).is_empty())
        })?;
        let snapshots = query_pvcs::list_snapshots(namespaces)?;
        let remaining = resume_order::owned_snapshots(&snapshots, deleted);
        if !remaining.is_empty() {
            self.remaining.push(remaining_snapshots(&remaining, run::now()));
        }
        let selected = &self.plan.selection.selected;
        wait_until(self.deadline, timeout, POLL_INTERVAL_MS, || {
            let pvcs = query_pvcs::list_pvcs(namespaces)?;
            Ok(resume_order::terminating_pvcs(&pvcs, selected).is_empty())
        })?;
        let pvcs = query_pvcs::list_pvcs(namespaces)?;
        let terminating = resume_order::terminating_pvcs(&pvcs, selected);
        self.remaining.extend(terminating.iter().map(|pvc| {
            Finding::new(format!(
                "PVC {} is still being deleted (finalizers: {}): if its ReplicationSource comes \
                 back before it is gone, it will lock the driver again",
                pvc.object,
                pvc.finalizers.join(", ")
            ))
        }));
        Ok(())
    }

    /// Reads the log since the last call. Returns whether the rollout is complete and no lock has
    /// been logged since.
    fn is_driver_healthy(&mut self) -> Result<bool, Error> {
        let Some(restart) = &mut self.restart else {
            return Ok(false);
        };
        restart.watch.read(&mut restart.log)?;
        Ok(restart.is_clean())
    }

    /// Resumes the suspended objects, a few owners at a time. Requests reconciliations only while
    /// the driver is healthy.
    pub fn resume(&mut self) -> Result<(), StepError> {
        self.step = "resume";
        let title = format!("resume {}", count(self.suspensions.remaining(), "Flux object"));
        run::step("resume", &title);
        let namespaces = &self.observation.namespaces;
        let mut may_reconcile = self.is_driver_healthy()?;
        let restoring = if may_reconcile {
            let destinations = list_destinations(self.observation)?;
            resume_order::restoring(&destinations, &query_pvcs::list_pvcs(namespaces)?)
        } else {
            Default::default()
        };
        let order = self.suspensions.order();
        let selection = &self.plan.selection;
        let batch_size = self.config.resume_batch_size;
        for batch in resume_order::batches(&order, selection, &restoring, batch_size) {
            may_reconcile = may_reconcile && !self.deadline.has_passed();
            let mut expected: Vec<&SelectedSource> = Vec::new();
            for index in batch {
                let target = &order[index].target;
                let problem = self.suspensions.resume(index);
                let is_resumed = problem.is_none();
                self.remaining.extend(problem);
                if may_reconcile && is_resumed && order[index].role == Role::Owner {
                    let recreated = selection.recreated_by(target);
                    let is_forced = selection.forces(target);
                    match self.reconcile(index, is_forced) {
                        Some(problem) => self.remaining.push(problem),
                        None if is_forced => self.forced.push(target.clone()),
                        None => {}
                    }
                    expected.extend(
                        recreated
                            .into_iter()
                            .filter(|selected| self.deleted.contains(&selected.source.uid)),
                    );
                }
            }
            if !expected.is_empty() {
                let timeout = self.config.resume_timeout_ms;
                wait_until(self.deadline, timeout, POLL_INTERVAL_MS, || {
                    let sources = list_sources(self.observation)?.unwrap_or_default();
                    Ok(resume_order::not_synced(&expected, &sources).is_empty())
                })?;
                may_reconcile = self.is_driver_healthy()?;
            }
        }
        Ok(())
    }

    fn reconcile(&self, index: usize, force: bool) -> Option<Finding> {
        let target = &self.suspensions.order()[index].target;
        let timeout = self.deadline.limit_seconds(RECONCILE_TIMEOUT_MS);
        match reconcile_flux::reconcile(target, force, timeout) {
            Ok(answer) if answer.handled && answer.ready => None,
            Ok(answer) => Some(Finding::new(format!(
                "{target} was resumed, but is not ready: {}",
                answer.message
            ))),
            Err(error) => Some(Finding::new(format!(
                "{target} was resumed, but requesting a reconciliation failed: {}",
                error.message()
            ))),
        }
    }

    /// Returns the deleted ReplicationSources that have to exist again at the end.
    pub fn expected(&self) -> Vec<&SelectedSource> {
        let is_deleted = |selected: &&SelectedSource| self.deleted.contains(&selected.source.uid);
        self.plan.selection.recreated().into_iter().filter(is_deleted).collect()
    }

    /// Reports the deleted ReplicationSources that are recreated only after the run, with what that
    /// takes.
    pub fn recreated_later(&self) -> Vec<Finding> {
        self.plan
            .selection
            .selected
            .iter()
            .filter(|selected| self.deleted.contains(&selected.source.uid))
            .filter_map(|selected| match &selected.recreation {
                Recreation::OwnerSuspended(owner) => Some(Finding::new(format!(
                    "{} was deleted: Flux will recreate it if {owner} is resumed",
                    selected.source.object
                ))),
                Recreation::AtUpgrade(owner) => Some(Finding::new(format!(
                    "{} was deleted: Flux will recreate it at the next upgrade of {owner}",
                    selected.source.object
                ))),
                Recreation::Forced(owner) if !self.forced.contains(owner) => {
                    Some(Finding::new(format!(
                        "{} was deleted, but {owner} was not forced to recreate it: run `flux \
                         reconcile helmrelease {} -n {} --force`",
                        selected.source.object, owner.name, owner.namespace
                    )))
                }
                Recreation::Unknown => Some(Finding::new(format!(
                    "{} was deleted, but its owner (in another cluster, or not Flux) could not be \
                     suspended and may recreate it at any time",
                    selected.source.object
                ))),
                Recreation::ByOwner(_) | Recreation::Forced(_) | Recreation::Never => None,
            })
            .collect()
    }
}

/// Lists the ReplicationSources. `None` if the cluster did not serve them at the start.
pub fn list_sources(observation: &Observation) -> Result<Option<Vec<Source>>, Error> {
    match &observation.sources {
        Some(_) => query_replicationsources::list_sources(&observation.namespaces).map(Some),
        None => Ok(None),
    }
}

/// Lists the ReplicationDestinations. Returns an empty list if the cluster did not serve
/// ReplicationSources at the start.
pub fn list_destinations(observation: &Observation) -> Result<Vec<Destination>, Error> {
    match &observation.sources {
        Some(_) => query_replicationsources::list_destinations(&observation.namespaces),
        None => Ok(Vec::new()),
    }
}

/// Returns the leases whose holders still renewed them when the restart began. The new pods have
/// to acquire these.
fn active_leases(driver: &Driver, restarted_at: u64) -> Vec<String> {
    driver
        .leases
        .iter()
        .filter(|lease| {
            let duration = u64::from(lease.duration_seconds.max(15)) * 1_000;
            let timeout = duration * EXPIRED_LEASE_DURATIONS;
            lease.renewed.is_some_and(|renewed| renewed.saturating_add(timeout) >= restarted_at)
        })
        .map(|lease| lease.name.clone())
        .take(MAX_LEASES)
        .collect()
}

fn remaining_snapshots(snapshots: &[&Snapshot], now: u64) -> Finding {
    let verb = if snapshots.len() == 1 { "exists" } else { "exist" };
    Finding::with_details(
        format!(
            "{} of deleted ReplicationSources still {verb}: check the VolumeSnapshotContent; do \
             not remove finalizers, that leaks images",
            count(snapshots.len(), "VolumeSnapshot")
        ),
        snapshots.iter().map(|snapshot| {
            let state = snapshot.terminating_since.map_or_else(
                || "not being deleted".to_owned(),
                |since| format!("being deleted for {}", age(since, now)),
            );
            format!(
                "{}: {state}; {}",
                snapshot.object,
                snapshot.problem.as_deref().unwrap_or("no error reported")
            )
        }),
    )
}

#[cfg(test)]
#[path = "tests/steps.rs"]
mod tests;
