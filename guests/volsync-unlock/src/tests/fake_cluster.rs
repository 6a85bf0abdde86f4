//! A fake cluster for native tests, one per thread. It imitates just enough of Flux, VolSync, and
//! the driver to check the order of writes and their effects.

use std::cell::RefCell;
use std::collections::BTreeMap;

use salve_sdk::query_flux::{FluxObject, Ownership};
use salve_sdk::query_pvcs::{Phase, Pvc, Snapshot, Volume};
use salve_sdk::query_replicationsources::{Destination, Source};
use salve_sdk::types::{FluxRef, Pod};
use salve_sdk::{Error, ObjectRef};

use crate::evidence::Observation;
use crate::lock::LockKey;
use crate::samples;

/// The state of the cluster, the calls it received, and the faults to inject.
pub struct FakeCluster {
    pub now: u64,
    pub deadline: u64,
    pub observation: Observation,
    pub ownership: BTreeMap<ObjectRef, (Ownership, Option<FluxRef>)>,
    pub flux: BTreeMap<FluxRef, FluxObject>,
    pub pods: Vec<Pod>,
    /// Volumes whose PVCs are not in the observation.
    pub other_volumes: Vec<Volume>,
    /// Pod, time, and text of each line of the controller's log.
    pub log: Vec<(String, u64, String)>,
    /// JSON of cluster-scoped objects other than namespaces, by plural.
    pub objects: BTreeMap<&'static str, Vec<String>>,
    /// The same of the node plugin's log.
    pub node_log: Vec<(String, u64, String)>,
    /// Every write, in order.
    pub writes: Vec<String>,
    pub steps: Vec<String>,
    pub notes: Vec<String>,
    /// Reported problems, with the entries that show them.
    pub observed: Vec<(String, u64)>,
    /// Fails writes that start with this text.
    pub failing_write: Option<(&'static str, Error)>,
    /// Fails the read of the pods in the last step.
    pub failing_pod_read: Option<Error>,
    /// The rollout never completes.
    pub rollout_hangs: bool,
    /// The driver logs a lock again after the restart.
    pub lock_returns: bool,
    /// The PVC of media/sonarr is created again while Flux is being suspended.
    pub restored_while_suspending: bool,
    /// A user suspends the Kustomization media/sonarr just after this run did.
    pub suspended_by_user_meanwhile: bool,
    pub restarted_at: Option<u64>,
    /// Terminating snapshots and PVCs outlive the restart.
    pub deletions_hang: bool,
    last_entry: u64,
    deleted: Vec<Source>,
    /// For each cursor: from when it reads, and how many lines it has read.
    cursors: Vec<(u64, usize)>,
}

thread_local! {
    static CLUSTER: RefCell<Option<FakeCluster>> = const { RefCell::new(None) };
}

impl FakeCluster {
    pub fn new(observation: Observation) -> Self {
        Self {
            now: samples::NOW,
            deadline: samples::NOW + 3_600_000,
            observation,
            ownership: BTreeMap::new(),
            flux: BTreeMap::new(),
            pods: Vec::new(),
            other_volumes: Vec::new(),
            log: Vec::new(),
            objects: BTreeMap::new(),
            node_log: Vec::new(),
            writes: Vec::new(),
            steps: Vec::new(),
            notes: Vec::new(),
            observed: Vec::new(),
            failing_write: None,
            failing_pod_read: None,
            rollout_hangs: false,
            lock_returns: false,
            restored_while_suspending: false,
            suspended_by_user_meanwhile: false,
            restarted_at: None,
            deletions_hang: false,
            last_entry: 0,
            deleted: Vec::new(),
            cursors: Vec::new(),
        }
    }

    /// Adds a ReplicationSource that Flux manages.
    pub fn add_managed(&mut self, source: Source, owner: FluxObject) {
        self.ownership
            .insert(source.object.clone(), (Ownership::Managed, Some(owner.target.clone())));
        self.flux.insert(owner.target.clone(), owner);
        self.observation.sources.get_or_insert_default().push(source);
    }

    /// Runs `body` on this cluster. Returns its result and the cluster afterwards.
    pub fn run<T>(self, body: impl FnOnce() -> T) -> (T, FakeCluster) {
        CLUSTER.set(Some(self));
        let result = body();
        (result, CLUSTER.take().expect("the cluster was set above"))
    }

    /// Returns the suspended objects.
    pub fn suspended(&self) -> Vec<String> {
        self.flux
            .values()
            .filter(|object| object.suspended.is_some())
            .map(|object| object.target.to_string())
            .collect()
    }

    fn write(&mut self, call: String) -> Result<(), Error> {
        let error = self
            .failing_write
            .as_ref()
            .filter(|(prefix, _)| call.starts_with(prefix))
            .map(|(_, error)| error.clone());
        self.writes.push(call);
        error.map_or(Ok(()), Err)
    }

    fn recreate_sources_of(&mut self, owner: &FluxRef) {
        let is_owned = |source: &Source| {
            self.ownership.get(&source.object).is_some_and(|(_, by)| by.as_ref() == Some(owner))
        };
        let (owned, others) =
            std::mem::take(&mut self.deleted).into_iter().partition::<Vec<_>, _>(is_owned);
        self.deleted = others;
        let now = self.now;
        let recreated = owned.into_iter().map(|source| Source {
            uid: format!("new-{}", source.uid),
            last_sync: Some(now),
            ..source
        });
        self.observation.sources.get_or_insert_default().extend(recreated);
    }

    /// Restarts the driver, which releases all locks.
    fn restart_driver(&mut self) {
        let now = self.now;
        self.restarted_at = Some(now);
        self.log.clear();
        if self.lock_returns {
            self.log.push(("new".into(), now + 1_000, samples::pvc_lock_line(1)));
            return;
        }
        for pvc in &mut self.observation.pvcs {
            if self.observation.log.sightings.0.contains_key(&LockKey::Pvc(pvc.uid.clone())) {
                (pvc.phase, pvc.waiting) = (Phase::Bound, None);
            }
        }
        if !self.deletions_hang {
            self.observation.snapshots.retain(|snapshot| snapshot.terminating_since.is_none());
            self.observation.pvcs.retain(|pvc| pvc.terminating_since.is_none());
        }
    }
}

/// Handles one call.
fn with<T>(call: impl FnOnce(&mut FakeCluster) -> T) -> T {
    CLUSTER.with_borrow_mut(|cluster| {
        let cluster = cluster.as_mut().expect("called within FakeCluster::run");
        cluster.last_entry += 1;
        call(cluster)
    })
}

pub mod run {
    pub use salve_sdk::run::Level;

    pub fn now() -> u64 {
        super::with(|cluster| cluster.now)
    }
    pub fn sleep(milliseconds: u64) {
        super::with(|cluster| cluster.now += milliseconds);
    }
    pub fn step(name: &str, _: &str) {
        super::with(|cluster| cluster.steps.push(name.to_owned()));
    }
    pub fn note(_: Level, text: &str) {
        super::with(|cluster| cluster.notes.push(text.to_owned()));
    }
    pub fn deadline() -> u64 {
        super::with(|cluster| cluster.deadline)
    }
    pub fn observed(problem: &str, entry: u64) -> Result<(), super::Error> {
        super::with(|cluster| cluster.observed.push((problem.to_owned(), entry)));
        Ok(())
    }
    pub fn last_entry() -> u64 {
        super::CLUSTER.with_borrow(|cluster| {
            cluster.as_ref().expect("called within FakeCluster::run").last_entry
        })
    }
}

pub mod query_objects {
    use super::{Error, with};
    pub use salve_sdk::query_objects::{Kind, Page, Query};

    pub fn list_objects(query: &Query) -> Result<Page, Error> {
        let name = |name: &String| format!(r#"{{"metadata": {{"name": "{name}"}}}}"#);
        with(|cluster| {
            let objects = match query.kind.resource.as_str() {
                "namespaces" => cluster.observation.namespaces.iter().map(name).collect(),
                resource => cluster.objects.get(resource).cloned().unwrap_or_default(),
            };
            Ok(Page { objects, next: None })
        })
    }
}

pub mod query_drivers {
    use super::{Error, with};
    use salve_sdk::query_drivers::{Driver, Selector};

    pub fn find(_: &Selector, _: &str) -> Result<Driver, Error> {
        with(|cluster| Ok(cluster.observation.driver.clone()))
    }
}

pub mod query_pvcs {
    use super::{Error, Pvc, Snapshot, Volume, with};

    pub fn list_pvcs(_: &[String]) -> Result<Vec<Pvc>, Error> {
        with(|cluster| Ok(cluster.observation.pvcs.clone()))
    }
    pub fn list_snapshots(_: &[String]) -> Result<Vec<Snapshot>, Error> {
        with(|cluster| Ok(cluster.observation.snapshots.clone()))
    }
    pub fn list_other_volumes(_: &[String], _: &str) -> Result<Vec<Volume>, Error> {
        with(|cluster| Ok(cluster.other_volumes.clone()))
    }
}

pub mod query_replicationsources {
    use super::{Destination, Error, Source, with};

    pub fn list_sources(_: &[String]) -> Result<Vec<Source>, Error> {
        with(|cluster| {
            cluster.observation.sources.clone().ok_or_else(|| Error::NotFound("no VolSync".into()))
        })
    }
    pub fn list_destinations(_: &[String]) -> Result<Vec<Destination>, Error> {
        with(|cluster| Ok(cluster.observation.destinations.clone()))
    }
}

pub mod query_pods {
    use super::{Error, Pod, with};
    use salve_sdk::query_pods::PendingPod;

    pub fn list_pending_pods(_: &[String]) -> Result<Vec<PendingPod>, Error> {
        with(|cluster| Ok(cluster.observation.pending_pods.clone()))
    }

    pub fn list_pods(_: &[String]) -> Result<Vec<Pod>, Error> {
        with(|cluster| {
            match cluster
                .failing_pod_read
                .clone()
                .filter(|_| cluster.steps.last().is_some_and(|step| step == "verify"))
            {
                Some(error) => Err(error),
                None => Ok(cluster.pods.clone()),
            }
        })
    }
}

pub mod query_flux {
    use super::{Error, FluxRef, Ownership, with};
    pub use salve_sdk::query_flux::{FluxObject, OwnerInfo, Subject, SubjectKind};

    pub fn find_owners(subjects: &[Subject]) -> Result<Vec<OwnerInfo>, Error> {
        with(|cluster| {
            let answer = |subject: &Subject| {
                let (ownership, owner) = cluster
                    .ownership
                    .get(&subject.object)
                    .cloned()
                    .unwrap_or((Ownership::Unmanaged, None));
                let owner = owner.and_then(|owner| cluster.flux.get(&owner).cloned());
                OwnerInfo { subject: subject.clone(), ownership, owner, evidence: String::new() }
            };
            Ok(subjects.iter().map(answer).collect())
        })
    }
    pub fn get(target: &FluxRef) -> Result<FluxObject, Error> {
        with(|cluster| {
            cluster
                .flux
                .get(target)
                .cloned()
                .ok_or_else(|| Error::NotFound(format!("{target} is not there")))
        })
    }
}

pub mod tail_logs {
    use super::{Error, with};
    pub use salve_sdk::tail_logs::{Line, Page, Query, Workload, WorkloadKind};

    /// The log of the controller, or of one pod of the node plugin.
    pub enum Cursor {
        Controller(usize),
        Pod(String),
    }

    pub fn open(query: &Query) -> Result<Cursor, Error> {
        with(|cluster| {
            if query.workload.kind == WorkloadKind::Pod {
                return Ok(Cursor::Pod(query.workload.object.name.clone()));
            }
            cluster.cursors.push((query.since.unwrap_or(0), 0));
            Ok(Cursor::Controller(cluster.cursors.len() - 1))
        })
    }

    impl Cursor {
        pub fn next(&self) -> Result<Page, Error> {
            with(|cluster| {
                let line = |(pod, time, text): &(String, u64, String)| Line {
                    pod: pod.clone(),
                    time: *time,
                    text: text.clone(),
                };
                let (lines, pods): (Vec<Line>, _) = match self {
                    Self::Pod(name) => {
                        let of_pod = cluster.node_log.iter().filter(|line| line.0 == *name);
                        (of_pod.map(line).collect(), vec![name.clone()])
                    }
                    Self::Controller(index) => {
                        let (since, read) = cluster.cursors[*index];
                        let is_new =
                            |line: &&(String, u64, String)| line.1 > since && line.1 <= cluster.now;
                        let lines: Vec<Line> =
                            cluster.log.iter().filter(is_new).skip(read).map(line).collect();
                        cluster.cursors[*index].1 += lines.len();
                        (lines, vec!["a".to_owned(), "b".to_owned()])
                    }
                };
                Ok(Page {
                    lines,
                    pods,
                    unreadable: Vec::new(),
                    skipped: Vec::new(),
                    lines_read: 9,
                    more: false,
                    newest: None,
                })
            })
        }
    }
}

pub mod reversals {
    use super::{Error, FluxRef, with};

    /// A suspension.
    pub struct Reversal(pub(super) FluxRef);

    impl Reversal {
        pub fn release(&self) -> Result<Option<String>, Error> {
            with(|cluster| {
                cluster.write(format!("resume {}", self.0))?;
                if let Some(object) = cluster.flux.get_mut(&self.0) {
                    object.suspended = None;
                }
                Ok(None)
            })
        }
    }
}

pub mod suspend_flux {
    use super::reversals::Reversal;
    use super::{Error, FluxRef, samples, with};

    pub enum SuspendResult {
        Suspended(Reversal),
        #[expect(dead_code, reason = "no other actor in these tests")]
        AlreadySuspended(String),
    }

    /// If one suspend fails, those before it are resumed, as the host does.
    pub fn suspend(targets: &[FluxRef], _: &str, _: u32) -> Result<Vec<SuspendResult>, Error> {
        with(|cluster| {
            if cluster.restored_while_suspending {
                let sources = cluster.observation.sources.iter_mut().flatten();
                for source in sources.filter(|source| source.object.name == "sonarr") {
                    source.health = salve_sdk::query_replicationsources::Health::Healthy;
                }
            }
            for (index, target) in targets.iter().enumerate() {
                if let Err(error) = cluster.write(format!("suspend {target}")) {
                    for before in &targets[..index] {
                        cluster.flux.get_mut(before).expect("it was suspended").suspended = None;
                    }
                    return Err(error);
                }
                let object = cluster
                    .flux
                    .get_mut(target)
                    .ok_or_else(|| Error::NotFound(format!("{target}")))?;
                object.suspended = samples::suspended(Some("this-run"));
            }
            if cluster.suspended_by_user_meanwhile
                && let Some(owner) = cluster.flux.get_mut(&samples::flux("media/sonarr"))
            {
                owner.suspended = samples::suspended(None);
            }
            Ok(targets
                .iter()
                .map(|target| SuspendResult::Suspended(Reversal(target.clone())))
                .collect())
        })
    }
}

pub mod reconcile_flux {
    use super::{Error, FluxRef, with};
    use salve_sdk::reconcile_flux::Reconciliation;

    pub fn reconcile(target: &FluxRef, force: bool, _: u32) -> Result<Reconciliation, Error> {
        with(|cluster| {
            cluster.write(format!("{} {target}", if force { "force" } else { "reconcile" }))?;
            let corrects_drift =
                cluster.flux.get(target).is_some_and(|object| object.corrects_drift);
            if force || corrects_drift {
                cluster.recreate_sources_of(target);
            }
            Ok(Reconciliation { handled: true, ready: true, message: String::new() })
        })
    }
}

pub mod delete_replicationsources {
    use super::{Error, with};
    pub use salve_sdk::delete_replicationsources::{
        Deletion, DeletionOutcome, DeletionTarget, Pacing,
    };

    pub fn delete(targets: &[DeletionTarget], _: Pacing) -> Result<Vec<Deletion>, Error> {
        with(|cluster| {
            let names: Vec<String> =
                targets.iter().map(|target| target.object.to_string()).collect();
            cluster.write(format!("delete {}", names.join(" ")))?;
            let is_target = |uid: &str| targets.iter().any(|target| target.uid == uid);
            let sources = cluster.observation.sources.take().unwrap_or_default();
            let (deleted, kept) =
                sources.into_iter().partition::<Vec<_>, _>(|source| is_target(&source.uid));
            cluster.deleted.extend(deleted);
            cluster.observation.sources = Some(kept);
            let now = cluster.now;
            let is_owned =
                |snapshot: &super::Snapshot| snapshot.owner_uid.as_deref().is_some_and(is_target);
            let snapshots = &mut cluster.observation.snapshots;
            snapshots.retain(|snapshot| !(snapshot.ready && is_owned(snapshot)));
            for snapshot in snapshots.iter_mut().filter(|snapshot| is_owned(snapshot)) {
                snapshot.terminating_since = Some(now);
            }
            let deletion = |target: &DeletionTarget| Deletion {
                object: target.object.clone(),
                uid: target.uid.clone(),
                outcome: DeletionOutcome::Deleted,
                message: None,
            };
            Ok(targets.iter().map(deletion).collect())
        })
    }
}

pub mod restart_deployment {
    use super::{Error, ObjectRef, with};
    pub use salve_sdk::restart_deployment::{Restarted, Rollout, Strategy};

    pub fn restart(target: &ObjectRef, _: &str, strategy: Strategy) -> Result<Restarted, Error> {
        with(|cluster| {
            let verb = match strategy {
                Strategy::Annotate => "restart",
                Strategy::ReplacePods => "replace pods of",
            };
            cluster.write(format!("{verb} {target}"))?;
            cluster.restart_driver();
            Ok(Restarted { at: cluster.now, old_pods: Vec::new() })
        })
    }

    pub fn await_rollout(
        _: &ObjectRef,
        _: &Restarted,
        _: &[String],
        seconds: u32,
    ) -> Result<Rollout, Error> {
        with(|cluster| {
            cluster.now += u64::from(seconds.min(20)) * 1_000;
            if let Some((_, error)) =
                cluster.failing_write.as_ref().filter(|(prefix, _)| *prefix == "await")
            {
                return Err(error.clone());
            }
            let waiting_for = cluster.rollout_hangs.then(|| "2 new pods".to_owned());
            Ok(Rollout {
                done: !cluster.rollout_hangs,
                waiting_for,
                pods: Vec::new(),
                leases: Vec::new(),
            })
        })
    }
}
