//! Whether the incident is over: no locked PVC, and none that waits without a known reason.

use salve_sdk::query_drivers::Driver;
use salve_sdk::query_pvcs::{Pvc, Waiting};
use salve_sdk::query_replicationsources::Destination;
use salve_sdk::report::Finding;
use salve_sdk::types::Pod;

use crate::evidence::{is_pending, uses_driver};
use crate::similar_problems;

/// The PVCs that are not bound yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovery<'a> {
    /// The driver still rejects them, or is too slow.
    pub stuck: Vec<&'a Pvc>,
    /// They wait for the driver, and nothing says why.
    pub unexplained: Vec<&'a Pvc>,
    /// They wait for something else that may need manual action.
    pub explained: Vec<&'a Pvc>,
}

impl Recovery<'_> {
    /// Returns whether everything that this run can fix is fixed.
    pub fn is_complete(&self) -> bool {
        self.stuck.is_empty() && self.unexplained.is_empty()
    }
}

/// Groups the Pending PVCs by what they are waiting for.
pub fn recovery<'a>(pvcs: &'a [Pvc], driver: &Driver) -> Recovery<'a> {
    let mut recovery = Recovery::default();
    for pvc in pvcs {
        // The host counts these regardless of their phase. Another driver was not restarted.
        let is_rejected = matches!(pvc.waiting, Some(Waiting::CsiLocked | Waiting::CsiSlow));
        // mutant foreign-pvc-blocks-fixed: is_rejected && uses_driver(pvc, driver) ~> is_rejected
        if is_rejected && uses_driver(pvc, driver) {
            recovery.stuck.push(pvc);
            continue;
        }
        if !is_pending(pvc) {
            continue;
        }
        match pvc.waiting.unwrap_or(Waiting::Unknown) {
            Waiting::NoProvisioner | Waiting::Unknown if uses_driver(pvc, driver) => {
                recovery.unexplained.push(pvc)
            }
            Waiting::NoProvisioner
            | Waiting::Unknown
            | Waiting::CsiLocked
            | Waiting::CsiSlow
            | Waiting::ForDestination
            | Waiting::ForScheduling
            | Waiting::Populating
            | Waiting::ForSnapshot
            | Waiting::Copying
            | Waiting::Misconfigured => recovery.explained.push(pvc),
            Waiting::ForFirstConsumer | Waiting::Terminating => {}
        }
    }
    recovery
}

/// Describes why a PVC is not bound yet, and what to do about it.
pub fn describe(pvc: &Pvc, destinations: &[Destination]) -> String {
    let reason = match pvc.waiting.unwrap_or(Waiting::Unknown) {
        Waiting::ForDestination => {
            return similar_problems::waiting_for_destination(pvc, destinations);
        }
        Waiting::Terminating => return format!("{} is being deleted", pvc.object),
        Waiting::Unknown => return format!("{} is Pending, and no event says why", pvc.object),
        Waiting::Populating => "VolSync is populating its volume",
        Waiting::ForScheduling => "its pod is not scheduled",
        Waiting::ForSnapshot => "its snapshot is not ready yet",
        Waiting::Copying => "Ceph is still copying its data; no action needed",
        Waiting::Misconfigured => {
            pvc.evidence.as_deref().unwrap_or("its StorageClass is missing or rejected")
        }
        Waiting::CsiLocked => &format!("{} still rejects it with a lock", driver_of(pvc)),
        Waiting::CsiSlow => {
            &format!("calls of {} time out; check its storage and the network", driver_of(pvc))
        }
        Waiting::NoProvisioner => "no provisioner is acting on it",
        Waiting::ForFirstConsumer => "WaitForFirstConsumer (expected)",
    };
    format!("{} is Pending: {reason}", pvc.object)
}

fn driver_of(pvc: &Pvc) -> String {
    pvc.driver.as_deref().map_or_else(|| "its driver".into(), |name| format!("driver {name}"))
}

/// Counts the pods that are ready and not being deleted.
pub fn running(pods: &[Pod]) -> usize {
    pods.iter().filter(|pod| pod.ready && !pod.terminating).count()
}

/// Reports the pods that mount PVCs and are not ready yet.
pub fn unready_pods(pods: &[Pod]) -> Option<Finding> {
    let is_waiting = |pod: &&Pod| {
        let is_finished = pod.phase == "Succeeded" || pod.phase == "Failed";
        !pod.ready && !pod.terminating && !is_finished && !pod.pvcs.is_empty()
    };
    let lines: Vec<String> = pods
        .iter()
        .filter(is_waiting)
        .map(|pod| {
            let reason = pod.waiting.as_deref().unwrap_or(&pod.phase);
            format!("{}/{}: {reason}", pod.namespace, pod.name)
        })
        .collect();
    let text = match lines.as_slice() {
        [] => return None,
        [line] => format!("1 pod with a PVC is not ready yet: {line}"),
        many => format!("{} pods with PVCs are not ready yet", many.len()),
    };
    Some(Finding::with_details(text, lines))
}

#[cfg(test)]
#[path = "tests/verify.rs"]
mod tests;
