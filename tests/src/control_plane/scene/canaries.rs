//! Canaries where secrets are kept: in Secrets, and in annotations of everything that a run looks at.

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use crate::canary;
use crate::control_plane::cluster::Cluster;
use crate::control_plane::kinds::{self, Kind};

/// How many every scene has.
pub const PLANTED: usize = SECRETS.len() * KEYS + 2 * ANNOTATED;

const SECRETS: [&str; 5] = ["media", "flux-system", "rook-ceph", "ai", "selfhosted"];
const KEYS: usize = 16;

/// So many objects of each kind bear them; all together, [`ANNOTATED`].
const OBJECTS: [(Kind, usize); 6] = [
    (kinds::REPLICATION_SOURCES, 18),
    (kinds::KUSTOMIZATIONS, 7),
    (kinds::GIT_REPOSITORIES, 1),
    (kinds::CLAIMS, 16),
    (kinds::DEPLOYMENTS, 1),
    (kinds::NAMESPACES, 8),
];
const ANNOTATED: usize = 51;

pub(super) async fn plant(cluster: &Cluster) -> Result<()> {
    let mut words = (0..).map(canary::word);
    let mut next = || words.next().expect("there is always one more");
    for namespace in SECRETS {
        let data: Map<String, Value> =
            (0..KEYS).map(|n| (format!("key-{n}"), next().into())).collect();
        cluster.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "canaries", "namespace": namespace}, "stringData": data})).await?;
    }
    let mut annotated = 0;
    for (kind, most) in OBJECTS {
        let objects = cluster.list(&kind, "").await?;
        ensure!(objects.len() >= most, "only {} of {}", objects.len(), kind.kind);
        for object in objects.iter().take(most) {
            let part = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
            let annotations = json!({
                "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"spec\": {{\"password\": \"{}\"}}}}", next()),
                "example.com/token": next(),
            });
            cluster
                .merge(
                    &kind,
                    part("/metadata/namespace"),
                    part("/metadata/name"),
                    &json!({"metadata": {"annotations": annotations}}),
                )
                .await?;
            annotated += 1;
        }
    }
    ensure!(annotated == ANNOTATED, "{annotated} objects bear canaries");
    Ok(())
}
