//! Builds the cluster of an incident at 2026-08-20T10:00:00Z: the common objects (`cluster.yaml`,
//! `deployments.yaml`), the CSI controller, and the apps (`apps.yaml`), each in some state.

mod apps;
mod backups;
mod builder;
mod controller;
mod flux;
mod importer;
pub mod installation;

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::actors;
use crate::incident::Incident;
use crate::kind::{KINDS, Kind};
use crate::world::World;
use builder::{Builder, Workload};

/// The head of the Git branch, in Flux's format.
const REVISION: &str = "refs/heads/main@sha1:0f3c2a1b9d8e7f6051423324150697a8b9cadbec";
/// The creation time of most objects.
const LONG_AGO: &str = "2025-11-02T08:04:10Z";

/// An app of the scenario.
#[derive(Debug, Clone, Deserialize)]
struct App {
    namespace: String,
    name: String,
    size: String,
    interval: String,
    state: AppState,
    /// The name of the ReplicationSource, if it differs from the app's name.
    #[serde(default)]
    replication: Option<String>,
    /// Whether a user suspended the Kustomization.
    #[serde(default)]
    suspended: bool,
    /// Whether a HelmRelease declares the ReplicationSource.
    #[serde(default)]
    release: bool,
}

/// The state of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AppState {
    /// The PVC is bound, the app is running, and its backups succeed.
    Healthy,
    /// Git no longer declares the app's volume and backup; the ReplicationSource still exists,
    /// without a PVC, because its pruning is disabled.
    Abandoned,
    /// Git declares a ReplicationSource whose PVC does not exist.
    MissingPvc,
    /// The PVC is terminating while a snapshot of it hangs.
    Terminating,
    /// The app's new PVC is locked.
    PvcLocked,
    /// The prime PVC created from the app's backup is locked.
    PrimeLocked,
    /// The snapshot to restore the app from is locked.
    ImageLocked,
    /// The clone for a backup is locked.
    CloneLocked,
    /// The cache for a backup is locked.
    CacheLocked,
    /// The cache for a restore is locked.
    RestoreLocked,
    /// The PVC waits for its first consumer.
    WaitsForConsumer,
    /// A snapshot is bound, but no sidecar takes it.
    SnapshotNotTaken,
}

/// Builds the cluster of an incident.
pub fn build(incident: Incident) -> World {
    let start: Timestamp = "2026-08-20T09:59:55Z".parse().expect("time is valid");
    let mut world = World::new(incident, start);
    world.git.revision = REVISION.to_owned();
    world.csi.ceph_down = incident == Incident::CephInError;
    let mut builder = Builder::new(&mut world);
    for object in parse::<Vec<Value>>(include_str!("cluster.yaml")) {
        builder.place(object);
    }
    for kind in KINDS.iter().filter(|kind| kind.is_custom()) {
        builder.place(crd(kind));
    }
    for workload in parse::<Vec<Workload>>(include_str!("deployments.yaml")) {
        builder.workload(&workload);
    }
    controller::place(&mut builder, incident);
    flux::add_roots(&mut builder);
    for mut app in parse::<Vec<App>>(include_str!("apps.yaml")) {
        if let Some(state) = state_in(incident, &app) {
            app.state = state;
            apps::place(&mut builder, &app);
        }
    }
    flux::place_kustomizations(&mut builder);
    controller::write_history(&mut builder);
    if incident == Incident::StuckImporter {
        importer::place(&mut builder);
    }
    actors::start(&mut world);
    // Every controller has run once when the scenario starts, at 10:00:00.
    world.advance(Duration::from_secs(5));
    world
}

/// Returns the state of an app in an incident, or `None` if the incident does not include the app.
fn state_in(incident: Incident, app: &App) -> Option<AppState> {
    use AppState::{
        Abandoned, CacheLocked, CloneLocked, Healthy, ImageLocked, MissingPvc, PrimeLocked,
        PvcLocked, RestoreLocked, SnapshotNotTaken, Terminating, WaitsForConsumer,
    };
    match incident {
        Incident::Playbook | Incident::TerminatingDelete | Incident::OperatorManaged => {
            Some(app.state)
        }
        Incident::Healthy | Incident::StuckImporter => {
            (app.state != WaitsForConsumer).then_some(Healthy)
        }
        Incident::MissingSnapshotter => Some(match app.state {
            WaitsForConsumer => WaitsForConsumer,
            ImageLocked => ImageLocked,
            CloneLocked | CacheLocked | PrimeLocked | RestoreLocked | PvcLocked | Healthy => {
                SnapshotNotTaken
            }
            Abandoned | MissingPvc | Terminating | SnapshotNotTaken => Healthy,
        }),
        Incident::CephInError => Some(match app.state {
            Abandoned | MissingPvc | Terminating | SnapshotNotTaken | Healthy => Healthy,
            state @ (WaitsForConsumer | ImageLocked | CloneLocked | CacheLocked | PrimeLocked
            | RestoreLocked | PvcLocked) => state,
        }),
    }
}

/// Returns the CustomResourceDefinition of a kind, without a schema.
fn crd(kind: &Kind) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.qualified()},
        "spec": {
            "group": kind.group, "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "names": {
                "kind": kind.kind, "listKind": format!("{}List", kind.kind), "plural": kind.plural,
                "singular": kind.kind.to_lowercase(), "shortNames": kind.short_names,
            },
            "versions": [{
                "name": kind.version, "served": true, "storage": true,
                "subresources": {"status": {}},
            }],
        },
        "status": {
            "acceptedNames": {"kind": kind.kind, "plural": kind.plural},
            "storedVersions": [kind.version],
            "conditions": [{
                "type": "Established", "status": "True", "reason": "InitialNamesAccepted",
                "lastTransitionTime": LONG_AGO, "message": "the initial names have been accepted",
            }],
        },
    })
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).expect("scenario data is valid")
}
