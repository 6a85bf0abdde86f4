//! Reads pods, and selects those of a workload.

use crate::failure::Failure;
use crate::object::{
    controller, created, instant, is_condition_true, is_terminating, kind_and_name, list, name,
    namespace, owned, raw_condition, text, truncated, uid,
};
use crate::resource::PODS;
use crate::send::{ListFilter, Session};
use crate::time;
use salve_core::Millis;
use salve_core::capability::types::{Container, ContainerState, Pod};
use serde_json::Value;

/// How long the kubelet may take to report that a pod has ended, after its grace period. In
/// milliseconds.
const TERMINATION_DELAY: Millis = 30_000;

/// Converts a pod to the type that guests get.
pub(crate) fn parse(pod: &Value) -> Pod {
    let containers: Vec<Container> = container_statuses(pod).map(container).collect();
    Pod {
        namespace: namespace(pod).to_owned(),
        name: name(pod).to_owned(),
        uid: uid(pod).to_owned(),
        phase: owned(pod, "/status/phase").unwrap_or_else(|| "Unknown".into()),
        ready: is_condition_true(pod, "Ready", None),
        terminating: is_terminating(pod),
        restarts: containers.iter().fold(0, |sum, one| one.restarts.saturating_add(sum)),
        created: created(pod),
        waiting: waiting(pod),
        pvcs: list(pod, "/spec/volumes")
            .iter()
            .filter_map(|volume| owned(volume, "/persistentVolumeClaim/claimName"))
            .collect(),
        owner: controller(pod).and_then(kind_and_name),
        node: owned(pod, "/spec/nodeName"),
        containers,
    }
}

/// Returns the statuses of the containers, of init containers first.
fn container_statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .flat_map(|at| list(pod, at))
}

/// Converts the status of a container to the type that guests get. Without a state, it is waiting.
fn container(status: &Value) -> Container {
    let has = |state: &str| status.get("state").and_then(|one| one.get(state)).is_some();
    let (state, reason) = if has("running") {
        (ContainerState::Running, None)
    // mutant terminated-container-waits: } else if has("terminated") { ~> } else if false {
    } else if has("terminated") {
        (ContainerState::Terminated, owned(status, "/state/terminated/reason"))
    } else {
        (ContainerState::Waiting, owned(status, "/state/waiting/reason"))
    };
    let restarts = status.get("restartCount").and_then(Value::as_u64).unwrap_or(0);
    Container {
        name: owned(status, "/name").unwrap_or_default(),
        state,
        reason,
        ready: status.get("ready").and_then(Value::as_bool).unwrap_or(false),
        restarts: u32::try_from(restarts).unwrap_or(u32::MAX),
    }
}

/// Returns why a container is waiting, or why the pod is not scheduled.
fn waiting(pod: &Value) -> Option<String> {
    container_statuses(pod)
        .find_map(|status| owned(status, "/state/waiting/reason"))
        .or_else(|| scheduling_failure(pod))
}

/// Returns true if all containers of the pod have ended for good.
pub(crate) fn is_finished(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"))
}

/// Returns true if no node was found for the pod, so that none of its containers has ever run.
pub(crate) fn is_unscheduled(pod: &Value) -> bool {
    text(pod, "/status/phase") == Some("Pending")
        && text(pod, "/spec/nodeName").is_none_or(str::is_empty)
        && !has_started(pod)
}

/// Returns true if a container of the pod has run, other than init containers.
pub(crate) fn has_started(pod: &Value) -> bool {
    let has_run = |status: &Value| {
        ["/state/running", "/state/terminated", "/lastState/terminated"]
            .iter()
            .any(|state| status.pointer(state).is_some())
            || status.get("restartCount").and_then(Value::as_u64).is_some_and(|n| n > 0)
    };
    text(pod, "/status/phase") != Some("Pending")
        || list(pod, "/status/containerStatuses").iter().any(has_run)
}

/// Returns true if a pod should have ended by now, but has not been reported as ended: its node is
/// unreachable, or a process cannot be killed. It can stay like this forever. `now` is in
/// milliseconds.
pub(crate) fn is_overdue(pod: &Value, now: Millis) -> bool {
    !is_condition_true(pod, "Ready", None)
        && instant(pod, "/metadata/deletionTimestamp")
            .is_some_and(|end| end.saturating_add(TERMINATION_DELAY) <= now)
}

/// Returns the name of a pod that still exists or is not ready, and why.
pub(crate) fn describe(pod: &Value, now: Millis) -> String {
    format!("{} ({})", name(pod), reason(pod, now))
}

/// Returns why a pod still exists or is not ready.
pub(crate) fn reason(pod: &Value, now: Millis) -> String {
    let why = match instant(pod, "/metadata/deletionTimestamp") {
        Some(end) if is_overdue(pod, now) => format!(
            "terminating, its grace period ended {} ago; is node {} down?",
            time::human_duration(now.saturating_sub(end)),
            text(pod, "/spec/nodeName").unwrap_or("(unknown)")
        ),
        Some(_) => "terminating".to_owned(),
        None => waiting(pod).unwrap_or_else(|| {
            let phase = text(pod, "/status/phase").unwrap_or("in an unknown phase");
            let is_ready = is_condition_true(pod, "Ready", None);
            format!("{phase}, {}", if is_ready { "ready" } else { "not ready" })
        }),
    };
    truncated(&why, 300)
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

/// Lists the pods that a workload other than a Deployment controls, sorted by name.
pub(crate) async fn of_controller(
    session: &Session,
    workload: &Value,
) -> Result<Vec<Value>, Failure> {
    let Some(labels) = selector(workload) else { return Ok(vec![]) };
    let filter = ListFilter { labels: Some(&labels), fields: None };
    let mut pods = session.list(&PODS, Some(namespace(workload)), filter).await?;
    // mutant foreign-pod-read: text(owner, "/uid") == Some(uid(workload)) ~> true
    pods.retain(|pod| {
        controller(pod).is_some_and(|owner| text(owner, "/uid") == Some(uid(workload)))
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
    fn the_state_of_each_container_is_reported() {
        let pod = parse(&json!({
            "spec": {"nodeName": "node-1"},
            "status": {
                "initContainerStatuses": [{"name": "copy", "ready": true, "restartCount": 0,
                    "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}],
                "containerStatuses": [
                    {"name": "app", "ready": true, "restartCount": 4294967295_u64,
                        "state": {"running": {"startedAt": "2026-08-20T10:00:00Z"}}},
                    {"name": "sidecar", "ready": false, "restartCount": 3,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                    {"name": "new"}],
            },
        }));
        let states: Vec<_> = pod
            .containers
            .iter()
            .map(|one| (one.name.as_str(), one.state, one.reason.as_deref(), one.ready))
            .collect();
        assert_eq!(
            states,
            [
                ("copy", ContainerState::Terminated, Some("Completed"), true),
                ("app", ContainerState::Running, None, true),
                ("sidecar", ContainerState::Waiting, Some("CrashLoopBackOff"), false),
                ("new", ContainerState::Waiting, None, false),
            ]
        );
        assert_eq!((pod.node.as_deref(), pod.restarts), (Some("node-1"), u32::MAX));
    }

    #[test]
    fn the_reason_of_an_unscheduled_pod_is_reported() {
        let pod = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes"}]}});
        assert_eq!(parse(&pod).waiting.as_deref(), Some("Unschedulable: 0/1 nodes"));
    }

    #[test]
    fn a_pod_has_started_once_a_container_ran() {
        let never = |state: Value, last: Value| {
            json!({"phase": "Pending", "containerStatuses": [{"restartCount": 0, "state": state,
                "lastState": last}]})
        };
        let waiting = || json!({"waiting": {"reason": "ContainerCreating"}});
        for (status, has_run) in [
            (json!({"phase": "Pending"}), false),
            (never(waiting(), json!({})), false),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]}),
                false,
            ),
            (never(waiting(), json!({"terminated": {"exitCode": 1}})), true),
            (never(json!({"running": {}}), json!({})), true),
            (json!({"phase": "Pending", "containerStatuses": [{"restartCount": 1}]}), true),
            (json!({"phase": "Running"}), true),
            (json!({"phase": "Unknown"}), true),
            (json!({}), true),
        ] {
            let pod = json!({"status": status});
            assert_eq!(has_started(&pod), has_run, "{pod}");
            assert_eq!(is_unscheduled(&pod), !has_run, "{pod}");
        }
        let scheduled = json!({"spec": {"nodeName": "node-1"}, "status": {"phase": "Pending"}});
        assert!(
            !is_unscheduled(&scheduled),
            "the kubelet may not have reported its containers yet"
        );
    }

    #[test]
    fn an_unready_pod_is_overdue_some_time_after_its_grace_period() {
        let pod = |ready: &str| {
            json!({"metadata": {"deletionTimestamp": "2026-08-20T10:00:30Z"},
                "spec": {"nodeName": "node-1"},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        let at = |time| time::millis(time).unwrap();
        let later = at("2026-08-20T10:10:30Z");
        assert!(!is_overdue(&pod("False"), at("2026-08-20T10:00:59Z")));
        assert!(is_overdue(&pod("False"), at("2026-08-20T10:01:00Z")));
        assert!(!is_overdue(&pod("True"), later));
        assert!(!is_overdue(&json!({}), later));
        assert!(reason(&pod("False"), later).contains("ended 10 min ago; is node node-1 down?"));
        assert_eq!(reason(&pod("True"), later), "terminating");
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
