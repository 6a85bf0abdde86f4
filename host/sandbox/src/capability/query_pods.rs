//! `query-pods`: pods, and why some have not started.

use super::list_into_wit;
use crate::bindings::salve::cluster::{query_pods as wit, types};
use crate::state::State;
use salve_core::capability::query_pods as core;

impl wit::Host for State {
    async fn list_pods(
        &mut self,
        namespaces: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<types::Pod>, types::Error>> {
        Ok(list_into_wit(self.call(core::ListPods { namespaces }).await?))
    }

    async fn list_pending_pods(
        &mut self,
        namespaces: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<wit::PendingPod>, types::Error>> {
        Ok(list_into_wit(self.call(core::ListPendingPods { namespaces }).await?))
    }
}

impl From<core::PendingPod> for wit::PendingPod {
    fn from(pod: core::PendingPod) -> Self {
        Self {
            object: pod.object.into(),
            uid: pod.uid,
            created: pod.created,
            owner: pod.owner,
            node: pod.node,
            reason: pod.reason.into(),
            message: pod.message,
            pvcs: pod.pvcs,
        }
    }
}

impl From<core::PendingReason> for wit::PendingReason {
    fn from(reason: core::PendingReason) -> Self {
        match reason {
            core::PendingReason::Unscheduled => Self::Unscheduled,
            core::PendingReason::MountFailed => Self::MountFailed,
            core::PendingReason::ContainerWaiting => Self::ContainerWaiting,
            core::PendingReason::Unknown => Self::Unknown,
        }
    }
}
