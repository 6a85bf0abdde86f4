//! Builds the cluster of an incident as it stands at 2026-08-20T10:00:00Z: what always stands (`cluster.yaml`,
//! `deployments.yaml`), the CSI controller, and the apps (`apps.yaml`) with what has become of each.

mod backups;
mod builder;
mod controller;
mod flux;
mod importer;
mod stories;

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::actors;
use crate::incident::Incident;
use crate::kind::{KINDS, Kind};
use crate::world::World;
use builder::{Builder, Workload};

/// The head of the Git branch, as Flux writes it.
const REVISION: &str = "refs/heads/main@sha1:0f3c2a1b9d8e7f6051423324150697a8b9cadbec";
/// When most of the cluster was made.
const LONG_AGO: &str = "2025-11-02T08:04:10Z";

/// An app of the scene.
#[derive(Debug, Clone, Deserialize)]
struct App {
    namespace: String,
    name: String,
    size: String,
    interval: String,
    story: Story,
    /// The name of its ReplicationSource, where it is another than the app's.
    #[serde(default)]
    replication: Option<String>,
    /// Whether a person has suspended its Kustomization.
    #[serde(default)]
    suspended: bool,
    /// Whether a HelmRelease declares its ReplicationSource.
    #[serde(default)]
    release: bool,
}

/// What has become of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Story {
    /// Bound, running, backed up.
    Healthy,
    /// The app is gone from Git; its ReplicationSource has stayed, without a claim.
    Abandoned,
    /// Git declares a ReplicationSource whose claim is gone.
    UndeclaredClaim,
    /// The claim is being deleted while a snapshot of it hangs.
    Terminating,
    /// The app's own new claim is locked.
    ClaimLocked,
    /// The claim that is made from the app's backup is locked.
    PrimeLocked,
    /// The snapshot that the app is to be restored from is locked.
    ImageLocked,
    /// The clone that a backup reads is locked.
    CloneLocked,
    /// The cache of a backup is locked.
    CacheLocked,
    /// The cache of a restore is locked.
    RestoreLocked,
    /// The claim waits for a pod to use it.
    WaitsForConsumer,
    /// A snapshot is bound, and nobody takes it.
    Untaken,
}

/// The cluster of an incident.
pub fn build(incident: Incident) -> World {
    let start: Timestamp = "2026-08-20T09:59:55Z".parse().expect("the scene's time is well-formed");
    let mut world = World::new(incident, start);
    world.git.revision = REVISION.to_owned();
    world.csi.ceph_down = incident == Incident::CephInError;
    let mut builder = Builder::new(&mut world);
    for object in read::<Vec<Value>>(include_str!("cluster.yaml")) {
        builder.place(object);
    }
    for kind in KINDS.iter().filter(|kind| kind.is_custom()) {
        builder.place(definition(kind));
    }
    for workload in read::<Vec<Workload>>(include_str!("deployments.yaml")) {
        builder.workload(&workload);
    }
    controller::place(&mut builder, incident);
    flux::place_roots(&mut builder);
    for mut app in read::<Vec<App>>(include_str!("apps.yaml")) {
        if let Some(story) = story_in(incident, &app) {
            app.story = story;
            stories::tell(&mut builder, &app);
        }
    }
    flux::place_kustomizations(&mut builder);
    controller::write_past(&mut builder);
    if incident == Incident::StuckImporter {
        importer::place(&mut builder);
    }
    actors::start(&mut world);
    // Each party has looked at the scene once when it opens, at 10:00:00.
    world.advance(Duration::from_secs(5));
    world
}

/// What becomes of an app in an incident other than the playbook's; `None` when it has no part in it.
fn story_in(incident: Incident, app: &App) -> Option<Story> {
    use Story::{
        Abandoned, CacheLocked, ClaimLocked, CloneLocked, Healthy, ImageLocked, PrimeLocked,
        RestoreLocked, Terminating, UndeclaredClaim, Untaken, WaitsForConsumer,
    };
    match incident {
        Incident::Playbook | Incident::TerminatingDelete | Incident::OperatorManaged => {
            Some(app.story)
        }
        Incident::Healthy | Incident::StuckImporter => {
            (app.story != WaitsForConsumer).then_some(Healthy)
        }
        Incident::MissingSnapshotter => Some(match app.story {
            WaitsForConsumer => WaitsForConsumer,
            ImageLocked => ImageLocked,
            CloneLocked | CacheLocked | PrimeLocked | RestoreLocked | ClaimLocked | Healthy => {
                Untaken
            }
            Abandoned | UndeclaredClaim | Terminating | Untaken => Healthy,
        }),
        Incident::CephInError => Some(match app.story {
            Abandoned | UndeclaredClaim | Terminating | Untaken | Healthy => Healthy,
            story @ (WaitsForConsumer | ImageLocked | CloneLocked | CacheLocked | PrimeLocked
            | RestoreLocked | ClaimLocked) => story,
        }),
    }
}

/// The definition behind a custom kind, without its schema.
fn definition(kind: &Kind) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.qualified()},
        "spec": {
            "group": kind.group, "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "names": {
                "kind": kind.kind, "listKind": format!("{}List", kind.kind), "plural": kind.plural,
                "singular": kind.kind.to_lowercase(), "shortNames": kind.short,
            },
            "versions": [{"name": kind.version, "served": true, "storage": true, "subresources": {"status": {}}}],
        },
        "status": {
            "acceptedNames": {"kind": kind.kind, "plural": kind.plural}, "storedVersions": [kind.version],
            "conditions": [{"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "lastTransitionTime": LONG_AGO,
                "message": "the initial names have been accepted"}],
        },
    })
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).expect("the scene's data is well-formed")
}
