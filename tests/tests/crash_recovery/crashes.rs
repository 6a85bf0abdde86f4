//! The process crashes before each append, sync, and request, once or twice, and is recovered.

use crate::fixture::{
    EndState, Fixture, SHORT, SHORTEST, run_concurrently, snapshot_recorder, stride,
};
use crate::interceptor::{Operation, Snapshot};
use crate::oracle::{Allowed, check};
use bytes::Bytes;
use http::{Method, Request};
use salve_core::report::Verdict;
use salve_simulator::Incident;
use std::sync::Arc;
use std::time::Instant;

/// The kind of a crash. It decides which part of the run file survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process crashed: every line that was written survives.
    Process,
    /// The machine crashed: only synced lines survive.
    Machine,
}

const CRASHES: [Crash; 2] = [Crash::Process, Crash::Machine];

/// A run that finished undisturbed, with a snapshot before each of its operations.
pub struct RecordedRun {
    end: EndState,
    pub snapshots: Vec<Arc<Snapshot>>,
}

/// Runs undisturbed and takes a snapshot before each operation.
pub async fn record_run(fixture: &Fixture) -> RecordedRun {
    let (setup, snapshots) = snapshot_recorder();
    let end = fixture.run(&fixture.initial.fork(), setup).await;
    let snapshots = std::mem::take(&mut *snapshots.lock().unwrap());
    RecordedRun { end, snapshots: snapshots.into_iter().map(Arc::new).collect() }
}

impl RecordedRun {
    /// Returns the part of the run file that survives a crash at this snapshot.
    pub fn surviving(&self, snapshot: &Snapshot, crash: Crash) -> Bytes {
        surviving(&self.end.disk.bytes, snapshot, crash)
    }
}

fn surviving(bytes: &[u8], snapshot: &Snapshot, crash: Crash) -> Bytes {
    let end = match crash {
        Crash::Process => snapshot.written,
        Crash::Machine => snapshot.synced,
    };
    Bytes::copy_from_slice(&bytes[..end])
}

pub fn describe(index: usize, snapshot: &Snapshot) -> String {
    match &snapshot.operation {
        Operation::Append => format!("crash point {index}, before an append"),
        Operation::Sync => format!("crash point {index}, before a sync"),
        Operation::Request(request) => {
            format!("crash point {index}, before {} {}", request.method(), request.uri())
        }
    }
}

/// Returns the request before which the snapshot was taken if it is a write.
pub fn write_request(snapshot: &Snapshot) -> Option<&Request<Bytes>> {
    match &snapshot.operation {
        Operation::Request(request) if request.method() != Method::GET => Some(request),
        Operation::Request(_) | Operation::Append | Operation::Sync => None,
    }
}

/// The default stride between crash points, and between late requests.
const STRIDE: usize = 8;

/// Returns the crash points to try, by index: those before a write or a sync, and a part of the
/// others.
fn crash_points(snapshots: &[Arc<Snapshot>]) -> Vec<usize> {
    let stride = stride(STRIDE);
    let mut others = 0_usize;
    let tried = |index: &usize| {
        let snapshot = &snapshots[*index];
        if write_request(snapshot).is_some() || matches!(snapshot.operation, Operation::Sync) {
            return true;
        }
        others += usize::from(stride == 1 || is_distinct(snapshots, *index));
        others.is_multiple_of(stride)
    };
    (0..snapshots.len()).filter(tried).collect()
}

/// Returns whether the snapshot differs from the previous one. Between two consecutive GETs only
/// the clock moves, by three milliseconds, so only the first of them counts.
fn is_distinct(snapshots: &[Arc<Snapshot>], index: usize) -> bool {
    let is_get = |snapshot: &Snapshot| {
        matches!(snapshot.operation, Operation::Request(_)) && write_request(snapshot).is_none()
    };
    !is_get(&snapshots[index]) || index == 0 || !is_get(&snapshots[index - 1])
}

fn allowed_after(crashes: &[Crash]) -> Allowed {
    Allowed { lost_lines: crashes.contains(&Crash::Machine), ..Allowed::default() }
}

fn assert_fixed(end: &EndState, context: &str) {
    if let Some(finished) = &end.finished {
        let result = &finished.result;
        assert_eq!(result.verdict, Verdict::Fixed, "{context}: {}", result.summary);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_crashes_at_any_point_is_completed_by_recovery() {
    let fixture = Arc::new(Fixture::new(Incident::Playbook, SHORT).await);
    let recorded = record_run(&fixture).await;
    assert_fixed(&recorded.end, "undisturbed");
    check(&fixture, &recorded.end, &Allowed::default(), "undisturbed").await;
    let began = Instant::now();
    let points = crash_points(&recorded.snapshots);
    let cases = points.iter().flat_map(|index| CRASHES.map(|crash| (*index, crash)));
    let cases = cases.map(|(index, crash)| {
        let snapshot = recorded.snapshots[index].clone();
        let (fixture, bytes) = (fixture.clone(), recorded.surviving(&snapshot, crash));
        async move {
            let context = format!("{}, {crash:?}", describe(index, &snapshot));
            let end = fixture.recover(&snapshot.simulator.fork(), &bytes, false, |_| {}).await;
            check(&fixture, &end, &allowed_after(&[crash]), &context).await;
            assert_fixed(&end, &context);
        }
    });
    let count = run_concurrently(cases).await;
    println!(
        "report: {count} crashes at {} of {} crash points in {:.0} s",
        points.len(),
        recorded.snapshots.len(),
        began.elapsed().as_secs_f64()
    );
}

/// Recovery performs the rest of the approved plan and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_run_with_a_plan_is_completed_by_recovery() {
    let fixture = Arc::new(Fixture::with_plan(Incident::Playbook, SHORTEST).await);
    let recorded = record_run(&fixture).await;
    assert_fixed(&recorded.end, "undisturbed");
    let (began, stride) = (Instant::now(), stride(PAIR_STRIDE));
    let distinct =
        (0..recorded.snapshots.len()).filter(|index| is_distinct(&recorded.snapshots, *index));
    let cases = distinct
        .step_by(stride.div_ceil(2))
        .flat_map(|index| CRASHES.map(|crash| (index, crash)))
        .map(|(index, crash)| {
            let snapshot = recorded.snapshots[index].clone();
            let (fixture, bytes) = (fixture.clone(), recorded.surviving(&snapshot, crash));
            async move {
                let context = format!("with a plan, {}, {crash:?}", describe(index, &snapshot));
                let end = fixture.recover(&snapshot.simulator.fork(), &bytes, false, |_| {}).await;
                check(&fixture, &end, &allowed_after(&[crash]), &context).await;
                assert_fixed(&end, &context);
            }
        });
    let count = run_concurrently(cases).await;
    println!(
        "report: {count} crashes of a run with a plan in {:.0} s",
        began.elapsed().as_secs_f64()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_crashes_at_any_point_can_be_released_without_its_component() {
    let fixture = Arc::new(Fixture::new(Incident::Playbook, SHORT).await);
    let recorded = record_run(&fixture).await;
    let points = crash_points(&recorded.snapshots);
    let cases = points.iter().flat_map(|index| CRASHES.map(|crash| (*index, crash)));
    let cases = cases.map(|(index, crash)| {
        let snapshot = recorded.snapshots[index].clone();
        let (fixture, bytes) = (fixture.clone(), recorded.surviving(&snapshot, crash));
        async move {
            let context = format!("{}, {crash:?}, release only", describe(index, &snapshot));
            let end = fixture.recover(&snapshot.simulator.fork(), &bytes, true, |_| {}).await;
            check(&fixture, &end, &allowed_after(&[crash]), &context).await;
            let released = end.finished.is_none_or(|finished| finished.result.open.is_empty());
            assert!(released, "{context}");
        }
    });
    run_concurrently(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_arrives_after_its_process_crashed_does_no_harm() {
    let fixture = Arc::new(Fixture::new(Incident::Playbook, SHORT).await);
    let recorded = record_run(&fixture).await;
    let mut cases = vec![];
    for (index, snapshot) in recorded.snapshots.iter().enumerate() {
        let Some(request) = write_request(snapshot) else { continue };
        let acquires_lease = request.uri().path().ends_with("/leases");
        // The late request arrives after this many requests of the recovery; the last, after all.
        for delay in [0, 1, 2, 5, 20, 100, usize::MAX / 2] {
            for (crash, release_only) in
                [(Crash::Process, false), (Crash::Machine, false), (Crash::Process, true)]
            {
                let (fixture, bytes, snapshot, request) = (
                    fixture.clone(),
                    recorded.surviving(snapshot, crash),
                    snapshot.clone(),
                    request.clone(),
                );
                cases.push(async move {
                    let context = format!(
                        "{}, {crash:?}, arrives after {delay}, release only: {release_only}",
                        describe(index, &snapshot)
                    );
                    let end = fixture
                        .recover(&snapshot.simulator.fork(), &bytes, release_only, |interceptor| {
                            interceptor.deliver_after(delay, request)
                        })
                        .await;
                    let late_lease = delay > 0 && acquires_lease && (release_only || delay > 100);
                    let allowed = Allowed { late_lease, ..allowed_after(&[crash]) };
                    check(&fixture, &end, &allowed, &context).await;
                    if !release_only {
                        assert_fixed(&end, &context);
                    }
                });
            }
        }
    }
    let all = cases.len();
    let count = run_concurrently(cases.into_iter().step_by(stride(STRIDE))).await;
    println!("report: {count} of {all} late requests");
}

/// The default stride between the first, and between the second crash points of pairs.
const PAIR_STRIDE: usize = 29;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_crashes_twice_is_completed_by_recovery() {
    let fixture = Arc::new(Fixture::new(Incident::Playbook, SHORTEST).await);
    let recorded = record_run(&fixture).await;
    assert_fixed(&recorded.end, "undisturbed");
    let (began, stride, mut count) = (Instant::now(), stride(PAIR_STRIDE), 0);
    let distinct = |snapshots: &[Arc<Snapshot>]| {
        (0..snapshots.len()).filter(|index| is_distinct(snapshots, *index)).collect::<Vec<_>>()
    };
    let firsts = distinct(&recorded.snapshots);
    for (position, first) in firsts.iter().enumerate().step_by(stride) {
        for first_crash in CRASHES {
            let snapshot = &recorded.snapshots[*first];
            let bytes = recorded.surviving(snapshot, first_crash);
            let (setup, snapshots) = snapshot_recorder();
            let recovered = fixture.recover(&snapshot.simulator.fork(), &bytes, false, setup).await;
            let snapshots = std::mem::take(&mut *snapshots.lock().unwrap());
            let snapshots: Vec<_> = snapshots.into_iter().map(Arc::new).collect();
            let seconds =
                distinct(&snapshots).into_iter().skip(position / stride % stride).step_by(stride);
            let cases = seconds.flat_map(|second| CRASHES.map(|crash| (second, crash)));
            let cases = cases.map(|(second, crash)| {
                let (fixture, snapshot, bytes) = (
                    fixture.clone(),
                    snapshots[second].clone(),
                    surviving(&recovered.disk.bytes, &snapshots[second], crash),
                );
                let first = format!("first at {first}, {first_crash:?}");
                async move {
                    let context =
                        format!("{first}; then {}, {crash:?}", describe(second, &snapshot));
                    let end =
                        fixture.recover(&snapshot.simulator.fork(), &bytes, false, |_| {}).await;
                    check(&fixture, &end, &allowed_after(&[first_crash, crash]), &context).await;
                    assert_fixed(&end, &context);
                }
            });
            count += run_concurrently(cases).await;
        }
    }
    println!(
        "report: {count} pairs of crashes, {} first crash points, every {stride}th, in {:.0} s",
        firsts.len(),
        began.elapsed().as_secs_f64()
    );
}

#[tokio::test]
async fn a_run_syncs_at_most_twelve_times() {
    for config in [&[][..], SHORT, &["mode=all", "deletionBatchSize=1"]] {
        let fixture = Fixture::new(Incident::Playbook, config).await;
        let end = fixture.run(&fixture.initial.fork(), |_| {}).await;
        assert!((3..=12).contains(&end.disk.syncs), "{config:?}: {} syncs", end.disk.syncs);
    }
}
