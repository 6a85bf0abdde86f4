//! Faults that an API server, or a proxy in front of it, can cause for one request. HTTP/2 faults
//! reduce to these: the connection ends before or after the request took effect.

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

/// A fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is rejected with this status code and does not take effect.
    Rejected { code: u16, retry_after: Option<u32> },
    /// The request takes effect, but the response has this status code.
    AppliedWithError { code: u16 },
    /// The connection ends before the request arrives or before its response does.
    ConnectionLost { applied: bool },
    /// The response body ends in the middle.
    Truncated,
    /// The response has another body.
    WrongBody { applied: bool, body: &'static str },
    /// The response has the wrong media type.
    WrongContentType,
    /// The response takes this many seconds.
    Slow { seconds: u64 },
    /// No response arrives.
    Hang { applied: bool },
}

const fn rejected(code: u16) -> Fault {
    Fault::Rejected { code, retry_after: None }
}

pub const FAULTS: &[Fault] = &[
    rejected(400),
    rejected(401),
    rejected(403),
    rejected(404),
    rejected(409),
    rejected(410),
    rejected(422),
    rejected(429),
    Fault::Rejected { code: 429, retry_after: Some(2) },
    rejected(500),
    rejected(502),
    rejected(503),
    Fault::Rejected { code: 503, retry_after: Some(2) },
    rejected(504),
    Fault::AppliedWithError { code: 500 },
    Fault::AppliedWithError { code: 502 },
    Fault::AppliedWithError { code: 504 },
    Fault::ConnectionLost { applied: false },
    Fault::ConnectionLost { applied: true },
    Fault::Truncated,
    Fault::WrongBody { applied: false, body: "<html>Sign in to continue</html>" },
    Fault::WrongBody { applied: true, body: "<html>Sign in to continue</html>" },
    Fault::WrongBody { applied: true, body: "" },
    Fault::WrongBody { applied: true, body: "{\"kind\":\"Status\"" },
    Fault::WrongBody { applied: false, body: "[]" },
    Fault::WrongContentType,
    Fault::Slow { seconds: 30 },
    Fault::Hang { applied: false },
    Fault::Hang { applied: true },
];

impl Fault {
    /// Sends the request with this fault and returns the response that the client sees.
    pub async fn inject<F>(
        self,
        request: Request<Bytes>,
        send: impl FnOnce(Request<Bytes>) -> F,
        simulator: &Simulator,
    ) -> Result<Response<ResponseBody>, BoxError>
    where
        F: Future<Output = Result<Response<Body>, BoxError>>,
    {
        match self {
            Self::Rejected { code, retry_after } => Ok(status(code, retry_after)),
            Self::AppliedWithError { code } => {
                send(request).await?;
                Ok(status(code, None))
            }
            Self::ConnectionLost { applied } => {
                if applied {
                    send(request).await?;
                }
                Err("connection reset by peer".into())
            }
            Self::Truncated => {
                let (head, body) = send(request).await?.into_parts();
                let body = body.collect().await?.to_bytes();
                let half = body.slice(..body.len() / 2);
                Ok(Response::from_parts(head, ResponseBody::Truncated(Some(half))))
            }
            Self::WrongBody { applied, body } => {
                if applied {
                    send(request).await?;
                }
                Ok(Response::new(ResponseBody::replaced(Bytes::from_static(body.as_bytes()))))
            }
            Self::WrongContentType => {
                let mut response = send(request).await?.map(ResponseBody::Complete);
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html"));
                Ok(response)
            }
            Self::Slow { seconds } => {
                let response = send(request).await?;
                simulator.clock().advance(Duration::from_secs(seconds));
                Ok(response.map(ResponseBody::Complete))
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

fn status(code: u16, retry_after: Option<u32>) -> Response<ResponseBody> {
    // Gateways respond with their own pages.
    let body = match code {
        502 => Bytes::from_static(b"<html><h1>502 Bad Gateway</h1></html>"),
        code => json!({
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": format!("a fault: {code}"),
            "code": code,
        })
        .to_string()
        .into(),
    };
    let mut response = Response::new(ResponseBody::replaced(body));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The body of a response: the simulator's, a replacement, or a truncated one.
pub enum ResponseBody {
    Complete(Body),
    Replaced(Full<Bytes>),
    Truncated(Option<Bytes>),
}

impl ResponseBody {
    fn replaced(bytes: Bytes) -> Self {
        Self::Replaced(Full::new(bytes))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match &mut *self {
            Self::Complete(body) => {
                ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(Into::into))
            }
            Self::Replaced(body) => {
                ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(Into::into))
            }
            Self::Truncated(part) => {
                Some(part.take().map(Frame::data).ok_or_else(|| "the connection ended".into()))
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Complete(body) => body.size_hint(),
            Self::Replaced(body) => body.size_hint(),
            Self::Truncated(_) => SizeHint::default(),
        }
    }
}
