use super::*;
use crate::samples::{self, DRIVER, NOW};
use salve_sdk::query_pvcs::{Phase, Pvc};
use serde_json::json;

#[test]
fn timestamps_of_the_api_server_are_parsed() {
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2026-08-20T10:00:00Z", Some(1_787_220_000_000)),
        ("2024-02-29T23:59:59Z", Some(1_709_251_199_000)),
        ("2026-08-20", None),
        ("yesterday", None),
        ("2026-08-xxT10:00:00Z", None),
        ("2026-13-01T10:00:00Z", None),
    ] {
        assert_eq!(parse_time(text), expected, "{text}");
    }
}

#[test]
fn attachments_of_the_driver_are_parsed_with_the_state_of_their_nodes() {
    let attachment = |driver: &str, node: &str| {
        json!({"metadata": {"name": format!("csi-{node}"),
                "deletionTimestamp": "2026-08-20T09:00:00Z"},
            "spec": {"attacher": driver, "nodeName": node,
                "source": {"persistentVolumeName": "pvc-1"}},
            "status": {"attached": true, "detachError": {"message": "in use"}}})
    };
    let node = |name: &str, ready: &str| {
        json!({"metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    };
    let all = [
        attachment(DRIVER, "a"),
        attachment(DRIVER, "b"),
        attachment(DRIVER, "c"),
        attachment("other", "a"),
    ];
    let parsed = parse(&all, &[node("a", "True"), node("b", "Unknown")], DRIVER);
    let down: Vec<_> = parsed.iter().map(|one| (one.node.name.as_str(), one.node.down)).collect();
    assert_eq!(down, [("a", None), ("b", Some("is not ready")), ("c", Some("does not exist"))]);
    assert_eq!(
        (parsed[0].terminating_since, parsed[0].problem.as_deref()),
        (Some(NOW - 3_600_000), Some("in use"))
    );
}

#[test]
fn an_attachment_is_reported_if_it_hangs_or_keeps_a_pod_of_another_node_from_starting() {
    let attachment = |down, terminating_since| Attachment {
        name: "csi-1".into(),
        volume: "pvc-1".into(),
        node: NodeState { name: "node-a".into(), down },
        terminating_since,
        problem: None,
    };
    let dead = Some("is not ready");
    let (recent, old) = (Some(NOW - 60_000), Some(NOW - MAX_DETACH_MS - 1));
    for (attachment, pod_node, expected) in [
        (attachment(None, None), Some("node-b"), None),
        (attachment(None, recent), Some("node-b"), None),
        (attachment(None, old), None, Some("detaching for")),
        (attachment(dead, old), None, Some("and the node is not ready")),
        (attachment(dead, None), None, None),
        (attachment(dead, None), Some("node-a"), None),
        (attachment(dead, None), Some("node-b"), Some("pod media/a cannot start")),
    ] {
        let mut observation = samples::observation();
        observation.pvcs = vec![Pvc {
            phase: Phase::Bound,
            volume: Some("pvc-1".into()),
            ..samples::pending("media/data", 1)
        }];
        if let Some(node) = pod_node {
            let mut pod = samples::pending_pod(
                "media/a",
                "ReplicaSet/a",
                PendingReason::MountFailed,
                "Multi-Attach error for volume \"pvc-1\"",
            );
            (pod.node, pod.pvcs) = (Some(node.into()), vec!["data".into()]);
            observation.pending_pods = vec![pod];
        }
        observation.attachments = vec![attachment.clone()];
        let found = findings(&observation);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{attachment:?} {pod_node:?}");
        if let Some(expected) = expected {
            assert!(found[0].text.contains(expected), "{}", found[0].text);
        }
    }
}
