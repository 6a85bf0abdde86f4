//! The egress guard: a layer below kube's client that blocks every request outside its footprint.
//!
//! It checks what is actually about to be sent (method, path, query, body), so it does not depend
//! on the code above being correct. It does not decide about grants and modifies no request.

use crate::clock::LiveClock;
use crate::send::FIELD_MANAGER;
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

/// Why a request was blocked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Blocked {
    /// The request does not belong to an effect.
    #[error("request without a footprint: {0}")]
    NoFootprint(String),
    /// The footprint of the request's effect does not cover it.
    #[error(transparent)]
    OutsideFootprint(#[from] Breach),
    /// No effect may send such a request.
    #[error("{0}")]
    Forbidden(String),
}

/// The tower layer that installs the guard.
#[derive(Clone)]
pub(crate) struct EgressGuard {
    clock: Option<Arc<LiveClock>>,
}

impl EgressGuard {
    /// Creates a guard that reports the `Date` headers of responses to `clock`.
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

/// The client service behind the guard.
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
        if let Err(blocked) = check_request(&request) {
            return std::future::ready(Err(BoxError::from(blocked))).boxed();
        }
        let clock = self.clock.clone();
        let sent = Instant::now();
        let response = self.inner.call(request);
        async move {
            let response = response.await.map_err(Into::into)?;
            if let (Some(clock), Some(Ok(date))) =
                (clock, response.headers().get(header::DATE).map(header::HeaderValue::to_str))
            {
                clock.record_date(date, sent, Instant::now());
            }
            Ok(response)
        }
        .boxed()
    }
}

/// Checks a request against the footprint that it carries as an extension.
fn check_request(request: &Request<Body>) -> Result<(), Blocked> {
    let forbidden = |why: &str| {
        Blocked::Forbidden(format!("{} {}: {why}", request.method(), request.uri().path()))
    };
    let Some(footprint) = request.extensions().get::<Arc<Footprint>>() else {
        return Err(Blocked::NoFootprint(format!("{} {}", request.method(), request.uri().path())));
    };
    let path =
        parse_path(request.uri()).ok_or_else(|| forbidden("not a path of Kubernetes objects"))?;
    let RequestPath::Objects { group, resource, subresource, namespace, name } = path else {
        return if request.method() == Method::GET {
            Ok(())
        } else {
            Err(forbidden("discovery is read-only"))
        };
    };
    let verb = verb(request, name, subresource)
        .ok_or_else(|| forbidden("method not used by any effect"))?;
    footprint.covers(&Asked { verb, group, resource, subresource, namespace, name })?;
    match verb {
        Verb::Get | Verb::List | Verb::Watch => Ok(()),
        Verb::Create => {
            let expected = format!("fieldManager={FIELD_MANAGER}");
            if request.uri().query().is_some_and(|query| query != expected) {
                return Err(forbidden("create with query parameters other than fieldManager"));
            }
            let object =
                body(request).ok_or_else(|| forbidden("create with an unreadable body"))?;
            Ok(footprint.covers_new(namespace, subresource, &object)?)
        }
        Verb::Patch => {
            let media =
                request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            if media != Some("application/merge-patch+json") {
                return Err(forbidden("not a JSON merge patch"));
            }
            let patch = body(request).ok_or_else(|| forbidden("patch with an unreadable body"))?;
            footprint.covers_patch(&patch)?;
            if patch.pointer("/metadata/uid").and_then(Value::as_str).is_none_or(str::is_empty) {
                return Err(forbidden("patch without the object's uid"));
            }
            Ok(())
        }
        Verb::Delete => {
            if request.uri().query().is_some_and(|query| query.chars().any(|c| c != '&')) {
                return Err(forbidden("delete with query parameters; options belong in the body"));
            }
            let options =
                body(request).ok_or_else(|| forbidden("delete with an unreadable body"))?;
            if has_uid_precondition(&options) {
                Ok(())
            } else {
                Err(forbidden("delete without a uid precondition, or with unknown options"))
            }
        }
    }
}

/// Returns true for DeleteOptions with a uid precondition and no unknown fields.
fn has_uid_precondition(options: &Value) -> bool {
    let known = ["apiVersion", "kind", "preconditions", "propagationPolicy", "gracePeriodSeconds"];
    let uid = options.pointer("/preconditions/uid").and_then(Value::as_str).unwrap_or_default();
    // mutant egress-allows-delete-by-name: !uid.is_empty() && options ~> options
    !uid.is_empty()
        && options
            .as_object()
            .is_some_and(|map| map.keys().all(|key| known.contains(&key.as_str())))
}

/// Returns the body as JSON, or None if it is streamed or not valid JSON.
fn body(request: &Request<Body>) -> Option<Value> {
    let bytes = request.body().try_clone()?.collect_bytes().now_or_never()?.ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Returns the RBAC verb of a request. None for verbs that no effect uses, such as `update` and
/// `deletecollection`.
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

/// A parsed request path.
#[derive(Debug, PartialEq, Eq)]
enum RequestPath<'a> {
    /// Discovery of groups, versions, and kinds; or the server's version.
    Discovery,
    /// A collection, or one object if `name` is set.
    Objects {
        group: &'a str,
        resource: &'a str,
        subresource: Option<&'a str>,
        namespace: Option<&'a str>,
        name: Option<&'a str>,
    },
}

/// Parses a request path. Returns None unless every segment is a plain name: percent-encoding, dot
/// segments, and empty segments are rejected.
fn parse_path(uri: &Uri) -> Option<RequestPath<'_>> {
    let is_plain = |part: &&str| {
        part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
            && part.bytes().any(|b| b != b'.')
    };
    let parts: Vec<&str> = uri.path().strip_prefix('/')?.split('/').collect();
    if !parts.iter().all(is_plain) {
        return None;
    }
    let (group, rest) = match parts.as_slice() {
        ["version" | "api" | "apis"] | ["api", "v1"] | ["apis", _] | ["apis", _, _] => {
            return Some(RequestPath::Discovery);
        }
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        // `namespaces/x/status` and `namespaces/x/finalize` are subresources of the namespace.
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
    Some(RequestPath::Objects { group, resource, subresource, namespace, name })
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
