//! Acts as a ServiceAccount with short-lived tokens. The kubeconfig's credentials are only used to
//! request the tokens.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>

use crate::cluster::Cluster;
use crate::object::instant;
use crate::send::Session;
use futures::future::BoxFuture;
use http::Request;
use http::header::{AUTHORIZATION, HeaderValue};
use kube::client::Body;
use salve_core::capability::host::{Issued, RequestToken};
use salve_core::capability::{TypedCall, host};
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};
use tower::{Layer, Service};

/// Requested lifetime of a token. One hour is the API server's default.
pub(crate) const TOKEN_SECONDS: u32 = 3600;
/// Delay before a failed renewal is retried.
const RENEWAL_RETRY: Duration = Duration::from_secs(30);

/// Requests a token. Returns the `Authorization` header, and what may be recorded about the token.
pub(crate) async fn token(
    session: &Session,
    call: &RequestToken,
) -> Result<(HeaderValue, Issued), Error> {
    let response = session.request_token(&call.namespace, &call.name, call.seconds).await?;
    let token =
        response.pointer("/status/token").and_then(|token| token.as_str()).unwrap_or_default();
    let header =
        HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| !token.is_empty());
    let mut header =
        header.ok_or_else(|| Error::Unavailable("the API server returned no token".into()))?;
    header.set_sensitive(true);
    let until = instant(&response, "/status/expirationTimestamp");
    Ok((header, Issued { until }))
}

/// Tokens of one ServiceAccount. Requests trigger a renewal after half of a token's lifetime.
#[derive(Clone)]
pub(crate) struct TokenSource {
    issuer: Cluster,
    call: RequestToken,
    current: Arc<Mutex<CurrentToken>>,
    /// Held during a renewal, so that concurrent requests cause only one.
    renewal: Arc<tokio::sync::Mutex<()>>,
    /// The wall clock, except in tests.
    wall: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

struct CurrentToken {
    header: HeaderValue,
    /// Counts the tokens, from one.
    number: u64,
    renew: DueTime,
}

/// A time by the monotonic and by the wall clock, whichever comes first: the one stands still while
/// the machine sleeps, the other can be set back.
struct DueTime {
    monotonic: Instant,
    wall: SystemTime,
}

impl TokenSource {
    /// Requests the first token with the credentials of `issuer`.
    ///
    /// # Errors
    /// The credentials may not request it, or the ServiceAccount does not exist.
    pub(crate) async fn request(
        issuer: Cluster,
        namespace: &str,
        name: &str,
    ) -> Result<Self, Error> {
        Self::with_wall_clock(issuer, namespace, name, Arc::new(SystemTime::now)).await
    }

    async fn with_wall_clock(
        issuer: Cluster,
        namespace: &str,
        name: &str,
        wall: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    ) -> Result<Self, Error> {
        let call =
            RequestToken { namespace: namespace.into(), name: name.into(), seconds: TOKEN_SECONDS };
        let (header, issued) = token(&session(&issuer, &call), &call).await?;
        let renew = DueTime::after(renewal_interval(&issuer, &issued), wall());
        let current = Arc::new(Mutex::new(CurrentToken { header, number: 1, renew }));
        Ok(Self { issuer, call, current, renewal: Arc::default(), wall })
    }

    /// Returns the number of the current token.
    pub(crate) fn number(&self) -> u64 {
        self.lock().number
    }

    /// Requests a new token instead of the one with this number, which was rejected. Returns true
    /// if there is a newer one.
    pub(crate) fn replace(&self, number: u64) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let _one_at_a_time = self.renewal.lock().await;
            if self.number() != number {
                return true;
            }
            match token(&session(&self.issuer, &self.call), &self.call).await {
                Ok((header, issued)) => {
                    let interval = renewal_interval(&self.issuer, &issued);
                    let renew = DueTime::after(interval, (self.wall)());
                    *self.lock() = CurrentToken { header, number: number + 1, renew };
                    true
                }
                Err(error) => {
                    tracing::warn!(
                        account = self.call.name,
                        %error,
                        "failed to renew the token; using the old one until it expires"
                    );
                    false
                }
            }
        })
    }

    /// Returns the current `Authorization` header, and starts a renewal if it is due.
    fn header(&self) -> HeaderValue {
        let mut current = self.lock();
        let now = (self.wall)();
        if current.renew.has_come(now) {
            current.renew = DueTime::after(RENEWAL_RETRY, now);
            let (tokens, number) = (self.clone(), current.number);
            tokio::spawn(async move { tokens.replace(number).await });
        }
        current.header.clone()
    }

    fn lock(&self) -> MutexGuard<'_, CurrentToken> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DueTime {
    fn after(interval: Duration, wall: SystemTime) -> Self {
        Self { monotonic: Instant::now() + interval, wall: wall + interval }
    }

    fn has_come(&self, wall: SystemTime) -> bool {
        // mutant token-renewed-by-uptime: || self.wall <= wall ~>
        self.monotonic <= Instant::now() || self.wall <= wall
    }
}

/// Returns half of the token's remaining lifetime, which the API server may have shortened.
fn renewal_interval(issuer: &Cluster, issued: &Issued) -> Duration {
    let requested = u64::from(TOKEN_SECONDS) * 1000;
    let remaining =
        issued.until.map_or(requested, |until| until.saturating_sub(issuer.clock().now()));
    Duration::from_millis(remaining.min(requested) / 2).max(RENEWAL_RETRY)
}

fn session(issuer: &Cluster, call: &host::RequestToken) -> Session {
    Session::new(issuer, &Footprint::new(&call.clone().effect(), vec![]))
}

impl<S> Layer<S> for TokenSource {
    type Service = BearerAuth<S>;
    fn layer(&self, inner: S) -> BearerAuth<S> {
        BearerAuth { inner, tokens: self.clone() }
    }
}

/// A service that adds the current token to each request.
#[derive(Clone)]
pub(crate) struct BearerAuth<S> {
    inner: S,
    tokens: TokenSource,
}

impl<S> Service<Request<Body>> for BearerAuth<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(AUTHORIZATION, self.tokens.header());
        Box::pin(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::EgressGuard;
    use crate::resource::PODS;
    use http::Response;
    use http_body_util::Full;
    use salve_core::capability::query_pods::ListPods;
    use salve_core::capability::restart_deployment::{Restart, Strategy};
    use salve_core::capability::types::ObjectRef;
    use salve_core::glob::Glob;
    use salve_run::Clock;
    use serde_json::{Value, json};
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    /// 2026-08-20T10:00:00Z
    const START: u64 = 1_787_220_000_000;

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> salve_core::Millis {
            START
        }
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    /// An API server that issues tokens `t1`, `t2`, and so on.
    #[derive(Default)]
    struct Server {
        issued: AtomicU64,
        /// Tokens up to this number are rejected.
        rejected: AtomicU64,
        requests: AtomicU64,
        /// Seconds by which the wall clock is ahead.
        ahead: AtomicU64,
        lifetime_seconds: AtomicU64,
    }

    impl Server {
        fn issue(&self) -> Value {
            let number = self.issued.fetch_add(1, SeqCst) + 1;
            let until = crate::time::seconds(START + self.lifetime_seconds.load(SeqCst) * 1000);
            json!({"kind": "TokenRequest", "status": {"token": format!("t{number}"),
                "expirationTimestamp": until}})
        }

        fn respond(&self, request: &Request<Body>) -> (u16, Value) {
            self.requests.fetch_add(1, SeqCst);
            let token = request.headers()[AUTHORIZATION].to_str().unwrap();
            let number: u64 = token.strip_prefix("Bearer t").unwrap().parse().unwrap();
            if number <= self.rejected.load(SeqCst) {
                (401, json!({"kind": "Status", "message": "Unauthorized"}))
            } else {
                (200, json!({"items": []}))
            }
        }
    }

    fn service<F>(
        respond: F,
    ) -> impl Service<
        Request<Body>,
        Response = Response<Full<bytes::Bytes>>,
        Error = std::io::Error,
        Future: Send,
    > + Send
    + 'static
    where
        F: Fn(&Request<Body>) -> (u16, Value) + Send + 'static,
    {
        tower::service_fn(move |request: Request<Body>| {
            let (code, body) = respond(&request);
            let body = Full::new(bytes::Bytes::from(body.to_string()));
            std::future::ready(Ok(Response::builder().status(code).body(body).unwrap()))
        })
    }

    /// Connects with the first token, which is valid for an hour.
    async fn connect(lifetime_seconds: u64) -> (Arc<Server>, Cluster) {
        let server = Arc::new(Server::default());
        server.lifetime_seconds.store(lifetime_seconds, SeqCst);
        let clock = Arc::new(Stopped);
        let (issuing, wall) = (server.clone(), server.clone());
        let issuer =
            Cluster::over(service(move |_| (201, issuing.issue())), clock.clone(), "issuer");
        let wall = move || {
            SystemTime::UNIX_EPOCH + Duration::from_secs(START / 1000 + wall.ahead.load(SeqCst))
        };
        let tokens =
            TokenSource::with_wall_clock(issuer, "ns", "sa", Arc::new(wall)).await.unwrap();
        let answering = server.clone();
        let inner = tokens.layer(service(move |request| answering.respond(request)));
        let client = kube::Client::new(EgressGuard::new(None).layer(inner), "default");
        (server, Cluster::new(client, clock, Some(tokens), String::new(), String::new()))
    }

    async fn list(cluster: &Cluster) -> Result<(), Error> {
        let call = ListPods { namespaces: vec!["media".into()] };
        let session = Session::new(cluster, &Footprint::new(&call.effect(), vec![]));
        session.list(&PODS, Some("media"), crate::send::ListFilter::default()).await?;
        Ok(())
    }

    fn counts(server: &Server) -> (u64, u64) {
        (server.issued.load(SeqCst), server.requests.load(SeqCst))
    }

    #[tokio::test]
    async fn a_rejected_token_is_replaced_once_and_the_request_repeated_once() {
        let (server, cluster) = connect(3600).await;
        list(&cluster).await.unwrap();
        assert_eq!(counts(&server), (1, 1));
        server.rejected.store(1, SeqCst);
        let (a, b, c) = tokio::join!(list(&cluster), list(&cluster), list(&cluster));
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(server.issued.load(SeqCst), 2, "concurrent requests share a new token");

        let (server, cluster) = connect(3600).await;
        server.rejected.store(9, SeqCst);
        let error = list(&cluster).await.unwrap_err();
        assert!(error.text().contains("401"), "{error}");
        assert_eq!(counts(&server), (2, 2));
    }

    #[tokio::test]
    async fn a_rejected_write_is_repeated_with_a_new_token() {
        let (server, cluster) = connect(3600).await;
        server.rejected.store(1, SeqCst);
        let call = Restart {
            target: ObjectRef::new("media", "plex"),
            uid: "u".into(),
            strategy: Strategy::ReplacePods,
        };
        let session = Session::new(&cluster, &Footprint::new(&call.effect(), vec![Glob::every()]));
        let deleted = session.delete(&PODS, "media", "plex-0", "u", None).await;
        assert!(deleted.is_ok(), "{deleted:?}");
        assert_eq!(counts(&server), (2, 2));
    }

    #[tokio::test]
    async fn a_token_is_renewed_after_half_of_its_lifetime_by_the_wall_clock() {
        for (lifetime, ahead, is_renewed) in
            [(3600, 1799, false), (3600, 1800, true), (600, 299, false), (600, 300, true)]
        {
            let (server, cluster) = connect(lifetime).await;
            server.ahead.store(ahead, SeqCst);
            list(&cluster).await.unwrap();
            // The renewal runs in the background, on the same thread.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let expected = if is_renewed { 2 } else { 1 };
            assert_eq!(server.issued.load(SeqCst), expected, "{ahead} s of {lifetime} s");
        }
    }
}
