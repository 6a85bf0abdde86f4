//! The cluster of the incident, on the real API server: six namespaces of apps that Flux applies from a Git repository,
//! Ceph's driver, VolSync. First healthy; then the incident strikes.

mod canaries;
mod objects;
mod repository;

pub use canaries::PLANTED;
pub use repository::ROOT;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::cluster::{Cluster, text};
use super::flux::{self, Flux};
use super::party::{CephCsi, Manner, VolSync};
use super::{ControlPlane, GitServer, User, eventually, kinds};

/// The namespaces of the apps, as the playbook names them.
pub const NAMESPACES: [&str; 6] =
    ["ai", "home-automation", "media", "observability", "security", "selfhosted"];

/// The apps that Git declares, three a namespace: a claim and a ReplicationSource of the same name each.
pub const APPS: [(&str, &str); 18] = [
    ("ai", "ollama"),
    ("ai", "open-webui"),
    ("ai", "whisper"),
    ("home-automation", "home-assistant"),
    ("home-automation", "mosquitto"),
    ("home-automation", "zigbee2mqtt"),
    ("media", "jellyfin"),
    ("media", "plex"),
    ("media", "radarr"),
    ("observability", "gatus"),
    ("observability", "grafana"),
    ("observability", "victoria-logs"),
    ("security", "authelia"),
    ("security", "lldap"),
    ("security", "vaultwarden"),
    ("selfhosted", "immich"),
    ("selfhosted", "miniflux"),
    ("selfhosted", "paperless"),
];

/// ReplicationSources whose claim is gone and whose Kustomization is gone too.
pub const ORPHANS: [(&str, &str); 4] = [
    ("media", "sonarr"),
    ("media", "old-lidarr"),
    ("observability", "unifi-poller"),
    ("selfhosted", "bookstack"),
];

/// Apps whose backup hangs: their snapshots wait for a lock.
pub const WEDGED: [(&str, &str); 3] =
    [("home-automation", "zigbee2mqtt"), ("media", "plex"), ("selfhosted", "immich")];

/// New apps, each with a claim that waits for its volume and a pod that waits for its claim.
pub const STUCK: [(&str, &str); 6] = [
    ("ai", "comfyui"),
    ("home-automation", "frigate"),
    ("media", "bazarr"),
    ("observability", "loki"),
    ("security", "pocket-id"),
    ("selfhosted", "memos"),
];

/// The name of the Kustomization that applies the apps of a namespace; it stands in that namespace.
pub const OWNER: &str = "apps";

/// The interval of the Kustomizations.
pub const INTERVAL: Duration = Duration::from_secs(20);

const TIMEOUT: Duration = Duration::from_secs(90);

/// The cluster with everybody who acts on it. All stop with this value; the control plane outlives it.
pub struct Scene {
    /// What Flux applies.
    pub git: GitServer,
    /// The real Flux controllers.
    pub flux: Flux,
    /// The party that provisions volumes, until it is jammed.
    pub csi: CephCsi,
    /// The party that backs up.
    pub volsync: VolSync,
    cluster: Cluster,
}

impl Scene {
    /// Everything bound, backed up and quiet.
    pub async fn healthy(plane: &ControlPlane, manner: Manner) -> Result<Scene> {
        let cluster = plane.cluster(User::Administrator).await?;
        for document in objects::before_flux(manner.deployment) {
            cluster.apply(&document).await?;
        }
        let ceph = objects::ceph_health("HEALTH_OK");
        cluster.merge_status(&kinds::CEPH_CLUSTERS, "rook-ceph", "rook-ceph", &ceph).await?;
        let git = GitServer::start(plane.folder()).await?;
        git.commit("the apps of the house", &repository::files()).await?;
        let flux = Flux::start(plane).await?;
        let csi = CephCsi::start(plane, manner).await?;
        let volsync = VolSync::start(plane).await?;
        let mut scene = Scene { git, flux, csi, volsync, cluster };
        scene.flux.follow("flux-system", scene.git.url(), "1m").await?;
        scene.cluster.apply(&repository::root()).await?;
        scene.flux.ready(&kinds::KUSTOMIZATIONS, flux::NAMESPACE, ROOT).await?;
        for namespace in NAMESPACES {
            scene.flux.ready(&kinds::KUSTOMIZATIONS, namespace, OWNER).await?;
        }
        scene.until_bound(&APPS).await?;
        scene.until_idle(&APPS).await?;
        canaries::plant(&scene.cluster).await?;
        Ok(scene)
    }

    /// The healthy cluster, and then the incident.
    pub async fn incident(plane: &ControlPlane, manner: Manner) -> Result<Scene> {
        let scene = Scene::healthy(plane, manner).await?;
        scene.strike().await?;
        Ok(scene)
    }

    /// Apps are removed but for their ReplicationSources, then Ceph hangs under backups and new claims.
    /// Returns when the locks stand in the logs and every stuck claim has its event.
    pub async fn strike(&self) -> Result<()> {
        for (namespace, name) in ORPHANS {
            for document in [objects::pvc(namespace, name), objects::orphan(namespace, name)] {
                self.cluster.apply(&document).await?;
            }
        }
        self.until_bound(&ORPHANS).await?;
        self.until_idle(&ORPHANS).await?;
        for (namespace, name) in ORPHANS {
            self.cluster.delete(&kinds::CLAIMS, namespace, name).await?;
        }
        for (namespace, name) in ORPHANS {
            eventually("the claim of a removed app goes", TIMEOUT, async || {
                let pvc = self.cluster.find(&kinds::CLAIMS, namespace, name).await?;
                ensure!(pvc.is_none(), "{namespace}/{name} is still there");
                Ok(())
            })
            .await?;
        }
        self.csi.jam().await?;
        // The first two orphans have tried since, and say so; the others look healthy until their next run.
        for (namespace, name) in ORPHANS.iter().take(2).chain(&WEDGED) {
            self.begin_backup(namespace, name).await?;
        }
        for (namespace, name) in STUCK {
            for document in [objects::pvc(namespace, name), objects::app(namespace, name)] {
                self.cluster.apply(&document).await?;
            }
        }
        for (namespace, name) in STUCK {
            eventually("a claim without a volume says why", TIMEOUT, async || {
                let pvc = self.cluster.get(&kinds::CLAIMS, namespace, name).await?;
                let events = self.cluster.list(&kinds::EVENTS, namespace).await?;
                let told = events.iter().any(|event| {
                    event["reason"] == "ProvisioningFailed"
                        && event["involvedObject"]["uid"] == pvc["metadata"]["uid"]
                });
                ensure!(
                    told,
                    "{namespace}/{name} has no event; the CSI controller: {:?}",
                    self.csi.trouble()
                );
                Ok(())
            })
            .await?;
        }
        for (namespace, name) in WEDGED {
            eventually("a backup wedges", TIMEOUT, async || {
                let snapshot = self
                    .cluster
                    .get(&kinds::SNAPSHOTS, namespace, &format!("volsync-{name}-src"))
                    .await?;
                ensure!(
                    !snapshot["status"]["error"].is_null(),
                    "VolSync: {:?}",
                    self.volsync.trouble()
                );
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// A HelmRelease whose ReplicationSource has lost its claim. Nothing acts on the release.
    pub async fn orphan_of_a_release(&self, namespace: &str, name: &str) -> Result<()> {
        for document in [objects::release(namespace, name), objects::of_release(namespace, name)] {
            self.cluster.apply(&document).await?;
        }
        Ok(())
    }

    /// A backup that began three hours ago and has not ended.
    pub async fn begin_backup(&self, namespace: &str, name: &str) -> Result<()> {
        let began = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(3);
        let began = began.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let status = json!({
            "lastSyncStartTime": began,
            "conditions": [{
                "type": "Synchronizing", "status": "True", "reason": "SyncInProgress",
                "message": "Synchronization in-progress", "lastTransitionTime": began,
            }],
        });
        self.cluster.merge_status(&kinds::REPLICATION_SOURCES, namespace, name, &status).await?;
        Ok(())
    }

    /// Deletes the claim of a wedged app: it stays, terminating, until its snapshot is done with. Its volume would go
    /// with it.
    pub async fn delete_claim(&self, namespace: &str, name: &str) -> Result<()> {
        self.cluster.delete(&kinds::CLAIMS, namespace, name).await?;
        let pvc = self.cluster.get(&kinds::CLAIMS, namespace, name).await?;
        ensure!(
            !pvc["metadata"]["deletionTimestamp"].is_null(),
            "{namespace}/{name} was not deleted"
        );
        Ok(())
    }

    /// The ReplicationSources that are there, as namespace and name.
    pub async fn sources(&self) -> Result<Vec<(String, String)>> {
        let sources = self.cluster.list(&kinds::REPLICATION_SOURCES, "").await?;
        let place = |source: &Value| {
            (
                text(source, "/metadata/namespace").to_owned(),
                text(source, "/metadata/name").to_owned(),
            )
        };
        Ok(sources.iter().map(place).collect())
    }

    /// Waits until these claims are bound.
    pub async fn until_bound(&self, pvcs: &[(&str, &str)]) -> Result<()> {
        eventually("claims are bound", TIMEOUT, async || {
            let all = self.cluster.list(&kinds::CLAIMS, "").await?;
            let unbound = missing(pvcs, &all, |pvc| pvc["status"]["phase"] == "Bound");
            ensure!(
                unbound.is_empty(),
                "{unbound:?} are not; the CSI controller: {:?}",
                self.csi.trouble()
            );
            Ok(())
        })
        .await
    }

    /// Waits until these ReplicationSources have backed up and wait for their next run.
    pub async fn until_idle(&self, sources: &[(&str, &str)]) -> Result<()> {
        eventually("backups are done", TIMEOUT, async || {
            let all = self.cluster.list(&kinds::REPLICATION_SOURCES, "").await?;
            let busy = missing(sources, &all, |source| {
                source["status"]["conditions"][0]["reason"] == "WaitingForSchedule"
            });
            ensure!(busy.is_empty(), "{busy:?} are not; VolSync: {:?}", self.volsync.trouble());
            Ok(())
        })
        .await
    }

    /// Watches for this long that none of these ReplicationSources comes back.
    pub async fn stay_away(&self, sources: &[(&str, &str)], watched: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < watched {
            let back = self.sources().await?;
            if let Some((namespace, name)) = back
                .iter()
                .find(|(namespace, name)| sources.contains(&(namespace.as_str(), name.as_str())))
            {
                bail!("{namespace}/{name} is back after {} s", began.elapsed().as_secs());
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    }
}

/// Those that are not there, or not as wanted.
fn missing<'a>(
    wanted: &[(&'a str, &'a str)],
    objects: &[Value],
    as_wanted: impl Fn(&Value) -> bool,
) -> Vec<(&'a str, &'a str)> {
    let stands = |(namespace, name): &(&str, &str)| {
        objects.iter().any(|object| {
            object["metadata"]["namespace"] == *namespace
                && object["metadata"]["name"] == *name
                && as_wanted(object)
        })
    };
    wanted.iter().copied().filter(|one| !stands(one)).collect()
}
