//! The objects of a driver, as each installer names them.

use crate::axes::{Composition, Driver, Installer};
use salve_simulator::Installation;

/// Returns how the driver of a cluster is installed.
pub fn installation(composition: &Composition, has_snapshotter: bool) -> Installation {
    let short = match composition.driver {
        Driver::Rbd => "rbd",
        Driver::CephFs => "cephfs",
        Driver::Nfs => "nfs",
    };
    let is_rook = match composition.installer {
        Installer::Rook | Installer::RookWithOmapGenerator | Installer::RookWithOperator => true,
        Installer::Operator | Installer::Chart => false,
    };
    let prefix = if is_rook { "rook-ceph." } else { "" };
    let driver = format!("{prefix}{short}.csi.ceph.com");
    let plugin = format!("csi-{short}plugin");
    let container = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    let liveness = || container("liveness-prometheus", "liveness");
    let (deployment, node_plugin, similar_containers) = match composition.installer {
        Installer::Rook => (format!("{plugin}-provisioner"), plugin.clone(), vec![]),
        Installer::RookWithOmapGenerator => (
            format!("{plugin}-provisioner"),
            plugin.clone(),
            vec![container("csi-omap-generator", "controller"), liveness()],
        ),
        Installer::RookWithOperator | Installer::Operator => (
            format!("{driver}-ctrlplugin"),
            format!("{driver}-nodeplugin"),
            vec![container("log-rotator", "")],
        ),
        Installer::Chart => (
            format!("ceph-csi-{short}-provisioner"),
            format!("ceph-csi-{short}-nodeplugin"),
            vec![container(&format!("{plugin}-controller"), "controller"), liveness()],
        ),
    };
    let by_operator =
        matches!(composition.installer, Installer::RookWithOperator | Installer::Operator);
    let is_chart = composition.installer == Installer::Chart;
    Installation {
        driver,
        version: composition.version,
        deployment,
        plugin,
        similar_containers,
        replicas: if is_chart { 3 } else { 2 },
        strategy: if is_chart { "RollingUpdate" } else { "Recreate" }.to_owned(),
        by_operator,
        has_snapshotter,
        node_plugin,
    }
}
