//! A parsed request: path, query, relevant headers, and body.

use bytes::Bytes;
use serde_json::Value;

use super::error::ApiError;

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query, as sent.
    pub uri: String,
    path: String,
    query: Vec<(String, String)>,
    accept: String,
    content_type: String,
    /// The User-Agent header.
    pub user_agent: Option<String>,
    /// The Impersonate-User header.
    pub impersonated: Option<String>,
    pub body: Bytes,
}

impl Request {
    pub fn new(parts: &http::request::Parts, body: Bytes) -> Self {
        let header = |name: &str| {
            parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        Request {
            method: parts.method.as_str().to_owned(),
            uri: parts.uri.path_and_query().map_or_else(String::new, |uri| uri.as_str().to_owned()),
            path: parts.uri.path().to_owned(),
            query: pairs(parts.uri.query().unwrap_or("")),
            accept: header("accept").unwrap_or_default(),
            content_type: header("content-type").unwrap_or_default(),
            user_agent: header("user-agent"),
            impersonated: header("impersonate-user"),
            body,
        }
    }

    /// Returns the segments of the path, decoded.
    pub fn segments(&self) -> Vec<String> {
        self.path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| decode(part, false))
            .collect()
    }

    /// Returns a query parameter. An empty one counts as absent.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Returns whether a boolean query parameter is set.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("true" | "1" | "True"))
    }

    /// Returns a numeric query parameter.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.parameter(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    ApiError::new(400, format!("invalid value {value:?} for parameter {name}"))
                })
            })
            .transpose()
    }

    /// Returns whether the caller accepts objects converted to `kind` (`Table`,
    /// `PartialObjectMetadata`).
    pub fn accepts_as(&self, kind: &str) -> bool {
        self.accept
            .split(',')
            .any(|media_type| media_type.split(';').any(|part| part.trim() == format!("as={kind}")))
    }

    /// Returns the body's media type, without parameters.
    pub fn media_type(&self) -> &str {
        self.content_type.split(';').next().unwrap_or("").trim()
    }

    /// Returns the field manager. The default is the user agent up to the first slash, as on a real
    /// API server.
    pub fn field_manager(&self) -> String {
        let agent = || {
            self.user_agent
                .as_deref()
                .unwrap_or("unknown")
                .split('/')
                .next()
                .unwrap_or("unknown")
                .to_owned()
        };
        self.parameter("fieldManager").map_or_else(agent, str::to_owned)
    }

    pub fn is_dry_run(&self) -> bool {
        self.query.iter().any(|(key, value)| key == "dryRun" && value == "All")
    }

    /// Parses the body, or returns `None` if it is empty.
    pub fn document(&self) -> Result<Option<Value>, ApiError> {
        if self.body.is_empty() {
            return Ok(None);
        }
        let media = self.media_type();
        if media.ends_with("protobuf") || media.ends_with("cbor") {
            let why = format!(
                "the body of the request was in an unknown format - {media}: only JSON and YAML \
                 are read"
            );
            return Err(ApiError::new(415, why));
        }
        if media.ends_with("yaml") {
            let text = std::str::from_utf8(&self.body)
                .map_err(|_| ApiError::new(400, "the body is not UTF-8"))?;
            return serde_saphyr::from_str(text).map(Some).map_err(|error| {
                ApiError::new(400, format!("the body is not valid YAML: {error}"))
            });
        }
        serde_json::from_slice(&self.body).map(Some).map_err(|error| {
            ApiError::new(400, format!("the object provided is unrecognized: {error}"))
        })
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        })
        .collect()
}

fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| (*byte as char).to_digit(16);
                if let (Some(high), Some(low)) = (digit(high), digit(low)) {
                    bytes.push((high * 16 + low) as u8);
                    rest = after;
                } else {
                    bytes.push(b'%');
                }
            }
            (b'+', _) if plus_is_space => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_decoded_and_empty_ones_count_as_absent() {
        let (parts, ()) = http::Request::get(
            "/api/v1/pods?&labelSelector=app%3Dplex%2Ctier+in+%28a%29&fieldManager=",
        )
        .body(())
        .expect("request is valid")
        .into_parts();
        let request = Request::new(&parts, Bytes::new());
        assert_eq!(request.parameter("labelSelector"), Some("app=plex,tier in (a)"));
        assert_eq!(request.parameter("fieldManager"), None);
    }
}
