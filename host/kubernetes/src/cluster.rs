//! A connected cluster: the client behind the egress guard, its clock, and cached discovery
//! results.

use crate::egress::EgressGuard;
use crate::resource::Resource;
use crate::send::Session;
use crate::service_account::TokenSource;
use bytes::Bytes;
use http::{Request, Response};
use kube::client::Body;
use salve_core::capability::{Effect, Read, host};
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use salve_run::Clock;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use tower::{BoxError, Layer, Service};

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
