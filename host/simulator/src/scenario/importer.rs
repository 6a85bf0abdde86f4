//! The importer of a scenario, which is stuck since 09:40, and the healthy library that it writes
//! to.

use serde_json::json;

use super::builder::{Builder, Workload, time};
use crate::actors::importer::{IMPORTED, Importer, LOG_INTERVAL, NAME, NAMESPACE, STUCK};
use crate::object::text;

/// Places both workloads, and writes the importer's logs of the previous hour.
pub fn place(builder: &mut Builder) {
    builder.place(json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "library", "namespace": NAMESPACE, "labels": {"app": "library"}},
        "spec": {
            "replicas": 1, "serviceName": "library",
            "selector": {"matchLabels": {"app": "library"}},
            "template": {
                "metadata": {"labels": {"app": "library"}},
                "spec": {"containers": [{"name": "library", "image": "library:v1"}]},
            },
        },
        "status": {
            "observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "availableReplicas": 1,
            "currentReplicas": 1, "updatedReplicas": 1,
        },
    }));
    let pods = builder.workload(&Workload {
        namespace: NAMESPACE.to_owned(),
        name: NAME.to_owned(),
        containers: vec![NAME.to_owned()],
        hash: "7f6d5c8b9".to_owned(),
        pods: vec!["n4c8t".to_owned()],
        ..Workload::default()
    });
    let uid = text(&pods[0], "/metadata/uid");
    let (mut at, since) = (time("2026-08-20T09:00:00Z"), time("2026-08-20T09:40:00Z"));
    while at < builder.world.now {
        builder.world.logs.write(uid, NAME, at, if at < since { IMPORTED } else { STUCK });
        at = at.saturating_add(crate::world::signed(LOG_INTERVAL)).unwrap_or(builder.world.now);
    }
    builder.world.importer = Importer { stuck: Some(uid.to_owned()) };
}
