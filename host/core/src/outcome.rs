//! Errors and outcomes of calls, and who has to act on an error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Why a call failed, as a guest sees it. It is the only error type of the WIT contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", content = "text", rename_all = "kebab-case")]
pub enum Error {
    /// No grant allows it, or a maximum is reached.
    #[error("denied: {0}")]
    Denied(String),
    /// The cluster's RBAC or admission control rejected it. A guest sees `denied`.
    #[error("denied: {0}")]
    Forbidden(String),
    /// The API server rejected the credentials (401). A guest sees `unavailable`.
    #[error("unavailable: {0}")]
    Unauthorized(String),
    /// The object, its kind, or its namespace does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// Someone else changed or owns the object. Nothing was changed.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The arguments are not valid. Nothing was sent.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The API server did not respond, or not in time.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl Error {
    /// Returns the message without the kind of error.
    pub fn text(&self) -> &str {
        match self {
            Self::Denied(text)
            | Self::Forbidden(text)
            | Self::Unauthorized(text)
            | Self::NotFound(text)
            | Self::Conflict(text)
            | Self::Invalid(text)
            | Self::Unavailable(text) => text,
        }
    }

    /// Returns who has to act if a guest gives up with this error, as far as the kind tells.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Denied(_) => Fault::Grant,
            Self::Forbidden(_)
            | Self::Unauthorized(_)
            | Self::NotFound(_)
            | Self::Conflict(_)
            | Self::Unavailable(_) => Fault::Cluster,
            Self::Invalid(_) => Fault::Guest,
        }
    }
}

/// Who has to act after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The guest made an invalid call, trapped, or exceeded a limit.
    Guest,
    /// A grant or a maximum does not allow it.
    Grant,
    /// A grant requires an approval, and no one gave it.
    Approval,
    /// The API server rejected a request or did not respond.
    Cluster,
    /// Salve itself, or the machine that runs it.
    Host,
}

/// The outcome of a call as the journal has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The answer as JSON. See [`Effect::decode`](crate::capability::Effect::decode).
    Ok(Box<RawValue>),
    Error(Error),
}

impl Outcome {
    pub fn ok(&self) -> Option<&RawValue> {
        match self {
            Self::Ok(raw) => Some(raw),
            Self::Error(_) => None,
        }
    }
}
