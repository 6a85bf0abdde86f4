//! Create, replace, and patch, with optimistic concurrency and field managers.

use serde_json::{Value, json};

use super::{ApiError, Reply, Request, Target, in_version, patch};
use crate::fields;
use crate::kind;
use crate::object::{is_terminating, list, set, text, unset};
use crate::store::Key;
use crate::world::World;

/// Handles a POST to a collection.
pub fn create(world: &mut World, request: &Request, target: &Target) -> Result<Reply, ApiError> {
    if target.name.is_some() || (target.kind.namespaced && target.namespace.is_none()) {
        return Err(ApiError::method_not_allowed());
    }
    let mut object = body(request)?;
    check_kind(target, &object)?;
    set_name_and_namespace(world, target, &mut object)?;
    let key = Key::new(
        target.kind,
        target.namespace.as_deref().unwrap_or(""),
        text(&object, "/metadata/name"),
    );
    if world.get(&key).is_some() {
        return Err(ApiError::already_exists(target.kind, &key.name));
    }
    // A kubelet registers its node with its status.
    if target.kind.status_subresource && target.kind != kind::NODES {
        unset(&mut object, &["status"]);
    }
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "generation",
        "managedFields",
    ] {
        unset(&mut object, &["metadata", field]);
    }
    remove_empty_metadata(&mut object);
    fields::record_update(None, &mut object, &request.field_manager(), world.now);
    if request.is_dry_run() {
        return Ok(Reply::Json(201, in_version(target, object)));
    }
    world.create(target.kind, object);
    let object = world.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &key.name))?;
    Ok(Reply::Json(201, in_version(target, (*object).clone())))
}

/// Handles a PUT of an object.
pub fn replace(world: &mut World, request: &Request, target: &Target) -> Result<Reply, ApiError> {
    let object = body(request)?;
    check_kind(target, &object)?;
    change(world, request, target, "Update", |before| {
        let mut after = object.clone();
        for field in
            ["uid", "creationTimestamp", "deletionTimestamp", "generation", "managedFields"]
        {
            match before["metadata"]
                .get(field)
                .filter(|_| field != "uid" || object["metadata"].get("uid").is_none())
            {
                Some(value) => set(&mut after, &["metadata", field], value.clone()),
                None if field == "uid" => {}
                None => unset(&mut after, &["metadata", field]),
            }
        }
        Ok(after)
    })
}

/// Handles a PATCH of an object, in any of the four patch formats.
pub fn patch(world: &mut World, request: &Request, target: &Target) -> Result<Reply, ApiError> {
    let document = request.document()?.ok_or_else(|| ApiError::new(400, "a patch needs a body"))?;
    match request.media_type() {
        "application/apply-patch+yaml" => apply(world, request, target, &document),
        "application/json-patch+json" => change(world, request, target, "Update", |before| {
            let mut after = before.clone();
            patch::json(&mut after, &document)?;
            Ok(after)
        }),
        "application/merge-patch+json" => change(world, request, target, "Update", |before| {
            let mut after = before.clone();
            patch::merge(&mut after, &document);
            Ok(after)
        }),
        "application/strategic-merge-patch+json" if !target.kind.is_custom() => {
            change(world, request, target, "Update", |before| {
                let mut after = before.clone();
                patch::strategic(&mut after, &document);
                Ok(after)
            })
        }
        other => {
            let accepted = "application/json-patch+json, application/merge-patch+json, \
                            application/apply-patch+yaml";
            let why = format!(
                "the body of the request was in an unknown format - {other}: accepted media types \
                 include: {accepted}"
            );
            Err(ApiError::new(415, why))
        }
    }
}

fn apply(
    world: &mut World,
    request: &Request,
    target: &Target,
    declared: &Value,
) -> Result<Reply, ApiError> {
    let manager = request
        .parameter("fieldManager")
        .ok_or_else(|| {
            ApiError::new(
                400,
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value",
            )
        })?
        .to_owned();
    let key = target.key().ok_or_else(ApiError::method_not_allowed)?;
    let (force, now) = (request.flag("force"), world.now);
    let applied = |live: Option<&Value>| {
        fields::apply(live, declared, &manager, false, force, now).map_err(|conflict| {
            let why = format!(
                "Apply failed with 1 conflict: conflict with {:?}: {}",
                conflict.manager, conflict.field
            );
            ApiError::new(409, why).with_object(target.kind, &key.name)
        })
    };
    if world.get(&key).is_none() {
        let mut object = applied(None)?;
        check_kind(target, &object)?;
        set(&mut object, &["metadata", "name"], key.name.clone());
        set_name_and_namespace(world, target, &mut object)?;
        if request.is_dry_run() {
            return Ok(Reply::Json(201, in_version(target, object)));
        }
        world.create(target.kind, object);
        let object = world.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &key.name))?;
        return Ok(Reply::Json(201, in_version(target, (*object).clone())));
    }
    change(world, request, target, "Apply", |before| applied(Some(before)))
}

fn body(request: &Request) -> Result<Value, ApiError> {
    request
        .document()?
        .filter(Value::is_object)
        .ok_or_else(|| ApiError::new(400, "the object provided is unrecognized: it is not a map"))
}

fn check_kind(target: &Target, object: &Value) -> Result<(), ApiError> {
    let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    let mismatch = (!version.is_empty() && version != target.kind.api_version())
        || (!kind.is_empty() && kind != target.kind.kind);
    if mismatch {
        let why = format!(
            "the object provided is a {version} {kind}, and the path takes a {}",
            target.kind.kind
        );
        return Err(ApiError::new(400, why));
    }
    Ok(())
}

/// Sets and validates the name and namespace of a new object.
fn set_name_and_namespace(
    world: &mut World,
    target: &Target,
    object: &mut Value,
) -> Result<(), ApiError> {
    if let Some(namespace) = &target.namespace {
        let given = text(object, "/metadata/namespace");
        if !given.is_empty() && given != namespace {
            return Err(ApiError::new(
                400,
                "the namespace of the provided object does not match the namespace sent on the \
                 request",
            ));
        }
        set(object, &["metadata", "namespace"], namespace.clone());
        if world.get(&Key::new(kind::NAMESPACES, "", namespace)).is_none() {
            return Err(ApiError::not_found(kind::NAMESPACES, namespace));
        }
    }
    if text(object, "/metadata/name").is_empty() {
        let prefix = text(object, "/metadata/generateName").to_owned();
        if prefix.is_empty() {
            return Err(ApiError::invalid(
                target.kind,
                "",
                "metadata.name",
                "Required value: name or generateName is required",
            ));
        }
        let name = format!("{prefix}{}", world.random.suffix());
        set(object, &["metadata", "name"], name);
    }
    let name = text(object, "/metadata/name").to_owned();
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    if name.len() > 253 || !name.bytes().all(allowed) {
        let why = "Invalid value: a lowercase RFC 1123 subdomain must consist of lower case \
                   alphanumeric characters, '-' or '.'";
        return Err(ApiError::invalid(target.kind, &name, "metadata.name", why));
    }
    Ok(())
}

fn change(
    world: &mut World,
    request: &Request,
    target: &Target,
    operation: &str,
    after: impl FnOnce(&Value) -> Result<Value, ApiError>,
) -> Result<Reply, ApiError> {
    let key = target.key().ok_or_else(ApiError::method_not_allowed)?;
    let before = world.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &key.name))?;
    let mut object = after(&before)?;
    if !object.is_object() {
        return Err(ApiError::new(400, "the patched object is not a map"));
    }
    check_identity(target, &before, &object)?;
    check_finalizers(target, &before, &object)?;
    remove_empty_metadata(&mut object);
    set(
        &mut object,
        &["metadata", "resourceVersion"],
        before["metadata"]["resourceVersion"].clone(),
    );
    let is_status = target.subresource.is_some();
    let mut object = if is_status {
        let mut updated = (*before).clone();
        updated["status"] = object.get("status").cloned().unwrap_or_else(|| json!({}));
        updated
    } else {
        if target.kind.status_subresource {
            match before.get("status") {
                Some(status) => object["status"] = status.clone(),
                None => unset(&mut object, &["status"]),
            }
        }
        for field in
            ["generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
        {
            match before["metadata"].get(field) {
                Some(value) => set(&mut object, &["metadata", field], value.clone()),
                None => unset(&mut object, &["metadata", field]),
            }
        }
        object
    };
    if !is_status && operation == "Update" {
        match before["metadata"].get("managedFields") {
            Some(managed) => set(&mut object, &["metadata", "managedFields"], managed.clone()),
            None => unset(&mut object, &["metadata", "managedFields"]),
        }
        fields::record_update(Some(&before), &mut object, &request.field_manager(), world.now);
    }
    if request.is_dry_run() {
        return Ok(Reply::Json(200, in_version(target, object)));
    }
    let stored = world.store.put(&key, object);
    Ok(Reply::Json(200, in_version(target, (*stored).clone())))
}

/// Checks that a change keeps name, namespace, and UID, and is based on the newest resource
/// version.
fn check_identity(target: &Target, before: &Value, object: &Value) -> Result<(), ApiError> {
    let name = text(before, "/metadata/name");
    let expected = text(object, "/metadata/uid");
    let found = text(before, "/metadata/uid");
    if !expected.is_empty() && expected != found {
        let why = format!("Invalid value: \"{expected}\": field is immutable");
        return Err(ApiError::invalid(target.kind, name, "metadata.uid", &why));
    }
    let version = text(object, "/metadata/resourceVersion");
    if !version.is_empty() && version != text(before, "/metadata/resourceVersion") {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        return Err(ApiError::conflict(target.kind, name, why));
    }
    for field in ["name", "namespace"] {
        let given = object["metadata"].get(field);
        if given.is_some() && given != before["metadata"].get(field) {
            return Err(ApiError::new(
                400,
                format!("the {field} of the object does not match the {field} on the URL"),
            ));
        }
    }
    Ok(())
}

/// Checks that a change adds no finalizers to a terminating object.
fn check_finalizers(target: &Target, before: &Value, object: &Value) -> Result<(), ApiError> {
    let added = list(object, "/metadata/finalizers")
        .iter()
        .find(|finalizer| !list(before, "/metadata/finalizers").contains(finalizer));
    match added {
        Some(added) if is_terminating(before) => {
            let why = format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found \
                 new finalizers []string{{{added}}}"
            );
            Err(ApiError::invalid(
                target.kind,
                text(before, "/metadata/name"),
                "metadata.finalizers",
                &why,
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// Removes empty maps and lists from the metadata, as the typed ObjectMeta does.
fn remove_empty_metadata(object: &mut Value) {
    for field in ["annotations", "labels", "finalizers", "ownerReferences"] {
        let empty = match object["metadata"].get(field) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(_) | None => false,
        };
        if empty {
            unset(object, &["metadata", field]);
        }
    }
}
