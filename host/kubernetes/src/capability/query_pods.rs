//! `query-pods`: the pods of namespaces, and why some have not started.

use crate::event::last_seen;
use crate::object::{is_terminating, raw_condition, text, truncated, uid};
use crate::perform::PerformRead;
use crate::pod;
use crate::resource::{EVENTS, PODS};
use crate::send::{ListFilter, MAX_CONCURRENT_REQUESTS, Session, concurrently};
use salve_core::capability::query_pods::{ListPendingPods, ListPods, PendingPod, PendingReason};
use salve_core::capability::types::{ObjectRef, Pod};
use salve_core::outcome::Error;
use serde_json::Value;

/// Lists all pods of the namespaces, sorted by namespace and name.
async fn pods(session: &Session, call: &ListPods) -> Result<Vec<Pod>, Error> {
    let lists = concurrently(
        call.namespaces
            .iter()
            .map(|ns| session.list(&PODS, Some(ns), ListFilter::default()))
            .collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let mut all = Vec::new();
    for list in lists {
        all.extend(list?.iter().map(pod::parse));
    }
    all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(all)
}

/// Lists the pods of the namespaces that have not started, sorted by namespace and name.
async fn pending_pods(session: &Session, call: &ListPendingPods) -> Result<Vec<PendingPod>, Error> {
    let failed = ListFilter { labels: None, fields: Some("involvedObject.kind=Pod,type=Warning") };
    // The events first, so that each is older than the state of its pod.
    let events = concurrently(
        call.namespaces.iter().map(|ns| session.list(&EVENTS, Some(ns), failed)).collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let pods = concurrently(
        call.namespaces
            .iter()
            .map(|ns| session.list(&PODS, Some(ns), ListFilter::default()))
            .collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let mut all = Vec::new();
    for (events, pods) in events.into_iter().zip(pods) {
        let (events, pods) = (events?, pods?);
        all.extend(pods.iter().filter_map(|pod| pending_pod(pod, &events)));
    }
    all.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(all)
}

/// Returns why a pod has not started. None if it has, or if it is being deleted.
fn pending_pod(pod: &Value, events: &[Value]) -> Option<PendingPod> {
    if text(pod, "/status/phase") != Some("Pending") || is_terminating(pod) {
        return None;
    }
    let parsed = pod::parse(pod);
    let newest = |reasons: &[&str]| {
        events
            .iter()
            .filter(|event| text(event, "/involvedObject/uid") == Some(uid(pod)))
            .filter(|event| text(event, "/reason").is_some_and(|one| reasons.contains(&one)))
            .max_by_key(|event| last_seen(event))
            .map(|event| truncated(text(event, "/message").unwrap_or_default(), 1024))
    };
    let is_unscheduled = raw_condition(pod, "PodScheduled")
        .is_some_and(|condition| text(condition, "/status") == Some("False"));
    let unscheduled = if is_unscheduled {
        parsed.waiting.clone()
    } else if parsed.node.is_none() {
        // A scheduler other than the default one may report its failure only as an event.
        newest(&["FailedScheduling"])
    } else {
        None
    };
    let mount_failure = newest(&["FailedMount", "FailedAttachVolume"]);
    let (reason, message) = match (unscheduled, mount_failure, parsed.waiting) {
        (Some(message), _, _) => (PendingReason::Unscheduled, message),
        (None, Some(message), _) => (PendingReason::MountFailed, message),
        (None, None, Some(waiting)) => (PendingReason::ContainerWaiting, waiting),
        (None, None, None) => (PendingReason::Unknown, String::new()),
    };
    Some(PendingPod {
        object: ObjectRef::new(parsed.namespace, parsed.name),
        uid: parsed.uid,
        created: parsed.created,
        owner: parsed.owner,
        node: parsed.node,
        reason,
        message,
        pvcs: parsed.pvcs,
    })
}

impl PerformRead for ListPods {
    async fn read(&self, session: &Session) -> Result<Vec<Pod>, Error> {
        pods(session, self).await
    }
}

impl PerformRead for ListPendingPods {
    async fn read(&self, session: &Session) -> Result<Vec<PendingPod>, Error> {
        pending_pods(session, self).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LOCKED: &str = "MountVolume.MountDevice failed for volume \"pvc-1\" : rpc error: code = \
        Aborted desc = an operation with the given Volume ID 0001 already exists";

    fn pod(status: Value) -> Value {
        json!({"metadata": {"name": "plex-0", "namespace": "media", "uid": "u"},
            "spec": {"nodeName": "node-b"}, "status": status})
    }

    fn creating() -> Value {
        pod(json!({"phase": "Pending", "containerStatuses": [
            {"state": {"waiting": {"reason": "ContainerCreating"}}}]}))
    }

    fn event(uid: &str, message: &str, last: &str) -> Value {
        json!({"involvedObject": {"kind": "Pod", "uid": uid}, "reason": "FailedMount",
            "message": message, "lastTimestamp": last})
    }

    #[test]
    fn each_reason_is_told_apart() {
        let events = [event("u", LOCKED, "2026-08-20T09:00:00Z")];
        let unschedulable = pod(json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
            "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}));
        for (pod, events, reason, message) in [
            (creating(), &events[..], PendingReason::MountFailed, LOCKED),
            (creating(), &[], PendingReason::ContainerWaiting, "ContainerCreating"),
            (unschedulable.clone(), &[], PendingReason::Unscheduled, "Unschedulable: 0/3 nodes"),
            (unschedulable, &events, PendingReason::Unscheduled, "Unschedulable: 0/3 nodes"),
            (pod(json!({"phase": "Pending"})), &[], PendingReason::Unknown, ""),
        ] {
            let found = pending_pod(&pod, events).expect("a pending pod");
            assert_eq!((found.reason, found.message.as_str()), (reason, message));
            assert_eq!(found.node.as_deref(), Some("node-b"));
        }
    }

    #[test]
    fn an_event_tells_that_a_pod_without_a_node_is_not_scheduled() {
        let failed = json!({"involvedObject": {"kind": "Pod", "uid": "u"},
            "reason": "FailedScheduling", "message": "0/3 nodes",
            "lastTimestamp": "2026-08-20T09:00:00Z"});
        let mut waiting = pod(json!({"phase": "Pending"}));
        let found = pending_pod(&waiting, std::slice::from_ref(&failed)).expect("a pending pod");
        assert_eq!(found.reason, PendingReason::Unknown, "it has a node by now");
        waiting["spec"] = json!({});
        let found = pending_pod(&waiting, &[failed]).expect("a pending pod");
        assert_eq!((found.reason, &*found.message), (PendingReason::Unscheduled, "0/3 nodes"));
    }

    #[test]
    fn a_pod_that_has_started_or_ends_is_not_pending() {
        let events = [event("u", LOCKED, "2026-08-20T09:00:00Z")];
        for phase in ["Running", "Succeeded", "Failed", "Unknown"] {
            assert_eq!(pending_pod(&pod(json!({"phase": phase})), &events), None, "{phase}");
        }
        let mut terminating = creating();
        terminating["metadata"]["deletionTimestamp"] = "2026-08-20T09:00:00Z".into();
        assert_eq!(pending_pod(&terminating, &events), None);
    }

    #[test]
    fn only_the_newest_event_of_this_pod_counts() {
        let of_earlier_pod = event("other", LOCKED, "2026-08-20T09:45:00Z");
        let events = [
            event("u", "newer", "2026-08-20T09:30:00Z"),
            event("u", "older", "2026-08-20T09:00:00Z"),
            of_earlier_pod,
        ];
        assert_eq!(pending_pod(&creating(), &events).expect("a pending pod").message, "newer");
    }
}
