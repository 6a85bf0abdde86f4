//! A cluster for native tests: small, scripted, in the thread that asks. It knows just enough of Flux, VolSync and
//! the driver that the order of touches, and what follows from each, can be told.

use std::cell::RefCell;
use std::collections::BTreeMap;

use salve_sdk::query_flux::{FluxObject, Ownership};
use salve_sdk::query_pvcs::{Phase, Pvc, Snapshot};
use salve_sdk::query_replicationsources::{Destination, Source};
use salve_sdk::types::{FluxRef, Pod};
use salve_sdk::{Error, ObjectRef};

use crate::evidence::Seen;
use crate::lock::Key;
use crate::samples;

/// The cluster and what was asked of it.
pub struct World {
    pub now: u64,
    pub deadline: u64,
    pub seen: Seen,
    pub ownership: BTreeMap<ObjectRef, (Ownership, Option<FluxRef>)>,
    pub flux: BTreeMap<FluxRef, FluxObject>,
    pub pods: Vec<Pod>,
    pub log: Vec<(String, u64, String)>,
    /// Every touch, in order.
    pub has_writes: Vec<String>,
    pub steps: Vec<String>,
    pub notes: Vec<String>,
    /// Fails the touch that begins so.
    pub broken: Option<(&'static str, Error)>,
    /// Fails the last count of pods.
    pub broken_look: Option<Error>,
    /// The restart does not come to an end.
    pub rollout_hangs: bool,
    /// The driver locks again after the restart.
    pub relocks: bool,
    /// A lock shows only in the last look of all.
    pub locks_at_the_last_look: bool,
    /// When the driver was restarted.
    pub restarted_at: Option<u64>,
    /// Snapshots outlive the restart.
    pub snapshots_stay: bool,
    last_entry: u64,
    gone: Vec<Source>,
    cursors: Vec<(u64, usize)>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

impl World {
    /// Where a scene begins.
    pub fn new(seen: Seen) -> Self {
        Self {
            now: samples::NOW,
            deadline: samples::NOW + 3_600_000,
            seen,
            ownership: BTreeMap::new(),
            flux: BTreeMap::new(),
            pods: Vec::new(),
            log: Vec::new(),
            has_writes: Vec::new(),
            steps: Vec::new(),
            notes: Vec::new(),
            broken: None,
            broken_look: None,
            rollout_hangs: false,
            relocks: false,
            locks_at_the_last_look: false,
            restarted_at: None,
            snapshots_stay: false,
            last_entry: 0,
            gone: Vec::new(),
            cursors: Vec::new(),
        }
    }

    /// Adds a source with its owner.
    pub fn owned(&mut self, source: Source, owner: FluxObject) {
        self.ownership
            .insert(source.object.clone(), (Ownership::Managed, Some(owner.target.clone())));
        self.flux.insert(owner.target.clone(), owner);
        self.seen.sources.get_or_insert_default().push(source);
    }

    /// Plays the scene; the world as it is afterwards comes back with the answer.
    pub fn play<T>(self, scene: impl FnOnce() -> T) -> (T, World) {
        WORLD.set(Some(self));
        let answer = scene();
        (answer, WORLD.take().expect("the scene leaves the world"))
    }

    /// The objects that this world calls suspended.
    pub fn suspended(&self) -> Vec<String> {
        self.flux
            .values()
            .filter(|object| object.suspended.is_some())
            .map(|object| object.target.to_string())
            .collect()
    }

    fn write(&mut self, what: String) -> Result<(), Error> {
        let broken = self
            .broken
            .as_ref()
            .filter(|(on_start, _)| what.starts_with(on_start))
            .map(|(_, error)| error.clone());
        self.has_writes.push(what);
        broken.map_or(Ok(()), Err)
    }

    fn bring_back(&mut self, owner: &FluxRef) {
        let mine = |source: &Source| {
            self.ownership.get(&source.object).is_some_and(|(_, by)| by.as_ref() == Some(owner))
        };
        let (back, gone) = std::mem::take(&mut self.gone).into_iter().partition::<Vec<_>, _>(mine);
        self.gone = gone;
        let now = self.now;
        let reborn = back.into_iter().map(|source| Source {
            uid: format!("new-{}", source.uid),
            last_sync: Some(now),
            ..source
        });
        self.seen.sources.get_or_insert_default().extend(reborn);
    }

    fn free(&mut self) {
        let now = self.now;
        self.restarted_at = Some(now);
        self.log.clear();
        if self.relocks {
            self.log.push(("new".into(), now + 1_000, samples::claim_line(1)));
            return;
        }
        for pvc in &mut self.seen.pvcs {
            let key = Key::Pvc(pvc.uid.clone());
            if self.seen.log.sightings.0.contains_key(&key) {
                (pvc.phase, pvc.waiting) = (Phase::Bound, None);
            }
        }
        if !self.snapshots_stay {
            self.seen.snapshots.retain(|snapshot| snapshot.terminating_since.is_none());
            self.seen.pvcs.retain(|pvc| pvc.terminating_since.is_none());
        }
    }
}

fn with<T>(ask: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(|world| {
        let world = world.as_mut().expect("asked within a scene");
        world.last_entry += 1;
        ask(world)
    })
}

pub mod run {
    pub use salve_sdk::run::Level;

    pub fn now() -> u64 {
        super::with(|world| world.now)
    }
    pub fn sleep(milliseconds: u64) {
        super::with(|world| world.now += milliseconds);
    }
    pub fn step(name: &str, _: &str) {
        super::with(|world| world.steps.push(name.to_owned()));
    }
    pub fn note(_: Level, text: &str) {
        super::with(|world| world.notes.push(text.to_owned()));
    }
    pub fn deadline() -> u64 {
        super::with(|world| world.deadline)
    }
    pub fn last_entry() -> u64 {
        super::WORLD.with_borrow(|world| world.as_ref().expect("asked within a scene").last_entry)
    }
}

pub mod query_objects {
    use super::{Error, with};
    pub use salve_sdk::query_objects::{Kind, Page, Query};

    pub fn list_objects(_: &Query) -> Result<Page, Error> {
        let name = |name: &String| format!(r#"{{"metadata": {{"name": "{name}"}}}}"#);
        with(|world| {
            Ok(Page { objects: world.seen.namespaces.iter().map(name).collect(), next: None })
        })
    }
}

pub mod query_drivers {
    use super::{Error, with};
    use salve_sdk::query_drivers::{Driver, Selector};

    pub fn find(_: &Selector, _: &str) -> Result<Driver, Error> {
        with(|world| Ok(world.seen.driver.clone()))
    }
}

pub mod query_pvcs {
    use super::{Error, Pvc, Snapshot, with};

    pub fn list_pvcs(_: &[String]) -> Result<Vec<Pvc>, Error> {
        with(|world| Ok(world.seen.pvcs.clone()))
    }
    pub fn list_snapshots(_: &[String]) -> Result<Vec<Snapshot>, Error> {
        with(|world| Ok(world.seen.snapshots.clone()))
    }
}

pub mod query_replicationsources {
    use super::{Destination, Error, Source, with};

    pub fn list_sources(_: &[String]) -> Result<Vec<Source>, Error> {
        with(|world| world.seen.sources.clone().ok_or_else(|| Error::NotFound("no VolSync".into())))
    }
    pub fn list_destinations(_: &[String]) -> Result<Vec<Destination>, Error> {
        with(|world| Ok(world.seen.destinations.clone()))
    }
}

pub mod query_pods {
    use super::{Error, Pod, with};

    pub fn list_pods(_: &[String]) -> Result<Vec<Pod>, Error> {
        with(|world| {
            match world
                .broken_look
                .clone()
                .filter(|_| world.steps.last().is_some_and(|step| step == "verify"))
            {
                Some(error) => Err(error),
                None => Ok(world.pods.clone()),
            }
        })
    }
}

pub mod query_flux {
    use super::{Error, FluxRef, Ownership, with};
    pub use salve_sdk::query_flux::{FluxObject, OwnerInfo, Subject, SubjectKind};

    pub fn find_owners(subjects: &[Subject]) -> Result<Vec<OwnerInfo>, Error> {
        with(|world| {
            let answer = |subject: &Subject| {
                let (ownership, owner) = world
                    .ownership
                    .get(&subject.object)
                    .cloned()
                    .unwrap_or((Ownership::Unmanaged, None));
                let owner = owner.and_then(|owner| world.flux.get(&owner).cloned());
                OwnerInfo { subject: subject.clone(), ownership, owner, evidence: String::new() }
            };
            Ok(subjects.iter().map(answer).collect())
        })
    }
    pub fn get(target: &FluxRef) -> Result<FluxObject, Error> {
        with(|world| {
            world
                .flux
                .get(target)
                .cloned()
                .ok_or_else(|| Error::NotFound(format!("{target} is not there")))
        })
    }
}

pub mod tail_logs {
    use super::{Error, samples, with};
    pub use salve_sdk::tail_logs::{Line, Page, Query};

    pub struct Cursor(usize);

    pub fn open(query: &Query) -> Result<Cursor, Error> {
        with(|world| {
            world.cursors.push((query.since.unwrap_or(0), 0));
            // The first is for the evidence, the second for the watch, the third for the proof.
            if world.cursors.len() == 3 && world.locks_at_the_last_look {
                let line = ("new".to_owned(), world.now, samples::claim_line(1));
                world.log.push(line);
            }
            Ok(Cursor(world.cursors.len() - 1))
        })
    }

    impl Cursor {
        pub fn next(&self) -> Result<Page, Error> {
            with(|world| {
                let (since, read) = world.cursors[self.0];
                let new = world
                    .log
                    .iter()
                    .filter(|line| line.1 > since && line.1 <= world.now)
                    .skip(read);
                let lines: Vec<Line> = new
                    .map(|(pod, time, text)| Line {
                        pod: pod.clone(),
                        time: *time,
                        text: text.clone(),
                    })
                    .collect();
                world.cursors[self.0].1 += lines.len();
                let pods = vec!["a".to_owned(), "b".to_owned()];
                Ok(Page {
                    lines,
                    pods,
                    unreadable: Vec::new(),
                    lines_read: 9,
                    more: false,
                    newest: None,
                })
            })
        }
    }
}

pub mod suspend_flux {
    use super::{Error, FluxRef, samples, with};
    use salve_sdk::suspend_flux::{PreviousSuspend, Resumed};

    pub struct Suspension(FluxRef);

    pub enum SuspendResult {
        Suspended(Suspension),
        #[expect(dead_code, reason = "nobody interferes with these scenes")]
        AlreadySuspended(String),
    }

    /// Where one fails, what was suspended before it is given back, as the host does.
    pub fn suspend(targets: &[FluxRef], _: &str, _: u32) -> Result<Vec<SuspendResult>, Error> {
        with(|world| {
            for (index, target) in targets.iter().enumerate() {
                if let Err(error) = world.write(format!("suspend {target}")) {
                    for before in &targets[..index] {
                        world.flux.get_mut(before).expect("it was there").suspended = None;
                    }
                    return Err(error);
                }
                let object = world
                    .flux
                    .get_mut(target)
                    .ok_or_else(|| Error::NotFound(format!("{target}")))?;
                object.suspended = samples::suspended(Some("ours"));
            }
            Ok(targets
                .iter()
                .map(|target| SuspendResult::Suspended(Suspension(target.clone())))
                .collect())
        })
    }

    impl Suspension {
        pub fn resume(&self) -> Result<Resumed, Error> {
            with(|world| {
                world.write(format!("resume {}", self.0))?;
                if let Some(object) = world.flux.get_mut(&self.0) {
                    object.suspended = None;
                }
                Ok(Resumed { restored: PreviousSuspend::Absent, taken_over: None })
            })
        }
    }
}

pub mod reconcile_flux {
    use super::{Error, FluxRef, with};
    use salve_sdk::reconcile_flux::Reconciliation;

    pub fn reconcile(target: &FluxRef, force: bool, _: u32) -> Result<Reconciliation, Error> {
        with(|world| {
            world.write(format!("{} {target}", if force { "force" } else { "reconcile" }))?;
            let corrects = world.flux.get(target).is_some_and(|object| object.corrects_drift);
            if force || corrects {
                world.bring_back(target);
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

    pub fn delete(set: &[DeletionTarget], _: Pacing) -> Result<Vec<Deletion>, Error> {
        with(|world| {
            let names: Vec<String> = set.iter().map(|frozen| frozen.object.to_string()).collect();
            world.write(format!("delete {}", names.join(" ")))?;
            let chosen = |uid: &str| set.iter().any(|frozen| frozen.uid == uid);
            let sources = world.seen.sources.take().unwrap_or_default();
            let (gone, stay) =
                sources.into_iter().partition::<Vec<_>, _>(|source| chosen(&source.uid));
            world.gone.extend(gone);
            world.seen.sources = Some(stay);
            let now = world.now;
            let owned =
                |snapshot: &super::Snapshot| snapshot.owner_uid.as_deref().is_some_and(chosen);
            world.seen.snapshots.retain(|snapshot| !(snapshot.ready && owned(snapshot)));
            for snapshot in world.seen.snapshots.iter_mut().filter(|snapshot| owned(snapshot)) {
                snapshot.terminating_since = Some(now);
            }
            let end = |frozen: &DeletionTarget| Deletion {
                object: frozen.object.clone(),
                uid: frozen.uid.clone(),
                outcome: DeletionOutcome::Deleted,
                message: None,
            };
            Ok(set.iter().map(end).collect())
        })
    }
}

pub mod restart_deployment {
    use super::{Error, ObjectRef, with};
    pub use salve_sdk::restart_deployment::{Restarted, Rollout, Strategy};

    pub fn restart(target: &ObjectRef, _: &str, strategy: Strategy) -> Result<Restarted, Error> {
        with(|world| {
            let how = match strategy {
                Strategy::Annotate => "restart",
                Strategy::ReplacePods => "replace pods of",
            };
            world.write(format!("{how} {target}"))?;
            world.free();
            Ok(Restarted { at: world.now, old_pods: Vec::new() })
        })
    }

    pub fn await_rollout(
        _: &ObjectRef,
        _: &Restarted,
        _: &[String],
        seconds: u32,
    ) -> Result<Rollout, Error> {
        with(|world| {
            world.now += u64::from(seconds.min(20)) * 1_000;
            if let Some((_, error)) =
                world.broken.as_ref().filter(|(on_start, _)| *on_start == "await")
            {
                return Err(error.clone());
            }
            let waiting_for = world.rollout_hangs.then(|| "2 new pods".to_owned());
            Ok(Rollout {
                done: !world.rollout_hangs,
                waiting_for,
                pods: Vec::new(),
                leases: Vec::new(),
            })
        })
    }
}
