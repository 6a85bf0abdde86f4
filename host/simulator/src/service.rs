//! The HTTP seam: a `tower` service that takes a request, lets a little time pass, answers, and keeps the audit log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;

use crate::api::{self, Refusal, Reply, Request};
use crate::body::{Body, Dropped};
use crate::exchange::Exchange;
use crate::fault::{Answer, Strike};
use crate::simulator::Simulator;

/// How much virtual time every request takes.
const REQUEST_TIME: Duration = Duration::from_millis(3);

/// The header that tells virtual time to the millisecond, for who keeps it from afar.
pub(crate) const NOW: &str = "salve-simulated-now";

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
                Some(answer) => answer.map_err(Into::into),
                None => std::future::pending().await,
            }
        })
    }
}

impl Simulator {
    /// Answers one request, all at one moment of virtual time; or never.
    fn respond(&self, request: &Request) -> Option<Result<Response<Body>, Dropped>> {
        let mut world = self.lock();
        world.advance(REQUEST_TIME);
        let verb = api::verb(request);
        let strike = world
            .faults
            .iter_mut()
            .find_map(|fault| fault.strike(verb, &request.method, &request.uri));
        let time = world.now;
        let reply = match &strike {
            Some(Strike { applied: false, .. }) => None,
            Some(Strike { applied: true, .. }) | None => Some(api::answer(&mut world, request)),
        };
        let applied = matches!(reply, Some(Ok(_)));
        world.observe();
        if let Some(strike) = &strike {
            world.advance(strike.delay);
        }
        let mut response = match (strike.map(|strike| strike.answer), reply) {
            (Some(Answer::Silence), _) => None,
            (Some(Answer::Dropped), _) => Some(Err(Dropped)),
            (Some(Answer::Garbage), _) => Some(Ok(respond_with(
                200,
                None,
                Body::once(Bytes::from_static(b"<html>proxy</html>")),
            ))),
            (Some(Answer::Status { code, retry_after }), _) => {
                let mut refusal = Refusal::new(code, message(code));
                refusal.retry_after = retry_after;
                Some(Ok(refuse(&refusal)))
            }
            (None, Some(Ok(reply))) => Some(Ok(self.send(reply))),
            (None, Some(Err(refusal))) => Some(Ok(refuse(&refusal))),
            (None, None) => unreachable!("only a fault keeps a request from being answered"),
        };
        if let Some(Ok(response)) = &mut response {
            // Virtual time, before a server of sockets can say its own: clients set their clocks by it.
            let date = http::HeaderValue::try_from(
                world.now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            );
            response.headers_mut().extend(date.map(|date| (http::header::DATE, date)));
            response.headers_mut().insert(NOW, world.now.as_millisecond().into());
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
                .and_then(|answer| answer.as_ref().ok())
                .map(|response| response.status().as_u16()),
            applied,
        }));
        tracing::trace!(verb, uri = request.uri, "answered");
        response
    }

    /// Moves virtual time, for who asks by HTTP.
    pub(crate) fn advanced(&self, by: Option<Duration>) -> Response<Body> {
        let Some(by) = by else {
            return respond_with(
                400,
                Some("text/plain"),
                Body::once("so many milliseconds are wanted\n".into()),
            );
        };
        let mut world = self.lock();
        world.advance(by);
        let mut response =
            respond_with(200, Some("text/plain"), Body::once(format!("{}\n", world.now).into()));
        response.headers_mut().insert(NOW, world.now.as_millisecond().into());
        response
    }

    fn send(&self, reply: Reply) -> Response<Body> {
        const JSON: Option<&str> = Some("application/json");
        match reply {
            Reply::Json(code, document) => {
                respond_with(code, JSON, Body::once(document.to_string().into()))
            }
            Reply::Text(text) => respond_with(200, Some("text/plain"), Body::once(text)),
            Reply::Watch(watch) => respond_with(200, JSON, Body::watch(watch, self.world.clone())),
            Reply::Follow(follow) => {
                respond_with(200, Some("text/plain"), Body::follow(follow, self.world.clone()))
            }
        }
    }
}

fn refuse(refusal: &Refusal) -> Response<Body> {
    if refusal.is_plain() {
        return respond_with(
            refusal.code,
            Some("text/plain"),
            Body::once(refusal.message.clone().into()),
        );
    }
    let body = Body::once(refusal.status().to_string().into());
    let mut response = respond_with(refusal.code, Some("application/json"), body);
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

fn respond_with(code: u16, media_type: Option<&'static str>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(media_type) = media_type {
        let value = http::HeaderValue::from_static(media_type);
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    response
}

/// What a real API server says with a code.
fn message(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "forbidden: the simulated fault says no",
        404 => "the server could not find the requested resource",
        409 => {
            "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again"
        }
        429 => "the server has received too many requests and has asked us to try again later",
        500 => "an error on the server has prevented the request from succeeding",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        _ => "a simulated fault",
    }
}
