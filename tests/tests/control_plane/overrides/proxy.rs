//! A proxy before the API server that stops at one request, so that the test can kill its sender.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// When to stop at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The API server does not get it.
    Before,
    /// The sender does not get the response.
    After,
}

struct State {
    client: kube::Client,
    seen: AtomicUsize,
    /// The number of the request to stop at.
    stop: Mutex<Option<(usize, Stop)>>,
    stopped: Notify,
}

/// Dropping it ends the server.
pub struct Proxy {
    state: Arc<State>,
    server: JoinHandle<()>,
    port: u16,
}

impl Proxy {
    /// Forwards requests to the API server with the credentials of a kubeconfig.
    pub async fn start(kubeconfig: &Path) -> Result<Proxy> {
        let state = Arc::new(State {
            client: salve_tests::control_plane::client(kubeconfig).await?,
            seen: AtomicUsize::new(0),
            stop: Mutex::new(None),
            stopped: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let server = tokio::spawn(serve(listener, state.clone()));
        Ok(Proxy { state, server, port })
    }

    /// Writes a kubeconfig for the proxy.
    pub fn write_kubeconfig(&self, file: &Path) -> Result<()> {
        let server = format!("http://127.0.0.1:{}", self.port);
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "control-plane",
            "clusters": [{"name": "control-plane", "cluster": {"server": server}}],
            "users": [{"name": "proxied", "user": {}}],
            "contexts": [{"name": "control-plane",
                "context": {"cluster": "control-plane", "user": "proxied"}}],
        });
        std::fs::write(file, config.to_string()).context("failed to write the kubeconfig")
    }

    /// Counts requests from 0 again, and stops at one of them, if any.
    pub fn restart(&self, stop: Option<(usize, Stop)>) {
        *self.state.stop.lock().expect("no test panics while it holds the lock") = stop;
        self.state.seen.store(0, Ordering::SeqCst);
    }

    /// Returns the number of requests since the restart.
    pub fn seen(&self) -> usize {
        self.state.seen.load(Ordering::SeqCst)
    }

    /// Waits until it stops at a request.
    pub async fn stopped(&self) {
        self.state.stopped.notified().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(forward(request, &state).await) }
            });
            // The test kills the client, which ends the connection with an error.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn forward(request: Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    let n = state.seen.fetch_add(1, Ordering::SeqCst);
    let stop = *state.stop.lock().expect("no test panics while it holds the lock");
    let stop = stop.filter(|(at, _)| *at == n).map(|(_, when)| when);
    if stop == Some(Stop::Before) {
        state.stopped.notify_one();
        return std::future::pending().await;
    }
    let response = send(request, &state.client).await.unwrap_or_else(|error| {
        let mut response = Response::new(Full::new(Bytes::from(format!("{error:#}"))));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    });
    if stop == Some(Stop::After) {
        state.stopped.notify_one();
        return std::future::pending().await;
    }
    response
}

async fn send(request: Request<Incoming>, client: &kube::Client) -> Result<Response<Full<Bytes>>> {
    let (mut parts, body) = request.into_parts();
    for name in [header::HOST, header::AUTHORIZATION, header::ACCEPT_ENCODING, header::CONNECTION] {
        parts.headers.remove(name);
    }
    let body = body.collect().await?.to_bytes();
    let request = Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let (mut parts, body) = client.send(request).await?.into_parts();
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Full::new(body.collect().await?.to_bytes())))
}
