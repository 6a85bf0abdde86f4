//! The CSI controller of a scenario: its Deployment, pods, and logs of the previous hour.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::builder::{Builder, Workload, time};
use super::cluster::Operator;
use crate::actors::csi::{DRIVER, Lock, NAMESPACE, PLUGIN, Sidecar};
use crate::actors::lock;
use crate::kind;
use crate::object::{set, text};
use crate::store::owner_reference;

/// The arguments of the sidecars.
pub const ELECTION: [&str; 6] = [
    "--leader-election=true",
    "--leader-election-namespace=rook-ceph",
    "--leader-election-lease-duration=2m17s",
    "--leader-election-renew-deadline=1m47s",
    "--leader-election-retry-period=26s",
    "--timeout=2m30s",
];

/// Places the controller's Deployment and pods.
pub fn place(builder: &mut Builder) {
    let by_operator = builder.cluster.csi.operator == Some(Operator::CephCsiOperator);
    let mut containers =
        vec!["csi-provisioner", "csi-resizer", "csi-attacher", "csi-snapshotter", PLUGIN];
    containers.retain(|container| builder.cluster.has_container(container));
    let mut owner = None;
    if by_operator {
        containers.push("log-rotator");
        let driver = builder.place(json!({
            "apiVersion": "csi.ceph.io/v1", "kind": "Driver",
            "metadata": {
                "name": DRIVER, "namespace": NAMESPACE,
                "uid": "88888888-8888-4888-8888-0000000000d1",
            },
            "spec": {"controllerPlugin": {"replicas": 2}},
        }));
        owner = Some(owner_reference(&driver));
    }
    let name = if by_operator {
        format!("{DRIVER}-ctrlplugin")
    } else {
        "csi-rbdplugin-provisioner".to_owned()
    };
    builder.world.csi.deployment = name.clone();
    let plugin = [
        "--endpoint=$(CSI_ENDPOINT)",
        "--v=0",
        "--type=rbd",
        "--controllerserver=true",
        "--drivername=rook-ceph.rbd.csi.ceph.com",
    ];
    let strings = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let pods = builder.workload(&Workload {
        namespace: NAMESPACE.to_owned(),
        name,
        containers: strings(&containers),
        hash: "6c8f9d7b5".to_owned(),
        pods: strings(&["kx2lq", "w9tzn"]),
        args: vec![
            ("csi-provisioner".to_owned(), strings(&ELECTION)),
            ("csi-snapshotter".to_owned(), strings(&ELECTION)),
            (PLUGIN.to_owned(), strings(&plugin)),
        ],
        owner,
        ..Workload::default()
    });
    builder.world.csi.set_leader(Sidecar::Provisioner, text(&pods[0], "/metadata/uid"));
    let snapshotter = Sidecar::Snapshotter.lease(DRIVER);
    if !builder.cluster.has_container(Sidecar::Snapshotter.container()) {
        // The sidecar does not exist, so there is no Lease.
        builder.world.store.remove(&snapshotter);
    } else {
        builder.world.csi.set_leader(Sidecar::Snapshotter, text(&pods[1], "/metadata/uid"));
        let holder = text(&pods[1], "/metadata/name").to_owned();
        builder.world.update(&snapshotter, |lease| set(lease, &["spec", "holderIdentity"], holder));
    }
    for key in builder.cluster.csi.leftover_locks.clone() {
        builder.locked.push((key, Sidecar::Provisioner));
    }
}

/// Adds the operation locks, and an hour of rejected calls to logs and Events.
pub fn write_history(builder: &mut Builder) {
    let now = builder.world.now;
    for (key, sidecar) in std::mem::take(&mut builder.locked) {
        let Some(pod) = builder.world.csi.last_leader(sidecar).map(str::to_owned) else { continue };
        let interval = crate::world::signed(lock::retry_interval(&key));
        let mut at = before(now, SignedDuration::from_mins(60) - interval / 2);
        let mut last = at;
        while at < now {
            lock::log_rejection(builder.world, &key, &pod, at);
            last = at;
            at = at.saturating_add(interval).unwrap_or(now);
        }
        let reason = lock::aborted_error(&builder.world.csi, &key);
        place_event(builder, &key, &pod, &reason, last);
        builder.world.csi.locks.push(Lock { key, pod, failures: 2 });
    }
    if builder.cluster.is_ceph_down() {
        place_deadline_events(builder);
    }
    builder.world.logs.sort();
}

/// Places the Event of a locked PVC's last rejected call.
fn place_event(builder: &mut Builder, key: &str, pod: &str, reason: &str, last: Timestamp) {
    let uid = key.trim_start_matches("pvc-");
    let pvc = builder
        .world
        .store
        .list(kind::PVCS, None)
        .find(|(_, pvc)| text(pvc, "/metadata/uid") == uid);
    if let Some(pvc) = pvc.map(|(_, pvc)| pvc.clone()) {
        let first = time("2026-08-20T08:42:33Z");
        let (_, event) = lock::repeated_event(builder.world, &pvc, pod, reason, first, last);
        builder.place(event);
    }
}

/// Places the Events of timed-out calls for all Pending PVCs of the driver.
fn place_deadline_events(builder: &mut Builder) {
    let Some(pod) = builder.world.csi.last_leader(Sidecar::Provisioner).map(str::to_owned) else {
        return;
    };
    let pending: Vec<Value> = builder
        .world
        .all(kind::PVCS)
        .into_iter()
        .filter(|(_, pvc)| crate::actors::is_waiting_for_driver(builder.world, pvc))
        .map(|(_, pvc)| (*pvc).clone())
        .collect();
    for pvc in pending {
        let key = format!("pvc-{}", text(&pvc, "/metadata/uid"));
        let reason = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
        place_event(builder, &key, &pod, reason, time("2026-08-20T09:58:41Z"));
    }
}

fn before(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_sub(by).unwrap_or(now)
}
