//! Whether it is over, from the last look: no lock, no claim that waits without a reason, the backups back.

use salve_sdk::query_drivers::Driver;
use salve_sdk::query_pvcs::{Pvc, Waiting};
use salve_sdk::query_replicationsources::Destination;
use salve_sdk::report::Finding;
use salve_sdk::types::Pod;

use crate::evidence::{is_of, is_pending};
use crate::lookalikes;

/// How far the claims have come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovery<'a> {
    /// The driver still refuses them, or is too slow for them.
    pub stuck: Vec<&'a Pvc>,
    /// They wait, and nothing says why.
    pub unexplained: Vec<&'a Pvc>,
    /// They wait for something else, and a person may have to do it.
    pub explained: Vec<&'a Pvc>,
}

impl Recovery<'_> {
    /// Whether nothing is left that this run was for.
    pub fn is_complete(&self) -> bool {
        self.stuck.is_empty() && self.unexplained.is_empty()
    }
}

/// Sorts the Pending claims by what they still wait for.
pub fn recovery<'a>(pvcs: &'a [Pvc], driver: &Driver) -> Recovery<'a> {
    let mut recovery = Recovery::default();
    for pvc in pvcs {
        // The host's proof counts these whatever their phase.
        if matches!(pvc.waiting, Some(Waiting::CsiLocked | Waiting::CsiSlow)) {
            recovery.stuck.push(pvc);
            continue;
        }
        if !is_pending(pvc) {
            continue;
        }
        let of_driver = is_of(pvc, driver);
        match pvc.waiting.unwrap_or(Waiting::Unknown) {
            Waiting::NoProvisioner | Waiting::Unknown if of_driver => {
                recovery.unexplained.push(pvc)
            }
            Waiting::NoProvisioner
            | Waiting::Unknown
            | Waiting::CsiLocked
            | Waiting::CsiSlow
            | Waiting::ForDestination
            | Waiting::Populating
            | Waiting::ForSnapshot
            | Waiting::Misconfigured => recovery.explained.push(pvc),
            Waiting::ForFirstConsumer | Waiting::Terminating => {}
        }
    }
    recovery
}

/// What a claim that still waits needs from a person.
pub fn remedy(pvc: &Pvc, destinations: &[Destination]) -> String {
    let object = &pvc.object;
    match pvc.waiting.unwrap_or(Waiting::Unknown) {
        Waiting::ForDestination => lookalikes::of_destination(pvc, destinations),
        Waiting::Populating => format!("{object} is Pending: VolSync fills its volume"),
        Waiting::ForSnapshot => format!("{object} is Pending: its snapshot is not ready yet"),
        Waiting::Misconfigured => {
            format!(
                "{object} is Pending: {}",
                pvc.evidence.as_deref().unwrap_or("its class is missing or refused")
            )
        }
        Waiting::CsiLocked => {
            format!("{object} is Pending: the driver still refuses it with a lock")
        }
        Waiting::CsiSlow => format!(
            "{object} is Pending: the driver's attempts time out, look at Ceph and the network"
        ),
        Waiting::NoProvisioner => format!("{object} is Pending: no provisioner acts for it"),
        Waiting::ForFirstConsumer => format!("{object} waits for its first consumer: normal"),
        Waiting::Terminating => format!("{object} is being deleted"),
        Waiting::Unknown => format!("{object} is Pending, and no event says why"),
    }
}

/// Pods that run and are ready.
pub fn running(pods: &[Pod]) -> usize {
    pods.iter().filter(|pod| pod.ready && !pod.terminating).count()
}

/// Pods that mount claims and do not run yet.
pub fn held_up(pods: &[Pod]) -> Option<Finding> {
    let waits = |pod: &&Pod| {
        let finished = pod.phase == "Succeeded" || pod.phase == "Failed";
        !pod.ready && !pod.terminating && !finished && !pod.pvcs.is_empty()
    };
    let lines: Vec<String> = pods
        .iter()
        .filter(waits)
        .map(|pod| {
            let why = pod.waiting.as_deref().unwrap_or(&pod.phase);
            format!("{}/{}: {why}", pod.namespace, pod.name)
        })
        .collect();
    let text = match lines.as_slice() {
        [] => return None,
        [one] => format!("1 pod with a claim is not ready yet: {one}"),
        many => format!("{} pods with claims are not ready yet", many.len()),
    };
    Some(Finding::with(text, lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use salve_sdk::query_pvcs::Phase;

    #[test]
    fn it_is_over_only_when_no_claim_waits_without_a_reason() {
        for (waiting, complete) in [
            (Some(Waiting::CsiLocked), false),
            (Some(Waiting::CsiSlow), false),
            (Some(Waiting::NoProvisioner), false),
            (Some(Waiting::Unknown), false),
            (None, false),
            (Some(Waiting::ForDestination), true),
            (Some(Waiting::Populating), true),
            (Some(Waiting::ForSnapshot), true),
            (Some(Waiting::Misconfigured), true),
            (Some(Waiting::ForFirstConsumer), true),
            (Some(Waiting::Terminating), true),
        ] {
            let pvcs = [Pvc { waiting, ..samples::pending("media/a", 1) }];
            assert_eq!(recovery(&pvcs, &samples::driver()).is_complete(), complete, "{waiting:?}");
        }
    }

    #[test]
    fn another_drivers_silence_is_not_ours_to_wait_for() {
        let pvcs = [Pvc {
            driver: Some("other".into()),
            storage_class: Some("other".into()),
            ..samples::pending("media/a", 1)
        }];
        let driver = samples::driver();
        let recovery = recovery(&pvcs, &driver);
        assert!(recovery.is_complete());
        assert_eq!(recovery.explained.len(), 1);
    }

    #[test]
    fn a_bound_claim_has_recovered() {
        let pvcs = [Pvc { phase: Phase::Bound, ..samples::pending("media/a", 1) }];
        assert_eq!(recovery(&pvcs, &samples::driver()), Recovery::default());
    }
}
