//! What stands between a process and its world: every line that it writes and every request that it sends passes here, so
//! that it can be seen at each moment, and die there.

use crate::fault::{Answer, Fault};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use salve_core::Millis;
use salve_run::{Clock, Disk};
use salve_simulator::Simulator;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tower::Service;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the run file holds, and how much of it survives the machine.
#[derive(Clone, Debug, Default)]
pub struct Written {
    pub bytes: Vec<u8>,
    pub synced: usize,
    pub syncs: usize,
}

/// A moment at which a process can die: just before this.
#[derive(Clone, Debug)]
pub enum Moment {
    /// Before a line is written.
    Line,
    /// Before the lines are brought to the disk.
    Sync,
    /// Before a request is sent.
    Request(Box<Request<Bytes>>),
}

/// The world at a moment.
#[derive(Clone)]
pub struct Snapshot {
    pub simulator: Simulator,
    /// How much of the run file was written, and how much of that was on the disk.
    pub written: usize,
    pub synced: usize,
    pub moment: Moment,
}

/// Sees each moment, before it happens.
pub type Observer = Box<dyn FnMut(&Moment, &Simulator, &Written) + Send>;

/// What one process passes through. Clones are of the same process.
#[derive(Clone)]
pub struct Gate {
    simulator: Simulator,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    written: Written,
    observer: Option<Observer>,
    /// A request of a process that died, which arrives after so many of this one.
    twin: Option<(usize, Request<Bytes>)>,
    /// What strikes a request of this process, by its number.
    fault: Option<(usize, Fault)>,
    requests: usize,
}

impl Gate {
    /// A process on this cluster, whose run file holds `bytes`.
    pub fn new(simulator: &Simulator, bytes: Vec<u8>) -> Self {
        let synced = bytes.len();
        let written = Written { bytes, synced, syncs: 0 };
        Self {
            simulator: simulator.clone(),
            inner: Arc::new(Mutex::new(Inner {
                written,
                observer: None,
                twin: None,
                fault: None,
                requests: 0,
            })),
        }
    }

    /// The same, with somebody who sees each moment from now on.
    pub fn observe(&self, observer: Observer) {
        self.inner.lock().unwrap().observer = Some(observer);
    }

    /// Has a request of a dead process arrive after `requests` of this one.
    pub fn expect_twin(&self, requests: usize, twin: Request<Bytes>) {
        let mut inner = self.inner.lock().unwrap();
        inner.twin = Some((inner.requests + requests, twin));
    }

    /// Has it arrive now, if it is still on its way.
    pub async fn deliver_twin(&self) {
        let twin = self.inner.lock().unwrap().twin.take();
        if let Some((_, twin)) = twin {
            drop(self.simulator.clone().call(twin.map(Full::new)).await);
        }
    }

    /// Has a fault strike the request of this number, counted from one from now on.
    pub fn strike(&self, number: usize, fault: Fault) {
        let mut inner = self.inner.lock().unwrap();
        inner.fault = Some((inner.requests + number, fault));
    }

    /// The run file.
    pub fn written(&self) -> Written {
        self.inner.lock().unwrap().written.clone()
    }

    fn pass(&self, moment: &Moment) {
        let mut inner = self.inner.lock().unwrap();
        let Inner { written, observer, .. } = &mut *inner;
        if let Some(observer) = observer {
            observer(moment, &self.simulator, written);
        }
    }
}

impl Disk for Gate {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pass(&Moment::Line);
        self.inner.lock().unwrap().written.bytes.extend_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.pass(&Moment::Sync);
        let mut inner = self.inner.lock().unwrap();
        inner.written.synced = inner.written.bytes.len();
        inner.written.syncs += 1;
        Ok(())
    }
}

impl<B> Service<Request<B>> for Gate
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Answer>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let gate = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            let request = Request::from_parts(parts, body);
            let (due, fault) = {
                let mut inner = gate.inner.lock().unwrap();
                inner.requests += 1;
                let requests = inner.requests;
                let fault =
                    inner.fault.filter(|(number, _)| *number == requests).map(|(_, fault)| fault);
                (inner.twin.as_ref().is_some_and(|(after, _)| requests > *after), fault)
            };
            if due {
                gate.deliver_twin().await;
            }
            gate.pass(&Moment::Request(Box::new(request.clone())));
            let answer =
                |request: Request<Bytes>| gate.simulator.clone().call(request.map(Full::new));
            match fault {
                None => Ok(answer(request).await?.map(Answer::Whole)),
                Some(fault) => fault.strike(request, answer, &gate.simulator).await,
            }
        })
    }
}

/// Virtual time as a run's clock.
pub struct Virtual(pub salve_simulator::Clock);

impl Clock for Virtual {
    fn now(&self) -> Millis {
        u64::try_from(self.0.now().as_millisecond()).unwrap()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let clock = self.0.clone();
        Box::pin(async move { clock.sleep(duration).await })
    }
}
