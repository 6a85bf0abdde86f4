//! Get and list, with full objects, tables, or only metadata.

use std::sync::Arc;

use serde_json::{Value, json};

use super::select::Selector;
use super::{ApiError, Reply, Request, Target, table, watch};
use crate::object::unset;
use crate::world::World;

/// Handles a GET of an object or a collection.
pub fn handle(world: &World, request: &Request, target: &Target) -> Result<Reply, ApiError> {
    if let Some(key) = target.key() {
        let object = world.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &key.name))?;
        return Ok(Reply::Json(200, represent(request, target, &object, world)));
    }
    if request.flag("watch") {
        return watch::start(world, request, target).map(Box::new).map(Reply::Watch);
    }
    let (items, metadata) = page(world, request, target)?;
    if request.accepts_as("Table") {
        return Ok(Reply::Json(200, table::render(target.kind, &items, metadata, world.now)));
    }
    let partial = request.accepts_as("PartialObjectMetadataList");
    let items: Vec<Value> = items
        .iter()
        .map(|item| if partial { partial_metadata(item) } else { list_item(target, item) })
        .collect();
    let (api_version, kind) = if partial {
        ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
    } else {
        (target.kind.api_version(), format!("{}List", target.kind.kind))
    };
    Ok(Reply::Json(
        200,
        json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items}),
    ))
}

/// Returns an object as a list item: items of built-in kinds have no `apiVersion` and `kind`.
fn list_item(target: &Target, object: &Value) -> Value {
    let mut object = super::in_version(target, object.clone());
    if !target.kind.is_custom() {
        unset(&mut object, &["apiVersion"]);
        unset(&mut object, &["kind"]);
    }
    object
}

/// Returns an object in the representation that the request accepts.
pub fn represent(request: &Request, target: &Target, object: &Arc<Value>, world: &World) -> Value {
    if request.accepts_as("Table") {
        let metadata = json!({"resourceVersion": world.store.version().to_string()});
        return table::render(target.kind, std::slice::from_ref(object), metadata, world.now);
    }
    if request.accepts_as("PartialObjectMetadata") {
        return partial_metadata(object);
    }
    super::in_version(target, (**object).clone())
}

pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// Returns the items and metadata of one page of a list. The continue token contains the resource
/// version of the first page and the last key of this one.
fn page(
    world: &World,
    request: &Request,
    target: &Target,
) -> Result<(Vec<Arc<Value>>, Value), ApiError> {
    let selector = Selector::from_request(request, target.kind)?;
    let limit = request.number("limit")?.unwrap_or(0) as usize;
    let (version, last) = match request.parameter("continue") {
        None => (world.store.version(), None),
        Some(token) => {
            let expired = || {
                ApiError::new(
                    410,
                    "The provided continue parameter is too old to display a consistent list \
                     result.",
                )
            };
            let mut parts = token.splitn(3, '.');
            let (Some(version), Some(namespace), Some(name)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(ApiError::new(400, "continue key is not valid"));
            };
            let version: u64 =
                version.parse().map_err(|_| ApiError::new(400, "continue key is not valid"))?;
            if world.store.changes_since(version).is_none() {
                return Err(expired());
            }
            (version, Some((namespace.to_owned(), name.to_owned())))
        }
    };
    let mut matching = world
        .store
        .list(target.kind, target.namespace.as_deref())
        .filter(|(key, _)| {
            last.as_ref()
                .is_none_or(|(namespace, name)| (&key.namespace, &key.name) > (namespace, name))
        })
        .filter(|(_, object)| selector.matches(object));
    let mut items = Vec::new();
    let mut end = None;
    for (key, object) in matching.by_ref() {
        items.push(object.clone());
        if limit > 0 && items.len() == limit {
            end = Some(key.clone());
            break;
        }
    }
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let remaining = matching.count();
    if let Some(end) = end.filter(|_| remaining > 0) {
        metadata["continue"] = format!("{version}.{}.{}", end.namespace, end.name).into();
        if selector.is_everything() {
            metadata["remainingItemCount"] = remaining.into();
        }
    } else if target.kind.is_custom() {
        metadata["continue"] = "".into();
    }
    Ok((items, metadata))
}
