//! Which Deployment runs a driver's controller, and which of its containers is the driver itself.
//!
//! Names changed between Rook's own Deployments, those of ceph-csi-operator and those of the chart; what the container is told did not.

use crate::object::{list, name, text};
use serde_json::Value;

/// Containers that stand beside a driver.
const SIDECARS: &[&str] = &[
    "csi-provisioner",
    "csi-attacher",
    "csi-resizer",
    "csi-snapshotter",
    "csi-omap-generator",
    "csi-addons",
    "csi-external-health-monitor-controller",
    "liveness-probe",
    "liveness-prometheus",
    "log-collector",
    "log-rotator",
];

/// The Deployment of a driver's controller: by what its container is told, then by owner or name as operators give them.
pub(super) fn pick<'a>(deployments: &'a [Value], driver: &str) -> Option<&'a Value> {
    let told = deployments
        .iter()
        .filter(|one| containers(one).iter().any(|container| is_told(container, driver)));
    // The node side of a driver may be told the same name; only the controller has a provisioner beside it.
    let told = told.max_by_key(|one| {
        containers(one).iter().any(|container| text(container, "/name") == Some("csi-provisioner"))
    });
    told.or_else(|| deployments.iter().find(|one| is_operator_managed(one, driver))).or_else(|| {
        deployments
            .iter()
            .find(|one| known(driver).is_some_and(|(deployment, _)| name(one) == deployment))
    })
}

/// Whether an operator rewrites it: by its owner, or by the name that only ceph-csi-operator gives.
pub(super) fn is_operator_managed(deployment: &Value, driver: &str) -> bool {
    let owned = list(deployment, "/metadata/ownerReferences").iter().any(|owner| {
        text(owner, "/kind") == Some("Driver")
            && text(owner, "/name") == Some(driver)
            && text(owner, "/apiVersion").is_some_and(|version| version.starts_with("csi.ceph.io/"))
    });
    let is_controller = name(deployment).ends_with("-ctrlplugin");
    is_controller && (owned || name(deployment) == format!("{driver}-ctrlplugin"))
}

/// The container that is the driver: it holds the locks and logs them.
pub(super) fn plugin_container(deployment: &Value, driver: &str) -> String {
    let all = containers(deployment);
    let named = |container: &Value| text(container, "/name").unwrap_or_default().to_owned();
    let told = all.iter().find(|container| is_told(container, driver));
    let known = || {
        all.iter().find(|container| {
            known(driver).is_some_and(|(_, plugin)| text(container, "/name") == Some(plugin))
        })
    };
    let other = || {
        all.iter().find(|container| {
            text(container, "/name").is_some_and(|name| !SIDECARS.contains(&name))
        })
    };
    told.or_else(known).or_else(other).map(named).unwrap_or_default()
}

/// Whether anybody in it takes snapshots.
pub(super) fn has_snapshotter(deployment: &Value) -> bool {
    containers(deployment).iter().any(|container| {
        text(container, "/name") == Some("csi-snapshotter")
            || text(container, "/image").is_some_and(|image| {
                image.rsplit('/').next().is_some_and(|image| image.starts_with("csi-snapshotter"))
            })
    })
}

fn containers(deployment: &Value) -> &[Value] {
    list(deployment, "/spec/template/spec/containers")
}

/// Whether a container is told that it is this driver, directly or by a variable of its environment.
fn is_told(container: &Value, driver: &str) -> bool {
    let words = list(container, "/args")
        .iter()
        .chain(list(container, "/command"))
        .filter_map(Value::as_str);
    words.filter_map(|word| word.trim_start_matches('-').strip_prefix("drivername=")).any(|value| {
        match value.strip_prefix("$(").and_then(|v| v.strip_suffix(')')) {
            Some(variable) => list(container, "/env").iter().any(|one| {
                text(one, "/name") == Some(variable) && text(one, "/value") == Some(driver)
            }),
            None => value == driver,
        }
    })
}

/// The names that Rook gave before ceph-csi-operator: of the Deployment and of the plugin's container.
fn known(driver: &str) -> Option<(&'static str, &'static str)> {
    [
        (".rbd.csi.ceph.com", ("csi-rbdplugin-provisioner", "csi-rbdplugin")),
        (".cephfs.csi.ceph.com", ("csi-cephfsplugin-provisioner", "csi-cephfsplugin")),
        (".nfs.csi.ceph.com", ("csi-nfsplugin-provisioner", "csi-nfsplugin")),
    ]
    .into_iter()
    .find(|(suffix, _)| driver.ends_with(suffix))
    .map(|(_, names)| names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DRIVER: &str = "rook-ceph.rbd.csi.ceph.com";

    fn deployment(name: &str, containers: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "rook-ceph"}, "spec": {"template": {"spec": {"containers": containers}}}})
    }

    fn rook() -> Value {
        deployment(
            "csi-rbdplugin-provisioner",
            json!([{"name": "csi-provisioner", "args": ["--leader-election=true"]}, {"name": "csi-snapshotter"}, {"name": "csi-rbdplugin", "args": ["--type=rbd", format!("--drivername={DRIVER}")]}]),
        )
    }

    fn operator() -> Value {
        deployment(
            &format!("{DRIVER}-ctrlplugin"),
            json!([{"name": "csi-rbdplugin"}, {"name": "csi-provisioner"}, {"name": "log-rotator"}]),
        )
    }

    #[test]
    fn a_controller_is_found_by_what_it_is_told() {
        let cephfs = deployment(
            "csi-cephfsplugin-provisioner",
            json!([{"name": "csi-cephfsplugin", "args": ["--drivername=rook-ceph.cephfs.csi.ceph.com"]}]),
        );
        let renamed = json!([{"name": "driver", "args": [format!("--drivername={DRIVER}")]}, {"name": "csi-provisioner"}]);
        let all = [cephfs, deployment("odd-name", renamed)];
        assert_eq!(pick(&all, DRIVER).map(name), Some("odd-name"));
        assert_eq!(plugin_container(&all[1], DRIVER), "driver");
        assert_eq!(pick(&all, "rook-ceph.nfs.csi.ceph.com"), None);
    }

    #[test]
    fn a_variable_of_the_environment_is_followed() {
        let chart = deployment(
            "ceph-csi-rbd-provisioner",
            json!([{"name": "csi-rbdplugin", "args": ["--drivername=$(DRIVER_NAME)"], "env": [{"name": "DRIVER_NAME", "value": "rbd.csi.ceph.com"}]}]),
        );
        assert!(pick(std::slice::from_ref(&chart), "rbd.csi.ceph.com").is_some());
        assert!(pick(std::slice::from_ref(&chart), DRIVER).is_none());
    }

    #[test]
    fn the_operators_deployment_is_known_by_name_or_owner() {
        let all = [operator()];
        assert_eq!(pick(&all, DRIVER).map(name), Some("rook-ceph.rbd.csi.ceph.com-ctrlplugin"));
        assert!(is_operator_managed(&all[0], DRIVER) && !is_operator_managed(&rook(), DRIVER));
        assert_eq!(plugin_container(&all[0], DRIVER), "csi-rbdplugin");
        let mut other = deployment("some-ctrlplugin", json!([]));
        other["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "csi.ceph.io/v1", "kind": "Driver", "name": DRIVER}]);
        assert!(is_operator_managed(&other, DRIVER));
    }

    #[test]
    fn a_missing_snapshotter_is_seen() {
        assert!(has_snapshotter(&rook()) && !has_snapshotter(&operator()));
        assert!(has_snapshotter(&deployment(
            "x",
            json!([{"name": "snap", "image": "registry.example/sig-storage/csi-snapshotter:v8.2.0"}])
        )));
    }

    #[test]
    fn old_names_are_known_where_nothing_is_told() {
        let bare = deployment(
            "csi-rbdplugin-provisioner",
            json!([{"name": "csi-provisioner"}, {"name": "csi-rbdplugin"}]),
        );
        assert!(pick(std::slice::from_ref(&bare), DRIVER).is_some());
        assert_eq!(plugin_container(&bare, DRIVER), "csi-rbdplugin");
    }
}
