//! PersistentVolumes whose PVCs are outside of the listed namespaces.

use super::parse_reclaim_policy;
use crate::failure::Failure;
use crate::object::{controller, instant, is_terminating, kind_and_name, name, owned, text, uid};
use crate::resource::{PERSISTENT_VOLUMES, PVCS};
use crate::send::{ListFilter, MAX_CONCURRENT_REQUESTS, Session, concurrently};
use salve_core::capability::query_pvcs::{ListOtherVolumes, PvcState, Volume};
use salve_core::capability::types::ObjectRef;
use salve_core::footprint::{Asked, Verb};
use salve_core::outcome::Error;
use serde_json::Value;
use std::collections::BTreeMap;

/// Lists the volumes of a driver whose PVCs are in other namespaces, or no longer exist, sorted by
/// name.
pub(super) async fn list_other(
    session: &Session,
    call: &ListOtherVolumes,
) -> Result<Vec<Volume>, Error> {
    let volumes = session.list(&PERSISTENT_VOLUMES, None, ListFilter::default()).await?;
    let mut candidates: Vec<&Value> = volumes
        .iter()
        .filter(|volume| text(volume, "/spec/csi/driver") == Some(&call.driver))
        .filter(|volume| claim(volume).is_some())
        .collect();
    candidates.sort_by(|a, b| name(a).cmp(name(b)));
    let pvcs = pvcs_of(session, &candidates).await?;
    let parsed = candidates.into_iter().filter_map(|volume| parse_volume(volume, &pvcs));
    let is_listed = |volume: &Volume| match volume.pvc_state {
        PvcState::Bound | PvcState::Terminating => call.namespaces.contains(&volume.pvc.namespace),
        PvcState::Missing | PvcState::Unreadable => false,
    };
    Ok(parsed.filter(|volume| !is_listed(volume)).collect())
}

/// Returns the PVC that a volume is or was bound to.
fn claim(volume: &Value) -> Option<ObjectRef> {
    let namespace = text(volume, "/spec/claimRef/namespace")?;
    Some(ObjectRef::new(namespace, text(volume, "/spec/claimRef/name")?))
}

/// Reads the PVCs of each namespace that has a claim. None for a namespace that may not be read.
async fn pvcs_of(
    session: &Session,
    volumes: &[&Value],
) -> Result<BTreeMap<String, Option<Vec<Value>>>, Failure> {
    let mut namespaces: Vec<String> =
        volumes.iter().filter_map(|volume| claim(volume)).map(|pvc| pvc.namespace).collect();
    namespaces.sort();
    namespaces.dedup();
    let lists = concurrently(
        namespaces.iter().map(|namespace| list_pvcs(session, namespace)).collect(),
        MAX_CONCURRENT_REQUESTS,
    )
    .await;
    namespaces.into_iter().zip(lists).map(|(namespace, list)| Ok((namespace, list?))).collect()
}

async fn list_pvcs(session: &Session, namespace: &str) -> Result<Option<Vec<Value>>, Failure> {
    let asked = Asked {
        verb: Verb::List,
        group: &PVCS.group,
        resource: &PVCS.plural,
        subresource: None,
        namespace: Some(namespace),
        name: None,
    };
    if session.footprint().covers(&asked).is_err() {
        return Ok(None);
    }
    match session.list(&PVCS, Some(namespace), ListFilter::default()).await {
        Ok(pvcs) => Ok(Some(pvcs)),
        Err(failure) if failure.code() == Some(403) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Parses a volume. None if it has no PVC.
fn parse_volume(volume: &Value, pvcs: &BTreeMap<String, Option<Vec<Value>>>) -> Option<Volume> {
    let pvc = claim(volume)?;
    let pvc_uid = owned(volume, "/spec/claimRef/uid");
    let is_claim = |candidate: &&Value| {
        name(candidate) == pvc.name && pvc_uid.as_ref().is_none_or(|known| uid(candidate) == known)
    };
    let (pvc_state, found) = match pvcs.get(&pvc.namespace).and_then(Option::as_ref) {
        Some(pvcs) => match pvcs.iter().find(is_claim) {
            Some(found) if is_terminating(found) => (PvcState::Terminating, Some(found)),
            Some(found) => (PvcState::Bound, Some(found)),
            None => (PvcState::Missing, None),
        },
        // The controller of volumes sets these phases once the PVC no longer exists.
        // mutant released-volume-overlooked: Some("Released" | "Failed") ~> Some("Released" |
        //     "Failed") if false
        None => match text(volume, "/status/phase") {
            Some("Released" | "Failed") => (PvcState::Missing, None),
            Some(_) | None => (PvcState::Unreadable, None),
        },
    };
    Some(Volume {
        name: name(volume).to_owned(),
        terminating_since: instant(volume, "/metadata/deletionTimestamp"),
        reclaim_policy: text(volume, "/spec/persistentVolumeReclaimPolicy")
            .and_then(parse_reclaim_policy),
        handle: owned(volume, "/spec/csi/volumeHandle").unwrap_or_default(),
        pvc,
        pvc_uid,
        pvc_state,
        pvc_owner: found.and_then(controller).and_then(kind_and_name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume(phase: &str) -> Value {
        json!({
            "metadata": {"name": "pvc-1"},
            "spec": {
                "csi": {"driver": "d", "volumeHandle": "0001-x"},
                "claimRef": {"namespace": "downloads", "name": "data", "uid": "u1"},
                "persistentVolumeReclaimPolicy": "Delete",
            },
            "status": {"phase": phase},
        })
    }

    fn state(phase: &str, pvcs: Option<Vec<Value>>) -> PvcState {
        let pvcs = BTreeMap::from([("downloads".to_owned(), pvcs)]);
        parse_volume(&volume(phase), &pvcs).expect("it has a claim").pvc_state
    }

    #[test]
    fn the_state_of_a_pvc_is_read_from_it_or_else_from_its_volume() {
        let pvc = |uid: &str| json!({"metadata": {"name": "data", "uid": uid}});
        let mut terminating = pvc("u1");
        terminating["metadata"]["deletionTimestamp"] = "2026-08-20T10:00:00Z".into();
        for (phase, pvcs, expected) in [
            ("Bound", Some(vec![pvc("u1")]), PvcState::Bound),
            ("Bound", Some(vec![terminating]), PvcState::Terminating),
            ("Bound", Some(vec![]), PvcState::Missing),
            // Another PVC has its name.
            ("Released", Some(vec![pvc("u2")]), PvcState::Missing),
            ("Bound", None, PvcState::Unreadable),
            ("Released", None, PvcState::Missing),
            ("Failed", None, PvcState::Missing),
        ] {
            assert_eq!(state(phase, pvcs.clone()), expected, "{phase} {pvcs:?}");
        }
    }

    #[test]
    fn a_volume_without_a_claim_is_not_listed() {
        let mut volume = volume("Available");
        volume["spec"]["claimRef"].take();
        assert_eq!(parse_volume(&volume, &BTreeMap::new()), None);
    }
}
