//! Reads pods, and selects those of a Deployment.

use crate::failure::Failure;
use crate::object::{
    controller, created, is_condition_true, is_terminating, kind_and_name, list, name, namespace,
    owned, raw_condition, text, truncated, uid,
};
use crate::resource::PODS;
use crate::send::{ListFilter, Session};
use salve_core::capability::types::Pod;
use serde_json::Value;

/// Converts a pod to the type that guests get.
pub(crate) fn parse(pod: &Value) -> Pod {
    let statuses = || {
        ["/status/initContainerStatuses", "/status/containerStatuses"]
            .into_iter()
            .flat_map(|at| list(pod, at))
    };
    let restarts: u64 =
        statuses().filter_map(|status| status.get("restartCount").and_then(Value::as_u64)).sum();
    Pod {
        namespace: namespace(pod).to_owned(),
        name: name(pod).to_owned(),
        uid: uid(pod).to_owned(),
        phase: owned(pod, "/status/phase").unwrap_or_else(|| "Unknown".into()),
        ready: is_condition_true(pod, "Ready", None),
        terminating: is_terminating(pod),
        restarts: u32::try_from(restarts).unwrap_or(u32::MAX),
        created: created(pod),
        waiting: statuses()
            .find_map(|status| owned(status, "/state/waiting/reason"))
            .or_else(|| scheduling_failure(pod)),
        pvcs: list(pod, "/spec/volumes")
            .iter()
            .filter_map(|volume| owned(volume, "/persistentVolumeClaim/claimName"))
            .collect(),
        owner: controller(pod).and_then(kind_and_name),
    }
}

fn scheduling_failure(pod: &Value) -> Option<String> {
    let condition = raw_condition(pod, "PodScheduled")
        .filter(|condition| text(condition, "/status") == Some("False"))?;
    let reason = text(condition, "/reason").unwrap_or("Unschedulable");
    Some(text(condition, "/message").map_or_else(
        || reason.to_owned(),
        |message| truncated(&format!("{reason}: {message}"), 600),
    ))
}

/// Lists the pods of a Deployment, sorted by name.
pub(crate) async fn of_deployment(
    session: &Session,
    deployment: &Value,
) -> Result<Vec<Value>, Failure> {
    // The API server requires a selector; an empty one would select all pods of the namespace.
    let Some(labels) = selector(deployment) else { return Ok(vec![]) };
    let filter = ListFilter { labels: Some(&labels), fields: None };
    let mut pods = session.list(&PODS, Some(namespace(deployment)), filter).await?;
    // The selector can also match other pods: only those owned by this Deployment's ReplicaSets
    // count.
    let prefix = format!("{}-", name(deployment));
    pods.retain(|pod| {
        list(pod, "/metadata/ownerReferences").iter().any(|owner| {
            text(owner, "/kind") == Some("ReplicaSet")
                && text(owner, "/name").is_some_and(|n| n.starts_with(&prefix))
        })
    });
    pods.sort_by(|a, b| name(a).cmp(name(b)));
    Ok(pods)
}

/// Formats `spec.selector` as for `kubectl get -l`. Returns None if it is empty or has an unknown
/// operator.
pub(crate) fn selector(deployment: &Value) -> Option<String> {
    let labels = deployment.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let mut terms: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    for expression in list(deployment, "/spec/selector/matchExpressions") {
        let key = text(expression, "/key")?;
        let values = || {
            list(expression, "/values")
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(",")
        };
        terms.push(match text(expression, "/operator")? {
            "In" => format!("{key} in ({})", values()),
            "NotIn" => format!("{key} notin ({})", values()),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    if terms.is_empty() { None } else { Some(terms.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_reason_of_a_waiting_container_is_reported() {
        let pod = json!({
            "metadata": {"name": "plex-0", "namespace": "media", "uid": "u",
                "creationTimestamp": "2026-08-20T10:00:00Z",
                "deletionTimestamp": "2026-08-20T10:00:00Z",
                "ownerReferences": [{"kind": "ReplicaSet", "name": "plex", "controller": true}]},
            "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "plex"}},
                {"emptyDir": {}}]},
            "status": {"phase": "Pending", "containerStatuses": [{"restartCount": 2,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}}, {"restartCount": 1}]},
        });
        let pod = parse(&pod);
        assert_eq!(
            (pod.waiting.as_deref(), pod.restarts, pod.ready, pod.terminating),
            (Some("CrashLoopBackOff"), 3, false, true)
        );
        assert_eq!(
            (pod.pvcs, pod.owner.as_deref()),
            (vec!["plex".to_owned()], Some("ReplicaSet/plex"))
        );
    }

    #[test]
    fn the_reason_of_an_unscheduled_pod_is_reported() {
        let pod = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes"}]}});
        assert_eq!(parse(&pod).waiting.as_deref(), Some("Unschedulable: 0/1 nodes"));
    }

    #[test]
    fn a_selector_is_formatted_as_in_kubectl() {
        let deployment = json!({"spec": {"selector": {"matchLabels": {"app": "x"},
            "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"}]}}});
        assert_eq!(selector(&deployment).as_deref(), Some("app=x,tier in (a,b),!old"));
        assert_eq!(selector(&json!({"spec": {"selector": {}}})), None);
    }
}
