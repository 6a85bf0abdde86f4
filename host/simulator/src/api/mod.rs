//! What the API server answers: a request in, a reply and a changed world out.
//! Behaviour of controllers is not here; it is in `parties`.

mod columns;
mod delete;
mod discovery;
pub mod log;
mod patch;
mod read;
mod refusal;
mod request;
mod review;
mod select;
mod table;
pub mod watch;
mod write;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::kind::{KINDS, Kind};
use crate::store::Key;
use crate::world::World;

pub use refusal::Refusal;
pub use request::Request;

/// An answer.
pub enum Reply {
    /// A JSON document with its status code.
    Json(u16, Value),
    /// Text.
    Text(Bytes),
    /// A stream of changes.
    Watch(Box<watch::Watch>),
    /// A log that is followed.
    Follow(log::Follow),
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The kind.
    pub kind: &'static Kind,
    /// The namespace; none for all of them, and for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// The object's name; none for the collection.
    pub name: Option<String>,
    /// `status`, `log` and the like.
    pub subresource: Option<String>,
}

impl Target {
    /// The key of the object, if the path names one.
    pub fn key(&self) -> Option<Key> {
        let name = self.name.as_deref()?;
        Some(Key::new(self.kind, self.namespace.as_deref().unwrap_or(""), name))
    }
}

/// The verb of a request, as RBAC names it.
pub fn verb(request: &Request) -> &'static str {
    let named = target(&request.segments()).is_ok_and(|target| target.name.is_some());
    match request.method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if named => "delete",
        "DELETE" => "deletecollection",
        _ if request.flag("watch") => "watch",
        _ if !named && target(&request.segments()).is_ok() => "list",
        _ => "get",
    }
}

/// Answers one request.
pub fn answer(world: &mut World, request: &Request) -> Result<Reply, Refusal> {
    let segments = request.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let ["version" | "healthz" | "readyz" | "livez" | "api" | "apis" | "openapi" | "openid", ..] =
        parts[..]
        && let Some(reply) = discovery::answer(&parts, request)?
    {
        return Ok(reply);
    }
    if let Some(reply) = review::answer(&parts, request)? {
        return Ok(reply);
    }
    let target = target(&segments)?;
    match (request.method.as_str(), target.subresource.as_deref()) {
        ("GET", Some("log")) if target.kind == crate::kind::PODS => {
            log::answer(world, request, &target)
        }
        ("GET", None | Some("status")) => read::answer(world, request, &target),
        ("POST", None) => write::create(world, request, &target),
        ("PUT", None | Some("status")) => write::replace(world, request, &target),
        ("PATCH", None | Some("status")) => write::patch(world, request, &target),
        ("DELETE", None) if target.name.is_some() => delete::answer(world, request, &target),
        ("GET" | "POST" | "PUT" | "PATCH" | "DELETE", Some(_)) => Err(Refusal::no_such_path()),
        (_, _) => Err(Refusal::method_not_allowed()),
    }
}

fn target(segments: &[String]) -> Result<Target, Refusal> {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(Refusal::no_such_path()),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, rest @ ..]
            if !matches!(*plural, "status" | "finalize") =>
        {
            (Some((*namespace).to_owned()), [&[*plural], rest].concat())
        }
        _ => (None, rest.to_vec()),
    };
    let [plural, rest @ ..] = rest.as_slice() else { return Err(Refusal::no_such_path()) };
    let none = || {
        if KINDS.iter().any(|kind| kind.group == group && !kind.is_custom()) {
            Refusal::no_such_path()
        } else {
            Refusal::no_such_group()
        }
    };
    let kind = Kind::find(group, plural)
        .filter(|kind| kind.version == version && kind.plural == *plural)
        .ok_or_else(none)?;
    let (name, subresource) = match rest {
        [] => (None, None),
        [name] => (Some((*name).to_owned()), None),
        [name, subresource] => (Some((*name).to_owned()), Some((*subresource).to_owned())),
        _ => return Err(Refusal::no_such_path()),
    };
    if kind.namespaced != namespace.is_some() && (name.is_some() || namespace.is_some()) {
        return Err(Refusal::no_such_path());
    }
    Ok(Target { kind, namespace, name, subresource })
}

/// The document that answers a deletion which is done.
fn success(kind: &Kind, name: &str, uid: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": name, "group": kind.group, "kind": kind.plural, "uid": uid},
    })
}
