//! The Flux objects of the scene: the roots, and one Kustomization an app.

use serde_json::{Value, json};

use super::builder::{Builder, time};
use super::{App, REVISION};
use crate::actors::{inventory_entry, kustomize_kind};
use crate::fields;
use crate::kind;
use crate::object::{seconds, set, text};
use crate::random::spread;
use crate::store::Key;

const NAMESPACE: &str = "flux-system";

/// A Kustomization to place.
pub struct Owner {
    key: Key,
    declared_by: Key,
    spec: Value,
    suspended: bool,
}

/// The key of an app's Kustomization.
pub fn owner(app: &App) -> Key {
    Key::new(kind::KUSTOMIZATIONS, &app.namespace, &app.name)
}

/// Notes the root Kustomizations.
pub fn place_roots(builder: &mut Builder) {
    let root = Key::new(kind::KUSTOMIZATIONS, NAMESPACE, "flux-system");
    let apps = Key::new(kind::KUSTOMIZATIONS, NAMESPACE, "cluster-apps");
    for (key, path) in [(&root, "./kubernetes/flux"), (&apps, "./kubernetes/apps")] {
        builder.kustomizations.push(Owner {
            key: key.clone(),
            declared_by: root.clone(),
            spec: spec("1h", path, None),
            suspended: false,
        });
    }
}

/// Notes an app's Kustomization, which `cluster-apps` declares.
pub fn note(builder: &mut Builder, app: &App) {
    let path = format!("./kubernetes/apps/{}/{}/app", app.namespace, app.name);
    builder.kustomizations.push(Owner {
        key: owner(app),
        declared_by: Key::new(kind::KUSTOMIZATIONS, NAMESPACE, "cluster-apps"),
        spec: spec(&app.interval, &path, Some(&app.namespace)),
        suspended: app.suspended,
    });
}

fn spec(interval: &str, path: &str, namespace: Option<&str>) -> Value {
    let mut spec = json!({
        "deletionPolicy": "WaitForTermination", "force": false, "interval": interval, "path": path, "prune": true,
        "retryInterval": "2m", "timeout": "5m", "wait": false,
        "sourceRef": {"kind": "GitRepository", "name": "flux-system", "namespace": NAMESPACE},
    });
    if let Some(namespace) = namespace {
        spec["targetNamespace"] = namespace.into();
    }
    spec
}

/// Places the Kustomizations, each with the inventory of what it declares: the apps' first, then their parents'.
pub fn place_kustomizations(builder: &mut Builder) {
    let owners = std::mem::take(&mut builder.kustomizations);
    for owner in owners.iter().rev() {
        let declared = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": owner.key.name, "namespace": owner.key.namespace, "labels": {}},
            "spec": owner.spec,
        });
        // The root declares itself: what it makes of its own object must be known before it is placed.
        let local = owner.key == owner.declared_by;
        let mut entries: Vec<Value> =
            builder.world.git.declared(&owner.key).iter().filter_map(entry).collect();
        if local {
            entries.extend(entry(&declared));
        }
        let generation = if owner.suspended { 5 } else { 4 };
        let minute = spread(&owner.key.to_string(), 50);
        let since = time("2026-08-20T09:05:40Z")
            .saturating_add(jiff::SignedDuration::from_mins(minute as i64));
        let since = if owner.suspended {
            "2026-08-11T18:00:00Z".to_owned()
        } else {
            seconds(since.unwrap_or_default())
        };
        let suspended = owner.suspended;
        builder.declare(&owner.declared_by, declared, |object| {
            if suspended {
                let before = object.clone();
                set(object, &["spec", "suspend"], true);
                fields::updated(Some(&before), object, "flux", time("2026-08-11T18:20:11Z"));
            }
            set(object, &["metadata", "generation"], generation);
            set(object, &["metadata", "finalizers"], json!(["finalizers.fluxcd.io"]));
            set(
                object,
                &["status"],
                json!({
                    "conditions": [{
                        "type": "Ready", "status": "True", "reason": "ReconciliationSucceeded", "observedGeneration": 4,
                        "lastTransitionTime": since, "message": format!("Applied revision: {REVISION}"),
                    }],
                    "inventory": {"entries": entries},
                    "lastAppliedRevision": REVISION, "lastAttemptedRevision": REVISION, "observedGeneration": generation,
                }),
            );
        });
    }
}

fn entry(declared: &Value) -> Option<Value> {
    kustomize_kind(declared).map(|kind| inventory_entry(kind, declared))
}

/// Places a HelmRelease, declared by the app's Kustomization; returns its key.
pub fn release(builder: &mut Builder, app: &App) -> Key {
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
        json!({"type": kind, "status": "True", "reason": "UpgradeSucceeded", "observedGeneration": 1,
            "lastTransitionTime": "2026-06-12T06:00:41Z", "message": message})
    };
    let placed = builder.declare(&owner(app), declared, |object| {
        set(object, &["metadata", "finalizers"], json!(["finalizers.fluxcd.io"]));
        set(
            object,
            &["status"],
            json!({
                "conditions": [ready("Ready"), ready("Released")], "observedGeneration": 1, "lastAttemptedGeneration": 1,
                "storageNamespace": app.namespace,
            }),
        );
    });
    Key::new(
        kind::HELM_RELEASES,
        text(&placed, "/metadata/namespace"),
        text(&placed, "/metadata/name"),
    )
}
