//! Why a claim is Pending: the classes of the taxonomy, told from its fields and its events.
//!
//! Events are matched by the gRPC part of their text alone: what stands before it changed between csi-provisioner 5 and 6.

use super::data_source;
use crate::object::{annotation, created, finalizers, instant, is_terminating, name, text, uid};
use crate::time::spoken;
use salve_core::Millis;
use salve_core::effect::query_pvcs::Waiting;
use serde_json::Value;

/// A claim that is younger than this has not been tried yet.
const YOUNG: Millis = 30_000;

/// What is known of a Pending claim.
pub(super) struct Facts<'a> {
    pub pvc: &'a Value,
    pub class_name: Option<&'a str>,
    pub class: Option<&'a Value>,
    /// The claim that VolSync made to fill this one.
    pub prime: Option<&'a Value>,
    /// Events of this very claim.
    pub events: &'a [&'a Value],
    pub now: Millis,
}

/// The class, and what it rests on.
pub(super) fn classify(facts: &Facts<'_>) -> (Waiting, String) {
    let pvc = facts.pvc;
    if is_terminating(pvc) {
        return (
            Waiting::Terminating,
            format!(
                "deletion asked for at {}, held by {}",
                text(pvc, "/metadata/deletionTimestamp").unwrap_or("?"),
                joined(&finalizers(pvc))
            ),
        );
    }
    let mut events = facts.events.to_vec();
    events.sort_by_key(|event| seen(event));
    let told =
        || events.iter().rev().find_map(|event| Some((meaning(event, uid(pvc))?, evidence(event))));
    if binds_on_first_use(facts) {
        let event = events.iter().rev().find(|event| {
            matches!(text(event, "/reason"), Some("WaitForFirstConsumer" | "WaitForPodScheduled"))
        });
        return (
            Waiting::ForFirstConsumer,
            event.map_or_else(
                || "its class binds on first use, and no pod that uses it is scheduled".into(),
                |event| evidence(event),
            ),
        );
    }
    if let Some(locked) = told().filter(|(waiting, _)| *waiting == Waiting::CsiLocked) {
        return locked;
    }
    if data_source(pvc).and_then(|source| text(source, "/kind")) == Some("ReplicationDestination") {
        return from_destination(facts, &events);
    }
    if let Some(told) = told() {
        return told;
    }
    if facts.class.is_none()
        && let Some(class) = facts.class_name
    {
        return (Waiting::Misconfigured, format!("there is no StorageClass {class}"));
    }
    unattended(facts, &events)
}

/// A claim that VolSync fills.
fn from_destination(facts: &Facts<'_>, events: &[&Value]) -> (Waiting, String) {
    if let Some(prime) = facts.prime {
        return (Waiting::Populating, format!("VolSync fills {} for it", name(prime)));
    }
    let says = |event: &&&Value| {
        text(event, "/reason").is_some_and(|reason| reason.starts_with("VolSyncPopulator"))
    };
    let event = events.iter().rev().find(says).or_else(|| events.last());
    (
        Waiting::ForDestination,
        event.map_or_else(
            || "its data comes from a ReplicationDestination, and no volume is filled yet".into(),
            |event| evidence(event),
        ),
    )
}

/// A claim of which nobody says what is wrong.
fn unattended(facts: &Facts<'_>, events: &[&Value]) -> (Waiting, String) {
    let age = facts.now.saturating_sub(created(facts.pvc));
    let asked =
        events.iter().rev().find(|event| text(event, "/reason") == Some("ExternalProvisioning"));
    let tried = events.iter().any(|event| text(event, "/reason") == Some("Provisioning"));
    match asked {
        Some(_) if age < YOUNG => {
            (Waiting::Unknown, format!("it is {} old, and nobody has tried yet", spoken(age)))
        }
        Some(event) if !tried => (Waiting::NoProvisioner, evidence(event)),
        Some(_) | None if tried => {
            (Waiting::Unknown, "its driver is at it, and has not said anything else".into())
        }
        Some(_) | None => (
            Waiting::Unknown,
            events.last().map_or_else(|| "no event says why".into(), |event| evidence(event)),
        ),
    }
}

fn binds_on_first_use(facts: &Facts<'_>) -> bool {
    facts
        .class
        .is_some_and(|class| text(class, "/volumeBindingMode") == Some("WaitForFirstConsumer"))
        && annotation(facts.pvc, "volume.kubernetes.io/selected-node").is_none()
}

/// What one event means for the claim of this uid; none if it says nothing about why it waits.
fn meaning(event: &Value, uid: &str) -> Option<Waiting> {
    let message = text(event, "/message")?;
    let lower = message.to_lowercase();
    match text(event, "/reason")? {
        "ProvisioningFailed" => {
            let locked = message.contains("code = Aborted")
                && message.contains("operation with the given")
                && !uid.is_empty()
                && message.contains(uid);
            let class_gone = lower.contains("storageclass") && lower.contains("not found");
            Some(if locked {
                Waiting::CsiLocked
            } else if message.contains("code = DeadlineExceeded") {
                Waiting::CsiSlow
            } else if message.contains("error getting handle for DataSource Type VolumeSnapshot") {
                Waiting::ForSnapshot
            } else if class_gone
                || ["code = InvalidArgument", "code = ResourceExhausted", "code = OutOfRange"]
                    .iter()
                    .any(|code| message.contains(code))
            {
                Waiting::Misconfigured
            } else {
                Waiting::Unknown
            })
        }
        "FailedBinding" if message.contains("no storage class is set") => {
            Some(Waiting::Misconfigured)
        }
        _ => None,
    }
}

/// When an event was seen last. A newer VolSync leaves the old fields null.
fn seen(event: &Value) -> Millis {
    [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/firstTimestamp",
        "/metadata/creationTimestamp",
    ]
    .into_iter()
    .filter_map(|at| instant(event, at))
    .max()
    .unwrap_or(0)
}

fn evidence(event: &Value) -> String {
    let at = seen(event);
    let time = if at == 0 { String::new() } else { format!(" ({})", crate::time::seconds(at)) };
    format!(
        "{}: {}{time}",
        text(event, "/reason").unwrap_or("event"),
        text(event, "/message").unwrap_or_default().trim()
    )
}

fn joined(words: &[String]) -> String {
    if words.is_empty() { "nothing".into() } else { words.join(", ") }
}
