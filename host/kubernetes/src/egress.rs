//! The fence: a layer under kube's client that lets no request pass but what its footprint covers.
//!
//! Everything above it may have mistakes; this reads what would really leave: method, path, query, body. It decides nothing about
//! grants, that was done before, and changes nothing.

use crate::clock::LiveClock;
use crate::send::MANAGER;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, Uri, header};
use kube::client::Body;
use salve_core::footprint::{Asked, Breach, Footprint, Verb};
use serde_json::Value;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tower::{BoxError, Layer, Service};

/// Why a request was kept back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Blocked {
    /// Nobody said for which effect it is.
    #[error("a request without a footprint: {0}")]
    Unclaimed(String),
    /// Its effect does not cover it.
    #[error(transparent)]
    Outside(#[from] Breach),
    /// No effect may send the like of it.
    #[error("{0}")]
    Never(String),
}

/// The layer.
#[derive(Clone)]
pub(crate) struct EgressGuard {
    clock: Option<Arc<LiveClock>>,
}

impl EgressGuard {
    /// A fence that tells `clock` what time the API server says it is.
    pub(crate) fn new(clock: Option<Arc<LiveClock>>) -> Self {
        Self { clock }
    }
}

impl<S> Layer<S> for EgressGuard {
    type Service = Guarded<S>;
    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, clock: self.clock.clone() }
    }
}

/// What stands inside the fence.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    clock: Option<Arc<LiveClock>>,
}

impl<S, B> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Err(kept) = judge(&request) {
            return std::future::ready(Err(BoxError::from(kept))).boxed();
        }
        let clock = self.clock.clone();
        let sent = Instant::now();
        let answer = self.inner.call(request);
        async move {
            let response = answer.await.map_err(Into::into)?;
            if let (Some(clock), Some(Ok(date))) =
                (clock, response.headers().get(header::DATE).map(header::HeaderValue::to_str))
            {
                clock.learn(date, sent, Instant::now());
            }
            Ok(response)
        }
        .boxed()
    }
}

/// Whether a request may leave.
fn judge(request: &Request<Body>) -> Result<(), Blocked> {
    let never =
        |why: &str| Blocked::Never(format!("{} {}: {why}", request.method(), request.uri().path()));
    let Some(footprint) = request.extensions().get::<Arc<Footprint>>() else {
        return Err(Blocked::Unclaimed(format!("{} {}", request.method(), request.uri().path())));
    };
    let place = place(request.uri()).ok_or_else(|| never("no path of objects that we know"))?;
    let Place::Objects { group, resource, subresource, namespace, name } = place else {
        return if request.method() == Method::GET {
            Ok(())
        } else {
            Err(never("discovery is only read"))
        };
    };
    let verb =
        verb(request, name, subresource).ok_or_else(|| never("no effect uses this method"))?;
    footprint.covers(&Asked { verb, group, resource, subresource, namespace, name })?;
    match verb {
        Verb::Get | Verb::List | Verb::Watch => Ok(()),
        Verb::Create => {
            if request.uri().query().is_some_and(|query| query != format!("fieldManager={MANAGER}"))
            {
                return Err(never("a new object that says more than who makes it"));
            }
            let object = body(request).ok_or_else(|| never("a new object that cannot be read"))?;
            Ok(footprint.covers_new(namespace, subresource, &object)?)
        }
        Verb::Patch => {
            let media =
                request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            if media != Some("application/merge-patch+json") {
                return Err(never("only merge patches are sent"));
            }
            let patch = body(request).ok_or_else(|| never("a patch that cannot be read"))?;
            footprint.covers_patch(&patch)?;
            if patch.pointer("/metadata/uid").and_then(Value::as_str).is_none_or(str::is_empty) {
                return Err(never("a patch without the uid that it is meant for"));
            }
            Ok(())
        }
        Verb::Delete => {
            if request.uri().query().is_some_and(|query| query.chars().any(|c| c != '&')) {
                return Err(never("a deletion says in its body how it is meant"));
            }
            let options = body(request).ok_or_else(|| never("a deletion that cannot be read"))?;
            if is_guarded(&options) {
                Ok(())
            } else {
                Err(never("a deletion by name alone, or with unknown options"))
            }
        }
    }
}

/// Whether these are DeleteOptions that name the uid.
fn is_guarded(options: &Value) -> bool {
    let known = ["apiVersion", "kind", "preconditions", "propagationPolicy", "gracePeriodSeconds"];
    let uid = options.pointer("/preconditions/uid").and_then(Value::as_str).unwrap_or_default();
    // mutant egress-allows-delete-by-name: !uid.is_empty() && options ~> options
    !uid.is_empty()
        && options
            .as_object()
            .is_some_and(|map| map.keys().all(|key| known.contains(&key.as_str())))
}

/// The body as JSON; none where it is no JSON, or comes in pieces.
fn body(request: &Request<Body>) -> Option<Value> {
    let bytes = request.body().try_clone()?.collect_bytes().now_or_never()?.ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The verb as RBAC names it. None for replacing and for deleting collections: nothing of ours does that.
fn verb(request: &Request<Body>, name: Option<&str>, subresource: Option<&str>) -> Option<Verb> {
    let watches = request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("watch")));
    match (request.method(), name) {
        (&Method::GET, _) if watches => Some(Verb::Watch),
        (&Method::GET, Some(_)) => Some(Verb::Get),
        (&Method::GET, None) => Some(Verb::List),
        (&Method::POST, None) => Some(Verb::Create),
        (&Method::POST, Some(_)) if subresource.is_some() => Some(Verb::Create),
        (&Method::PATCH, Some(_)) => Some(Verb::Patch),
        (&Method::DELETE, Some(_)) => Some(Verb::Delete),
        _ => None,
    }
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    /// What is served, in which version.
    Discovery,
    /// Objects, or one.
    Objects {
        group: &'a str,
        resource: &'a str,
        subresource: Option<&'a str>,
        namespace: Option<&'a str>,
        name: Option<&'a str>,
    },
}

/// Takes a path apart. None for everything that is not plainly a path of the API: no escapes, no dots alone, no empty parts.
fn place(uri: &Uri) -> Option<Place<'_>> {
    let plain = |part: &&str| {
        part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
            && part.bytes().any(|b| b != b'.')
    };
    let parts: Vec<&str> = uri.path().strip_prefix('/')?.split('/').collect();
    if !parts.iter().all(plain) {
        return None;
    }
    let (group, rest) = match parts.as_slice() {
        ["version" | "api" | "apis"] | ["api", "v1"] | ["apis", _] | ["apis", _, _] => {
            return Some(Place::Discovery);
        }
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        // `namespaces/x/status` and `namespaces/x/finalize` are of the namespace itself.
        ["namespaces", name, sub @ ("status" | "finalize")] if group.is_empty() => {
            (None, &["namespaces", *name, *sub][..])
        }
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        _ => (None, rest),
    };
    let (resource, name, subresource) = match *rest {
        [resource] => (resource, None, None),
        [resource, name] => (resource, Some(name), None),
        [resource, name, subresource] => (resource, Some(name), Some(subresource)),
        _ => return None,
    };
    Some(Place::Objects { group, resource, subresource, namespace, name })
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
