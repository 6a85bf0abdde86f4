//! The API server: turns a request into a reply and changes the world.
//! Controller behavior is in `actors`.

mod columns;
mod delete;
mod discovery;
mod error;
pub mod log;
pub mod patch;
mod read;
mod request;
mod review;
mod select;
mod table;
pub mod watch;
mod write;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::kind::{Kind, Kinds};
use crate::object::text;
use crate::store::Key;
use crate::world::World;

pub use error::ApiError;
pub use request::Request;

/// The reply to a successful request.
pub enum Reply {
    /// A JSON document with its status code.
    Json(u16, Value),
    Text(Bytes),
    Watch(Box<watch::Watch>),
    Follow(log::Follow),
}

/// The object or collection that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub kind: &'static Kind,
    /// `None` for all namespaces and for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// `None` for the collection.
    pub name: Option<String>,
    /// For example `status` or `log`.
    pub subresource: Option<String>,
}

impl Target {
    /// Returns the key of the object, or `None` for a collection.
    pub fn key(&self) -> Option<Key> {
        let name = self.name.as_deref()?;
        Some(Key::new(self.kind, self.namespace.as_deref().unwrap_or(""), name))
    }
}

/// Returns the RBAC verb of a request.
pub fn verb(request: &Request, kinds: &Kinds) -> &'static str {
    let target = target(&request.segments(), kinds);
    let named = target.as_ref().is_ok_and(|target| target.name.is_some());
    match request.method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if named => "delete",
        "DELETE" => "deletecollection",
        _ if request.flag("watch") => "watch",
        _ if !named && target.is_ok() => "list",
        _ => "get",
    }
}

/// Returns the object that a request names, or would create. Its name is empty for a collection.
pub fn object_of(world: &World, request: &Request) -> Option<Key> {
    let target = target(&request.segments(), &world.kinds).ok()?;
    let name = match target.name {
        Some(name) => name,
        None if request.method == "POST" => {
            text(&request.document().ok()??, "/metadata/name").to_owned()
        }
        None => String::new(),
    };
    Some(Key::new(target.kind, target.namespace.as_deref().unwrap_or(""), &name))
}

/// Handles one request.
pub fn handle(world: &mut World, request: &Request) -> Result<Reply, ApiError> {
    let segments = request.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let ["apis", group, ..] = parts.as_slice()
        && world.uninstalled.iter().any(|uninstalled| uninstalled == group)
    {
        return Err(ApiError::unknown_group());
    }
    if let Some(reply) = discovery::handle(world, &parts, request)? {
        return Ok(reply);
    }
    if let Some(reply) = review::handle(&parts, request)? {
        return Ok(reply);
    }
    let target = target(&segments, &world.kinds)?;
    match (request.method.as_str(), target.subresource.as_deref()) {
        ("GET", Some("log")) if target.kind == crate::kind::PODS => {
            log::handle(world, request, &target)
        }
        ("GET", None | Some("status")) => read::handle(world, request, &target),
        ("POST", None) => write::create(world, request, &target),
        ("PUT", None | Some("status")) => write::replace(world, request, &target),
        ("PATCH", None | Some("status")) => write::patch(world, request, &target),
        ("DELETE", None) if target.name.is_some() => delete::handle(world, request, &target),
        ("GET" | "POST" | "PUT" | "PATCH" | "DELETE", Some(_)) => Err(ApiError::unknown_path()),
        (_, _) => Err(ApiError::method_not_allowed()),
    }
}

/// Returns the object or collection that a path names.
pub fn target(segments: &[String], kinds: &Kinds) -> Result<Target, ApiError> {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(ApiError::unknown_path()),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, rest @ ..]
            if !matches!(*plural, "status" | "finalize") =>
        {
            (Some((*namespace).to_owned()), [&[*plural], rest].concat())
        }
        _ => (None, rest.to_vec()),
    };
    let [plural, rest @ ..] = rest.as_slice() else { return Err(ApiError::unknown_path()) };
    let not_served = || {
        if kinds.iter().any(|kind| kind.group == group && !kind.is_custom()) {
            ApiError::unknown_path()
        } else {
            ApiError::unknown_group()
        }
    };
    let is_target =
        |kind: &&Kind| (kind.group, kind.version, kind.plural) == (group, version, *plural);
    let kind = kinds.iter().find(is_target).ok_or_else(not_served)?;
    let (name, subresource) = match rest {
        [] => (None, None),
        [name] => (Some((*name).to_owned()), None),
        [name, subresource] => (Some((*name).to_owned()), Some((*subresource).to_owned())),
        _ => return Err(ApiError::unknown_path()),
    };
    if kind.namespaced != namespace.is_some() && (name.is_some() || namespace.is_some()) {
        return Err(ApiError::unknown_path());
    }
    Ok(Target { kind, namespace, name, subresource })
}

/// Returns an object in the version of a target. All versions have the same fields.
fn in_version(target: &Target, mut object: Value) -> Value {
    if target.kind.is_custom() {
        object["apiVersion"] = target.kind.api_version().into();
    }
    object
}

/// Returns the Status of a completed deletion.
fn success_status(kind: &Kind, name: &str, uid: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": name, "group": kind.group, "kind": kind.plural, "uid": uid},
    })
}
