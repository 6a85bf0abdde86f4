//! The process dies before each line that it writes, each sync and each request that it sends, once or twice, and is taken up.

use crate::fixture::{Came, House, SHORT, SHORTEST, at_once, keeping};
use crate::interceptor::{Moment, Snapshot};
use crate::oracle::{Allowed, judge};
use bytes::Bytes;
use http::{Method, Request};
use salve_core::report::Verdict;
use salve_simulator::Incident;
use std::sync::Arc;
use std::time::Instant;

/// What of the run file outlives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process died: every line that was written is there.
    Process,
    /// The machine died: lines that were not brought to the disk are gone.
    Machine,
}

const LOSSES: [Loss; 2] = [Loss::Process, Loss::Machine];

/// A run to its end, with the world at each of its moments.
pub struct Watched {
    whole: Came,
    pub moments: Vec<Arc<Snapshot>>,
}

pub async fn watched(house: &House) -> Watched {
    let (with, kept) = keeping();
    let whole = house.run(&house.before.fork(), with).await;
    let moments = std::mem::take(&mut *kept.lock().unwrap());
    Watched { whole, moments: moments.into_iter().map(Arc::new).collect() }
}

impl Watched {
    pub fn surviving(&self, snapshot: &Snapshot, loss: Loss) -> Bytes {
        surviving(&self.whole.written.bytes, snapshot, loss)
    }
}

fn surviving(bytes: &[u8], snapshot: &Snapshot, loss: Loss) -> Bytes {
    let end = match loss {
        Loss::Process => snapshot.written,
        Loss::Machine => snapshot.synced,
    };
    Bytes::copy_from_slice(&bytes[..end])
}

pub fn describe(at: usize, snapshot: &Snapshot) -> String {
    match &snapshot.moment {
        Moment::Line => format!("moment {at}, before a line"),
        Moment::Sync => format!("moment {at}, before a sync"),
        Moment::Request(request) => {
            format!("moment {at}, before {} {}", request.method(), request.uri())
        }
    }
}

pub fn write(snapshot: &Snapshot) -> Option<&Request<Bytes>> {
    match &snapshot.moment {
        Moment::Request(request) if request.method() != Method::GET => Some(request),
        Moment::Request(_) | Moment::Line | Moment::Sync => None,
    }
}

/// Between two reads of one look nothing has changed but three milliseconds of the clock: of those, the first alone is a moment of its own.
fn is_distinct(moments: &[Arc<Snapshot>], at: usize) -> bool {
    let reads = |snapshot: &Snapshot| {
        matches!(snapshot.moment, Moment::Request(_)) && write(snapshot).is_none()
    };
    !reads(&moments[at]) || at == 0 || !reads(&moments[at - 1])
}

fn after(losses: &[Loss]) -> Allowed {
    Allowed { lost: losses.contains(&Loss::Machine), ..Allowed::default() }
}

fn is_fixed(came: &Came, moment: &str) {
    if let Some(over) = &came.over {
        assert_eq!(over.closing.verdict, Verdict::Fixed, "{moment}: {}", over.closing.summary);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_dies_at_any_moment_is_finished() {
    let house = Arc::new(House::new(Incident::Playbook, SHORT).await);
    let watched = watched(&house).await;
    is_fixed(&watched.whole, "undisturbed");
    judge(&house, &watched.whole, &Allowed::default(), "undisturbed").await;
    let began = Instant::now();
    let crashes = watched
        .moments
        .iter()
        .enumerate()
        .flat_map(|(at, snapshot)| LOSSES.map(|loss| (at, snapshot.clone(), loss)));
    let crashes = crashes.map(|(at, snapshot, loss)| {
        let (house, bytes) = (house.clone(), watched.surviving(&snapshot, loss));
        async move {
            let moment = format!("{}, {loss:?}", describe(at, &snapshot));
            let came = house.recover(&snapshot.simulator.fork(), &bytes, false, |_| {}).await;
            judge(&house, &came, &after(&[loss]), &moment).await;
            is_fixed(&came, &moment);
        }
    });
    let told = at_once(crashes).await;
    println!(
        "report: {told} crashes at {} moments in {:.0} s",
        watched.moments.len(),
        began.elapsed().as_secs_f64()
    );
}

/// Of a plan that was approved, what is left of it is carried out, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_under_a_plan_that_dies_is_finished() {
    let house = Arc::new(House::under_a_plan(Incident::Playbook, SHORTEST).await);
    let watched = watched(&house).await;
    is_fixed(&watched.whole, "undisturbed");
    let (began, stride) = (Instant::now(), pairs());
    let distinct = (0..watched.moments.len()).filter(|at| is_distinct(&watched.moments, *at));
    let crashes = distinct
        .step_by(stride.div_ceil(2))
        .flat_map(|at| LOSSES.map(|loss| (at, loss)))
        .map(|(at, loss)| {
            let snapshot = watched.moments[at].clone();
            let (house, bytes) = (house.clone(), watched.surviving(&snapshot, loss));
            async move {
                let moment = format!("under a plan, {}, {loss:?}", describe(at, &snapshot));
                let came = house.recover(&snapshot.simulator.fork(), &bytes, false, |_| {}).await;
                judge(&house, &came, &after(&[loss]), &moment).await;
                is_fixed(&came, &moment);
            }
        });
    let told = at_once(crashes).await;
    println!(
        "report: {told} crashes of a run under a plan in {:.0} s",
        began.elapsed().as_secs_f64()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_dies_at_any_moment_can_be_released_without_its_component() {
    let house = Arc::new(House::new(Incident::Playbook, SHORT).await);
    let watched = watched(&house).await;
    let distinct = (0..watched.moments.len()).filter(|at| is_distinct(&watched.moments, *at));
    let crashes = distinct.flat_map(|at| LOSSES.map(|loss| (at, loss))).map(|(at, loss)| {
        let snapshot = watched.moments[at].clone();
        let (house, bytes) = (house.clone(), watched.surviving(&snapshot, loss));
        async move {
            let moment = format!("{}, {loss:?}, released", describe(at, &snapshot));
            let came = house.recover(&snapshot.simulator.fork(), &bytes, true, |_| {}).await;
            judge(&house, &came, &after(&[loss]), &moment).await;
            assert!(came.over.is_none_or(|over| over.closing.open.is_empty()), "{moment}");
        }
    });
    at_once(crashes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_arrives_after_its_sender_died_harms_nothing() {
    let house = Arc::new(House::new(Incident::Playbook, SHORT).await);
    let watched = watched(&house).await;
    let mut crashes = vec![];
    for (at, snapshot) in watched.moments.iter().enumerate() {
        let Some(twin) = write(snapshot) else { continue };
        let leases = twin.uri().path().ends_with("/leases");
        // After so many requests of whoever takes it up; the last comes when all is over.
        for late in [0, 1, 2, 5, 20, 100, usize::MAX / 2] {
            for (loss, release_only) in
                [(Loss::Process, false), (Loss::Machine, false), (Loss::Process, true)]
            {
                let (house, bytes, snapshot, twin) = (
                    house.clone(),
                    watched.surviving(snapshot, loss),
                    snapshot.clone(),
                    twin.clone(),
                );
                crashes.push(async move {
                    let moment = format!(
                        "{}, {loss:?}, arrives after {late}, release only: {release_only}",
                        describe(at, &snapshot)
                    );
                    let came = house
                        .recover(&snapshot.simulator.fork(), &bytes, release_only, |gate| {
                            gate.expect_twin(late, twin)
                        })
                        .await;
                    let leased = late > 0 && leases && (release_only || late > 100);
                    judge(&house, &came, &Allowed { leased, ..after(&[loss]) }, &moment).await;
                    if !release_only {
                        is_fixed(&came, &moment);
                    }
                });
            }
        }
    }
    let told = at_once(crashes.into_iter()).await;
    println!("report: {told} late requests");
}

/// Every how many-th moment stands first in a pair of crashes, and second. `SALVE_PAIRS=1` tells all pairs: `cargo xtask survive`.
fn pairs() -> usize {
    std::env::var("SALVE_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(11)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_dies_twice_is_finished() {
    let house = Arc::new(House::new(Incident::Playbook, SHORTEST).await);
    let watched = watched(&house).await;
    is_fixed(&watched.whole, "undisturbed");
    let (began, stride, mut told) = (Instant::now(), pairs(), 0);
    let distinct = |moments: &[Arc<Snapshot>]| {
        (0..moments.len()).filter(|at| is_distinct(moments, *at)).collect::<Vec<_>>()
    };
    let firsts = distinct(&watched.moments);
    for (index, at) in firsts.iter().enumerate().step_by(stride) {
        for first_loss in LOSSES {
            let bytes = watched.surviving(&watched.moments[*at], first_loss);
            let (with, kept) = keeping();
            let once =
                house.recover(&watched.moments[*at].simulator.fork(), &bytes, false, with).await;
            let moments: Vec<_> =
                std::mem::take(&mut *kept.lock().unwrap()).into_iter().map(Arc::new).collect();
            let seconds =
                distinct(&moments).into_iter().skip(index / stride % stride).step_by(stride);
            let crashes =
                seconds.flat_map(|again| LOSSES.map(|loss| (again, loss))).map(|(again, loss)| {
                    let (house, snapshot, bytes) = (
                        house.clone(),
                        moments[again].clone(),
                        surviving(&once.written.bytes, &moments[again], loss),
                    );
                    let first = format!("first at {at}, {first_loss:?}");
                    async move {
                        let moment =
                            format!("{first}; then {}, {loss:?}", describe(again, &snapshot));
                        let came =
                            house.recover(&snapshot.simulator.fork(), &bytes, false, |_| {}).await;
                        judge(&house, &came, &after(&[first_loss, loss]), &moment).await;
                        is_fixed(&came, &moment);
                    }
                });
            told += at_once(crashes).await;
        }
    }
    println!(
        "report: {told} pairs of crashes, {} moments first, every {stride}th, in {:.0} s",
        firsts.len(),
        began.elapsed().as_secs_f64()
    );
}

#[tokio::test]
async fn a_run_syncs_at_most_twelve_times() {
    for config in [&[][..], SHORT, &["mode=all", "deletions-at-once=1"]] {
        let house = House::new(Incident::Playbook, config).await;
        let came = house.run(&house.before.fork(), |_| {}).await;
        assert!((3..=12).contains(&came.written.syncs), "{config:?}: {} syncs", came.written.syncs);
    }
}
