//! `query-drivers`: a CSI driver with its controller Deployment, node plugin, leases, and Ceph
//! cluster.

mod controller;

use crate::discovery;
use crate::object::{instant, is_true, list, name, namespace, number, owned, text, truncated, uid};
use crate::perform::PerformRead;
use crate::pod;
use crate::resource::{CSI_DRIVERS, DAEMON_SETS, DEPLOYMENTS, LEASES, STORAGE_CLASSES};
use crate::send::{ListFilter, Session};
use salve_core::capability::query_drivers::{
    CephHealth, Controller, Driver, FindDriver, NodePlugin, NodePod, Selector,
};
use salve_core::capability::types::{Lease, ObjectRef, ROOK};
use salve_core::outcome::Error;
use serde_json::Value;

/// Finds a driver. Its controller is searched in the namespace by the arguments of its containers.
///
/// # Errors
/// `not-found` if the StorageClass or the driver does not exist.
async fn find(session: &Session, call: &FindDriver) -> Result<Driver, Error> {
    let (all, ns) = (ListFilter::default(), Some(call.namespace.as_str()));
    let (classes, drivers, deployments, daemon_sets, leases, ceph) = futures::join!(
        session.list(&STORAGE_CLASSES, None, all),
        session.list(&CSI_DRIVERS, None, all),
        session.list(&DEPLOYMENTS, ns, all),
        session.list(&DAEMON_SETS, ns, all),
        session.list(&LEASES, ns, all),
        ceph(session, &call.namespace),
    );
    let (classes, drivers, deployments, leases) = (classes?, drivers?, deployments?, leases?);
    let daemon_sets = daemon_sets?;
    let driver = match &call.selector {
        Selector::Name(driver) => driver.clone(),
        Selector::StorageClass(class) => classes
            .iter()
            .find(|storage_class| name(storage_class) == class)
            .and_then(|storage_class| owned(storage_class, "/provisioner"))
            .ok_or_else(|| Error::NotFound(format!("StorageClass {class} does not exist")))?,
    };
    let mut storage_classes: Vec<String> = classes
        .iter()
        .filter(|class| text(class, "/provisioner") == Some(&driver))
        .map(|class| name(class).to_owned())
        .collect();
    storage_classes.sort();
    let deployment = controller::find_controller(&deployments, &driver);
    if storage_classes.is_empty()
        && deployment.is_none()
        && !drivers.iter().any(|csi_driver| name(csi_driver) == driver)
    {
        return Err(Error::NotFound(format!(
            "CSI driver {driver} does not exist: no CSIDriver, no StorageClass, and no controller \
            in namespace {}",
            call.namespace
        )));
    }
    let controller = match deployment {
        Some(deployment) => Some(read_controller(session, deployment, &driver).await?),
        None => None,
    };
    let node_plugin = match controller::find_node_plugin(&daemon_sets, &driver) {
        Some(daemon_set) => Some(read_node_plugin(session, daemon_set, &driver).await?),
        None => None,
    };
    let wanted = lease_names(&driver);
    let leases = wanted
        .iter()
        .filter_map(|wanted| leases.iter().find(|lease| name(lease) == wanted))
        .map(parse_lease)
        .collect();
    Ok(Driver { name: driver, storage_classes, controller, node_plugin, leases, ceph: ceph? })
}

async fn read_controller(
    session: &Session,
    deployment: &Value,
    driver: &str,
) -> Result<Controller, Error> {
    let pods = pod::of_deployment(session, deployment).await?;
    Ok(Controller {
        deployment: ObjectRef::new(namespace(deployment), name(deployment)),
        uid: uid(deployment).to_owned(),
        generation: number(deployment, "/metadata/generation").unwrap_or_default(),
        replicas: replicas(deployment),
        ready: number(deployment, "/status/readyReplicas")
            .and_then(|n| n.try_into().ok())
            .unwrap_or(0),
        paused: is_true(deployment, "/spec/paused"),
        strategy: text(deployment, "/spec/strategy/type").unwrap_or("RollingUpdate").to_owned(),
        operator_managed: controller::is_operator_managed(deployment, driver),
        plugin_container: controller::plugin_container(deployment, driver),
        image: controller::plugin_image(deployment, driver),
        snapshotter: controller::has_snapshotter(deployment),
        pods: pods.iter().map(pod::parse).collect(),
    })
}

async fn read_node_plugin(
    session: &Session,
    daemon_set: &Value,
    driver: &str,
) -> Result<NodePlugin, Error> {
    let pods = pod::of_controller(session, daemon_set).await?;
    let on_node =
        |pod: &Value| Some(NodePod { node: owned(pod, "/spec/nodeName")?, pod: pod::parse(pod) });
    Ok(NodePlugin {
        daemon_set: ObjectRef::new(namespace(daemon_set), name(daemon_set)),
        plugin_container: controller::plugin_container(daemon_set, driver),
        pods: pods.iter().filter_map(on_node).collect(),
    })
}

/// Returns `spec.replicas`, which defaults to 1.
pub(crate) fn replicas(deployment: &Value) -> u32 {
    number(deployment, "/spec/replicas").map_or(1, |n| u32::try_from(n).unwrap_or(u32::MAX))
}

/// Returns the names of the leases of the driver's sidecars.
fn lease_names(driver: &str) -> [String; 4] {
    let base: String =
        driver.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    [
        base.clone(),
        format!("external-snapshotter-leader-{base}"),
        format!("external-resizer-{base}"),
        format!("external-attacher-leader-{base}"),
    ]
}

/// Converts a Lease to the type that guests get.
pub(crate) fn parse_lease(lease: &Value) -> Lease {
    Lease {
        namespace: namespace(lease).to_owned(),
        name: name(lease).to_owned(),
        holder: owned(lease, "/spec/holderIdentity"),
        acquired: instant(lease, "/spec/acquireTime"),
        renewed: instant(lease, "/spec/renewTime"),
        duration_seconds: number(lease, "/spec/leaseDurationSeconds")
            .and_then(|n| n.try_into().ok())
            .unwrap_or(0),
    }
}

/// Reads the health of the namespace's CephCluster, if Rook is installed and there is one.
async fn ceph(session: &Session, namespace: &str) -> Result<Option<CephHealth>, Error> {
    let Some(resource) = discovery::find_resource(session, ROOK, "cephclusters").await? else {
        return Ok(None);
    };
    let clusters = session.list(&resource, Some(namespace), ListFilter::default()).await?;
    Ok(clusters.first().map(parse_ceph))
}

fn parse_ceph(cluster: &Value) -> CephHealth {
    let details = cluster.pointer("/status/ceph/details").and_then(Value::as_object);
    let messages = details.into_iter().flatten().map(|(check, detail)| {
        truncated(&format!("{check}: {}", text(detail, "/message").unwrap_or_default()), 600)
    });
    let failures = list(cluster, "/status/conditions")
        .iter()
        .filter(|c| text(c, "/type") == Some("Failure") && text(c, "/status") == Some("True"));
    CephHealth {
        cluster: ObjectRef::new(namespace(cluster), name(cluster)),
        status: owned(cluster, "/status/ceph/health").unwrap_or_else(|| "unknown".into()),
        messages: messages
            .chain(failures.filter_map(|c| text(c, "/message").map(|m| truncated(m, 600))))
            .collect(),
        checked: instant(cluster, "/status/ceph/lastChecked"),
    }
}

impl PerformRead for FindDriver {
    async fn read(&self, session: &Session) -> Result<Driver, Error> {
        find(session, self).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lease_names_are_derived_from_the_driver_name() {
        assert_eq!(
            lease_names("rook-ceph.rbd.csi.ceph.com"),
            [
                "rook-ceph-rbd-csi-ceph-com",
                "external-snapshotter-leader-rook-ceph-rbd-csi-ceph-com",
                "external-resizer-rook-ceph-rbd-csi-ceph-com",
                "external-attacher-leader-rook-ceph-rbd-csi-ceph-com"
            ]
        );
    }

    #[test]
    fn lease_times_are_parsed_as_milliseconds() {
        let lease = parse_lease(&json!({"metadata": {"name": "l", "namespace": "rook-ceph"},
            "spec": {"holderIdentity": "pod", "leaseDurationSeconds": 137,
                "acquireTime": "2026-07-01T10:00:31.000000Z",
                "renewTime": "2026-08-20T09:59:51.223344Z"}}));
        assert_eq!(
            (lease.holder.as_deref(), lease.renewed, lease.duration_seconds),
            (Some("pod"), Some(1_787_219_991_223), 137)
        );
        assert_eq!(parse_lease(&json!({"spec": {"holderIdentity": ""}})).holder, None);
    }

    #[test]
    fn ceph_health_messages_start_with_the_check_name() {
        let health =
            parse_ceph(&json!({"metadata": {"name": "rook-ceph", "namespace": "rook-ceph"},
            "status": {"ceph": {"health": "HEALTH_WARN", "lastChecked": "2026-08-20T09:59:20Z",
                "details": {"SLOW_OPS": {"severity": "HEALTH_WARN", "message": "3 slow ops"}}}}}));
        assert_eq!(
            (health.status.as_str(), health.messages),
            ("HEALTH_WARN", vec!["SLOW_OPS: 3 slow ops".to_owned()])
        );
        assert_eq!(parse_ceph(&json!({})).status, "unknown");
    }
}
