//! The base cluster, at 2026-08-20T10:00:00Z: the common objects (`cluster.yaml`,
//! `deployments.yaml`), the CSI controller, and the apps (`apps.yaml`), each in some state.

use serde::Deserialize;
use serde_json::{Value, json};

use super::builder::{Builder, Workload};
use super::cluster::{AppState, Cluster};
use super::{apps, controller, flux, importer};
use crate::kind::Kind;
use crate::world::World;

/// The head of the Git branch, in Flux's format.
pub const REVISION: &str = "refs/heads/main@sha1:0f3c2a1b9d8e7f6051423324150697a8b9cadbec";
/// The creation time of most objects.
pub const LONG_AGO: &str = "2025-11-02T08:04:10Z";

/// An app of the base cluster.
#[derive(Debug, Clone, Deserialize)]
pub struct App {
    pub namespace: String,
    pub name: String,
    pub size: String,
    pub interval: String,
    /// The state in a scenario that does not mention the app.
    pub state: AppState,
    /// The name of the ReplicationSource, if it differs from the app's name.
    #[serde(default)]
    pub replication: Option<String>,
    /// Whether a user suspended the Kustomization.
    #[serde(default)]
    pub suspended: bool,
    /// Whether a HelmRelease declares the ReplicationSource.
    #[serde(default)]
    pub release: bool,
}

/// Returns all apps.
pub fn all_apps() -> Vec<App> {
    parse(include_str!("apps.yaml"))
}

/// Places the base cluster in a state.
pub fn place(world: &mut World, cluster: Cluster) {
    world.git.revision = REVISION.to_owned();
    world.csi.ceph_down = cluster.is_ceph_down();
    let has_importer = cluster.stuck_importer == Some(true);
    let custom: Vec<&Kind> = world.kinds.iter().filter(|kind| kind.is_custom()).collect();
    let mut builder = Builder::new(world, cluster);
    for object in parse::<Vec<Value>>(include_str!("cluster.yaml")) {
        builder.place(object);
    }
    for kind in custom {
        builder.place(crd(kind));
    }
    for workload in parse::<Vec<Workload>>(include_str!("deployments.yaml")) {
        builder.workload(&workload);
    }
    controller::place(&mut builder);
    flux::add_roots(&mut builder);
    for mut app in all_apps() {
        let state = builder.cluster.apps.get(&format!("{}/{}", app.namespace, app.name));
        app.state = state.copied().unwrap_or(app.state);
        apps::place(&mut builder, &app);
    }
    flux::place_kustomizations(&mut builder);
    controller::write_history(&mut builder);
    if has_importer {
        importer::place(&mut builder);
    }
}

/// Returns the CustomResourceDefinition of a kind, without a schema.
pub fn crd(kind: &Kind) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.qualified()},
        "spec": {
            "group": kind.group, "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "names": {
                "kind": kind.kind, "listKind": format!("{}List", kind.kind), "plural": kind.plural,
                "singular": kind.kind.to_lowercase(), "shortNames": kind.short_names(),
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

pub fn parse<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).expect("scenario data is valid")
}
