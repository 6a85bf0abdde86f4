//! The one way out: every request of every capability goes through [`Session::send`].
//!
//! kube's own retries are off. Ours are few and bounded: reads, and what provably was not applied. A write whose answer got lost is
//! never sent again from here; whoever sent it settles by reading what became of it.

use crate::cluster::Cluster;
use crate::egress::Blocked;
use crate::failure::{Failure, How, Refusal, sort};
use crate::object;
use crate::resource::{Resource, SERVICE_ACCOUNTS, query};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{Method, Request, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::client::Body;
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use salve_run::{Clock, Stop};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Who writes, as managedFields name it. Never one that begins with `kubectl`: Flux would undo what such a manager wrote.
pub(crate) const MANAGER: &str = "salve";

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request is sent at most.
const TRIES: u32 = 4;
/// How large an answer may be.
pub(crate) const LARGEST: usize = 64 << 20;
/// How many objects a page of a list holds.
const PAGE: usize = 500;
/// How often a list that changed under our hands is begun again.
const RESTARTS: u32 = 3;

/// A cluster on behalf of one effect.
#[derive(Clone)]
pub(crate) struct Session {
    cluster: Cluster,
    footprint: Arc<Footprint>,
    tries: u32,
    stop: Stop,
}

/// One request.
struct TypedCall {
    method: Method,
    uri: String,
    body: Option<Value>,
    /// For people.
    what: String,
    /// It changes nothing.
    safe: bool,
}

/// What a list is narrowed to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Narrow<'a> {
    /// As kubectl's `-l`.
    pub labels: Option<&'a str>,
    /// As kubectl's `--field-selector`.
    pub fields: Option<&'a str>,
}

/// One page of a list.
pub(crate) struct Page {
    pub items: Vec<Value>,
    pub next: Option<String>,
}

impl Session {
    pub(crate) fn new(cluster: &Cluster, footprint: &Footprint) -> Self {
        Self {
            cluster: cluster.clone(),
            footprint: Arc::new(footprint.clone()),
            tries: TRIES,
            stop: Stop::default(),
        }
    }

    /// The same, giving up at the first failure: while a person waits to hear whether the cluster is there at all.
    pub(crate) fn without_retries(self) -> Self {
        Self { tries: 1, ..self }
    }

    /// The same, whose waits end when somebody asks to stop.
    pub(crate) fn with_stop(self, stop: &Stop) -> Self {
        Self { stop: stop.clone(), ..self }
    }

    /// Somebody asked to stop: what waits for the cluster ends, what writes comes to its end.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.requested()
    }

    /// Waits, unless somebody asks to stop.
    pub(crate) async fn pause(&self, duration: Duration) {
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

    /// A document that is no object: the version, discovery.
    pub(crate) async fn read(&self, path: &str) -> Result<Value, Failure> {
        self.send(
            TypedCall {
                method: Method::GET,
                uri: path.to_owned(),
                body: None,
                what: format!("get {path}"),
                safe: true,
            },
            document,
        )
        .await
    }

    /// One object, fresh from the API server.
    pub(crate) async fn get(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, Failure> {
        let what = format!("get {resource} {}", place(namespace, name));
        self.send(
            TypedCall {
                method: Method::GET,
                uri: resource.one(namespace, name),
                body: None,
                what,
                safe: true,
            },
            document,
        )
        .await
    }

    /// One object, or none where there is none of that name. That is believed when it is said twice: what is taken for gone is neither given
    /// back nor looked at again, and one wrong answer on the way, of a proxy or of an API server that starts, would be enough.
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
                Err(failure) if failure.code() == Some(404) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }

    /// All of a kind, of a namespace or of the whole cluster.
    pub(crate) async fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        narrow: Narrow<'_>,
    ) -> Result<Vec<Value>, Failure> {
        let mut restarts = 0;
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            match self.page(resource, namespace, narrow, PAGE, next.as_deref()).await {
                Ok(page) => {
                    all.extend(page.items);
                    next = page.next;
                    if next.is_none() {
                        return Ok(all);
                    }
                }
                // The rest of this list is not to be had any more; half of an old one would be no answer.
                Err(failure) if failure.code() == Some(410) && restarts < RESTARTS => {
                    restarts += 1;
                    (all, next) = (Vec::new(), None);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// One page of a kind.
    pub(crate) async fn page(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        narrow: Narrow<'_>,
        limit: usize,
        next: Option<&str>,
    ) -> Result<Page, Failure> {
        // Without resourceVersion: the answer is as new as etcd, not as a cache.
        let pairs = [
            ("labelSelector", narrow.labels),
            ("fieldSelector", narrow.fields),
            ("continue", next),
        ];
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key, Cow::Borrowed(value?))));
        let uri = format!(
            "{}{}",
            resource.all(namespace),
            query(std::iter::once(("limit", Cow::Owned(limit.to_string()))).chain(pairs))
        );
        let what = format!("list {resource} {}", place(namespace, "*"));
        let mut list = self
            .send(TypedCall { method: Method::GET, uri, body: None, what, safe: true }, collection)
            .await?;
        let next = object::owned(&list, "/metadata/continue");
        let items = match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            Some(_) | None => Vec::new(),
        };
        Ok(Page { items, next })
    }

    /// A container's log.
    pub(crate) async fn log(
        &self,
        namespace: &str,
        pod: &str,
        pairs: Vec<(&str, Cow<'_, str>)>,
    ) -> Result<Bytes, Failure> {
        let uri =
            format!("{}/log{}", crate::resource::PODS.one(Some(namespace), pod), query(pairs));
        let what = format!("get pods/log {namespace}/{pod}");
        self.send(TypedCall { method: Method::GET, uri, body: None, what, safe: true }, Some).await
    }

    /// Asks the API server something that it keeps nothing of.
    pub(crate) async fn review(
        &self,
        resource: &Resource,
        spec: Option<Value>,
    ) -> Result<Value, Failure> {
        let mut body = json!({"apiVersion": resource.api_version(), "kind": resource.kind});
        if let Some(spec) = spec {
            body["spec"] = spec;
        }
        self.send(
            TypedCall {
                method: Method::POST,
                uri: resource.all(None),
                body: Some(body),
                what: format!("create {resource}"),
                safe: true,
            },
            document,
        )
        .await
    }

    /// A token of a ServiceAccount.
    pub(crate) async fn request_token(
        &self,
        namespace: &str,
        name: &str,
        seconds: u32,
    ) -> Result<Value, Failure> {
        let uri = format!("{}/token", SERVICE_ACCOUNTS.one(Some(namespace), name));
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}});
        let what = format!("create serviceaccounts/token {namespace}/{name}");
        // Sent twice it is two tokens, each as good as the other and as soon over.
        self.send(
            TypedCall { method: Method::POST, uri, body: Some(body), what, safe: true },
            document,
        )
        .await
    }

    /// Makes a new object, and answers it as it is then.
    pub(crate) async fn create(
        &self,
        resource: &Resource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Failure> {
        let uri = format!(
            "{}{}",
            resource.all(Some(namespace)),
            query([("fieldManager", MANAGER.into())])
        );
        let what = format!("create {resource} in {namespace}");
        self.send(
            TypedCall { method: Method::POST, uri, body: Some(object), what, safe: false },
            document,
        )
        .await
    }

    /// Merges a patch into an object, and answers the object as it is then.
    pub(crate) async fn patch(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<Value, Failure> {
        let uri = format!(
            "{}{}",
            resource.one(Some(namespace), name),
            query([("fieldManager", MANAGER.into())])
        );
        let what = format!("patch {resource} {namespace}/{name}");
        self.send(
            TypedCall { method: Method::PATCH, uri, body: Some(patch), what, safe: false },
            document,
        )
        .await
    }

    /// Deletes the object of this uid, and of this resourceVersion where one is given.
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
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions, "propagationPolicy": "Background"});
        let what = format!("delete {resource} {namespace}/{name}");
        self.send(
            TypedCall {
                method: Method::DELETE,
                uri: resource.one(Some(namespace), name),
                body: Some(body),
                what,
                safe: false,
            },
            document,
        )
        .await
    }

    async fn send<T>(&self, ask: TypedCall, decode: fn(Bytes) -> Option<T>) -> Result<T, Failure> {
        let mut tries = 1;
        loop {
            let how = match self.once(&ask, decode).await {
                Ok(answer) => return Ok(answer),
                Err(how) => how,
            };
            let pause = pause(&how, tries);
            let failure = Failure { what: ask.what.clone(), how };
            if tries >= self.tries || !failure.is_worth_another_try(ask.safe) {
                return Err(failure);
            }
            tracing::debug!(
                effect = self.footprint.effect(),
                what = failure.what,
                tries,
                "sent again"
            );
            self.clock().sleep(pause).await;
            tries += 1;
        }
    }

    async fn once<T>(&self, ask: &TypedCall, decode: fn(Bytes) -> Option<T>) -> Result<T, How> {
        let exchange = async {
            let response = self
                .cluster
                .client()
                .send(self.request(ask))
                .await
                .map_err(|error| sort(&error, |kept| self.kept(kept)))?;
            let (head, body) = response.into_parts();
            let bytes = Limited::new(body, LARGEST).collect().await.map_err(unread)?.to_bytes();
            Ok((head, bytes))
        };
        let (head, bytes) = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| How::Lost(format!("nothing came within {} s", TIMEOUT.as_secs())))??;
        if head.status.is_success() {
            return decode(bytes).ok_or_else(|| {
                How::Lost(
                    "what came is not what an API server answers; does a proxy stand in between?"
                        .into(),
                )
            });
        }
        let retry_after = head
            .headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let refusal = Refusal::read(head.status.as_u16(), &bytes, retry_after);
        // These may come from something in between, or after the write reached etcd.
        // mutant gateway-timeout-is-refusal: 500 && ! ~> 500 && refusal.code != 504 && !
        let doubtful = refusal.code == 408
            || refusal.code >= 500 && !(refusal.code == 503 && refusal.retry_after.is_some());
        Err(if doubtful {
            How::Lost(format!("it answered {}: {}", refusal.code, refusal.message))
        } else {
            How::Refused(refusal)
        })
    }

    fn request(&self, ask: &TypedCall) -> Request<Body> {
        let mut request = Request::new(
            ask.body
                .as_ref()
                .map_or_else(Body::empty, |body| Body::from(body.to_string().into_bytes())),
        );
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.uri.parse().expect("checked names and encoded values make a URI");
        if ask.body.is_some() {
            let media = if ask.method == Method::PATCH {
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

    /// What a request that the fence kept comes to.
    fn kept(&self, kept: &Blocked) -> Error {
        match kept {
            Blocked::Outside(breach) if breach.ungranted => {
                let capability = self.footprint.effect().split('.').next().unwrap_or_default();
                Error::Denied(format!(
                    "{breach}: {capability} is not granted in that namespace; would allow it: the namespace under `namespaces` of the grant of {capability}"
                ))
            }
            Blocked::Outside(_) | Blocked::Unclaimed(_) | Blocked::Never(_) => {
                tracing::error!(effect = self.footprint.effect(), %kept, "a request of our own left its footprint and was kept back");
                Error::Invalid(format!(
                    "a fault of Salve itself, please report it: {kept}; nothing was sent"
                ))
            }
        }
    }
}

/// Awaits futures, at most so many at once, and answers in their order.
pub(crate) async fn concurrently<F: Future>(futures: Vec<F>, at_once: usize) -> Vec<F::Output> {
    stream::iter(futures).buffered(at_once.max(1)).collect().await
}

fn unread(error: Box<dyn std::error::Error + Send + Sync>) -> How {
    if error.downcast_ref::<LengthLimitError>().is_some() {
        return How::Lost(format!("it is larger than {} MiB", LARGEST >> 20));
    }
    How::Lost("the connection broke in the middle of it".into())
}

/// How long to wait before the next try.
fn pause(how: &How, tries: u32) -> Duration {
    match how {
        How::Refused(Refusal { retry_after: Some(seconds), .. }) => {
            Duration::from_secs((*seconds).clamp(1, 30))
        }
        How::Refused(_) | How::Unsent(_) | How::Lost(_) | How::Credentials(_) | How::Blocked(_) => {
            Duration::from_millis(250 * 4_u64.pow(tries - 1))
        }
    }
}

fn document(bytes: Bytes) -> Option<Value> {
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

fn collection(bytes: Bytes) -> Option<Value> {
    document(bytes)
        .filter(|list| list.get("items").is_some_and(|items| items.is_array() || items.is_null()))
}

fn place(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |ns| format!("{ns}/{name}"))
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
