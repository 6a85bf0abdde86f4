//! The Git repository of the house: a root Kustomization that applies a Kustomization a namespace, which applies the apps.

use serde_json::{Value, json};

use super::{APPS, INTERVAL, NAMESPACES, OWNER, objects};

/// The name of the root Kustomization, in Flux's namespace.
pub const ROOT: &str = "cluster-apps";

/// The root Kustomization.
pub fn root() -> Value {
    kustomization(ROOT, "flux-system", "./kubernetes/apps")
}

/// Every file with its content. JSON is YAML; nobody reads these but Flux.
pub fn files() -> Vec<(String, Option<String>)> {
    let mut files = Vec::new();
    let owners: Vec<String> =
        NAMESPACES.iter().map(|namespace| format!("{namespace}/{OWNER}.yaml")).collect();
    files.push(list("kubernetes/apps", &owners));
    for namespace in NAMESPACES {
        let folder = format!("kubernetes/apps/{namespace}");
        let owner = kustomization(OWNER, namespace, &format!("./{folder}/apps"));
        files.push(document(format!("{folder}/{OWNER}.yaml"), &[owner]));
        let mut resources = Vec::new();
        for (_, name) in APPS.iter().filter(|(within, _)| *within == namespace) {
            let app = [objects::pvc(namespace, name), objects::source(namespace, name)];
            files.push(document(format!("{folder}/apps/{name}.yaml"), &app));
            resources.push(format!("{name}.yaml"));
        }
        files.push(list(&format!("{folder}/apps"), &resources));
    }
    files
}

fn kustomization(name: &str, namespace: &str, path: &str) -> Value {
    let interval = format!("{}s", INTERVAL.as_secs());
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "interval": interval,
            "retryInterval": interval,
            "timeout": "2m",
            "path": path,
            "prune": true,
            "sourceRef": {"kind": "GitRepository", "name": "flux-system", "namespace": "flux-system"},
        },
    })
}

fn list(folder: &str, resources: &[String]) -> (String, Option<String>) {
    let list = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources,
    });
    document(format!("{folder}/kustomization.yaml"), &[list])
}

fn document(path: String, documents: &[Value]) -> (String, Option<String>) {
    let texts: Vec<String> = documents.iter().map(|document| format!("{document:#}\n")).collect();
    (path, Some(texts.join("---\n")))
}
