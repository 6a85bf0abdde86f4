//! The audit log of the API server, the oracle of the stories: what was asked, by whom, and what was answered.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cluster::text;

/// The audit log of one control plane.
#[derive(Clone, Debug)]
pub struct AuditLog {
    file: PathBuf,
}

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When the API server received it (RFC 3339).
    pub received: String,
    /// Who asked.
    pub user: String,
    /// As whom, if as somebody else.
    pub impersonated: Option<String>,
    /// With which program.
    pub user_agent: String,
    /// `get`, `list`, `create`, `patch`, ...
    pub verb: String,
    /// The address with its query.
    pub uri: String,
    /// The API group; empty for the core.
    pub group: String,
    /// The plural of the kind; empty for what is no resource.
    pub resource: String,
    /// `status`, `log`, `scale`, ...; empty for the object itself.
    pub subresource: String,
    /// Empty for cluster-scoped kinds and for lists of all namespaces.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
    /// The code of the answer.
    pub code: u64,
    /// The body, where the request is a mutation; otherwise null.
    pub request: Value,
}

impl Entry {
    /// Whether this asked for a change. A dry run asks for none. Reviews and tokens are created too, and leave nothing
    /// behind: see `resource`.
    pub fn is_mutation(&self) -> bool {
        let changes = ["create", "update", "patch", "delete", "deletecollection"]
            .contains(&self.verb.as_str());
        changes && !self.is_dry_run()
    }

    /// Whether this only asked what a change would come to; kustomize-controller asks before each apply.
    pub fn is_dry_run(&self) -> bool {
        self.uri.contains("dryRun=All") || !self.request["dryRun"].is_null()
    }

    /// Whether the API server did what it was asked.
    pub fn is_granted(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

impl AuditLog {
    pub(super) fn at(file: PathBuf) -> AuditLog {
        AuditLog { file }
    }

    /// Everything that was answered up to now, in the order of the answers.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let log = std::fs::read_to_string(&self.file).context("the audit log cannot be read")?;
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        let lines = complete.lines().map(|line| {
            let event: Value =
                serde_json::from_str(line).context("a line of the audit log is no JSON")?;
            Ok(event)
        });
        let events: Vec<Value> = lines.collect::<Result<_>>()?;
        // A watch tells its beginning and its end; the end is the answer.
        Ok(events.iter().filter(|event| event["stage"] != "ResponseStarted").map(entry).collect())
    }

    /// The changes that this user asked for, refused ones too.
    pub fn mutations_by(&self, user: &str) -> Result<Vec<Entry>> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.user == user && entry.is_mutation());
        Ok(entries)
    }
}

fn entry(event: &Value) -> Entry {
    let local = |pointer| text(event, pointer).to_owned();
    Entry {
        received: local("/requestReceivedTimestamp"),
        user: local("/user/username"),
        impersonated: event
            .pointer("/impersonatedUser/username")
            .and_then(Value::as_str)
            .map(str::to_owned),
        user_agent: local("/userAgent"),
        verb: local("/verb"),
        uri: local("/requestURI"),
        group: local("/objectRef/apiGroup"),
        resource: local("/objectRef/resource"),
        subresource: local("/objectRef/subresource"),
        namespace: local("/objectRef/namespace"),
        name: local("/objectRef/name"),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        request: event["requestObject"].clone(),
    }
}
