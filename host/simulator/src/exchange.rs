//! The audit log: every request to the simulated API server, with its response status.

use jiff::Timestamp;
use serde_json::Value;

use crate::object::text;

/// One request and the status of its response.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// The virtual time of the request.
    pub time: Timestamp,
    /// The RBAC verb: get, list, watch, create, update, patch, delete, or deletecollection.
    pub verb: &'static str,
    pub method: String,
    /// Path and query, as sent.
    pub uri: String,
    pub user_agent: Option<String>,
    /// The impersonated user, from the Impersonate-User header.
    pub impersonated: Option<String>,
    /// The body, if it is JSON or YAML.
    pub body: Option<Value>,
    /// The status code; `None` if the connection was dropped or got no response.
    pub status: Option<u16>,
    /// Whether the request took effect, regardless of its response.
    pub applied: bool,
}

impl Exchange {
    /// Returns whether the request asked for a change. Reviews of the caller's own access and dry
    /// runs do not.
    pub fn is_mutation(&self) -> bool {
        matches!(self.verb, "create" | "update" | "patch" | "delete" | "deletecollection")
            && !self.uri.contains("/selfsubject")
            && !self.uri.contains("dryRun=All")
    }

    /// Describes it by verb, resource, and object, as in
    /// `delete replicationsources.volsync.backube media/sonarr`.
    pub fn describe(&self) -> String {
        let path = self.uri.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, rest) = match parts.as_slice() {
            ["api", _, rest @ ..] => (String::new(), rest),
            ["apis", group, _, rest @ ..] => (format!(".{group}"), rest),
            _ => return format!("{} {path}", self.verb),
        };
        let created = self.body.as_ref().map_or("", |body| text(body, "/metadata/name"));
        let (resource, namespace, name) = match rest {
            ["namespaces", namespace, resource, name, ..] => (*resource, Some(namespace), *name),
            ["namespaces", namespace, resource] => (*resource, Some(namespace), created),
            [resource, name, ..] => (*resource, None, *name),
            [resource] => (*resource, None, created),
            [] => return format!("{} {path}", self.verb),
        };
        match namespace {
            Some(namespace) => format!("{} {resource}{group} {namespace}/{name}", self.verb),
            None => format!("{} {resource}{group} {name}", self.verb),
        }
    }
}
