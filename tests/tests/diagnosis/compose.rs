//! Builds a cluster: places its objects, causes its troubles one after the other, and lets the
//! controllers react for hours.

use crate::apps;
use crate::axes::{APPS, Backup, BackupState, Composition, Lock, Owner, Storage, Unreadable};
use crate::installation::installation;
use crate::random::Random;
use crate::texts;
use salve_simulator::{Fault, Installation, Operation, Refusal, Sidecar, Simulator};
use serde_json::json;
use std::time::Duration;

/// A built cluster.
pub struct Cluster {
    pub simulator: Simulator,
    pub installation: Installation,
}

/// The clock of the cluster, in minutes since the start.
struct Timeline<'a> {
    simulator: &'a Simulator,
    minute: u64,
}

impl Timeline<'_> {
    fn advance_to(&mut self, minute: u64) {
        let minutes = minute.saturating_sub(self.minute);
        self.simulator.clock().advance(Duration::from_secs(minutes * 60));
        self.minute = self.minute.max(minute);
    }
}

/// Builds the cluster of a composition.
pub fn compose(composition: &Composition) -> Cluster {
    let has_snapshotter = composition.storage != Storage::NoSnapshotter;
    let installation = installation(composition, has_snapshotter);
    let simulator = Simulator::with_driver(&installation);
    let mut timeline = Timeline { simulator: &simulator, minute: 0 };
    for backup in &composition.backups {
        // Its first sync must not end.
        if matches!(backup.state, BackupState::First | BackupState::Direct) {
            let (namespace, name) = APPS[backup.app];
            simulator.set_mover(namespace, name, texts::endless_copy());
        }
        apps::place(&simulator, &installation, backup);
    }
    timeline.advance_to(5);
    for backup in &composition.backups {
        disturb(&simulator, backup);
    }
    if composition.node_locks {
        let last = composition.backups.last().expect("a backup uses the node");
        simulator.hang_node(&simulator.mover_node(APPS[last.app].1));
    }
    disturb_storage(&simulator, &installation, composition);
    // The movers of the hourly syncs have started.
    timeline.advance_to(30);
    lock(&simulator, composition);
    if composition.storage == Storage::CephDown {
        simulator.set_ceph_down(true);
    }
    if composition.storage == Storage::ControllerScaledDown {
        scale_down(&simulator, "rook-ceph", &installation.deployment);
    }
    timeline.advance_to(100);
    later_changes(&simulator, &installation, composition);
    if let Some(minutes) = composition.released {
        timeline.advance_to(composition.age - minutes);
        simulator.release_controller();
    }
    timeline.advance_to(composition.age - 1);
    write_noise(&simulator, &installation, composition);
    timeline.advance_to(composition.age);
    hide_logs(&simulator, &installation, composition.unreadable);
    Cluster { simulator, installation }
}

/// Causes the trouble of a backup.
fn disturb(simulator: &Simulator, backup: &Backup) {
    let (namespace, name) = APPS[backup.app];
    let mover = match backup.state {
        BackupState::Long => Some(texts::endless_copy()),
        BackupState::Fails(failure) => Some(texts::failure(failure, backup.text)),
        BackupState::Unscheduled => Some(texts::unscheduled(backup.text)),
        BackupState::MountFails => Some(texts::mount_failure(backup.text)),
        BackupState::ImageMissing => Some(texts::missing_image(backup.text)),
        BackupState::Refused => Some(texts::refused(backup.text)),
        BackupState::Healthy
        | BackupState::First
        | BackupState::Paused
        | BackupState::Direct
        | BackupState::Syncthing
        | BackupState::Orphaned
        | BackupState::Terminating => None,
    };
    if let Some(mover) = mover {
        simulator.set_mover(namespace, name, mover);
    }
    if backup.state == BackupState::Paused {
        let group = "volsync.backube";
        simulator.edit(group, "replicationsources", namespace, name, |source| {
            source["spec"]["paused"] = true.into();
        });
    }
    if backup.state == BackupState::Orphaned {
        simulator.remove("", "persistentvolumeclaims", namespace, name);
    }
    if backup.owner == Owner::SuspendedKustomization {
        let group = "kustomize.toolkit.fluxcd.io";
        simulator.edit(group, "kustomizations", namespace, name, |owner| {
            owner["spec"]["suspend"] = true.into();
        });
    }
}

fn disturb_storage(simulator: &Simulator, installation: &Installation, composition: &Composition) {
    let last = composition.backups.last().map_or("", |backup| APPS[backup.app].1);
    match composition.storage {
        Storage::Rejects(text) => simulator.set_refusal(Some(Refusal::Rejects {
            pvcs: format!("volsync-{last}-src"),
            error: texts::REJECTIONS[text].to_owned(),
        })),
        Storage::Copying(text) => {
            simulator.set_refusal(Some(Refusal::Copying { error: texts::COPYING[text].to_owned() }))
        }
        Storage::NoSnapshotController => {
            scale_down(simulator, "kube-system", "snapshot-controller");
        }
        Storage::OrphanSnapshot => apps::insert(
            simulator,
            json!({
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                "metadata": {"name": "volsync-forgotten-src", "namespace": "media"},
                "spec": {
                    "source": {"persistentVolumeClaimName": "forgotten"},
                    "volumeSnapshotClassName":
                        format!("{}-snapshots", installation.storage_class()),
                },
            }),
        ),
        Storage::WaitsForConsumer => {
            apps::insert(simulator, apps::pvc("media", "new-app", "openebs-hostpath"));
        }
        Storage::ClassMissing => {
            apps::insert(simulator, apps::pvc("media", "new-app", "ceph-blok"));
        }
        Storage::Fine
        | Storage::CephDown
        | Storage::NoSnapshotter
        | Storage::ControllerScaledDown => {}
    }
    if let Some((index, neighbor)) = composition.neighbor {
        let (driver, class) = texts::NEIGHBORS[index];
        simulator.set_neighbor(driver, neighbor);
        apps::insert(
            simulator,
            json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
                "metadata": {"name": class}, "provisioner": driver, "reclaimPolicy": "Delete",
                "volumeBindingMode": "Immediate",
            }),
        );
        apps::insert(simulator, apps::pvc("media", "shared", class));
    }
}

fn scale_down(simulator: &Simulator, namespace: &str, deployment: &str) {
    let exists = simulator.edit("apps", "deployments", namespace, deployment, |object| {
        object["spec"]["replicas"] = 0.into();
    });
    assert!(exists, "no Deployment {namespace}/{deployment}");
}

/// Lets calls in the controller hang.
fn lock(simulator: &Simulator, composition: &Composition) {
    let mut random = Random::new(composition.salt, 0, 0);
    let handle = |random: &mut Random| {
        format!("0001-0009-rook-ceph-000000000000000{}-{}", 1 + random.below(8), random.uuid())
    };
    for lock in &composition.locks {
        match lock {
            Lock::Volumes => {
                simulator.hang_controller(Sidecar::Provisioner);
            }
            Lock::Snapshots => {
                simulator.hang_controller(Sidecar::Snapshotter);
            }
            Lock::DeletedPvc => {
                let key = format!("pvc-{}", random.uuid());
                simulator.hold_lock(Sidecar::Provisioner, &key, Operation::Any);
            }
            Lock::Handle(operation) => {
                let key = handle(&mut random);
                simulator.hold_lock(Sidecar::Provisioner, &key, *operation);
            }
            Lock::MigratedVolume => {
                let key = format!(
                    "mig_mons-{:032x}_image-{}_7265706c696361706f6f6c",
                    u128::from(random.next()),
                    random.uuid()
                );
                simulator.hold_lock(Sidecar::Provisioner, &key, Operation::Any);
            }
            Lock::Group => {
                let key = format!("groupsnapshot-{}", random.uuid());
                simulator.hold_lock(Sidecar::Snapshotter, &key, Operation::Any);
            }
        }
    }
}

/// Creates new PVCs, and deletes the PVCs of backups that are running.
fn later_changes(simulator: &Simulator, installation: &Installation, composition: &Composition) {
    for number in 0..composition.new_pvcs {
        let (namespace, _) = APPS[(number * 4) % APPS.len()];
        let name = format!("new-{number}");
        apps::insert(simulator, apps::pvc(namespace, &name, installation.storage_class()));
    }
    // A hanging call needs something to do.
    if composition.locks.contains(&Lock::Volumes) {
        let pvc = apps::pvc("selfhosted", "restored", installation.storage_class());
        apps::insert(simulator, pvc);
    }
    for backup in &composition.backups {
        if backup.state == BackupState::Terminating {
            let (namespace, name) = APPS[backup.app];
            simulator.remove("", "persistentvolumeclaims", namespace, name);
        }
    }
}

fn write_noise(simulator: &Simulator, installation: &Installation, composition: &Composition) {
    for pod in controller_pods(simulator, installation) {
        for (bit, line) in texts::NOISE.iter().enumerate() {
            if composition.noise & (1 << bit) != 0 {
                simulator.write_plugin_log(&pod.1, 'E', line);
            }
        }
    }
}

/// Returns the names and UIDs of the controller's pods.
pub fn controller_pods(
    simulator: &Simulator,
    installation: &Installation,
) -> Vec<(String, String)> {
    let pods = simulator.objects("", "pods", Some("rook-ceph"));
    let of_controller =
        pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == *installation.deployment);
    let field = |pod: &serde_json::Value, name: &str| {
        pod["metadata"][name].as_str().unwrap_or_default().to_owned()
    };
    of_controller.map(|pod| (field(pod, "name"), field(pod, "uid"))).collect()
}

/// Lets reads of logs fail.
fn hide_logs(simulator: &Simulator, installation: &Installation, unreadable: Unreadable) {
    let pods = controller_pods(simulator, installation);
    let hidden: Vec<&(String, String)> = match unreadable {
        Unreadable::None => Vec::new(),
        Unreadable::Pod(number) => pods.get(number % pods.len().max(1)).into_iter().collect(),
        Unreadable::All => pods.iter().collect(),
    };
    for (name, _) in hidden {
        simulator.fault(Fault::status(500).on("get").at(&format!("/pods/{name}/log")));
    }
}
