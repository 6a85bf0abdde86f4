//! VolumeAttachments that keep a pod from starting: their deletion hangs, or they belong to a node
//! that is down.

use std::collections::BTreeMap;

use salve_sdk::format::age;
use salve_sdk::query_pods::PendingReason;
use salve_sdk::report::Finding;
use serde_json::Value;

use crate::evidence::Observation;

/// How long a detachment usually takes at most: after 6 min, Kubernetes detaches by force.
const MAX_DETACH_MS: u64 = 6 * 60 * 1_000;

/// The state of a node without a Node object.
const MISSING: &str = "does not exist";

/// A volume that is attached to a node, or still to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub name: String,
    pub volume: String,
    pub node: NodeState,
    /// The deletion timestamp, in milliseconds since the epoch.
    pub terminating_since: Option<u64>,
    /// The error of the last attempt to detach it.
    pub problem: Option<String>,
}

/// A node, and whether it can detach volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    pub name: String,
    /// Why not. `None` if it is ready.
    pub down: Option<&'static str>,
}

/// Parses the VolumeAttachments of a driver. `nodes` are all nodes of the cluster.
pub fn parse(attachments: &[Value], nodes: &[Value], driver: &str) -> Vec<Attachment> {
    let is_ready = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    let ready: BTreeMap<&str, bool> = nodes
        .iter()
        .filter_map(|node| Some((node["metadata"]["name"].as_str()?, is_ready(node))))
        .collect();
    let parse_one = |attachment: &Value| {
        let spec = &attachment["spec"];
        let node = spec["nodeName"].as_str()?;
        let down = match ready.get(node) {
            Some(true) => None,
            Some(false) => Some("is not ready"),
            None => Some(MISSING),
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Attachment {
            name: text(&attachment["metadata"]["name"])?,
            volume: text(&spec["source"]["persistentVolumeName"])?,
            node: NodeState { name: node.to_owned(), down },
            terminating_since: attachment["metadata"]["deletionTimestamp"]
                .as_str()
                .and_then(parse_time),
            problem: text(&attachment["status"]["detachError"]["message"]),
        })
    };
    attachments
        .iter()
        .filter(|attachment| attachment["spec"]["attacher"] == driver)
        .filter_map(parse_one)
        .collect()
}

/// Parses a timestamp of the API server (`2026-08-20T10:00:00Z`) to milliseconds since the epoch.
fn parse_time(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator: char| -> Option<[u64; 3]> {
        let parts: Vec<u64> =
            text.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && day <= 31;
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970-01-01, with years that begin in March
    // (https://howardhinnant.github.io/date_algorithms.html#days_from_civil).
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000)
}

/// Reports the attachments that keep pods from starting, or that hang.
pub fn findings(observation: &Observation) -> Vec<Finding> {
    observation.attachments.iter().filter_map(|one| describe(one, observation)).collect()
}

fn describe(attachment: &Attachment, observation: &Observation) -> Option<Finding> {
    let Attachment { name, volume, node, terminating_since, problem } = attachment;
    let node_name = &node.name;
    let detaching =
        terminating_since.filter(|since| observation.now.saturating_sub(*since) > MAX_DETACH_MS);
    let pod = waiting_pod(attachment, observation);
    let state = match (detaching, node.down) {
        (Some(since), None) => format!("has been detaching for {}", age(since, observation.now)),
        (Some(since), Some(down)) => {
            format!("has been detaching for {}, and the node {down}", age(since, observation.now))
        }
        (None, Some(down)) if pod.is_some() => format!("is attached, but the node {down}"),
        (None, _) => return None,
    };
    let waiting = pod.map(|pod| format!(", so pod {pod} cannot start")).unwrap_or_default();
    let remedy = if node.down == Some(MISSING) {
        format!(
            "make sure that the machine is powered off, then run `kubectl delete volumeattachment \
             {name}`"
        )
    } else if node.down.is_some() {
        format!(
            "make sure that {node_name} is powered off, not just unreachable, then run `kubectl \
             taint node {node_name} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`; \
             remove the taint once the node is back"
        )
    } else {
        "check the log of the csi-attacher; do not remove its finalizer while the node has the \
         volume mounted"
            .to_owned()
    };
    Some(Finding::with_details(
        format!("volume {volume} {state} (node {node_name}){waiting}: {remedy}"),
        [format!("VolumeAttachment {name}: {}", problem.as_deref().unwrap_or("no error reported"))],
    ))
}

/// Returns a pod on another node that waits for the volume.
fn waiting_pod(attachment: &Attachment, observation: &Observation) -> Option<String> {
    let mounts_volume = |pod_namespace: &str, pvcs: &[String]| {
        observation.pvcs.iter().any(|pvc| {
            pvc.object.namespace == pod_namespace
                && pvcs.contains(&pvc.object.name)
                && pvc.volume.as_ref() == Some(&attachment.volume)
        })
    };
    observation
        .pending_pods
        .iter()
        .filter(|pod| pod.reason == PendingReason::MountFailed)
        .filter(|pod| pod.node.as_ref() != Some(&attachment.node.name))
        .find(|pod| mounts_volume(&pod.object.namespace, &pod.pvcs))
        .map(|pod| pod.object.to_string())
}

#[cfg(test)]
#[path = "tests/attachments.rs"]
mod tests;
