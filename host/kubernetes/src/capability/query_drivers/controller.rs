//! Finds the Deployment of a driver's controller, the DaemonSet of its node plugin, and the
//! container that runs the driver itself.
//!
//! Rook's own Deployments, those of ceph-csi-operator, and those of the Helm chart have different
//! names, but all containers have the same `--drivername` argument.

use crate::object::{list, name, text, truncated};
use serde_json::Value;

/// Containers that run next to a driver.
const SIDECARS: &[&str] = &[
    "csi-provisioner",
    "csi-attacher",
    "csi-resizer",
    "csi-snapshotter",
    "csi-omap-generator",
    "csi-addons",
    "csi-external-health-monitor-controller",
    "driver-registrar",
    "csi-node-driver-registrar",
    "liveness-probe",
    "liveness-prometheus",
    "log-collector",
    "log-rotator",
];

/// Finds the Deployment of a driver's controller: by container argument, else by the owner or name
/// that operators set.
pub(super) fn find_controller<'a>(deployments: &'a [Value], driver: &str) -> Option<&'a Value> {
    let named_driver = deployments.iter().filter(|candidate| {
        containers(candidate).iter().any(|container| has_driver_name(container, driver))
    });
    // The node plugin can have the same argument, but only the controller has a provisioner
    // sidecar.
    let named_driver = named_driver.max_by_key(|candidate| {
        containers(candidate)
            .iter()
            .any(|container| text(container, "/name") == Some("csi-provisioner"))
    });
    // mutant controller-found-by-name: named_driver .or_else(|| deployments ~>
    //     None.or_else(|| deployments
    named_driver
        .or_else(|| deployments.iter().find(|candidate| is_operator_managed(candidate, driver)))
        .or_else(|| {
            deployments.iter().find(|candidate| {
                legacy_names(driver).is_some_and(|(deployment, _)| name(candidate) == deployment)
            })
        })
}

/// Finds the DaemonSet of a driver's node plugin: by container argument, else by the owner or name
/// that operators set.
pub(super) fn find_node_plugin<'a>(daemon_sets: &'a [Value], driver: &str) -> Option<&'a Value> {
    let named_driver = daemon_sets.iter().find(|candidate| {
        containers(candidate).iter().any(|container| has_driver_name(container, driver))
    });
    let of_operator = || {
        daemon_sets.iter().find(|candidate| {
            name(candidate) == format!("{driver}-nodeplugin")
                || name(candidate).ends_with("-nodeplugin")
                    && has_driver_as_owner(candidate, driver)
        })
    };
    let legacy = || {
        daemon_sets.iter().find(|candidate| {
            legacy_names(driver).is_some_and(|(_, plugin)| name(candidate) == plugin)
        })
    };
    named_driver.or_else(of_operator).or_else(legacy)
}

fn has_driver_as_owner(workload: &Value, driver: &str) -> bool {
    list(workload, "/metadata/ownerReferences").iter().any(|owner| {
        text(owner, "/kind") == Some("Driver")
            && text(owner, "/name") == Some(driver)
            && text(owner, "/apiVersion").is_some_and(|version| version.starts_with("csi.ceph.io/"))
    })
}

/// Returns true if ceph-csi-operator manages the Deployment, according to its owner or its name.
pub(super) fn is_operator_managed(deployment: &Value, driver: &str) -> bool {
    let is_controller = name(deployment).ends_with("-ctrlplugin");
    is_controller
        && (has_driver_as_owner(deployment, driver)
            || name(deployment) == format!("{driver}-ctrlplugin"))
}

/// Returns the name of the container that runs the driver, which holds and logs the locks. Empty if
/// there is none.
///
/// Other containers can have the driver's name in their arguments too: Rook's `csi-omap-generator`
/// comes before the plugin, and ceph-csi's chart has the same sidecar under another name.
pub(super) fn plugin_container(deployment: &Value, driver: &str) -> String {
    // mutant sidecar-log-read: filter(|container| !is_sidecar(container)) ~> filter(|_| true)
    let all = || containers(deployment).iter().filter(|container| !is_sidecar(container));
    let named_driver = || {
        let mut named = all().filter(|container| has_driver_name(container, driver));
        let first = named.clone().next();
        named.find(|container| serves_volumes(container)).or(first)
    };
    // An unresolved variable does not show which driver it is.
    let of_type = || {
        all().find(|container| {
            serves_volumes(container)
                && driver_argument(container).is_none_or(|value| variable(value).is_some())
        })
    };
    let legacy_names = || {
        all().find(|container| {
            legacy_names(driver).is_some_and(|(_, plugin)| text(container, "/name") == Some(plugin))
        })
    };
    let plugin = named_driver().or_else(of_type).or_else(legacy_names).or_else(|| all().next());
    plugin.and_then(|container| text(container, "/name")).unwrap_or_default().to_owned()
}

/// Returns the image of that container. Empty if there is none.
pub(super) fn plugin_image(deployment: &Value, driver: &str) -> String {
    let plugin = plugin_container(deployment, driver);
    let is_plugin = |container: &&Value| text(container, "/name") == Some(&plugin);
    let image = containers(deployment).iter().find(is_plugin).and_then(|one| text(one, "/image"));
    truncated(image.unwrap_or_default(), 255)
}

/// Returns true for a container that runs next to the driver, according to its name or to its
/// `--type` argument, which ceph-csi's own sidecars have too.
fn is_sidecar(container: &Value) -> bool {
    text(container, "/name").is_none_or(|name| SIDECARS.contains(&name))
        || argument(container, "type")
            .is_some_and(|value| value == "controller" || value == "liveness")
}

/// Returns true if ceph-csi serves volumes in the container.
fn serves_volumes(container: &Value) -> bool {
    argument(container, "type").is_some_and(|value| ["rbd", "cephfs", "nfs"].contains(&value))
}

/// Returns true if a container of the Deployment is a csi-snapshotter.
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

/// Returns true if a container has this `--drivername` argument, literally or through an
/// environment variable.
fn has_driver_name(container: &Value, driver: &str) -> bool {
    driver_argument(container).is_some_and(|value| match variable(value) {
        Some(variable) => list(container, "/env").iter().any(|entry| {
            text(entry, "/name") == Some(variable) && text(entry, "/value") == Some(driver)
        }),
        None => value == driver,
    })
}

fn driver_argument(container: &Value) -> Option<&str> {
    argument(container, "drivername")
}

/// Returns the name of the variable if `value` is a reference to one.
fn variable(value: &str) -> Option<&str> {
    value.strip_prefix("$(")?.strip_suffix(')')
}

/// Returns the value of a flag, which is in the same argument or in the next one.
fn argument<'a>(container: &'a Value, flag: &str) -> Option<&'a str> {
    let arguments =
        || list(container, "/command").iter().chain(list(container, "/args")).map(Value::as_str);
    arguments().zip(arguments().skip(1).chain([None])).find_map(|(argument, next)| {
        let given = argument?.strip_prefix('-')?;
        let value = given.strip_prefix('-').unwrap_or(given).strip_prefix(flag)?;
        if value.is_empty() { next } else { value.strip_prefix('=') }
    })
}

/// Returns the names of the Deployment and of the driver's container as created by Rook before
/// ceph-csi-operator.
fn legacy_names(driver: &str) -> Option<(&'static str, &'static str)> {
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
        json!({"metadata": {"name": name, "namespace": "rook-ceph"},
            "spec": {"template": {"spec": {"containers": containers}}}})
    }

    fn rook() -> Value {
        deployment(
            "csi-rbdplugin-provisioner",
            json!([{"name": "csi-provisioner", "args": ["--leader-election=true"]},
                {"name": "csi-snapshotter"}, {"name": "csi-rbdplugin",
                "args": ["--type=rbd", format!("--drivername={DRIVER}")]}]),
        )
    }

    #[test]
    fn the_image_is_that_of_the_plugin() {
        let mut rook = rook();
        let containers = rook.pointer_mut("/spec/template/spec/containers").unwrap();
        containers[0]["image"] = "registry.k8s.io/sig-storage/csi-provisioner:v6.1.0".into();
        assert_eq!(plugin_image(&rook, DRIVER), "");
        let containers = rook.pointer_mut("/spec/template/spec/containers").unwrap();
        containers[2]["image"] = "quay.io/cephcsi/cephcsi:v3.13.0".into();
        assert_eq!(plugin_image(&rook, DRIVER), "quay.io/cephcsi/cephcsi:v3.13.0");
    }

    fn operator() -> Value {
        deployment(
            &format!("{DRIVER}-ctrlplugin"),
            json!([{"name": "csi-rbdplugin"}, {"name": "csi-provisioner"},
                {"name": "log-rotator"}]),
        )
    }

    #[test]
    fn a_controller_is_found_by_its_container_argument() {
        let cephfs = deployment(
            "csi-cephfsplugin-provisioner",
            json!([{"name": "csi-cephfsplugin",
                "args": ["--drivername=rook-ceph.cephfs.csi.ceph.com"]}]),
        );
        let renamed = json!([{"name": "driver", "args": [format!("--drivername={DRIVER}")]},
            {"name": "csi-provisioner"}]);
        let all = [cephfs, deployment("odd-name", renamed)];
        assert_eq!(find_controller(&all, DRIVER).map(name), Some("odd-name"));
        assert_eq!(plugin_container(&all[1], DRIVER), "driver");
        assert_eq!(find_controller(&all, "rook-ceph.nfs.csi.ceph.com"), None);
    }

    #[test]
    fn a_node_plugin_is_found_by_argument_owner_or_name() {
        let registrar = || json!({"name": "driver-registrar", "args": ["--v=0"]});
        let plugin = |args: Value| json!([registrar(), {"name": "csi-rbdplugin", "args": args}]);
        let named = || plugin(json!(["--nodeserver=true", format!("--drivername={DRIVER}")]));
        let other = || plugin(json!(["--drivername=rook-ceph.cephfs.csi.ceph.com"]));
        let owned_by = |name: &str| {
            let mut daemon_set = deployment("custom-nodeplugin", plugin(json!([])));
            daemon_set["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "csi.ceph.io/v1", "kind": "Driver", "name": name}]);
            daemon_set
        };
        let operator = format!("{DRIVER}-nodeplugin");
        for (daemon_set, is_found) in [
            (deployment("odd-name", named()), true),
            (deployment("odd-name", other()), false),
            (deployment(&operator, plugin(json!([]))), true),
            (owned_by(DRIVER), true),
            (owned_by("rook-ceph.cephfs.csi.ceph.com"), false),
            (deployment("csi-rbdplugin", plugin(json!([]))), true),
            (deployment("csi-cephfsplugin", plugin(json!([]))), false),
        ] {
            let all = [daemon_set];
            let found = find_node_plugin(&all, DRIVER);
            assert_eq!(found.is_some(), is_found, "{}", all[0]);
            if is_found {
                assert_eq!(plugin_container(&all[0], DRIVER), "csi-rbdplugin");
            }
        }
    }

    /// The container of ceph-csi's `--type` argument, with the name of the driver.
    fn ceph_csi(name: &str, kind: &str) -> Value {
        json!({"name": name, "args": ["--nodeid=$(NODE_ID)", format!("--type={kind}"),
            format!("--drivername={DRIVER}")]})
    }

    #[test]
    fn the_plugin_is_chosen_among_containers_with_the_same_driver_name() {
        let plugin = || ceph_csi("csi-rbdplugin", "rbd");
        let unresolved = json!({"name": "driver", "args": ["--type=rbd",
            "--drivername=$(CSI_DRIVER_NAME)"],
            "env": [{"name": "CSI_DRIVER_NAME", "valueFrom": {}}]});
        let other_driver = json!({"name": "cephfs", "args": ["--type=cephfs",
            "--drivername=rook-ceph.cephfs.csi.ceph.com"]});
        for (containers, expected) in [
            // Rook's template with `CSI_ENABLE_OMAP_GENERATOR`.
            (
                json!([{"name": "csi-provisioner"}, ceph_csi("csi-omap-generator", "controller"),
                    plugin(), ceph_csi("liveness-prometheus", "liveness")]),
                "csi-rbdplugin",
            ),
            (
                json!([ceph_csi("csi-rbdplugin-controller", "controller"), plugin()]),
                "csi-rbdplugin",
            ),
            (
                json!([plugin(), ceph_csi("csi-rbdplugin-controller", "controller")]),
                "csi-rbdplugin",
            ),
            (json!([ceph_csi("metrics", "liveness"), ceph_csi("driver", "nfs")]), "driver"),
            (json!([ceph_csi("rewritten", "cloud"), ceph_csi("driver", "cephfs")]), "driver"),
            (json!([{"name": "exporter"}, unresolved]), "driver"),
            (json!([other_driver, {"name": "csi-rbdplugin"}]), "csi-rbdplugin"),
            (
                json!([{"name": "omap", "command": ["cephcsi", "--type", "controller"],
                    "args": ["-drivername", DRIVER]},
                    {"name": "driver", "args": ["-type", "rbd", "-drivername", DRIVER]}]),
                "driver",
            ),
            (json!([{"name": "csi-provisioner"}, {"name": "driver"}]), "driver"),
            (json!([{"name": "csi-provisioner"}, ceph_csi("omap", "controller")]), ""),
        ] {
            let deployment = deployment("csi-rbdplugin-provisioner", containers);
            assert_eq!(plugin_container(&deployment, DRIVER), expected, "{deployment}");
        }
    }

    #[test]
    fn an_environment_variable_in_the_argument_is_resolved() {
        let chart = deployment(
            "ceph-csi-rbd-provisioner",
            json!([{"name": "csi-rbdplugin", "args": ["--drivername=$(DRIVER_NAME)"],
                "env": [{"name": "DRIVER_NAME", "value": "rbd.csi.ceph.com"}]}]),
        );
        assert!(find_controller(std::slice::from_ref(&chart), "rbd.csi.ceph.com").is_some());
        assert!(find_controller(std::slice::from_ref(&chart), DRIVER).is_none());
    }

    #[test]
    fn a_deployment_of_the_operator_is_recognized_by_name_or_owner() {
        let all = [operator()];
        assert_eq!(
            find_controller(&all, DRIVER).map(name),
            Some("rook-ceph.rbd.csi.ceph.com-ctrlplugin")
        );
        assert!(is_operator_managed(&all[0], DRIVER) && !is_operator_managed(&rook(), DRIVER));
        assert_eq!(plugin_container(&all[0], DRIVER), "csi-rbdplugin");
        let mut other = deployment("some-ctrlplugin", json!([]));
        other["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "csi.ceph.io/v1", "kind": "Driver", "name": DRIVER}]);
        assert!(is_operator_managed(&other, DRIVER));
    }

    #[test]
    fn a_missing_snapshotter_is_detected() {
        assert!(has_snapshotter(&rook()) && !has_snapshotter(&operator()));
        assert!(has_snapshotter(&deployment(
            "x",
            json!([{"name": "snap", "image": "registry.example/sig-storage/csi-snapshotter:v8.2.0"}])
        )));
    }

    #[test]
    fn legacy_names_are_used_without_a_container_argument() {
        let bare = deployment(
            "csi-rbdplugin-provisioner",
            json!([{"name": "csi-provisioner"}, {"name": "csi-rbdplugin"}]),
        );
        assert!(find_controller(std::slice::from_ref(&bare), DRIVER).is_some());
        assert_eq!(plugin_container(&bare, DRIVER), "csi-rbdplugin");
    }
}
