//! A client of a simulated cluster in another process. It learns the virtual time from responses.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;

use crate::serve::ADVANCE_PATH;
use crate::service::NOW_HEADER;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A handle on a simulated cluster in another process. Clones share it.
#[derive(Debug, Clone)]
pub struct Remote {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    now: Arc<AtomicI64>,
}

impl Remote {
    /// Creates a handle on the cluster served on `address`.
    pub fn new(address: SocketAddr) -> Self {
        Remote {
            address,
            client: Client::builder(TokioExecutor::new()).build_http(),
            now: Arc::new(AtomicI64::new(0)),
        }
    }

    /// Returns the virtual time of the latest response, or the epoch before the first one.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Sleeps in virtual time. Returns immediately if the cluster is gone: the next request will
    /// fail.
    pub async fn sleep(&self, duration: Duration) {
        let uri = Uri::try_from(format!(
            "http://{}{ADVANCE_PATH}?{}",
            self.address,
            duration.as_millis()
        ));
        let Ok(uri) = uri else { return };
        if let Ok(response) = self.client.get(uri).await {
            self.update_time(response.headers());
        }
    }

    fn update_time(&self, headers: &HeaderMap) {
        let now = headers.get(NOW_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(now) = now {
            self.now.fetch_max(now, Ordering::Relaxed);
        }
    }
}

impl<B> tower::Service<Request<B>> for Remote
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let remote = self.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            parts.uri = Uri::try_from(format!("http://{}{path}", remote.address))?;
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            let response =
                remote.client.request(Request::from_parts(parts, Full::new(body))).await?;
            remote.update_time(response.headers());
            Ok(response)
        })
    }
}
