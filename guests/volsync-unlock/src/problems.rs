//! Reports to the host where the problems of the Remediation were observed, so that it can verify
//! that they are gone.

use salve_sdk::query_pvcs::Waiting;

use crate::evidence::Observation;
use crate::host::run;

/// The driver's controller logs operation locks.
const OPERATION_LOCKS: &str = "operation-locks";

/// PVCs that wait for a driver, by the end of its name. The driver that is restarted cannot help
/// those of another one.
const LOCKED_PVCS: [(&str, &str); 3] = [
    ("rbd.csi.ceph.com", "locked-rbd-pvcs"),
    ("cephfs.csi.ceph.com", "locked-cephfs-pvcs"),
    ("nfs.csi.ceph.com", "locked-nfs-pvcs"),
];

/// Reports what was observed before the first write. The host notes what it does not accept.
pub fn report(observation: &Observation) {
    for (problem, entry) in observed(observation) {
        drop(run::observed(problem, entry));
    }
}

/// Returns the observed problems, with the journal entries that show them.
fn observed(observation: &Observation) -> Vec<(&'static str, u64)> {
    let mut observed = Vec::new();
    if !observation.log.sightings.0.is_empty() {
        observed.push((OPERATION_LOCKS, observation.log.entry));
    }
    let driver = observation.driver.name.as_str();
    let is_locked = observation.pvcs.iter().any(|pvc| {
        pvc.driver.as_deref() == Some(driver)
            && matches!(pvc.waiting, Some(Waiting::CsiLocked | Waiting::CsiSlow))
    });
    let problem = LOCKED_PVCS.iter().find(|(suffix, _)| driver.ends_with(suffix));
    if let (Some(&(_, problem)), true) = (problem, is_locked) {
        observed.push((problem, observation.pvcs_entry));
    }
    observed
}

#[cfg(test)]
#[path = "tests/problems.rs"]
mod tests;
