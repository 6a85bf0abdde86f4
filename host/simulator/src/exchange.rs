//! The audit log: every request that the simulated API server saw, and how it answered.

use jiff::Timestamp;
use serde_json::Value;

/// One request and its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Virtual time of the request.
    pub time: Timestamp,
    /// The verb as RBAC names it: get, list, watch, create, update, patch, delete.
    pub verb: &'static str,
    /// The HTTP method.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// The User-Agent header.
    pub user_agent: Option<String>,
    /// The user that the caller asked to be taken for.
    pub impersonated: Option<String>,
    /// The body, when it was JSON or YAML.
    pub body: Option<Value>,
    /// The status code; `None` when the connection was dropped, or never heard an answer.
    pub status: Option<u16>,
    /// Whether the request took effect, whatever was answered.
    pub applied: bool,
}

impl Exchange {
    /// Whether it asked for a change of the cluster; reviews of one's own access do not.
    pub fn is_mutation(&self) -> bool {
        matches!(self.verb, "create" | "update" | "patch" | "delete" | "deletecollection")
            && !self.uri.contains("/selfsubject")
            && !self.uri.contains("dryRun=All")
    }
}
