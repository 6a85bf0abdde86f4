//! The CSI controller of a scenario: its Deployment, pods, and logs of the previous hour.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::builder::{Builder, Workload, time};
use crate::actors::csi::{DRIVER, Lock, NAMESPACE, PLUGIN, Sidecar, klog};
use crate::actors::lock;
use crate::incident::Incident;
use crate::kind;
use crate::object::{set, text};
use crate::store::{Key, owner_reference};

/// The call for a PVC that no longer exists, which the provisioner still retries.
const DELETED_PVC: &str = "pvc-0dead000-0000-4000-8000-00000000beef";
/// The restore of a snapshot that does not correspond to any object.
const UNKNOWN_HANDLE: &str =
    "0001-0009-rook-ceph-0000000000000002-56565656-5656-4656-8656-565656565656";

/// The arguments of the sidecars.
pub const ELECTION: [&str; 6] = [
    "--leader-election=true",
    "--leader-election-namespace=rook-ceph",
    "--leader-election-lease-duration=2m17s",
    "--leader-election-renew-deadline=1m47s",
    "--leader-election-retry-period=26s",
    "--timeout=2m30s",
];

/// Places the controller's Deployment and pods, and sets Ceph's health.
pub fn place(builder: &mut Builder, incident: Incident) {
    let by_operator = incident == Incident::OperatorManaged;
    let mut containers =
        vec!["csi-provisioner", "csi-resizer", "csi-attacher", "csi-snapshotter", PLUGIN];
    if incident == Incident::MissingSnapshotter {
        containers.retain(|container| *container != Sidecar::Snapshotter.container());
    }
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
    if incident == Incident::MissingSnapshotter {
        // The sidecar does not exist, so there is no Lease.
        builder.world.store.remove(&snapshotter);
    } else {
        builder.world.csi.set_leader(Sidecar::Snapshotter, text(&pods[1], "/metadata/uid"));
        let holder = text(&pods[1], "/metadata/name").to_owned();
        builder.world.update(&snapshotter, |lease| set(lease, &["spec", "holderIdentity"], holder));
    }
    if incident.is_locked() {
        builder.locked.push((DELETED_PVC.to_owned(), Sidecar::Provisioner));
        builder.locked.push((UNKNOWN_HANDLE.to_owned(), Sidecar::Provisioner));
    }
    let (health, details) = match incident {
        Incident::Healthy | Incident::MissingSnapshotter | Incident::StuckImporter => return,
        Incident::Playbook | Incident::TerminatingDelete | Incident::OperatorManaged => (
            "HEALTH_WARN",
            json!({"SLOW_OPS": {
                "severity": "HEALTH_WARN",
                "message": "3 slow ops, oldest one blocked for 41 sec, osd.2 has slow ops",
            }}),
        ),
        Incident::CephInError => (
            "HEALTH_ERR",
            json!({"PG_AVAILABILITY": {
                "severity": "HEALTH_ERR",
                "message": "Reduced data availability: 33 pgs inactive, 33 pgs down",
            }}),
        ),
    };
    builder.world.update(&Key::new(kind::CEPH_CLUSTERS, NAMESPACE, "rook-ceph"), |cluster| {
        set(cluster, &["status", "ceph", "health"], health);
        set(cluster, &["status", "ceph", "details"], details);
    });
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
    if builder.world.incident == Incident::CephInError {
        place_deadline_events(builder);
    }
    if let Some(pod) = builder.world.csi.last_leader(Sidecar::Provisioner).map(str::to_owned) {
        write_unrelated_errors(builder, &pod);
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

/// Writes errors that look similar to operation locks but are not.
fn write_unrelated_errors(builder: &mut Builder, pod: &str) {
    let lines = [
        (
            "2026-08-20T09:58:10Z",
            "ID: 1209 Req-ID: snapshot-12121212-1212-4212-8212-121212121212 GRPC error: \
             rpc error: code = NotFound desc = source Volume ID \
             0001-0009-rook-ceph-0000000000000002-deadbeef-0000-4000-8000-000000000000 not found",
        ),
        (
            "2026-08-20T09:58:11Z",
            "ID: 1210 Req-ID: pvc-34343434-3434-4434-8434-343434343434 GRPC error: \
             rpc error: code = Aborted desc = flatten in progress: \
             flatten is in progress for image csi-vol-34343434",
        ),
    ];
    if builder.world.incident.is_locked() {
        for (at, line) in lines {
            let at = time(at);
            builder.world.logs.write(pod, PLUGIN, at, klog('E', at, "utils.go:271", line));
        }
    }
}

fn before(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_sub(by).unwrap_or(now)
}
