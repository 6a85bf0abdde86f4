//! The touching steps, in order: freeze, delete, restart, wait, resume. What to touch was decided before.

use salve_sdk::Error;
use salve_sdk::query_drivers::{Controller, Driver};
use salve_sdk::query_pvcs::Snapshot;
use salve_sdk::report::Finding;
use salve_sdk::wording::{age, count, span};

use crate::config::Config;
use crate::deadline::{Deadline, until};
use crate::evidence::{Log, Seen};
use crate::freeze::Role;
use crate::frozen::DeletionTarget;
use crate::host::delete_replicationsources::{
    self, Deletion, DeletionOutcome, DeletionTarget as Target, Pacing,
};
use crate::host::restart_deployment::{self, Restarted, Strategy};
use crate::host::run::{self, Level};
use crate::host::{query_drivers, query_pvcs, query_replicationsources, reconcile_flux};
use crate::lookalikes;
use crate::prepare::Plan;
use crate::selection::{ResolvedGuest, Return};
use crate::staging;
use crate::verify;
use crate::watch::Watch;

const PAUSE: u64 = 5_000;
/// One question about the rollout, so that what it waits for can be told meanwhile.
const ROLLOUT_SLICE: u64 = 60_000;
/// A lease that was not renewed for so many of its durations belongs to a sidecar that is no more.
const DEAD_LEASE: u64 = 10;
/// How long an owner may take to answer a request to reconcile, in milliseconds.
const RECONCILE: u64 = 60_000;
/// The most leases that one question may name.
const MOST_LEASES: usize = 20;

/// Why the work ended early.
pub enum Stop {
    /// A call failed.
    Error(Error),
    /// It can be told in a sentence, and is no fault.
    NotFixed(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A run at work.
pub struct Work<'a> {
    /// What the person wants.
    pub config: &'a Config,
    /// What was seen before.
    pub seen: &'a Seen,
    /// What was decided.
    pub plan: &'a Plan,
    /// When the run gives up.
    pub deadline: Deadline,
    /// What is suspended.
    pub frozen: DeletionTarget,
    /// The step under way.
    pub step: &'static str,
    /// What is not as a person might expect it.
    pub remaining: Vec<Finding>,
    /// uids of the sources that are gone.
    pub deleted: Vec<String>,
    /// Whether the driver was restarted. Once is all.
    pub restarted: bool,
    /// How that restart goes, until the end takes it over.
    pub restart: Option<Restart>,
}

/// A restart that was asked for, and how it went.
pub struct Restart {
    /// The Deployment.
    pub controller: Controller,
    /// When, and which pods had to go.
    pub restarted: Restarted,
    /// What it still waits for.
    pub waiting_for: Option<String>,
    /// Lock lines since.
    pub log: Log,
    /// The place in the log.
    pub watch: Watch,
}

impl Restart {
    /// Whether the driver is back, and has logged no lock.
    pub fn is_clean(&self) -> bool {
        self.waiting_for.is_none() && self.log.sightings.0.is_empty()
    }

    /// Waits until `end`; what it still waits for then.
    fn await_rollout(&self, leases: &[String], end: u64) -> Result<Option<String>, Error> {
        let mut told = String::new();
        loop {
            let left = end.saturating_sub(run::now());
            let slice = u32::try_from(left.min(ROLLOUT_SLICE) / 1_000).unwrap_or(u32::MAX);
            let rollout = restart_deployment::await_rollout(
                &self.controller.deployment,
                &self.restarted,
                leases,
                slice,
            )?;
            if rollout.done {
                return Ok(None);
            }
            let what = rollout.waiting_for.unwrap_or_else(|| "its new pods".to_owned());
            if left <= ROLLOUT_SLICE {
                return Ok(Some(what));
            }
            if what != told {
                run::note(Level::Info, &format!("waits for {what}"));
                told = what;
            }
        }
    }
}

impl<'a> Work<'a> {
    /// Nothing done yet.
    pub fn new(config: &'a Config, seen: &'a Seen, plan: &'a Plan, deadline: Deadline) -> Self {
        Self {
            config,
            seen,
            plan,
            deadline,
            frozen: DeletionTarget::default(),
            step: "evidence",
            remaining: Vec::new(),
            deleted: Vec::new(),
            restarted: false,
            restart: None,
        }
    }

    fn begin(&mut self, step: &'static str, title: &str) -> Result<(), Stop> {
        if self.deadline.is_over() {
            return Err(Stop::NotFixed(format!("the run's deadline passed before step {step}")));
        }
        self.step = step;
        run::step(step, title);
        Ok(())
    }

    /// Suspends what would bring the sources back.
    pub fn freeze(&mut self) -> Result<(), Stop> {
        let order = &self.plan.freezing.order;
        let title = match order.len() {
            0 => "nothing to suspend".to_owned(),
            some => format!("suspend {} and wait until they rest", count(some, "Flux object")),
        };
        self.begin("freeze", &title)?;
        Ok(self.frozen.take(order, self.config.drain_seconds)?)
    }

    /// Deletes the frozen set, and waits for the snapshots where the driver can delete them.
    pub fn delete(&mut self) -> Result<(), Stop> {
        let chosen = &self.plan.selection.chosen;
        self.begin("delete", &format!("delete {}", count(chosen.len(), "ReplicationSource")))?;
        if chosen.is_empty() {
            run::note(Level::Info, "no ReplicationSource is to blame: none is deleted");
            return Ok(());
        }
        let set: Vec<Target> = chosen
            .iter()
            .map(|chosen| Target {
                object: chosen.source.object.clone(),
                uid: chosen.source.uid.clone(),
                digest: chosen.source.digest.clone(),
                reason: chosen.reason.word().to_owned(),
            })
            .collect();
        let pacing = Pacing {
            batch_size: self.config.deletions_at_once,
            interval_ms: self.config.deletion_pause,
        };
        let deletions = delete_replicationsources::delete(&set, pacing)?;
        self.account(&deletions);
        if self.deleted.is_empty() {
            let why =
                deletions.iter().find_map(|deletion| deletion.message.clone()).unwrap_or_default();
            let summary = format!("no ReplicationSource could be deleted: {why}");
            // Where each was refused it is the cluster's word, not a state of affairs: whoever runs this has to be told whose fault it is.
            let is_refused =
                deletions.iter().all(|deletion| deletion.outcome == DeletionOutcome::Rejected);
            return Err(if is_refused {
                Stop::Error(Error::Denied(summary))
            } else {
                Stop::NotFixed(summary)
            });
        }
        // A jammed driver deletes nothing: there the snapshots are waited for after the restart alone.
        let sightings = &self.seen.log.sightings;
        if sightings.0.is_empty() {
            let (namespaces, deleted) = (&self.seen.namespaces, &self.deleted);
            until(self.deadline, self.config.snapshot_wait, PAUSE, || {
                let snapshots = query_pvcs::list_snapshots(namespaces)?;
                Ok(staging::cascading(&snapshots, deleted)
                    .iter()
                    .all(|snapshot| staging::is_wedged(snapshot, sightings)))
            })?;
        }
        Ok(())
    }

    fn account(&mut self, deletions: &[Deletion]) {
        for deletion in deletions {
            let message = deletion.message.as_deref().unwrap_or("no reason given");
            let why = match deletion.outcome {
                DeletionOutcome::Deleted | DeletionOutcome::AlreadyGone => {
                    self.deleted.push(deletion.uid.clone());
                    continue;
                }
                DeletionOutcome::Replaced => "another object bears its name now".to_owned(),
                DeletionOutcome::Changed => "its spec changed meanwhile".to_owned(),
                DeletionOutcome::Rejected => format!("the cluster rejected it: {message}"),
                DeletionOutcome::Unknown => {
                    self.remaining.push(Finding::new(format!(
                        "ReplicationSource {} may have been deleted: {message}",
                        deletion.object
                    )));
                    continue;
                }
            };
            self.remaining.push(Finding::new(format!(
                "ReplicationSource {} was not deleted: {why}",
                deletion.object
            )));
        }
    }

    /// Restarts the driver's controller, once.
    pub fn restart(&mut self) -> Result<(), Stop> {
        self.begin("restart", "restart the driver's controller")?;
        let driver = query_drivers::find(&self.config.driver, &self.config.driver_namespace)?;
        let now = Seen { driver: driver.clone(), ..self.seen.clone() };
        if let Some(obstacle) = lookalikes::forbids(&now) {
            return Err(Stop::NotFixed(format!("not restarted: {}", obstacle.text)));
        }
        let Some(controller) = driver.controller.clone() else {
            return Err(Stop::NotFixed(
                "not restarted: the driver has no controller any more".into(),
            ));
        };
        let strategy =
            if controller.operator_managed { Strategy::ReplacePods } else { Strategy::Annotate };
        let restarted =
            restart_deployment::restart(&controller.deployment, &controller.uid, strategy)?;
        self.restarted = true;
        let watch = Watch::open(&controller, restarted.at)?;
        let leases = living_leases(&driver, restarted.at);
        let restart = self.restart.insert(Restart {
            controller,
            restarted,
            waiting_for: None,
            log: Log::default(),
            watch,
        });
        self.step = "wait";
        run::step("wait", "wait for its new pods and leases");
        let end = self.deadline.within(self.config.rollout_wait + self.config.lease_wait);
        restart.waiting_for = restart.await_rollout(&leases, end)?;
        if let Some(what) = &restart.waiting_for {
            run::note(Level::Warning, &format!("the restart is not through: it waits for {what}"));
        }
        Ok(())
    }

    /// Waits for what the restart sets free: snapshots of deleted sources, then restores.
    pub fn wait(&mut self) -> Result<(), Stop> {
        if !self.read_log()? {
            return Ok(());
        }
        let namespaces = &self.seen.namespaces;
        if !self.deleted.is_empty() {
            let deleted = &self.deleted;
            until(self.deadline, self.config.snapshot_wait, PAUSE, || {
                Ok(staging::cascading(&query_pvcs::list_snapshots(namespaces)?, deleted).is_empty())
            })?;
            let snapshots = query_pvcs::list_snapshots(namespaces)?;
            let remaining = staging::cascading(&snapshots, deleted);
            if !remaining.is_empty() {
                self.remaining.push(survivors(&remaining, run::now()));
            }
            let chosen = &self.plan.selection.chosen;
            until(self.deadline, self.config.snapshot_wait, PAUSE, || {
                Ok(staging::vanishing(&query_pvcs::list_pvcs(namespaces)?, chosen).is_empty())
            })?;
            let pvcs = query_pvcs::list_pvcs(namespaces)?;
            self.remaining.extend(staging::vanishing(&pvcs, chosen).iter().map(|pvc| {
                let holds = pvc.finalizers.join(", ");
                Finding::new(format!("claim {} is still being deleted, held by {holds}: its source jams the driver again if it returns first", pvc.object))
            }));
        }
        if !self.plan.selection.returning().is_empty() {
            // Restores before backups: what comes back synchronizes at once, and on the same driver.
            until(self.deadline, self.config.restore_wait, PAUSE, || {
                let pvcs = query_pvcs::list_pvcs(namespaces)?;
                let destinations = query_replicationsources::list_destinations(namespaces)?;
                let is_free = verify::recovery(&pvcs, &self.seen.driver).stuck.is_empty();
                Ok(is_free && staging::restoring(&destinations, &pvcs).is_empty())
            })?;
        }
        Ok(())
    }

    /// Reads the log on; says whether the driver is back and still without a lock.
    fn read_log(&mut self) -> Result<bool, Error> {
        let Some(restart) = &mut self.restart else {
            return Ok(false);
        };
        restart.watch.read(&mut restart.log)?;
        Ok(restart.is_clean())
    }

    /// Gives back what was frozen, a few owners at a time. Where the driver is not well, without asking for more.
    pub fn resume(&mut self) -> Result<(), Stop> {
        self.step = "resume";
        run::step("resume", &format!("resume {}", count(self.frozen.open(), "Flux object")));
        let namespaces = &self.seen.namespaces;
        let mut prompt = self.read_log()?;
        let restoring = if prompt {
            let destinations = query_replicationsources::list_destinations(namespaces)?;
            staging::restoring(&destinations, &query_pvcs::list_pvcs(namespaces)?)
        } else {
            Default::default()
        };
        let order = self.frozen.order();
        let selection = &self.plan.selection;
        for group in staging::groups(&order, selection, &restoring, self.config.resume_at_once) {
            prompt = prompt && !self.deadline.is_over();
            let mut expected: Vec<&ResolvedGuest> = Vec::new();
            for index in group {
                let target = &order[index].target;
                let obstacle = self.frozen.resume(index);
                let is_back = obstacle.is_none();
                self.remaining.extend(obstacle);
                if prompt && is_back && order[index].role == Role::Owner {
                    let back = selection.returning_with(target);
                    self.remaining.extend(self.reconcile(index, selection.forces(target)));
                    expected.extend(
                        back.into_iter().filter(|chosen| self.deleted.contains(&chosen.source.uid)),
                    );
                }
            }
            if !expected.is_empty() {
                until(self.deadline, self.config.resume_wait, PAUSE, || {
                    Ok(staging::unsettled(
                        &expected,
                        &query_replicationsources::list_sources(namespaces)?,
                    )
                    .is_empty())
                })?;
                prompt = self.read_log()?;
            }
        }
        Ok(())
    }

    fn reconcile(&self, index: usize, force: bool) -> Option<Finding> {
        let target = &self.frozen.order()[index].target;
        match reconcile_flux::reconcile(target, force, self.deadline.seconds(RECONCILE)) {
            Ok(answer) if answer.handled && answer.ready => None,
            Ok(answer) => Some(Finding::new(format!(
                "{target} is resumed, but not ready: {}",
                answer.message
            ))),
            Err(error) => Some(Finding::new(format!(
                "{target} is resumed, but could not be asked to reconcile: {}",
                error.message()
            ))),
        }
    }

    /// What was deleted and has to be there again at the end.
    pub fn expected(&self) -> Vec<&ResolvedGuest> {
        let deleted = |chosen: &&ResolvedGuest| self.deleted.contains(&chosen.source.uid);
        self.plan.selection.returning().into_iter().filter(deleted).collect()
    }

    /// What was deleted and stays away for a reason.
    pub fn staying_away(&self) -> Vec<Finding> {
        self.plan
            .selection
            .chosen
            .iter()
            .filter(|chosen| self.deleted.contains(&chosen.source.uid))
            .filter_map(|chosen| match &chosen.back {
                Return::Suspended(owner) => Some(Finding::new(format!(
                    "{} stays away until a person resumes {owner}",
                    chosen.source.object
                ))),
                Return::AtUpgrade(owner) => Some(Finding::new(format!(
                    "{} stays away until {owner} is upgraded",
                    chosen.source.object
                ))),
                Return::WithOwner(_) | Return::Forced(_) | Return::Never => None,
            })
            .collect()
    }
}

/// Leases whose holder still renewed them when the restart began: those have to be taken anew.
fn living_leases(driver: &Driver, at: u64) -> Vec<String> {
    driver
        .leases
        .iter()
        .filter(|lease| {
            let timeout = u64::from(lease.duration_seconds.max(15)) * 1_000 * DEAD_LEASE;
            lease.renewed.is_some_and(|renewed| renewed.saturating_add(timeout) >= at)
        })
        .map(|lease| lease.name.clone())
        .take(MOST_LEASES)
        .collect()
}

fn survivors(snapshots: &[&Snapshot], now: u64) -> Finding {
    Finding::with(
        format!(
            "{} of deleted sources still there: look at their contents, and do not strip finalizers, that leaks images",
            count(snapshots.len(), "VolumeSnapshot")
        ),
        snapshots.iter().map(|snapshot| {
            let since = snapshot.terminating_since.map(|since| age(since, now));
            let state = since.map_or_else(
                || "not being deleted".to_owned(),
                |since| format!("being deleted for {since}"),
            );
            format!(
                "{}: {state}; {}",
                snapshot.object,
                snapshot.problem.as_deref().unwrap_or("no problem is told")
            )
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, NOW};
    use salve_sdk::types::Lease;

    #[test]
    fn only_leases_of_the_living_are_awaited() {
        let lease = |name: &str, renewed: Option<u64>| Lease {
            namespace: "rook-ceph".into(),
            name: name.into(),
            holder: None,
            acquired: None,
            renewed,
            duration_seconds: 137,
        };
        let mut driver = samples::driver();
        driver.leases = vec![
            lease("fresh", Some(NOW - 9_000)),
            lease("dead", Some(NOW - 86_400_000)),
            lease("never", None),
            lease("ahead", Some(NOW + 5_000)),
        ];
        assert_eq!(living_leases(&driver, NOW), ["fresh", "ahead"]);
    }

    #[test]
    fn snapshots_that_stay_are_told_with_their_state() {
        let stuck = Snapshot {
            terminating_since: Some(NOW - 120_000),
            ..samples::snapshot("media/s", 1, 2)
        };
        let finding = survivors(&[&stuck], NOW);
        assert!(finding.text.starts_with("1 VolumeSnapshot"));
        assert_eq!(finding.details, ["media/s: being deleted for 2 min; no problem is told"]);
    }
}
