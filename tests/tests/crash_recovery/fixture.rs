//! The shipped guest on a simulated cluster, run and taken up again as often as it dies.

use crate::interceptor::{Gate, Moment, Snapshot, Virtual, Written};
use futures::StreamExt;
use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::plans::Plan;
use salve::session::{FinishedRun, InterruptedRun, PreparedRun};
use salve_core::grants::Grants;
use salve_core::journal::Entry;
use salve_kubernetes::Cluster;
use salve_run::{Mode, NoObserver, RunFile};
use salve_simulator::{Incident, Simulator};
use salve_tests::canary;
use std::sync::{Arc, Mutex};

/// The playbook's incident where it is worst, with shorter waits: each look that is left out is one of many alike.
pub const SHORT: &[&str] =
    &["namespaces=media,home-automation", "settle=10", "restore-wait=10", "log-window=120"];

/// The same with hardly a wait: few enough moments that each can be paired with each.
pub const SHORTEST: &[&str] = &[
    "namespaces=media,home-automation",
    "settle=0",
    "snapshot-wait=10",
    "restore-wait=0",
    "resume-at-once=9",
    "log-window=60",
];

/// The guest, ready for any number of runs, and the cluster as it is before them.
pub struct House {
    pub ready: PreparedRun,
    pub before: Simulator,
}

/// How it came out.
pub struct Came {
    pub simulator: Simulator,
    pub written: Written,
    /// None where the record held nothing to take up.
    pub over: Option<FinishedRun>,
}

impl House {
    pub async fn new(incident: Incident, config: &[&str]) -> Self {
        let terms = GuestOptions {
            config: config.iter().map(ToString::to_string).collect(),
            ..GuestOptions::default()
        };
        let ready =
            PreparedRun::prepare(ResolvedGuest::find("volsync-unlock", &terms).unwrap(), &terms)
                .await
                .unwrap();
        let before = Simulator::new(incident);
        assert!(canary::plant(&before) >= 200);
        Self { ready, before }
    }

    /// The same, bound by a plan that was made and kept before.
    pub async fn under_a_plan(incident: Incident, config: &[&str]) -> Self {
        let Self { ready, before } = Self::new(incident, config).await;
        let runs = tempfile::tempdir().unwrap();
        let made = ready
            .run(
                Mode::Plan,
                &ClusterSession::simulated(before.clone()).await.unwrap(),
                Some(runs.path()),
                Box::new(NoObserver),
            )
            .await
            .unwrap();
        let plan = Plan::open(runs.path(), &made.report.run).unwrap();
        let terms = GuestOptions {
            config: config.iter().map(ToString::to_string).collect(),
            ..GuestOptions::default()
        };
        let ready = PreparedRun::prepare(plan.chosen().unwrap(), &terms)
            .await
            .unwrap()
            .under(plan)
            .unwrap();
        Self { ready, before }
    }

    /// A run on `simulator`, with its gate prepared by `with` once it has connected.
    pub async fn run(&self, simulator: &Simulator, with: impl FnOnce(&Gate)) -> Came {
        let gate = Gate::new(simulator, vec![]);
        let open = open(&gate, simulator).await;
        with(&gate);
        let over = self
            .ready
            .run_on(
                Mode::Live,
                &open,
                "7c1d03fe",
                Some(RunFile::over(Box::new(gate.clone()))),
                Box::new(NoObserver),
            )
            .await
            .unwrap();
        gate.deliver_twin().await;
        Came { simulator: simulator.clone(), written: gate.written(), over: Some(over) }
    }

    /// Takes up a run of which the disk holds `bytes`.
    pub async fn recover(
        &self,
        simulator: &Simulator,
        bytes: &[u8],
        release_only: bool,
        with: impl FnOnce(&Gate),
    ) -> Came {
        let gate = Gate::new(simulator, bytes.to_vec());
        let (file, entries) = RunFile::take_up_over(Box::new(gate.clone()), bytes).unwrap();
        let Some(Entry::Header(header)) = entries.first() else {
            // Nothing was recorded, so nothing may have been sent.
            with(&gate);
            gate.deliver_twin().await;
            return Came { simulator: simulator.clone(), written: gate.written(), over: None };
        };
        let dead = InterruptedRun { header: (**header).clone(), file, entries };
        let open = open(&gate, simulator).await;
        with(&gate);
        let over = if release_only {
            dead.release(Grants::default(), &open, Box::new(NoObserver)).await.unwrap()
        } else {
            dead.recover(self.ready.guest(), Grants::default(), &open, Box::new(NoObserver))
                .await
                .unwrap()
        };
        gate.deliver_twin().await;
        Came { simulator: simulator.clone(), written: gate.written(), over: Some(over) }
    }
}

async fn open(gate: &Gate, simulator: &Simulator) -> ClusterSession {
    ClusterSession::greet(Cluster::over(
        gate.clone(),
        Arc::new(Virtual(simulator.clock())),
        "simulated",
    ))
    .await
    .unwrap()
}

/// Carries out all of them, some at once, and says how many there were. The first that fails fails the test.
pub async fn at_once(
    all: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>,
) -> usize {
    let tasks = futures::stream::iter(all.map(tokio::spawn)).buffer_unordered(4);
    tasks
        .fold(0, |told, ended| async move {
            ended.map_or_else(|panic| std::panic::resume_unwind(panic.into_panic()), |()| told + 1)
        })
        .await
}

/// Carries out all of them on two threads. Each has a runtime of its own, whose time passes at once where nobody works: a request that
/// hangs is given up without anybody waiting for it. The first that fails fails the test.
pub fn on_threads<T: Send + 'static, F: Future<Output = ()>>(
    jobs: Vec<T>,
    told: impl Fn(T) -> F + Clone + Send + 'static,
) -> usize {
    let count = jobs.len();
    let jobs = Arc::new(Mutex::new(jobs.into_iter()));
    let worker = || {
        let (jobs, told) = (jobs.clone(), told.clone());
        std::thread::spawn(move || {
            loop {
                let Some(job) = jobs.lock().unwrap().next() else { return };
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .start_paused(true)
                    .build()
                    .unwrap();
                runtime.block_on(told(job));
            }
        })
    };
    for thread in [worker(), worker()] {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
    count
}

/// Keeps the world at every moment.
pub fn keeping() -> (impl FnOnce(&Gate), Arc<Mutex<Vec<Snapshot>>>) {
    let kept: Arc<Mutex<Vec<Snapshot>>> = Arc::default();
    let keep = kept.clone();
    let with = move |gate: &Gate| {
        gate.observe(Box::new(move |moment: &Moment, simulator: &Simulator, written: &Written| {
            let snapshot = Snapshot {
                simulator: simulator.fork(),
                written: written.bytes.len(),
                synced: written.synced,
                moment: moment.clone(),
            };
            keep.lock().unwrap().push(snapshot);
        }));
    };
    (with, kept)
}
