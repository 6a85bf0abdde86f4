//! `query-pvcs`: PVCs and VolumeSnapshots. `waiting` determines why a PVC is pending.

mod volumes;
mod waiting;

use crate::discovery;
use crate::object::{
    annotation, controller, created, finalizers, instant, is_true, kind_and_name, label, name,
    namespace, owned, text, truncated, uid,
};
use crate::perform::PerformRead;
use crate::resource::{EVENTS, PERSISTENT_VOLUMES, PVCS, STORAGE_CLASSES};
use crate::send::{ListFilter, MAX_CONCURRENT_REQUESTS, Session, concurrently};
use salve_core::Millis;
use salve_core::capability::query_pvcs::{
    ListOtherVolumes, ListPvcs, ListSnapshots, Phase, Pvc, ReclaimPolicy, Snapshot, Volume,
};
use salve_core::capability::types::{ObjectRef, SNAPSHOT};
use salve_core::outcome::Error;
use serde_json::Value;
use std::collections::HashMap;

/// The label on a PVC that VolSync populates on behalf of another one.
const POPULATOR_LABEL: &str = "volsync.backube/populator-pvc-for";
/// The name prefix of such a PVC, followed by the uid of the other one.
const POPULATOR_NAME_PREFIX: &str = "vs-prime-";

/// Lists all PVCs of the namespaces, sorted by namespace and name.
async fn pvcs(session: &Session, call: &ListPvcs) -> Result<Vec<Pvc>, Error> {
    let of_pvcs =
        ListFilter { labels: None, fields: Some("involvedObject.kind=PersistentVolumeClaim") };
    let (volumes, classes, found, events) = futures::join!(
        session.list(&PERSISTENT_VOLUMES, None, ListFilter::default()),
        session.list(&STORAGE_CLASSES, None, ListFilter::default()),
        concurrently(
            call.namespaces
                .iter()
                .map(|ns| session.list(&PVCS, Some(ns), ListFilter::default()))
                .collect(),
            MAX_CONCURRENT_REQUESTS
        ),
        concurrently(
            call.namespaces.iter().map(|ns| session.list(&EVENTS, Some(ns), of_pvcs)).collect(),
            MAX_CONCURRENT_REQUESTS
        ),
    );
    let (volumes, classes) = (volumes?, classes?);
    let context = Context {
        volumes: by_name(&volumes),
        classes: by_name(&classes),
        now: session.clock().now(),
    };
    let mut all = Vec::new();
    for (found, events) in found.into_iter().zip(events) {
        let (found, events) = (found?, events?);
        all.extend(found.iter().map(|pvc| parse_pvc(pvc, &found, &events, &context)));
    }
    all.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(all)
}

/// Lists all VolumeSnapshots of the namespaces, sorted by namespace and name. Empty if the cluster
/// does not support snapshots.
async fn snapshots(session: &Session, call: &ListSnapshots) -> Result<Vec<Snapshot>, Error> {
    let Some(resource) = discovery::find_resource(session, SNAPSHOT, "volumesnapshots").await?
    else {
        return Ok(vec![]);
    };
    let found = concurrently(
        call.namespaces
            .iter()
            .map(|ns| session.list(&resource, Some(ns), ListFilter::default()))
            .collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    let mut all = Vec::new();
    for found in found {
        all.extend(found?.iter().map(parse_snapshot));
    }
    all.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(all)
}

/// Objects outside the PVC's namespace that are needed to parse it.
struct Context<'a> {
    volumes: HashMap<&'a str, &'a Value>,
    classes: HashMap<&'a str, &'a Value>,
    now: Millis,
}

fn by_name(objects: &[Value]) -> HashMap<&str, &Value> {
    objects.iter().map(|object| (name(object), object)).collect()
}

fn parse_pvc(pvc: &Value, siblings: &[Value], events: &[Value], context: &Context<'_>) -> Pvc {
    let class_name = text(pvc, "/spec/storageClassName")
        .or_else(|| annotation(pvc, "volume.beta.kubernetes.io/storage-class"));
    let class = class_name.and_then(|class| context.classes.get(class).copied());
    let volume =
        text(pvc, "/spec/volumeName").and_then(|volume| context.volumes.get(volume).copied());
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
            now: context.now,
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
        evidence: waiting.map(|(_, evidence)| truncated(&evidence, 1024)),
        storage_class: class_name.map(str::to_owned),
        driver: driver.map(str::to_owned),
        volume: owned(pvc, "/spec/volumeName"),
        reclaim_policy: reclaim_policy.and_then(parse_reclaim_policy),
        data_source: data_source(pvc).and_then(kind_and_name),
        populates: populates(pvc, siblings),
        owner: controller(pvc).and_then(kind_and_name),
        finalizers: finalizers(pvc),
    }
}

fn parse_reclaim_policy(policy: &str) -> Option<ReclaimPolicy> {
    match policy {
        "Delete" => Some(ReclaimPolicy::Delete),
        "Retain" => Some(ReclaimPolicy::Retain),
        "Recycle" => Some(ReclaimPolicy::Recycle),
        _ => None,
    }
}

/// Returns the reference to the PVC's data source.
fn data_source(pvc: &Value) -> Option<&Value> {
    ["/spec/dataSourceRef", "/spec/dataSource"]
        .into_iter()
        .find_map(|at| pvc.pointer(at))
        .filter(|source| source.is_object())
}

/// Returns the name of the PVC for which VolSync populates this one.
fn populates(pvc: &Value, siblings: &[Value]) -> Option<String> {
    if let Some(other) = label(pvc, POPULATOR_LABEL).filter(|other| !other.is_empty()) {
        return Some(other.to_owned());
    }
    let other = name(pvc).strip_prefix(POPULATOR_NAME_PREFIX)?;
    siblings.iter().find(|sibling| uid(sibling) == other).map(|sibling| name(sibling).to_owned())
}

fn parse_snapshot(snapshot: &Value) -> Snapshot {
    Snapshot {
        object: ObjectRef::new(namespace(snapshot), name(snapshot)),
        uid: uid(snapshot).to_owned(),
        created: created(snapshot),
        terminating_since: instant(snapshot, "/metadata/deletionTimestamp"),
        ready: is_true(snapshot, "/status/readyToUse"),
        pvc: owned(snapshot, "/spec/source/persistentVolumeClaimName"),
        content: owned(snapshot, "/status/boundVolumeSnapshotContentName"),
        owner: controller(snapshot).and_then(kind_and_name),
        owner_uid: controller(snapshot).and_then(|owner| owned(owner, "/uid")),
        problem: text(snapshot, "/status/error/message").map(|message| truncated(message, 1024)),
        finalizers: finalizers(snapshot),
    }
}

impl PerformRead for ListPvcs {
    async fn read(&self, session: &Session) -> Result<Vec<Pvc>, Error> {
        pvcs(session, self).await
    }
}

impl PerformRead for ListSnapshots {
    async fn read(&self, session: &Session) -> Result<Vec<Snapshot>, Error> {
        snapshots(session, self).await
    }
}

impl PerformRead for ListOtherVolumes {
    async fn read(&self, session: &Session) -> Result<Vec<Volume>, Error> {
        volumes::list_other(session, self).await
    }
}

#[cfg(test)]
#[path = "query_pvcs_tests.rs"]
mod tests;
