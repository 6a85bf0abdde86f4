//! An imitation of the Ceph CSI controller: provisioner and snapshotter, their Leases, and the
//! locks in the memory of its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::super::cluster::{Cluster, status_code, str_at};
use super::super::credentials::User;
use super::super::{ControlPlane, kinds};
use super::csi_log::PodLog;
use super::{ReconcileLoop, Reconciler, snapshots};

pub const DRIVER: &str = "rook-ceph.rbd.csi.ceph.com";

/// The name of the Deployment when ceph-csi-operator creates it.
pub const OPERATOR_DEPLOYMENT: &str = "rook-ceph.rbd.csi.ceph.com-ctrlplugin";

/// The namespace of the controller and the `app` label of its pods.
const NAMESPACE: &str = "rook-ceph";
const APP: &str = "csi-rbdplugin-provisioner";

/// The Leases of its sidecars.
const LEASES: [&str; 4] = [
    "rook-ceph-rbd-csi-ceph-com",
    "external-snapshotter-leader-rook-ceph-rbd-csi-ceph-com",
    "external-resizer-rook-ceph-rbd-csi-ceph-com",
    "external-attacher-leader-rook-ceph-rbd-csi-ceph-com",
];

/// A request name without an object: a PVC that was deleted while its volume was being created.
const ZOMBIE: &str = "pvc-0dead000-0000-4000-8000-00000000beef";

/// The interval at which rejected calls are retried and Leases are renewed.
const RETRY: Duration = Duration::from_secs(2);

/// Options of the imitation.
#[derive(Clone, Copy, Debug)]
pub struct CephCsiOptions {
    /// The time without a leader after the pod of the leader is gone; 137 to 163 s with Rook.
    pub lease_gap: Duration,
    /// Whether the snapshotter releases snapshots that are being deleted once it works again.
    pub releases_snapshots: bool,
    /// The name of the Deployment. Rook and ceph-csi-operator use different names. The operator
    /// would revert a restart by annotation.
    pub deployment: &'static str,
}

impl Default for CephCsiOptions {
    fn default() -> CephCsiOptions {
        CephCsiOptions {
            lease_gap: Duration::from_secs(3),
            releases_snapshots: true,
            deployment: APP,
        }
    }
}

/// The running controller. Dropping it stops it.
pub struct CephCsi {
    cluster: Cluster,
    locks: Arc<Mutex<BTreeSet<String>>>,
    reconcile_loop: ReconcileLoop,
}

impl CephCsi {
    /// Starts the controller, without a lock.
    pub async fn start(plane: &ControlPlane, options: CephCsiOptions) -> Result<CephCsi> {
        let cluster = plane.cluster(User::CephCsi).await?;
        let locks = Arc::new(Mutex::new(BTreeSet::new()));
        let folder = plane.folder().join("csi-logs");
        let controller = Controller {
            cluster: cluster.clone(),
            folder,
            options,
            locks: Arc::clone(&locks),
            logs: BTreeMap::new(),
            leaders: None,
            leaderless_since: None,
            retried: None,
            calls: 90_000,
        };
        Ok(CephCsi { cluster, locks, reconcile_loop: ReconcileLoop::spawn(controller) })
    }

    /// Makes every call into Ceph hang: the running pods keep their locks until the last of them is
    /// gone. Waits for a reconciliation that began without the locks.
    pub async fn lock(&self) -> Result<()> {
        let pods = running_pods(&self.cluster).await?;
        ensure!(
            !pods.is_empty(),
            "no pod of {NAMESPACE}/{APP} is running, so none can have a lock"
        );
        let uids = pods.iter().map(|pod| str_at(pod, "/metadata/uid").to_owned());
        self.locks.lock().await.extend(uids);
        Ok(())
    }

    /// Returns whether a pod with locks was running at the last reconciliation.
    pub async fn is_locked(&self) -> bool {
        !self.locks.lock().await.is_empty()
    }

    /// Stops the controller. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// Returns the error of the last reconciliation, if it failed.
    pub fn last_error(&self) -> Option<String> {
        self.reconcile_loop.last_error()
    }
}

struct Controller {
    cluster: Cluster,
    folder: PathBuf,
    options: CephCsiOptions,
    /// The UIDs of the pods with locks. Held during a reconciliation: one that saw no locks would
    /// still take a snapshot after they are added.
    locks: Arc<Mutex<BTreeSet<String>>>,
    /// The logs of all pods seen so far, by UID.
    logs: BTreeMap<String, PodLog>,
    leaders: Option<Leaders>,
    leaderless_since: Option<Instant>,
    retried: Option<Instant>,
    calls: u64,
}

/// Each sidecar elects its own leader: the provisioner in one pod, the snapshotter in another.
#[derive(Clone)]
struct Leaders {
    provisioner: Value,
    snapshotter: Value,
    since: String,
}

impl Reconciler for Controller {
    async fn reconcile(&mut self) -> Result<()> {
        let locks = Arc::clone(&self.locks);
        let mut locks = locks.lock().await;
        let pods = running_pods(&self.cluster).await?;
        for pod in &pods {
            let uid = str_at(pod, "/metadata/uid");
            if !self.logs.contains_key(uid) {
                let log = PodLog::open(&self.cluster, &self.folder, pod).await?;
                let attempt = format!(
                    "leaderelection.go:257] attempting to acquire leader lease {NAMESPACE}/{}...",
                    LEASES[0]
                );
                log.write("csi-provisioner", 'I', &attempt)?;
                self.logs.insert(uid.to_owned(), log);
            }
        }
        locks.retain(|uid| pods.iter().any(|pod| str_at(pod, "/metadata/uid") == uid));
        let locked = !locks.is_empty();
        self.elect(&pods)?;
        let due = self.retried.is_none_or(|last| last.elapsed() >= RETRY);
        if due {
            self.retried = Some(Instant::now());
            self.renew().await?;
        }
        let pvcs = self.pending_pvcs().await?;
        match (locked, &self.leaders) {
            (true, leaders) => {
                // Volumes without a lock are deleted.
                if leaders.is_some() {
                    self.reclaim().await?;
                }
                let stuck = snapshots::bind(&self.cluster, true).await?;
                if due { self.reject(&locks, &pvcs, &stuck).await } else { Ok(()) }
            }
            (false, None) => snapshots::bind(&self.cluster, false).await.map(drop),
            (false, Some(_)) => {
                for pvc in &pvcs {
                    self.provision(pvc).await?;
                }
                self.reclaim().await?;
                snapshots::bind(&self.cluster, false).await?;
                snapshots::take(&self.cluster, self.options.releases_snapshots).await
            }
        }
    }
}

impl Controller {
    /// Elects leaders, which stay as long as their pods. The first are elected at once, later ones
    /// when the old Leases have expired.
    fn elect(&mut self, pods: &[Value]) -> Result<()> {
        let is_running = |leader: &Value| {
            pods.iter().any(|pod| pod["metadata"]["uid"] == leader["metadata"]["uid"])
        };
        if self.leaders.as_ref().is_some_and(|leaders| {
            !is_running(&leaders.provisioner) || !is_running(&leaders.snapshotter)
        }) {
            self.leaders = None;
            self.leaderless_since = Some(Instant::now());
        }
        let (Some(first), Some(last)) = (pods.first(), pods.last()) else { return Ok(()) };
        let waiting =
            self.leaderless_since.is_some_and(|since| since.elapsed() < self.options.lease_gap);
        if self.leaders.is_none() && !waiting {
            let leaders =
                Leaders { provisioner: first.clone(), snapshotter: last.clone(), since: now() };
            if let Some(log) = self.logs.get(str_at(first, "/metadata/uid")) {
                let acquired = format!(
                    "leaderelection.go:271] successfully acquired lease {NAMESPACE}/{}",
                    LEASES[0]
                );
                log.write("csi-provisioner", 'I', &acquired)?;
            }
            self.leaders = Some(leaders);
            self.retried = None;
        }
        Ok(())
    }

    async fn renew(&self) -> Result<()> {
        let Some(leaders) = &self.leaders else { return Ok(()) };
        for (name, leader) in LEASES.iter().zip([
            &leaders.provisioner,
            &leaders.snapshotter,
            &leaders.provisioner,
            &leaders.provisioner,
        ]) {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "holderIdentity": leader["metadata"]["name"],
                    "leaseDurationSeconds": 137,
                    "acquireTime": leaders.since,
                    "renewTime": now(),
                },
            });
            self.cluster.apply(&lease).await?;
        }
        Ok(())
    }

    /// Rejects every call: logs lines in the pods with locks and writes an event for each PVC.
    async fn reject(
        &mut self,
        holders: &BTreeSet<String>,
        pvcs: &[Value],
        stuck: &[Value],
    ) -> Result<()> {
        let leaders = self.leaders.clone();
        let log = |leader: Option<&Value>| {
            let leader =
                leader.map(|pod| str_at(pod, "/metadata/uid")).filter(|uid| holders.contains(*uid));
            leader.or(holders.first().map(String::as_str)).and_then(|uid| self.logs.get(uid))
        };
        let provisioner = leaders.as_ref().map(|leaders| &leaders.provisioner);
        let volumes = pvcs.iter().map(|pvc| format!("pvc-{}", str_at(pvc, "/metadata/uid")));
        for key in volumes.chain([ZOMBIE.to_owned()]) {
            self.calls += 1;
            if let Some(log) = log(provisioner) {
                log.reject(self.calls, &key)?;
                let uid = key.trim_start_matches("pvc-");
                let message = format!(
                    "controller.go:957] error syncing claim \"{uid}\": failed to provision volume \
                     with StorageClass \"ceph-block\": {}",
                    rejection(&key)
                );
                log.write("csi-provisioner", 'E', &message)?;
            }
        }
        for snapshot in stuck {
            self.calls += 1;
            if let Some(log) = log(leaders.as_ref().map(|leaders| &leaders.snapshotter)) {
                log.reject(self.calls, &format!("snapshot-{}", str_at(snapshot, "/metadata/uid")))?;
            }
        }
        for pvc in pvcs {
            self.write_event(pvc, provisioner).await?;
        }
        Ok(())
    }

    async fn write_event(&self, pvc: &Value, provisioner: Option<&Value>) -> Result<()> {
        let (namespace, name) = (str_at(pvc, "/metadata/namespace"), str_at(pvc, "/metadata/name"));
        let uid = str_at(pvc, "/metadata/uid");
        let event = format!("{name}.{}", uid.replace('-', "").get(..16).unwrap_or_default());
        let before =
            self.cluster.find(&kinds::EVENTS, namespace, &event).await?.unwrap_or_default();
        let pod = provisioner.map_or(APP, |pod| str_at(pod, "/metadata/name"));
        let document = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": event, "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": name,
                "namespace": namespace,
                "uid": uid,
            },
            "type": "Warning",
            "reason": "ProvisioningFailed",
            "message": format!(
                "failed to provision volume with StorageClass \"ceph-block\": {}",
                rejection(&format!("pvc-{uid}"))
            ),
            "count": before["count"].as_u64().unwrap_or_default() + 1,
            "firstTimestamp": before["firstTimestamp"].as_str().map_or_else(seconds, str::to_owned),
            "lastTimestamp": seconds(),
            "source": {"component": format!("{DRIVER}_{pod}_0b0b0b0b-1111-4222-8333-444444444444")},
        });
        self.cluster.apply(&document).await?;
        Ok(())
    }

    /// Returns the PVCs of the driver that wait for a volume.
    async fn pending_pvcs(&self) -> Result<Vec<Value>> {
        let classes = self.cluster.list(&kinds::STORAGE_CLASSES, "").await?;
        let is_ours = |pvc: &Value| {
            classes.iter().any(|class| {
                class["provisioner"] == DRIVER
                    && class["metadata"]["name"] == pvc["spec"]["storageClassName"]
                    && class["volumeBindingMode"] != "WaitForFirstConsumer"
            })
        };
        let mut pvcs = self.cluster.list(&kinds::PVCS, "").await?;
        pvcs.retain(|pvc| {
            pvc["status"]["phase"] == "Pending"
                && pvc["metadata"]["deletionTimestamp"].is_null()
                // The populator provides the volume of such a PVC.
                && pvc["spec"]["dataSourceRef"]["kind"] != "ReplicationDestination"
                && is_ours(pvc)
        });
        Ok(pvcs)
    }

    /// Creates the volume of a PVC. The real PV controller binds it.
    async fn provision(&self, pvc: &Value) -> Result<()> {
        let uid = str_at(pvc, "/metadata/uid");
        let name = format!("pvc-{uid}");
        let volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER}},
            "spec": {
                "accessModes": pvc["spec"]["accessModes"],
                "capacity": {"storage": pvc["spec"]["resources"]["requests"]["storage"]},
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": uid,
                    "name": pvc["metadata"]["name"], "namespace": pvc["metadata"]["namespace"],
                },
                "csi": {"driver": DRIVER, "volumeHandle": volume_handle(uid)},
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": pvc["spec"]["storageClassName"],
            },
        });
        match self.cluster.create(&volume).await {
            Err(error) if status_code(&error) != Some(409) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Deletes the volumes whose PVCs are gone.
    async fn reclaim(&self) -> Result<()> {
        for volume in self.cluster.list(&kinds::PERSISTENT_VOLUMES, "").await? {
            if volume["status"]["phase"] == "Released" && volume["spec"]["csi"]["driver"] == DRIVER
            {
                self.cluster
                    .delete(&kinds::PERSISTENT_VOLUMES, "", str_at(&volume, "/metadata/name"))
                    .await?;
            }
        }
        Ok(())
    }
}

/// Returns the CSI handle of the volume of a PVC.
pub(super) fn volume_handle(uid: &str) -> String {
    format!("0001-0009-rook-ceph-0000000000000002-{uid}")
}

fn rejection(key: &str) -> String {
    format!(
        "rpc error: code = Aborted desc = an operation with the given Volume ID {key} already \
         exists"
    )
}

/// Returns the pods of the controller that are running and not being deleted.
async fn running_pods(cluster: &Cluster) -> Result<Vec<Value>> {
    let mut pods = cluster.list(&kinds::PODS, NAMESPACE).await?;
    pods.retain(|pod| {
        pod["metadata"]["labels"]["app"] == APP
            && pod["metadata"]["deletionTimestamp"].is_null()
            && pod["status"]["phase"] == "Running"
    });
    Ok(pods)
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Returns the current time in whole seconds, the precision of event times.
fn seconds() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
