//! What an API server, or whatever stands before it, can do to one request. HTTP/2's own faults come down to these: a connection
//! that ends before or after the request took effect.

use crate::interceptor::BoxError;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use salve_simulator::{Body, Simulator};
use serde_json::json;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this code and does not take effect.
    Refused { code: u16, retry_after: Option<u32> },
    /// It takes effect, and is answered with this code.
    Applied { code: u16 },
    /// The connection ends before it arrives, or before its answer does.
    Dropped { applied: bool },
    /// The answer breaks off in its middle.
    Truncated,
    /// The answer is another one.
    Garbled { applied: bool, body: &'static str },
    /// The answer has the wrong media type.
    OfAnotherType,
    /// The answer takes this many seconds.
    Slow { seconds: u64 },
    /// Nothing comes.
    Hang { applied: bool },
}

const fn refused(code: u16) -> Fault {
    Fault::Refused { code, retry_after: None }
}

/// All of them.
pub const FAULTS: &[Fault] = &[
    refused(400),
    refused(401),
    refused(403),
    refused(404),
    refused(409),
    refused(410),
    refused(422),
    refused(429),
    Fault::Refused { code: 429, retry_after: Some(2) },
    refused(500),
    refused(502),
    refused(503),
    Fault::Refused { code: 503, retry_after: Some(2) },
    refused(504),
    Fault::Applied { code: 500 },
    Fault::Applied { code: 502 },
    Fault::Applied { code: 504 },
    Fault::Dropped { applied: false },
    Fault::Dropped { applied: true },
    Fault::Truncated,
    Fault::Garbled { applied: false, body: "<html>Sign in to continue</html>" },
    Fault::Garbled { applied: true, body: "<html>Sign in to continue</html>" },
    Fault::Garbled { applied: true, body: "" },
    Fault::Garbled { applied: true, body: "{\"kind\":\"Status\"" },
    Fault::Garbled { applied: false, body: "[]" },
    Fault::OfAnotherType,
    Fault::Slow { seconds: 30 },
    Fault::Hang { applied: false },
    Fault::Hang { applied: true },
];

impl Fault {
    /// Strikes a request.
    pub async fn strike<F>(
        self,
        request: Request<Bytes>,
        send: impl FnOnce(Request<Bytes>) -> F,
        simulator: &Simulator,
    ) -> Result<Response<Answer>, BoxError>
    where
        F: Future<Output = Result<Response<Body>, BoxError>>,
    {
        match self {
            Self::Refused { code, retry_after } => Ok(status(code, retry_after)),
            Self::Applied { code } => {
                send(request).await?;
                Ok(status(code, None))
            }
            Self::Dropped { applied } => {
                if applied {
                    send(request).await?;
                }
                Err("connection reset by peer".into())
            }
            Self::Truncated => {
                let (head, body) = send(request).await?.into_parts();
                let whole = body.collect().await?.to_bytes();
                Ok(Response::from_parts(head, Answer::Broken(Some(whole.slice(..whole.len() / 2)))))
            }
            Self::Garbled { applied, body } => {
                if applied {
                    send(request).await?;
                }
                Ok(Response::new(Answer::other(Bytes::from_static(body.as_bytes()))))
            }
            Self::OfAnotherType => {
                let mut response = send(request).await?.map(Answer::Whole);
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html"));
                Ok(response)
            }
            Self::Slow { seconds } => {
                let response = send(request).await?;
                simulator.clock().advance(Duration::from_secs(seconds));
                Ok(response.map(Answer::Whole))
            }
            Self::Hang { applied } => {
                if applied {
                    send(request).await?;
                }
                std::future::pending().await
            }
        }
    }
}

fn status(code: u16, retry_after: Option<u32>) -> Response<Answer> {
    // Gateways answer with pages of their own.
    let body = match code {
        502 => Bytes::from_static(b"<html><h1>502 Bad Gateway</h1></html>"),
        code => json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": format!("a fault: {code}"), "code": code}).to_string().into(),
    };
    let mut response = Response::new(Answer::other(body));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The body that comes back: the simulator's, another, or one that breaks off.
pub enum Answer {
    Whole(Body),
    Other(Full<Bytes>),
    Broken(Option<Bytes>),
}

impl Answer {
    fn other(bytes: Bytes) -> Self {
        Self::Other(Full::new(bytes))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match &mut *self {
            Self::Whole(body) => {
                ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(Into::into))
            }
            Self::Other(body) => {
                ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(Into::into))
            }
            Self::Broken(part) => {
                Some(part.take().map(Frame::data).ok_or_else(|| "the connection ended".into()))
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Other(body) => body.size_hint(),
            Self::Broken(_) => SizeHint::default(),
        }
    }
}
