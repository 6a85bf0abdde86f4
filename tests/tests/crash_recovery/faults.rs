//! One fault of the API server, at every request of a run: survived, or said; never silently wrong.

use crate::crashes::{Loss, describe, watched, write};
use crate::fault::{FAULTS, Fault};
use crate::fixture::{House, SHORTEST, on_threads};
use crate::interceptor::{Gate, Snapshot};
use crate::oracle::{Allowed, judge};
use bytes::Bytes;
use salve_core::report::Verdict;
use salve_simulator::Incident;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Of the requests that only read, every how many-th is told with each fault. `SALVE_FAULTS=1` tells all of them: `cargo xtask survive`.
fn reads() -> usize {
    std::env::var("SALVE_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

/// For each request of an undisturbed run, whether it writes.
async fn requests(house: &House) -> Vec<bool> {
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let sees = seen.clone();
    house
        .run(&house.before.fork(), |gate: &Gate| {
            gate.observe(Box::new(move |moment, _, _| {
                if let crate::interceptor::Moment::Request(request) = moment {
                    sees.lock().unwrap().push(request.method() != http::Method::GET);
                }
            }));
        })
        .await;
    std::mem::take(&mut *seen.lock().unwrap())
}

#[tokio::test]
async fn any_single_fault_is_survived_or_said() {
    let house = Arc::new(House::new(Incident::Playbook, SHORTEST).await);
    let requests = requests(&house).await;
    let (began, stride) = (Instant::now(), reads());
    let mut jobs = vec![];
    for (at, writes) in requests.iter().enumerate() {
        for (kind, fault) in FAULTS.iter().enumerate() {
            if *writes || (at + kind * 5).is_multiple_of(stride) {
                jobs.push((at + 1, *fault));
            }
        }
    }
    let told = on_threads(jobs, {
        let house = house.clone();
        move |(number, fault)| {
            let house = house.clone();
            async move { strike(&house, number, fault).await }
        }
    });
    println!(
        "report: {told} faults, {} kinds, at {} requests in {:.0} s",
        FAULTS.len(),
        requests.len(),
        began.elapsed().as_secs_f64()
    );
}

async fn strike(house: &House, number: usize, fault: Fault) {
    let came = house.run(&house.before.fork(), |gate| gate.strike(number, fault)).await;
    let moment = format!("{fault:?} at request {number}");
    judge(house, &came, &Allowed::default(), &moment).await;
    let closing = &came.over.as_ref().unwrap().closing;
    assert!(
        closing.open.is_empty(),
        "{moment}: one fault leaves nothing open: {}",
        closing.summary
    );
    let known = matches!(
        closing.verdict,
        Verdict::Fixed
            | Verdict::NotFixed
            | Verdict::DifferentProblem
            | Verdict::Failed(_)
            | Verdict::Denied
    );
    assert!(known, "{moment}: {:?} {}", closing.verdict, closing.summary);
}

/// So many requests of whoever takes a run up are struck: the settling of what was in doubt, and what follows it.
const FIRST: usize = 12;

/// A run that died before one of its writes is taken up, and a fault strikes the recovery.
#[tokio::test]
async fn a_fault_of_a_recovery_is_survived_or_said() {
    let house = Arc::new(House::new(Incident::Playbook, SHORTEST).await);
    let watched = watched(&house).await;
    let (began, stride) = (Instant::now(), reads());
    let mut jobs = vec![];
    for (at, snapshot) in
        watched.moments.iter().enumerate().filter(|(_, snapshot)| write(snapshot).is_some())
    {
        for (number, (kind, fault)) in (1..=FIRST)
            .flat_map(|number| FAULTS.iter().enumerate().map(move |fault| (number, fault)))
        {
            if (at + number * 7 + kind * 5).is_multiple_of(stride) {
                jobs.push(Struck {
                    at,
                    snapshot: snapshot.clone(),
                    bytes: watched.surviving(snapshot, Loss::Process),
                    number,
                    fault: *fault,
                });
            }
        }
    }
    let told = on_threads(jobs, {
        let house = house.clone();
        move |struck| {
            let house = house.clone();
            async move { struck.tell(&house).await }
        }
    });
    println!("report: {told} faults of recoveries in {:.0} s", began.elapsed().as_secs_f64());
}

/// A fault of a recovery.
struct Struck {
    at: usize,
    snapshot: Arc<Snapshot>,
    bytes: Bytes,
    number: usize,
    fault: Fault,
}

impl Struck {
    async fn tell(self, house: &House) {
        let Self { at, snapshot, bytes, number, fault } = self;
        // One goes on, the next only gives back.
        let release_only = number % 2 == 0;
        let moment = format!(
            "{}, {fault:?} at request {number} of the recovery, release only: {release_only}",
            describe(at, &snapshot)
        );
        let came = house
            .recover(&snapshot.simulator.fork(), &bytes, release_only, |gate| {
                gate.strike(number, fault)
            })
            .await;
        judge(house, &came, &Allowed::default(), &moment).await;
    }
}
