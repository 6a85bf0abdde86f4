//! Pods, and which of them belong to a Deployment.

use crate::failure::Failure;
use crate::object::{
    controller, created, holds, is_terminating, list, name, namespace, owned, slashed, text, uid,
};
use crate::resource::PODS;
use crate::send::{Narrow, Session};
use salve_core::effect::shared::Pod;
use serde_json::Value;

/// A pod as the contract tells it.
pub(crate) fn read(pod: &Value) -> Pod {
    let statuses = || {
        ["/status/initContainerStatuses", "/status/containerStatuses"]
            .into_iter()
            .flat_map(|at| list(pod, at))
    };
    let restarts: u64 =
        statuses().filter_map(|one| one.get("restartCount").and_then(Value::as_u64)).sum();
    Pod {
        namespace: namespace(pod).to_owned(),
        name: name(pod).to_owned(),
        uid: uid(pod).to_owned(),
        phase: owned(pod, "/status/phase").unwrap_or_else(|| "Unknown".into()),
        ready: holds(pod, "Ready", None),
        terminating: is_terminating(pod),
        restarts: u32::try_from(restarts).unwrap_or(u32::MAX),
        created: created(pod),
        waiting: statuses()
            .find_map(|one| owned(one, "/state/waiting/reason"))
            .or_else(|| unscheduled(pod)),
        pvcs: list(pod, "/spec/volumes")
            .iter()
            .filter_map(|volume| owned(volume, "/persistentVolumeClaim/claimName"))
            .collect(),
        owner: controller(pod).and_then(slashed),
    }
}

fn unscheduled(pod: &Value) -> Option<String> {
    let condition = crate::object::raw_condition(pod, "PodScheduled")
        .filter(|one| text(one, "/status") == Some("False"))?;
    let reason = text(condition, "/reason").unwrap_or("Unschedulable");
    Some(text(condition, "/message").map_or_else(
        || reason.to_owned(),
        |message| crate::object::capped(&format!("{reason}: {message}"), 600),
    ))
}

/// The pods that a Deployment selects, by name.
pub(crate) async fn of_deployment(
    session: &Session,
    deployment: &Value,
) -> Result<Vec<Value>, Failure> {
    // A selector that selects everything is no Deployment's: the API server requires one.
    let Some(labels) = selector(deployment) else { return Ok(vec![]) };
    let narrow = Narrow { labels: Some(&labels), fields: None };
    let mut pods = session.list(&PODS, Some(namespace(deployment)), narrow).await?;
    // A selector can fit what somebody else made: only pods of this Deployment's ReplicaSets are its own.
    let sets = format!("{}-", name(deployment));
    pods.retain(|pod| {
        list(pod, "/metadata/ownerReferences").iter().any(|owner| {
            text(owner, "/kind") == Some("ReplicaSet")
                && text(owner, "/name").is_some_and(|n| n.starts_with(&sets))
        })
    });
    pods.sort_by(|a, b| name(a).cmp(name(b)));
    Ok(pods)
}

/// `spec.selector` as kubectl's `-l` spells it; none where it is empty or not understood.
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
    fn a_waiting_container_says_why() {
        let pod = json!({
            "metadata": {"name": "plex-0", "namespace": "media", "uid": "u", "creationTimestamp": "2026-08-20T10:00:00Z", "deletionTimestamp": "2026-08-20T10:00:00Z",
                "ownerReferences": [{"kind": "ReplicaSet", "name": "plex", "controller": true}]},
            "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "plex"}}, {"emptyDir": {}}]},
            "status": {"phase": "Pending", "containerStatuses": [{"restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}, {"restartCount": 1}]},
        });
        let pod = read(&pod);
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
    fn an_unscheduled_pod_says_why() {
        let pod = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}});
        assert_eq!(read(&pod).waiting.as_deref(), Some("Unschedulable: 0/1 nodes"));
    }

    #[test]
    fn a_selector_is_spelt_as_kubectl_does() {
        let deployment = json!({"spec": {"selector": {"matchLabels": {"app": "x"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]}}});
        assert_eq!(selector(&deployment).as_deref(), Some("app=x,tier in (a,b),!old"));
        assert_eq!(selector(&json!({"spec": {"selector": {}}})), None);
    }
}
