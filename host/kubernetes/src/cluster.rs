//! A connected cluster: the client behind the egress guard, its clock, and cached discovery
//! results.

use crate::egress::EgressGuard;
use crate::resource::Resource;
use crate::send::Session;
use crate::service_account::TokenSource;
use bytes::Bytes;
use http::{Request, Response};
use kube::client::Body;
use salve_core::Millis;
use salve_core::capability::{Effect, Read, host};
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use salve_run::Clock;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::{BoxError, Layer, Service};

/// For how long the API server can pause all requests at once.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A connection to an API server. Clones share the connection.
///
/// # Guarantees
/// Every request passes the egress guard: each belongs to an effect and is within its footprint.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    client: kube::Client,
    clock: Arc<dyn Clock>,
    /// The tokens that the client sends, if it acts as a ServiceAccount.
    tokens: Option<TokenSource>,
    context: String,
    server: String,
    version: Mutex<Option<String>>,
    resources: Mutex<HashMap<(String, String), Resource>>,
    /// Until when the API server asked not to send anything, by the cluster's clock; 0 if it did
    /// not.
    paused_until: AtomicU64,
}

impl Cluster {
    /// Creates a cluster on top of any HTTP service, e.g. a simulator. `context` is its display
    /// name.
    ///
    /// # Assumptions
    /// Called within a tokio runtime.
    pub fn over<S, B>(service: S, clock: Arc<dyn Clock>, context: impl Into<String>) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let client = kube::Client::new(EgressGuard::new(None).layer(service), "default");
        Self::new(client, clock, None, context.into(), String::new())
    }

    /// # Assumptions
    /// `client` contains the egress guard.
    pub(crate) fn new(
        client: kube::Client,
        clock: Arc<dyn Clock>,
        tokens: Option<TokenSource>,
        context: String,
        server: String,
    ) -> Self {
        let inner = Inner {
            client,
            clock,
            tokens,
            context,
            server,
            version: Mutex::default(),
            resources: Mutex::default(),
            paused_until: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the cluster's clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock.clone()
    }

    /// Returns the name of the kubeconfig context, or the display name of a simulated cluster.
    pub fn context(&self) -> &str {
        &self.inner.context
    }

    /// Returns the URL of the API server, or an empty string for a simulated cluster.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    /// Returns the API server's version, e.g. `v1.36.3`. Cached after the first call.
    ///
    /// # Errors
    /// The API server rejected the request or did not respond.
    pub async fn version(&self) -> Result<String, Error> {
        if let Some(known) = self.cached_version() {
            return Ok(known);
        }
        let footprint =
            Footprint::new(&Effect::Read(Read::GetIdentity(host::GetIdentity {})), vec![]);
        Ok(crate::capability::host::version(&Session::new(self, &footprint)).await?)
    }

    pub(crate) fn cached_version(&self) -> Option<String> {
        lock(&self.inner.version).clone()
    }

    pub(crate) fn cache_version(&self, version: &str) {
        *lock(&self.inner.version) = Some(version.to_owned());
    }

    pub(crate) fn cached_resource(&self, group: &str, plural: &str) -> Option<Resource> {
        lock(&self.inner.resources).get(&(group.to_owned(), plural.to_owned())).cloned()
    }

    pub(crate) fn cache_resource(&self, resource: &Resource) {
        lock(&self.inner.resources)
            .insert((resource.group.to_string(), resource.plural.to_string()), resource.clone());
    }

    /// Delays all further requests: the API server asked for it.
    pub(crate) fn pause(&self, duration: Duration) {
        let until = self.inner.clock.now().saturating_add(duration.as_millis() as Millis);
        self.inner.paused_until.fetch_max(until, Ordering::Relaxed);
    }

    /// Waits until the API server accepts requests again, as far as it said so.
    pub(crate) async fn wait_while_paused(&self) {
        let until = self.inner.paused_until.load(Ordering::Relaxed);
        let left = Duration::from_millis(until.saturating_sub(self.inner.clock.now()));
        if !left.is_zero() {
            // The clock may have jumped back.
            self.inner.clock.sleep(left.min(MAX_PAUSE)).await;
        }
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        // Fails if the API server asked again meanwhile.
        let _ = self.inner.paused_until.compare_exchange(until, 0, set, read);
    }

    pub(crate) fn tokens(&self) -> Option<&TokenSource> {
        self.inner.tokens.as_ref()
    }

    pub(crate) fn client(&self) -> &kube::Client {
        &self.inner.client
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("context", &self.inner.context)
            .field("server", &self.inner.server)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
