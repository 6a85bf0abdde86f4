//! The simulated cluster on a socket, so that kubectl can look at it. Here virtual time follows the wall clock, and whoever
//! cannot wait moves it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::Service;

use crate::body::Body;
use crate::simulator::Simulator;

/// How often virtual time catches up with the wall clock.
const TICK: Duration = Duration::from_millis(50);

/// Where a request moves virtual time by so many milliseconds: `/simulated/advance?1500`.
pub(crate) const ADVANCE: &str = "/simulated/advance";

/// Serves `simulator` over HTTP/1.1 until the future is dropped; virtual time runs `speed` times as fast as the wall's. With
/// a speed of 0 only requests move it, and those to `/simulated/advance?MILLISECONDS`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(simulator: Simulator, listener: TcpListener, speed: f64) -> io::Result<()> {
    let (clock, service) = (simulator.clock(), TowerToHyperService::new(Served(simulator)));
    let mut ticks = tokio::time::interval(TICK);
    let mut last = Instant::now();
    // Dropped with this future, and the connections with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let service = service.clone();
                connections.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new()).http1_only();
                    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                        tracing::debug!(%error, "connection ended");
                    }
                });
            }
            _ = ticks.tick() => {
                let now = Instant::now();
                clock.advance(now.duration_since(last).mul_f64(speed.clamp(0.0, 1e6)));
                last = now;
                while connections.try_join_next().is_some() {}
            }
        }
    }
}

/// The API server, and beside it the door to its time.
#[derive(Clone)]
struct Served(Simulator);

impl<B> Service<Request<B>> for Served
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<B>>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.uri().path() != ADVANCE {
            return self.0.call(request);
        }
        let milliseconds = request.uri().query().and_then(|query| query.parse().ok());
        let answer = self.0.advanced(milliseconds.map(Duration::from_millis));
        Box::pin(async move { Ok(answer) })
    }
}

/// The kubeconfig of a cluster that is served on `address`.
pub fn kubeconfig(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: salve-simulator
clusters:
- name: salve-simulator
  cluster: {{server: \"http://{address}\"}}
contexts:
- name: salve-simulator
  context: {{cluster: salve-simulator, user: simulated-admin, namespace: default}}
users:
- name: simulated-admin
  user: {{}}
"
    )
}
