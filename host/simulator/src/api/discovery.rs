//! Discovery of the served groups, versions, and resources, in the unaggregated format. Clients
//! that request aggregated discovery fall back to it because of the content type.

use serde_json::{Value, json};

use super::{ApiError, Reply, Request};
use crate::kind::{Kind, Kinds};
use crate::world::World;

/// Handles requests for paths without objects. Returns `None` for all other paths.
pub fn handle(world: &World, parts: &[&str], request: &Request) -> Result<Option<Reply>, ApiError> {
    let document = match parts {
        ["version"] => json!({
            "major": "1", "minor": "33", "gitVersion": "v1.33.3", "gitCommit": "simulated",
            "gitTreeState": "clean", "buildDate": "2025-07-15T18:00:00Z", "goVersion": "go1.24.4",
            "compiler": "gc", "platform": "linux/amd64",
        }),
        ["healthz" | "readyz" | "livez", ..] => return Ok(Some(Reply::Text("ok".into()))),
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [
                {"clientCIDR": "0.0.0.0/0", "serverAddress": "simulated:443"},
            ],
        }),
        ["apis"] => json!({
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": groups(&world.kinds)
                .into_iter()
                .filter(|(group, _)| !world.uninstalled.iter().any(|one| one == group))
                .map(|(group, versions)| api_group(group, &versions))
                .collect::<Vec<_>>(),
        }),
        ["apis", group] => {
            let (_, versions) = groups(&world.kinds)
                .into_iter()
                .find(|(name, _)| name == group)
                .ok_or_else(ApiError::unknown_group)?;
            let mut document = api_group(group, &versions);
            document["kind"] = "APIGroup".into();
            document["apiVersion"] = "v1".into();
            document
        }
        ["api", "v1"] => resources(&world.kinds, "", "v1")?,
        ["apis", group, version] => resources(&world.kinds, group, version)?,
        ["openapi" | "openid", ..] | ["api", _] => return Err(ApiError::unknown_path()),
        _ => return Ok(None),
    };
    if request.method != "GET" {
        return Err(ApiError::method_not_allowed());
    }
    Ok(Some(Reply::Json(200, document)))
}

/// Returns all groups except the core group, with their versions.
fn groups(kinds: &Kinds) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> =
        vec![("authorization.k8s.io", vec!["v1"]), ("authentication.k8s.io", vec!["v1"])];
    for kind in kinds.iter().filter(|kind| !kind.group.is_empty()) {
        match groups.iter_mut().find(|(group, _)| *group == kind.group) {
            Some((_, versions)) if versions.contains(&kind.version) => {}
            Some((_, versions)) => versions.push(kind.version),
            None => groups.push((kind.group, vec![kind.version])),
        }
    }
    groups
}

fn api_group(group: &str, versions: &[&str]) -> Value {
    let served: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": group, "preferredVersion": served[0], "versions": served})
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Result<Value, ApiError> {
    let mut resources: Vec<Value> = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        resources.push(resource(kind, kind.plural.to_owned(), true));
        if kind.status_subresource {
            resources.push(resource(kind, format!("{}/status", kind.plural), false));
        }
        if kind == crate::kind::PODS {
            let mut log = resource(kind, "pods/log".to_owned(), false);
            log["verbs"] = json!(["get"]);
            resources.push(log);
        }
    }
    let reviews: &[(&str, &str)] = match group {
        "authorization.k8s.io" => &[
            ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
            ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        ],
        "authentication.k8s.io" => &[("selfsubjectreviews", "SelfSubjectReview")],
        _ => &[],
    };
    for (plural, kind) in reviews {
        resources.push(json!({
            "name": plural, "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind,
            "verbs": ["create"],
        }));
    }
    if resources.is_empty() {
        return Err(ApiError::unknown_path());
    }
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": resources,
    }))
}

fn resource(kind: &Kind, name: String, is_main: bool) -> Value {
    let verbs: &[&str] = if is_main {
        &["create", "delete", "get", "list", "patch", "update", "watch"]
    } else {
        &["get", "patch", "update"]
    };
    let mut resource = json!({
        "name": name,
        "singularName": if is_main { kind.kind.to_lowercase() } else { String::new() },
        "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs,
    });
    let short_names = kind.short_names();
    if is_main && !short_names.is_empty() {
        resource["shortNames"] = json!(short_names);
    }
    resource
}
