//! `query-pvcs`: claims and snapshots, and why a claim waits (the classes are told from events in `waiting`).

mod waiting;

use crate::discovery::{self, SNAPSHOT};
use crate::object::{
    annotation, capped, controller, created, finalizers, instant, is_true, label, name, namespace,
    owned, slashed, text, uid,
};
use crate::resource::{CLAIMS, EVENTS, STORAGE_CLASSES, VOLUMES};
use crate::send::{Narrow, Session, concurrently};
use salve_core::Millis;
use salve_core::effect::query_pvcs::{
    ListPvcs, ListSnapshots, Phase, Pvc, ReclaimPolicy, Snapshot,
};
use salve_core::effect::shared::ObjectRef;
use salve_core::outcome::Error;
use serde_json::Value;
use std::collections::HashMap;

/// How many requests are under way at once.
const AT_ONCE: usize = 16;
/// VolSync's mark on a claim that it fills for another.
const FILLS: &str = "volsync.backube/populator-pvc-for";
/// The same in its name, before the uid of the other.
const PRIME: &str = "vs-prime-";

/// All claims of the namespaces, by namespace and name.
pub(crate) async fn pvcs(session: &Session, ask: &ListPvcs) -> Result<Vec<Pvc>, Error> {
    let of_claims =
        Narrow { labels: None, fields: Some("involvedObject.kind=PersistentVolumeClaim") };
    let (volumes, classes, found, events) = futures::join!(
        session.list(&VOLUMES, None, Narrow::default()),
        session.list(&STORAGE_CLASSES, None, Narrow::default()),
        concurrently(
            ask.namespaces
                .iter()
                .map(|ns| session.list(&CLAIMS, Some(ns), Narrow::default()))
                .collect(),
            AT_ONCE
        ),
        concurrently(
            ask.namespaces.iter().map(|ns| session.list(&EVENTS, Some(ns), of_claims)).collect(),
            AT_ONCE
        ),
    );
    let (volumes, classes) = (volumes?, classes?);
    let around = Around {
        volumes: by_name(&volumes),
        classes: by_name(&classes),
        now: session.clock().now(),
    };
    let mut all = Vec::new();
    for (found, events) in found.into_iter().zip(events) {
        let (found, events) = (found?, events?);
        all.extend(found.iter().map(|pvc| read(pvc, &found, &events, &around)));
    }
    all.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(all)
}

/// All VolumeSnapshots of the namespaces, by namespace and name. None where the cluster has no snapshots.
pub(crate) async fn snapshots(
    session: &Session,
    ask: &ListSnapshots,
) -> Result<Vec<Snapshot>, Error> {
    let Some(resource) = discovery::look_up(session, SNAPSHOT, "volumesnapshots").await? else {
        return Ok(vec![]);
    };
    let found = concurrently(
        ask.namespaces
            .iter()
            .map(|ns| session.list(&resource, Some(ns), Narrow::default()))
            .collect(),
        AT_ONCE,
    )
    .await;
    let mut all = Vec::new();
    for found in found {
        all.extend(found?.iter().map(read_snapshot));
    }
    all.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(all)
}

/// What a claim is judged by, beside its namespace.
struct Around<'a> {
    volumes: HashMap<&'a str, &'a Value>,
    classes: HashMap<&'a str, &'a Value>,
    now: Millis,
}

fn by_name(objects: &[Value]) -> HashMap<&str, &Value> {
    objects.iter().map(|object| (name(object), object)).collect()
}

fn read(pvc: &Value, siblings: &[Value], events: &[Value], around: &Around<'_>) -> Pvc {
    let class_name = text(pvc, "/spec/storageClassName")
        .or_else(|| annotation(pvc, "volume.beta.kubernetes.io/storage-class"));
    let class = class_name.and_then(|class| around.classes.get(class).copied());
    let volume =
        text(pvc, "/spec/volumeName").and_then(|volume| around.volumes.get(volume).copied());
    let phase = match text(pvc, "/status/phase") {
        Some("Bound") => Phase::Bound,
        Some("Lost") => Phase::Lost,
        Some(_) | None => Phase::Pending,
    };
    let waiting = (phase == Phase::Pending).then(|| {
        let prime =
            siblings.iter().find(|other| populates(other, siblings).as_deref() == Some(name(pvc)));
        let local: Vec<&Value> = events
            .iter()
            .filter(|event| text(event, "/involvedObject/uid") == Some(uid(pvc)))
            .collect();
        waiting::classify(&waiting::Facts {
            pvc,
            class_name,
            class,
            prime,
            events: &local,
            now: around.now,
        })
    });
    let driver = [
        "volume.kubernetes.io/storage-provisioner",
        "volume.beta.kubernetes.io/storage-provisioner",
    ]
    .into_iter()
    .find_map(|key| annotation(pvc, key));
    let driver = driver
        .or_else(|| volume.and_then(|v| text(v, "/spec/csi/driver")))
        .or_else(|| class.and_then(|c| text(c, "/provisioner")));
    let reclaim_policy = volume
        .and_then(|v| text(v, "/spec/persistentVolumeReclaimPolicy"))
        .or_else(|| class.map(|c| text(c, "/reclaimPolicy").unwrap_or("Delete")));
    Pvc {
        object: ObjectRef::new(namespace(pvc), name(pvc)),
        uid: uid(pvc).to_owned(),
        created: created(pvc),
        phase,
        terminating_since: instant(pvc, "/metadata/deletionTimestamp"),
        waiting: waiting.as_ref().map(|(waiting, _)| *waiting),
        evidence: waiting.map(|(_, evidence)| capped(&evidence, 1024)),
        storage_class: class_name.map(str::to_owned),
        driver: driver.map(str::to_owned),
        volume: owned(pvc, "/spec/volumeName"),
        reclaim_policy: reclaim_policy.and_then(policy),
        data_source: data_source(pvc).and_then(slashed),
        populates: populates(pvc, siblings),
        owner: controller(pvc).and_then(slashed),
        finalizers: finalizers(pvc),
    }
}

fn policy(word: &str) -> Option<ReclaimPolicy> {
    match word {
        "Delete" => Some(ReclaimPolicy::Delete),
        "Retain" => Some(ReclaimPolicy::Retain),
        "Recycle" => Some(ReclaimPolicy::Recycle),
        _ => None,
    }
}

/// What a claim is to be filled from.
fn data_source(pvc: &Value) -> Option<&Value> {
    ["/spec/dataSourceRef", "/spec/dataSource"]
        .into_iter()
        .find_map(|at| pvc.pointer(at))
        .filter(|source| source.is_object())
}

/// The claim that VolSync made this one to fill.
fn populates(pvc: &Value, siblings: &[Value]) -> Option<String> {
    if let Some(other) = label(pvc, FILLS).filter(|other| !other.is_empty()) {
        return Some(other.to_owned());
    }
    let other = name(pvc).strip_prefix(PRIME)?;
    siblings.iter().find(|sibling| uid(sibling) == other).map(|sibling| name(sibling).to_owned())
}

fn read_snapshot(snapshot: &Value) -> Snapshot {
    Snapshot {
        object: ObjectRef::new(namespace(snapshot), name(snapshot)),
        uid: uid(snapshot).to_owned(),
        created: created(snapshot),
        terminating_since: instant(snapshot, "/metadata/deletionTimestamp"),
        ready: is_true(snapshot, "/status/readyToUse"),
        pvc: owned(snapshot, "/spec/source/persistentVolumeClaimName"),
        content: owned(snapshot, "/status/boundVolumeSnapshotContentName"),
        owner: controller(snapshot).and_then(slashed),
        owner_uid: controller(snapshot).and_then(|owner| owned(owner, "/uid")),
        problem: text(snapshot, "/status/error/message").map(|message| capped(message, 1024)),
    }
}

#[cfg(test)]
#[path = "query_pvcs_tests.rs"]
mod tests;
