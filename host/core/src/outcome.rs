//! What an effect came to, and whose fault it is when it came to nothing.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Why a call came to nothing, as a guest meets it. The contract's one error type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", content = "text", rename_all = "kebab-case")]
pub enum Error {
    /// No grant allows it, a maximum is reached, or the cluster's own RBAC refuses.
    #[error("denied: {0}")]
    Denied(String),
    /// The object, its kind or its namespace is not there.
    #[error("not found: {0}")]
    NotFound(String),
    /// Somebody else holds or changed it. Nothing was changed.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The arguments make no sense. Nothing was asked of the cluster.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The cluster did not answer, or not in time.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl Error {
    /// The sentence without the kind.
    pub fn text(&self) -> &str {
        match self {
            Self::Denied(t)
            | Self::NotFound(t)
            | Self::Conflict(t)
            | Self::Invalid(t)
            | Self::Unavailable(t) => t,
        }
    }
}

impl Error {
    /// Whose fault it is where a guest gives up with it, as far as the kind tells.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Denied(_) => Fault::Grant,
            Self::NotFound(_) | Self::Conflict(_) | Self::Unavailable(_) => Fault::Cluster,
            Self::Invalid(_) => Fault::Guest,
        }
    }
}

/// Who has to act when something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The guest asked for nonsense, trapped or broke a limit.
    Guest,
    /// A grant or a maximum forbids it.
    Grant,
    /// The cluster refused, or is silent.
    Cluster,
    /// Salve itself, or the machine that it runs on.
    Host,
}

/// What stands in the journal: the answer as JSON, or the error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The answer. [`crate::effect::Effect::decode`] makes a value of it.
    Ok(Box<RawValue>),
    /// The error.
    Error(Error),
}

impl Outcome {
    /// The answer, if there was one.
    pub fn ok(&self) -> Option<&RawValue> {
        match self {
            Self::Ok(raw) => Some(raw),
            Self::Error(_) => None,
        }
    }
}
