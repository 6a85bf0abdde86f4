//! Acting as a ServiceAccount by short-lived tokens: what the kubeconfig may do is used for asking them, and for nothing else.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>

use crate::cluster::Cluster;
use crate::object::instant;
use crate::send::Session;
use futures::future::BoxFuture;
use http::Request;
use http::header::{AUTHORIZATION, HeaderValue};
use kube::client::Body;
use salve_core::effect::host::{Issued, RequestToken};
use salve_core::effect::{TypedCall, host};
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tower::{Layer, Service};

/// For how long a token is asked. One hour is what the API server gives by itself.
pub(crate) const LIFETIME: u32 = 3600;
/// How soon a failed renewal is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Asks for a token: the secret, and what may be said of it.
pub(crate) async fn token(
    session: &Session,
    ask: &RequestToken,
) -> Result<(HeaderValue, Issued), Error> {
    let answer = session.request_token(&ask.namespace, &ask.name, ask.seconds).await?;
    let token =
        answer.pointer("/status/token").and_then(|token| token.as_str()).unwrap_or_default();
    let header =
        HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| !token.is_empty());
    let mut header = header.ok_or_else(|| {
        Error::Unavailable("the API server answered a token request without a token".into())
    })?;
    header.set_sensitive(true);
    let until = instant(&answer, "/status/expirationTimestamp");
    Ok((header, Issued { until }))
}

/// Tokens of one ServiceAccount, renewed at half of their time while requests are sent.
#[derive(Clone)]
pub(crate) struct Tokens {
    issuer: Cluster,
    ask: RequestToken,
    current: Arc<Mutex<Current>>,
}

struct Current {
    header: HeaderValue,
    renew: Instant,
}

impl Tokens {
    /// The first token, by the credentials of `issuer`.
    ///
    /// # Errors
    /// They may not ask for it, or there is no such ServiceAccount.
    pub(crate) async fn of(issuer: Cluster, namespace: &str, name: &str) -> Result<Self, Error> {
        let ask =
            RequestToken { namespace: namespace.into(), name: name.into(), seconds: LIFETIME };
        let (header, _) = token(&session(&issuer, &ask), &ask).await?;
        let current = Arc::new(Mutex::new(Current { header, renew: Instant::now() + half() }));
        Ok(Self { issuer, ask, current })
    }

    /// The token of now. One that is half over is renewed meanwhile.
    fn header(&self) -> HeaderValue {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.renew <= Instant::now() {
            current.renew = Instant::now() + AGAIN;
            tokio::spawn(self.clone().renew());
        }
        current.header.clone()
    }

    async fn renew(self) {
        match token(&session(&self.issuer, &self.ask), &self.ask).await {
            Ok((header, _)) => {
                let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                *current = Current { header, renew: Instant::now() + half() };
            }
            Err(error) => {
                tracing::warn!(account = self.ask.name, %error, "its token could not be renewed; the old one is used as long as it lasts")
            }
        }
    }
}

fn half() -> Duration {
    Duration::from_secs(u64::from(LIFETIME) / 2)
}

fn session(issuer: &Cluster, ask: &host::RequestToken) -> Session {
    Session::new(issuer, &Footprint::new(&ask.clone().effect(), vec![]))
}

impl<S> Layer<S> for Tokens {
    type Service = Bearing<S>;
    fn layer(&self, inner: S) -> Bearing<S> {
        Bearing { inner, tokens: self.clone() }
    }
}

/// What bears the token of now.
#[derive(Clone)]
pub(crate) struct Bearing<S> {
    inner: S,
    tokens: Tokens,
}

impl<S> Service<Request<Body>> for Bearing<S>
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
