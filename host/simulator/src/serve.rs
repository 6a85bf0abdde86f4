//! The simulated cluster on a socket, so that kubectl can look at it. Here virtual time follows the wall clock.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use crate::simulator::Simulator;

/// How often virtual time catches up with the wall clock.
const TICK: Duration = Duration::from_millis(50);

/// Serves `simulator` over HTTP/1.1 until the future is dropped; virtual time runs `speed` times as fast as the wall's.
///
/// # Errors
/// When the listener fails.
pub async fn serve(simulator: Simulator, listener: TcpListener, speed: f64) -> io::Result<()> {
    let (clock, service) = (simulator.clock(), TowerToHyperService::new(simulator));
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
