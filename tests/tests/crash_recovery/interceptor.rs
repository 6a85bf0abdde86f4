//! Intercepts every append, sync, and request of a process, so that a test can take a snapshot,
//! inject a fault, or interfere just before it.

use crate::fault::{Fault, ResponseBody};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use salve_core::Millis;
use salve_run::{Clock, Disk, Stop};
use salve_simulator::Simulator;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tower::Service;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The run file on a simulated disk.
#[derive(Clone, Debug, Default)]
pub struct DiskState {
    pub bytes: Vec<u8>,
    /// Length of the prefix of `bytes` that survives a machine crash.
    pub synced: usize,
    /// Number of syncs so far.
    pub syncs: usize,
}

/// An operation of a process. The process can crash just before it.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Appends a line to the run file.
    Append,
    /// Syncs the run file to the disk.
    Sync,
    /// Sends a request to the API server.
    Request(Box<Request<Bytes>>),
}

/// The cluster and the disk just before an operation.
#[derive(Clone)]
pub struct Snapshot {
    pub simulator: Simulator,
    /// Length of the run file in bytes.
    pub written: usize,
    /// Length of its synced prefix in bytes.
    pub synced: usize,
    pub operation: Operation,
}

/// Called before each operation.
pub type OnOperation = Box<dyn FnMut(&Operation, &Simulator, &DiskState) + Send>;

/// What happens to a process when it sends a request.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    None,
    /// The user asks to stop, this often at once, after this time.
    Interrupts {
        times: u8,
        after: Duration,
    },
    /// The cluster's clock jumps.
    ClockAdvances(Duration),
    ClockGoesBack(Duration),
    /// Nothing runs for this time, as after SIGSTOP.
    ProcessStands(Duration),
}

/// All requests meet this fault, for this time or for good.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    pub fault: Fault,
    /// By the local clock and the cluster's together: one of them stands still.
    pub lasts: Option<Duration>,
}

/// The disk and the API server of one process. Clones belong to the same process.
#[derive(Clone)]
pub struct Interceptor {
    simulator: Simulator,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    disk: DiskState,
    on_operation: Option<OnOperation>,
    /// A request of a crashed process that arrives once this process has sent this many requests.
    late_request: Option<(usize, Request<Bytes>)>,
    /// A fault of the request with this number.
    fault: Option<(usize, Fault)>,
    requests: usize,
    /// What begins with the request of this number.
    begins_at: Option<(usize, Event, Option<Outage>)>,
    /// The outage in progress, and when it began by the local clock and the cluster's.
    outage: Option<(Outage, tokio::time::Instant, Millis)>,
    /// How far the cluster's clock went back, in milliseconds.
    clock_behind: Millis,
    stop: Stop,
}

impl Interceptor {
    /// Creates the interceptor of a process on this cluster, whose run file contains `bytes`.
    pub fn new(simulator: &Simulator, bytes: Vec<u8>) -> Self {
        let synced = bytes.len();
        let disk = DiskState { bytes, synced, syncs: 0 };
        Self {
            simulator: simulator.clone(),
            inner: Arc::new(Mutex::new(Inner {
                disk,
                on_operation: None,
                late_request: None,
                fault: None,
                requests: 0,
                begins_at: None,
                outage: None,
                clock_behind: 0,
                stop: Stop::default(),
            })),
        }
    }

    /// Returns the number of requests so far.
    pub fn requests(&self) -> usize {
        self.inner.lock().unwrap().requests
    }

    /// Returns what stops the run of this process.
    pub fn stop(&self) -> Stop {
        self.inner.lock().unwrap().stop.clone()
    }

    /// Begins an event and an outage with the request of this number, counted from one from now on.
    pub fn begin_at(&self, number: usize, event: Event, outage: Option<Outage>) {
        let mut inner = self.inner.lock().unwrap();
        inner.begins_at = Some((inner.requests + number, event, outage));
    }

    /// Begins what is due with the latest request. Returns its fault.
    async fn begin(&self) -> Option<Fault> {
        let event = {
            let mut inner = self.inner.lock().unwrap();
            let requests = inner.requests;
            inner.begins_at.take_if(|(number, ..)| *number <= requests).map(|(_, event, outage)| {
                let (local, cluster) = (tokio::time::Instant::now(), self.now());
                inner.outage = outage.map(|outage| (outage, local, cluster));
                (event, inner.stop.clone())
            })
        };
        match event {
            None | Some((Event::None, _)) => {}
            Some((Event::Interrupts { times, after }, stop)) if after.is_zero() => {
                (0..times).for_each(|_| stop.request());
            }
            Some((Event::Interrupts { times, after }, stop)) => {
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    (0..times).for_each(|_| stop.request());
                });
            }
            Some((Event::ClockAdvances(duration), _)) => self.simulator.clock().advance(duration),
            Some((Event::ClockGoesBack(duration), _)) => {
                self.inner.lock().unwrap().clock_behind = duration.as_millis() as Millis;
            }
            Some((Event::ProcessStands(duration), _)) => {
                self.simulator.clock().advance(duration);
                tokio::time::advance(duration).await;
            }
        }
        let (outage, local, cluster) = self.inner.lock().unwrap().outage?;
        let lasted = local.elapsed() + Duration::from_millis(self.now().saturating_sub(cluster));
        outage.lasts.is_none_or(|lasts| lasted < lasts).then_some(outage.fault)
    }

    fn now(&self) -> Millis {
        u64::try_from(self.simulator.clock().now().as_millisecond()).unwrap()
    }

    /// Calls `on_operation` before each operation from now on.
    pub fn observe(&self, on_operation: OnOperation) {
        self.inner.lock().unwrap().on_operation = Some(on_operation);
    }

    /// Delivers a request of a crashed process after `requests` more requests of this process.
    pub fn deliver_after(&self, requests: usize, late_request: Request<Bytes>) {
        let mut inner = self.inner.lock().unwrap();
        inner.late_request = Some((inner.requests + requests, late_request));
    }

    /// Delivers the late request now if it has not arrived yet.
    pub async fn deliver_late_request(&self) {
        let late_request = self.inner.lock().unwrap().late_request.take();
        if let Some((_, request)) = late_request {
            drop(self.simulator.clone().call(request.map(Full::new)).await);
        }
    }

    /// Injects a fault into the request with this number, counted from one from now on.
    pub fn inject(&self, number: usize, fault: Fault) {
        let mut inner = self.inner.lock().unwrap();
        inner.fault = Some((inner.requests + number, fault));
    }

    /// Returns the current state of the disk.
    pub fn disk(&self) -> DiskState {
        self.inner.lock().unwrap().disk.clone()
    }

    fn before(&self, operation: &Operation) {
        let mut inner = self.inner.lock().unwrap();
        let Inner { disk, on_operation, .. } = &mut *inner;
        if let Some(on_operation) = on_operation {
            on_operation(operation, &self.simulator, disk);
        }
    }
}

impl Disk for Interceptor {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.before(&Operation::Append);
        self.inner.lock().unwrap().disk.bytes.extend_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.before(&Operation::Sync);
        let mut inner = self.inner.lock().unwrap();
        inner.disk.synced = inner.disk.bytes.len();
        inner.disk.syncs += 1;
        Ok(())
    }
}

impl<B> Service<Request<B>> for Interceptor
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<ResponseBody>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let interceptor = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            let request = Request::from_parts(parts, body);
            let (late_request_due, fault) = {
                let mut inner = interceptor.inner.lock().unwrap();
                inner.requests += 1;
                let requests = inner.requests;
                let fault =
                    inner.fault.filter(|(number, _)| *number == requests).map(|(_, fault)| fault);
                (inner.late_request.as_ref().is_some_and(|(after, _)| requests > *after), fault)
            };
            if late_request_due {
                interceptor.deliver_late_request().await;
            }
            let fault = fault.or(interceptor.begin().await);
            interceptor.before(&Operation::Request(Box::new(request.clone())));
            let send = |request: Request<Bytes>| {
                interceptor.simulator.clone().call(request.map(Full::new))
            };
            match fault {
                None => Ok(send(request).await?.map(ResponseBody::Complete)),
                Some(fault) => fault.inject(request, send, &interceptor.simulator).await,
            }
        })
    }
}

/// The simulator's virtual time as a run's clock, which may go back.
impl Clock for Interceptor {
    fn now(&self) -> Millis {
        let behind = self.inner.lock().unwrap().clock_behind;
        Interceptor::now(self).saturating_sub(behind)
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let clock = self.simulator.clock();
        Box::pin(async move { clock.sleep(duration).await })
    }
}
