//! Deletion, with preconditions, finalizers, grace periods, and propagation to dependents.

use serde_json::{Value, json};

use super::{ApiError, Reply, Request, Target, in_version, success_status};
use crate::kind;
use crate::object::{add_finalizer, is_terminating, list, set, text, unset};
use crate::world::World;

/// Handles a DELETE of one object.
pub fn handle(world: &mut World, request: &Request, target: &Target) -> Result<Reply, ApiError> {
    let key = target.key().ok_or_else(ApiError::method_not_allowed)?;
    let options = request.document()?.unwrap_or_else(|| json!({}));
    let object = world.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &key.name))?;
    let uid = text(&object, "/metadata/uid").to_owned();
    for (expected, field, name, reason) in [
        ("/preconditions/uid", "/metadata/uid", "UID", "deleted and then recreated"),
        (
            "/preconditions/resourceVersion",
            "/metadata/resourceVersion",
            "ResourceVersion",
            "modified",
        ),
    ] {
        let (expected, found) = (text(&options, expected), text(&object, field));
        if !expected.is_empty() && expected != found {
            return Err(ApiError::precondition_failed(
                target.kind,
                &key.name,
                name,
                expected,
                found,
                reason,
            ));
        }
    }
    // Options are in the body or in the query. If there is a body, the query is ignored.
    let from_query = request.body.is_empty();
    let is_dry_run = (from_query && request.is_dry_run())
        || list(&options, "/dryRun").iter().any(|value| value == "All");
    if is_dry_run {
        return Ok(Reply::Json(200, success_status(target.kind, &key.name, &uid)));
    }
    let policy = request
        .parameter("propagationPolicy")
        .filter(|_| from_query)
        .unwrap_or_else(|| text(&options, "/propagationPolicy"));
    match policy {
        "Orphan" => orphan(world, &uid),
        "Foreground" => world.update(&key, |object| add_finalizer(object, "foregroundDeletion")),
        "" | "Background" => {}
        other => return Err(ApiError::new(400, format!("invalid propagationPolicy {other:?}"))),
    }
    world.delete(&key);
    let grace = options.get("gracePeriodSeconds").and_then(Value::as_u64).or(if from_query {
        request.number("gracePeriodSeconds")?
    } else {
        None
    });
    if key.kind == kind::PODS && grace == Some(0) {
        world.update(&key, |pod| set(pod, &["metadata", "deletionGracePeriodSeconds"], 0));
    }
    Ok(Reply::Json(
        200,
        match world.get(&key) {
            Some(object) if is_terminating(&object) => in_version(target, (*object).clone()),
            Some(_) | None => success_status(target.kind, &key.name, &uid),
        },
    ))
}

/// Removes the owner references to `uid`, so that the garbage collector keeps the dependents.
fn orphan(world: &mut World, uid: &str) {
    let dependents: Vec<_> = world
        .store
        .all()
        .filter(|(_, object)| crate::object::is_owned_by(object, uid))
        .map(|(key, _)| key.clone())
        .collect();
    for key in dependents {
        world.update(&key, |object| {
            let remaining: Vec<Value> = list(object, "/metadata/ownerReferences")
                .iter()
                .filter(|owner| text(owner, "/uid") != uid)
                .cloned()
                .collect();
            if remaining.is_empty() {
                unset(object, &["metadata", "ownerReferences"]);
            } else {
                set(object, &["metadata", "ownerReferences"], remaining);
            }
        });
    }
}
