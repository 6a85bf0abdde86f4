//! The audit log of the API server, the oracle of the tests: every request with its user and
//! response.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cluster::str_at;

/// The audit log of one control plane.
#[derive(Clone, Debug)]
pub struct AuditLog {
    file: PathBuf,
}

/// A request and the status code of its response.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// When the API server received the request (RFC 3339).
    pub received: String,
    pub user: String,
    /// The impersonated user, if any.
    pub impersonated: Option<String>,
    pub user_agent: String,
    /// `get`, `list`, `create`, `patch`, ...
    pub verb: String,
    /// The path with its query.
    pub uri: String,
    /// Empty for the core group.
    pub group: String,
    /// The plural name; empty for requests that are not for a resource, such as discovery.
    pub resource: String,
    /// `status`, `log`, `scale`, ...; empty for the object itself.
    pub subresource: String,
    /// Empty for cluster-scoped kinds and for lists of all namespaces.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
    /// The status code of the response.
    pub code: u64,
    /// The body of a mutation; otherwise null.
    pub request: Value,
}

impl AuditEntry {
    /// Returns whether this requested a change. A dry run does not. Reviews and tokens are created
    /// too, but not stored: see `resource`.
    pub fn is_mutation(&self) -> bool {
        let changes = ["create", "update", "patch", "delete", "deletecollection"]
            .contains(&self.verb.as_str());
        changes && !self.is_dry_run()
    }

    /// Returns whether this was a dry run. kustomize-controller sends one before each apply.
    pub fn is_dry_run(&self) -> bool {
        self.uri.contains("dryRun=All") || !self.request["dryRun"].is_null()
    }

    /// Returns whether the API server accepted the request.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

impl AuditLog {
    pub(super) fn new(file: PathBuf) -> AuditLog {
        AuditLog { file }
    }

    /// Returns all requests up to now, in the order of their responses.
    pub fn entries(&self) -> Result<Vec<AuditEntry>> {
        let log = std::fs::read_to_string(&self.file).context("failed to read the audit log")?;
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        let lines = complete.lines().map(|line| {
            let event: Value =
                serde_json::from_str(line).context("a line of the audit log is not JSON")?;
            Ok(event)
        });
        let events: Vec<Value> = lines.collect::<Result<_>>()?;
        // A watch is logged when it starts and when it ends; the end has the response.
        Ok(events.iter().filter(|event| event["stage"] != "ResponseStarted").map(entry).collect())
    }

    /// Returns the changes that a user requested, rejected ones too.
    pub fn mutations_by(&self, user: &str) -> Result<Vec<AuditEntry>> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.user == user && entry.is_mutation());
        Ok(entries)
    }
}

fn entry(event: &Value) -> AuditEntry {
    let field = |pointer| str_at(event, pointer).to_owned();
    AuditEntry {
        received: field("/requestReceivedTimestamp"),
        user: field("/user/username"),
        impersonated: event
            .pointer("/impersonatedUser/username")
            .and_then(Value::as_str)
            .map(str::to_owned),
        user_agent: field("/userAgent"),
        verb: field("/verb"),
        uri: field("/requestURI"),
        group: field("/objectRef/apiGroup"),
        resource: field("/objectRef/resource"),
        subresource: field("/objectRef/subresource"),
        namespace: field("/objectRef/namespace"),
        name: field("/objectRef/name"),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        request: event["requestObject"].clone(),
    }
}
