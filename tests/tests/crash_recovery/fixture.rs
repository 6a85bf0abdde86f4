//! The shipped guest on a simulated cluster, run and recovered after crashes.

use crate::interceptor::{DiskState, Interceptor, Operation, Snapshot};
use futures::StreamExt;
use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::plans::Plan;
use salve::session::{FinishedRun, Frontend, InterruptedRun, PreparedRun};
use salve_core::grants::Grants;
use salve_core::journal::Entry;
use salve_core::problem::Window;
use salve_kubernetes::Cluster;
use salve_run::{Mode, RunFile};
use salve_simulator::{Incident, Simulator};
use salve_tests::canary;
use std::sync::{Arc, Mutex};

/// Returns the stride between the cases of a test: `default`, or that of `cargo xtask survive`.
pub fn stride(default: usize) -> usize {
    std::env::var("SALVE_STRIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// The playbook's incident where it is worst, with shorter waits: the polls left out are all alike.
pub const SHORT: &[&str] = &[
    "namespaces=media,home-automation",
    "stabilizationWindowSeconds=10",
    "restoreTimeoutSeconds=10",
    "logWindowSeconds=120",
];

/// The same with hardly any waits: few enough crash points to try all pairs.
pub const SHORTEST: &[&str] = &[
    "namespaces=media,home-automation",
    "stabilizationWindowSeconds=0",
    "snapshotTimeoutSeconds=10",
    "restoreTimeoutSeconds=0",
    "resumeBatchSize=9",
    "logWindowSeconds=60",
];

/// The guest, ready for any number of runs, and the cluster before them.
pub struct Fixture {
    pub prepared: PreparedRun,
    pub initial: Simulator,
}

/// The cluster, the disk, and the result after a run or its recovery.
pub struct EndState {
    pub simulator: Simulator,
    pub disk: DiskState,
    /// `None` if the run file had no header, so that there was nothing to recover.
    pub finished: Option<FinishedRun>,
}

impl Fixture {
    pub async fn new(incident: Incident, config: &[&str]) -> Self {
        let options = GuestOptions {
            config: config.iter().map(ToString::to_string).collect(),
            ..GuestOptions::default()
        };
        let mut guest = ResolvedGuest::resolve("volsync-unlock", &options).unwrap();
        for problem in &mut guest.problems {
            problem.window = Window::parse("1s").unwrap();
        }
        let prepared = PreparedRun::prepare(guest, &options).await.unwrap();
        let initial = Simulator::new(incident);
        assert!(canary::plant(&initial) >= 200);
        Self { prepared, initial }
    }

    /// Makes a plan first and binds the runs to it.
    pub async fn with_plan(incident: Incident, config: &[&str]) -> Self {
        let Self { prepared, initial } = Self::new(incident, config).await;
        let runs = tempfile::tempdir().unwrap();
        let planned = prepared
            .run(
                Mode::Plan,
                &ClusterSession::simulated(initial.clone()).await.unwrap(),
                Some(runs.path()),
                Frontend::none(),
            )
            .await
            .unwrap();
        let plan = Plan::open(runs.path(), &planned.report.run).unwrap();
        let options = GuestOptions {
            config: config.iter().map(ToString::to_string).collect(),
            ..GuestOptions::default()
        };
        let prepared = PreparedRun::prepare(plan.resolve_guest().unwrap(), &options)
            .await
            .unwrap()
            .bound_to(plan)
            .unwrap();
        Self { prepared, initial }
    }

    /// Runs on `simulator`. Calls `setup` with the interceptor once the run has connected.
    pub async fn run(&self, simulator: &Simulator, setup: impl FnOnce(&Interceptor)) -> EndState {
        let interceptor = Interceptor::new(simulator, vec![]);
        let session = connect(&interceptor).await;
        setup(&interceptor);
        let finished = self
            .prepared
            .run_on(
                Mode::Live,
                &session,
                "7c1d03fe",
                Some(RunFile::with_disk(Box::new(interceptor.clone()))),
                Frontend { stop: interceptor.stop(), ..Frontend::none() },
            )
            .await
            .unwrap();
        interceptor.deliver_late_request().await;
        let disk = interceptor.disk();
        EndState { simulator: simulator.clone(), disk, finished: Some(finished) }
    }

    /// Recovers a run whose file contains `bytes`; with `release_only`, only releases what it
    /// suspended.
    pub async fn recover(
        &self,
        simulator: &Simulator,
        bytes: &[u8],
        release_only: bool,
        setup: impl FnOnce(&Interceptor),
    ) -> EndState {
        let interceptor = Interceptor::new(simulator, bytes.to_vec());
        let (file, entries) =
            RunFile::resume_with_disk(Box::new(interceptor.clone()), bytes).unwrap();
        let Some(Entry::Header(header)) = entries.first() else {
            // Nothing was recorded, so nothing may have been sent.
            setup(&interceptor);
            interceptor.deliver_late_request().await;
            let disk = interceptor.disk();
            return EndState { simulator: simulator.clone(), disk, finished: None };
        };
        let interrupted = InterruptedRun { header: (**header).clone(), file, entries };
        let session = connect(&interceptor).await;
        setup(&interceptor);
        let current = Grants::default();
        let frontend = Frontend { stop: interceptor.stop(), ..Frontend::none() };
        let finished = if release_only {
            interrupted.release(current, &session, frontend).await.unwrap()
        } else {
            let guest = self.prepared.guest();
            interrupted.recover(guest, current, &session, frontend).await.unwrap()
        };
        interceptor.deliver_late_request().await;
        let disk = interceptor.disk();
        EndState { simulator: simulator.clone(), disk, finished: Some(finished) }
    }
}

async fn connect(interceptor: &Interceptor) -> ClusterSession {
    ClusterSession::from_cluster(Cluster::over(
        interceptor.clone(),
        Arc::new(interceptor.clone()),
        "simulated",
    ))
    .await
    .unwrap()
}

/// Runs all cases, four at a time, and returns how many there were. The first failure fails the
/// test.
pub async fn run_concurrently(
    cases: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>,
) -> usize {
    let tasks = futures::stream::iter(cases.map(tokio::spawn)).buffer_unordered(4);
    tasks
        .fold(0, |count, joined| async move {
            joined
                .map_or_else(|panic| std::panic::resume_unwind(panic.into_panic()), |()| count + 1)
        })
        .await
}

/// Runs all cases on two threads and returns how many there were. The first failure fails the test.
///
/// Each case has its own runtime with paused time, which advances whenever the case is idle: a
/// request that hangs times out without any real waiting.
pub fn run_on_threads<T: Send + 'static, F: Future<Output = ()>>(
    cases: Vec<T>,
    run: impl Fn(T) -> F + Clone + Send + 'static,
) -> usize {
    let count = cases.len();
    let cases = Arc::new(Mutex::new(cases.into_iter()));
    let worker = || {
        let (cases, run) = (cases.clone(), run.clone());
        std::thread::spawn(move || {
            loop {
                let Some(case) = cases.lock().unwrap().next() else { return };
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .start_paused(true)
                    .build()
                    .unwrap();
                runtime.block_on(run(case));
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

/// Returns a setup that takes a snapshot before each operation, and the snapshots.
pub fn snapshot_recorder() -> (impl FnOnce(&Interceptor), Arc<Mutex<Vec<Snapshot>>>) {
    let snapshots: Arc<Mutex<Vec<Snapshot>>> = Arc::default();
    let recorded = snapshots.clone();
    let setup = move |interceptor: &Interceptor| {
        interceptor.observe(Box::new(
            move |operation: &Operation, simulator: &Simulator, disk: &DiskState| {
                let snapshot = Snapshot {
                    simulator: simulator.fork(),
                    written: disk.bytes.len(),
                    synced: disk.synced,
                    operation: operation.clone(),
                };
                recorded.lock().unwrap().push(snapshot);
            },
        ));
    };
    (setup, snapshots)
}
