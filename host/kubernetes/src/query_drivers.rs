//! `query-drivers`: a CSI driver, its controller Deployment, pods and leases, and what stands behind it.

mod controller;

use crate::discovery::{self, ROOK};
use crate::object::{capped, instant, list, name, namespace, number, owned, text};
use crate::pod;
use crate::resource::{CSI_DRIVERS, DEPLOYMENTS, LEASES, STORAGE_CLASSES};
use crate::send::{Narrow, Session};
use salve_core::effect::query_drivers::{CephHealth, Controller, Driver, FindDriver, Selector};
use salve_core::effect::shared::{Lease, ObjectRef};
use salve_core::outcome::Error;
use serde_json::Value;

/// The driver, looked for in the namespace by what its controller's containers are told.
///
/// # Errors
/// `not-found` where there is no such class or driver.
pub(crate) async fn find(session: &Session, ask: &FindDriver) -> Result<Driver, Error> {
    let (all, ns) = (Narrow::default(), Some(ask.namespace.as_str()));
    let (classes, drivers, deployments, leases, ceph) = futures::join!(
        session.list(&STORAGE_CLASSES, None, all),
        session.list(&CSI_DRIVERS, None, all),
        session.list(&DEPLOYMENTS, ns, all),
        session.list(&LEASES, ns, all),
        ceph(session, &ask.namespace),
    );
    let (classes, drivers, deployments, leases) = (classes?, drivers?, deployments?, leases?);
    let driver = match &ask.selector {
        Selector::Name(driver) => driver.clone(),
        Selector::StorageClass(class) => classes
            .iter()
            .find(|one| name(one) == class)
            .and_then(|one| owned(one, "/provisioner"))
            .ok_or_else(|| Error::NotFound(format!("there is no StorageClass {class}")))?,
    };
    let mut storage_classes: Vec<String> = classes
        .iter()
        .filter(|class| text(class, "/provisioner") == Some(&driver))
        .map(|class| name(class).to_owned())
        .collect();
    storage_classes.sort();
    let deployment = controller::pick(&deployments, &driver);
    if storage_classes.is_empty()
        && deployment.is_none()
        && !drivers.iter().any(|one| name(one) == driver)
    {
        return Err(Error::NotFound(format!(
            "there is no CSI driver {driver}: no CSIDriver, no StorageClass and no controller in namespace {}",
            ask.namespace
        )));
    }
    let controller = match deployment {
        Some(deployment) => Some(read(session, deployment, &driver).await?),
        None => None,
    };
    let wanted = lease_names(&driver);
    let leases = wanted
        .iter()
        .filter_map(|wanted| leases.iter().find(|lease| name(lease) == wanted))
        .map(read_lease)
        .collect();
    Ok(Driver { name: driver, storage_classes, controller, leases, ceph: ceph? })
}

async fn read(session: &Session, deployment: &Value, driver: &str) -> Result<Controller, Error> {
    let pods = pod::of_deployment(session, deployment).await?;
    Ok(Controller {
        deployment: ObjectRef::new(namespace(deployment), name(deployment)),
        uid: crate::object::uid(deployment).to_owned(),
        generation: number(deployment, "/metadata/generation").unwrap_or_default(),
        replicas: replicas(deployment),
        ready: number(deployment, "/status/readyReplicas")
            .and_then(|n| n.try_into().ok())
            .unwrap_or(0),
        paused: crate::object::is_true(deployment, "/spec/paused"),
        strategy: text(deployment, "/spec/strategy/type").unwrap_or("RollingUpdate").to_owned(),
        operator_managed: controller::is_operator_managed(deployment, driver),
        plugin_container: controller::plugin_container(deployment, driver),
        snapshotter: controller::has_snapshotter(deployment),
        pods: pods.iter().map(pod::read).collect(),
    })
}

/// `spec.replicas`; one where it is left out.
pub(crate) fn replicas(deployment: &Value) -> u32 {
    number(deployment, "/spec/replicas").map_or(1, |n| u32::try_from(n).unwrap_or(u32::MAX))
}

/// The leases of the sidecars, as they are named after the driver.
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

/// A Lease as the contract tells it.
pub(crate) fn read_lease(lease: &Value) -> Lease {
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

/// What Rook says of Ceph, where it runs a cluster in that namespace.
async fn ceph(session: &Session, namespace: &str) -> Result<Option<CephHealth>, Error> {
    let Some(resource) = discovery::look_up(session, ROOK, "cephclusters").await? else {
        return Ok(None);
    };
    let clusters = session.list(&resource, Some(namespace), Narrow::default()).await?;
    Ok(clusters.first().map(read_ceph))
}

fn read_ceph(cluster: &Value) -> CephHealth {
    let details = cluster.pointer("/status/ceph/details").and_then(Value::as_object);
    let messages = details.into_iter().flatten().map(|(check, detail)| {
        capped(&format!("{check}: {}", text(detail, "/message").unwrap_or_default()), 600)
    });
    let failures = list(cluster, "/status/conditions")
        .iter()
        .filter(|c| text(c, "/type") == Some("Failure") && text(c, "/status") == Some("True"));
    CephHealth {
        cluster: ObjectRef::new(namespace(cluster), name(cluster)),
        status: owned(cluster, "/status/ceph/health").unwrap_or_else(|| "unknown".into()),
        messages: messages
            .chain(failures.filter_map(|c| text(c, "/message").map(|m| capped(m, 600))))
            .collect(),
        checked: instant(cluster, "/status/ceph/lastChecked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn leases_are_named_after_the_driver() {
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
    fn a_lease_is_read_in_milliseconds() {
        let lease = read_lease(&json!({"metadata": {"name": "l", "namespace": "rook-ceph"},
            "spec": {"holderIdentity": "pod", "leaseDurationSeconds": 137, "acquireTime": "2026-07-01T10:00:31.000000Z", "renewTime": "2026-08-20T09:59:51.223344Z"}}));
        assert_eq!(
            (lease.holder.as_deref(), lease.renewed, lease.duration_seconds),
            (Some("pod"), Some(1_787_219_991_223), 137)
        );
        assert_eq!(read_lease(&json!({"spec": {"holderIdentity": ""}})).holder, None);
    }

    #[test]
    fn cephs_warnings_are_told_by_check() {
        let health = read_ceph(
            &json!({"metadata": {"name": "rook-ceph", "namespace": "rook-ceph"},
            "status": {"ceph": {"health": "HEALTH_WARN", "lastChecked": "2026-08-20T09:59:20Z", "details": {"SLOW_OPS": {"severity": "HEALTH_WARN", "message": "3 slow ops"}}}}}),
        );
        assert_eq!(
            (health.status.as_str(), health.messages),
            ("HEALTH_WARN", vec!["SLOW_OPS: 3 slow ops".to_owned()])
        );
        assert_eq!(read_ceph(&json!({})).status, "unknown");
    }
}
