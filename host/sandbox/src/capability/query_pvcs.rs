//! `query-pvcs`: PVCs and VolumeSnapshots, and why a PVC is Pending.

use super::list_into_wit;
use crate::bindings::salve::cluster::{query_pvcs as wit, types};
use crate::state::State;
use salve_core::capability::query_pvcs as core;

impl wit::Host for State {
    async fn list_pvcs(
        &mut self,
        namespaces: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<wit::Pvc>, types::Error>> {
        Ok(list_into_wit(self.call(core::ListPvcs { namespaces }).await?))
    }

    async fn list_snapshots(
        &mut self,
        namespaces: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<wit::Snapshot>, types::Error>> {
        Ok(list_into_wit(self.call(core::ListSnapshots { namespaces }).await?))
    }

    async fn list_other_volumes(
        &mut self,
        namespaces: Vec<String>,
        driver: String,
    ) -> wasmtime::Result<Result<Vec<wit::Volume>, types::Error>> {
        Ok(list_into_wit(self.call(core::ListOtherVolumes { namespaces, driver }).await?))
    }
}

impl From<core::Pvc> for wit::Pvc {
    fn from(pvc: core::Pvc) -> Self {
        Self {
            object: pvc.object.into(),
            uid: pvc.uid,
            created: pvc.created,
            phase: pvc.phase.into(),
            terminating_since: pvc.terminating_since,
            waiting: pvc.waiting.map(Into::into),
            evidence: pvc.evidence,
            storage_class: pvc.storage_class,
            driver: pvc.driver,
            volume: pvc.volume,
            reclaim_policy: pvc.reclaim_policy.map(Into::into),
            data_source: pvc.data_source,
            populates: pvc.populates,
            owner: pvc.owner,
            finalizers: pvc.finalizers,
        }
    }
}

impl From<core::Phase> for wit::Phase {
    fn from(phase: core::Phase) -> Self {
        match phase {
            core::Phase::Pending => Self::Pending,
            core::Phase::Bound => Self::Bound,
            core::Phase::Lost => Self::Lost,
        }
    }
}

impl From<core::Waiting> for wit::Waiting {
    fn from(waiting: core::Waiting) -> Self {
        match waiting {
            core::Waiting::ForFirstConsumer => Self::ForFirstConsumer,
            core::Waiting::ForScheduling => Self::ForScheduling,
            core::Waiting::Copying => Self::Copying,
            core::Waiting::CsiLocked => Self::CsiLocked,
            core::Waiting::CsiSlow => Self::CsiSlow,
            core::Waiting::ForDestination => Self::ForDestination,
            core::Waiting::Populating => Self::Populating,
            core::Waiting::ForSnapshot => Self::ForSnapshot,
            core::Waiting::NoProvisioner => Self::NoProvisioner,
            core::Waiting::Misconfigured => Self::Misconfigured,
            core::Waiting::Terminating => Self::Terminating,
            core::Waiting::Unknown => Self::Unknown,
        }
    }
}

impl From<core::ReclaimPolicy> for wit::ReclaimPolicy {
    fn from(reclaim_policy: core::ReclaimPolicy) -> Self {
        match reclaim_policy {
            core::ReclaimPolicy::Delete => Self::Delete,
            core::ReclaimPolicy::Retain => Self::Retain,
            core::ReclaimPolicy::Recycle => Self::Recycle,
        }
    }
}

impl From<core::Snapshot> for wit::Snapshot {
    fn from(snapshot: core::Snapshot) -> Self {
        Self {
            object: snapshot.object.into(),
            uid: snapshot.uid,
            created: snapshot.created,
            terminating_since: snapshot.terminating_since,
            ready: snapshot.ready,
            pvc: snapshot.pvc,
            content: snapshot.content,
            owner: snapshot.owner,
            owner_uid: snapshot.owner_uid,
            problem: snapshot.problem,
            finalizers: snapshot.finalizers,
        }
    }
}

impl From<core::PvcState> for wit::PvcState {
    fn from(state: core::PvcState) -> Self {
        match state {
            core::PvcState::Bound => Self::Bound,
            core::PvcState::Terminating => Self::Terminating,
            core::PvcState::Missing => Self::Missing,
            core::PvcState::Unreadable => Self::Unreadable,
        }
    }
}

impl From<core::Volume> for wit::Volume {
    fn from(volume: core::Volume) -> Self {
        Self {
            name: volume.name,
            terminating_since: volume.terminating_since,
            reclaim_policy: volume.reclaim_policy.map(Into::into),
            handle: volume.handle,
            pvc: volume.pvc.into(),
            pvc_uid: volume.pvc_uid,
            pvc_state: volume.pvc_state.into(),
            pvc_owner: volume.pvc_owner,
        }
    }
}
