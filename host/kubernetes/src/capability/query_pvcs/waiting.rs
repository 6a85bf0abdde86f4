//! Determines why a PVC is Pending from its fields and events.
//!
//! Only the gRPC part of an event's message is matched, because its prefix changed between
//! csi-provisioner 5 and 6.

use super::data_source;
use crate::event::last_seen;
use crate::object::{annotation, created, finalizers, is_terminating, name, text, uid};
use crate::time::{human_duration, seconds};
use salve_core::Millis;
use salve_core::capability::query_pvcs::Waiting;
use serde_json::Value;

/// The age in milliseconds after which the provisioner should have tried to create the volume.
const MIN_AGE: Millis = 30_000;

/// How long a pod may take to be scheduled before that is a problem, in milliseconds.
const SCHEDULING_TIMEOUT: Millis = 5 * 60_000;

/// What ceph-csi answers while the storage copies or flattens the source. Sources:
/// `internal/cephfs/errors/errors.go` and `internal/rbd/errors.go`; the last two are older.
const COPYING: [&str; 5] = [
    "clone from snapshot is already in progress",
    "clone from snapshot is pending",
    "flatten in progress",
    "desc = in progress",
    "desc = pending",
];

/// The inputs of the classification.
pub(super) struct Facts<'a> {
    pub pvc: &'a Value,
    pub class_name: Option<&'a str>,
    pub class: Option<&'a Value>,
    /// The PVC that VolSync populates for this one.
    pub prime: Option<&'a Value>,
    /// Events of the PVC with this uid.
    pub events: &'a [&'a Value],
    pub now: Millis,
}

/// Classifies a Pending PVC, with the evidence.
pub(super) fn classify(facts: &Facts<'_>) -> (Waiting, String) {
    let pvc = facts.pvc;
    if is_terminating(pvc) {
        return (
            Waiting::Terminating,
            format!(
                "deletion requested at {}, waiting for finalizers: {}",
                text(pvc, "/metadata/deletionTimestamp").unwrap_or("?"),
                join_or_none(&finalizers(pvc))
            ),
        );
    }
    let mut events = facts.events.to_vec();
    events.sort_by_key(|event| last_seen(event));
    let classified = || {
        events
            .iter()
            .rev()
            .find_map(|event| Some((classify_event(event, uid(pvc))?, evidence(event))))
    };
    if binds_on_first_use(facts) {
        let event = events.iter().rev().find(|event| {
            matches!(text(event, "/reason"), Some("WaitForFirstConsumer" | "WaitForPodScheduled"))
        });
        let age = facts.now.saturating_sub(created(pvc));
        let has_pod = event.is_some_and(|e| text(e, "/reason") == Some("WaitForPodScheduled"));
        return (
            // mutant unscheduled-pod-expected: if has_pod && age > SCHEDULING_TIMEOUT { ~> if false
            //     {
            if has_pod && age > SCHEDULING_TIMEOUT {
                Waiting::ForScheduling
            } else {
                Waiting::ForFirstConsumer
            },
            event.map_or_else(
                || "volumeBindingMode is WaitForFirstConsumer, and no pod uses the PVC yet".into(),
                |event| evidence(event),
            ),
        );
    }
    if let Some(locked) = classified().filter(|(waiting, _)| *waiting == Waiting::CsiLocked) {
        return locked;
    }
    if data_source(pvc).and_then(|source| text(source, "/kind")) == Some("ReplicationDestination") {
        return classify_destination(facts, &events);
    }
    if let Some(classified) = classified() {
        return classified;
    }
    if facts.class.is_none()
        && let Some(class) = facts.class_name
    {
        return (Waiting::Misconfigured, format!("StorageClass {class} does not exist"));
    }
    classify_without_failure(facts, &events)
}

/// Classifies a PVC that VolSync populates from a ReplicationDestination.
fn classify_destination(facts: &Facts<'_>, events: &[&Value]) -> (Waiting, String) {
    if let Some(prime) = facts.prime {
        return (Waiting::Populating, format!("VolSync is populating {}", name(prime)));
    }
    let is_populator = |event: &&&Value| {
        text(event, "/reason").is_some_and(|reason| reason.starts_with("VolSyncPopulator"))
    };
    let event = events.iter().rev().find(is_populator).or_else(|| events.last());
    (
        Waiting::ForDestination,
        event.map_or_else(
            || "waiting for the ReplicationDestination to populate a volume".into(),
            |event| evidence(event),
        ),
    )
}

/// Classifies a PVC without an event that reports a failure.
fn classify_without_failure(facts: &Facts<'_>, events: &[&Value]) -> (Waiting, String) {
    let age = facts.now.saturating_sub(created(facts.pvc));
    let requested =
        events.iter().rev().find(|event| text(event, "/reason") == Some("ExternalProvisioning"));
    let tried = events.iter().any(|event| text(event, "/reason") == Some("Provisioning"));
    match requested {
        Some(_) if age < MIN_AGE => {
            (Waiting::Unknown, format!("created {} ago, not provisioned yet", human_duration(age)))
        }
        Some(event) if !tried => (Waiting::NoProvisioner, evidence(event)),
        Some(_) | None if tried => {
            (Waiting::Unknown, "the driver is provisioning the volume; no failure reported".into())
        }
        Some(_) | None => (
            Waiting::Unknown,
            events.last().map_or_else(|| "no events".into(), |event| evidence(event)),
        ),
    }
}

fn binds_on_first_use(facts: &Facts<'_>) -> bool {
    facts
        .class
        .is_some_and(|class| text(class, "/volumeBindingMode") == Some("WaitForFirstConsumer"))
        && annotation(facts.pvc, "volume.kubernetes.io/selected-node").is_none()
}

/// Classifies one event of the PVC with this uid. Returns None if the event does not explain why
/// the PVC is waiting.
fn classify_event(event: &Value, uid: &str) -> Option<Waiting> {
    let message = text(event, "/message")?;
    match text(event, "/reason")? {
        "ProvisioningFailed" => Some(classify_failure(message, uid)),
        "FailedBinding" if message.contains("no storage class is set") => {
            Some(Waiting::Misconfigured)
        }
        _ => None,
    }
}

/// Classifies the message of a failed attempt to create the volume of the PVC with this uid.
fn classify_failure(message: &str, uid: &str) -> Waiting {
    let has = |text: &str| message.contains(text);
    let lower = message.to_lowercase();
    if has("code = Aborted") {
        // Only the locks of existing volumes and snapshots are named by their handle.
        let of_this_pvc = !uid.is_empty() && has("operation with the given") && has(uid);
        let of_its_source = has("operation with given id") && has("already exists");
        if of_this_pvc || of_its_source {
            return Waiting::CsiLocked;
        }
        if COPYING.iter().any(|text| has(text)) {
            // mutant copying-is-unknown: return Waiting::Copying; ~> return Waiting::Unknown;
            return Waiting::Copying;
        }
    }
    if has("code = DeadlineExceeded") {
        return Waiting::CsiSlow;
    }
    // csi-provisioner prefixes every problem with the source snapshot alike. Only a snapshot that
    // is not ready yet improves by waiting.
    if has("error getting handle for DataSource Type VolumeSnapshot") {
        let is_final = has("not found")
            // mutant impossible-restore-awaited: || has("is less than the size") ~>
            || has("is less than the size")
            || has("is being deleted")
            || has("different driver");
        return if is_final { Waiting::Misconfigured } else { Waiting::ForSnapshot };
    }
    let class_gone = lower.contains("storageclass") && lower.contains("not found");
    let rejected = ["code = InvalidArgument", "code = ResourceExhausted", "code = OutOfRange"];
    if class_gone || rejected.iter().any(|code| has(code)) {
        return Waiting::Misconfigured;
    }
    Waiting::Unknown
}

fn evidence(event: &Value) -> String {
    let at = last_seen(event);
    let time = if at == 0 { String::new() } else { format!(" ({})", seconds(at)) };
    format!(
        "{}: {}{time}",
        text(event, "/reason").unwrap_or("event"),
        text(event, "/message").unwrap_or_default().trim()
    )
}

fn join_or_none(items: &[String]) -> String {
    if items.is_empty() { "none".into() } else { items.join(", ") }
}
