//! The `tower` service: advances the clock a little per request, injects faults, responds, and
//! keeps the audit log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;

use crate::api::{self, ApiError, Reply, Request};
use crate::body::{Body, ConnectionReset};
use crate::exchange::Exchange;
use crate::fault::{FaultResponse, InjectedFault};
use crate::script::{self, Cause};
use crate::simulator::Simulator;
use crate::world::World;

/// The virtual time that every request takes.
const REQUEST_TIME: Duration = Duration::from_millis(3);

/// The response header with the virtual time, in milliseconds since the epoch. `Remote` keeps its
/// clock by it.
pub(crate) const NOW_HEADER: &str = "salve-simulated-now";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<B> tower::Service<http::Request<B>> for Simulator
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let simulator = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            match simulator.respond(&Request::new(&parts, body)) {
                Some(response) => response.map_err(Into::into),
                None => std::future::pending().await,
            }
        })
    }
}

impl Simulator {
    /// Handles one request at a single instant of virtual time. Returns `None` if it never gets a
    /// response.
    fn respond(&self, request: &Request) -> Option<Result<Response<Body>, ConnectionReset>> {
        let mut world = self.lock();
        world.advance(REQUEST_TIME);
        let verb = api::verb(request, &world.kinds);
        let cause = api::object_of(&world, request).map(|key| Cause::new(&world, key));
        let fault = inject(&mut world, verb, request, cause.as_ref());
        let time = world.now;
        let reply = match &fault {
            Some(InjectedFault { applied: false, .. }) => None,
            Some(InjectedFault { applied: true, .. }) | None => {
                Some(api::handle(&mut world, request))
            }
        };
        let applied = matches!(reply, Some(Ok(_)));
        if let Some(cause) = cause.filter(|_| applied) {
            script::on_request(&mut world, verb, &cause);
        }
        world.process_changes();
        if let Some(fault) = &fault {
            world.advance(fault.delay);
        }
        let mut response = match (fault.map(|fault| fault.response), reply) {
            (Some(FaultResponse::NoResponse), _) => None,
            (Some(FaultResponse::ConnectionReset), _) => Some(Err(ConnectionReset)),
            (Some(FaultResponse::InvalidBody), _) => Some(Ok(build_response(
                200,
                None,
                Body::once(Bytes::from_static(b"<html>proxy</html>")),
            ))),
            (Some(FaultResponse::Status { code, retry_after }), _) => {
                let mut error = ApiError::new(code, default_message(code));
                error.retry_after = retry_after;
                Some(Ok(error_response(&error)))
            }
            (Some(FaultResponse::Foreign { code, body }), _) => {
                Some(Ok(build_response(code, None, Body::once(body.into()))))
            }
            (None, Some(Ok(reply))) => Some(Ok(self.render(reply))),
            (None, Some(Err(error))) => Some(Ok(error_response(&error))),
            (None, None) => unreachable!("only a fault keeps a request from being handled"),
        };
        if let Some(Ok(response)) = &mut response {
            // Clients set their clocks by it. It has to be set here, or hyper adds the wall clock.
            let date = http::HeaderValue::try_from(
                world.now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            );
            response.headers_mut().extend(date.map(|date| (http::header::DATE, date)));
            response.headers_mut().insert(NOW_HEADER, world.now.as_millisecond().into());
        }
        world.exchanges.push(Arc::new(Exchange {
            time,
            verb,
            method: request.method.clone(),
            uri: request.uri.clone(),
            user_agent: request.user_agent.clone(),
            impersonated: request.impersonated.clone(),
            body: request.document().ok().flatten(),
            status: response
                .as_ref()
                .and_then(|response| response.as_ref().ok())
                .map(|response| response.status().as_u16()),
            applied,
        }));
        tracing::trace!(verb, uri = request.uri, "handled request");
        response
    }

    /// Handles a request to advance virtual time.
    pub(crate) fn handle_advance(&self, by: Option<Duration>) -> Response<Body> {
        let Some(by) = by else {
            return build_response(
                400,
                Some("text/plain"),
                Body::once("expected a number of milliseconds as the query\n".into()),
            );
        };
        let mut world = self.lock();
        world.advance(by);
        let mut response =
            build_response(200, Some("text/plain"), Body::once(format!("{}\n", world.now).into()));
        response.headers_mut().insert(NOW_HEADER, world.now.as_millisecond().into());
        response
    }

    fn render(&self, reply: Reply) -> Response<Body> {
        const JSON: Option<&str> = Some("application/json");
        match reply {
            Reply::Json(code, document) => {
                build_response(code, JSON, Body::once(document.to_string().into()))
            }
            Reply::Text(text) => build_response(200, Some("text/plain"), Body::once(text)),
            Reply::Watch(watch) => {
                build_response(200, JSON, Body::watch(watch, self.world.clone()))
            }
            Reply::Follow(follow) => {
                build_response(200, Some("text/plain"), Body::follow(follow, self.world.clone()))
            }
        }
    }
}

/// Returns the failure of a request that a fault or a reaction injects.
fn inject(
    world: &mut World,
    verb: &str,
    request: &Request,
    cause: Option<&Cause>,
) -> Option<InjectedFault> {
    let mut faults = world.faults.iter_mut();
    let fault = faults.find_map(|fault| fault.inject(verb, &request.method, &request.uri));
    fault.or_else(|| script::failure(world, verb, cause?).map(InjectedFault::status))
}

fn error_response(error: &ApiError) -> Response<Body> {
    if error.is_plain_text() {
        return build_response(
            error.code,
            Some("text/plain"),
            Body::once(error.message.clone().into()),
        );
    }
    let body = Body::once(error.status().to_string().into());
    let mut response = build_response(error.code, Some("application/json"), body);
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

fn build_response(code: u16, media_type: Option<&'static str>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(media_type) = media_type {
        let value = http::HeaderValue::from_static(media_type);
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    response
}

/// Returns the message of a real API server for a status code.
fn default_message(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "forbidden: simulated fault",
        404 => "the server could not find the requested resource",
        409 => {
            "Operation cannot be fulfilled: the object has been modified; please apply your \
             changes to the latest version and try again"
        }
        429 => "the server has received too many requests and has asked us to try again later",
        500 => "an error on the server has prevented the request from succeeding",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be \
             processing the request"
        }
        _ => "a simulated fault",
    }
}
