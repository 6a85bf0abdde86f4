//! Why the sync of a ReplicationSource does not finish, and what helps. Only a source that waits
//! for the driver is a candidate for deletion.

use std::collections::BTreeMap;

use salve_sdk::format::{age, count, join};
use salve_sdk::query_drivers::Driver;
use salve_sdk::query_pods::{PendingPod, PendingReason};
use salve_sdk::query_pvcs::{Pvc, Snapshot, Waiting};
use salve_sdk::query_replicationsources::{Health, Source};
use salve_sdk::report::Finding;

use crate::evidence::{Observation, is_pending, uses_driver};
use crate::lock::LockKey;
use crate::mover_jobs;
use crate::snapshots::SNAPSHOT_TIMEOUT_MS;

/// Texts of restic, rclone, and kopia.
const REPOSITORY_LOCKED: [&str; 2] = ["unable to create lock", "already locked"];

/// Texts of Go's net package, and of S3 servers.
const STORE_NOT_REACHABLE: [&str; 17] = [
    "dial tcp",
    "no such host",
    "connection refused",
    "connection reset",
    "i/o timeout",
    "tls handshake",
    "x509:",
    "403 forbidden",
    "service unavailable",
    "slowdown",
    "access denied",
    "accessdenied",
    "invalidaccesskeyid",
    "the access key id you provided does not exist",
    "signaturedoesnotmatch",
    "the request signature we calculated does not match",
    "nosuchbucket",
];

/// What a source waits for. The order is that of the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The driver has to act on this PVC or VolumeSnapshot, which the source created.
    Driver(String),
    /// The object store cannot be reached.
    ObjectStore(String),
    /// Another process holds a lock on the repository, or left it behind.
    RepositoryLock(String),
    /// The mover fails for another reason.
    Mover(String),
    /// A PVC that it created is rejected.
    Pvc(String),
    /// The storage is copying the data for a PVC that it created.
    Copying(String),
    /// The mover pod is not scheduled to a node.
    Scheduling(String),
    /// The mover pod cannot mount a volume.
    Mount(String),
    /// A container of the mover pod waits, for example for its image.
    Container(String),
    /// VolSync reports an error before the mover starts.
    VolSync(String),
    /// A user paused it.
    Paused,
    /// Its PVC is gone, but it has no schedule, and its manual trigger was handled.
    Idle,
    /// None is known: it may be the first sync, or a long one.
    Unknown,
}

impl Obstacle {
    /// Returns whether someone has to do something about it.
    fn is_problem(&self) -> bool {
        match self {
            Self::ObjectStore(_)
            | Self::RepositoryLock(_)
            | Self::Mover(_)
            | Self::Pvc(_)
            | Self::Scheduling(_)
            | Self::Mount(_)
            | Self::Container(_)
            | Self::VolSync(_) => true,
            // Locks are the incident itself; the others are in order.
            Self::Driver(_) | Self::Copying(_) | Self::Paused | Self::Idle | Self::Unknown => false,
        }
    }

    /// Returns the group of the report, and the remedy.
    fn describe(&self) -> (&'static str, &'static str) {
        match self {
            Self::Driver(_) => ("waiting for the driver", "cleared with the locks"),
            Self::ObjectStore(_) => (
                "object store not reachable, or access denied",
                "check its address, credentials, and network",
            ),
            Self::RepositoryLock(_) => (
                "repository locked",
                "if no other process (backup, restore, or prune, from any cluster) uses it, remove \
                 the lock; for restic, set spec.restic.unlock to a new value",
            ),
            Self::Mover(_) => ("mover fails", "see the logs of its Job"),
            Self::Copying(_) => {
                ("the storage is copying its data", "wait; a restart of the driver does not help")
            }
            Self::Pvc(_) => ("PVC of the sync rejected", "correct what the message names"),
            Self::Scheduling(_) => {
                ("mover pod not scheduled", "make room, or correct its node constraints")
            }
            Self::Mount(_) => ("mover pod cannot mount a volume", "check the node that it is on"),
            Self::Container(_) => ("mover pod not started", "see its events"),
            Self::VolSync(_) => ("VolSync reports an error", "correct what the message names"),
            Self::Paused => (
                "paused by a user",
                "before you remove spec.paused, check that its PVC exists and has the right data",
            ),
            Self::Idle => (
                "its PVC no longer exists, but it does not sync either: its manual trigger was \
                 handled",
                "causes no locks; delete it, or restore its PVC",
            ),
            Self::Unknown => (
                "sync takes longer than usual, for no known reason",
                "it may be the first one, or a large one: see the logs of its Job; deleting \
                     the ReplicationSource would start the sync again",
            ),
        }
    }

    fn message(&self) -> Option<&str> {
        match self {
            Self::Driver(text)
            | Self::ObjectStore(text)
            | Self::RepositoryLock(text)
            | Self::Mover(text)
            | Self::Pvc(text)
            | Self::Copying(text)
            | Self::Scheduling(text)
            | Self::Mount(text)
            | Self::Container(text)
            | Self::VolSync(text) => Some(text),
            Self::Paused | Self::Idle | Self::Unknown => None,
        }
    }

    /// Returns why the source is not deleted, in one sentence.
    pub fn reason_to_keep(&self) -> String {
        let (group, remedy) = self.describe();
        match self.message() {
            Some(message) => format!("{group} ({message}): {remedy}"),
            None => format!("{group}: {remedy}"),
        }
    }
}

/// Returns what keeps the sync of a source from finishing. `None` if it is idle or in its usual
/// time, or if its PVC is the reason.
pub fn obstacle(source: &Source, observation: &Observation) -> Option<Obstacle> {
    match source.health {
        Health::Orphan | Health::TerminatingSource | Health::UnboundSource | Health::External => {
            let idle = is_idle_orphan(source).then_some(Obstacle::Idle);
            return source.paused.then_some(Obstacle::Paused).or(idle);
        }
        Health::Healthy | Health::Stuck => {}
    }
    let is_stuck = source.health == Health::Stuck;
    let failure = failure(source);
    if !is_stuck && failure.is_none() {
        return None;
    }
    if source.paused {
        return Some(Obstacle::Paused);
    }
    if is_stuck && let Some(obstacle) = waiting_object(source, observation) {
        return Some(obstacle);
    }
    let pod = observation.pending_pods.iter().find(|pod| is_mover(pod, source));
    let job = || mover_jobs::failure(source, &observation.jobs).map(Obstacle::Mover);
    pod.and_then(pod_obstacle).or(failure).or_else(job).or(is_stuck.then_some(Obstacle::Unknown))
}

/// Returns whether a source without a PVC will not sync again by itself.
fn is_idle_orphan(source: &Source) -> bool {
    let is_handled = source.condition.as_ref().is_some_and(|condition| {
        condition.kind == "Synchronizing" && condition.reason == "WaitingForManual"
    });
    source.health == Health::Orphan && source.schedule.is_none() && is_handled
}

/// Returns what one of the PVCs and VolumeSnapshots that a source created waits for, preferably the
/// driver.
fn waiting_object(source: &Source, observation: &Observation) -> Option<Obstacle> {
    let owner = format!("ReplicationSource/{}", source.object.name);
    let of_pvcs = observation
        .pvcs
        .iter()
        .filter(|pvc| {
            pvc.object.namespace == source.object.namespace && pvc.owner.as_ref() == Some(&owner)
        })
        .filter(|pvc| is_pending(pvc))
        .filter_map(|pvc| pvc_obstacle(pvc, &observation.driver));
    let of_snapshots = observation
        .snapshots
        .iter()
        .filter(|snapshot| is_waiting(snapshot, source, observation))
        .map(|snapshot| Obstacle::Driver(format!("VolumeSnapshot {}", snapshot.object.name)));
    of_pvcs.chain(of_snapshots).min()
}

fn pvc_obstacle(pvc: &Pvc, driver: &Driver) -> Option<Obstacle> {
    let name = &pvc.object.name;
    let for_driver = || uses_driver(pvc, driver).then(|| Obstacle::Driver(format!("PVC {name}")));
    let rejected = || {
        let evidence = pvc.evidence.as_deref().unwrap_or("no event says why");
        Some(Obstacle::Pvc(format!("{name}: {evidence}")))
    };
    match pvc.waiting.unwrap_or(Waiting::Unknown) {
        Waiting::CsiLocked | Waiting::CsiSlow | Waiting::ForSnapshot | Waiting::NoProvisioner => {
            for_driver()
        }
        Waiting::Unknown if is_rejected(pvc) => rejected(),
        Waiting::Unknown => for_driver(),
        Waiting::Misconfigured => rejected(),
        Waiting::Copying => Some(Obstacle::Copying(format!("PVC {name}"))),
        // The mover pod says more, or VolSync waits for itself.
        Waiting::ForFirstConsumer
        | Waiting::ForScheduling
        | Waiting::ForDestination
        | Waiting::Populating
        | Waiting::Terminating => None,
    }
}

/// Returns whether the driver rejected an otherwise unexplained PVC, for another reason than a
/// lock.
pub fn is_rejected(pvc: &Pvc) -> bool {
    pvc.evidence.as_deref().is_some_and(|evidence| evidence.contains("rpc error"))
}

fn is_waiting(snapshot: &Snapshot, source: &Source, observation: &Observation) -> bool {
    let now = observation.now;
    let is_overdue = match snapshot.terminating_since {
        Some(since) => now.saturating_sub(since) > SNAPSHOT_TIMEOUT_MS,
        None => !snapshot.ready && now.saturating_sub(snapshot.created) > SNAPSHOT_TIMEOUT_MS,
    };
    let pvc = observation.pvcs.iter().find(|pvc| {
        pvc.object.namespace == snapshot.object.namespace
            && snapshot.pvc.as_ref() == Some(&pvc.object.name)
    });
    let is_locked = observation.log.sightings.contains_snapshot(&snapshot.uid)
        || !snapshot.ready && snapshot.problem.as_deref().and_then(LockKey::parse).is_some();
    snapshot.owner_uid.as_ref() == Some(&source.uid)
        && (is_locked || is_overdue)
        && pvc.is_none_or(|pvc| uses_driver(pvc, &observation.driver))
}

/// Returns whether a pod belongs to the Job of this source.
fn is_mover(pod: &PendingPod, source: &Source) -> bool {
    let job = pod.owner.as_deref().and_then(|owner| owner.strip_prefix("Job/"));
    pod.object.namespace == source.object.namespace
        && job.is_some_and(|job| mover_jobs::is_job_of(job, source))
}

fn pod_obstacle(pod: &PendingPod) -> Option<Obstacle> {
    let message = format!("{}: {}", pod.object.name, pod.message);
    match pod.reason {
        PendingReason::Unscheduled => Some(Obstacle::Scheduling(message)),
        PendingReason::MountFailed => Some(Obstacle::Mount(message)),
        // Normal for a while.
        PendingReason::ContainerWaiting if pod.message == "ContainerCreating" => None,
        PendingReason::ContainerWaiting => Some(Obstacle::Container(message)),
        PendingReason::Unknown => None,
    }
}

/// Returns why the latest mover failed, or why VolSync did not start one.
fn failure(source: &Source) -> Option<Obstacle> {
    let error = source
        .condition
        .as_ref()
        .filter(|condition| condition.kind == "Synchronizing" && condition.reason == "Error");
    if let Some(condition) = error {
        return Some(Obstacle::VolSync(condition.message.clone()));
    }
    if source.last_result.as_deref() != Some("Failed") {
        return None;
    }
    let log = source.last_log.as_deref().unwrap_or_default();
    let line_with = |texts: &[&str]| {
        let matches = |line: &&str| {
            let line = line.to_lowercase();
            texts.iter().any(|text| line.contains(text))
        };
        log.lines().find(matches).map(|line| line.trim().to_owned())
    };
    // mutant repository-lock-not-named: line_with(&REPOSITORY_LOCKED) ~> None::<String>
    if let Some(line) = line_with(&REPOSITORY_LOCKED) {
        return Some(Obstacle::RepositoryLock(line));
    }
    if let Some(line) = line_with(&STORE_NOT_REACHABLE) {
        return Some(Obstacle::ObjectStore(line));
    }
    let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no log");
    Some(Obstacle::Mover(last.trim().to_owned()))
}

/// Returns the sources that do not finish for a reason other than the driver, one finding per
/// reason. The second value says whether it is a problem.
pub fn findings(observation: &Observation) -> Vec<(Finding, bool)> {
    let mut groups: BTreeMap<(bool, &str, &str), Vec<String>> = BTreeMap::new();
    for source in observation.sources.iter().flatten() {
        let Some(obstacle) = obstacle(source, observation) else { continue };
        if matches!(obstacle, Obstacle::Driver(_)) {
            continue;
        }
        let (group, remedy) = obstacle.describe();
        // VolSync sets the start time, and then fails before anything runs.
        let is_started = !matches!(obstacle, Obstacle::VolSync(_));
        let what = if is_started { "syncing for" } else { "without a sync for" };
        let since = source
            .syncing_since
            .map(|since| format!(", {what} {}", age(since, observation.now)))
            .unwrap_or_default();
        let message = obstacle.message().map(|text| format!(": {text}")).unwrap_or_default();
        groups
            .entry((!obstacle.is_problem(), group, remedy))
            .or_default()
            .push(format!("{}{since}{message}", source.object));
    }
    groups
        .into_iter()
        .map(|((is_normal, group, remedy), sources)| {
            let names =
                join(sources.iter().map(|text| text.split([',', ':']).next().unwrap_or(text)), 3);
            let text = match sources.as_slice() {
                [source] => format!("ReplicationSource {source}: {group}: {remedy}"),
                many => format!(
                    "{} ({names}): {group}: {remedy}",
                    count(many.len(), "ReplicationSource")
                ),
            };
            (Finding::with_details(text, sources), !is_normal)
        })
        .collect()
}

#[cfg(test)]
#[path = "tests/backups.rs"]
mod tests;
