//! Sample objects for tests.

use std::collections::BTreeMap;

use salve_sdk::query_drivers::{CephHealth, Controller, Driver, NodePlugin, NodePod};
use salve_sdk::query_flux::{FluxObject, OwnerInfo, Ownership, Subject, SubjectKind, SuspendedBy};
use salve_sdk::query_pods::{PendingPod, PendingReason};
use salve_sdk::query_pvcs::{
    Phase, Pvc, PvcState as VolumePvcState, ReclaimPolicy, Snapshot, Volume, Waiting,
};
use salve_sdk::query_replicationsources::{Health, PvcState, Source};
use salve_sdk::types::Pod;
use salve_sdk::{FluxKind, FluxRef, ObjectRef};

use crate::evidence::{ControllerLog, Observation};

pub const NOW: u64 = 1_787_220_000_000;
pub const DRIVER: &str = "rook-ceph.rbd.csi.ceph.com";

pub fn uid(number: u32) -> String {
    format!("77777777-7777-4777-8777-{number:012}")
}

pub fn object(name: &str) -> ObjectRef {
    ObjectRef::parse(name).expect("namespace/name")
}

pub fn pvc_lock_line(number: u32) -> String {
    format!("an operation with the given Volume ID pvc-{} already exists", uid(number))
}

pub fn driver() -> Driver {
    Driver {
        name: DRIVER.into(),
        storage_classes: vec!["ceph-block".into()],
        controller: Some(Controller {
            deployment: object("rook-ceph/csi-rbdplugin-provisioner"),
            uid: uid(800),
            generation: 1,
            replicas: 2,
            ready: 2,
            paused: false,
            strategy: "Recreate".into(),
            operator_managed: false,
            plugin_container: "csi-rbdplugin".into(),
            image: String::new(),
            snapshotter: true,
            pods: Vec::new(),
        }),
        node_plugin: None,
        leases: Vec::new(),
        ceph: Some(CephHealth {
            cluster: object("rook-ceph/rook-ceph"),
            status: "HEALTH_OK".into(),
            messages: Vec::new(),
            checked: Some(NOW),
        }),
    }
}

/// The node plugin, with pods on node-a and node-b.
pub fn node_plugin() -> NodePlugin {
    let on_node = |node: &str, name: &str, number: u32| NodePod {
        node: node.into(),
        pod: Pod {
            namespace: "rook-ceph".into(),
            name: name.into(),
            uid: uid(number),
            phase: "Running".into(),
            ready: true,
            terminating: false,
            restarts: 0,
            created: NOW - 86_400_000,
            waiting: None,
            pvcs: Vec::new(),
            owner: Some("DaemonSet/csi-rbdplugin".into()),
            node: Some(node.into()),
            containers: Vec::new(),
        },
    };
    NodePlugin {
        daemon_set: object("rook-ceph/csi-rbdplugin"),
        plugin_container: "csi-rbdplugin".into(),
        pods: vec![
            on_node("node-a", "csi-rbdplugin-on-a", 801),
            on_node("node-b", "csi-rbdplugin-on-b", 802),
        ],
    }
}

pub fn observation() -> Observation {
    Observation {
        now: NOW,
        namespaces: vec!["media".into()],
        warnings: Vec::new(),
        driver: driver(),
        pvcs: Vec::new(),
        pvcs_entry: 0,
        snapshots: Vec::new(),
        sources: Some(Vec::new()),
        destinations: Vec::new(),
        pending_pods: Vec::new(),
        jobs: Vec::new(),
        attachments: Vec::new(),
        node_logs: BTreeMap::new(),
        log: ControllerLog {
            pods: ["a".to_owned(), "b".to_owned()].into(),
            ..ControllerLog::default()
        },
    }
}

pub fn pending(name: &str, number: u32) -> Pvc {
    Pvc {
        object: object(name),
        uid: uid(number),
        created: NOW - 3_600_000,
        phase: Phase::Pending,
        terminating_since: None,
        waiting: None,
        evidence: None,
        storage_class: Some("ceph-block".into()),
        driver: Some(DRIVER.into()),
        volume: None,
        reclaim_policy: None,
        data_source: None,
        populates: None,
        owner: None,
        finalizers: Vec::new(),
    }
}

pub fn terminating(name: &str, number: u32, reclaim_policy: ReclaimPolicy) -> Pvc {
    Pvc {
        phase: Phase::Bound,
        terminating_since: Some(NOW - 60_000),
        volume: Some(format!("pvc-{}", uid(number))),
        reclaim_policy: Some(reclaim_policy),
        ..pending(name, number)
    }
}

/// A volume whose PVC is not in the searched namespaces.
pub fn other_volume(pvc: &str, number: u32, pvc_state: VolumePvcState) -> Volume {
    Volume {
        name: format!("pvc-{}", uid(number)),
        terminating_since: None,
        reclaim_policy: Some(ReclaimPolicy::Delete),
        handle: handle(number),
        pvc: object(pvc),
        pvc_uid: Some(uid(number)),
        pvc_state,
        pvc_owner: None,
    }
}

pub fn handle(number: u32) -> String {
    format!("0001-0009-rook-ceph-0000000000000002-{}", uid(number))
}

pub fn snapshot(name: &str, number: u32, owner: u32) -> Snapshot {
    Snapshot {
        object: object(name),
        uid: uid(number),
        created: NOW - 3_600_000,
        terminating_since: None,
        ready: false,
        pvc: None,
        content: None,
        owner: Some("ReplicationSource/x".into()),
        owner_uid: Some(uid(owner)),
        problem: None,
        finalizers: Vec::new(),
    }
}

/// A Pending PVC that a ReplicationSource created and that the driver rejects.
pub fn locked_clone(source: &Source, number: u32) -> Pvc {
    let name = &source.object;
    Pvc {
        owner: Some(format!("ReplicationSource/{}", name.name)),
        waiting: Some(Waiting::CsiLocked),
        ..pending(&format!("{}/volsync-{}-src", name.namespace, name.name), number)
    }
}

pub fn pending_pod(name: &str, owner: &str, reason: PendingReason, message: &str) -> PendingPod {
    PendingPod {
        object: object(name),
        uid: format!("uid-of-{name}"),
        created: NOW - 3_600_000,
        owner: Some(owner.into()),
        node: Some("node-b".into()),
        reason,
        message: message.into(),
        pvcs: Vec::new(),
    }
}

pub fn source(name: &str, number: u32, health: Health) -> Source {
    let pvc_state = match health {
        Health::Orphan => PvcState::Missing,
        Health::TerminatingSource => PvcState::Terminating,
        Health::UnboundSource => PvcState::Unbound,
        Health::External => PvcState::None,
        Health::Healthy | Health::Stuck => PvcState::Present,
    };
    Source {
        pvc: Some(object(name).name),
        object: object(name),
        uid: uid(number),
        generation: 1,
        digest: format!("digest-{number}"),
        created: NOW - 86_400_000 * 100,
        pvc_state,
        health,
        mover: "restic".into(),
        has_identity: false,
        schedule: Some("0 * * * *".into()),
        paused: false,
        syncing_since: None,
        last_sync: Some(NOW - 86_400_000),
        last_result: None,
        last_log: None,
        copy_method: Some("Snapshot".into()),
        condition: None,
        labelled_owner: None,
    }
}

pub fn flux(name: &str) -> FluxRef {
    let object = object(name);
    FluxRef { kind: FluxKind::Kustomization, namespace: object.namespace, name: object.name }
}

pub fn flux_object(name: &str) -> FluxObject {
    FluxObject {
        target: flux(name),
        uid: format!("uid-of-{name}"),
        generation: 1,
        suspended: None,
        ready: None,
        reconciling: false,
        source: None,
        interval_seconds: 3_600,
        parent: None,
        parent_reverts: false,
        parent_waits: false,
        corrects_drift: true,
    }
}

pub fn suspended(run: Option<&str>) -> Option<SuspendedBy> {
    Some(SuspendedBy { manager: Some("flux".into()), since: None, run: run.map(str::to_owned) })
}

pub fn ownership(source: &Source, ownership: Ownership, owner: Option<FluxObject>) -> OwnerInfo {
    OwnerInfo {
        subject: Subject { kind: SubjectKind::ReplicationSource, object: source.object.clone() },
        ownership,
        owner,
        evidence: String::new(),
    }
}
