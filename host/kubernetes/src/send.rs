//! Sends requests: every request of every capability goes through [`Session::send`].
//!
//! kube's own retries are disabled. Ours are few and bounded: reads, and requests that provably
//! were not applied. A write whose response was lost is never sent again here; its caller resolves
//! the outcome by reading.

mod list;
mod response;

use crate::cluster::{Cluster, MAX_PAUSE};
use crate::egress::Blocked;
use crate::failure::{Failure, FailureKind, classify_error};
use crate::resource::{NAMESPACES, PODS, Resource, SERVICE_ACCOUNTS, encode_query};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{Method, Request, header};
use kube::client::Body;
use response::{ApiResponse, NotFound, Subject};
use salve_core::Millis;
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use salve_run::{Clock, Stop};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use list::ListFilter;

/// The field manager in managedFields. Must not begin with `kubectl`, because Flux would undo the
/// writes of such a manager.
pub(crate) const FIELD_MANAGER: &str = "salve";

/// Maximum time for one attempt of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of attempts per request.
const MAX_ATTEMPTS: u32 = 4;
/// Maximum size of a response body.
pub(crate) const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// Maximum number of concurrent requests of one effect.
pub(crate) const MAX_CONCURRENT_REQUESTS: usize = 16;

/// Sends the requests of one effect.
#[derive(Clone)]
pub(crate) struct Session {
    cluster: Cluster,
    footprint: Arc<Footprint>,
    max_attempts: u32,
    stop: Stop,
    /// The run that the requests are for.
    run: Arc<str>,
    deadline: Millis,
}

/// One request.
struct ApiCall {
    method: Method,
    uri: String,
    body: Option<Value>,
    /// For messages, e.g. `get pods media/plex-0`.
    description: String,
    repeat: Repeat,
    /// What a 404 can say.
    not_found: NotFound,
}

/// Whether a request may be sent again after its response was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Never,
    Always,
    /// Only if the response did not take too long: the caller asks for less then.
    UnlessTimedOut,
}

impl ApiCall {
    fn get(uri: String, description: String, not_found: NotFound) -> Self {
        Self {
            method: Method::GET,
            uri,
            body: None,
            description,
            repeat: Repeat::Always,
            not_found,
        }
    }

    fn get_path(path: &str, not_found: NotFound) -> Self {
        Self::get(path.to_owned(), format!("get {path}"), not_found)
    }

    fn review(resource: &Resource, spec: Option<Value>, not_found: NotFound) -> Self {
        let mut body = json!({"apiVersion": resource.api_version(), "kind": resource.kind});
        if let Some(spec) = spec {
            body["spec"] = spec;
        }
        Self {
            method: Method::POST,
            uri: resource.collection_path(None),
            body: Some(body),
            description: format!("create {resource}"),
            repeat: Repeat::Always,
            not_found,
        }
    }
}

impl Session {
    pub(crate) fn new(cluster: &Cluster, footprint: &Footprint) -> Self {
        Self {
            cluster: cluster.clone(),
            footprint: Arc::new(footprint.clone()),
            max_attempts: MAX_ATTEMPTS,
            stop: Stop::default(),
            run: Arc::default(),
            deadline: 0,
        }
    }

    /// Sets the run that the requests are for, and its deadline.
    pub(crate) fn for_run(self, run: &str, deadline: Millis) -> Self {
        Self { run: run.into(), deadline, ..self }
    }

    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    pub(crate) fn deadline(&self) -> Millis {
        self.deadline
    }

    /// Disables retries, so that a user who connects gets an error at once.
    pub(crate) fn without_retries(self) -> Self {
        Self { max_attempts: 1, ..self }
    }

    /// Sets the signal that ends waits early.
    pub(crate) fn with_stop(self, stop: &Stop) -> Self {
        Self { stop: stop.clone(), ..self }
    }

    /// Returns true once the user asked to stop. Waits then end; writes in progress are completed.
    pub(crate) fn stop_requested(&self) -> bool {
        self.stop.requested()
    }

    /// Sleeps for `duration`, or until the user asks to stop.
    pub(crate) async fn sleep(&self, duration: Duration) {
        tokio::select! {
            () = self.clock().sleep(duration) => {}
            () = self.stop.wait() => {}
        }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.cluster.clock()
    }

    /// Reads a document that is not an object, such as the version or a discovery document.
    pub(crate) async fn get_path(&self, path: &str) -> Result<Value, Failure> {
        self.send(ApiCall::get_path(path, NotFound::Objects(vec![])), document).await
    }

    /// Reads a discovery document, or None after a 404. Anything in front of the API server can
    /// respond with that, so the caller has to confirm that the path is not served.
    pub(crate) async fn find_path(&self, path: &str) -> Result<Option<Value>, Failure> {
        none_if_not_found(self.send(ApiCall::get_path(path, NotFound::Path), document).await)
    }

    /// Reads one object.
    pub(crate) async fn get(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, Failure> {
        let description = format!("get {resource} {}", object_path(namespace, name));
        let not_found = NotFound::Objects(vec![Subject::new(resource, name)]);
        let uri = resource.object_path(namespace, name);
        self.send(ApiCall::get(uri, description, not_found), document).await
    }

    /// Reads one object, or None if it does not exist. The API server has to say so about this
    /// object, and twice: an object that is considered gone is neither released nor read again.
    pub(crate) async fn find(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, Failure> {
        // mutant single-404-believed: for _ in 0..2 ~> for _ in 0..1
        for _ in 0..2 {
            match self.get(resource, namespace, name).await {
                Ok(object) => return Ok(Some(object)),
                Err(failure) if failure.is_absent() => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }

    /// Reads a container's log. It is not read again if the response takes too long.
    pub(crate) async fn log(
        &self,
        namespace: &str,
        pod: &str,
        pairs: Vec<(&str, Cow<'_, str>)>,
    ) -> Result<Bytes, Failure> {
        let uri = format!("{}/log{}", PODS.object_path(Some(namespace), pod), encode_query(pairs));
        let description = format!("get pods/log {namespace}/{pod}");
        let not_found = NotFound::Objects(vec![Subject::new(&PODS, pod)]);
        let call = ApiCall::get(uri, description, not_found);
        self.send(ApiCall { repeat: Repeat::UnlessTimedOut, ..call }, Some).await
    }

    /// Creates a review object, which the API server answers without storing it.
    pub(crate) async fn review(
        &self,
        resource: &Resource,
        spec: Option<Value>,
    ) -> Result<Value, Failure> {
        let not_found = NotFound::Objects(vec![]);
        self.send(ApiCall::review(resource, spec, not_found), document).await
    }

    /// Like [`review`](Self::review), or None after a 404. Anything in front of the API server can
    /// respond with that, so the caller has to confirm that the kind is not served.
    pub(crate) async fn find_review(&self, resource: &Resource) -> Result<Option<Value>, Failure> {
        none_if_not_found(
            self.send(ApiCall::review(resource, None, NotFound::Path), document).await,
        )
    }

    /// Requests a token for a ServiceAccount.
    pub(crate) async fn request_token(
        &self,
        namespace: &str,
        name: &str,
        seconds: u32,
    ) -> Result<Value, Failure> {
        let uri = format!("{}/token", SERVICE_ACCOUNTS.object_path(Some(namespace), name));
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds}});
        let description = format!("create serviceaccounts/token {namespace}/{name}");
        // A second attempt only creates a second token.
        let not_found = NotFound::Objects(vec![
            Subject::new(&SERVICE_ACCOUNTS, name),
            Subject::new(&NAMESPACES, namespace),
        ]);
        let (method, body) = (Method::POST, Some(body));
        self.send(
            ApiCall { method, uri, body, description, repeat: Repeat::Always, not_found },
            document,
        )
        .await
    }

    /// Creates an object and returns it as stored.
    pub(crate) async fn create(
        &self,
        resource: &Resource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Failure> {
        let uri = format!(
            "{}{}",
            resource.collection_path(Some(namespace)),
            encode_query([("fieldManager", FIELD_MANAGER.into())])
        );
        let description = format!("create {resource} in {namespace}");
        self.send(
            ApiCall {
                method: Method::POST,
                uri,
                body: Some(object),
                description,
                repeat: Repeat::Never,
                not_found: NotFound::Objects(vec![Subject::new(&NAMESPACES, namespace)]),
            },
            document,
        )
        .await
    }

    /// Applies a JSON merge patch and returns the resulting object.
    pub(crate) async fn patch(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<Value, Failure> {
        let uri = format!(
            "{}{}",
            resource.object_path(Some(namespace), name),
            encode_query([("fieldManager", FIELD_MANAGER.into())])
        );
        let description = format!("patch {resource} {namespace}/{name}");
        self.send(
            ApiCall {
                method: Method::PATCH,
                uri,
                body: Some(patch),
                description,
                repeat: Repeat::Never,
                not_found: NotFound::Objects(vec![Subject::new(resource, name)]),
            },
            document,
        )
        .await
    }

    /// Deletes an object with its uid, and its resourceVersion if given, as preconditions.
    pub(crate) async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        uid: &str,
        version: Option<&str>,
    ) -> Result<Value, Failure> {
        // mutant delete-without-uid: "uid": uid ~>
        let mut preconditions = json!({"uid": uid});
        if let Some(version) = version {
            preconditions["resourceVersion"] = version.into();
        }
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1",
            "preconditions": preconditions, "propagationPolicy": "Background"});
        let description = format!("delete {resource} {namespace}/{name}");
        self.send(
            ApiCall {
                method: Method::DELETE,
                uri: resource.object_path(Some(namespace), name),
                body: Some(body),
                description,
                repeat: Repeat::Never,
                not_found: NotFound::Objects(vec![Subject::new(resource, name)]),
            },
            document,
        )
        .await
    }

    async fn send<T>(&self, call: ApiCall, decode: fn(Bytes) -> Option<T>) -> Result<T, Failure> {
        let (mut attempt, mut token_renewed) = (1, false);
        loop {
            self.cluster.wait_while_paused().await;
            let started = Instant::now();
            let token = self.cluster.tokens().map(|tokens| (tokens, tokens.number()));
            let exchanged = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(&call)).await;
            let timed_out = exchanged.is_err();
            let exchanged = exchanged.unwrap_or_else(|_| {
                let why = format!("no response within {} s", REQUEST_TIMEOUT.as_secs());
                Err(FailureKind::InDoubt(why))
            });
            self.log_attempt(&call, attempt, started.elapsed(), &exchanged);
            let kind = match exchanged.and_then(|response| response.decode(&call.not_found, decode))
            {
                Ok(response) => return Ok(response),
                Err(kind) => kind,
            };
            let delay = retry_delay(&kind, attempt);
            if kind.retry_after().is_some() {
                // Also for requests that a caller sends instead of this one.
                self.cluster.pause(delay);
            }
            let failure = Failure { request: call.description.clone(), kind, timed_out };
            // The request was not applied. The token expired while the machine slept, or was
            // revoked.
            if let Some((tokens, number)) = token
                && failure.code() == Some(401)
                && !std::mem::replace(&mut token_renewed, true)
                && tokens.replace(number).await
            {
                continue;
            }
            let may_repeat = match call.repeat {
                Repeat::Never => false,
                Repeat::Always => true,
                Repeat::UnlessTimedOut => !timed_out,
            };
            if attempt >= self.max_attempts || !failure.is_retryable(may_repeat) {
                return Err(failure);
            }
            self.clock().sleep(delay).await;
            attempt += 1;
        }
    }

    /// Sends a request once and receives the complete response.
    async fn exchange(&self, call: &ApiCall) -> Result<ApiResponse, FailureKind> {
        let response = self
            .cluster
            .client()
            .send(self.request(call))
            .await
            .map_err(|error| classify_error(&error, |blocked| self.blocked_error(blocked)))?;
        ApiResponse::receive(response).await
    }

    /// Logs one attempt of a request, for `-vv`. Bodies, headers, and query strings can contain
    /// secrets and are not logged.
    fn log_attempt(
        &self,
        call: &ApiCall,
        attempt: u32,
        duration: Duration,
        exchanged: &Result<ApiResponse, FailureKind>,
    ) {
        let path = call.uri.split('?').next().unwrap_or_default();
        let duration_ms = duration.as_millis() as u64;
        match exchanged {
            Ok(response) => tracing::debug!(
                effect = self.footprint.effect(),
                method = %call.method,
                path,
                status = response.status.as_u16(),
                duration_ms,
                attempt,
                "request"
            ),
            Err(kind) => tracing::debug!(
                effect = self.footprint.effect(),
                method = %call.method,
                path,
                failure = kind.message(),
                duration_ms,
                attempt,
                "request failed"
            ),
        }
    }

    fn request(&self, call: &ApiCall) -> Request<Body> {
        let mut request = Request::new(
            call.body
                .as_ref()
                .map_or_else(Body::empty, |body| Body::from(body.to_string().into_bytes())),
        );
        *request.method_mut() = call.method.clone();
        *request.uri_mut() =
            call.uri.parse().expect("validated names and encoded values form a valid URI");
        if call.body.is_some() {
            let media = if call.method == Method::PATCH {
                "application/merge-patch+json"
            } else {
                "application/json"
            };
            request
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
        }
        request
            .headers_mut()
            .insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
        request.extensions_mut().insert(self.footprint.clone());
        request
    }

    /// Converts an error of the egress guard.
    fn blocked_error(&self, blocked: &Blocked) -> Error {
        match blocked {
            Blocked::OutsideFootprint(breach) if breach.ungranted => {
                let capability = self.footprint.capability();
                Error::Denied(format!(
                    "{breach}: {capability} is not granted in that namespace; to allow it, add the \
                    namespace to `namespaces` in the grant of {capability}"
                ))
            }
            Blocked::OutsideFootprint(_) | Blocked::NoFootprint(_) | Blocked::Forbidden(_) => {
                tracing::error!(
                    effect = self.footprint.effect(),
                    %blocked,
                    "blocked a request outside the declared footprint"
                );
                Error::Invalid(format!(
                    "internal error (please report): blocked a request outside the declared \
                    footprint: {blocked}. Nothing was sent"
                ))
            }
        }
    }
}

/// Awaits futures, at most `limit` concurrently, and returns their outputs in order.
pub(crate) async fn concurrently<F: Future>(futures: Vec<F>, limit: usize) -> Vec<F::Output> {
    stream::iter(futures).buffered(limit.max(1)).collect().await
}

/// Returns the delay before the attempt after `attempt`.
fn retry_delay(kind: &FailureKind, attempt: u32) -> Duration {
    match kind.retry_after() {
        Some(seconds) => Duration::from_secs(seconds.max(1)).min(MAX_PAUSE),
        None => Duration::from_millis(250 * 4_u64.pow(attempt - 1)),
    }
}

fn none_if_not_found(result: Result<Value, Failure>) -> Result<Option<Value>, Failure> {
    match result {
        Ok(document) => Ok(Some(document)),
        Err(failure) if failure.code() == Some(404) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn document(bytes: Bytes) -> Option<Value> {
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

fn object_path(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |ns| format!("{ns}/{name}"))
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
