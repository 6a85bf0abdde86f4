//! `query-drivers`: a CSI driver, its controller, and its storage backend.

use super::{convert_all, into_wit};
use crate::bindings::salve::cluster::{query_drivers as wit, types};
use crate::state::State;
use salve_core::capability::query_drivers as core;

impl wit::Host for State {
    async fn find(
        &mut self,
        selector: wit::Selector,
        namespace: String,
    ) -> wasmtime::Result<Result<wit::Driver, types::Error>> {
        Ok(into_wit(self.call(core::FindDriver { selector: selector.into(), namespace }).await?))
    }
}

impl From<wit::Selector> for core::Selector {
    fn from(selector: wit::Selector) -> Self {
        match selector {
            wit::Selector::Name(name) => Self::Name(name),
            wit::Selector::StorageClass(name) => Self::StorageClass(name),
        }
    }
}

impl From<core::Driver> for wit::Driver {
    fn from(driver: core::Driver) -> Self {
        Self {
            name: driver.name,
            storage_classes: driver.storage_classes,
            controller: driver.controller.map(Into::into),
            node_plugin: driver.node_plugin.map(Into::into),
            leases: convert_all(driver.leases),
            ceph: driver.ceph.map(Into::into),
        }
    }
}

impl From<core::Controller> for wit::Controller {
    fn from(controller: core::Controller) -> Self {
        Self {
            deployment: controller.deployment.into(),
            uid: controller.uid,
            generation: controller.generation,
            replicas: controller.replicas,
            ready: controller.ready,
            paused: controller.paused,
            strategy: controller.strategy,
            operator_managed: controller.operator_managed,
            plugin_container: controller.plugin_container,
            image: controller.image,
            snapshotter: controller.snapshotter,
            pods: convert_all(controller.pods),
        }
    }
}

impl From<core::NodePlugin> for wit::NodePlugin {
    fn from(plugin: core::NodePlugin) -> Self {
        Self {
            daemon_set: plugin.daemon_set.into(),
            plugin_container: plugin.plugin_container,
            pods: convert_all(plugin.pods),
        }
    }
}

impl From<core::NodePod> for wit::NodePod {
    fn from(pod: core::NodePod) -> Self {
        Self { node: pod.node, pod: pod.pod.into() }
    }
}

impl From<core::CephHealth> for wit::CephHealth {
    fn from(health: core::CephHealth) -> Self {
        Self {
            cluster: health.cluster.into(),
            status: health.status,
            messages: health.messages,
            checked: health.checked,
        }
    }
}
