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
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
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
}

struct CurrentToken {
    header: HeaderValue,
    renew: Instant,
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
        let call =
            RequestToken { namespace: namespace.into(), name: name.into(), seconds: TOKEN_SECONDS };
        let (header, _) = token(&session(&issuer, &call), &call).await?;
        let current = Arc::new(Mutex::new(CurrentToken {
            header,
            renew: Instant::now() + renewal_interval(),
        }));
        Ok(Self { issuer, call, current })
    }

    /// Returns the current `Authorization` header, and starts a renewal if it is due.
    fn header(&self) -> HeaderValue {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.renew <= Instant::now() {
            current.renew = Instant::now() + RENEWAL_RETRY;
            tokio::spawn(self.clone().renew());
        }
        current.header.clone()
    }

    async fn renew(self) {
        match token(&session(&self.issuer, &self.call), &self.call).await {
            Ok((header, _)) => {
                let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                *current = CurrentToken { header, renew: Instant::now() + renewal_interval() };
            }
            Err(error) => {
                tracing::warn!(
                    account = self.call.name,
                    %error,
                    "failed to renew the token; using the old one until it expires"
                )
            }
        }
    }
}

fn renewal_interval() -> Duration {
    Duration::from_secs(u64::from(TOKEN_SECONDS) / 2)
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
