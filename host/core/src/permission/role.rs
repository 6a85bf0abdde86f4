//! The least RBAC permissions: a ServiceAccount, a Role per namespace, and a ClusterRole for
//! cluster-scoped kinds.

use super::Account;
use super::needs::{Key, Need, Needs, Place};
use crate::capability::cluster_lock::LEASE_NAMESPACES;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Returns the objects, in an order in which they can be applied.
///
/// # Guarantees
/// No wildcard, no Secret, no `escalate`, `bind`, or `impersonate`: no rule has them. A Role
/// wherever the namespace is known.
pub fn objects(account: &Account, needs: &Needs) -> Vec<Value> {
    let namespaces: BTreeSet<&str> =
        BTreeSet::from([account.namespace.as_str(), LEASE_NAMESPACES[0]]);
    let mut objects: Vec<Value> = namespaces
        .into_iter()
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .collect();
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": account.name, "namespace": account.namespace},
    }));
    let mut places: BTreeMap<&Place, Vec<(&Key, &Need)>> = BTreeMap::new();
    for (key, need) in &needs.all {
        places.entry(&key.place).or_default().push((key, need));
    }
    for (place, needs) in places {
        let (kind, name, namespace) = match place {
            Place::Cluster => {
                ("ClusterRole", format!("{}-{}", account.namespace, account.name), None)
            }
            Place::Everywhere => {
                ("ClusterRole", format!("{}-{}-everywhere", account.namespace, account.name), None)
            }
            Place::Namespace(namespace) => ("Role", account.name.clone(), Some(namespace)),
        };
        let metadata = match namespace {
            Some(namespace) => json!({"name": name, "namespace": namespace}),
            None => json!({"name": name}),
        };
        objects.push(json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": kind,
            "metadata": metadata,
            "rules": rules(&needs),
        }));
        objects.push(json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": format!("{kind}Binding"),
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
            "subjects": [account.subject()],
        }));
    }
    objects
}

/// Object names; none for all objects.
type Names<'a> = Option<&'a BTreeSet<String>>;

/// Returns one rule per group, with resources that have the same verbs together.
fn rules(needs: &[(&Key, &Need)]) -> Vec<Value> {
    let mut verbs: BTreeMap<(&str, String, Names<'_>), Vec<&str>> = BTreeMap::new();
    for (key, need) in needs {
        let resource = key.subresource.map_or_else(
            || key.resource.clone(),
            |subresource| format!("{}/{subresource}", key.resource),
        );
        verbs
            .entry((&key.group, resource, need.names.as_ref()))
            .or_default()
            .push(key.verb.as_str());
    }
    let mut resources: BTreeMap<(&str, Vec<&str>, Names<'_>), Vec<String>> = BTreeMap::new();
    for ((group, resource, names), verbs) in verbs {
        resources.entry((group, verbs, names)).or_default().push(resource);
    }
    resources
        .into_iter()
        .map(|((group, verbs, names), resources)| {
            let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
            if let Some(names) = names {
                rule["resourceNames"] = json!(names);
            }
            rule
        })
        .collect()
}
