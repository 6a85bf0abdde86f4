//! A cluster that can be asked: the client behind the fence, its clock, and what is known of it.

use crate::egress::EgressGuard;
use crate::resource::Resource;
use crate::send::Session;
use bytes::Bytes;
use http::{Request, Response};
use kube::client::Body;
use salve_core::effect::{Effect, Read, host};
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use salve_run::Clock;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use tower::{BoxError, Layer, Service};

/// A connection to an API server. Clones share it.
///
/// # Guarantees
/// Every request passes the fence: none leaves without the footprint of an effect, and none outside it.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    client: kube::Client,
    clock: Arc<dyn Clock>,
    context: String,
    server: String,
    version: Mutex<Option<String>>,
    served: Mutex<HashMap<(String, String), Resource>>,
}

impl Cluster {
    /// A cluster behind any HTTP service, e.g. the simulated one. `context` is its name for people.
    ///
    /// # Assumptions
    /// It is called within a tokio runtime.
    pub fn over<S, B>(service: S, clock: Arc<dyn Clock>, context: impl Into<String>) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let client = kube::Client::new(EgressGuard::new(None).layer(service), "default");
        Self::new(client, clock, context.into(), String::new())
    }

    /// # Assumptions
    /// A fence stands around `client`.
    pub(crate) fn new(
        client: kube::Client,
        clock: Arc<dyn Clock>,
        context: String,
        server: String,
    ) -> Self {
        let inner = Inner {
            client,
            clock,
            context,
            server,
            version: Mutex::default(),
            served: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Time as this cluster counts it.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock.clone()
    }

    /// The kubeconfig context, or what else this cluster is called.
    pub fn context(&self) -> &str {
        &self.inner.context
    }

    /// The API server's address; empty for one that is no server.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    /// The API server's version, e.g. `v1.36.3`. Asked once.
    ///
    /// # Errors
    /// The cluster refuses or does not answer.
    pub async fn version(&self) -> Result<String, Error> {
        if let Some(known) = self.known_version() {
            return Ok(known);
        }
        let footprint =
            Footprint::new(&Effect::Read(Read::GetIdentity(host::GetIdentity {})), vec![]);
        crate::host::version(&Session::new(self, &footprint)).await
    }

    pub(crate) fn known_version(&self) -> Option<String> {
        lock(&self.inner.version).clone()
    }

    pub(crate) fn learn_version(&self, version: &str) {
        *lock(&self.inner.version) = Some(version.to_owned());
    }

    pub(crate) fn known_resource(&self, group: &str, plural: &str) -> Option<Resource> {
        lock(&self.inner.served).get(&(group.to_owned(), plural.to_owned())).cloned()
    }

    pub(crate) fn learn_resource(&self, resource: &Resource) {
        lock(&self.inner.served)
            .insert((resource.group.to_string(), resource.plural.to_string()), resource.clone());
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
