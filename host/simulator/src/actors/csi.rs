//! The CSI controller's memory: which sidecar leads in which pod, and which operation locks that pod's plugin holds.
//! Locks live in a pod's memory and die with it; a pod that holds one hangs every new call.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::Wake;
use super::pods::is_ready;
use crate::kind;
use crate::object::{is_terminating, label, list, text};
use crate::random::spread;
use crate::store::Key;
use crate::world::World;

/// The driver that the incident is about.
pub const DRIVER: &str = "rook-ceph.rbd.csi.ceph.com";
/// The namespace of Rook.
pub const NAMESPACE: &str = "rook-ceph";
/// The plugin's container.
pub const PLUGIN: &str = "csi-rbdplugin";
/// After how long a sidecar gives up on a call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(150);

/// A sidecar that does work for the driver in the pod where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecar {
    /// csi-provisioner.
    Provisioner,
    /// csi-snapshotter.
    Snapshotter,
}

impl Sidecar {
    /// Both.
    pub const ALL: [Sidecar; 2] = [Sidecar::Provisioner, Sidecar::Snapshotter];

    /// Its container.
    pub fn container(self) -> &'static str {
        match self {
            Sidecar::Provisioner => "csi-provisioner",
            Sidecar::Snapshotter => "csi-snapshotter",
        }
    }

    /// Its lease.
    pub fn lease(self) -> Key {
        let name = match self {
            Sidecar::Provisioner => "rook-ceph-rbd-csi-ceph-com",
            Sidecar::Snapshotter => "external-snapshotter-leader-rook-ceph-rbd-csi-ceph-com",
        };
        Key::new(kind::LEASES, NAMESPACE, name)
    }
}

/// A call that never returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The key it is held under.
    pub key: String,
    /// The uid of the pod in whose memory it is.
    pub pod: String,
    /// Whether the caller's deadline has passed already, so that further calls are refused aloud.
    pub refusing: bool,
}

/// The state of the controller that no object shows.
#[derive(Debug, Default, Clone)]
pub struct Csi {
    /// The Deployment's name.
    pub deployment: String,
    /// The locks held.
    pub locks: Vec<Lock>,
    /// Whether Ceph answers nothing.
    pub ceph_down: bool,
    /// Until when the provisioner is busy with calls it has begun.
    pub busy_until: Option<Timestamp>,
    /// The uid of the pod in which each sidecar leads.
    leaders: [Option<String>; 2],
    calls: u64,
}

impl Csi {
    /// The keys of all locks.
    pub fn keys(&self) -> Vec<String> {
        self.locks.iter().map(|lock| lock.key.clone()).collect()
    }

    /// The lock held under `key`.
    pub fn lock(&self, key: &str) -> Option<&Lock> {
        self.locks.iter().find(|lock| lock.key == key)
    }

    /// Whether the plugin in this pod hangs.
    pub fn is_jammed(&self, pod: &str) -> bool {
        self.locks.iter().any(|lock| lock.pod == pod)
    }

    /// Makes a pod the leader.
    pub fn lead(&mut self, sidecar: Sidecar, pod: &str) {
        self.leaders[sidecar as usize] = Some(pod.to_owned());
    }

    /// The uid of the pod that was made leader last, alive or not.
    pub fn last_leader(&self, sidecar: Sidecar) -> Option<&str> {
        self.leaders[sidecar as usize].as_deref()
    }

    /// The number of the next call, as the plugin's log counts them.
    pub fn next_call(&mut self) -> u64 {
        self.calls += 1;
        90_000 + self.calls
    }
}

/// The controller's pods that are up and have `container`.
pub fn pods_with(world: &World, container: &str) -> Vec<(Key, String)> {
    world
        .store
        .list(kind::PODS, Some(NAMESPACE))
        .filter(|(_, pod)| {
            label(pod, "app") == Some(&world.csi.deployment)
                && !is_terminating(pod)
                && is_ready(pod)
        })
        .filter(|(_, pod)| {
            list(pod, "/spec/containers").iter().any(|one| text(one, "/name") == container)
        })
        .map(|(key, pod)| (key.clone(), text(pod, "/metadata/uid").to_owned()))
        .collect()
}

/// The pod in which a sidecar leads, if it is alive.
pub fn leader(world: &World, sidecar: Sidecar) -> Option<(Key, String)> {
    let uid = world.csi.last_leader(sidecar)?.to_owned();
    pods_with(world, sidecar.container()).into_iter().find(|(_, pod)| *pod == uid)
}

/// A pod is gone, and its memory with it.
pub fn pod_gone(world: &mut World, uid: &str) {
    world.csi.locks.retain(|lock| lock.pod != uid);
}

/// A pod of the controller has started: its sidecars ask for their leases.
pub fn pod_started(world: &mut World, pod: &Value) {
    if label(pod, "app") != Some(&world.csi.deployment) {
        return;
    }
    let (uid, now) = (text(pod, "/metadata/uid").to_owned(), world.now);
    for sidecar in Sidecar::ALL {
        if list(pod, "/spec/containers").iter().any(|one| text(one, "/name") == sidecar.container())
        {
            let line = format!(
                "attempting to acquire leader lease {NAMESPACE}/{}...",
                sidecar.lease().name
            );
            let line = klog('I', now, "leaderelection.go:257", &line);
            world.logs.write(&uid, sidecar.container(), now, line);
        }
    }
    world.logs.write(
        &uid,
        PLUGIN,
        now,
        klog('I', now, "cephcsi.go:196", "Driver version: v3.14.0"),
    );
}

/// A sidecar leads anew: it looks at everything that waits for it.
pub fn came_up(world: &mut World, sidecar: Sidecar) {
    let cause = super::lock::cause(world);
    match sidecar {
        Sidecar::Provisioner => {
            let mut waiting: Vec<Key> = Vec::new();
            for (key, pvc) in world.all(kind::CLAIMS) {
                if super::provision::is_ours(world, &pvc) {
                    waiting.push(key.clone());
                }
                world.wake_once(super::NOTICE, Wake::Pvc(key));
            }
            // What jammed the driver jams it again, after a little work got through.
            for key in waiting.into_iter().skip(2).filter(|_| cause.is_some()) {
                if let Some(pvc) = world.get(&key) {
                    super::lock::hang(
                        world,
                        sidecar,
                        &format!("pvc-{}", text(&pvc, "/metadata/uid")),
                    );
                }
            }
        }
        Sidecar::Snapshotter => {
            if let Some(uid) = cause {
                super::lock::hang(world, sidecar, &format!("snapshot-{uid}"));
            }
            for (key, _) in world.all(kind::SNAPSHOTS) {
                world.wake_once(
                    super::NOTICE + Duration::from_millis(spread(&key.name, 3_000)),
                    Wake::Snapshot(key),
                );
            }
        }
    }
}

/// A line as klog writes it.
pub fn klog(severity: char, time: Timestamp, place: &str, text: &str) -> String {
    format!("{severity}{}       1 {place}] {text}", time.strftime("%m%d %H:%M:%S.%6f"))
}
