//! Get and list, whole, as tables, or as metadata alone.

use std::sync::Arc;

use serde_json::{Value, json};

use super::select::Selector;
use super::{Refusal, Reply, Request, Target, table, watch};
use crate::object::unset;
use crate::world::World;

/// Answers a GET of an object or a collection.
pub fn answer(world: &World, request: &Request, target: &Target) -> Result<Reply, Refusal> {
    if let Some(key) = target.key() {
        let object = world.get(&key).ok_or_else(|| Refusal::not_found(target.kind, &key.name))?;
        return Ok(Reply::Json(200, one(request, target, &object, world)));
    }
    if request.flag("watch") {
        return watch::start(world, request, target).map(Box::new).map(Reply::Watch);
    }
    let (items, metadata) = page(world, request, target)?;
    if request.wants("Table") {
        return Ok(Reply::Json(200, table::of(target.kind, &items, metadata, world.now)));
    }
    let partial = request.wants("PartialObjectMetadataList");
    let items: Vec<Value> = items
        .iter()
        .map(|item| if partial { metadata_of(item) } else { listed(target, item) })
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

/// An object as an item of a list: a built-in kind is said once, by the list.
fn listed(target: &Target, object: &Value) -> Value {
    let mut object = object.clone();
    if !target.kind.is_custom() {
        unset(&mut object, &["apiVersion"]);
        unset(&mut object, &["kind"]);
    }
    object
}

/// An object in the form that the request asks for.
pub fn one(request: &Request, target: &Target, object: &Arc<Value>, world: &World) -> Value {
    if request.wants("Table") {
        let metadata = json!({"resourceVersion": world.store.version().to_string()});
        return table::of(target.kind, std::slice::from_ref(object), metadata, world.now);
    }
    if request.wants("PartialObjectMetadata") {
        return metadata_of(object);
    }
    (**object).clone()
}

/// An object's metadata alone.
pub fn metadata_of(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// One page of a list. A token holds the version of the first page and the last key of this one.
fn page(
    world: &World,
    request: &Request,
    target: &Target,
) -> Result<(Vec<Arc<Value>>, Value), Refusal> {
    let selector = Selector::of(request, target.kind)?;
    let limit = request.number("limit")?.unwrap_or(0) as usize;
    let (version, last) = match request.parameter("continue") {
        None => (world.store.version(), None),
        Some(token) => {
            let expired = || {
                Refusal::new(
                    410,
                    "The provided continue parameter is too old to display a consistent list result.",
                )
            };
            let mut parts = token.splitn(3, '.');
            let (Some(version), Some(namespace), Some(name)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(Refusal::new(400, "continue key is not valid"));
            };
            let version: u64 =
                version.parse().map_err(|_| Refusal::new(400, "continue key is not valid"))?;
            if world.store.since(version).is_none() {
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
