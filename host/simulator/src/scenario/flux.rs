//! The Flux objects of a scenario: the root Kustomizations, and one per app.

use serde_json::{Value, json};

use super::base::{App, REVISION};
use super::builder::{Builder, time};
use crate::actors::{inventory_entry, kind_of};
use crate::fields;
use crate::kind;
use crate::object::{seconds, set, text};
use crate::random::hash_below;
use crate::store::Key;

const NAMESPACE: &str = "flux-system";

/// A Kustomization that will be placed.
pub struct PendingKustomization {
    key: Key,
    declared_by: Key,
    spec: Value,
    suspended: bool,
}

/// Returns the key of an app's Kustomization.
pub fn kustomization(app: &App) -> Key {
    Key::new(kind::KUSTOMIZATIONS, &app.namespace, &app.name)
}

/// Adds the root Kustomizations.
pub fn add_roots(builder: &mut Builder) {
    let root = Key::new(kind::KUSTOMIZATIONS, NAMESPACE, "flux-system");
    let apps = Key::new(kind::KUSTOMIZATIONS, NAMESPACE, "cluster-apps");
    for (key, path) in [(&root, "./kubernetes/flux"), (&apps, "./kubernetes/apps")] {
        builder.kustomizations.push(PendingKustomization {
            key: key.clone(),
            declared_by: root.clone(),
            spec: spec("1h", path, None),
            suspended: false,
        });
    }
}

/// Adds an app's Kustomization, declared by `cluster-apps`.
pub fn add_kustomization(builder: &mut Builder, app: &App) {
    let path = format!("./kubernetes/apps/{}/{}/app", app.namespace, app.name);
    builder.kustomizations.push(PendingKustomization {
        key: kustomization(app),
        declared_by: Key::new(kind::KUSTOMIZATIONS, NAMESPACE, "cluster-apps"),
        spec: spec(&app.interval, &path, Some(&app.namespace)),
        suspended: app.suspended,
    });
}

fn spec(interval: &str, path: &str, namespace: Option<&str>) -> Value {
    let mut spec = json!({
        "deletionPolicy": "WaitForTermination", "force": false, "interval": interval, "path": path,
        "prune": true, "retryInterval": "2m", "timeout": "5m", "wait": false,
        "sourceRef": {"kind": "GitRepository", "name": "flux-system", "namespace": NAMESPACE},
    });
    if let Some(namespace) = namespace {
        spec["targetNamespace"] = namespace.into();
    }
    spec
}

/// Places the added Kustomizations with their inventories: those of the apps before their parents.
pub fn place_kustomizations(builder: &mut Builder) {
    let kustomizations = std::mem::take(&mut builder.kustomizations);
    for kustomization in kustomizations.iter().rev() {
        let declared = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {
                "name": kustomization.key.name, "namespace": kustomization.key.namespace,
                "labels": {},
            },
            "spec": kustomization.spec,
        });
        // The root declares itself, so its own inventory entry has to be added here.
        let declares_itself = kustomization.key == kustomization.declared_by;
        let mut entries: Vec<Value> =
            builder.world.git.declared(&kustomization.key).iter().filter_map(entry).collect();
        if declares_itself {
            entries.extend(entry(&declared));
        }
        let generation = if kustomization.suspended { 5 } else { 4 };
        let minute = hash_below(&kustomization.key.to_string(), 50);
        let since = time("2026-08-20T09:05:40Z")
            .saturating_add(jiff::SignedDuration::from_mins(minute as i64));
        let since = if kustomization.suspended {
            "2026-08-11T18:00:00Z".to_owned()
        } else {
            seconds(since.unwrap_or_default())
        };
        let suspended = kustomization.suspended;
        builder.declare(&kustomization.declared_by, declared, |object| {
            if suspended {
                let before = object.clone();
                set(object, &["spec", "suspend"], true);
                fields::record_update(Some(&before), object, "flux", time("2026-08-11T18:20:11Z"));
            }
            set(object, &["metadata", "generation"], generation);
            set(object, &["metadata", "finalizers"], json!(["finalizers.fluxcd.io"]));
            set(
                object,
                &["status"],
                json!({
                    "conditions": [{
                        "type": "Ready", "status": "True", "reason": "ReconciliationSucceeded",
                        "observedGeneration": 4, "lastTransitionTime": since,
                        "message": format!("Applied revision: {REVISION}"),
                    }],
                    "inventory": {"entries": entries}, "lastAppliedRevision": REVISION,
                    "lastAttemptedRevision": REVISION, "observedGeneration": generation,
                }),
            );
        });
    }
}

fn entry(declared: &Value) -> Option<Value> {
    kind_of(declared).map(|kind| inventory_entry(kind, declared))
}

/// Places a HelmRelease declared by the app's Kustomization, and returns its key.
pub fn place_release(builder: &mut Builder, app: &App) -> Key {
    let declared = json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"name": app.name, "namespace": app.namespace},
        "spec": {"chartRef": {"kind": "OCIRepository", "name": "app-template"}, "interval": "1h"},
    });
    let message = format!(
        "Helm upgrade succeeded for release {}/{}.v9 with chart app-template@4.2.0",
        app.namespace, app.name
    );
    let ready = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "UpgradeSucceeded", "observedGeneration": 1,
            "lastTransitionTime": "2026-06-12T06:00:41Z", "message": message,
        })
    };
    let placed = builder.declare(&kustomization(app), declared, |object| {
        set(object, &["metadata", "finalizers"], json!(["finalizers.fluxcd.io"]));
        set(
            object,
            &["status"],
            json!({
                "conditions": [ready("Ready"), ready("Released")], "observedGeneration": 1,
                "lastAttemptedGeneration": 1, "storageNamespace": app.namespace,
            }),
        );
    });
    Key::new(
        kind::HELM_RELEASES,
        text(&placed, "/metadata/namespace"),
        text(&placed, "/metadata/name"),
    )
}
