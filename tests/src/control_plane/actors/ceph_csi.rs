//! The controller of Ceph CSI: provisioner and snapshotter, their Leases, and the locks in the memory of its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::super::cluster::{Cluster, code, text};
use super::super::credentials::User;
use super::super::{ControlPlane, kinds};
use super::csi_log::PodLog;
use super::{Party, Rounds, snapshots};

/// The name of the driver.
pub const DRIVER: &str = "rook-ceph.rbd.csi.ceph.com";

/// The name that ceph-csi-operator gives its Deployment.
pub const BY_OPERATOR: &str = "rook-ceph.rbd.csi.ceph.com-ctrlplugin";

/// Where its controller runs, and by which label its pods are known.
const NAMESPACE: &str = "rook-ceph";
const APP: &str = "csi-rbdplugin-provisioner";

/// The Leases of its sidecars.
const LEASES: [&str; 4] = [
    "rook-ceph-rbd-csi-ceph-com",
    "external-snapshotter-leader-rook-ceph-rbd-csi-ceph-com",
    "external-resizer-rook-ceph-rbd-csi-ceph-com",
    "external-attacher-leader-rook-ceph-rbd-csi-ceph-com",
];

/// A request name that nothing alive has: what is left of a claim that was deleted while its volume was being made.
const ZOMBIE: &str = "pvc-0dead000-0000-4000-8000-00000000beef";

/// How often a rejected call is tried again, and a Lease renewed.
const RETRY: Duration = Duration::from_secs(2);

/// How the party plays.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How long nobody leads after the leader's pod is gone; 137 to 163 s with Rook.
    pub lease_gap: Duration,
    /// Whether the snapshotter, once it works, lets go of snapshots that are being deleted.
    pub releases_snapshots: bool,
    /// What its Deployment is called: Rook and ceph-csi-operator each have a name of their own, and the operator's tells
    /// whoever restarts it not to annotate.
    pub deployment: &'static str,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { lease_gap: Duration::from_secs(3), releases_snapshots: true, deployment: APP }
    }
}

/// The party at work. It stops with this value.
pub struct CephCsi {
    cluster: Cluster,
    locks: Arc<Mutex<BTreeSet<String>>>,
    rounds: Rounds,
}

impl CephCsi {
    /// Begins to play, without a lock.
    pub async fn start(plane: &ControlPlane, manner: Manner) -> Result<CephCsi> {
        let cluster = plane.cluster(User::CephCsi).await?;
        let locks = Arc::new(Mutex::new(BTreeSet::new()));
        let folder = plane.folder().join("csi-logs");
        let controller = Controller {
            cluster: cluster.clone(),
            folder,
            manner,
            locks: Arc::clone(&locks),
            logs: BTreeMap::new(),
            leaders: None,
            vacant: None,
            retried: None,
            calls: 90_000,
        };
        Ok(CephCsi { cluster, locks, rounds: Rounds::play(controller) })
    }

    /// Every call into Ceph hangs from now on: the pods that run hold their locks until the last of them is gone.
    pub async fn jam(&self) -> Result<()> {
        let pods = running_pods(&self.cluster).await?;
        ensure!(!pods.is_empty(), "no pod of {NAMESPACE}/{APP} runs, so none can hold a lock");
        let uids = pods.iter().map(|pod| text(pod, "/metadata/uid").to_owned());
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).extend(uids);
        Ok(())
    }

    /// Whether a pod that holds locks still runs, as the party saw it last.
    pub fn is_jammed(&self) -> bool {
        !self.locks.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Stops playing. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// Why its latest round failed, if it did.
    pub fn trouble(&self) -> Option<String> {
        self.rounds.trouble()
    }
}

struct Controller {
    cluster: Cluster,
    folder: PathBuf,
    manner: Manner,
    /// The uids of the pods that hold locks.
    locks: Arc<Mutex<BTreeSet<String>>>,
    /// The pods that were met, by uid.
    logs: BTreeMap<String, PodLog>,
    leaders: Option<Leaders>,
    /// Since when nobody leads any more.
    vacant: Option<Instant>,
    retried: Option<Instant>,
    calls: u64,
}

/// Each sidecar elects its own leader: the provisioner of one pod, the snapshotter of another.
#[derive(Clone)]
struct Leaders {
    provisioner: Value,
    snapshotter: Value,
    since: String,
}

impl Party for Controller {
    async fn round(&mut self) -> Result<()> {
        let pods = running_pods(&self.cluster).await?;
        for pod in &pods {
            let uid = text(pod, "/metadata/uid");
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
        let jammed = self.remember_locks_of(&pods);
        self.elect(&pods)?;
        let due = self.retried.is_none_or(|last| last.elapsed() >= RETRY);
        if due {
            self.retried = Some(Instant::now());
            self.renew().await?;
        }
        let pvcs = self.pending_claims().await?;
        match (jammed, &self.leaders) {
            (true, _) => {
                let stuck = snapshots::bind(&self.cluster, true).await?;
                if due { self.reject(&pvcs, &stuck).await } else { Ok(()) }
            }
            (false, None) => snapshots::bind(&self.cluster, false).await.map(drop),
            (false, Some(_)) => {
                for pvc in &pvcs {
                    self.provision(pvc).await?;
                }
                self.reclaim().await?;
                snapshots::bind(&self.cluster, false).await?;
                snapshots::take(&self.cluster, self.manner.releases_snapshots).await
            }
        }
    }
}

impl Controller {
    /// Locks die with their pods. Whether any is left.
    fn remember_locks_of(&self, pods: &[Value]) -> bool {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|uid| pods.iter().any(|pod| text(pod, "/metadata/uid") == uid));
        !locks.is_empty()
    }

    /// Leaders stay while their pods do. The first ones are elected at once, later ones when the old Leases ran out.
    fn elect(&mut self, pods: &[Value]) -> Result<()> {
        let lives =
            |pod: &Value| pods.iter().any(|one| one["metadata"]["uid"] == pod["metadata"]["uid"]);
        if self
            .leaders
            .as_ref()
            .is_some_and(|leaders| !lives(&leaders.provisioner) || !lives(&leaders.snapshotter))
        {
            self.leaders = None;
            self.vacant = Some(Instant::now());
        }
        let (Some(first), Some(last)) = (pods.first(), pods.last()) else { return Ok(()) };
        let waits = self.vacant.is_some_and(|since| since.elapsed() < self.manner.lease_gap);
        if self.leaders.is_none() && !waits {
            let leaders =
                Leaders { provisioner: first.clone(), snapshotter: last.clone(), since: now() };
            if let Some(log) = self.logs.get(text(first, "/metadata/uid")) {
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

    /// Every call is rejected: lines in the logs of the pods that hold the locks, an event on each claim.
    async fn reject(&mut self, pvcs: &[Value], stuck: &[Value]) -> Result<()> {
        let holders = self.locks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let leaders = self.leaders.clone();
        let log = |of: Option<&Value>| {
            let leader =
                of.map(|pod| text(pod, "/metadata/uid")).filter(|uid| holders.contains(*uid));
            leader.or(holders.first().map(String::as_str)).and_then(|uid| self.logs.get(uid))
        };
        let provisioner = leaders.as_ref().map(|leaders| &leaders.provisioner);
        let volumes = pvcs.iter().map(|pvc| format!("pvc-{}", text(pvc, "/metadata/uid")));
        for key in volumes.chain([ZOMBIE.to_owned()]) {
            self.calls += 1;
            if let Some(log) = log(provisioner) {
                log.reject(self.calls, &key)?;
                let uid = key.trim_start_matches("pvc-");
                let words = format!(
                    "controller.go:957] error syncing claim \"{uid}\": failed to provision volume with StorageClass \
                     \"ceph-block\": {}",
                    refusal(&key)
                );
                log.write("csi-provisioner", 'E', &words)?;
            }
        }
        for snapshot in stuck {
            self.calls += 1;
            if let Some(log) = log(leaders.as_ref().map(|leaders| &leaders.snapshotter)) {
                log.reject(self.calls, &format!("snapshot-{}", text(snapshot, "/metadata/uid")))?;
            }
        }
        for pvc in pvcs {
            self.complain(pvc, provisioner).await?;
        }
        Ok(())
    }

    async fn complain(&self, pvc: &Value, provisioner: Option<&Value>) -> Result<()> {
        let (namespace, name) = (text(pvc, "/metadata/namespace"), text(pvc, "/metadata/name"));
        let uid = text(pvc, "/metadata/uid");
        let event = format!("{name}.{}", uid.replace('-', "").get(..16).unwrap_or_default());
        let before =
            self.cluster.find(&kinds::EVENTS, namespace, &event).await?.unwrap_or_default();
        let pod = provisioner.map_or(APP, |pod| text(pod, "/metadata/name"));
        let document = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": event, "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "namespace": namespace, "uid": uid,
            },
            "type": "Warning",
            "reason": "ProvisioningFailed",
            "message": format!(
                "failed to provision volume with StorageClass \"ceph-block\": {}", refusal(&format!("pvc-{uid}"))
            ),
            "count": before["count"].as_u64().unwrap_or_default() + 1,
            "firstTimestamp": before["firstTimestamp"].as_str().map_or_else(seconds, str::to_owned),
            "lastTimestamp": seconds(),
            "source": {"component": format!("{DRIVER}_{pod}_0b0b0b0b-1111-4222-8333-444444444444")},
        });
        self.cluster.apply(&document).await?;
        Ok(())
    }

    /// The claims of the driver that wait for a volume.
    async fn pending_claims(&self) -> Result<Vec<Value>> {
        let classes = self.cluster.list(&kinds::STORAGE_CLASSES, "").await?;
        let ours = |pvc: &Value| {
            classes.iter().any(|class| {
                class["provisioner"] == DRIVER
                    && class["metadata"]["name"] == pvc["spec"]["storageClassName"]
                    && class["volumeBindingMode"] != "WaitForFirstConsumer"
            })
        };
        let mut pvcs = self.cluster.list(&kinds::CLAIMS, "").await?;
        pvcs.retain(|pvc| {
            pvc["status"]["phase"] == "Pending"
                && pvc["metadata"]["deletionTimestamp"].is_null()
                // Whoever populates such a claim brings its volume.
                && pvc["spec"]["dataSourceRef"]["kind"] != "ReplicationDestination"
                && ours(pvc)
        });
        Ok(pvcs)
    }

    /// Makes the volume; the real PV controller binds it.
    async fn provision(&self, pvc: &Value) -> Result<()> {
        let uid = text(pvc, "/metadata/uid");
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
                "csi": {"driver": DRIVER, "volumeHandle": handle(uid)},
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": pvc["spec"]["storageClassName"],
            },
        });
        match self.cluster.create(&volume).await {
            Err(error) if code(&error) != Some(409) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Deletes the volumes whose claims are gone.
    async fn reclaim(&self) -> Result<()> {
        for volume in self.cluster.list(&kinds::VOLUMES, "").await? {
            if volume["status"]["phase"] == "Released" && volume["spec"]["csi"]["driver"] == DRIVER
            {
                self.cluster.delete(&kinds::VOLUMES, "", text(&volume, "/metadata/name")).await?;
            }
        }
        Ok(())
    }
}

/// The CSI handle of the volume of a claim.
fn handle(uid: &str) -> String {
    format!("0001-0009-rook-ceph-0000000000000002-{uid}")
}

fn refusal(key: &str) -> String {
    format!(
        "rpc error: code = Aborted desc = an operation with the given Volume ID {key} already exists"
    )
}

/// The pods of the controller that run and are not being deleted.
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

/// Now as the API's times of events are: whole seconds.
fn seconds() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
