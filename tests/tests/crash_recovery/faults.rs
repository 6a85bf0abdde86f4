//! A single API server fault at each request: the run survives or reports it, and is never silently
//! wrong.

use crate::crashes::{Crash, describe, record_run, write_request};
use crate::fault::{FAULTS, Fault};
use crate::fixture::{Fixture, SHORTEST, run_on_threads, stride};
use crate::interceptor::{Interceptor, Operation, Snapshot};
use crate::oracle::{Allowed, check};
use bytes::Bytes;
use salve_core::report::Verdict;
use salve_simulator::Incident;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The default stride between the reads that are tried with a given fault.
const READ_STRIDE: usize = 131;

/// The largest stride between the writes that are tried with a given fault.
const WRITE_STRIDE: usize = 4;

/// Returns for each request of an undisturbed run whether it is a write.
async fn requests(fixture: &Fixture) -> Vec<bool> {
    let requests: Arc<Mutex<Vec<bool>>> = Arc::default();
    let recorded = requests.clone();
    fixture
        .run(&fixture.initial.fork(), |interceptor: &Interceptor| {
            interceptor.observe(Box::new(move |operation, _, _| {
                if let Operation::Request(request) = operation {
                    recorded.lock().unwrap().push(request.method() != http::Method::GET);
                }
            }));
        })
        .await;
    std::mem::take(&mut *requests.lock().unwrap())
}

#[tokio::test]
async fn any_single_fault_is_survived_or_reported() {
    let fixture = Arc::new(Fixture::new(Incident::Playbook, SHORTEST).await);
    let requests = requests(&fixture).await;
    let (began, stride) = (Instant::now(), stride(READ_STRIDE));
    let (mut cases, mut writes) = (vec![], 0);
    for (index, is_write) in requests.iter().enumerate() {
        writes += usize::from(*is_write);
        for (kind, fault) in FAULTS.iter().enumerate() {
            let is_sampled = *is_write && (writes + kind).is_multiple_of(stride.min(WRITE_STRIDE));
            if is_sampled || (index + kind * 5).is_multiple_of(stride) {
                cases.push((index + 1, *fault));
            }
        }
    }
    let count = run_on_threads(cases, {
        let fixture = fixture.clone();
        move |(number, fault)| {
            let fixture = fixture.clone();
            async move { check_fault(&fixture, number, fault).await }
        }
    });
    println!(
        "report: {count} faults, {} kinds, at {} requests in {:.0} s",
        FAULTS.len(),
        requests.len(),
        began.elapsed().as_secs_f64()
    );
}

async fn check_fault(fixture: &Fixture, number: usize, fault: Fault) {
    let end =
        fixture.run(&fixture.initial.fork(), |interceptor| interceptor.inject(number, fault)).await;
    let context = format!("{fault:?} at request {number}");
    check(fixture, &end, &Allowed::default(), &context).await;
    let result = &end.finished.as_ref().unwrap().result;
    assert!(
        result.open.is_empty(),
        "{context}: a single fault leaves nothing suspended: {}",
        result.summary
    );
    let expected = matches!(
        result.verdict,
        Verdict::Fixed
            | Verdict::NotFixed
            | Verdict::Unverified
            | Verdict::DifferentProblem
            | Verdict::Failed(_)
            | Verdict::Denied
    );
    assert!(expected, "{context}: {:?} {}", result.verdict, result.summary);
}

/// Number of requests of a recovery that are tried with faults: those that resolve what was in
/// doubt, and the next ones.
const FIRST_REQUESTS: usize = 12;

/// A run that crashed before a write is recovered, and the recovery meets a fault.
#[tokio::test]
async fn a_fault_during_recovery_is_survived_or_reported() {
    let fixture = Arc::new(Fixture::new(Incident::Playbook, SHORTEST).await);
    let recorded = record_run(&fixture).await;
    let (began, stride) = (Instant::now(), stride(READ_STRIDE));
    let mut cases = vec![];
    let writes = recorded.snapshots.iter().enumerate();
    for (index, snapshot) in writes.filter(|(_, snapshot)| write_request(snapshot).is_some()) {
        for (number, (kind, fault)) in (1..=FIRST_REQUESTS)
            .flat_map(|number| FAULTS.iter().enumerate().map(move |fault| (number, fault)))
        {
            if (index + number * 7 + kind * 5).is_multiple_of(stride) {
                cases.push(FaultDuringRecovery {
                    index,
                    snapshot: snapshot.clone(),
                    bytes: recorded.surviving(snapshot, Crash::Process),
                    number,
                    fault: *fault,
                });
            }
        }
    }
    let count = run_on_threads(cases, {
        let fixture = fixture.clone();
        move |case| {
            let fixture = fixture.clone();
            async move { case.check(&fixture).await }
        }
    });
    println!("report: {count} faults during recovery in {:.0} s", began.elapsed().as_secs_f64());
}

struct FaultDuringRecovery {
    /// The crash point.
    index: usize,
    snapshot: Arc<Snapshot>,
    /// The run file after the crash.
    bytes: Bytes,
    /// The request of the recovery that meets the fault.
    number: usize,
    fault: Fault,
}

impl FaultDuringRecovery {
    async fn check(self, fixture: &Fixture) {
        let Self { index, snapshot, bytes, number, fault } = self;
        // Alternates between completing the run and only releasing what it suspended.
        let release_only = number % 2 == 0;
        let context = format!(
            "{}, {fault:?} at request {number} of the recovery, release only: {release_only}",
            describe(index, &snapshot)
        );
        let end = fixture
            .recover(&snapshot.simulator.fork(), &bytes, release_only, |interceptor| {
                interceptor.inject(number, fault)
            })
            .await;
        check(fixture, &end, &Allowed::default(), &context).await;
    }
}
