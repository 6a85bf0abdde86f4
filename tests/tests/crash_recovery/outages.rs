//! Outages, interrupts, and clocks that jump, at each request: what the run changed is released, or
//! the result says what is not, and a recovery releases it.

use crate::fault::Fault;
use crate::fixture::{EndState, Fixture, SHORTEST, run_on_threads, stride};
use crate::interceptor::{Event, Interceptor, Outage};
use crate::oracle::{Allowed, check};
use salve_core::report::Verdict;
use salve_simulator::Incident;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The default stride between the requests that are tried with a given condition.
const STRIDE: usize = 131;

const HOUR: Duration = Duration::from_secs(3600);
const SILENT: Fault = Fault::Hang { applied: false };

const fn rejected(code: u16) -> Fault {
    Fault::Rejected { code, retry_after: None }
}

/// What happens from a request on.
#[derive(Clone, Copy, Debug)]
struct Condition {
    event: Event,
    outage: Option<Outage>,
    /// The API server never accepts a release again.
    is_final: bool,
}

const fn event(event: Event) -> Condition {
    Condition { event, outage: None, is_final: false }
}

const fn outage(fault: Fault, seconds: u64) -> Condition {
    let lasts = Some(Duration::from_secs(seconds));
    let outage = Some(Outage { fault, lasts });
    Condition { event: Event::None, outage, is_final: false }
}

const fn for_good(fault: Fault, event: Event) -> Condition {
    Condition { event, outage: Some(Outage { fault, lasts: None }), is_final: true }
}

const CONDITIONS: &[Condition] = &[
    event(Event::Interrupts { times: 1, after: Duration::ZERO }),
    event(Event::Interrupts { times: 2, after: Duration::ZERO }),
    event(Event::ClockAdvances(HOUR)),
    event(Event::ClockGoesBack(HOUR)),
    event(Event::ProcessStands(HOUR)),
    outage(SILENT, 120),
    outage(SILENT, 600),
    outage(rejected(401), 120),
    outage(rejected(403), 120),
    outage(Fault::Rejected { code: 429, retry_after: Some(25) }, 120),
    for_good(rejected(401), Event::None),
    for_good(rejected(403), Event::None),
    for_good(SILENT, Event::Interrupts { times: 2, after: Duration::from_secs(900) }),
];

/// Returns the number of requests of an undisturbed run.
async fn requests(fixture: &Fixture) -> usize {
    let interceptors: Arc<Mutex<Vec<Interceptor>>> = Arc::default();
    let kept = interceptors.clone();
    let keep = |interceptor: &Interceptor| kept.lock().unwrap().push(interceptor.clone());
    fixture.run(&fixture.initial.fork(), keep).await;
    let interceptors = interceptors.lock().unwrap();
    interceptors[0].requests()
}

#[tokio::test]
async fn whatever_happens_from_a_request_on_everything_is_released_or_reported() {
    let fixture = Arc::new(Fixture::new(Incident::Playbook, SHORTEST).await);
    let requests = requests(&fixture).await;
    let (began, stride) = (Instant::now(), stride(STRIDE));
    let conditions = || CONDITIONS.iter().enumerate();
    let all = (1..=requests).flat_map(|n| conditions().map(move |(kind, c)| (n, kind, *c)));
    let sampled = |(n, kind, _): &(usize, usize, Condition)| (n + kind * 11).is_multiple_of(stride);
    let cases: Vec<_> = all.filter(sampled).map(|(n, _, condition)| (n, condition)).collect();
    let count = run_on_threads(cases, {
        let fixture = fixture.clone();
        move |(number, condition)| {
            let fixture = fixture.clone();
            async move { check_condition(&fixture, number, condition).await }
        }
    });
    println!(
        "report: {count} outages, interrupts, and clock jumps, {} kinds, at {requests} requests in \
         {:.0} s",
        CONDITIONS.len(),
        began.elapsed().as_secs_f64()
    );
}

async fn check_condition(fixture: &Fixture, number: usize, condition: Condition) {
    let context = format!("{condition:?} from request {number} on");
    let end = fixture
        .run(&fixture.initial.fork(), |interceptor| {
            interceptor.begin_at(number, condition.event, condition.outage);
        })
        .await;
    check(fixture, &end, &Allowed::default(), &context).await;
    let result = &end.finished.as_ref().unwrap().result;
    if result.open.is_empty() {
        return;
    }
    assert!(condition.is_final, "{context}: {}", result.summary);
    assert_eq!((result.verdict, result.exit_code()), (Verdict::ActionRequired, 5), "{context}");
    let EndState { simulator, disk, .. } = &end;
    let recovered = fixture.recover(simulator, &disk.bytes, true, |_| {}).await;
    check(fixture, &recovered, &Allowed::default(), &format!("{context}, recovered")).await;
    let result = &recovered.finished.as_ref().unwrap().result;
    assert!(result.open.is_empty(), "{context}, recovered: {}", result.summary);
}
