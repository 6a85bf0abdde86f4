//! Serves the simulated cluster on a socket, for kubectl and other processes. Virtual time follows
//! the wall clock, and a request can advance it.

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

/// The interval at which virtual time catches up with the wall clock.
const TICK: Duration = Duration::from_millis(50);

/// The path that advances virtual time by a number of milliseconds: `/simulated/advance?1500`.
pub(crate) const ADVANCE_PATH: &str = "/simulated/advance";

/// Serves `simulator` over HTTP/1.1 until the future is dropped. Virtual time runs `speed` times as
/// fast as the wall clock. With a speed of 0, only requests advance it, in particular requests to
/// `/simulated/advance?MILLISECONDS`.
///
/// # Errors
/// Returns an error if the listener fails.
pub async fn serve(simulator: Simulator, listener: TcpListener, speed: f64) -> io::Result<()> {
    let (clock, service) = (simulator.clock(), TowerToHyperService::new(Server(simulator)));
    let mut ticks = tokio::time::interval(TICK);
    let mut last = Instant::now();
    // Dropping this future also closes the connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let service = service.clone();
                connections.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new()).http1_only();
                    let served = server.serve_connection(TokioIo::new(stream), service).await;
                    if let Err(error) = served {
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

/// The API server and the path that advances its clock.
#[derive(Clone)]
struct Server(Simulator);

impl<B> Service<Request<B>> for Server
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
        if request.uri().path() != ADVANCE_PATH {
            return self.0.call(request);
        }
        let milliseconds = request.uri().query().and_then(|query| query.parse().ok());
        let response = self.0.handle_advance(milliseconds.map(Duration::from_millis));
        Box::pin(async move { Ok(response) })
    }
}

/// Returns the kubeconfig for a cluster served on `address`.
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
