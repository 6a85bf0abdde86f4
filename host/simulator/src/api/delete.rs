//! Deletion: preconditions, finalizers, grace, and what becomes of dependents.

use serde_json::{Value, json};

use super::{Refusal, Reply, Request, Target, success};
use crate::kind;
use crate::object::{add_finalizer, is_terminating, list, set, text, unset};
use crate::world::World;

/// Answers a DELETE of one object.
pub fn answer(world: &mut World, request: &Request, target: &Target) -> Result<Reply, Refusal> {
    let key = target.key().ok_or_else(Refusal::method_not_allowed)?;
    let options = request.document()?.unwrap_or_else(|| json!({}));
    let object = world.get(&key).ok_or_else(|| Refusal::not_found(target.kind, &key.name))?;
    let uid = text(&object, "/metadata/uid").to_owned();
    for (wanted, field, name, might) in [
        ("/preconditions/uid", "/metadata/uid", "UID", "deleted and then recreated"),
        (
            "/preconditions/resourceVersion",
            "/metadata/resourceVersion",
            "ResourceVersion",
            "modified",
        ),
    ] {
        let (wanted, found) = (text(&options, wanted), text(&object, field));
        if !wanted.is_empty() && wanted != found {
            return Err(Refusal::unmet(target.kind, &key.name, name, wanted, found, might));
        }
    }
    // Options come by the body or by the query: where there is a body, the query is not read, whatever it says.
    let by_query = request.body.is_empty();
    let dry = (by_query && request.is_dry_run())
        || list(&options, "/dryRun").iter().any(|one| one == "All");
    if dry {
        return Ok(Reply::Json(200, success(target.kind, &key.name, &uid)));
    }
    let policy = request
        .parameter("propagationPolicy")
        .filter(|_| by_query)
        .unwrap_or_else(|| text(&options, "/propagationPolicy"));
    match policy {
        "Orphan" => orphan(world, &uid),
        "Foreground" => world.amend(&key, |object| add_finalizer(object, "foregroundDeletion")),
        "" | "Background" => {}
        other => return Err(Refusal::new(400, format!("invalid propagationPolicy {other:?}"))),
    }
    world.delete(&key);
    let grace = options.get("gracePeriodSeconds").and_then(Value::as_u64).or(if by_query {
        request.number("gracePeriodSeconds")?
    } else {
        None
    });
    if key.kind == kind::PODS && grace == Some(0) {
        world.amend(&key, |pod| set(pod, &["metadata", "deletionGracePeriodSeconds"], 0));
    }
    Ok(Reply::Json(
        200,
        match world.get(&key) {
            Some(object) if is_terminating(&object) => (*object).clone(),
            Some(_) | None => success(target.kind, &key.name, &uid),
        },
    ))
}

/// Frees the dependents of `uid`, so that the garbage collector leaves them.
fn orphan(world: &mut World, uid: &str) {
    let dependents: Vec<_> = world
        .store
        .all()
        .filter(|(_, object)| crate::object::is_owned_by(object, uid))
        .map(|(key, _)| key.clone())
        .collect();
    for key in dependents {
        world.amend(&key, |object| {
            let kept: Vec<Value> = list(object, "/metadata/ownerReferences")
                .iter()
                .filter(|owner| text(owner, "/uid") != uid)
                .cloned()
                .collect();
            if kept.is_empty() {
                unset(object, &["metadata", "ownerReferences"]);
            } else {
                set(object, &["metadata", "ownerReferences"], kept);
            }
        });
    }
}
